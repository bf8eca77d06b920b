"""Training with the faults of the paper's released code; without them, as in the library.

Dims: B texts or pairs of a batch, N texts.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from irl_jax import config as config_lib
from irl_jax import rewards
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.irl import loop
from irl_jax.irl import objectives
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import prepare
from irl_jax.irl import reward as reward_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.runtime import parallel
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import full_texts
from irl_jax.training import gradients
from irl_jax.training import optimizer

Scored = dict[str, np.ndarray]  # uncentred R̂ of each set of texts
Sets = dict[str, tuple[Sequence[str], np.ndarray]]  # texts and their r*, by name


@dataclasses.dataclass(frozen=True)
class Variant:
  """One way to train; by default without a fault."""

  what: str
  seen: str = 'text'  # the training input: 'text', its last 'token', or its last 'character'
  accumulated: bool = False  # whether gradients are never zeroed
  bounded: bool = True
  trained: bool = True


AT_ONCE = '1 to 4 at once'
VARIANTS = {
  'no fault': Variant('the row that all others are compared with'),
  'no training': Variant('the initial head, before any update', trained=False),
  '1 last character': Variant('trained on the last character only', seen='character'),
  '1 last token': Variant('trained on the last token only', seen='token'),
  '2 accumulated gradients': Variant(
    'gradients are never zeroed: each step takes the sum so far', accumulated=True
  ),
  '3 no bound': Variant(
    "head of any length, final layer norm's gain and bias trained", bounded=False
  ),
  AT_ONCE: Variant(
    'last character, accumulated, no bound, uncentred 0',
    seen='character',
    accumulated=True,
    bounded=False,
  ),
}


def encode(
  base: pretrained.Pretrained, rows: Sequence[dict[str, Any]], irl: config_lib.IRL, seen: str
) -> list[pairs_lib.Pair]:
  """Tokenises demonstrations.

  Fault 1 keeps only their end: the released code indexed a string with -1.
  """
  if seen == 'character':
    ends = ([text[-1:] for text in full_texts(rows, side)] for side in ('aligned', 'base'))
    return pairs_lib.encode_pairs(base, *ends, irl.max_tokens)
  pairs = recovery.encode_demonstrations(base, rows, irl)
  return [(aligned[-1:], other[-1:]) for aligned, other in pairs] if seen == 'token' else pairs


@functools.cache
def accumulating(tx: optax.GradientTransformation) -> optax.GradientTransformation:
  """Fault 2: gives `tx` the sum of all gradients so far, because nothing sets it to zero."""
  return optax.chain(optax.trace(decay=1.0), tx)


def unbounded_reward(
  trained, frozen, batch: structs.TextBatch, *, config: gpt_neox.GPTNeoXConfig, dtype, pooling: str
) -> jax.Array:
  """Fault 3: returns R̂ [B] = <w, g normalise(h) + b> with w of any length.

  Gain g and bias b are trained with the rest.
  """
  cut_hidden = cut_lib.below(frozen, batch.ids, batch.valid, config, dtype)
  hidden = cut_lib.above(trained, frozen, cut_hidden, batch.ids, batch.valid, config, dtype)
  return (
    reward_lib.POOL[pooling](hidden, batch.valid).astype(jnp.float32)
    @ trained['reward_head']['direction']
  )


def reward_of(variant: Variant) -> Callable:
  """Returns the function (trained, frozen, batch) -> R̂ [B]."""
  return reward_lib.reward if variant.bounded else unbounded_reward


def both(trained, frozen, batch: structs.PairBatch, reward: Callable, **statics) -> list[jax.Array]:
  """Returns R̂ [B] of the aligned and of the base texts."""
  return jnp.split(reward(trained, frozen, reward_lib.both_texts(batch), **statics), 2)


def update(
  state: structs.TrainState,
  frozen,
  batch: structs.PairBatch,
  *,
  reward: Callable,
  irl: config_lib.IRL,
  tx: optax.GradientTransformation,
  axis_name: str | None,
  **statics,
) -> tuple[structs.TrainState, Any]:
  """Takes one step on whole texts, as irl/update.py does, for any reward."""

  def total_loss(trained, frozen, pairs):
    aligned, base = both(trained, frozen, pairs, reward, **statics)
    losses = objectives.pair_losses(aligned - base, irl)
    return jnp.sum(losses * pairs.weight), gradients.Totals(jnp.sum(pairs.weight), {})

  gradient, _ = gradients.of_mean(total_loss, state.params, frozen, batch, axis_name)
  return optimizer.apply_gradients(state, gradient, tx)


def score_pairs(parts, batch: structs.PairBatch, *, reward: Callable, **statics) -> jax.Array:
  """Returns R̂ [B, 2] of the aligned and of the base texts; parts is (trained, frozen)."""
  return jnp.stack(both(*parts, batch, reward, **statics), axis=1)


def of_texts(parts, batch: structs.TextBatch, *, reward: Callable, **statics) -> jax.Array:
  """Returns `reward` [B] of texts; parts is (trained, frozen)."""
  return reward(*parts, batch, **statics)


def train(
  base: pretrained.Pretrained,
  training: Sequence[pairs_lib.Pair],
  validation: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  variant: Variant,
  seed: int,
  dtype=jnp.float32,
) -> reward_lib.Parts:
  """Trains as `irl.loop.train` does, without checkpoints and log; validates after every epoch.

  Without a fault the parameters are the same.
  """
  trained, frozen = prepare.initial_parts(base, training, irl, seed, dtype)
  if not variant.trained:
    return trained, frozen
  training, validation = (
    pairs_lib.pair_dataset(pairs, base.config.eos_token_id) for pairs in (training, validation)
  )
  batch_size = parallel.batch_size(irl.batch_size, len(training))
  per_epoch = max(len(training) // batch_size, 1)
  _, _, tx = loop.compile_functions(base.config, irl, irl.epochs * per_epoch, dtype)
  tx = accumulating(tx) if variant.accumulated else tx
  statics = dict(reward=reward_of(variant), config=base.config, dtype=dtype, pooling=irl.pooling)
  step, scores_of = (
    parallel.map_update(update, irl=irl, tx=tx, **statics),
    parallel.map_forward(score_pairs, **statics),
  )
  state, frozen = optimizer.placed_state(trained, tx), parallel.replicate(frozen)
  best, best_loss = trained, np.inf
  rows_of = batches.order_by_bucket(training.padded, batch_size, seed)
  for number in range(irl.epochs * per_epoch):
    state, _ = step(state, frozen, parallel.shard(training.batch(rows_of(number))))
    if (number + 1) % per_epoch == 0:
      scores = prepare.over_pairs(scores_of, (state.params, frozen), validation, batch_size)
      loss = loop.validation_metrics(scores, irl)['validation/loss']
      if loss < best_loss:
        best, best_loss = jax.device_get(state.params), loss
  return best, jax.device_get(frozen)


def score(
  base: pretrained.Pretrained,
  parts: reward_lib.Parts,
  irl: config_lib.IRL,
  variant: Variant,
  sets: Sets,
  dtype=jnp.float32,
) -> Scored:
  """Returns the uncentred R̂ of every set of texts."""
  scorer = rewards.trunk_scorer(
    of_texts,
    dataclasses.replace(base, params=parts),
    dtype=dtype,
    reward=reward_of(variant),
    pooling=irl.pooling,
  )
  return {name: np.asarray(scorer(texts), np.float64) for name, (texts, _) in sets.items()}
