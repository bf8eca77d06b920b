"""Recovers one reward from demonstrations: shuffled minibatches of pairs; what has the least validation loss is kept.

Dims: N pairs, B pairs of a minibatch, D width.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import rewards
from irl_jax import scoring
from irl_jax.data import batches
from irl_jax.irl import export
from irl_jax.irl import objectives
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import reward as reward_lib
from irl_jax.irl import update as update_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.runtime import parallel
from irl_jax.training import loop as training
from irl_jax.training import micro_batch as micro_batch_lib
from irl_jax.training import optimizer

Parts = tuple[Any, Any]  # (trained, frozen) parameters of a reward
DIRECTION_PAIRS = 2000  # training pairs, of the seed's choosing, that give the first head


def initial_parts(
  base: pretrained.Pretrained,
  pairs: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  seed: int,
  dtype,
) -> Parts:
  """The base model's trunk under the first head, cut into trained and frozen.

  Raises:
    ConfigError: there are more blocks to train than the model has.
  """
  trunk = {name: base.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  try:
    parts = cut_lib.split(trunk, irl.trained_blocks)
  except ValueError as error:
    raise errors.ConfigError(f'config.irl.{error}') from error
  if irl.initial_head == 'random':
    head = heads.init_reward_head(jax.random.key(seed), base.config.hidden_size)
  else:
    rows = np.random.default_rng(seed).permutation(len(pairs))[:DIRECTION_PAIRS]
    head = difference_head(
      features(base, [pairs[row] for row in rows], irl, parts, dtype), base.config.layer_norm_eps
    )
  return parts[0] | {'reward_head': head}, parts[1]


def difference_head(pairs: pairs_lib.FeaturePairs, epsilon: float) -> dict[str, Any]:
  """The direction from the mean feature of base texts to that of aligned texts: what one step of Abbeel & Ng's (2004)
  matching of feature expectations finds. From there trunk and head learn together; from a random direction the trunk
  would have to turn to whatever that direction is, another one for each seed.
  """
  means = [jnp.mean(heads.normalise(side, epsilon), axis=0) for side in (pairs.aligned, pairs.base)]
  return jax.device_get(heads.reward_head_along(means[0] - means[1]))


def features(
  base: pretrained.Pretrained,
  pairs: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  parts: Parts,
  dtype,
) -> pairs_lib.FeaturePairs:
  """What the trunk makes of both texts of every pair."""
  model = dataclasses.replace(base, params=parts)
  return pairs_lib.compute_features(
    pairs,
    scoring.over_tokens(
      reward_lib.features,
      model,
      base.config.max_position_embeddings,
      base.config.eos_token_id,
      rewards.BATCH_SIZE,
      dtype,
      pooling=irl.pooling,
    ),
  )


def prepare(
  base: pretrained.Pretrained,
  pairs: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  parts: Parts,
  dtype,
  runtime: config_lib.Runtime = config_lib.Runtime(),
) -> pairs_lib.Pairs:
  """What every update reads: token ids, and of what is frozen, the outcome, computed here, once: the features of texts
  where the head alone is trained, else the activations at the cut, as far as `runtime.activation_cache` holds them.
  """
  if irl.trained_blocks == 0 and not irl.prefix_weight:
    return features(base, pairs, irl, parts, dtype)
  tokens = pairs_lib.token_pairs(
    pairs, base.config.eos_token_id, irl.epochs * len(pairs) // irl.batch_size
  )
  longest = tokens.buckets[-1]
  size = 2 * len(tokens) * longest * base.config.hidden_size * jnp.dtype(dtype).itemsize
  if irl.trained_blocks == -1 or size > runtime.activation_cache * 2**30:
    return tokens
  run = parallel.map_forward(update_lib.cut_hidden, config=base.config, dtype=dtype)
  frozen = parallel.replicate(cut_lib.stored(parts[1], dtype))
  batch_size = parallel.batch_size(rewards.BATCH_SIZE, len(tokens))
  of_one_length = dataclasses.replace(tokens, buckets=(longest,))
  return pairs_lib.CutPairs(tokens, score(run, frozen, of_one_length, batch_size))


def score(
  score_pairs: Callable, parts: Parts, pairs: pairs_lib.Pairs, batch_size: int
) -> np.ndarray:
  """What `score_pairs` gives, such as R̂ [N, 2], of the aligned and of the base text of every pair."""
  blocks = pairs_lib.blocks_of_rows(len(pairs), batch_size)
  pending = [score_pairs(parts, parallel.shard(pairs.batch(rows))) for rows in blocks]
  return np.concatenate([parallel.gather(scores) for scores in pending])[: len(pairs)]


def pairs_at_once(pairs: pairs_lib.Pairs, most: int, config: gpt_neox.GPTNeoXConfig, dtype) -> int:
  """Pairs of one forward pass: `most`, or on a CPU as many as its cache is near to."""
  fitting = micro_batch_lib.size(0, config, 2, max(pairs.padded), dtype)
  return parallel.batch_size(fitting * parallel.device_count() or most, most)


def validate(scores: np.ndarray, irl: config_lib.IRL) -> dict[str, float]:
  """Figures of the validation pairs, from their R̂ [N, 2]; the loss is that of the whole texts, a pair at a time."""
  delta = scores[:, 0] - scores[:, 1]
  return {
    'validation/loss': float(
      np.mean(objectives.objective(irl.objective, irl.margin, irl.temperature)(delta))
    ),
    'validation/margin': float(delta.mean()),
    'validation/pairwise_accuracy': float(np.mean((delta > 0) + 0.5 * (delta == 0))),
  }


def compile_functions(
  config: gpt_neox.GPTNeoXConfig,
  irl: config_lib.IRL,
  updates: int,
  dtype,
  runtime: config_lib.Runtime = config_lib.Runtime(),
) -> tuple[Callable, Callable, Any]:
  """Maps `update` and `score_pairs` over the devices (they compile when first called); returns the optimiser too."""
  tx, _ = optimizer.adamw(
    learning_rate=irl.learning_rate,
    updates=updates,
    schedule=irl.schedule,
    warmup=irl.warmup_steps,
    weight_decay=irl.weight_decay,
  )
  statics = dict(config=config, dtype=dtype)
  saving = dict(micro_batch=runtime.micro_batch, rematerialise=runtime.rematerialise)
  return (
    parallel.map_update(update_lib.update, irl=irl, tx=tx, updates=updates, **saving, **statics),
    parallel.map_forward(update_lib.score_pairs, pooling=irl.pooling, **statics),
    tx,
  )


def train_parts(
  base: pretrained.Pretrained,
  pairs: Sequence[pairs_lib.Pair],
  validation: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  seed: int,
  folder: pathlib.Path,
  *,
  dtype=jnp.float32,
  runtime: config_lib.Runtime = config_lib.Runtime(),
  log: Callable[[int, dict[str, float]], None],
  truncate_log: Callable[[int], None] = lambda step: None,
  progress: Callable = iter,
  report: Callable[[np.ndarray], dict[str, float]] = lambda scores: {},
  prompts: Sequence[Hashable] | None = None,
) -> Parts:
  """Recovers a reward by IRL; continues from the newest checkpoint in `folder`.

  Args:
    base: the language model that the reward starts from.
    pairs: those that are trained on.
    validation: those whose loss selects the update.
    irl: hyper-parameters.
    seed: of the pairs that give the head's first direction (or of that direction), and of the order of the data.
    folder: of the checkpoints.
    dtype: of computation.
    runtime: how many checkpoints stay, how many bad gradients in a row are borne, how memory is saved.
    log: called at every look at the validation pairs with the number of the update and metrics.
    truncate_log: called with the first update that this run will do.
    progress: wraps the iterable of updates.
    report: more figures to log, of R̂ [N, 2] of the validation pairs; nothing is selected by them.
    prompts: which prompt every training pair is of, for an objective that sees all samples of a prompt; None: any two
      pairs may be compared.

  Returns:
    The reward of least validation loss, in its parts on the host.

  Raises:
    ConfigError: there are more blocks to train than the model has.
    InputError: there are no pairs, or no prompt has the two that the objective needs.
    DivergedError: a loss is not finite, or too many gradients in a row are not.
  """
  if not pairs or not validation:
    raise errors.InputError(
      f'IRL has {len(pairs)} training and {len(validation)} validation pairs of two different '
      'texts and needs both: give more prompts, or an aligned model that differs from the base'
    )
  trained, frozen = initial_parts(base, pairs, irl, seed, dtype)
  pairs, validation = (
    prepare(base, some, irl, (trained, frozen), dtype, runtime) for some in (pairs, validation)
  )
  if irl.samples_together > 1:
    pairs = pairs_lib.by_prompt(pairs, prompts, irl.samples_together)
  batch_size = parallel.batch_size(
    irl.batch_size // irl.samples_together, len(pairs)
  )  # pairs, or whole prompts
  per_epoch = max(len(pairs) // batch_size, 1)
  plan = training.Plan(
    irl.epochs * per_epoch, per_epoch, irl.evaluate_every or per_epoch, irl.checkpoint_every
  )
  rows_of = batches.order_by_bucket(pairs.padded, batch_size, seed)
  update, score_pairs, tx = compile_functions(base.config, irl, plan.updates, dtype, runtime)
  state = optimizer.placed_state(trained, tx)
  placed = parallel.replicate(cut_lib.stored(frozen, dtype))

  at_once = pairs_at_once(validation, batch_size * irl.samples_together, base.config, dtype)

  def look(params) -> dict[str, float]:
    scores = score(score_pairs, (params, placed), validation, at_once)
    return validate(scores, irl) | (report(scores) if np.isfinite(scores).all() else {})

  best = training.fit(
    'irl',
    training.Learner(state, parallel.replicate(trained)),
    placed,
    update,
    lambda step: pairs.batch(rows_of(step)),
    look,
    plan,
    folder,
    runtime,
    log=log,
    truncate_log=truncate_log,
    progress=progress,
  )
  return jax.device_get((best, frozen))


def train(
  base: pretrained.Pretrained,
  pairs: Sequence[pairs_lib.Pair],
  validation: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  seed: int,
  folder: pathlib.Path,
  **more,
) -> pretrained.Pretrained:
  """`train_parts`, as a model that can be saved: the uncentred reward (its zero is 0).

  Raises:
    ConfigError: this reward has no such form.
  """
  export.check(irl)
  return export.reward_model(
    base, *train_parts(base, pairs, validation, irl, seed, folder, **more), zero=0.0
  )


def recentred(model: pretrained.Pretrained, zero: float) -> pretrained.Pretrained:
  """The same uncentred reward with its 0 at `zero`."""
  head = {'direction': model.params['score']['kernel'][:, 0]}
  return export.reward_model(model, model.params | {'reward_head': head}, {}, zero)
