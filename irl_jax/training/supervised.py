"""Supervised training: of a language model on texts, and of a toxicity classifier on labelled texts.

Dims: B texts, S padded length.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import roberta
from irl_jax.runtime import parallel
from irl_jax.training import gradients
from irl_jax.training import loop as training
from irl_jax.training import micro_batch as micro_batch_lib
from irl_jax.training import optimizer


Batch = structs.TextBatch | structs.LabelledBatch
# (params, batch, *, config, dtype, rematerialise) -> metrics {name: [B]}, 'loss' among them, and their counts [B]
TextLosses = Callable[..., tuple[dict[str, jax.Array], jax.Array]]


def language_model_losses(
  params,
  batch: structs.TextBatch,
  *,
  config: gpt_neox.GPTNeoXConfig,
  dtype,
  rematerialise: bool = False,
) -> tuple[dict[str, jax.Array], jax.Array]:
  """Of each text: negative log-likelihood [B], nats, over every token after the first; and how many those are [B]."""
  log_probs, valid = distribution.text_log_probs(params, batch, config, dtype, rematerialise)
  mask = valid.astype(jnp.float32)
  return {'loss': -jnp.sum(log_probs * mask, axis=1)}, jnp.sum(mask, axis=1)


def classifier_losses(
  params,
  batch: structs.LabelledBatch,
  *,
  config: roberta.RobertaConfig,
  dtype,
  rematerialise: bool = False,
) -> tuple[dict[str, jax.Array], jax.Array]:
  """Of each text: cross-entropy [B], nats, and whether the class was found [B]; each text counts once [B]."""
  logits = roberta.classify(params, batch.text.ids, batch.text.valid, config, dtype, rematerialise)
  found = (jnp.argmax(logits, axis=-1) == batch.label).astype(jnp.float32)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
  return {'loss': losses, 'accuracy': found}, jnp.ones_like(losses)


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
  frozen,
  batch,
  *,
  losses: Callable,
  tx: optax.GradientTransformation,
  axis_name: str | None,
  micro_batch: int = 0,
  **statics,
) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """One optimiser step on the mean of `losses(params, batch)`: nats a token (language model) or a text (classifier).

  Nothing is frozen. At most `micro_batch` texts go forward and backward at once, 0 leaves their number to
  `micro_batch.size`; statics are those of `losses`.
  """
  texts = batch.text if isinstance(batch, structs.LabelledBatch) else batch
  micro_batch = micro_batch_lib.size(
    micro_batch, statics['config'], 1, texts.ids.shape[1], statics['dtype']
  )
  loss = functools.partial(total_loss, losses=losses, **statics)
  gradient, metrics = gradients.of_mean(loss, state.params, frozen, batch, axis_name, micro_batch)
  state, applied = optimizer.apply_gradients(state, gradient, tx)
  return state, metrics | applied


def validate(
  measure: Callable, params, examples: 'Examples', batch_size: int, buckets: Sequence[int] = ()
) -> dict[str, float]:
  """Metrics over all examples: the last batch is filled up, and what fills it does not count; {} of no examples."""
  sums, count = {}, 0.0
  order = np.argsort(examples.lengths, kind='stable')
  for rows in (
    np.split(order, range(batch_size, examples.count, batch_size)) if examples.count else ()
  ):
    filled = np.pad(rows, (0, batch_size - len(rows)), mode='edge')
    values, weight = parallel.gather(
      measure(params, parallel.shard(examples.batch(filled, buckets)))
    )
    for name, value in values.items():
      sums[name] = sums.get(name, 0.0) + float(value[: len(rows)].sum(dtype=np.float64))
    count += float(weight[: len(rows)].sum())
  return {f'validation/{name}': total / max(count, 1) for name, total in sums.items()}


def fit(
  name: str,
  model: pretrained.Pretrained,
  losses: Callable,
  examples: 'Examples',
  validation: 'Examples',
  config: config_lib.Supervised,
  seed: int,
  folder: pathlib.Path,
  dtype,
  runtime: config_lib.Runtime,
  **reporting,
) -> pretrained.Pretrained:
  """Minimises a loss over shuffled minibatches (`training.fit`); returns the model of least validation loss."""
  batch_size = parallel.batch_size(config.batch_size, examples.count)
  per_epoch = max(examples.count // batch_size, 1)
  plan = training.Plan(config.epochs * per_epoch, per_epoch, per_epoch, config.checkpoint_every)
  buckets = batches.training_buckets(examples.lengths, examples.limit, plan.updates)
  rows_of = batches.order_by_bucket(
    [batches.bucket(length, buckets) for length in examples.lengths], batch_size, seed
  )
  tx, _ = optimizer.adamw(
    learning_rate=config.learning_rate,
    updates=plan.updates,
    warmup=config.warmup_steps,
    b2=0.98,
    weight_decay=config.weight_decay,
  )
  statics = dict(config=model.config, dtype=dtype)
  measure = parallel.map_forward(losses, **statics)
  state = optimizer.placed_state(model.params, tx)
  best = training.fit(
    name,
    training.Learner(state, parallel.replicate(model.params)),
    (),
    parallel.map_update(
      update,
      losses=losses,
      tx=tx,
      micro_batch=runtime.micro_batch,
      rematerialise=runtime.rematerialise,
      **statics,
    ),
    lambda step: examples.batch(rows_of(step), buckets),
    lambda params: validate(measure, params, validation, batch_size, buckets),
    plan,
    folder,
    runtime,
    **reporting,
  )
  return dataclasses.replace(model, params=jax.tree.map(np.asarray, jax.device_get(best)))


@dataclasses.dataclass(frozen=True)
class Examples:
  """Tokenised texts, with a label each or none."""

  sequences: Sequence[Sequence[int]]
  pad_id: int
  limit: int  # S of a batch is at most this
  labels: np.ndarray | None = None  # [count]

  @property
  def count(self) -> int:
    return len(self.sequences)

  @property
  def lengths(self) -> list[int]:
    """In tokens [count]."""
    return list(map(len, self.sequences))

  def batch(
    self, rows: np.ndarray, buckets: Sequence[int] = ()
  ) -> structs.TextBatch | structs.LabelledBatch:
    """The batch of these rows, as long as one of the buckets if one is long enough."""
    sequences = [self.sequences[row] for row in rows]
    length = batches.bucket(min(batches.round_up(max(map(len, sequences))), self.limit), buckets)
    texts = batches.text_batch(sequences, self.pad_id, length)
    return (
      texts
      if self.labels is None
      else structs.LabelledBatch(texts, self.labels[rows].astype(np.int32))
    )


def language_model_examples(
  model: pretrained.Pretrained, texts: Sequence[str], max_tokens: int
) -> Examples:
  """EOS, the text, EOS: the model learns to begin a text after EOS and to end it."""
  eos = model.config.eos_token_id
  sequences, _ = text.encode(model.tokenizer, texts)
  sequences = [[eos, *sequence, eos] for sequence in sequences]
  text.report_cut(
    sum(len(ids) > max_tokens for ids in sequences), len(texts), 'texts of sft', max_tokens, 'right'
  )
  sequences = [ids[:max_tokens] for ids in sequences]
  return Examples(sequences, eos, model.config.max_position_embeddings)


def classifier_examples(
  model: pretrained.Pretrained, texts: Sequence[str], labels: Sequence[int], max_tokens: int
) -> Examples:
  """Texts with their special tokens, and their labels."""
  limit = min(max_tokens, model.config.max_position_embeddings - model.config.pad_token_id - 1)
  sequences, cut = text.encode(model.tokenizer, texts, max_tokens=limit, specials=True)
  text.report_cut(cut, len(texts), 'texts of the classifier', limit)
  return Examples(sequences, model.config.pad_token_id, limit, np.asarray(labels))


def train_language_model(
  model: pretrained.Pretrained,
  texts: Sequence[str],
  validation: Sequence[str],
  config: config_lib.Supervised,
  seed: int,
  folder: pathlib.Path,
  *,
  dtype=jnp.float32,
  runtime: config_lib.Runtime = config_lib.Runtime(),
  log: Callable,
  truncate_log: Callable = lambda step: None,
  progress: Callable = iter,
) -> pretrained.Pretrained:
  """Trains every parameter of a causal language model on texts; those of least validation loss are kept.

  Raises:
    DivergedError: a loss is not finite, or too many gradients in a row are not.
  """
  examples = [
    language_model_examples(model, texts, config.max_tokens) for texts in (texts, validation)
  ]
  return fit(
    'sft',
    model,
    language_model_losses,
    *examples,
    config,
    seed,
    folder,
    dtype,
    runtime,
    log=log,
    truncate_log=truncate_log,
    progress=progress,
  )


def train_classifier(
  model: pretrained.Pretrained,
  labelled: tuple[Sequence[str], Sequence[int]],
  validation: tuple[Sequence[str], Sequence[int]],
  config: config_lib.Supervised,
  seed: int,
  folder: pathlib.Path,
  *,
  dtype=jnp.float32,
  runtime: config_lib.Runtime = config_lib.Runtime(),
  log: Callable,
  truncate_log: Callable = lambda step: None,
  progress: Callable = iter,
) -> pretrained.Pretrained:
  """Trains every parameter of a text classifier on (texts, labels); those of least validation loss are kept.

  Raises:
    DivergedError: a loss is not finite, or too many gradients in a row are not.
  """
  examples = [
    classifier_examples(model, *pairs, config.max_tokens) for pairs in (labelled, validation)
  ]
  return fit(
    'classifier',
    model,
    classifier_losses,
    *examples,
    config,
    seed,
    folder,
    dtype,
    runtime,
    log=log,
    truncate_log=truncate_log,
    progress=progress,
  )
