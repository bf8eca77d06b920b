"""The parts that all commands share: parsing, --help and --version, one-line errors, exit codes.

This module is cheap to import, so that `--help` and `--version` do not have to load JAX.
"""

from collections.abc import Callable
from collections.abc import Sequence
from importlib import machinery
import logging as std_logging
import os
import re
import sys
import traceback
import types
from typing import Any

from absl import flags
from absl import logging

from irl_jax import settings
from irl_jax.command_line import config_files
from irl_jax.command_line import config_flags
from irl_jax.command_line import suggestions
from irl_jax.config import Data
from irl_jax.data.row_values import Layout
from irl_jax.errors import CheckpointError
from irl_jax.errors import ConfigError
from irl_jax.errors import DISK_FULL
from irl_jax.errors import IrlJaxError
from irl_jax.errors import unwritable
from irl_jax.runtime import host_memory
from irl_jax.runtime import terminal
from irl_jax.runtime.terminal import printable
from irl_jax.runtime.terminal import redacted
from irl_jax.version import __version__

PIPE_CLOSED = 141  # 128 + SIGPIPE, like other commands
# Flags whose value is a path, or a source of rows, and what expands it
PLACES = {
  **dict.fromkeys(('workdir', 'model', 'judge', 'output'), settings.local_path),
  **dict.fromkeys(('input', 'prompts'), settings.local_source),
}
ROW_FILES = '.jsonl, .json, .csv, .tsv, .parquet or .txt (one text per line), also .gz'
ROW_SOURCES = f'{ROW_FILES}; or a folder, a hub data set, or a known data set (NAME or NAME:PLACE)'


def run_main(
  main: Callable[[flags.FlagValues], None],
  flag_values: flags.FlagValues,
  usage: str,
  argv: Sequence[str] | None = None,
  own_process: bool | None = None,
) -> int:
  """Parses the command line, calls main, and turns an exception into one line on stderr.

  Args:
    main: takes the parsed flags. The value of a flag `config` is the overridden `Config`.
    flag_values: the command's own flags; --help, --version and --verbosity are added.
    usage: the command's docstring, shown by --help.
    argv: with the program's name first; sys.argv if None.
    own_process: whether this process exists only for the command. Then it may restart with huge
      pages, and hides torch from transformers. None: True if argv is None.

  Returns:
    The exit code: 0 done, 130 interrupted, 141 if the output pipe is closed (nothing is printed
    then), an IrlJaxError's own, 1 for any other exception.
  """
  own_process = argv is None if own_process is None else own_process
  argv = list(sys.argv if argv is None else argv)
  early = flags.FlagValues()  # the flags that matter even if the others are wrong
  _define_common(early)
  _define_common(flag_values)

  def work() -> None:
    early.set_gnu_getopt(True)
    early(argv, known_only=True)
    if early.help:
      print(_help(usage, flag_values))
    elif early.version:
      print(f'irl_jax {__version__}')
    else:
      if own_process:
        host_memory.restart_with_huge_pages()  # before the config file is run
        _hide_torch()
      parse(argv, flag_values)
      if own_process and _names_a_base_model(flag_values):
        host_memory.use_one_heap()
      _start_logging(flag_values.verbosity)
      main(flag_values)

  return exit_code(work, lambda: _show_traceback(early))


def exit_code(work: Callable[[], None], show_traceback: Callable[[], bool] = lambda: False) -> int:
  """Does the work of a command, and turns an exception into one line on stderr.

  Args:
    work: prints its results.
    show_traceback: prints the traceback of an error, if it is wanted; returns whether it did.

  Returns:
    As `run_main`.
  """
  terminal.accept_all_text()
  try:
    work()
    terminal.flush()
    return 0
  except KeyboardInterrupt:
    message, code = 'interrupted', 130
  except IrlJaxError as error:
    message, code = str(error), error.exit_code
    show_traceback()
  except flags.Error as error:
    message, code = _flag_error(error), ConfigError.exit_code
  except Exception as error:  # pylint: disable=broad-except
    if isinstance(error, BrokenPipeError) and terminal.reader_is_gone():
      message, code = '', PIPE_CLOSED
    elif isinstance(error, OSError) and error.errno in DISK_FULL:
      place = error.filename or 'a file or stdout'
      message = str(unwritable(f'{place} cannot be written to', error))
      code = CheckpointError.exit_code
    else:
      first_line = next(iter(str(error).strip().splitlines()), '')
      hint = '' if show_traceback() else ' (--verbosity=1 shows where)'
      message, code = f'{type(error).__name__}: {first_line}{hint}', 1
  terminal.drop_output()
  if message:
    print(f'error: {printable(message)}', file=sys.stderr, flush=True)
  return code


def parse(argv: Sequence[str], flag_values: flags.FlagValues) -> None:
  """Parses argv into flag_values; a flag `config` becomes the `Config` with its overrides applied.

  Raises:
    ConfigError: a wrong name or value, a stray argument, or a config file that returns no Config.
    flags.Error: absl finds a value missing, or of the wrong type.
  """
  base = None
  if 'config' in flag_values:
    spec = _last_value(argv, 'config')
    if not spec:
      raise ConfigError('--config is missing: give a config file, such as --config=configs/tiny.py')
    base = config_files.load(spec)
    config_flags.define(flag_values, base, 'config.')
  flag_values.set_gnu_getopt(True)
  try:
    stray = flag_values(list(argv))[1:]
  except flags.UnrecognizedFlagError as error:
    raise ConfigError(_unknown(error.flagname, list(flag_values))) from None
  if stray:
    raise ConfigError(f'unexpected argument {stray[0]!r}: pass arguments as --name=value')
  for name, expand in PLACES.items():
    if name in flag_values and (path := flag_values[name].value):
      if path.startswith('--'):
        raise ConfigError(f'--{name} has no value: it is followed by {path}; write --{name}=PATH')
      flag_values[name].value = expand(path, f'--{name}')
  if base is not None:
    flag_values['config'].value = config_flags.overridden(base, flag_values, 'config.')


def require(flag_values: flags.FlagValues, *names: str) -> None:
  """Refuses a command line if one of the named flags is missing or empty.

  Raises:
    ConfigError: names the first flag that is missing.
  """
  for name in names:
    if not flag_values[name].value:
      raise ConfigError(f'--{name} is missing: {flag_values[name].help}; see --help')


def define_file_flags(
  flag_values: flags.FlagValues, source: str = 'input', output: str | None = None
) -> None:
  """Defines the flags of a command that adds a model's results to the rows of a file.

  `source` names the flag of the file. `output` is the default of --output; None: it is required.
  """
  flags.DEFINE_string(
    'model', None, 'a hub id, id@revision, a folder, or a LoRA adapter', flag_values=flag_values
  )
  flags.DEFINE_string(source, None, f'the file to read: {ROW_SOURCES}', flag_values=flag_values)
  flags.DEFINE_string(
    'split', 'train', 'the split to read, of a hub data set or a folder', flag_values=flag_values
  )
  flags.DEFINE_string('output', output, 'the .jsonl file to write', flag_values=flag_values)
  flags.DEFINE_enum(
    'bad_rows',
    'error',
    ['error', 'skip'],
    'what to do with an unreadable row: error refuses the file, skip writes null and the reason',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'encoding',
    '',
    'encoding of a text file, such as cp1252 (default: that of its byte order mark, else UTF-8)',
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    'delimiter',
    '',
    'character between the columns of a .csv or .tsv file (default: detected from its header)',
    flag_values=flag_values,
  )


def layout_of(flag_values: flags.FlagValues, source: str = 'input') -> Layout:
  """Returns the layout of the file that the flag `source` names, by --encoding and --delimiter.

  Raises:
    ConfigError: there is no such encoding, or the delimiter is not one character.
  """
  try:
    described = Data(encoding=flag_values.encoding, delimiter=flag_values.delimiter)
  except ConfigError as error:
    raise ConfigError(str(error).replace('config.data.', '--')) from None
  return Layout(described.encoding, described.column_delimiter, flags='--', source=source)


def usage_in_clone(command: types.ModuleType) -> str:
  """Returns the docstring of a command for --help of its script in launch/."""
  name = command.__name__.rpartition('.')[2]
  return (command.__doc__ or '').replace(f'irl-jax {name}', f'python launch/{name}.py')


def _names_a_base_model(flag_values: flags.FlagValues) -> bool:
  """Returns True if the run uses an existing base model instead of training a small one."""
  models = flag_values.config.models if 'config' in flag_values and flag_values.config else None
  return models is not None and bool(models.base or models.aligned)


def _hide_torch() -> None:
  """Makes torch look absent; transformers checks for it only once, when it is imported."""
  if 'transformers' not in sys.modules:
    sys.meta_path = [
      _WithoutTorch if finder is machinery.PathFinder else finder for finder in sys.meta_path
    ]


class _WithoutTorch(machinery.PathFinder):
  """Finds all modules except torch.

  transformers and tensorboardX import an installed torch, which takes seconds and is not needed.
  """

  @classmethod
  def find_spec(
    cls, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
  ) -> machinery.ModuleSpec | None:
    return None if fullname == 'torch' else super().find_spec(fullname, path, target)


def _define_common(flag_values: flags.FlagValues) -> None:
  """Defines the flags of every command, unless they are defined already."""
  if 'help' not in flag_values:
    flags.DEFINE_boolean(
      'help', False, 'show this text and exit', short_name='h', flag_values=flag_values
    )
    flags.DEFINE_boolean('version', False, 'show the version and exit', flag_values=flag_values)
    flags.DEFINE_integer(
      'verbosity',
      0,
      '-1: only warnings; 0: also progress; 1: also all logs, and tracebacks of errors',
      lower_bound=-3,
      upper_bound=3,
      flag_values=flag_values,
    )


def _last_value(argv: Sequence[str], name: str) -> str | None:
  """Returns the last value given for one flag, before the others are defined."""
  values = flags.FlagValues()
  flags.DEFINE_string(name, None, '', flag_values=values)
  values.set_gnu_getopt(True)
  values(list(argv), known_only=True)
  return values[name].value


def _unknown(name: str, names: Sequence[str]) -> str:
  """Returns the message for an unknown flag, with a suggestion."""
  fields = [known for known in names if known.startswith(f'{name}.')]
  if fields:
    return f'--{name} is a section: override one of its fields, such as --{fields[0]}'
  candidates = [f'--{known}' for known in suggestions.closest(name, names)]
  hint = suggestions.did_you_mean(candidates, 'see --help')
  return f'--{name}: no such flag or config field; {hint}'


def _flag_error(error: flags.Error) -> str:
  """Rewords an absl message to match our own."""
  return re.sub(
    r'invalid literal for int\(\).*', 'must be a whole number', str(error).removeprefix('flag ')
  )


def _help(usage: str, flag_values: flags.FlagValues) -> str:
  """Returns the text that --help prints."""
  lines = [usage.strip(), '', 'Flags:']
  # Uses full names, because absl lists short names as separate flags.
  for name in dict.fromkeys(flag_values[key].name for key in flag_values):
    flag = flag_values[name]
    default = '' if flag.boolean or flag.value in (None, '') else f' (default: {flag.value})'
    lines.append(f'  --{name}: {flag.help}{default}')
  if 'config' in flag_values:
    lines.append(
      '  --config.SECTION.FIELD: overrides one field of the config; --dry_run lists them all'
    )
  return '\n'.join(lines)


def _show_traceback(early: flags.FlagValues) -> bool:
  """Prints the current traceback if --verbosity is above 0; returns whether it did."""
  wanted = int(early.verbosity) > 0
  if wanted:
    print(redacted(traceback.format_exc()), file=sys.stderr)
  return wanted


class _OneLine(std_logging.Formatter):
  """Formats a log record as one line without terminal escapes; tracebacks are optional."""

  def __init__(self, tracebacks: bool) -> None:
    super().__init__()
    self._tracebacks = tracebacks

  def formatException(self, ei: Any) -> str:  # pylint: disable=invalid-name
    return super().formatException(ei) if self._tracebacks else ''

  def formatMessage(self, record: std_logging.LogRecord) -> str:  # pylint: disable=invalid-name
    level = f'{record.levelname.lower()}: ' if record.levelno >= std_logging.WARNING else ''
    return level + printable(record.message)


def _start_logging(verbosity: int) -> None:
  """Shows our progress and all warnings on stderr; at verbosity 1, everything that is logged."""
  package = os.path.dirname(os.path.dirname(__file__))
  handler = std_logging.StreamHandler()
  handler.setFormatter(_OneLine(tracebacks=verbosity > 0))
  handler.addFilter(
    lambda record: (
      verbosity > 0 or record.levelno >= std_logging.WARNING or record.pathname.startswith(package)
    )
  )
  std_logging.basicConfig(handlers=[handler])
  logging.set_verbosity(verbosity)
