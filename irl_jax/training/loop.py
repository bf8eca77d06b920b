"""The loop of sft, classifier and irl: minimises a loss over minibatches, keeps what has the least validation loss."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import config as config_lib
from irl_jax import structs
from irl_jax.runtime import interruption
from irl_jax.runtime import parallel
from irl_jax.training import checkpoint
from irl_jax.training import divergence


@dataclasses.dataclass(frozen=True)
class Plan:
  """When what happens; all in updates."""

  updates: int  # of the whole training
  per_epoch: int  # that see every example once
  evaluate_every: int  # between two looks at the validation examples
  save_every: int  # between two checkpoints


@dataclasses.dataclass
class Learner:
  """What training has learned so far."""

  state: structs.TrainState
  best: Any  # parameters of least validation loss
  best_loss: float = float('inf')
  # Metrics of the updates since the last validation. The list grows by one at every update, and a
  # copy per update would make an epoch quadratic in its length.
  history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

  def record_update(self, state: structs.TrainState, metrics: dict[str, Any]) -> None:
    """Records an update."""
    self.state = state
    self.history.append(metrics)

  def record_validation(self, metrics: dict[str, float]) -> None:
    """Records a validation result. Without validation data the latest parameters count as best."""
    loss = metrics.get('validation/loss')
    if loss is None or loss < self.best_loss:
      self.best = jax.tree.map(jnp.copy, self.state.params)  # the next update donates the state
    if loss is not None:
      self.best_loss = min(loss, self.best_loss)
    self.history = []


def restored_or(learner: Learner, checkpoints: checkpoint.Checkpoints) -> tuple[int, Learner]:
  """The next update and the learner of the newest checkpoint; update 0 and the given one where there is none."""
  restored = checkpoints.restore({'state': learner.state, 'best': learner.best})
  if not restored:
    return 0, learner
  first, saved, meta = restored
  return first, Learner(saved['state'], saved['best'], **meta)


def fit(
  name: str,
  learner: Learner,
  frozen: Any,
  update: Callable,
  batch_of: Callable[[int], Any],
  validate: Callable[[Any], dict[str, float]],
  plan: Plan,
  folder: pathlib.Path,
  runtime: config_lib.Runtime,
  *,
  log: Callable,
  truncate_log: Callable,
  progress: Callable,
) -> Any:
  """Runs the updates that are left; continues from the newest checkpoint in `folder`.

  Args:
    name: of the stage, which is that of its part of the config.
    learner: where training starts; its arrays are donated.
    frozen: what `update` is given unchanged.
    update: over the devices, (state, frozen, batch) -> (state, metrics).
    batch_of: the batch of an update, by its number alone.
    validate: parameters -> figures to log, 'validation/loss' among them where there are validation examples.
    plan: when what happens.
    folder: of the checkpoints.
    runtime: how many checkpoints stay, how many bad gradients in a row are borne.
    log: called at every look at the validation examples with the number of the update and metrics.
    truncate_log: called with the first update that this run will do.
    progress: wraps the iterable of updates.

  Returns:
    The parameters of least validation loss, on the devices.

  Raises:
    DivergedError: a loss is not finite, or too many gradients in a row are not.
  """
  with (
    interruption.deferred(),
    checkpoint.Checkpoints(folder, runtime.keep_checkpoints) as checkpoints,
  ):
    first, learner = restored_or(learner, checkpoints)
    truncate_log(first)
    for step in progress(range(first, plan.updates)):
      learner.record_update(*update(learner.state, frozen, parallel.shard(batch_of(step))))
      last, stopping = step + 1 == plan.updates, interruption.requested()
      evaluates = last or (step + 1) % plan.evaluate_every == 0
      saves = last or stopping or (step + 1) % plan.save_every == 0
      if not evaluates and not saves:  # the host does not wait for the devices
        continue
      learner.history = as_floats(learner.history)
      figures = validate(learner.state.params) if evaluates else {}
      check(name, step, learner.history, figures, runtime.max_skipped_in_row, checkpoints.saved)
      if evaluates:
        log(step, averaged(learner.history) | {'epoch': (step + 1) / plan.per_epoch} | figures)
        learner.record_validation(figures)
      if saves:
        checkpoints.save(
          step + 1,
          {'state': learner.state, 'best': learner.best},
          {'best_loss': learner.best_loss, 'history': learner.history},
        )
      if stopping:
        interruption.stop()
  return learner.best


def as_floats(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
  """The metrics of several updates, from the devices or from a checkpoint."""
  return [
    {name: float(value) for name, value in metrics.items()} for metrics in jax.device_get(history)
  ]


def averaged(history: Sequence[dict[str, float]]) -> dict[str, float]:
  """Mean of every metric over updates; of the updates left out, the count so far."""
  means = {name: float(np.mean([metrics[name] for metrics in history])) for name in history[0]}
  del means['skipped_in_row']
  return means | {'skipped': int(history[-1]['skipped'])}


def check(
  name: str,
  step: int,
  history: Sequence[dict[str, float]],
  figures: dict[str, float],
  limit: int,
  saved: str,
) -> None:
  """Ends a stage whose loss or gradients are not finite.

  Raises:
    DivergedError: they are not.
  """
  losses = {
    'the loss': [metrics['loss'] for metrics in history],
    'the validation loss': figures.get('validation/loss', 0.0),
  }
  skipped_in_row = max(int(metrics['skipped_in_row']) for metrics in history)
  divergence.check(
    f'stage {name}, by update {step}',
    losses,
    skipped_in_row,
    limit,
    saved,
    f'Lower config.{name}.learning_rate',
  )
