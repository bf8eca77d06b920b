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
from irl_jax import interruption
from irl_jax import optimizer
from irl_jax import parallel
from irl_jax import structs
from irl_jax import text
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import roberta


def language_model_loss(params, batch: structs.TextBatch, *, config: gpt_neox.GPTNeoXConfig, dtype,
                        axis_name: str | None) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Mean negative log-likelihood, nats a token, of every token after the first."""
  hidden = gpt_neox.hidden_states(params, batch.ids, batch.valid, config, dtype)[:, :-1]
  targets, mask = batch.ids[:, 1:], batch.valid[:, 1:]
  everything = distribution.Allowed(jnp.zeros(config.vocab_size, bool), jnp.int32(config.eos_token_id), jnp.float32(1))
  log_probs = distribution.log_probs(params, hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1),
                                     jnp.zeros(targets.size, bool), everything)
  loss = parallel.global_mean(-log_probs.reshape(targets.shape), mask, axis_name)
  return loss, {'loss': loss}


def classifier_loss(params, batch: structs.LabelledBatch, *, config: roberta.RobertaConfig, dtype,
                    axis_name: str | None) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Mean cross-entropy, nats a text, and accuracy."""
  logits = roberta.classify(params, batch.text.ids, batch.text.valid, config, dtype)
  mean = lambda x: parallel.global_mean(x, jnp.ones_like(batch.label), axis_name)
  loss = mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.label))
  return loss, {'loss': loss, 'accuracy': mean(jnp.argmax(logits, axis=-1) == batch.label)}


def update(state: structs.TrainState, frozen, batch, *, loss: Callable, tx: optax.GradientTransformation,
           axis_name: str | None) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """One optimiser step on `loss(params, batch, axis_name=...)`; nothing is frozen."""
  del frozen
  gradients, metrics = jax.grad(lambda params: loss(params, batch, axis_name=axis_name), has_aux=True)(state.params)
  state, applied = optimizer.apply_gradients(state, parallel.average_gradients(gradients, axis_name), tx)
  return state, metrics | applied


def evaluate(state, frozen, batch, *, loss: Callable, axis_name: str | None):
  """The loss's metrics, in the shape of an update that changes nothing."""
  del frozen
  return state, loss(state.params, batch, axis_name=axis_name)[1]


def fit(params, loss: Callable, training: 'Examples', validation: 'Examples', config: config_lib.Supervised, seed: int,
        folder: pathlib.Path, *, keep: int, log: Callable, truncate_log: Callable, progress: Callable) -> Any:
  """Minimises a loss over shuffled minibatches; continues from the newest checkpoint; returns the last parameters."""
  batch_size = parallel.batch_size(config.batch_size, training.count)
  per_epoch = max(training.count // batch_size, 1)
  updates = config.epochs * per_epoch
  tx, _ = optimizer.adamw(learning_rate=config.learning_rate, updates=updates, warmup=config.warmup_steps, b2=0.98,
                          weight_decay=config.weight_decay)
  run = parallel.map_update(update, loss=loss, tx=tx)
  measure = parallel.map_update(evaluate, loss=loss)
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
      if (step + 1) % per_epoch == 0 or last:
        averaged = {name: float(np.mean([m[name] for m in as_floats(history)])) for name in metrics}
        measured = []
        for start in range(0, validation.count - batch_size + 1, batch_size):
          state, m = measure(state, (), parallel.shard(validation.batch(np.arange(start, start + batch_size))))
          measured.append(m)
        validated = jax.device_get(measured)
        log(step, averaged | {f'validation/{name}': float(np.mean([m[name] for m in validated]))
                              for name in (validated[0] if validated else ())})
        history = []
      if last or stopping or (step + 1) % config.checkpoint_every == 0:
        checkpoints.save(step + 1, state, {'history': as_floats(history)})
      if stopping and not last:
        interruption.stop()
  return jax.tree.map(np.asarray, jax.device_get(state.params))


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
  return Examples(sequences, eos, batches.round_up(max(map(len, sequences))))


def classifier_examples(model: pretrained.Pretrained, texts: Sequence[str], labels: Sequence[int], max_tokens: int
                        ) -> Examples:
  """Texts with their special tokens, and their labels."""
  limit = min(max_tokens, model.config.max_position_embeddings - model.config.pad_token_id - 1)
  sequences, _ = text.encode(model.tokenizer, texts, max_tokens=limit, specials=True)
  length = min(batches.round_up(max(map(len, sequences))), limit)
  return Examples(sequences, model.config.pad_token_id, length, np.asarray(labels))


def train_language_model(model: pretrained.Pretrained, training: Sequence[str], validation: Sequence[str],
                         config: config_lib.Supervised, seed: int, folder: pathlib.Path, *, dtype=jnp.float32,
                         keep: int = 2, log: Callable, truncate_log: Callable = lambda step: None,
                         progress: Callable = iter) -> pretrained.Pretrained:
  """Trains every parameter of a causal language model on texts."""
  examples = [language_model_examples(model, texts, config.max_tokens) for texts in (training, validation)]
  loss = _bound(language_model_loss, model.config, dtype)
  params = fit(model.params, loss, *examples, config, seed, folder, keep=keep, log=log, truncate_log=truncate_log,
               progress=progress)
  return dataclasses.replace(model, params=params)


def train_classifier(model: pretrained.Pretrained, training: tuple[Sequence[str], Sequence[int]],
                     validation: tuple[Sequence[str], Sequence[int]], config: config_lib.Supervised, seed: int,
                     folder: pathlib.Path, *, dtype=jnp.float32, keep: int = 2, log: Callable,
                     truncate_log: Callable = lambda step: None, progress: Callable = iter) -> pretrained.Pretrained:
  """Trains every parameter of a text classifier on (texts, labels)."""
  examples = [classifier_examples(model, *labelled, config.max_tokens) for labelled in (training, validation)]
  loss = _bound(classifier_loss, model.config, dtype)
  params = fit(model.params, loss, *examples, config, seed, folder, keep=keep, log=log, truncate_log=truncate_log,
               progress=progress)
  return dataclasses.replace(model, params=params)


@functools.lru_cache(maxsize=8)
def _bound(loss: Callable, config: Any, dtype) -> Callable:
  # Kept, so that a loss of the same model is the same function, and is compiled once.
  return lambda params, batch, axis_name: loss(params, batch, config=config, dtype=dtype, axis_name=axis_name)
