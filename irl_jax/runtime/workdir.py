"""The folder of a run: its lock, its config, and the seconds of each stage."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import datetime
import fcntl
import importlib.metadata
import json
import os
import pathlib
import socket
import sys
import time
from typing import Any

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax.runtime import atomic
from irl_jax.version import __version__

PACKAGES = (
  'irl_jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'transformers',
  'numpy',
)
# Version of config.json; folders with an older version are read, and those with a newer one are
# refused
SCHEMA = 1
FOLDERS = (*config_lib.STAGES, 'evaluation', 'figures', 'tensorboard')  # that stages write into
FILES = ('config.json', 'log.jsonl', 'timings.json', 'summary.json', 'report.html')
RESULTS = ('summary.json', 'report.html')  # that a stage writes next to its folder
# Written for every stage that was started, finished or not
ATTEMPTS = ('timings.json', 'read_files.json')
FREE = ('name', 'stages', 'runtime')  # may differ between two runs in one folder
# Of config.models: only rerlhf reads it, so it may differ until rerlhf has written something
RECOVERED = 'recovered'


def write_json(path: pathlib.Path, value: Any) -> None:
  r"""Writes a JSON value atomically; NaN and infinity raise a ValueError.

  A lone surrogate, such as in the name of a file that is not UTF-8, is written as \udXXX.
  """
  with atomic.file(path, errors='backslashreplace') as file:
    json.dump(value, file, indent=2, allow_nan=False, ensure_ascii=False)
    file.write('\n')


def read_json(path: pathlib.Path) -> Any:
  """Reads what `write_json` wrote."""
  return json.loads(path.read_text(encoding='utf-8'))


def versions() -> dict[str, str]:
  """Returns the versions of Python and of the packages that results depend on."""
  numbers = {'python': sys.version.split()[0]}
  for package in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      numbers[package] = importlib.metadata.version(package)
  return numbers


def plain(config: config_lib.Config) -> dict[str, Any]:
  """Returns the config in JSON's types."""
  return json.loads(json.dumps(dataclasses.asdict(config)))


def differing(
  saved: Mapping[str, Any],
  now: Mapping[str, Any],
  prefix: str = 'config.',
  defaults: Mapping[str, Any] | None = None,
) -> list[str]:
  """Returns a description of each field in which two nested mappings of JSON's types differ.

  Args:
    saved: the first mapping.
    now: the second mapping.
    prefix: goes before the name of each field.
    defaults: values of fields that `saved` may lack, because they were added later; a field that
      `now` lacks has been removed. None: a field in only one of the two counts as a difference.
  """
  names = []
  for name in dict.fromkeys([*saved, *now]):
    left, right = saved.get(name), now.get(name)
    added = defaults is not None and name not in saved
    default = None if defaults is None else defaults.get(name)
    if isinstance(right, dict) and (isinstance(left, dict) or added):
      names += differing(left or {}, right, f'{prefix}{name}.', default)
    elif added and right != default:
      names.append(f'{prefix}{name} (added since then: {default!r} by default, {right!r} now)')
    elif defaults is not None and name not in now and left is not None:
      names.append(f'{prefix}{name} ({left!r} there; this version has no such field)')
    elif not added and left != right:
      names.append(f'{prefix}{name} ({left!r} there, {right!r} now)')
  return names


def make(folder: pathlib.Path) -> None:
  """Creates the folder, and checks that it and the results of earlier stages are writable.

  Raises:
    ConfigError: one of them cannot be written to.
  """
  for path in (folder, *(folder / name for name in FOLDERS if (folder / name).exists())):
    try:
      if not path.exists():
        path.mkdir(parents=True)
      (path / '.writable').touch()
      (path / '.writable').unlink()
    except OSError as error:
      what = f'--workdir={folder}: {path} cannot be written to'
      raise errors.unwritable(what, error) from error
  for path in (folder / name for name in FILES):
    if path.is_dir():
      raise errors.ConfigError(
        f'--workdir={folder}: {path} is a folder, but must be a file. Use a different --workdir'
      )


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
  """Creates the folder, and locks it for the block.

  The kernel's lock ends with the process, even after a crash.

  Raises:
    ConfigError: the folder cannot be written to, or another run is using it.
  """
  make(folder)
  with locked(folder, f'--workdir={folder}', 'a different --workdir'):
    yield


@contextlib.contextmanager
def locked(folder: pathlib.Path, name: str, instead: str, remove: bool = False) -> Iterator[None]:
  """Locks an existing folder for the block.

  Args:
    folder: the folder.
    name: its name in the message.
    instead: what the message advises to use instead.
    remove: whether to remove the lock file afterwards.

  Raises:
    ConfigError: the folder is locked.
  """
  path = folder / '.lock'
  with path.open('a+', encoding='utf-8') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
        # The previous holder removed this lock file, and another process may hold a new one
        raise BlockingIOError
    except BlockingIOError:
      file.seek(0)
      holder = file.read() or 'a run that has just started'
      raise errors.ConfigError(
        f'{name}: is in use by {holder}. Wait until it ends, or use {instead}'
      ) from None
    now = datetime.datetime.now(datetime.UTC)
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()} since {now:%Y-%m-%d %H:%M:%S} UTC')
    file.flush()
    try:
      yield
    finally:
      if remove:
        path.unlink(missing_ok=True)


def prepare(folder: pathlib.Path, config: config_lib.Config) -> None:
  """Writes config.json, or checks that the folder belongs to this config.

  If no stage has written anything (because the first one failed), the folder accepts a different
  config.

  Raises:
    ConfigError: it belongs to another config, a newer version of irl_jax, or an unknown run.
  """
  path, now = folder / 'config.json', plain(config)
  if not path.exists():
    _check_no_checkpoints(folder)
  elif names := _binding_differences((saved := _read_saved(path))['config'], now, folder):
    if has_results(folder):
      raise errors.ConfigError(
        f'--workdir={folder} contains a run with another config{_by_another_version(saved)}: '
        f'{"; ".join(names)}. Use a different --workdir'
      )
    for name in ATTEMPTS:
      (folder / name).unlink(missing_ok=True)
  write_json(path, {'schema': SCHEMA, 'config': now, 'versions': versions()})


def _read_saved(path: pathlib.Path) -> dict[str, Any]:
  """Reads config.json.

  Raises:
    ConfigError: the file is damaged, or of a newer schema.
  """
  try:
    content = read_json(path)
    content['config'] = dict(content['config'])
    newer = newer_schema(content)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise errors.ConfigError(
      f'--workdir={path.parent}: {path} is damaged. Use a different --workdir'
    ) from error
  if newer:
    raise errors.ConfigError(f'--workdir={path.parent}: {newer}, or use a different --workdir')
  return content


def newer_schema(content: Mapping[str, Any]) -> str:
  """Returns why this version cannot read a config.json that a newer one wrote, or ''.

  Raises:
    ValueError, TypeError: the schema is not a number.
  """
  schema = int(content.get('schema', 0))
  if schema <= SCHEMA:
    return ''
  return (
    f'was written by a newer irl_jax (config.json has schema {schema}, this version reads up to '
    f'{SCHEMA}). Upgrade irl_jax'
  )


def _by_another_version(saved: Mapping[str, Any]) -> str:
  """Names the version of irl_jax that wrote a config.json, if it is not this one."""
  written = saved.get('versions')
  version = written.get('irl_jax') if isinstance(written, dict) else None
  differs = version and version != __version__
  return f' (written by irl_jax {version}, this is {__version__})' if differs else ''


def has_results(folder: pathlib.Path) -> bool:
  """Returns True if a stage has written there: a result, a checkpoint or a line of the log."""
  log = folder / 'log.jsonl'
  return (
    any((folder / name).exists() for name in RESULTS)
    or any(path.is_file() for name in FOLDERS for path in (folder / name).rglob('*'))
    or (log.exists() and b'"stage"' in log.read_bytes())
  )


def _binding_differences(
  saved: dict[str, Any], now: dict[str, Any], folder: pathlib.Path
) -> list[str]:
  """Describes the differences from the saved config in fields that results depend on."""
  binding = lambda fields: {name: value for name, value in fields.items() if name not in FREE}
  saved = _with_models_as_written_now(saved, now)
  models = saved.get('models')
  started = any(path.is_file() for path in (folder / 'rerlhf').rglob('*'))
  if isinstance(models, dict) and not started:
    saved = {**saved, 'models': {**models, RECOVERED: now['models'][RECOVERED]}}
  return differing(binding(saved), binding(now), defaults=plain(config_lib.Config()))


def _with_models_as_written_now(saved: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
  """Returns the saved config, with models written as now where both lead to the same folder.

  `irl_jax.recover` writes absolute paths, and a command line often has relative ones.
  """
  models = saved.get('models')
  if not isinstance(models, dict):
    return saved
  same = {
    name: place
    for name, place in now['models'].items()
    if name in models and _absolute(str(models[name])) == _absolute(place)
  }
  return {**saved, 'models': {**models, **same}}


def _absolute(spec: str) -> str:
  """Returns a model's spec (FOLDER, a hub id, or ADAPTER+BASE) with folders as absolute paths."""
  if os.path.isdir(spec):
    return os.path.abspath(spec)
  return '+'.join(
    os.path.abspath(part) if os.path.isdir(part) else part for part in spec.split('+')
  )


def _check_no_checkpoints(folder: pathlib.Path) -> None:
  """Raises ConfigError if there are checkpoints: without config.json their run is unknown."""
  for stage in config_lib.STAGES:
    for checkpoints in sorted((folder / stage).glob('**/checkpoints')):
      raise errors.ConfigError(
        f'--workdir={folder}: contains {checkpoints}, but no config.json that says which run wrote '
        'it. Delete the folder, or use a different --workdir'
      )


@contextlib.contextmanager
def timed(folder: pathlib.Path, stage: str) -> Iterator[None]:
  """Adds the seconds that the block takes to timings.json, even if it is interrupted."""
  start = time.monotonic()
  try:
    yield
  finally:
    path = folder / 'timings.json'
    timings = read_json(path) if path.exists() else {}
    timings[stage] = round(timings.get(stage, 0.0) + time.monotonic() - start, 2)
    write_json(path, timings)
