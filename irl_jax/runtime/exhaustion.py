"""Memory or a disk that runs out: what holds the memory, which settings need less of it, what is kept."""

import collections
from collections.abc import Iterator
import contextlib
import errno
import functools
import pathlib

import jax
import numpy as np

from irl_jax import errors
from irl_jax.config import Config

LARGEST = 6  # arrays that are named
SETTINGS = {  # of each stage, those that decide how much it holds, the most effective first
  'data': ('sampling.batch_size',),
  'sft': ('sft.batch_size', 'sft.max_tokens'),
  'classifier': ('classifier.batch_size', 'classifier.max_tokens'),
  'demos': ('sampling.batch_size', 'sampling.max_new_tokens'),
  'irl': ('irl.batch_size', 'irl.max_tokens', 'irl.trained_blocks'),
  'evaluate': ('evaluation.batch_size', 'irl.batch_size', 'irl.max_tokens'),
  'report': (),
} | dict.fromkeys(
  ('rlhf', 'rerlhf'),
  (
    'ppo.minibatch_size',
    'ppo.rollouts_per_step',
    'ppo.trained_blocks',
    'sampling.batch_size',
    'sampling.max_new_tokens',
  ),
)


@contextlib.contextmanager
def memory_explained(stage: str, config: Config, folder: pathlib.Path) -> Iterator[None]:
  """Says what a stage that runs out of memory holds.

  Raises:
    OutOfMemoryError: the devices' or the host's memory is too small.
  """
  try:
    yield
  except (jax.errors.JaxRuntimeError, MemoryError) as error:
    reason = next(iter(str(error).splitlines()), '')
    if isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' not in reason:
      raise
    settings = ', '.join(
      f'config.{name} = {functools.reduce(getattr, name.split("."), config)}'
      for name in SETTINGS[stage]
    )
    raise errors.OutOfMemoryError(
      f'stage {stage} is out of memory: {reason.removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")}. Each device holds '
      f'{largest()}. Lower one of {settings} (and give another --workdir), or continue this run on larger devices '
      f'with the same command: the checkpoints in {folder} are whole'
    ) from error


@contextlib.contextmanager
def disk_explained(folder: pathlib.Path) -> Iterator[None]:
  """Says that the disk is full.

  Raises:
    CheckpointError: it is.
  """
  try:
    yield
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
      raise
    raise errors.CheckpointError(
      f'{error.filename or folder} cannot be written to: {error.strerror}; what was '
      'finished is kept. Free space, and give the same command again'
    ) from error


def largest() -> str:
  """The arrays that take most of each device's memory: type, shape, how many of them, size."""
  counts, sizes = collections.Counter(), collections.Counter()
  for array in jax.live_arrays():
    shape = array.sharding.shard_shape(array.shape)
    name = f'{array.dtype}[{",".join(map(str, shape))}]'
    counts[name] += 1
    sizes[name] += int(np.prod(shape)) * array.dtype.itemsize
  named = [
    f'{counts[name]} x {name} ({size / 1e6:,.1f} MB)' for name, size in sizes.most_common(LARGEST)
  ]
  return ', '.join([*named, f'{sum(sizes.values()) / 1e6:,.1f} MB in all'])
