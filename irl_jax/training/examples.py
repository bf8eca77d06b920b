"""Tokenised training texts, and the padded batches made of them."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from irl_jax import structs
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.runtime import terminal
from irl_jax.training import fingerprint


@dataclasses.dataclass(frozen=True)
class Examples:
  """Tokenised texts, optionally labelled."""

  sequences: Sequence[Sequence[int]]
  pad_id: int
  limit: int  # the maximum padded length of a batch
  labels: np.ndarray | None = None  # [count]

  @property
  def count(self) -> int:
    """The number of texts."""
    return len(self.sequences)

  @property
  def lengths(self) -> list[int]:
    """The length of each text in tokens [count]."""
    return list(map(len, self.sequences))

  def batch(
    self, rows: np.ndarray, buckets: Sequence[int] = ()
  ) -> structs.TextBatch | structs.LabelledBatch:
    """Returns the batch of these rows, padded to the first bucket that is long enough, if any."""
    sequences = [self.sequences[row] for row in rows]
    length = batches.bucket(min(batches.round_up(max(map(len, sequences))), self.limit), buckets)
    texts = batches.text_batch(sequences, self.pad_id, length)
    if self.labels is None:
      return texts
    return structs.LabelledBatch(texts, self.labels[rows].astype(np.int32))


def digest(examples: Examples) -> str:
  """Returns a digest of the token ids and the labels."""
  labels = None if examples.labels is None else examples.labels.tolist()
  return fingerprint.of_rows([list(map(list, examples.sequences)), labels])


def language_model_examples(
  model: pretrained.Decoder, texts: Sequence[str], max_tokens: int
) -> Examples:
  """Returns each text between two EOS tokens, so that the model learns how a text begins and ends.

  If the tokenizer puts BOS before a text, that one takes the place of the first EOS.

  Longer texts are cut on the right to `max_tokens`.

  Raises:
    ConfigError, InputError: as `text.check_texts`.
  """
  texts = text.check_texts(texts, 'texts')
  eos = model.config.eos_token_id
  encoded, _ = text.encode(model.tokenizer, texts)
  begin = [] if text.front(model.tokenizer) else [eos]
  sequences = [[*begin, *ids, eos] for ids in encoded]
  cut = sum(len(ids) > max_tokens for ids in sequences)
  text.report_cut(cut, f'{terminal.count(len(texts), "text")} of sft', max_tokens, 'right')
  sequences = [ids[:max_tokens] for ids in sequences]
  return Examples(sequences, eos, model.config.max_position_embeddings)


def texts_and_labels(given: Any, name: str) -> tuple[Any, Any]:
  """Returns a pair of texts and labels, if it is one.

  Raises:
    ConfigError: it is something else, such as a list of pairs.
  """
  if not isinstance(given, tuple | list) or len(given) != 2:
    raise ConfigError(f'{name}: must be (texts, labels), a list of each')
  texts, labels = given
  return texts, labels


def classifier_examples(
  model: pretrained.Classifier, texts: Sequence[str], labels: Sequence[int], max_tokens: int
) -> Examples:
  """Returns texts with their special tokens and labels; longer texts are cut on the left.

  Raises:
    ConfigError: there is not one label for each text.
    InputError: a text is not a string, or a label is not the number of a class.
  """
  texts, numbers = text.check_texts(texts, 'texts'), np.asarray(labels)
  if numbers.shape != (len(texts),):
    raise ConfigError(
      f'labels: has shape {list(numbers.shape)}, but must have {len(texts)}, one for each text'
    )
  classes = model.config.num_labels
  if len(texts) and not np.isin(numbers, np.arange(classes)).all():
    raise InputError(f'labels: must be whole numbers from 0 to {classes - 1}, not {labels!r:.60}')
  limit = min(max_tokens, model.config.max_position_embeddings - model.config.pad_token_id - 1)
  sequences, cut = text.encode(model.tokenizer, texts, max_tokens=limit, specials=True)
  text.report_cut(cut, f'{terminal.count(len(texts), "text")} of the classifier', limit)
  return Examples(sequences, model.config.pad_token_id, limit, numbers)
