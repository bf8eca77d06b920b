"""Supervised training: of a language model on texts, and of a toxicity classifier on labelled texts.

Dims: B texts, S padded length.
"""

import dataclasses
import functools
import pathlib
from typing import Any, Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from irl_jax import batches
from irl_jax import checkpoint
from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import errors
from irl_jax import interruption
from irl_jax import optimizer
from irl_jax import parallel
from irl_jax import structs
from irl_jax import text
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import roberta


def language_model_losses(params, batch: structs.TextBatch, *, config: gpt_neox.GPTNeoXConfig, dtype
                          ) -> tuple[dict[str, jax.Array], jax.Array]:
  """Of each text: negative log-likelihood [B], nats, over every token after the first; and how many those are [B]."""
  hidden = gpt_neox.hidden_states(params, batch.ids, batch.valid, config, dtype)[:, :-1]
  targets, mask = batch.ids[:, 1:], batch.valid[:, 1:].astype(jnp.float32)
  everything = distribution.Allowed(jnp.zeros(config.vocab_size, bool), jnp.int32(config.eos_token_id), jnp.float32(1))
  log_probs = distribution.log_probs(params, hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1),
                                     jnp.zeros(targets.size, bool), everything)
  return {'loss': -jnp.sum(log_probs.reshape(targets.shape) * mask, axis=1)}, jnp.sum(mask, axis=1)


def classifier_losses(params, batch: structs.LabelledBatch, *, config: roberta.RobertaConfig, dtype
                      ) -> tuple[dict[str, jax.Array], jax.Array]:
  """Of each text: cross-entropy [B], nats, and whether the class was found [B]; each text counts once [B]."""
  logits = roberta.classify(params, batch.text.ids, batch.text.valid, config, dtype)
  found = (jnp.argmax(logits, axis=-1) == batch.label).astype(jnp.float32)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
  return {'loss': losses, 'accuracy': found}, jnp.ones_like(losses)


def mean_loss(params, batch, *, losses: Callable, axis_name: str | None) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Metrics of a whole batch, over all devices: nats a token (language model) or a text (classifier)."""
  sums, count = losses(params, batch)
  sums, count = parallel.global_sum((jax.tree.map(jnp.sum, sums), jnp.sum(count)), axis_name)
  metrics = jax.tree.map(lambda total: total / jnp.maximum(count, 1), sums)
  return metrics['loss'], metrics


def update(state: structs.TrainState, frozen, batch, *, loss: Callable, tx: optax.GradientTransformation,
           axis_name: str | None) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """One optimiser step on `loss(params, batch, axis_name=...)`; nothing is frozen."""
  del frozen
  gradients, metrics = jax.grad(lambda params: loss(params, batch, axis_name=axis_name), has_aux=True)(state.params)
  state, applied = optimizer.apply_gradients(state, parallel.average_gradients(gradients, axis_name), tx)
  return state, metrics | applied


def validate(measure: Callable, params, examples: 'Examples', batch_size: int) -> dict[str, float]:
  """Metrics over all examples: the last batch is filled up, and what fills it does not count; {} of no examples."""
  sums, count = {}, 0.0
  for start in range(0, examples.count, batch_size):
    rows = np.arange(start, min(start + batch_size, examples.count))
    filled = np.pad(rows, (0, batch_size - len(rows)), mode='edge')
    values, weight = parallel.gather(measure(params, parallel.shard(examples.batch(filled))))
    for name, value in values.items():
      sums[name] = sums.get(name, 0.0) + float(value[:len(rows)].sum(dtype=np.float64))
    count += float(weight[:len(rows)].sum())
  return {f'validation/{name}': total / max(count, 1) for name, total in sums.items()}


def fit(name: str, params, losses: Callable, training: 'Examples', validation: 'Examples',
        config: config_lib.Supervised, seed: int, folder: pathlib.Path, *, keep: int, log: Callable,
        truncate_log: Callable, progress: Callable) -> Any:
  """Minimises a loss over shuffled minibatches; continues from the newest checkpoint; returns the last parameters.

  Raises:
    DivergedError: a loss is not finite; `name` is the part of the config that is to be changed.
  """
  batch_size = parallel.batch_size(config.batch_size, training.count)
  per_epoch = max(training.count // batch_size, 1)
  updates = config.epochs * per_epoch
  tx, _ = optimizer.adamw(learning_rate=config.learning_rate, updates=updates, warmup=config.warmup_steps, b2=0.98,
                          weight_decay=config.weight_decay)
  run = parallel.map_update(update, loss=_mean(losses), tx=tx)
  measure = parallel.map_forward(losses)
  state = parallel.replicate(optimizer.new_state(parallel.replicate(params), tx))
  with checkpoint.Checkpoints(folder, keep) as checkpoints:
    first, history = 0, []  # the history of an epoch, so that its means survive an interruption
    if restored := checkpoints.restore(state):
      first, state, meta = restored
      history = meta['history']
    truncate_log(first)
    for step in progress(range(first, updates)):
      rows = batches.shuffled_indices(training.count, batch_size, step, seed)
      state, metrics = run(state, (), parallel.shard(training.batch(rows)))
      history.append(metrics)
      last, stopping = step + 1 == updates, interruption.requested()
      ends_epoch, saves = (step + 1) % per_epoch == 0, (step + 1) % config.checkpoint_every == 0
      if last or stopping or ends_epoch or saves:  # between them, the host does not wait for the devices
        history = as_floats(history)
        check_finite(name, step, [metrics['loss'] for metrics in history], folder)
      if ends_epoch or last:
        validated = validate(measure, state.params, validation, batch_size)
        check_finite(name, step, list(validated.values()), folder)
        log(step, {key: float(np.mean([metrics[key] for metrics in history])) for key in history[0]} | validated)
        history = []
      if last or stopping or saves:
        checkpoints.save(step + 1, state, {'history': history})
      if stopping and not last:
        interruption.stop()
  return jax.tree.map(np.asarray, jax.device_get(state.params))


def check_finite(name: str, step: int, losses: Sequence[float], folder: pathlib.Path) -> None:
  """What is not finite once stays so: training ends before it is logged or saved.

  Raises:
    DivergedError: a loss is not finite.
  """
  if not np.isfinite(losses).all():
    raise errors.DivergedError(f'stage {name}, by step {step}: the loss is not finite; the last checkpoint is kept in '
                               f'{folder}. Lower config.{name}.learning_rate')


def as_floats(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
  """The metrics of several updates, from the devices or from a checkpoint."""
  return [{name: float(value) for name, value in metrics.items()} for metrics in jax.device_get(history)]


@dataclasses.dataclass(frozen=True)
class Examples:
  """Tokenised texts, with a label each or none; batches of one padded length."""

  sequences: Sequence[Sequence[int]]
  pad_id: int
  length: int                        # S of every batch
  labels: np.ndarray | None = None   # [count]

  @property
  def count(self) -> int:
    return len(self.sequences)

  def batch(self, rows: np.ndarray) -> structs.TextBatch | structs.LabelledBatch:
    """The batch of these rows."""
    texts = batches.text_batch([self.sequences[row] for row in rows], self.pad_id, self.length)
    return texts if self.labels is None else structs.LabelledBatch(texts, self.labels[rows].astype(np.int32))


def language_model_examples(model: pretrained.Pretrained, texts: Sequence[str], max_tokens: int) -> Examples:
  """EOS, the text, EOS: the model learns to begin a text after EOS and to end it."""
  eos = model.config.eos_token_id
  sequences, _ = text.encode(model.tokenizer, texts)
  sequences = [[eos, *sequence, eos][:max_tokens] for sequence in sequences]
  return Examples(sequences, eos, batches.round_up(max(map(len, sequences), default=1)))


def classifier_examples(model: pretrained.Pretrained, texts: Sequence[str], labels: Sequence[int], max_tokens: int
                        ) -> Examples:
  """Texts with their special tokens, and their labels."""
  limit = min(max_tokens, model.config.max_position_embeddings - model.config.pad_token_id - 1)
  sequences, _ = text.encode(model.tokenizer, texts, max_tokens=limit, specials=True)
  length = min(batches.round_up(max(map(len, sequences), default=1)), limit)
  return Examples(sequences, model.config.pad_token_id, length, np.asarray(labels))


def train_language_model(model: pretrained.Pretrained, training: Sequence[str], validation: Sequence[str],
                         config: config_lib.Supervised, seed: int, folder: pathlib.Path, *, dtype=jnp.float32,
                         keep: int = 2, log: Callable, truncate_log: Callable = lambda step: None,
                         progress: Callable = iter) -> pretrained.Pretrained:
  """Trains every parameter of a causal language model on texts.

  Raises:
    DivergedError: a loss is not finite.
  """
  examples = [language_model_examples(model, texts, config.max_tokens) for texts in (training, validation)]
  losses = _bound(language_model_losses, model.config, dtype)
  params = fit('sft', model.params, losses, *examples, config, seed, folder, keep=keep, log=log,
               truncate_log=truncate_log, progress=progress)
  return dataclasses.replace(model, params=params)


def train_classifier(model: pretrained.Pretrained, training: tuple[Sequence[str], Sequence[int]],
                     validation: tuple[Sequence[str], Sequence[int]], config: config_lib.Supervised, seed: int,
                     folder: pathlib.Path, *, dtype=jnp.float32, keep: int = 2, log: Callable,
                     truncate_log: Callable = lambda step: None, progress: Callable = iter) -> pretrained.Pretrained:
  """Trains every parameter of a text classifier on (texts, labels).

  Raises:
    DivergedError: a loss is not finite.
  """
  examples = [classifier_examples(model, *labelled, config.max_tokens) for labelled in (training, validation)]
  losses = _bound(classifier_losses, model.config, dtype)
  params = fit('classifier', model.params, losses, *examples, config, seed, folder, keep=keep, log=log,
               truncate_log=truncate_log, progress=progress)
  return dataclasses.replace(model, params=params)


# Both are kept, so that the losses of the same model are the same functions, and are compiled once.


@functools.lru_cache(maxsize=8)
def _bound(losses: Callable, config: Any, dtype) -> Callable:
  return functools.partial(losses, config=config, dtype=dtype)


@functools.lru_cache(maxsize=8)
def _mean(losses: Callable) -> Callable:
  return functools.partial(mean_loss, losses=losses)
