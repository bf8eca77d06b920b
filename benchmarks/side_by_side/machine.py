"""The machine: a description, and its measured rates of matmuls and of memory."""

from collections.abc import Callable
import importlib.metadata
import os
import pathlib
import platform
import time
from typing import Any

from side_by_side import turns

PACKAGES = (
  *('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint'),
  *('torch', 'transformers', 'tokenizers', 'numpy'),
)
# Products [M, K] x [K, N]: a square one, and those of a block and of the head over 1,024 tokens of
# Pythia-70m.
PRODUCTS = {
  'cpu': ((2048, 2048, 2048), (1024, 512, 2048), (1024, 2048, 512), (1024, 512, 50304)),
  'gpu': ((8192, 8192, 8192), (16384, 1024, 4096), (16384, 2048, 8192)),
  'tiny': ((64, 64, 64),),
}
NUMBERS = {'cpu': 2**26, 'gpu': 2**29, 'tiny': 2**12}  # in each array that memory is measured with
SECONDS = {'cpu': 1.5, 'gpu': 1.5, 'tiny': 0.01}  # for which each rate is measured
PEAKS = {  # dense bfloat16 FLOP/s, by JAX's name of the device; from the vendors' data sheets
  'NVIDIA H100 80GB HBM3': 989e12,
  'NVIDIA H100 PCIe': 756e12,
  'NVIDIA H200': 989e12,
  'NVIDIA A100-SXM4-40GB': 312e12,
  'NVIDIA A100-SXM4-80GB': 312e12,
  'NVIDIA A100 80GB PCIe': 312e12,
  'NVIDIA L4': 121e12,
  'NVIDIA L40S': 362e12,
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,
  'TPU v5': 459e12,
  'TPU v6 lite': 918e12,
}


def rate(amount: float, work: Callable[[], Any], seconds: float) -> float:
  """`amount` per second in the fastest of as many runs as fit into `seconds`."""
  work()
  times, end = [], time.perf_counter() + seconds
  while not times or time.perf_counter() < end:
    start = time.perf_counter()
    work()
    times.append(time.perf_counter() - start)
  return amount / min(times)


def flops(shape: tuple[int, int, int]) -> int:
  """FLOPs of a matmul."""
  rows, inner, columns = shape
  return 2 * rows * inner * columns


def of_jax(sizes: str) -> dict[str, Any]:
  """Device, and the rates of memory and of matmuls in the type that irl_jax computes in there."""
  import jax
  import jax.numpy as jnp

  from irl_jax import pipeline

  backend, dtype = jax.default_backend(), pipeline.compute_dtype('auto')
  kind = sizes if sizes != 'auto' else 'cpu' if backend == 'cpu' else 'gpu'
  multiply, products = jax.jit(lambda x, y: x @ y), {}
  for rows, inner, columns in PRODUCTS[kind]:
    x, y = jnp.ones((rows, inner), dtype), jnp.ones((inner, columns), dtype)
    work = lambda x=x, y=y: multiply(x, y).block_until_ready()
    name = f'{rows} x {inner} x {columns}'
    products[name] = rate(flops((rows, inner, columns)), work, SECONDS[kind])
  x, y = jnp.ones(NUMBERS[kind]), jnp.ones(NUMBERS[kind])
  triad, total = jax.jit(lambda x, y: x + 3 * y), jax.jit(jnp.sum)
  device = jax.devices()[0].device_kind
  return {
    'sizes': kind,
    'backend': backend,
    'device': device,
    'devices': jax.local_device_count(),
    'dtype': dtype.name,
    'products': products,
    'peak': PEAKS.get(device),
    'memory': {
      'triad': rate(3 * x.nbytes, lambda: triad(x, y).block_until_ready(), SECONDS[kind]),
      'sum': rate(x.nbytes, lambda: total(x).block_until_ready(), SECONDS[kind]),
    },
  }


def of_torch(kind: str) -> dict[str, Any]:
  """The rates of torch on the CPU, in float32 and in bfloat16."""
  import torch

  torch.set_num_threads(turns.cores())
  products = {}
  with torch.inference_mode():
    for rows, inner, columns in PRODUCTS[kind]:
      for dtype in (torch.float32, torch.bfloat16):
        x, y = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype)
        out = torch.empty(rows, columns, dtype=dtype)
        work = lambda x=x, y=y, out=out: torch.mm(x, y, out=out)
        name = f'{rows} x {inner} x {columns} {str(dtype)[6:]}'
        products[name] = rate(flops((rows, inner, columns)), work, SECONDS[kind])
    x, y, out = torch.ones(NUMBERS[kind]), torch.ones(NUMBERS[kind]), torch.empty(NUMBERS[kind])
    triad = rate(3 * x.nbytes, lambda: torch.add(x, y, alpha=3, out=out), SECONDS[kind])
    return {
      'products': products,
      'memory': {'triad': triad, 'sum': rate(x.nbytes, x.sum, SECONDS[kind])},
    }


def measure(sizes: str) -> dict[str, Any]:
  """Returns {"matmul": FLOP/s, "memory": bytes/s}, the rates behind them, and a description.

  On a CPU the better of XLA and torch is the machine's rate; bfloat16 is kept apart.

  Args:
    sizes: the sizes to measure; 'auto': by the kind of device.
  """
  load = os.getloadavg()[0]
  found = {'jax': turns.alone('machine.of_jax', sizes)}
  if found['jax']['backend'] == 'cpu' and installed('torch'):
    found['torch'] = turns.alone('machine.of_torch', found['jax']['sizes'])
  products = [
    rate
    for source in found.values()
    for name, rate in source['products'].items()
    if not name.endswith('bfloat16')
  ]
  memory = [rate for source in found.values() for rate in source['memory'].values()]
  peers = 'torch' in found or (installed('torch') and turns.alone('machine.torch_device') == 'cuda')
  return found | {
    'peers': peers,
    'matmul': max(products),
    'memory': max(memory),
    'load': load,
    'processor': processor(),
    'cores': turns.cores(),
    'gigabytes': os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9,
    'python': platform.python_version(),
    'system': f'{platform.system()} {platform.machine()}',
    'versions': {name: importlib.metadata.version(name) for name in PACKAGES if installed(name)},
  }


def torch_device() -> str:
  """'cuda' if torch has one, else 'cpu'."""
  import torch

  return 'cuda' if torch.cuda.is_available() else 'cpu'


def installed(package: str) -> bool:
  """Returns True if a package is installed."""
  try:
    importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True


def processor() -> str:
  """The system's name of the processor."""
  path = pathlib.Path('/proc/cpuinfo')
  lines = path.read_text().splitlines() if path.is_file() else []
  names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.processor() or 'unknown'
