"""The launchers as processes: quick to answer, exit codes, one line on stderr."""

import os
import pathlib
import subprocess
import sys

import pytest

import irl_jax
from irl_jax.runtime import host_memory

ROOT = pathlib.Path(__file__).parents[2]
LAUNCHERS = sorted(path.name for path in (ROOT / 'launch').glob('*.py'))


def start(launcher, *arguments, cwd=ROOT):
  command = [sys.executable, str(ROOT / 'launch' / launcher), *arguments]
  return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_help_and_version_answer_whatever_else_is_wrong(launcher):
  shown, version = start(launcher, '--help', '--no_such_flag'), start(launcher, '--version')
  assert shown.returncode == version.returncode == 0
  assert (
    'python launch/' + launcher in shown.stdout
    and '--verbosity' in shown.stdout
    and not shown.stderr
  )
  assert version.stdout == f'irl_jax {irl_jax.__version__}\n'


@pytest.mark.parametrize('launcher', LAUNCHERS)
@pytest.mark.parametrize('flag', ['--help', '--version'])
def test_help_and_version_load_nothing_heavy(launcher, flag):
  code = (
    f'import atexit, runpy, sys; sys.argv = ["{launcher}", "{flag}"]; '
    'heavy = ("jax", "transformers", "numpy", "scipy", "rich"); '
    'atexit.register(lambda: print([name for name in heavy if name in sys.modules])); '
    f'runpy.run_path("launch/{launcher}", run_name="__main__")'
  )
  assert subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
  ).stdout.endswith('[]\n')


@pytest.mark.slow
def test_a_run_imports_no_torch_although_there_is_one():
  pytest.importorskip('torch')
  code = (
    'import sys; sys.argv = ["x", "--verbosity=-1"]\n'
    'from irl_jax.command_line import launch; from absl import flags\n'
    'def main(_):\n'
    '  import transformers, tensorboardX, scipy.stats\n'
    '  scipy.stats.rankdata([1.0])\n'
    '  print(transformers.is_torch_available())\n'
    'sys.exit(launch.run_main(main, flags.FlagValues(), ""))'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
  assert (done.returncode, done.stdout, done.stderr) == (0, 'False\n', '')


def test_mistake_is_one_line_and_exit_code_2(tmp_path):
  result = start('train.py', '--config=nowhere.py', cwd=tmp_path)
  assert (result.returncode, result.stdout) == (2, '')
  assert result.stderr.startswith('error: --config=nowhere.py: no such file; give a Python file')
  assert result.stderr.count('\n') == 1 and not list(tmp_path.iterdir())


def test_verbosity_1_shows_the_traceback(tmp_path):
  result = start('train.py', '--config=nowhere.py', '--verbosity=1', cwd=tmp_path)
  assert result.returncode == 2
  assert 'Traceback' in result.stderr and result.stderr.splitlines()[-1].startswith('error: ')


@pytest.mark.parametrize(
  'given, expected',
  [(None, host_memory.HUGE_PAGES), ('glibc.malloc.check=0', 'glibc.malloc.check=0')],
)
def test_a_run_takes_huge_pages_unless_the_environment_sets_tunables(given, expected):
  environment = {name: value for name, value in os.environ.items() if name != host_memory.TUNABLES}
  code = (
    'import os, sys; sys.argv = ["x", "--verbosity=-1"]\n'
    'from irl_jax.command_line import launch as command_line; from absl import flags\n'
    'print("started", flush=True)\n'
    'main = lambda _: print(os.environ["GLIBC_TUNABLES"], os.getpid())\n'
    'sys.exit(command_line.run_main(main, flags.FlagValues(), ""))'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', code],
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env=environment | ({host_memory.TUNABLES: given} if given else {}),
  )
  out, _ = process.communicate(timeout=60)
  assert process.returncode == 0
  assert out.split() == ['started'] * (1 if given else 2) + [expected, str(process.pid)]


def run_program(code, *arguments, **environment):
  """Runs code as a program of its own, without the tunables of this one; returns what it prints."""
  inherited = {name: value for name, value in os.environ.items() if name != host_memory.TUNABLES}
  result = subprocess.run(
    [sys.executable, '-c', code, *arguments],
    capture_output=True,
    text=True,
    cwd=ROOT,
    timeout=60,
    env=inherited | environment,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout.split()


def test_a_config_file_is_run_once_although_the_program_starts_again(tmp_path):
  config, counted = tmp_path / 'counting.py', tmp_path / 'counted'
  config.write_text(
    'import pathlib\nfrom irl_jax.config import Config\n'
    f'with pathlib.Path({str(counted)!r}).open("a") as file: file.write("run ")\n'
    'def get_config(): return Config()\n'
  )
  code = (
    'import os, sys; from irl_jax.command_line import launch, train\n'
    'main = lambda _: print(os.environ["GLIBC_TUNABLES"])\n'
    'sys.exit(launch.run_main(main, train.define_flags(), ""))'
  )
  assert run_program(code, f'--config={config}') == [host_memory.HUGE_PAGES]
  assert counted.read_text() == 'run '


@pytest.mark.parametrize(
  'arguments, heaps', [((), 'several'), (('--config.models.base=folder',), 'one')]
)
def test_the_threads_of_a_run_of_a_given_model_share_one_heap(arguments, heaps):
  code = (
    'import ctypes, sys, threading\n'
    'from irl_jax.command_line import launch, train\n'
    'libc = ctypes.CDLL(None)\n'
    'for call in (libc.malloc, libc.open_memstream): call.restype = ctypes.c_void_p\n'
    'libc.fclose.argtypes = (ctypes.c_void_p,)\n'
    'libc.malloc_info.argtypes = (ctypes.c_int, ctypes.c_void_p)\n'
    'def main(_):\n'
    '  barrier = threading.Barrier(4)\n'
    '  allocate = lambda: (barrier.wait(), libc.malloc(1000), barrier.wait())\n'
    '  threads = [threading.Thread(target=allocate) for _ in range(4)]\n'
    '  [thread.start() for thread in threads]; [thread.join() for thread in threads]\n'
    '  text, size = ctypes.c_char_p(), ctypes.c_size_t()\n'
    '  stream = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))\n'
    '  libc.malloc_info(0, stream); libc.fclose(stream)\n'
    '  print("one" if text.value.count(b"<heap nr") == 1 else "several")\n'
    'sys.exit(launch.run_main(main, train.define_flags(), ""))'
  )
  assert run_program(code, '--config=configs/smoke.py', *arguments) == [heaps]


@pytest.mark.parametrize(
  'tunables, one_heap, sizes, kept',
  [
    (host_memory.KEEPING, False, [1], True),
    (host_memory.KEEPING, False, [1, 2**60, 1], False),
    (host_memory.HUGE_PAGES, True, [1], True),
    (host_memory.HUGE_PAGES, False, [1], False),
    ('glibc.malloc.check=0', True, [1], False),
  ],
)
def test_freed_memory_is_kept_as_long_as_models_are_small(tunables, one_heap, sizes, kept):
  code = (
    'import resource, sys, threading, numpy as np; from irl_jax.runtime import host_memory\n'
    f'if {one_heap}: host_memory.use_one_heap()\n'
    'faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
    'def touch(): np.ones(2 ** 24)[::512].sum()\n'  # 128 MiB
    'def by_threads():\n'
    '  thread = threading.Thread(target=touch); thread.start(); thread.join()\n'
    f'print([host_memory.keep_freed(size) for size in {sizes}][-1])\n'
    'by_threads(); before = faults(); by_threads(); print(faults() - before < 30)'
  )
  assert run_program(code, GLIBC_TUNABLES=tunables) == [str(kept)] * 2
