"""The reward that IRL trains: which state of a text it reads, and R̂ of it.

Dims: B texts, S padded length, D width.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from irl_jax import rewards
from irl_jax import structs
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.models import pretrained

POOL = {'last': heads.last_token, 'mean': heads.mean_token}


def hidden_states(
  trained,
  frozen,
  batch: structs.TextBatch,
  config: gpt_neox.GPTNeoXConfig,
  dtype,
  rematerialise: bool = False,
) -> jax.Array:
  """States [B, S, D] of every token after the last block, not normalised."""
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


def features(
  parts,
  batch: structs.TextBatch,
  *,
  config: gpt_neox.GPTNeoXConfig,
  dtype,
  pooling: str,
  rematerialise: bool = False,
) -> jax.Array:
  """The state [B, D] of each text that the head scores; parts is (trained, frozen)."""
  return POOL[pooling](hidden_states(*parts, batch, config, dtype, rematerialise), batch.valid)


def reward(
  trained,
  frozen,
  batch: structs.TextBatch | structs.Features,
  *,
  config: gpt_neox.GPTNeoXConfig,
  dtype,
  pooling: str,
  rematerialise: bool = False,
) -> jax.Array:
  """R̂ [B], within [-1, 1] (heads.bounded_reward), of texts or of their features."""
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
  return heads.bounded_reward(trained['reward_head'], pooled, config.layer_norm_eps)


def of_texts(parts, batch: structs.TextBatch, **statics) -> jax.Array:
  """`reward` of texts; parts is (trained, frozen)."""
  return reward(*parts, batch, **statics)


def scorer(
  base: pretrained.Pretrained,
  parts: tuple[Any, Any],
  pooling: str = 'last',
  batch_size: int = rewards.BATCH_SIZE,
  dtype=jnp.float32,
) -> rewards.Reward:
  """A reward still in its parts, (trained, frozen), as texts -> scores [N]; `base` gives shape and tokenizer."""
  return rewards.trunk_scorer(
    of_texts, dataclasses.replace(base, params=parts), batch_size, dtype, pooling=pooling
  )
