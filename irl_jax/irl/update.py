"""One update of max-margin IRL on whole texts, and the reward that it trains.

Dims: B pairs, S padded length, D width.
"""

import jax
import jax.numpy as jnp
import optax

from irl_jax import config as config_lib
from irl_jax import optimizer
from irl_jax import parallel
from irl_jax import structs
from irl_jax.irl import objectives
from irl_jax.models import gpt_neox
from irl_jax.models import heads


def reward(trained, frozen, batch: structs.TextBatch, config: gpt_neox.GPTNeoXConfig, dtype) -> jax.Array:
  """R̂ [B], within [-1, 1], at the last token of each text; see heads.bounded_reward."""
  cut_hidden = gpt_neox.below_cut(frozen, batch.ids, batch.valid, config, dtype)
  hidden = gpt_neox.above_cut(trained, frozen, cut_hidden, batch.ids, batch.valid, config, dtype, normalise=False)
  return heads.bounded_reward(trained['reward_head'], heads.last_token(hidden, batch.valid), config.layer_norm_eps)


def differences(trained, frozen, batch: structs.PairBatch, config: gpt_neox.GPTNeoXConfig, dtype) -> jax.Array:
  """Δ [B] = R̂(aligned) - R̂(base), both in one forward pass."""
  both = jax.tree.map(lambda *x: jnp.concatenate(x), batch.aligned, batch.base)
  aligned, base = jnp.split(reward(trained, frozen, both, config, dtype), 2)
  return aligned - base


def loss(trained, frozen, batch: structs.PairBatch, *, config: gpt_neox.GPTNeoXConfig, dtype, irl: config_lib.IRL,
         axis_name: str | None) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The objective averaged over the pairs of all devices, and what goes with it."""
  delta = differences(trained, frozen, batch, config, dtype)
  mean = lambda x: parallel.global_mean(x, batch.weight, axis_name)
  value = mean(objectives.objective(irl.objective, irl.margin, irl.temperature)(delta))
  return value, {'loss': value, 'margin': mean(delta), 'pairwise_accuracy': mean((delta > 0) + 0.5 * (delta == 0))}


def update(state: structs.TrainState, frozen, batch: structs.PairBatch, *, config: gpt_neox.GPTNeoXConfig, dtype,
           irl: config_lib.IRL, tx: optax.GradientTransformation, axis_name: str | None
           ) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """One optimiser step on a minibatch of pairs."""
  statics = dict(config=config, dtype=dtype, irl=irl, axis_name=axis_name)
  gradients, metrics = jax.grad(lambda trained: loss(trained, frozen, batch, **statics), has_aux=True)(state.params)
  state, applied = optimizer.apply_gradients(state, parallel.average_gradients(gradients, axis_name), tx)
  return state, metrics | applied


def score_pairs(parts, batch: structs.PairBatch, *, config: gpt_neox.GPTNeoXConfig, dtype) -> jax.Array:
  """Δ [B] of pairs; parts is (trained, frozen)."""
  return differences(*parts, batch, config, dtype)


def score_texts(parts, batch: structs.TextBatch, *, config: gpt_neox.GPTNeoXConfig, dtype) -> jax.Array:
  """R̂ [B] of texts; parts is (trained, frozen)."""
  return reward(*parts, batch, config, dtype)
