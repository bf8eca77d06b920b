"""One update of IRL on whole texts.

Dims: B pairs, S padded length.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
import optax

from irl_jax import config as config_lib
from irl_jax import structs
from irl_jax.irl import objectives
from irl_jax.irl import reward as reward_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.training import gradients
from irl_jax.training import micro_batch as micro_batch_lib
from irl_jax.training import optimizer


def both_texts(batch: structs.PairBatch) -> structs.TextBatch | structs.Features:
  """Aligned texts, then base texts [2B, ...]: one forward pass for both."""
  return jax.tree.map(lambda *x: jnp.concatenate(x), batch.aligned, batch.base)


def rewards(trained, frozen, batch: structs.PairBatch, **statics) -> tuple[jax.Array, jax.Array]:
  """R̂ [B] of the aligned and of the base texts."""
  return jnp.split(reward_lib.reward(trained, frozen, both_texts(batch), **statics), 2)


def prefix_rewards(
  trained,
  frozen,
  batch: structs.PairBatch,
  *,
  config: gpt_neox.GPTNeoXConfig,
  dtype,
  pooling: str,
  rematerialise: bool,
) -> list[jax.Array]:
  """R̂ [B, S] of every prefix of the aligned and of the base texts."""
  hidden = reward_lib.hidden_states(
    trained, frozen, both_texts(batch), config, dtype, rematerialise
  )
  return jnp.split(heads.bounded_reward(trained['reward_head'], hidden, config.layer_norm_eps), 2)


def compared_prefixes(batch: structs.PairBatch, samples: int) -> jax.Array:
  """Which prefixes [B, S] of the aligned texts are compared with base texts cut to the same length: what the two models
  would have written, had they been stopped there.

  `samples` pairs in a row are of one prompt. Prefixes count from where not all of the prompt's texts are the same, as
  long as there are base texts to compare with: one, or two for a mean over several.
  """
  together = lambda x: x.reshape(-1, samples, x.shape[1])
  texts = jnp.concatenate(
    [together(jnp.where(side.valid, side.ids, -1)) for side in (batch.aligned, batch.base)], 1
  )
  differs = jnp.cumsum(jnp.any(texts != texts[:, :1], axis=1), axis=1) > 0
  enough = jnp.sum(together(present_prefixes(batch)), axis=1) >= min(samples, 2)
  return batch.aligned.valid & jnp.repeat(differs & enough, samples, axis=0)


def present_prefixes(batch: structs.PairBatch) -> jax.Array:
  """Which prefixes of the base texts there are [B, S]."""
  return batch.base.valid & (batch.weight > 0)[:, None]


def at_ends(prefixes: Sequence[jax.Array], batch: structs.PairBatch) -> list[jax.Array]:
  """R̂ [B] of the whole aligned and base texts, out of those of their prefixes [B, S]."""
  last = jax.nn.one_hot(jnp.sum(both_texts(batch).valid, axis=1) - 1, prefixes[0].shape[1])
  return [jnp.sum(side * end, axis=1) for side, end in zip(prefixes, jnp.split(last, 2))]


def losses(
  aligned: jax.Array,
  base: jax.Array,
  present: jax.Array,
  irl: config_lib.IRL,
  progress: jax.Array | float,
) -> jax.Array:
  """The loss [B, ...] of every pair by the R̂ of its texts; `present` says which base texts there are."""
  if irl.samples_together > 1:
    return objectives.maximum_entropy(aligned, base, present, irl.samples_together, irl.temperature)
  return objectives.objective(irl.objective, irl.margin, irl.temperature, progress)(aligned - base)


def prefix_losses(
  prefixes: Sequence[jax.Array],
  batch: structs.PairBatch,
  irl: config_lib.IRL,
  progress: jax.Array | float,
) -> jax.Array:
  """The mean loss [B] over the prefixes of every pair that are compared; 0 where none is."""
  counted = compared_prefixes(batch, irl.samples_together)
  of_prefixes = losses(*prefixes, present_prefixes(batch), irl, progress)
  return jnp.sum(of_prefixes * counted, axis=1) / jnp.maximum(jnp.sum(counted, axis=1), 1)


def total_loss(
  trained,
  frozen,
  batch: structs.PairBatch,
  *,
  config: gpt_neox.GPTNeoXConfig,
  dtype,
  irl: config_lib.IRL,
  progress: jax.Array | float = 1.0,
  rematerialise: bool = False,
) -> tuple[jax.Array, gradients.Totals]:
  """The objective and what goes with it, summed over the pairs.

  A pair's loss is that of its whole texts, and with irl.prefix_weight > 0, so much of it, the mean over its prefixes.
  `irl.samples_together` pairs in a row are of one prompt; `progress` is the share of the updates that are done.
  """
  statics = dict(config=config, dtype=dtype, pooling=irl.pooling, rematerialise=rematerialise)
  prefixes = prefix_rewards(trained, frozen, batch, **statics) if irl.prefix_weight else None
  aligned, base = (
    at_ends(prefixes, batch) if irl.prefix_weight else rewards(trained, frozen, batch, **statics)
  )
  value = losses(aligned, base, batch.weight > 0, irl, progress)
  if irl.prefix_weight:
    of_prefixes = prefix_losses(prefixes, batch, irl, progress)
    value = (1 - irl.prefix_weight) * value + irl.prefix_weight * of_prefixes
  delta = aligned - base
  sums = {'loss': value, 'margin': delta, 'pairwise_accuracy': (delta > 0) + 0.5 * (delta == 0)}
  sums = {name: jnp.sum(values * batch.weight) for name, values in sums.items()}
  return sums['loss'], gradients.Totals(jnp.sum(batch.weight), sums)


def update(
  state: structs.TrainState,
  frozen,
  batch: structs.PairBatch,
  *,
  irl: config_lib.IRL,
  updates: int,
  tx: optax.GradientTransformation,
  axis_name: str | None,
  micro_batch: int = 0,
  **statics,
) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """One optimiser step of `updates`, on a minibatch of pairs; at most `micro_batch` go forward and backward at once, 0
  leaves their number to `micro_batch.size`.
  """
  if isinstance(batch.aligned, structs.TextBatch):
    micro_batch = micro_batch_lib.size(
      micro_batch, statics['config'], 2, batch.aligned.ids.shape[1], statics['dtype']
    )
  loss = functools.partial(total_loss, irl=irl, progress=state.step / updates, **statics)
  gradient, metrics = gradients.of_mean(
    loss, state.params, frozen, batch, axis_name, micro_batch, irl.samples_together
  )
  state, applied = optimizer.apply_gradients(state, gradient, tx)
  return state, metrics | applied


def cut_hidden(
  frozen, batch: structs.PairBatch, *, config: gpt_neox.GPTNeoXConfig, dtype
) -> jax.Array:
  """What the frozen blocks make of the aligned and of the base texts [B, 2, S, D]."""
  both = both_texts(batch)
  hidden = cut_lib.below(frozen, both.ids, both.valid, config, dtype)
  return jnp.stack(jnp.split(hidden, 2), axis=1)


def score_pairs(parts, batch: structs.PairBatch, **statics) -> jax.Array:
  """R̂ [B, 2] of the aligned and of the base texts; parts is (trained, frozen)."""
  return jnp.stack(rewards(*parts, batch, **statics), axis=1)
