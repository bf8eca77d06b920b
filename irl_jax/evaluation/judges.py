"""Toxicity classifiers that measure policies, next to the true reward or without one."""

import jax.numpy as jnp
from jax.typing import DTypeLike

from irl_jax import rewards
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.models.huggingface import labels


def load(
  spec: str,
  where: str,
  batch_size: int = rewards.BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
  label: labels.Label = '',
) -> rewards.TrueReward:
  """Loads a classifier that gives each text a probability of being toxic.

  Args:
    spec: a hub id, `id@revision`, a folder, or a LoRA adapter.
    where: the setting that names it, for messages.
    batch_size: texts of 64 tokens that the devices can hold at once.
    dtype: the compute type.
    label: name or number of the toxic label; '': it is found by the names of the labels.

  Raises:
    ConfigError: it has no such label.
    InputError: it is not a classifier, has no toxic label, or gives no probabilities.
  """
  model = pretrained.load(spec, ('classifier',))
  check(model, where, label)
  return rewards.true_reward(model, batch_size, dtype, label=label)


def check(model: pretrained.Pretrained, where: str, label: labels.Label = '') -> None:
  """Refuses a classifier that gives no probability of being toxic.

  Args:
    model: a classifier; its weights are not read.
    where: the setting that names it, for messages.
    label: as for `load`.

  Raises:
    ConfigError, InputError: as `load`.
  """
  pretrained.toxic_label(model, label)
  if rewards.activation_of(model) == 'none':
    raise InputError(
      f'{where}={model.source}: config.json: problem_type = regression: gives no probabilities; '
      'name another classifier'
    )
