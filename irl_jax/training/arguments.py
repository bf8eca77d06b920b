"""Checks of the models, rows and settings that callers pass.

The command line and the Python API share them, so both give the same message for a mistake.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Sized
import operator
import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from irl_jax import config as config_lib
from irl_jax import settings
from irl_jax.data import user_rewards
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.runtime import parallel
from irl_jax.settings import Section

Model = str | os.PathLike[str] | pretrained.Pretrained
MAX_SEED = 2**31 - 1
COMPUTE_TYPES = ('float32', 'bfloat16')
IDLE = {'progress': 'iter', 'report': 'lambda *_: {}'}  # functions that do nothing, by argument


def check_model(model: Any, name: str) -> None:
  """Refuses a value that does not name a model.

  Raises:
    ConfigError: it is neither a path, nor a hub id, nor a loaded model.
  """
  if isinstance(model, pretrained.Pretrained):
    return
  if not isinstance(model, str | os.PathLike) or not os.fspath(model):
    raise ConfigError(
      f'{name} = {model!r:.60}: must be a folder, a hub id, id@revision, or a loaded model'
    )


def check_path(path: Any, name: str) -> None:
  """Refuses a value that is neither a path nor a hub id.

  Raises:
    ConfigError: it is neither. If it is a loaded model, the message says so.
  """
  if isinstance(path, pretrained.Pretrained):
    raise ConfigError(f'{name}: is a loaded model; give its folder, a hub id, or id@revision')
  if not isinstance(path, str | os.PathLike) or not os.fspath(path):
    raise ConfigError(f'{name} = {path!r:.60}: must be a folder, a hub id, or id@revision')


def check_policy(policy: Any, name: str = 'policy', kind: str = 'causal_lm') -> None:
  """Refuses all but loaded models of a kind: causal language models, or classifiers.

  Raises:
    ConfigError: it is not a loaded model.
    InputError: it is a model of another kind.
  """
  if not isinstance(policy, pretrained.Pretrained):
    raise ConfigError(
      f'{name} = {policy!r:.60}: must be a loaded model; load it with irl_jax.load_model'
    )
  if policy.kind != kind:
    raise InputError(f'{name}: is a {policy.kind}; must be {kind}')


def check_whole(value: Any, name: str, low: int, high: int = MAX_SEED) -> None:
  """Refuses all but whole numbers of a range.

  Raises:
    ConfigError: names the argument and the range.
  """
  try:
    whole = not isinstance(value, bool) and low <= operator.index(value) <= high
  except TypeError:
    whole = False
  if not whole:
    raise ConfigError(
      f'{name} = {value!r:.60}: must be a whole number '
      f'{settings.describe_range(low, None, high, None).removeprefix("must be ")}'
    )


def check_dtype(dtype: Any, name: str = 'dtype') -> None:
  """Refuses all but the compute types.

  Raises:
    ConfigError: names the types.
  """
  try:
    known = jnp.dtype(dtype).name in COMPUTE_TYPES
  except TypeError:
    known = False
  if not known:
    raise ConfigError(f'{name} = {dtype!r:.60}: must be {" or ".join(COMPUTE_TYPES)}')


def check_functions(**functions: Any) -> None:
  """Refuses arguments that cannot be called, such as a None that is meant to turn one off.

  Args:
    **functions: what a caller passed, by the name of the argument.

  Raises:
    ConfigError: names the argument, and a function that does nothing.
  """
  for name, value in functions.items():
    if not callable(value):
      raise ConfigError(
        f'{name} = {value!r:.60}: must be a function; {IDLE.get(name, "lambda *_: None")} does '
        'nothing'
      )


def reported(report: Callable, given: Any) -> dict[str, float]:
  """Returns what the caller's `report` computes from `given`.

  Raises:
    InputError: it is not a mapping of metrics by name.
  """
  metrics = report(given)
  if not isinstance(metrics, Mapping) or not all(isinstance(name, str) for name in metrics):
    raise InputError(
      f'report {user_rewards.name_of(report)}: returned {metrics!r:.60}: must return a dict of '
      'metrics by name, which may be empty'
    )
  return dict(metrics)


def check_training(
  seed: Any, folder: Any, dtype: Any, runtime: Any, log: Any, truncate_log: Any, progress: Any
) -> None:
  """Checks the arguments that IRL and supervised training share; each has its own name.

  Raises:
    ConfigError: names the argument.
  """
  check_whole(seed, 'seed', low=0)
  settings.folder(folder, 'folder')
  check_dtype(dtype)
  check_config(runtime, config_lib.Runtime, 'runtime')
  check_functions(log=log, truncate_log=truncate_log, progress=progress)


def check_flag(value: Any, name: str) -> None:
  """Refuses all but True and False; a string such as 'false' would count as true.

  Raises:
    ConfigError: names the argument.
  """
  if not isinstance(value, bool | np.bool_):
    raise ConfigError(f'{name} = {value!r:.60}: must be True or False')


def check_config(value: Any, kind: type[Section], name: str) -> None:
  """Refuses anything but the config section that is needed.

  Raises:
    ConfigError: names the argument and the class.
  """
  if not isinstance(value, kind):
    raise ConfigError(
      f'{name}: must be an irl_jax.config.{kind.__name__}, not {type(value).__name__}'
    )


def check_rows(rows: Any, fields: Sequence[str], name: str = 'rows') -> None:
  """Refuses rows without the required fields.

  Args:
    rows: what a caller passed as a sequence of mappings.
    fields: each must be a string in every row.
    name: the name of the argument, for the message.

  Raises:
    ConfigError: rows is not a list of mappings, or is empty.
    InputError: a row lacks a field, or the field is not a string.
  """
  needs = ' and '.join(map(repr, fields))
  if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
    raise ConfigError(f'{name}: must be a list of rows with {needs}, not {type(rows).__name__}')
  if not isinstance(rows, Sized) or not hasattr(rows, '__getitem__'):
    raise ConfigError(f'{name}: must be a list, not {type(rows).__name__}; pass list({name})')
  if hasattr(rows, 'columns'):  # iterating over a data frame gives the names of its columns
    raise ConfigError(f"{name}: is a data frame; pass {name}.to_dict('records')")
  if not len(rows):
    raise ConfigError(f'{name}: is empty; give at least one row with {needs}')
  for number, row in enumerate(rows):
    if not isinstance(row, Mapping):
      raise InputError(f'{name}[{number}] is {row!r:.60}: must be a mapping with {needs}')
    for field in fields:
      if field not in row:
        raise InputError(
          f'{name}[{number}]: has no field {field!r}; each row needs {needs}, which may be empty'
        )
      if not isinstance(row[field], str):
        raise InputError(
          f'{name}[{number}]: field {field!r} is {row[field]!r:.60}: must be a string'
        )


def check_settings(config: config_lib.Config) -> None:
  """Checks settings that are valid in a config but impossible in this run.

  Raises:
    ConfigError: sampling is greedy or keeps special tokens, or a batch cannot be split evenly over
      the devices.
  """
  if config.sampling.temperature == 0:
    raise ConfigError(
      'config.sampling.temperature = 0.0: must be > 0; a run trains on what it samples'
    )
  if not config.sampling.skip_special_tokens:
    raise ConfigError(
      'config.sampling.skip_special_tokens = False: must be true in a run, because rewards '
      'read special tokens as plain text; only generate keeps them'
    )
  devices = parallel.device_count()
  for name in ('rollouts_per_step', 'minibatch_size'):
    if getattr(config.ppo, name) % devices:
      raise ConfigError(
        f'config.ppo.{name} = {getattr(config.ppo, name)}: must be a multiple of {devices}, the '
        'number of devices'
      )


def check_positions(
  config: config_lib.Config, model: pretrained.Pretrained, longest: int | None = None
) -> None:
  """Checks that prompt and response fit a language model.

  Args:
    config: its `data.max_prompt_tokens` and `sampling.max_new_tokens` are used.
    model: the language model.
    longest: length of the longest prompt in tokens; None: not known yet, so data.max_prompt_tokens
      is assumed.

  Raises:
    ConfigError: the model has too few positions.
  """
  needed = config.data.max_prompt_tokens + config.sampling.max_new_tokens
  prompt = config.data.max_prompt_tokens if longest is None else longest
  if prompt + config.sampling.max_new_tokens > model.config.max_position_embeddings:
    raise ConfigError(
      f'config.data.max_prompt_tokens + config.sampling.max_new_tokens = {needed}: must be <= '
      f'{model.config.max_position_embeddings}, the positions of {model.source or "the model"}'
    )


def check_blocks(section: config_lib.PPO | config_lib.IRL, model: pretrained.Pretrained) -> None:
  """Checks that a model has as many blocks as the config trains.

  Raises:
    ConfigError: the model has fewer blocks.
  """
  if section.trained_blocks > model.config.num_hidden_layers:
    raise ConfigError(
      f'config.{section.key}trained_blocks = {section.trained_blocks}: must be <= '
      f'{model.config.num_hidden_layers}, the blocks of {model.source or "the model"}'
    )
