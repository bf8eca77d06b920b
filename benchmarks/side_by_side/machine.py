"""The machine: a description, and its measured rates of matmuls and of memory."""

from collections.abc import Callable
from importlib import metadata
from importlib import util
import math
import os
import timeit
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
SECONDS = 4  # of each measurement
PEAKS = {  # dense bfloat16 FLOP/s, by JAX's name of the device; from the vendors' data sheets
  'NVIDIA H100 80GB HBM3': 989e12,
  'NVIDIA H100 NVL': 835e12,
  'NVIDIA H100 PCIe': 756e12,
  'NVIDIA H200': 989e12,
  'NVIDIA A100-SXM4-40GB': 312e12,
  'NVIDIA A100-SXM4-80GB': 312e12,
  'NVIDIA A100 80GB PCIe': 312e12,
  'NVIDIA L4': 121e12,
  'NVIDIA L40S': 362e12,
}


def rate(amount: float, work: Callable[[], Any]) -> float:
  """Returns `amount` per second, in the fastest of up to 40 runs in `SECONDS`."""
  runs: list[float] = []
  while not runs or (len(runs) < 40 and sum(runs) < SECONDS):
    runs.append(timeit.timeit(work, number=1))
  return amount / min(runs)


def rates(
  sizes: str, dtypes: list, ones: Callable, product: Callable, triad: Callable, total: Callable
) -> dict[str, dict[str, float]]:
  """Returns {"products": FLOP/s of each matmul in each type, "memory": bytes/s in the first}.

  Matmuls that would take longer than `SECONDS` are left out: a CPU without AVX-512 would spend
  minutes on torch's in bfloat16.

  `ones` makes an array of a shape and a type. The others take arrays and return a function that
  multiplies two, computes x + 3 y or sums one, and waits for the result.
  """
  products: dict[str, float] = {}
  for dtype in dtypes:
    found = float('inf')
    for m, k, n in sorted(PRODUCTS[sizes], key=math.prod):
      if (amount := 2 * m * k * n) / found < SECONDS:
        found = rate(amount, product(ones((m, k), dtype), ones((k, n), dtype)))
        products[f'{m} x {k} x {n} {dtype}'.replace('torch.', '')] = found
  x, y = (ones((NUMBERS[sizes],), dtypes[0]) for _ in range(2))
  memory = {'triad': rate(3 * x.nbytes, triad(x, y)), 'sum': rate(x.nbytes, total(x))}
  return {'products': products, 'memory': memory}


def measure(sizes: str, peers: bool) -> dict[str, Any]:
  """Returns a description, and the better of XLA's and torch's rates in irl_jax's type.

  Args:
    sizes: 'auto' is by the kind of device.
    peers: whether to measure torch too, if it is installed and can use the device.
  """
  load, jax = os.getloadavg()[0], turns.alone('ours.device', sizes)
  found = {'jax': jax}
  if peers and util.find_spec('torch'):
    torch = turns.alone('peers.device', jax['sizes'], jax['gpu'])
    found |= {'torch': torch} if torch else {}
  peers = 'torch' in found
  products = [pair for source in found.values() for pair in source['products'].items()]
  return found | {
    'peers': peers,
    'matmul': max(rate for name, rate in products if name.endswith(jax['dtype'])),
    'memory': max(rate for source in found.values() for rate in source['memory'].values()),
    'load': load,
    'description': list(env.machine()),
    'versions': workdir.versions() | ({'torch': metadata.version('torch')} if peers else {}),
  }
