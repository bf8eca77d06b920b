"""The loop of sft, classifier and irl: minimises a loss over minibatches.

It keeps the parameters with the lowest validation loss.
"""

from collections.abc import Callable
from collections.abc import Iterable
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
from irl_jax.training import fingerprint as fingerprint_lib

Metrics = dict[str, float]
# (state, frozen, batch) -> (state, metrics), mapped over the devices
Update = Callable[[structs.TrainState, Any, Any], tuple[structs.TrainState, dict[str, jax.Array]]]
Log = Callable[[int, Metrics], None]
Progress = Callable[[range], Iterable[int]]


@dataclasses.dataclass(frozen=True)
class Task:
  """The update of a training run, its data and its validation."""

  name: str  # of the stage, and of its section of the config
  update: Update
  frozen: Any  # passed to `update` unchanged
  batch_of: Callable[[int], Any]  # returns the batch of an update from its number
  # parameters -> metrics to log, with 'validation/loss' if there is validation data
  validate: Callable[[Any], Metrics]


@dataclasses.dataclass(frozen=True)
class Hooks:
  """The callbacks of a training run."""

  log: Log  # called after every validation with the number of the update and metrics
  truncate_log: Callable[[int], None]  # called once, with the first update that this run will do
  progress: Progress  # wraps the iterable of updates


@dataclasses.dataclass(frozen=True)
class Plan:
  """The schedule of a training run; all fields count updates."""

  updates: int  # all updates of the training
  per_epoch: int  # updates of one epoch, in which every example is seen once
  evaluate_every: int  # updates between two validations
  save_every: int  # updates between two checkpoints


@dataclasses.dataclass
class Learner:
  """The state of training so far."""

  state: structs.TrainState
  best: Any  # parameters with the lowest validation loss
  best_loss: float = float('inf')
  selects_by: str = ''  # the loss that best_loss is of, if a training has been selected by others
  # Metrics of the updates since the last validation. The list is appended to in place, because
  # copying it at each update would take quadratic time.
  history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

  def record_update(self, state: structs.TrainState, metrics: dict[str, Any]) -> None:
    """Records an update."""
    self.state = state
    self.history.append(metrics)

  def record_validation(self, metrics: Metrics) -> None:
    """Records a validation result. Without validation data the latest parameters count as best."""
    loss = metrics.get('validation/loss')
    if loss is None or loss < self.best_loss:
      # A copy, because the next update donates the state's buffers.
      self.best = jax.tree.map(jnp.copy, self.state.params)
    if loss is not None:
      self.best_loss = min(loss, self.best_loss)
    self.history = []

  def saved(self) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arrays and the values that a checkpoint stores."""
    arrays = {'state': self.state, 'best': self.best}
    meta = {'best_loss': self.best_loss, 'selects_by': self.selects_by, 'history': self.history}
    return arrays, meta


def restored_or(learner: Learner, checkpoints: checkpoint.Checkpoints) -> tuple[int, Learner]:
  """Returns the next update and the learner of the newest checkpoint, else (0, learner)."""
  restored = checkpoints.restore(learner.saved()[0])
  if not restored:
    return 0, learner
  first, saved, meta = restored
  if meta.get('selects_by', '') != learner.selects_by:
    # An older version validated by another loss. Its values do not compare with those to come.
    meta = meta | {'best_loss': float('inf'), 'selects_by': learner.selects_by}
  return first, Learner(saved['state'], saved['best'], **meta)


def fit(
  task: Task,
  learner: Learner,
  plan: Plan,
  folder: pathlib.Path,
  runtime: config_lib.Runtime,
  hooks: Hooks,
  fingerprint: fingerprint_lib.Fingerprint | None = None,
) -> Any:
  """Runs the remaining updates; continues from the newest checkpoint in `folder`.

  Args:
    task: what is trained.
    learner: where training starts; its state is donated.
    plan: the schedule.
    folder: where checkpoints are saved.
    runtime: its `keep_checkpoints` and `max_skipped_in_row` are used.
    hooks: called as the training goes on.
    fingerprint: of this training run; checkpoints with another one are refused.

  Returns:
    The parameters with the lowest validation loss, on the devices.

  Raises:
    ConfigError: another training run is using the folder, or has left its checkpoints there.
    DivergedError: a loss is not finite, or too many consecutive gradients are not.
  """
  with (
    interruption.deferred(),
    checkpoint.Checkpoints(folder, runtime.keep_checkpoints, fingerprint) as checkpoints,
  ):
    first, learner = restored_or(learner, checkpoints)
    hooks.truncate_log(first)
    for step in hooks.progress(range(first, plan.updates)):
      batch = parallel.shard(task.batch_of(step))
      learner.record_update(*task.update(learner.state, task.frozen, batch))
      last, stopping = step + 1 == plan.updates, interruption.requested()
      evaluates = last or (step + 1) % plan.evaluate_every == 0
      saves = last or stopping or (step + 1) % plan.save_every == 0
      # Reading a metric waits for the devices, so the host reads none between validations and
      # saves.
      if not evaluates and not saves:
        continue
      learner.history = as_floats(learner.history)
      metrics = task.validate(learner.state.params) if evaluates else {}
      check(
        task.name, step, learner.history, metrics, runtime.max_skipped_in_row, checkpoints.saved
      )
      if evaluates:
        epoch = (step + 1) / plan.per_epoch
        hooks.log(step, averaged(learner.history) | {'epoch': epoch} | metrics)
        learner.record_validation(metrics)
      if saves:
        checkpoints.save(step + 1, *learner.saved())
      if stopping:
        interruption.stop()
  return learner.best


def as_floats(history: Sequence[dict[str, Any]]) -> list[Metrics]:
  """Returns the metrics of several updates as floats; they may be on the devices."""
  return [
    {name: float(value) for name, value in metrics.items()} for metrics in jax.device_get(history)
  ]


def averaged(history: Sequence[Metrics]) -> Metrics:
  """Returns the mean of every metric over updates; for skipped updates, the count so far."""
  means = {name: float(np.mean([metrics[name] for metrics in history])) for name in history[0]}
  del means['skipped_in_row']
  return means | {'skipped': int(history[-1]['skipped'])}


def check(
  name: str, step: int, history: Sequence[Metrics], validation: Metrics, limit: int, saved: str
) -> None:
  """Ends a stage whose loss or gradients are not finite.

  Args:
    name: the stage's name.
    step: the number of the latest update.
    history: metrics of the updates since the last validation.
    validation: metrics of the validation data, if it was just evaluated.
    limit: `runtime.max_skipped_in_row`.
    saved: describes the newest checkpoint, for the message.

  Raises:
    DivergedError: a loss is not finite, or too many updates were skipped.
  """
  divergence.check(
    f'stage {name}, by update {step}',
    {
      'the loss': np.array([metrics['loss'] for metrics in history]),
      'the validation loss': np.array(validation.get('validation/loss', 0.0)),
    },
    max(int(metrics['skipped_in_row']) for metrics in history),
    limit,
    saved,
    f'Lower config.{name}.learning_rate',
  )
