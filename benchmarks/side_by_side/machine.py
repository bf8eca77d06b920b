"""What the machine can do at best: the rate of matrix products and of memory, measured; and what it is."""

from collections.abc import Callable
import importlib.metadata
import os
import pathlib
import platform
import time
from typing import Any

from side_by_side import turns

PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'torch',
  'transformers',
  'tokenizers',
  'numpy',
)
# Products [M, K] x [K, N]: a square one, and those of a block and of the head over 1,024 tokens of Pythia-70m.
PRODUCTS = {
  'cpu': ((2048, 2048, 2048), (1024, 512, 2048), (1024, 2048, 512), (1024, 512, 50304)),
  'gpu': ((8192, 8192, 8192), (16384, 1024, 4096), (16384, 2048, 8192)),
  'tiny': ((64, 64, 64),),
}
NUMBERS = {'cpu': 2**26, 'gpu': 2**29, 'tiny': 2**12}  # in each array that memory is measured with
PEAKS = {  # dense bfloat16 FLOP/s, by what JAX calls the device; from the vendors' data sheets
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
SECONDS = {'cpu': 1.5, 'gpu': 1.5, 'tiny': 0.01}  # that each rate is measured for


def best_seconds(work: Callable[[], Any], seconds: float) -> float:
  """The fastest of as many runs as fit."""
  work()
  found, end = [], time.perf_counter() + seconds
  while not found or time.perf_counter() < end:
    start = time.perf_counter()
    work()
    found.append(time.perf_counter() - start)
  return min(found)


def of_jax(sizes: str) -> dict[str, Any]:
  """Backend, device, rates of matrix products in the type that computation has there, and of memory."""
  import jax
  import jax.numpy as jnp

  from irl_jax import pipeline

  backend, dtype = jax.default_backend(), pipeline.compute_dtype('auto')
  kind = sizes_for(backend, sizes)
  seconds, product = SECONDS[kind], jax.jit(lambda x, y: x @ y)
  rates = {}
  for rows, inner, columns in PRODUCTS[kind]:
    x, y = jnp.ones((rows, inner), dtype), jnp.ones((inner, columns), dtype)
    rates[f'{rows} x {inner} x {columns}'] = (
      2
      * rows
      * inner
      * columns
      / best_seconds(lambda x=x, y=y: product(x, y).block_until_ready(), seconds)
    )
  x, y = jnp.ones(NUMBERS[kind]), jnp.ones(NUMBERS[kind])
  triad, total = jax.jit(lambda x, y: x + 3 * y), jax.jit(jnp.sum)
  return {
    'sizes': kind,
    'backend': backend,
    'device': jax.devices()[0].device_kind,
    'devices': jax.local_device_count(),
    'dtype': dtype.name,
    'products': rates,
    'peak': PEAKS.get(jax.devices()[0].device_kind),
    'memory': {
      'triad': 3 * x.nbytes / best_seconds(lambda: triad(x, y).block_until_ready(), seconds),
      'sum': x.nbytes / best_seconds(lambda: total(x).block_until_ready(), seconds),
    },
  }


def of_torch(kind: str) -> dict[str, Any]:
  """The same of torch on the CPU, in float32, and its bfloat16 rate."""
  import torch

  torch.set_num_threads(turns.cores())
  rates, seconds = {}, SECONDS[kind]
  with torch.inference_mode():
    for rows, inner, columns in PRODUCTS[kind]:
      for dtype in (torch.float32, torch.bfloat16):
        x, y = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype)
        out = torch.empty(rows, columns, dtype=dtype)
        rates[f'{rows} x {inner} x {columns} {str(dtype)[6:]}'] = (
          2
          * rows
          * inner
          * columns
          / best_seconds(lambda x=x, y=y, out=out: torch.mm(x, y, out=out), seconds)
        )
    x, y = torch.ones(NUMBERS[kind]), torch.ones(NUMBERS[kind])
    out = torch.empty(NUMBERS[kind])
    return {
      'products': rates,
      'memory': {
        'triad': 3 * x.nbytes / best_seconds(lambda: torch.add(x, y, alpha=3, out=out), seconds),
        'sum': x.nbytes / best_seconds(x.sum, seconds),
      },
    }


def measure(sizes: str) -> dict[str, Any]:
  """{"matmul": FLOP/s, "memory": bytes/s, the rates behind them, and what machine and packages these are}.

  On a CPU the best of XLA and torch is the machine's rate; bfloat16 is kept apart. torch may be missing.

  Args:
    sizes: of what is measured; 'auto': by the kind of device.
  """
  load = os.getloadavg()[0]
  found = {'jax': turns.alone('machine.of_jax', sizes=sizes)}
  if found['jax']['backend'] == 'cpu' and installed('torch'):
    found['torch'] = turns.alone('machine.of_torch', kind=found['jax']['sizes'])
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


def sizes_for(backend: str, sizes: str) -> str:
  """'cpu', 'gpu', or what is asked for."""
  return sizes if sizes != 'auto' else 'cpu' if backend == 'cpu' else 'gpu'


def torch_device() -> str:
  """'cuda' where torch has one, else 'cpu'."""
  import torch

  return 'cuda' if torch.cuda.is_available() else 'cpu'


def installed(package: str) -> bool:
  """Whether it is."""
  try:
    importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True


def processor() -> str:
  """What the system calls the processor."""
  path = pathlib.Path('/proc/cpuinfo')
  lines = path.read_text().splitlines() if path.is_file() else []
  names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.processor() or 'unknown'
