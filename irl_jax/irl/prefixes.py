"""R̂ and the loss of every prefix of a pair.

A prefix is the text that a model would have written if it had stopped there.

Dims: B pairs, K pairs of a group, S padded length.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from irl_jax import config as config_lib
from irl_jax import structs
from irl_jax.irl import objectives
from irl_jax.irl import reward as reward_lib
from irl_jax.models import heads
from irl_jax.models import trunk


def rewards(
  trained: reward_lib.Params,
  frozen: reward_lib.Params,
  batch: structs.PairBatch,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  rematerialise: bool,
) -> list[jax.Array]:
  """Returns R̂ [B, S] of every prefix of the aligned texts, and of the base texts."""
  texts = reward_lib.both_texts(batch)
  hidden = reward_lib.hidden_states(trained, frozen, texts, config, dtype, rematerialise)
  return jnp.split(heads.bounded_reward(trained['reward_head'], hidden, config), 2)


def at_ends(prefixes: Sequence[jax.Array], batch: structs.PairBatch) -> list[jax.Array]:
  """Picks R̂ [B] of the whole aligned and base texts out of R̂ [B, S] of their prefixes."""
  lengths = jnp.sum(reward_lib.both_texts(batch).valid, axis=1)
  last = jax.nn.one_hot(lengths - 1, prefixes[0].shape[1])
  return [jnp.sum(side * end, axis=1) for side, end in zip(prefixes, jnp.split(last, 2))]


def _texts(batch: structs.PairBatch) -> tuple[structs.TextBatch, structs.TextBatch]:
  """Returns the aligned and the base texts. Prefixes cannot be read from features."""
  assert isinstance(batch.aligned, structs.TextBatch) and isinstance(batch.base, structs.TextBatch)
  return batch.aligned, batch.base


def present(batch: structs.PairBatch) -> list[jax.Array]:
  """Returns which prefixes of the aligned and of the base texts exist, both [B, S].

  A pair without weight has none.
  """
  return [side.valid & (batch.weight > 0)[:, None] for side in _texts(batch)]


def compared(batch: structs.PairBatch, group_size: int) -> jax.Array:
  """Returns which prefixes [B, S] are compared: aligned with base texts of the same length.

  A prefix counts once the group's texts differ and enough base texts are at least that long: one,
  or two if the objective averages over several. Every `group_size` consecutive pairs share a
  prompt.
  """
  in_groups = lambda x: x.reshape(-1, group_size, x.shape[1])
  texts = jnp.concatenate(
    [in_groups(jnp.where(side.valid, side.ids, -1)) for side in _texts(batch)], 1
  )
  # The first position where two texts of a group differ, and all after it.
  differs = jnp.cumsum(jnp.any(texts != texts[:, :1], axis=1), axis=1) > 0
  enough = _enough(present(batch)[1], group_size)
  return _texts(batch)[0].valid & jnp.repeat(differs, group_size, axis=0) & enough


def _enough(there: jax.Array, group_size: int) -> jax.Array:
  """Returns where [B, S] a group has as many texts as its objective needs, by which are there."""
  count = jnp.sum(there.reshape(-1, group_size, there.shape[1]), axis=1)
  return jnp.repeat(count >= min(group_size, 2), group_size, axis=0)


def validation(
  parts: reward_lib.Parts,
  batch: structs.PairBatch,
  *,
  irl: config_lib.IRL,
  config: trunk.Config,
  dtype: DTypeLike,
) -> jax.Array:
  """Returns R̂ of both whole texts, and the mean loss over the compared prefixes [B, 3].

  The loss is that of single pairs, by which every objective is validated.

  Args:
    parts: the reward's parameters.
    batch: pairs.
    irl: hyper-parameters.
    config: the model's shape.
    dtype: the compute type.
  """
  of_prefixes = rewards(*parts, batch, config=config, dtype=dtype, rematerialise=False)
  aligned, base = of_prefixes
  loss = objectives.pair_losses(aligned - base, irl, label=batch.label)
  return jnp.stack([*at_ends(of_prefixes, batch), _mean(loss, compared(batch, 1))], axis=1)


def losses(
  prefixes: Sequence[jax.Array],
  batch: structs.PairBatch,
  irl: config_lib.IRL,
  progress: jax.Array | float,
) -> jax.Array:
  """Returns every pair's mean loss [B] over its compared prefixes; 0 if there are none."""
  counted = compared(batch, irl.group_size)
  aligned, base = prefixes
  of_aligned, of_base = present(batch)
  label = batch.label
  if label is not None:
    # The pair can only be exchanged where the base text goes on and has texts to be compared with.
    label = jnp.where(of_base & _enough(of_aligned, irl.group_size), label, 1.0)
  of_prefixes = objectives.losses(aligned, base, of_base, irl, progress, label, of_aligned)
  return _mean(of_prefixes, counted)


def _mean(of_prefixes: jax.Array, counted: jax.Array) -> jax.Array:
  """Returns the mean [B] of the numbers [B, S] of the prefixes that are counted; 0 of none."""
  return jnp.sum(of_prefixes * counted, axis=1) / jnp.maximum(jnp.sum(counted, axis=1), 1)
