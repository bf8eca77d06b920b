"""A run's folder: whose it is, its config, how long each stage took; files appear whole or not at all."""

from collections.abc import Iterator
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
FOLDERS = (*config_lib.STAGES, 'evaluation', 'figures', 'tensorboard')  # what stages write into
FILES = ('config.json', 'log.jsonl', 'timings.json', 'summary.json', 'report.html')
FREE = ('name', 'stages', 'runtime')  # may differ between two runs in one folder


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes value under a temporary name and renames it; NaN is refused."""
  temporary = path.with_name(path.name + '.tmp')
  with temporary.open('w', encoding='utf-8') as file:
    json.dump(value, file, indent=2, allow_nan=False, ensure_ascii=False)
    file.write('\n')
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(path)


def read_json(path: pathlib.Path) -> Any:
  """What `write_json` wrote."""
  return json.loads(path.read_text(encoding='utf-8'))


def versions() -> dict[str, str]:
  """Of Python and of the packages that figures depend on."""
  found = {'python': sys.version.split()[0]}
  for package in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[package] = importlib.metadata.version(package)
  return found


def plain(config: config_lib.Config) -> dict[str, Any]:
  """The config as JSON types."""
  return json.loads(json.dumps(dataclasses.asdict(config)))


def differing(first: dict[str, Any], second: dict[str, Any], prefix: str = 'config.') -> list[str]:
  """Names of the fields in which two plain configs differ."""
  names = []
  for name in dict.fromkeys([*first, *second]):
    left, right = first.get(name), second.get(name)
    if isinstance(left, dict) and isinstance(right, dict):
      names += differing(left, right, f'{prefix}{name}.')
    elif left != right:
      names.append(f'{prefix}{name} ({left!r} there, {right!r} now)')
  return names


def make(folder: pathlib.Path) -> None:
  """Makes the folder, or finds out that it and what earlier stages made in it can be written to.

  Raises:
    ConfigError: something cannot.
  """
  for path in (folder, *(folder / name for name in FOLDERS if (folder / name).exists())):
    try:
      if not path.exists():
        path.mkdir(parents=True)
      (path / '.writable').touch()
      (path / '.writable').unlink()
    except OSError as error:
      raise errors.ConfigError(
        f'--workdir={folder}: {path} cannot be written to: {error.strerror}'
      ) from error
  for path in (folder / name for name in FILES):
    if path.is_dir():
      raise errors.ConfigError(
        f'--workdir={folder}: {path} is a folder, and must be a file. Give another --workdir'
      )


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
  """Makes the folder and keeps other runs out of it while it lasts; the kernel ends it with the process.

  Raises:
    ConfigError: the folder cannot be written to, or another run holds it.
  """
  make(folder)
  with (folder / '.lock').open('a+', encoding='utf-8') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      holder = file.read() or 'a run that has just started'
      raise errors.ConfigError(
        f'--workdir={folder}: is held by {holder}. Wait for its end, or give another --workdir'
      ) from None
    now = datetime.datetime.now(datetime.UTC)
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()} since {now:%Y-%m-%d %H:%M:%S} UTC')
    file.flush()
    yield


def prepare(folder: pathlib.Path, config: config_lib.Config) -> None:
  """Writes config.json, or checks that the folder belongs to this config.

  Raises:
    ConfigError: it belongs to another config, or nothing says to which.
  """
  path, now = folder / 'config.json', plain(config)
  orphans = (
    []
    if path.exists()
    else [
      checkpoints
      for stage in config_lib.STAGES
      for checkpoints in sorted((folder / stage).glob('**/checkpoints'))
    ]
  )
  if orphans:
    raise errors.ConfigError(
      f'--workdir={folder}: holds {orphans[0]}, but no config.json that says of which run. '
      'Delete what is left of it, or give another --workdir'
    )
  if path.exists():
    binding = lambda values: {name: value for name, value in values.items() if name not in FREE}
    if names := differing(binding(read_json(path)['config']), binding(now)):
      raise errors.ConfigError(
        f'--workdir={folder} holds a run of another config: {"; ".join(names)}. '
        'Give another --workdir'
      )
  write_json(path, {'config': now, 'versions': versions()})


@contextlib.contextmanager
def timed(folder: pathlib.Path, stage: str) -> Iterator[None]:
  """Adds the seconds that a stage took to timings.json, also where it was interrupted."""
  start = time.monotonic()
  try:
    yield
  finally:
    path = folder / 'timings.json'
    timings = read_json(path) if path.exists() else {}
    timings[stage] = round(timings.get(stage, 0.0) + time.monotonic() - start, 2)
    write_json(path, timings)
