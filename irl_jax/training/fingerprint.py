"""The fingerprint of a training run: its settings, and digests of its data and its initial model.

Each checkpoint stores it, so that checkpoints of another run are recognised. Otherwise, that run's
policy would be trained further, or returned as this run's.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import pathlib
from typing import Any
import zlib

import jax
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax.runtime import processes
from irl_jax.runtime import unread
from irl_jax.runtime import workdir
from irl_jax.settings import Section

Fingerprint = Mapping[str, Any]  # {'config': nested settings, 'inputs': digests by name}
# Fields that may change when a run continues.
FREE = ('steps', 'checkpoint_every', 'samples_every')


def of(settings: Mapping[str, Any], **inputs: str) -> Fingerprint:
  """Returns the fingerprint of a training, in JSON's types.

  Args:
    settings: the config's sections or values that results depend on, by name.
    **inputs: digests by name; underscores stand for spaces.
  """
  plain = {
    name: _fields(value) if isinstance(value, Section) else value
    for name, value in settings.items()
  }
  return {
    'config': json.loads(json.dumps(plain)),
    'inputs': {name.replace('_', ' '): value for name, value in inputs.items()},
  }


def of_rows(rows: Sequence[Any]) -> str:
  """Returns a digest of rows that contain only JSON types."""
  return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


@processes.on_first
def of_params(params: Any) -> str:
  """Returns a digest of all arrays of a tree, by their paths, and of their values as float32.

  Only the first process reads what is still in files.
  """
  checksum = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    checksum = zlib.crc32(jax.tree_util.keystr(path).encode(), checksum)
    for piece in unread.pieces(leaf):
      array = np.ascontiguousarray(np.asarray(piece, np.float32))
      checksum = zlib.crc32(array.reshape(-1).view(np.uint8).data, checksum)
  return f'{checksum:08x}'


def check(saved: Fingerprint, now: Fingerprint, folder: pathlib.Path) -> None:
  """Refuses to continue another training run.

  Raises:
    ConfigError: names the settings or inputs that differ.
  """
  defaults = workdir.plain(config_lib.Config())
  names = workdir.differing(saved.get('config', {}), now['config'], defaults=defaults)
  before = saved.get('inputs', {})
  inputs = [name for name, value in now['inputs'].items() if before.get(name) != value]
  names += [f'other {name}' for name in inputs]
  if names:
    refuse(folder, '; '.join(names))


def refuse(folder: pathlib.Path, difference: str) -> None:
  """Raises a ConfigError: the folder belongs to another training run."""
  raise errors.ConfigError(
    f'{folder}: contains another training run: {difference}. Use a different folder, or delete '
    'this one to train from scratch'
  )


def _fields(section: Section) -> dict[str, Any]:
  fields = dataclasses.asdict(section)
  return {name: value for name, value in fields.items() if name not in FREE}
