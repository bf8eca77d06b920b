"""The training loop of IRL: one reward from demonstrations, selected by its validation loss.

Dims: N pairs, G groups of pairs.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
import pathlib
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np
import optax

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.irl import frozen as frozen_lib
from irl_jax.irl import labels as labels_lib
from irl_jax.irl import objectives
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import prefixes
from irl_jax.irl import prepare
from irl_jax.irl import reward as reward_lib
from irl_jax.irl import update as update_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding
from irl_jax.training import arguments
from irl_jax.training import fingerprint
from irl_jax.training import loop as loop_lib
from irl_jax.training import micro_batch as micro_batch_lib
from irl_jax.training import optimizer


def pairs_at_once(
  dataset: pairs_lib.PairDataset, most: int, config: trunk.Config, dtype: DTypeLike
) -> int:
  """Returns the number of pairs in one forward pass: `most`, or on a CPU what fits in its cache."""
  fitting = micro_batch_lib.size(0, config, 2, max(dataset.padded), dtype)
  return parallel.batch_size(fitting * parallel.device_count() or most, most)


def validation_metrics(
  scores: np.ndarray,
  irl: config_lib.IRL,
  labels: labels_lib.Labels | None = None,
  of_prefixes: np.ndarray | None = None,
) -> dict[str, float]:
  """Returns the validation metrics; the loss is the one that training minimises.

  Args:
    scores: R̂ of the whole texts of N pairs [N, 2].
    irl: hyper-parameters.
    labels: those of the pairs; None: the aligned texts are better.
    of_prefixes: each pair's mean loss over its prefixes [N], with weight irl.prefix_weight in the
      result; None: only whole texts count.
  """
  delta = scores[:, 0] - scores[:, 1]
  label = None if labels is None else labels_lib.of_whole_texts(labels)
  loss = np.mean(objectives.pair_losses(delta, irl, label=label))
  if of_prefixes is not None:
    loss = (1 - irl.prefix_weight) * loss + irl.prefix_weight * np.mean(of_prefixes)
  return {
    'validation/loss': float(loss),
    'validation/margin': float(delta.mean()),
    'validation/pairwise_accuracy': float(np.mean((delta > 0) + 0.5 * (delta == 0))),
  }


def compile_functions(
  config: trunk.Config,
  irl: config_lib.IRL,
  updates: int,
  dtype: DTypeLike,
  runtime: config_lib.Runtime = config_lib.Runtime(),
) -> tuple[Callable, Callable, optax.GradientTransformation]:
  """Returns the update and the pass over validation pairs, both mapped, and the optimiser.

  Both compile when they are first called. The pass returns R̂ of both texts [B, 2], and if prefixes
  are compared, their loss as a third column.
  """
  tx, _ = optimizer.adamw(
    learning_rate=irl.learning_rate,
    updates=updates,
    schedule=irl.schedule,
    warmup=irl.warmup_steps,
    weight_decay=irl.weight_decay,
  )
  statics: dict[str, Any] = dict(config=config, dtype=dtype)
  saving = dict(micro_batch=runtime.micro_batch, rematerialise=runtime.rematerialise)
  if irl.prefix_weight:
    validation = parallel.map_forward(prefixes.validation, irl=irl, **statics)
  else:
    validation = parallel.map_forward(reward_lib.score_pairs, pooling=irl.pooling, **statics)
  update = parallel.map_update(
    update_lib.update, irl=irl, tx=tx, updates=updates, **saving, **statics
  )
  return update, validation, tx


def train(
  base: pretrained.Decoder,
  pairs: Sequence[pairs_lib.Pair],
  validation: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  seed: int,
  folder: pathlib.Path,
  *,
  dtype: DTypeLike = jnp.float32,
  runtime: config_lib.Runtime = config_lib.Runtime(),
  log: Callable[[int, dict[str, float]], None],
  truncate_log: Callable[[int], None] = lambda step: None,
  progress: Callable = iter,
  report: Callable[[np.ndarray], dict[str, float]] = lambda scores: {},
  prompts: Sequence[Hashable] | None = None,
  outputs: frozen_lib.FrozenOutputs | None = None,
  labels: Sequence[labels_lib.Labels] | None = None,
) -> reward_lib.Parts:
  """Recovers a reward by IRL; continues from the newest checkpoint in `folder`.

  Args:
    base: the language model that the reward starts from.
    pairs: training pairs.
    validation: pairs whose loss selects the update.
    irl: hyper-parameters.
    seed: random seed for the initial head and the order of the data.
    folder: where checkpoints are saved.
    dtype: the compute type.
    runtime: how parameters are placed, checkpoints kept, and memory saved.
    log: called after every validation with the number of the update and its metrics.
    truncate_log: called with the number of the first update of this run.
    progress: wraps the iterable of updates.
    report: computes more metrics to log, from R̂ [N, 2] of the validation pairs; not used otherwise.
    prompts: the prompt of every training pair, for objectives of groups; None: any pairs form one.
    outputs: the frozen layers' outputs, shared with trainings of the same base, irl and dtype.
    labels: those of the training pairs, and those of the validation pairs: for each pair an array
      with a probability for every token of its longer text; None, with irl.pair_label 'source'.

  Returns:
    (trained, frozen) parameters of the reward with the lowest validation loss, on the host.

  Raises:
    ConfigError: an argument is wrong, or the folder is that of another training run.
    InputError: there are no pairs, one is not token ids of the model, or no prompt has the two
      pairs that the objective needs.
    DivergedError: a loss is not finite, or too many gradients in a row are not.
  """
  arguments.check_training(seed, folder, dtype, runtime, log, truncate_log, progress)
  arguments.check_functions(report=report)
  pairs, validation = _checked(base, pairs, validation, irl, prompts)
  seed = int(seed)
  outputs = outputs or frozen_lib.FrozenOutputs(base, irl, dtype, runtime)
  hooks = loop_lib.Hooks(log, truncate_log, progress)
  run_fingerprint = fingerprint_of(base, pairs, validation, irl, seed, prompts, labels)
  with sharding.using(runtime.sharding):
    parts, data, held = _start(base, pairs, validation, irl, seed, dtype, prompts, outputs, labels)
    task, state, plan = _task(base.config, parts, data, held, irl, seed, dtype, runtime, report)
    learner = _learner(state, parts, irl)
    best = loop_lib.fit(task, learner, plan, folder, runtime, hooks, run_fingerprint)
  return parallel.to_host((best, parts[1]))


def _start(
  base: pretrained.Decoder,
  pairs: Sequence[pairs_lib.Pair],
  validation: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  seed: int,
  dtype: DTypeLike,
  prompts: Sequence[Hashable] | None,
  outputs: frozen_lib.FrozenOutputs,
  labels: Sequence[labels_lib.Labels] | None,
) -> tuple[reward_lib.Parts, pairs_lib.PairDataset, pairs_lib.PairDataset]:
  """Returns the initial parameters, the training data and the validation data."""
  of_pairs, of_held = _checked_labels(labels, irl, pairs, validation)
  outputs.check(base, irl, dtype)
  known, known_of_held = (outputs.of(pairs_lib.texts_of(some)) for some in (pairs, validation))
  dataset = prepare.training_data(base, pairs, irl, known, of_pairs)
  return (
    prepare.initial_parts(base, pairs, irl, seed, dtype, known, of_pairs),
    pairs_lib.by_prompt(dataset, prompts, irl.group_size),
    prepare.training_data(base, validation, irl, known_of_held, of_held),
  )


def _task(
  config: trunk.Config,
  parts: reward_lib.Parts,
  dataset: pairs_lib.PairDataset,
  held: pairs_lib.PairDataset,
  irl: config_lib.IRL,
  seed: int,
  dtype: DTypeLike,
  runtime: config_lib.Runtime,
  report: Callable[[np.ndarray], dict[str, float]],
) -> tuple[loop_lib.Task, structs.TrainState, loop_lib.Plan]:
  """Returns what is trained, its first state, and the schedule."""
  groups = parallel.batch_size(irl.batch_size // irl.group_size, len(dataset))
  groups_of = batches.order_by_bucket(dataset.padded, groups, seed)
  plan = _plan(irl, per_epoch=max(len(dataset) // groups, 1))
  update, over_validation, tx = compile_functions(config, irl, plan.updates, dtype, runtime)
  placed = parallel.replicate(cut_lib.stored(parts[1], dtype), donated=False)
  at_once = pairs_at_once(held, groups * irl.group_size, config, dtype)

  def validate(params: reward_lib.Params) -> dict[str, float]:
    results = prepare.over_pairs(over_validation, (params, placed), held, at_once)
    scores, of_prefixes = results[:, :2], results[:, 2] if irl.prefix_weight else None
    reported = arguments.reported(report, scores) if np.isfinite(scores).all() else {}
    return validation_metrics(scores, irl, held.labels, of_prefixes) | reported

  batch_of = lambda step: dataset.batch(groups_of(step))
  task = loop_lib.Task('irl', update, placed, batch_of, validate)
  return task, optimizer.placed_state(parts[0], tx), plan


def _learner(
  state: structs.TrainState, parts: reward_lib.Parts, irl: config_lib.IRL
) -> loop_lib.Learner:
  """Returns the learner before the first update."""
  selects_by = 'prefixes' if irl.prefix_weight else ''
  return loop_lib.Learner(state, parallel.replicate(parts[0]), selects_by=selects_by)


def fingerprint_of(
  base: pretrained.Decoder,
  pairs: Sequence[pairs_lib.Pair],
  validation: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  seed: int,
  prompts: Sequence[Hashable] | None,
  labels: Sequence[labels_lib.Labels] | None = None,
) -> fingerprint.Fingerprint:
  """Returns the fingerprint of this training run, which covers only what results depend on."""
  # Without labels there is no digest of them, as in the checkpoints of older versions.
  of_labels = {} if labels is None else {'labels': fingerprint.of_params(labels)}
  return fingerprint.of(
    {'irl': irl, 'seed': seed},
    **of_labels,
    pairs=fingerprint.of_rows(pairs),
    validation_pairs=fingerprint.of_rows(validation),
    prompts=fingerprint.of_rows([] if prompts is None else list(map(str, prompts))),
    starting_model=fingerprint.of_params(base.params),
  )


def _checked(
  base: pretrained.Decoder,
  pairs: Sequence[pairs_lib.Pair],
  validation: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  prompts: Sequence[Hashable] | None,
) -> tuple[list[pairs_lib.Pair], list[pairs_lib.Pair]]:
  """Returns the pairs, after a check of these arguments of `train`.

  Raises:
    ConfigError, InputError: as `train`.
  """
  arguments.check_policy(base, 'base')
  arguments.check_config(irl, config_lib.IRL, 'irl')
  arguments.check_blocks(irl, base)
  checked = pairs_lib.checked(pairs, base, 'pairs')
  held = pairs_lib.checked(validation, base, 'validation')
  pairs_lib.check_lengths(len(checked), prompts=prompts)
  _check_counts(len(checked), len(held))
  return checked, held


def _checked_labels(
  labels: Sequence[labels_lib.Labels] | None, irl: config_lib.IRL, *pairs: Sequence[pairs_lib.Pair]
) -> Sequence[labels_lib.Labels | None]:
  """Returns the labels of the training and the validation pairs, or None for each.

  Raises:
    ConfigError: labels are given or missing against irl.pair_label, or are not those of the pairs.
  """
  if (labels is None) != (irl.pair_label == 'source'):
    needs = 'takes no labels' if labels is not None else 'needs labels'
    raise errors.ConfigError(f'labels: config.irl.pair_label = {irl.pair_label!r} {needs}')
  if labels is None:
    return [None, None]
  if not isinstance(labels, Sequence) or len(labels) != 2:
    raise errors.ConfigError('labels: must be two lists, of the training and the validation pairs')
  for name, of_set, texts in zip(('pairs', 'validation'), labels, pairs, strict=True):
    pairs_lib.check_lengths(len(texts), **{f'labels of {name}': of_set})
    for number, (label, pair) in enumerate(zip(of_set, texts)):
      right = np.shape(label) == (max(map(len, pair)),)
      if not right or not (np.min(label) >= 0 and np.max(label) <= 1):
        raise errors.ConfigError(
          f'labels of {name}[{number}]: must be {max(map(len, pair))} numbers from 0 to 1, one per '
          'token of the longer text'
        )
  return labels


def _plan(irl: config_lib.IRL, per_epoch: int) -> loop_lib.Plan:
  """Returns when to validate and to save; `per_epoch` is in updates."""
  updates, evaluate_every = irl.epochs * per_epoch, irl.evaluate_every or per_epoch
  return loop_lib.Plan(updates, per_epoch, evaluate_every, irl.checkpoint_every)


def _check_counts(pairs: int, validation: int) -> None:
  """Raises InputError if there are no pairs to train on, or none to select by."""
  if not pairs or not validation:
    raise errors.InputError(
      'IRL needs training and validation pairs whose two texts differ, but there are '
      f'{pairs} and {validation}: add prompts, or use an aligned model that differs from the base'
    )
