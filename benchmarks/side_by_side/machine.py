"""The machine: a description, and its measured rates of matmuls and of memory."""

from collections.abc import Callable
from importlib import metadata
from importlib import util
import os
import platform
import time
from typing import Any

from irl_jax.command_line import env
from irl_jax.runtime import workdir
from side_by_side import turns

# Matmuls [M, K] x [K, N]: a square one, and those of Pythia's blocks and head.
PRODUCTS = {
  'cpu': ((2048, 2048, 2048), (1024, 512, 2048), (1024, 2048, 512), (1024, 512, 50304)),
  'gpu': ((8192, 8192, 8192), (16384, 1024, 4096), (16384, 2048, 8192)),
  'tiny': ((64, 64, 64),),
}
NUMBERS = {'cpu': 2**26, 'gpu': 2**29, 'tiny': 2**12}  # per array of the memory measurement
SECONDS = {'cpu': 1.5, 'gpu': 1.5, 'tiny': 0.01}  # spent on each rate
PEAKS = {  # dense bfloat16 FLOP/s, by JAX's name of the device; from the vendors' data sheets
  'NVIDIA H100 80GB HBM3': 989e12,
  'NVIDIA H200': 989e12,
  'NVIDIA A100-SXM4-80GB': 312e12,
  'TPU v5 lite': 197e12,
  'TPU v6 lite': 918e12,
}


def rate(amount: float, work: Callable[[], Any], seconds: float) -> float:
  """Returns `amount` per second, in the fastest of as many runs as fit into `seconds`."""
  work()
  times, end = [], time.perf_counter() + seconds
  while not times or time.perf_counter() < end:
    start = time.perf_counter()
    work()
    times.append(time.perf_counter() - start)
  return amount / min(times)


def rates(
  sizes: str, ones: Callable, product: Callable, triad: Callable, total: Callable, dtypes: list
) -> dict[str, dict[str, float]]:
  """Returns {"products": FLOP/s of each matmul in each type, "memory": bytes/s}.

  Args:
    sizes: the kind of sizes.
    ones: (shape, dtype) -> an array.
    product: (x, y) -> a function that multiplies them and waits for the result.
    triad: the same for x + 3 y.
    total: (x) -> a function that sums its numbers.
    dtypes: the types of the matmuls; memory is measured in the first.
  """
  seconds, products = SECONDS[sizes], {}
  for dtype in dtypes:
    for m, k, n in PRODUCTS[sizes]:
      work = product(ones((m, k), dtype), ones((k, n), dtype))
      name = ' '.join([f'{m} x {k} x {n}', *([str(dtype)] if len(dtypes) > 1 else [])])
      products[name.replace('torch.', '')] = rate(2 * m * k * n, work, seconds)
  x, y = (ones((NUMBERS[sizes],), dtypes[0]) for _ in range(2))
  memory = {'triad': rate(3 * x.nbytes, triad(x, y), seconds)}
  return {'products': products, 'memory': memory | {'sum': rate(x.nbytes, total(x), seconds)}}


def of_jax(sizes: str) -> dict[str, Any]:
  """Returns the device, and its rates in the type that irl_jax computes in."""
  import jax
  import jax.numpy as jnp

  from irl_jax import pipeline

  def compiled(function: Callable) -> Callable:
    run = jax.jit(function)
    return lambda *arrays: lambda: run(*arrays).block_until_ready()

  backend, dtype = jax.default_backend(), pipeline.compute_dtype('auto')
  sizes = sizes if sizes != 'auto' else 'cpu' if backend == 'cpu' else 'gpu'
  triad, device = compiled(lambda x, y: x + 3 * y), jax.devices()[0].device_kind
  return {
    'sizes': sizes,
    'backend': backend,
    'device': device,
    'devices': jax.local_device_count(),
    'dtype': dtype.name,
    'peak': PEAKS.get(device),
  } | rates(sizes, jnp.ones, compiled(jnp.matmul), triad, compiled(jnp.sum), [dtype])


def of_torch(sizes: str) -> dict[str, Any]:
  """Returns torch's rates on the CPU, in float32 and in bfloat16."""
  import torch

  def product(x: torch.Tensor, y: torch.Tensor) -> Callable:
    out = x @ y
    return lambda: torch.mm(x, y, out=out)

  def triad(x: torch.Tensor, y: torch.Tensor) -> Callable:
    out = x + y
    return lambda: torch.add(x, y, alpha=3, out=out)

  torch.set_num_threads(cores())
  ones = lambda shape, dtype: torch.ones(shape, dtype=dtype)
  dtypes = [torch.float32, torch.bfloat16]
  with torch.inference_mode():
    return rates(sizes, ones, product, triad, lambda x: x.sum, dtypes)


def measure(sizes: str) -> dict[str, Any]:
  """Returns {"matmul": FLOP/s, "memory": bytes/s}, the rates behind them, and a description.

  On a CPU, the better of XLA and torch is the machine's rate; bfloat16 does not count.

  Args:
    sizes: the kind of sizes; 'auto': by the kind of device.
  """
  load, found = os.getloadavg()[0], {'jax': turns.alone('machine.of_jax', sizes)}
  on_cpu, peers = found['jax']['backend'] == 'cpu', util.find_spec('torch') is not None
  if on_cpu and peers:
    found['torch'] = turns.alone('machine.of_torch', found['jax']['sizes'])
  products = [
    rate
    for source in found.values()
    for name, rate in source['products'].items()
    if not name.endswith('bfloat16')
  ]
  return found | {
    'peers': peers and (on_cpu or turns.alone('machine.torch_has_gpu')),
    'matmul': max(products),
    'memory': max(rate for source in found.values() for rate in source['memory'].values()),
    'load': load,
    'processor': env.cpu_model(),
    'cores': cores(),
    'gigabytes': os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9,
    'system': f'{platform.system()} {platform.machine()}',
    'versions': workdir.versions() | ({'torch': metadata.version('torch')} if peers else {}),
  }


def torch_has_gpu() -> bool:
  """Returns True if torch can use a GPU."""
  import torch

  return torch.cuda.is_available()


def cores() -> int:
  """Returns the number of cores that this process may use."""
  return len(os.sched_getaffinity(0))
