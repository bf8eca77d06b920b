"""The reward that IRL trains: the state of a text that the head scores, and its R̂.

Dims: B texts or pairs, S padded length, D width.
"""

import dataclasses
from typing import Any
from typing import cast

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from irl_jax import rewards
from irl_jax import structs
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.models import trunk

Params = trunk.Params
Parts = tuple[Params, Params]  # (trained, frozen) parameters of a reward
POOL = {'last': heads.last_token, 'mean': heads.mean_token}


def hidden_states(
  trained: Params,
  frozen: Params,
  batch: structs.TextBatch,
  config: trunk.Config,
  dtype: DTypeLike,
  rematerialise: bool = False,
) -> jax.Array:
  """Returns the states [B, S, D] after the last block, before the final layer norm."""
  cut_hidden = batch.cut_hidden
  if cut_hidden is None:
    cut_hidden = cut_lib.below(frozen, batch.ids, batch.valid, config, dtype)
  return cut_lib.above(
    trained,
    frozen,
    cut_hidden,
    batch.ids,
    batch.valid,
    config,
    dtype,
    normalise=False,
    rematerialise=rematerialise,
  )


def cut_hidden(
  frozen: Params, batch: structs.TextBatch, *, config: trunk.Config, dtype: DTypeLike
) -> jax.Array:
  """Returns the states [B, S, D] at the cut: the outputs of the frozen blocks."""
  hidden = cut_lib.below(frozen, batch.ids, batch.valid, config, dtype)
  assert hidden is not None, 'no block is frozen'
  return hidden


def features(
  parts: Parts,
  batch: structs.TextBatch,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  pooling: str,
  rematerialise: bool = False,
) -> jax.Array:
  """Returns, for each text, the state [B, D] that the head scores."""
  return POOL[pooling](hidden_states(*parts, batch, config, dtype, rematerialise), batch.valid)


def reward(
  trained: Params,
  frozen: Params,
  batch: structs.TextBatch | structs.Features,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  pooling: str,
  rematerialise: bool = False,
) -> jax.Array:
  """Returns R̂ [B], within [-1, 1] (`heads.bounded_reward`), of texts or of their features."""
  pooled = (
    batch.pooled
    if isinstance(batch, structs.Features)
    else features(
      (trained, frozen),
      batch,
      config=config,
      dtype=dtype,
      pooling=pooling,
      rematerialise=rematerialise,
    )
  )
  return heads.bounded_reward(trained['reward_head'], pooled, config)


def both_texts(batch: structs.PairBatch) -> Any:
  """Returns the aligned, then the base texts [2B, ...], so that one forward pass serves both."""
  return jax.tree.map(lambda *x: jnp.concatenate(x), batch.aligned, batch.base)


def pair_rewards(
  trained: Params, frozen: Params, batch: structs.PairBatch, **statics: Any
) -> list[jax.Array]:
  """Returns R̂ [B] of the aligned texts, and of the base texts; `statics` as in `reward`."""
  return jnp.split(reward(trained, frozen, both_texts(batch), **statics), 2)


def score_pairs(parts: Parts, batch: structs.PairBatch, **statics: Any) -> jax.Array:
  """Returns R̂ [B, 2] of the aligned and the base texts; `statics` as in `reward`."""
  return jnp.stack(pair_rewards(*parts, batch, **statics), axis=1)


def score_texts(parts: Parts, batch: structs.TextBatch, **statics: Any) -> jax.Array:
  """Returns R̂ [B] of texts; `statics` as in `reward`."""
  return reward(*parts, batch, **statics)


def scorer(
  base: pretrained.Decoder,
  parts: Parts,
  pooling: str = 'last',
  batch_size: int = rewards.BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
) -> rewards.Reward:
  """Returns a function from texts [N] to R̂ [N], for a reward that has not been exported.

  Args:
    base: the model whose shape and tokenizer are used.
    parts: the reward's parameters.
    pooling: config.irl.pooling.
    batch_size: texts of 64 tokens scored at once (`scoring.tokens_at_once`).
    dtype: the compute type.
  """
  return rewards.trunk_scorer(
    score_texts, with_parts(base, parts), batch_size, dtype, pooling=pooling
  )


def with_parts(base: pretrained.Decoder, parts: Parts) -> pretrained.Decoder:
  """Returns `base` with the parameters of a reward, for the functions here that take parts."""
  return dataclasses.replace(base, params=cast(Params, parts))
