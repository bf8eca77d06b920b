"""Config files, given by path or by name: Python, JSON, YAML, or the config of a run.

A Python file has a `get_config()` that returns a `Config`. It is run, so it must be trusted. JSON
and YAML list the fields that differ from the defaults; they are data, and nothing in them is run.
The config.json of a run, or the run's folder, repeats that run. The package contains the named
configs, so that `--config=tiny` works without a clone.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import runpy
import sys
from typing import Any
from typing import TypeVar

import yaml

import irl_jax
from irl_jax import config as config_lib
from irl_jax import settings
from irl_jax.command_line import config_flags
from irl_jax.command_line import suggestions
from irl_jax.command_line import yaml_fields
from irl_jax.data import downloads
from irl_jax.errors import ConfigError
from irl_jax.runtime import workdir
from irl_jax.settings import Section

DATA = ('.json', '.yaml', '.yml')  # files of fields; JSON is read as JSON, the others as YAML
PYTHON = ('.py', '')
SectionT = TypeVar('SectionT', bound=Section)


def folder() -> pathlib.Path:
  """Returns the folder of the named configs: in the installed package, or next to it in a clone."""
  package = pathlib.Path(irl_jax.__file__).parent
  inside = package / 'configs'
  return inside if inside.is_dir() else package.parent / 'configs'


def names() -> list[str]:
  """Returns the names that --config takes in place of a path, in alphabetical order.

  A file whose name begins with _ is what several configs share.
  """
  return sorted(path.stem for path in folder().glob('[!_]*.py'))


def find(spec: str) -> pathlib.Path:
  """Finds the config file of a path, a packaged config's name, or a run.

  Raises:
    ConfigError: there is neither a file nor a packaged config of that name.
  """
  spec = settings.local_path(spec, '--config')
  if os.path.isfile(spec):
    return pathlib.Path(spec)
  known = names()
  if spec in known:
    return folder() / f'{spec}.py'
  if os.path.isfile(os.path.join(spec, 'config.json')):
    return pathlib.Path(spec, 'config.json')
  if os.path.dirname(spec) or spec.endswith((*DATA, '.py')):
    problem, name = 'no such file', pathlib.PurePath(spec).stem
  else:
    problem, name = 'no such config', spec
  if os.path.isdir(spec):
    problem = 'is a folder without a config.json'
  hint = suggestions.did_you_mean(
    [f'--config={near}' for near in suggestions.closest(name, known)],
    f'give a Python file with get_config(), or one of {", ".join(known)}',
  )
  raise ConfigError(f'--config={spec}: {problem}; {hint}')


def load(spec: str) -> config_lib.Config:
  """Reads a config file and returns its Config.

  Args:
    spec: the path of a Python file with `get_config()`, of a JSON or YAML file of fields, or of a
      run's folder, or the name of a packaged config.

  Raises:
    ConfigError: there is no such file, or it does not give a valid Config.
  """
  path = find(spec)
  if path.suffix not in PYTHON + DATA:
    raise ConfigError(
      f'--config={spec}: is not a config file; use Python with get_config() (.py), or fields as '
      f'{", ".join(DATA)}'
    )
  try:
    config = from_fields(read_fields(path)) if path.suffix in DATA else run(path)
  except ConfigError as error:
    raise ConfigError(f'--config={spec}: {error}') from error
  except (Exception, SystemExit) as error:  # a config file may fail in any way, or exit
    raise ConfigError(f'--config={spec}: {type(error).__name__}: {error}') from error
  if not isinstance(config, config_lib.Config):
    raise ConfigError(
      f'--config={spec}: must define get_config(), which returns an irl_jax.config.Config'
    )
  return config


def run(path: pathlib.Path) -> Any:
  """Runs a Python file and returns what its `get_config()` returns; None if it has none."""
  with importable(path.absolute().parent):
    get_config = runpy.run_path(str(path)).get('get_config')
    return get_config() if callable(get_config) else None


@contextlib.contextmanager
def importable(folder: pathlib.Path) -> Iterator[None]:
  """Makes the modules of a folder importable within the block, as those next to a script are."""
  sys.path.insert(0, str(folder))
  try:
    yield
  finally:
    sys.path.remove(str(folder))


def read_fields(path: pathlib.Path) -> Any:
  """Reads a file of fields; of the config.json of a run, the config that it ran.

  Raises:
    ConfigError: it is not JSON or YAML, gives a field twice, or is of a newer version's run.
  """
  try:
    content = path.read_bytes()
    if problem := downloads.problem(content[: downloads.SIZE], path.name):
      raise ConfigError(problem)
    text = content.decode('utf-8-sig')
    if not text.strip():
      raise ConfigError('is empty')
    if path.suffix == '.json':
      fields = json.loads(text, object_pairs_hook=_unique)
    else:
      fields = yaml_fields.load(text, _check_unique)
  except ConfigError:
    raise
  except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
    kind = 'JSON' if path.suffix == '.json' else 'YAML'
    raise ConfigError(f'is not {kind}: {" ".join(str(error).split())}') from error
  run_wrote = isinstance(fields, Mapping) and {'schema', 'versions'} & fields.keys()
  return _config_of_run(fields) if run_wrote else fields


def _config_of_run(fields: Mapping[str, Any]) -> Any:
  """Returns the config in the config.json of a run.

  Raises:
    ConfigError: a newer version wrote it.
  """
  try:
    newer = workdir.newer_schema(fields)
  except (ValueError, TypeError):
    raise ConfigError(f'schema = {fields["schema"]!r:.60}: must be a whole number') from None
  if newer:
    raise ConfigError(newer)
  return fields.get('config')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns an object of JSON.

  Raises:
    ConfigError: a key occurs twice. JSON's reader would take the last, and lose a section.
  """
  _check_unique([name for name, _ in pairs])
  return dict(pairs)


def _check_unique(names: Sequence[str]) -> None:
  if twice := [name for name in names if names.count(name) > 1]:
    raise ConfigError(f'has the key {twice[0]!r} twice; merge the two')


def from_fields(fields: Any) -> config_lib.Config:
  """Returns the Config with these fields, nested as in a run's config.json, and other defaults.

  Raises:
    ConfigError: an unknown field, or a value that is not allowed.
  """
  return _section(config_lib.Config(), fields, 'config.')


def _section(default: SectionT, fields: Any, prefix: str) -> SectionT:
  if not isinstance(fields, Mapping):
    kind = type(fields).__name__
    raise ConfigError(f'{prefix.rstrip(".")}: must be a mapping of fields to values, not {kind}')
  known = {field.name: field for field in dataclasses.fields(default)}
  changes = {}
  for name, value in fields.items():
    if name not in known:
      hint = suggestions.did_you_mean(
        [prefix + near for near in suggestions.closest(str(name), list(known))],
        'irl_jax/config.py lists all fields; a newer version of irl_jax may have more',
      )
      raise ConfigError(f'{prefix}{name}: no such config field; {hint}')
    now = getattr(default, name)
    changes[name] = (
      _section(now, value, f'{prefix}{name}.')
      if isinstance(now, Section)
      else _value(known[name], value, prefix + name)
    )
  return dataclasses.replace(default, **changes)


def _value(field: dataclasses.Field, value: Any, name: str) -> Any:
  """Returns a field's value; text is read as that of a flag, and a list becomes a tuple."""
  if isinstance(value, list):
    return tuple(value)
  if field.type is str and isinstance(value, bool | int | float):
    raise ConfigError(f'{name} = {value!r}: must be of type str; put it in quotes')
  if field.type is str or not isinstance(value, str):
    return value
  try:
    return config_flags.FieldParser(field).parse(value)
  except ValueError as error:
    raise ConfigError(f'{name} = {value!r}: {error}') from None
