"""The console command `irl-jax`: its first argument chooses the command to run."""

from collections.abc import Sequence
import importlib
import sys

from irl_jax.command_line import launch
from irl_jax.command_line import suggestions
from irl_jax.errors import ConfigError
from irl_jax.runtime.terminal import printable
from irl_jax.version import __version__

COMMANDS = {  # the module of each is irl_jax.command_line.<name>
  'train': 'runs the stages of a config: the whole experiment, or an audit of two models',
  'score': 'scores the texts of a file',
  'generate': 'completes the prompts of a file',
  'toxicity': 'measures how toxic the samples of a model are, as RealToxicityPrompts does',
  'edit': 'removes from a recovered reward what it pays for a feature',
  'report': 'rewrites the report of a finished run',
  'env': 'prints versions, devices and settings, for a bug report',
}
NO_RESTART = ('env',)  # env must describe the process as the user started it


def overview() -> str:
  """Returns what `irl-jax --help` prints."""
  return '\n'.join(
    [
      'Recovers the reward that a language model was trained for.',
      '',
      '  irl-jax COMMAND --help    shows the flags of a command',
      '  irl-jax --version',
      '',
      'Commands:',
      *(f'  {name:<10}{what}' for name, what in COMMANDS.items()),
    ]
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code.

  Args:
    argv: the program's name, then its arguments; None: those of this process, which may then
      restart itself (`launch.run_main`).
  """
  arguments = list(sys.argv if argv is None else argv)[1:]
  name = arguments[0] if arguments else ''
  if name in ('--help', '-h', '-help', 'help'):
    return launch.exit_code(lambda: print(overview()))
  if name in ('--version', '-version'):
    return launch.exit_code(lambda: print(f'irl_jax {__version__}'))
  if name in COMMANDS:
    command = importlib.import_module(f'irl_jax.command_line.{name}')
    return launch.run_main(
      command.main,
      command.define_flags(),
      command.__doc__ or '',
      [f'irl-jax {name}', *arguments[1:]],
      own_process=argv is None and name not in NO_RESTART,
    )
  print(f'error: {printable(_unknown(name))}', file=sys.stderr)
  return ConfigError.exit_code


def _unknown(name: str) -> str:
  if not name or name.startswith('-'):
    return f'the command is missing: give one of {", ".join(COMMANDS)} first; see irl-jax --help'
  hint = suggestions.did_you_mean(
    suggestions.closest(name, list(COMMANDS)), f'must be one of {", ".join(COMMANDS)}'
  )
  return f'{name!r}: no such command; {hint}'
