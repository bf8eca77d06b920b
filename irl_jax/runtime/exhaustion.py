"""Errors for insufficient memory or disk space: what uses it, and which settings to change."""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import pathlib

import jax
import numpy as np

from irl_jax import errors
from irl_jax.config import Config

LARGEST = 6  # number of arrays that a message names
SETTINGS: dict[str, tuple[str, ...]] = (
  {  # the settings that a stage's memory depends on, most effective first
    'data': ('sampling.batch_size',),
    'sft': ('sft.batch_size', 'sft.max_tokens'),
    'classifier': ('classifier.batch_size', 'classifier.max_tokens'),
    'demos': ('sampling.batch_size', 'sampling.max_new_tokens'),
    'irl': ('irl.batch_size', 'irl.max_tokens', 'irl.trained_blocks'),
    'evaluate': ('evaluation.batch_size', 'irl.batch_size', 'irl.max_tokens'),
    'report': (),
  }
  | dict.fromkeys(
    ('rlhf', 'rerlhf'),
    (
      'ppo.minibatch_size',
      'ppo.rollouts_per_step',
      'ppo.trained_blocks',
      'sampling.batch_size',
      'sampling.max_new_tokens',
    ),
  )
)


@contextlib.contextmanager
def memory_explained(stage: str, config: Config, folder: pathlib.Path) -> Iterator[None]:
  """Names the largest arrays and the settings that help, if the block runs out of memory.

  Raises:
    OutOfMemoryError: replaces the error of a device's or the host's allocator.
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
      f'stage {stage} is out of memory: '
      f'{reason.removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")}. Each device holds {largest()}. '
      f'Lower one of {settings} and start again with a different --workdir, or continue this run '
      f'with the same command {elsewhere(config.runtime.sharding, jax.device_count())}: the '
      f'checkpoints in {folder} are complete'
    ) from error


def elsewhere(sharding: str, devices: int) -> str:
  """Says how the same run can continue with less memory of each device.

  Args:
    sharding: config.runtime.sharding.
    devices: the number of devices that share the run.
  """
  fsdp = '--config.runtime.sharding=fsdp'
  if sharding == 'fsdp':
    return f'on larger devices, or on more than {devices}'
  if devices == 1:
    return f'on a larger device, or on several with {fsdp}'
  return (
    f'and {fsdp} (each of the {devices} devices then holds a share of the parameters), or on '
    'larger devices'
  )


@contextlib.contextmanager
def disk_explained(
  folder: pathlib.Path, is_saved: Callable[[], bool] = lambda: True
) -> Iterator[None]:
  """Explains an error that a full disk causes in the block.

  Args:
    folder: where the block writes, if the error does not say.
    is_saved: returns True if the same command can continue the block's work.

  Raises:
    CheckpointError: replaces an error of a full disk or quota.
  """
  try:
    yield
  except OSError as error:
    if error.errno not in errors.DISK_FULL:
      raise
    saved = 'progress is saved' if is_saved() else 'nothing is kept'
    raise errors.CheckpointError(
      f'{error.filename or folder} cannot be written to: {error.strerror}; {saved}. Free space, '
      'and run the same command again'
    ) from error


def largest() -> str:
  """Describes the arrays that take most of each device's memory: number, type, shape and size."""
  counts: collections.Counter[str] = collections.Counter()
  sizes: collections.Counter[str] = collections.Counter()
  for array in jax.live_arrays():
    shape = array.sharding.shard_shape(array.shape)
    name = f'{array.dtype}[{",".join(map(str, shape))}]'
    counts[name] += 1
    sizes[name] += int(np.prod(shape)) * array.dtype.itemsize
  named = [
    f'{counts[name]} x {name} ({size / 1e6:,.1f} MB)' for name, size in sizes.most_common(LARGEST)
  ]
  return ', '.join([*named, f'{sum(sizes.values()) / 1e6:,.1f} MB in all'])
