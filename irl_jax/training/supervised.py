"""Supervised training of a language model on texts, or a toxicity classifier on labelled texts.

Dims: B texts, S padded length.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any
from typing import Required
from typing import TypedDict
from typing import TypeVar
from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np
import optax

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import errors
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.models import encoder
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding
from irl_jax.training import arguments
from irl_jax.training import examples as examples_lib
from irl_jax.training import fingerprint
from irl_jax.training import gradients
from irl_jax.training import loop as loop_lib
from irl_jax.training import micro_batch as micro_batch_lib
from irl_jax.training import optimizer

Batch = structs.TextBatch | structs.LabelledBatch
# (params, batch, *, config, dtype, rematerialise) -> metrics {name: [B]} with 'loss', and the
# number of tokens or texts that each metric is summed over [B]
TextLosses = Callable[..., tuple[dict[str, jax.Array], jax.Array]]
Model = TypeVar('Model', bound=pretrained.Pretrained)


def language_model_losses(
  params: trunk.Params,
  batch: structs.TextBatch,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  rematerialise: bool = False,
) -> tuple[dict[str, jax.Array], jax.Array]:
  """Returns each text's negative log-likelihood [B], nats, and its number of predicted tokens [B].

  Every token after the first is predicted.
  """
  log_probs, valid = distribution.text_log_probs(params, batch, config, dtype, rematerialise)
  mask = valid.astype(jnp.float32)
  return {'loss': -jnp.sum(log_probs * mask, axis=1)}, jnp.sum(mask, axis=1)


def classifier_losses(
  params: encoder.Params,
  batch: structs.LabelledBatch,
  *,
  config: encoder.EncoderConfig,
  dtype: DTypeLike,
  rematerialise: bool = False,
) -> tuple[dict[str, jax.Array], jax.Array]:
  """Returns each text's cross-entropy [B], nats, and accuracy [B]; every text counts once [B]."""
  logits = encoder.classify(params, batch.text.ids, batch.text.valid, config, dtype, rematerialise)
  correct = (jnp.argmax(logits, axis=-1) == batch.label).astype(jnp.float32)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
  return {'loss': losses, 'accuracy': correct}, jnp.ones_like(losses)


def total_loss(
  params: Any, frozen: Any, batch: Batch, *, losses: TextLosses, **statics: Any
) -> tuple[jax.Array, gradients.Totals]:
  """Returns the loss [] and metrics, summed over the texts of a batch."""
  del frozen
  metrics, count = losses(params, batch, **statics)
  sums = jax.tree.map(jnp.sum, metrics)
  return sums['loss'], gradients.Totals(jnp.sum(count), sums)


def update(
  state: structs.TrainState,
  frozen: Any,
  batch: Batch,
  *,
  losses: TextLosses,
  config: trunk.Config | encoder.EncoderConfig,
  dtype: DTypeLike,
  tx: optax.GradientTransformation,
  axis_name: str | None,
  micro_batch: int = 0,
  rematerialise: bool = False,
) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """Takes one optimiser step on the mean loss, per token (language model) or text (classifier).

  Args:
    state: the state of all parameters.
    frozen: unused, because all parameters are trained.
    batch: texts of one device.
    losses: `language_model_losses` or `classifier_losses`.
    config: the model's shape.
    dtype: the compute type.
    tx: the optimiser.
    axis_name: the mapped axis of the devices that share the batch; None if there is only one.
    micro_batch: texts that go forward and backward at once; 0: as `micro_batch.size` chooses.
    rematerialise: whether the backward pass recomputes each block.

  Returns:
    The next state and the metrics, the same on every device.
  """
  texts = batch.text if isinstance(batch, structs.LabelledBatch) else batch
  loss = functools.partial(
    total_loss, losses=losses, config=config, dtype=dtype, rematerialise=rematerialise
  )
  size = micro_batch_lib.size(micro_batch, config, 1, texts.ids.shape[1], dtype)
  gradient, metrics = gradients.of_mean(loss, state.params, frozen, batch, axis_name, size)
  state, applied = optimizer.apply_gradients(state, gradient, tx)
  return state, metrics | applied


def validate(
  measure: Callable[[Any, Batch], tuple[dict[str, jax.Array], jax.Array]],
  params: Any,
  examples: examples_lib.Examples,
  batch_size: int,
  buckets: Sequence[int] = (),
) -> dict[str, float]:
  """Returns the mean metrics over all examples; {} if there are none.

  Args:
    measure: the losses, mapped over the devices.
    params: the model's parameters.
    examples: the validation data.
    batch_size: the last batch is padded to it with a repeated text, which does not count.
    buckets: padded lengths.
  """
  sums, count = dict[str, float](), 0.0
  order = np.argsort(examples.lengths, kind='stable')
  splits = range(batch_size, examples.count, batch_size)
  for rows in np.split(order, splits) if examples.count else ():
    filled = np.pad(rows, (0, batch_size - len(rows)), mode='edge')
    batch = parallel.shard(examples.batch(filled, buckets))
    values, weight = parallel.gather(measure(params, batch))
    for name, value in values.items():
      sums[name] = sums.get(name, 0.0) + float(value[: len(rows)].sum(dtype=np.float64))
    count += float(weight[: len(rows)].sum())
  return {f'validation/{name}': total / max(count, 1) for name, total in sums.items()}


class Options(TypedDict, total=False):
  """The keyword arguments of `fit`."""

  dtype: DTypeLike
  runtime: config_lib.Runtime
  log: Required[loop_lib.Log]
  truncate_log: Callable[[int], None]
  progress: loop_lib.Progress


def fit(
  name: str,
  model: Model,
  losses: TextLosses,
  examples: examples_lib.Examples,
  validation: examples_lib.Examples,
  config: config_lib.Supervised,
  seed: int,
  folder: pathlib.Path,
  *,
  dtype: DTypeLike = jnp.float32,
  runtime: config_lib.Runtime = config_lib.Runtime(),
  log: loop_lib.Log,
  truncate_log: Callable[[int], None] = lambda step: None,
  progress: loop_lib.Progress = iter,
) -> Model:
  """Minimises a loss over shuffled minibatches.

  Args:
    name: the stage's name.
    model: where training starts.
    losses: the loss function of each text.
    examples: the training data.
    validation: the data that selects the parameters.
    config: hyper-parameters.
    seed: random seed for the order of the data.
    folder: where checkpoints are saved.
    dtype: the compute type.
    runtime: how parameters are placed, checkpoints kept and memory saved.
    log: called after every validation with the number of the update and its metrics.
    truncate_log: called once, with the first update.
    progress: wraps the iterable of updates.

  Returns:
    The model with the lowest validation loss, on the host.

  Raises:
    ConfigError: an argument is wrong, or the folder has the checkpoints of another training run.
    InputError: there are no examples.
    DivergedError: a loss is not finite, or too many consecutive gradients are not.
  """
  arguments.check_training(seed, folder, dtype, runtime, log, truncate_log, progress)
  if not examples.count:
    raise errors.InputError(f'{name}: there are no texts to train on')
  batch_size = parallel.batch_size(config.batch_size, examples.count)
  per_epoch = max(examples.count // batch_size, 1)
  plan = loop_lib.Plan(config.epochs * per_epoch, per_epoch, per_epoch, config.checkpoint_every)
  hooks = loop_lib.Hooks(log, truncate_log, progress)
  run_fingerprint = _fingerprint_of(model, examples, validation, config, int(seed))
  with sharding.using(runtime.sharding):
    step, measure, tx = _compile_functions(model, losses, config, plan.updates, dtype, runtime)
    task = _task(name, step, measure, examples, validation, batch_size, plan.updates, int(seed))
    learner = loop_lib.Learner(
      optimizer.placed_state(model.params, tx), best=parallel.replicate(model.params, jnp.float32)
    )
    best = loop_lib.fit(task, learner, plan, folder, runtime, hooks, run_fingerprint)
  return dataclasses.replace(model, params=jax.tree.map(np.asarray, parallel.to_host(best)))


def _task(
  name: str,
  step: Callable,
  measure: Callable,
  examples: examples_lib.Examples,
  validation: examples_lib.Examples,
  batch_size: int,
  updates: int,
  seed: int,
) -> loop_lib.Task:
  """Returns what the loop runs: the update, its batches and the validation."""
  buckets = batches.training_buckets(examples.lengths, examples.limit, updates)
  padded = [batches.bucket(length, buckets) for length in examples.lengths]
  rows_of = batches.order_by_bucket(padded, batch_size, seed)
  return loop_lib.Task(
    name,
    step,
    frozen=(),
    batch_of=lambda number: examples.batch(rows_of(number), buckets),
    validate=lambda params: validate(measure, params, validation, batch_size, buckets),
  )


def _compile_functions(
  model: pretrained.Pretrained,
  losses: TextLosses,
  config: config_lib.Supervised,
  updates: int,
  dtype: DTypeLike,
  runtime: config_lib.Runtime,
) -> tuple[Callable, Callable, optax.GradientTransformation]:
  """Returns `update` and the losses mapped over the devices, and the optimiser."""
  tx, _ = optimizer.adamw(
    learning_rate=config.learning_rate,
    updates=updates,
    warmup=config.warmup_steps,
    b2=0.98,
    weight_decay=config.weight_decay,
  )
  statics: dict[str, Any] = {'config': model.config, 'dtype': dtype}
  saving = dict(micro_batch=runtime.micro_batch, rematerialise=runtime.rematerialise)
  return (
    parallel.map_update(update, losses=losses, tx=tx, **saving, **statics),
    parallel.map_forward(losses, **statics),
    tx,
  )


def _fingerprint_of(
  model: pretrained.Pretrained,
  examples: examples_lib.Examples,
  validation: examples_lib.Examples,
  config: config_lib.Supervised,
  seed: int,
) -> fingerprint.Fingerprint:
  """Returns the fingerprint of this training run, which covers only what results depend on."""
  return fingerprint.of(
    {config.key.rstrip('.'): config, 'seed': seed},
    examples=examples_lib.digest(examples),
    validation_examples=examples_lib.digest(validation),
    starting_model=fingerprint.of_params(model.params),
  )


def train_language_model(
  model: pretrained.Decoder,
  texts: Sequence[str],
  validation: Sequence[str],
  config: config_lib.Supervised,
  seed: int,
  folder: pathlib.Path,
  **options: Unpack[Options],
) -> pretrained.Decoder:
  """Trains all parameters of a causal language model on texts.

  The arguments are those of `fit`, except that examples are given as texts.

  Returns:
    The model with the lowest validation loss.

  Raises:
    ConfigError, DivergedError: as `fit`.
    InputError: the model is not a causal language model, or a text is not a string.
  """
  arguments.check_policy(model, 'model')
  arguments.check_config(config, config_lib.Supervised, 'config')
  examples, held = (
    examples_lib.language_model_examples(model, some, max_tokens=config.max_tokens)
    for some in (texts, validation)
  )
  return fit('sft', model, language_model_losses, examples, held, config, seed, folder, **options)


def train_classifier(
  model: pretrained.Classifier,
  labelled: tuple[Sequence[str], Sequence[int]],
  validation: tuple[Sequence[str], Sequence[int]],
  config: config_lib.Supervised,
  seed: int,
  folder: pathlib.Path,
  **options: Unpack[Options],
) -> pretrained.Classifier:
  """Trains all parameters of a text classifier on (texts, labels).

  The arguments are those of `fit`, with texts and labels for examples.

  Returns:
    The model with the lowest validation loss.

  Raises:
    ConfigError, DivergedError: as `fit`.
    InputError: the model is not a classifier, or a text or label cannot be used.
  """
  arguments.check_policy(model, 'model', kind='classifier')
  arguments.check_config(config, config_lib.Supervised, 'config')
  examples, held = (
    examples_lib.classifier_examples(
      model, *examples_lib.texts_and_labels(some, of), max_tokens=config.max_tokens
    )
    for of, some in (('labelled', labelled), ('validation', validation))
  )
  losses = classifier_losses
  return fit('classifier', model, losses, examples, held, config, seed, folder, **options)
