"""Prints what a bug report needs: versions, machine, devices, settings and the compilation cache.

  irl-jax env

If JAX cannot start, the output says why. Secrets are never printed.
"""

from collections.abc import Iterator
import os
import pathlib
import platform
import subprocess
import sys

from absl import flags

from irl_jax.runtime import compilation_cache
from irl_jax.runtime import host_memory
from irl_jax.runtime import terminal
from irl_jax.runtime import workdir
from irl_jax.version import __version__

VARIABLES = (
  'CUDA_VISIBLE_DEVICES',
  'GLIBC_TUNABLES',
  'HF_HOME',
  'HF_HUB_OFFLINE',
  'LD_PRELOAD',
  'OMP_NUM_THREADS',
  'XDG_CACHE_HOME',
  'XLA_FLAGS',
)
PREFIXES = ('JAX_', 'LIBTPU_', 'SLURM_STEP_', 'TPU_', 'XLA_PYTHON_CLIENT_')
SECONDS = 120  # time for JAX to start: a TPU that another process uses may never answer
# JAX runs in a separate process, since a broken installation may end the process.
DEVICES = """
import jax
for device in jax.devices():
  memory = (device.memory_stats() or {}).get('bytes_limit')
  size = f', {memory / 2**30:.1f} GiB' if memory else ''
  print(f'{device.id}: {device.platform}, {device.device_kind}{size}')
"""


def define_flags() -> flags.FlagValues:
  """Returns the command's flags; it has none of its own."""
  return flags.FlagValues()


def main(options: flags.FlagValues) -> None:
  """Prints the environment."""
  del options
  for heading, lines in (
    ('versions', versions()),
    ('machine', machine()),
    ('devices', devices()),
    ('environment', environment()),
    ('compilation cache', [cache()]),
  ):
    print(f'{heading}:')
    for line in lines:
      print(f'  {terminal.printable(line)}', flush=True)


def versions() -> Iterator[str]:
  """Yields the versions of Python and of the packages that results depend on."""
  for name, version in (workdir.versions() | {'irl_jax': __version__}).items():
    yield f'{name} {version}'


def machine() -> Iterator[str]:
  """Yields the operating system, the CPU and the memory."""
  yield f'{platform.platform()}, {" ".join(filter(None, platform.libc_ver()))}'
  yield f'{cpu_model()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores usable'
  yield f'{host_memory.available() / 2**30:.1f} GiB memory for this process'


def cpu_model() -> str:
  """Returns the name of the CPU, or its architecture if the kernel does not report one."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
  except OSError:
    lines = []
  names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.machine()


def devices(code: str = DEVICES, seconds: float = SECONDS) -> list[str]:
  """Describes each JAX device in a line (number, platform, kind, memory), or why JAX fails."""
  try:
    done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, timeout=seconds, check=False
    )
  except subprocess.TimeoutExpired:
    return [f'JAX does not start: no answer within {seconds:g} s']
  if done.returncode == 0:
    return done.stdout.splitlines()
  reason = next(iter(done.stderr.strip().splitlines()[-1:]), 'it printed nothing')
  return [f'JAX does not start (exit code {done.returncode}): {reason}']


def environment() -> Iterator[str]:
  """Yields the variables that change a run; for secrets, only whether they are set."""
  for name, value in sorted(os.environ.items()):
    if name in VARIABLES or name.startswith(PREFIXES):
      yield f'{name}={value}'
  for name in terminal.SECRETS:
    yield f'{name}: {"set" if os.environ.get(name) else "not set"}'


def cache() -> str:
  """Returns the folder of compiled functions and its size."""
  folder = pathlib.Path(os.environ.get('JAX_COMPILATION_CACHE_DIR') or compilation_cache.folder())
  files = [path for path in folder.rglob('*') if path.is_file()]
  size = sum(path.stat().st_size for path in files)
  return f'{folder}: {terminal.count(len(files), "file")}, {size / 2**20:.0f} MiB'
