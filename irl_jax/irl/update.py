"""One update of max-margin IRL on whole texts.

Dims: B pairs, S padded length.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from irl_jax import config as config_lib
from irl_jax import optimizer
from irl_jax import parallel
from irl_jax import structs
from irl_jax.irl import objectives
from irl_jax.irl import reward as reward_lib
from irl_jax.models import gpt_neox
from irl_jax.models import heads


def both_texts(batch: structs.PairBatch) -> structs.TextBatch | structs.Features:
  """Aligned texts, then base texts [2B, ...]: one forward pass for both."""
  return jax.tree.map(lambda *x: jnp.concatenate(x), batch.aligned, batch.base)


def rewards(trained, frozen, batch: structs.PairBatch, **statics) -> tuple[jax.Array, jax.Array]:
  """R̂ [B] of the aligned and of the base texts."""
  return jnp.split(reward_lib.reward(trained, frozen, both_texts(batch), **statics), 2)


def prefix_rewards(trained, frozen, batch: structs.PairBatch, *, config: gpt_neox.GPTNeoXConfig, dtype, pooling: str
                   ) -> tuple[jax.Array, jax.Array, jax.Array]:
  """R̂ of every prefix of the aligned and of the base texts [B, S] each, and where two prefixes are of a length and
  differ [B, S]: each is what the two models would have written, had they been stopped there.
  """
  hidden = reward_lib.hidden_states(trained, frozen, both_texts(batch), config, dtype)
  aligned, base = jnp.split(heads.bounded_reward(trained['reward_head'], hidden, config.layer_norm_eps), 2)
  in_both = batch.aligned.valid & batch.base.valid
  differs = jnp.cumsum(in_both & (batch.aligned.ids != batch.base.ids), axis=1) > 0
  return aligned, base, in_both & differs


def loss(trained, frozen, batch: structs.PairBatch, *, config: gpt_neox.GPTNeoXConfig, dtype, irl: config_lib.IRL,
         axis_name: str | None) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The objective averaged over the pairs of all devices, and what goes with it.

  A pair's loss is that of its whole texts, and with irl.prefix_weight > 0, so much of it, the mean over its prefixes.
  """
  statics = dict(config=config, dtype=dtype, pooling=irl.pooling)
  objective = objectives.objective(irl.objective, irl.margin, irl.temperature)
  mean = functools.partial(parallel.global_mean, mask=batch.weight, axis_name=axis_name)
  if irl.prefix_weight:
    aligned, base, counted = prefix_rewards(trained, frozen, batch, **statics)
    ends = jnp.split(jax.nn.one_hot(jnp.sum(both_texts(batch).valid, axis=1) - 1, aligned.shape[1]), 2)
    delta = jnp.sum(aligned * ends[0] - base * ends[1], axis=1)
    of_prefixes = jnp.sum(objective(aligned - base) * counted, axis=1) / jnp.maximum(jnp.sum(counted, axis=1), 1)
    value = mean((1 - irl.prefix_weight) * objective(delta) + irl.prefix_weight * of_prefixes)
  else:
    aligned, base = rewards(trained, frozen, batch, **statics)
    delta = aligned - base
    value = mean(objective(delta))
  return value, {'loss': value, 'margin': mean(delta), 'pairwise_accuracy': mean((delta > 0) + 0.5 * (delta == 0))}


def update(state: structs.TrainState, frozen, batch: structs.PairBatch, *, config: gpt_neox.GPTNeoXConfig, dtype,
           irl: config_lib.IRL, tx: optax.GradientTransformation, axis_name: str | None
           ) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """One optimiser step on a minibatch of pairs."""
  statics = dict(config=config, dtype=dtype, irl=irl, axis_name=axis_name)
  gradients, metrics = jax.grad(lambda trained: loss(trained, frozen, batch, **statics), has_aux=True)(state.params)
  state, applied = optimizer.apply_gradients(state, parallel.average_gradients(gradients, axis_name), tx)
  return state, metrics | applied


def score_pairs(parts, batch: structs.PairBatch, **statics) -> jax.Array:
  """R̂ [B, 2] of the aligned and of the base texts; parts is (trained, frozen)."""
  return jnp.stack(rewards(*parts, batch, **statics), axis=1)
