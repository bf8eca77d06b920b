"""Commands whose stdout is closed, full, or of another encoding."""

import errno
import os
import subprocess
import sys

import pytest

from irl_jax import errors
from irl_jax.command_line import launch

CONSOLE = 'import sys; from irl_jax.command_line import console; sys.exit(console.main(sys.argv))'
PRINT = """
import sys
from irl_jax.command_line import launch
sys.exit(launch.exit_code(lambda: print('caf\\u00e9 \\udce9 \\U0001f642')))
"""


def run(code, *arguments, stdout=subprocess.PIPE, **environment):
  return subprocess.run(
    [sys.executable, '-c', code, *arguments],
    stdout=stdout,
    stderr=subprocess.PIPE,
    env=os.environ | environment,
  )


@pytest.mark.parametrize('arguments', [['--help'], ['--version'], ['score', '--help']])
def test_a_closed_pipe_ends_a_command_quietly(arguments):
  reader, writer = os.pipe()
  os.close(reader)
  try:
    ended = run(CONSOLE, *arguments, stdout=writer)
  finally:
    os.close(writer)
  assert (ended.returncode, ended.stderr) == (141, b'')


def test_a_full_disk_behind_stdout_is_named():
  with open('/dev/full', 'w') as full:
    ended = run(CONSOLE, '--help', stdout=full)
  assert ended.returncode == 5 and ended.stderr == (
    b'error: a file or stdout cannot be written to: No space left on device. Free space, and run '
    b'the same command again\n'
  )


@pytest.mark.parametrize(
  'encoding, shown',
  [
    ('ascii', rb'caf\xe9 \udce9 \U0001f642'),
    ('latin-1', b'caf\xe9 \\udce9 \\U0001f642'),
    ('utf-8', 'café \\udce9 🙂'.encode()),
  ],
)
def test_a_name_that_the_terminal_cannot_print_is_escaped(encoding, shown):
  ended = run(PRINT, PYTHONIOENCODING=encoding)
  assert (ended.returncode, ended.stdout, ended.stderr) == (0, shown + b'\n', b'')


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_has_an_exit_code_of_its_own_wherever_it_happens(number, capsys):
  def fail():
    raise OSError(number, os.strerror(number), 'some/file')

  assert launch.exit_code(fail) == errors.CheckpointError.exit_code == 5
  assert capsys.readouterr().err == (
    f'error: some/file cannot be written to: {os.strerror(number)}. Free space, and run the same '
    'command again\n'
  )


def test_a_pipe_of_something_else_is_an_error(capsys):
  def fail():
    raise BrokenPipeError(errno.EPIPE, 'Broken pipe')

  assert launch.exit_code(fail) == 1 and 'BrokenPipeError' in capsys.readouterr().err
