"""The launchers as processes: quick to answer, exit codes, one line on stderr."""

import pathlib
import subprocess
import sys
import time

import pytest

import irl_jax

ROOT = pathlib.Path(__file__).parents[2]
LAUNCHERS = sorted(path.name for path in (ROOT / 'launch').glob('*.py'))


def start(launcher, *arguments, cwd=ROOT):
  command = [sys.executable, str(ROOT / 'launch' / launcher), *arguments]
  return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_help_and_version_answer_at_once(launcher):
  started = time.monotonic()
  shown, version = start(launcher, '--help', '--no_such_flag'), start(launcher, '--version')
  assert time.monotonic() - started < 4  # both; each takes 0.1 s on an idle machine
  assert shown.returncode == version.returncode == 0
  assert 'python launch/' + launcher in shown.stdout and '--verbosity' in shown.stdout and not shown.stderr
  assert version.stdout == f'irl_jax {irl_jax.__version__}\n'


def test_importing_the_package_and_command_line_loads_nothing_heavy():
  code = ('import sys, irl_jax, irl_jax.command_line; '
          'print([name for name in ("jax", "transformers", "numpy", "torch", "rich") if name in sys.modules])')
  assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT).stdout == '[]\n'


def test_mistake_is_one_line_and_exit_code_2(tmp_path):
  result = start('train.py', '--config=nowhere.py', cwd=tmp_path)
  assert (result.returncode, result.stdout) == (2, '')
  assert result.stderr == 'error: --config=nowhere.py: no such file; give a Python file with get_config()\n'
  assert not list(tmp_path.iterdir())


def test_verbosity_1_shows_the_traceback(tmp_path):
  result = start('train.py', '--config=nowhere.py', '--verbosity=1', cwd=tmp_path)
  assert result.returncode == 2
  assert 'Traceback' in result.stderr and result.stderr.splitlines()[-1].startswith('error: ')
