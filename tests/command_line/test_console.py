"""The console command: its overview, the choice of a command, and what an unknown one prints."""

import subprocess
import sys

import pytest

import irl_jax
from irl_jax.command_line import console


def run(*arguments):
  return console.main(['irl-jax', *arguments])


def test_help_lists_every_command(capsys):
  assert run('--help') == 0
  shown = capsys.readouterr().out
  for name, what in console.COMMANDS.items():
    assert f'  {name:<10}{what}\n' in shown + '\n'


def test_the_version_is_printed(capsys):
  assert run('--version') == 0 and capsys.readouterr().out == f'irl_jax {irl_jax.__version__}\n'


@pytest.mark.parametrize('name', console.COMMANDS)
def test_every_command_has_help_of_its_own(name, capsys):
  assert run(name, '--help') == 0
  shown = capsys.readouterr().out
  assert f'\n  irl-jax {name}' in shown and '--verbosity' in shown and 'launch/' not in shown


@pytest.mark.parametrize(
  'arguments, message',
  [
    (('trian',), "'trian': no such command; did you mean train?"),
    (
      ('benchmark',),
      "'benchmark': no such command; must be one of train, score, generate, toxicity, edit, "
      'report, env',
    ),
    (
      (),
      'the command is missing: give one of train, score, generate, toxicity, edit, report, env '
      'first',
    ),
    (('--config=tiny',), 'the command is missing: give one of train, '),
    (('train',), '--config is missing'),
    (('score', '--model=M'), '--input is missing: the file to read: .jsonl, '),
    (('\x1b[31mx\n',), 'no such command'),
  ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, capsys):
  assert run(*arguments) == 2
  shown = capsys.readouterr().err
  assert shown.startswith('error: ') and message in shown
  assert shown.count('\n') == 1 and '\x1b' not in shown


@pytest.mark.parametrize('arguments', [['--help'], ['--version'], ['train', '--help']])
def test_help_and_version_load_nothing_heavy(arguments):
  code = (
    f'import sys; sys.argv = ["irl-jax", *{arguments}]\n'
    'from irl_jax.command_line import console\n'
    'assert console.main() == 0\n'
    'print([name for name in ("jax", "numpy", "transformers", "rich") if name in sys.modules])'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.endswith('[]\n')
