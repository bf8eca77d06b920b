"""Config files: Python files whose `get_config()` returns a `Config`, given as a path or by name.

The package holds the named ones, so that `--config=tiny` works without a clone. A config file is
Python and is run: it is trusted input.
"""

import os
import pathlib
import runpy

import irl_jax
from irl_jax import config as config_lib
from irl_jax import paths
from irl_jax.command_line import suggestions
from irl_jax.errors import ConfigError


def folder() -> pathlib.Path:
  """Returns the folder of the named configs: in the installed package, or next to it in a clone."""
  package = pathlib.Path(irl_jax.__file__).parent
  inside = package / 'configs'
  return inside if inside.is_dir() else package.parent / 'configs'


def names() -> list[str]:
  """Returns the names that --config takes in place of a path, in alphabetical order."""
  return sorted(path.stem for path in folder().glob('*.py'))


def find(spec: str) -> pathlib.Path:
  """Returns the config file that a path, or the name of a packaged config, stands for.

  Raises:
    ConfigError: there is neither a file nor a packaged config of that name.
  """
  spec = paths.local(spec, '--config')
  if os.path.isfile(spec):
    return pathlib.Path(spec)
  known = names()
  if spec in known:
    return folder() / f'{spec}.py'
  if os.path.dirname(spec) or spec.endswith('.py'):
    problem, name = 'no such file', pathlib.PurePath(spec).stem
  else:
    problem, name = 'no such config', spec
  hint = suggestions.did_you_mean(
    [f'--config={near}' for near in suggestions.closest(name, known)],
    f'give a Python file with get_config(), or one of {", ".join(known)}',
  )
  raise ConfigError(f'--config={spec}: {problem}; {hint}')


def load(spec: str) -> config_lib.Config:
  """Runs a config file and returns its Config.

  Args:
    spec: the path of a Python file with `get_config()`, or the name of a packaged config.

  Raises:
    ConfigError: there is no such file, or it does not return a valid Config.
  """
  path = find(spec)
  try:
    get_config = runpy.run_path(str(path)).get('get_config')
    config = get_config() if callable(get_config) else None
  except ConfigError as error:
    raise ConfigError(f'--config={spec}: {error}') from error
  except Exception as error:  # a config file may fail in any way
    raise ConfigError(f'--config={spec}: {type(error).__name__}: {error}') from error
  if not isinstance(config, config_lib.Config):
    raise ConfigError(
      f'--config={spec}: must define get_config() returning an irl_jax.config.Config'
    )
  return config
