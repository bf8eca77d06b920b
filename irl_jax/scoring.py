"""A forward pass over any number of texts, in batches of similar length.

Texts are tokenised in chunks, long ones first. While the devices compute one chunk, the host
tokenises the next.

Dims: N texts, T tokens of all texts, B texts of a batch, S padded length, D width.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any
from typing import Concatenate

from absl import logging
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import structs
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.errors import ConfigError
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.runtime import parallel
from irl_jax.runtime import terminal

Tokens = Sequence[int]
# (params, TextBatch, *, config, dtype, <statics>) -> results [B, ...]
Forward = Callable[Concatenate[Any, structs.TextBatch, ...], jax.Array]
# Wraps the iterable of chunks, such as in a progress bar.
Progress = Callable[[Iterable[Any]], Iterable[Any]]
Read = Callable[[np.ndarray], Iterable[Tokens]]  # row numbers -> the token ids of their texts

CHUNK = 1024  # texts that are tokenised at once
# Assumed tokens per text, to convert a number of texts into a number of tokens
TOKENS_OF_A_TEXT = 64
# Per device. With more, the activations of RoBERTa-base leave the last-level cache: 1/6 slower.
TOKENS_ON_CPU = 1024
# Minimum number of batches per call: in a single batch, all texts would be padded to the longest.
BATCHES_OF_A_CALL = 8
# Minimum tokens per batch: each batch reads all weights, which took a third of the time for 16
# texts.
LEAST_TOKENS = 512


@dataclasses.dataclass(frozen=True, eq=False)
class States:
  """The states of all tokens of N texts between two blocks, on the host and without padding."""

  of_tokens: np.ndarray  # [T, D], of the compute type; a text's tokens follow one another
  first: np.ndarray  # [N] the row of each text's first token
  lengths: np.ndarray  # [N] tokens

  def of_texts(self, rows: np.ndarray) -> 'States':
    """Returns the states of the texts of some rows; nothing is copied."""
    return dataclasses.replace(self, first=self.first[rows], lengths=self.lengths[rows])

  def padded(self, rows: np.ndarray, length: int) -> np.ndarray:
    """Returns the states [B, S, D] of the texts of some rows, padded with zeros on the right."""
    out = np.zeros((len(rows), length, self.of_tokens.shape[1]), self.of_tokens.dtype)
    for states, first, count in zip(out, self.first[rows], self.lengths[rows]):
      states[:count] = self.of_tokens[first : first + count]
    return out


def tokens_at_once(count: int, batch_size: int) -> int:
  """Returns the number of tokens of one batch, with padding, over all devices.

  Args:
    count: the number of texts of the call. It is rounded up to a power of two, so that calls of
      similar size share their compiled programs.
    batch_size: the number of texts of TOKENS_OF_A_TEXT tokens that the devices can hold at once.

  Raises:
    ConfigError: batch_size is not a whole number from 1.
  """
  if not hasattr(batch_size, '__index__') or batch_size < 1:
    raise ConfigError(f'batch_size = {batch_size!r:.60}: must be a whole number >= 1')
  most = batch_size * TOKENS_OF_A_TEXT
  if jax.default_backend() == 'cpu':
    most = min(most, TOKENS_ON_CPU * parallel.device_count())
  wanted = max(_power_of_two(count) * TOKENS_OF_A_TEXT // BATCHES_OF_A_CALL, LEAST_TOKENS)
  return max(min(most, wanted), 1)


def rows_at_once(length: int, tokens: int, count: int) -> int:
  """Returns the batch size B for a padded length, a multiple of the number of devices.

  Within a call it depends on the length alone, so each length is compiled only once.
  """
  devices = parallel.device_count()
  return max(min(tokens // length, _power_of_two(count)) // devices, 1) * devices


def _power_of_two(count: int) -> int:
  return 1 << max(count - 1, 0).bit_length()


def batched(
  forward: Forward,
  model: pretrained.Pretrained,
  limit: int,
  pad_id: int,
  batch_size: int,
  dtype: DTypeLike,
  progress: Progress = iter,
  states: States | None = None,
  **statics: Any,
) -> Callable[[Sequence[int], Read], np.ndarray]:
  """Maps a forward pass over the devices, and returns a function that applies it to N texts.

  Args:
    forward: (params, TextBatch, *, config, dtype, <statics>) -> results [B, ...].
    model: its `params` and `config` are used.
    limit: the maximum number of tokens that the model reads; no batch is padded beyond it.
    pad_id: the token that pads the batches.
    batch_size: as for `tokens_at_once`.
    dtype: the compute type.
    progress: wraps the iterable of chunks.
    states: of the N texts, which the batches then contain as `cut_hidden`; None: not computed yet.
    **statics: other arguments of `forward`.

  Returns:
    A function (sizes [N], read) -> np.float32 [N, ...], for N > 0. `sizes` are the approximate
    lengths of the texts, in any unit; they only decide the order. `read` returns the token ids of
    the texts of some rows.
  """
  results = _results(forward, model, limit, pad_id, batch_size, dtype, progress, states, **statics)
  return lambda sizes, read: _in_order(len(sizes), list(results(sizes, read)))


def _results(
  forward: Forward,
  model: pretrained.Pretrained,
  limit: int,
  pad_id: int,
  batch_size: int,
  dtype: DTypeLike,
  progress: Progress = iter,
  states: States | None = None,
  **statics: Any,
) -> Callable[[Sequence[int], Read], Iterator[tuple[Sequence[int], np.ndarray]]]:
  """As `batched`, but the function yields the rows of every batch and their results [B, ...]."""
  bound: dict[str, Any] = {'config': model.config, 'dtype': dtype, **statics}
  run = parallel.map_forward(forward, **bound)
  params = parallel.replicated(cut_lib.stored(model.params, dtype))

  def dispatch(
    rows: Sequence[int], sequences: Sequence[Tokens], length: int, size: int
  ) -> tuple[Sequence[int], jax.Array]:
    filled = [*sequences, *[sequences[-1]] * (size - len(sequences))]
    batch = batches.text_batch(filled, pad_id, min(length, limit))
    if states is not None:
      places = np.pad(rows, (0, size - len(rows)), mode='edge')
      hidden = states.padded(places, batch.ids.shape[1])
      batch = dataclasses.replace(batch, cut_hidden=hidden)
    return rows, run(params, parallel.shard(batch))

  def apply(sizes: Sequence[int], read: Read) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    count = len(sizes)
    tokens = tokens_at_once(count, batch_size)
    order = np.argsort(-np.asarray(sizes), kind='stable')
    chunks = progress(np.split(order, range(CHUNK, count, CHUNK)))
    read_chunks = (list(zip(rows.tolist(), read(rows), strict=True)) for rows in chunks)
    pending: list[tuple[Sequence[int], jax.Array]] = []
    for ready in batches.by_tokens(read_chunks, lambda length: rows_at_once(length, tokens, count)):
      dispatched = [dispatch(*batch) for batch in ready]
      # Waits for the previous chunk while the devices already have the next one.
      yield from [(rows, parallel.gather(result)) for rows, result in pending]
      pending = dispatched
    yield from [(rows, parallel.gather(result)) for rows, result in pending]

  return apply


def _in_order(count: int, results: Sequence[tuple[Sequence[int], np.ndarray]]) -> np.ndarray:
  """Puts the results [B, ...] of batches at their rows -> [N, ...]."""
  out = np.zeros((count, *results[0][1].shape[1:]), np.float32)
  for rows, values in results:
    out[rows] = values[: len(rows)]  # the rest is padding
  return out


def over_tokens(*arguments: Any, **more: Any) -> Callable[[Sequence[Tokens]], np.ndarray]:
  """Returns `batched`, with the same arguments, as a function of token lists [N]."""
  apply = batched(*arguments, **more)
  return lambda sequences: apply(
    list(map(len, sequences)), lambda rows: [sequences[row] for row in rows]
  )


def token_states(
  forward: Forward,
  model: pretrained.Decoder,
  sequences: Sequence[Tokens],
  batch_size: int,
  dtype: DTypeLike,
) -> States:
  """Returns the states of all tokens, of the compute type.

  Args:
    forward: (params, TextBatch, *, config, dtype) -> states [B, S, D].
    model: its `params` and `config` are used.
    sequences: token lists [N], N > 0.
    batch_size: as for `tokens_at_once`.
    dtype: the compute type.
  """
  limit, pad_id = model.config.max_position_embeddings, model.config.eos_token_id
  results = _results(forward, model, limit, pad_id, batch_size, dtype)
  lengths = np.array([len(sequence) for sequence in sequences])
  first = np.cumsum(lengths) - lengths
  of_tokens = np.empty((lengths.sum(), model.config.hidden_size), jnp.dtype(dtype))
  for rows, values in results(lengths.tolist(), lambda rows: [sequences[row] for row in rows]):
    for row, states in zip(rows, values):
      of_tokens[first[row] : first[row] + lengths[row]] = states[: lengths[row]]
  return States(of_tokens, first, lengths)


def token_values(
  forward: Forward,
  model: pretrained.Decoder,
  sequences: Sequence[Tokens],
  batch_size: int,
  dtype: DTypeLike,
) -> list[np.ndarray]:
  """Returns a number for every token of N texts: N arrays, as long as the texts.

  Args:
    forward: (params, TextBatch, *, config, dtype) -> numbers [B, S].
    model: its `params` and `config` are used.
    sequences: token lists [N].
    batch_size: as for `tokens_at_once`.
    dtype: the compute type.
  """
  limit, pad_id = model.config.max_position_embeddings, model.config.eos_token_id
  results = _results(forward, model, limit, pad_id, batch_size, dtype)
  lengths = [len(sequence) for sequence in sequences]
  out: list[np.ndarray] = [np.zeros(0)] * len(sequences)
  for rows, values in results(lengths, lambda rows: [sequences[row] for row in rows]):
    for row, of_text in zip(rows, values):
      out[row] = of_text[: lengths[row]]
  return out


def over_texts(
  forward: Forward,
  model: pretrained.Pretrained,
  limit: int,
  pad_id: int,
  batch_size: int,
  dtype: DTypeLike,
  *,
  specials: bool = False,
  prefix: Tokens = (),
  instead_of_empty: Tokens = (),
  shape: tuple[int, ...] = (),
  progress: Progress = iter,
  **statics: Any,
) -> Callable[[Sequence[str]], np.ndarray]:
  """Returns `batched` as a function of strings: texts [N] -> np.float32 [N, *shape].

  A text that occurs twice is computed once.

  Args:
    forward: see `batched`.
    model: its tokenizer, `params` and `config` are used.
    limit: longer texts are cut on the left, with a warning.
    pad_id: see `batched`.
    batch_size: see `batched`.
    dtype: the compute type.
    specials: whether the tokenizer's special tokens are put around a text.
    prefix: token ids in front of every text.
    instead_of_empty: the token ids to use for an empty text.
    shape: the shape of one text's result.
    progress: wraps the iterable of chunks.
    **statics: other arguments of `forward`.

  Raises (the returned function):
    ConfigError: the argument is a single string, or not a list.
    InputError: one of the texts is not a string.
  """
  apply = batched(forward, model, limit, pad_id, batch_size, dtype, progress, **statics)
  room = limit - len(prefix)
  encode = functools.partial(text.encode, model.tokenizer, max_tokens=room, specials=specials)

  def score(texts: Sequence[str]) -> np.ndarray:
    texts = text.check_texts(texts, 'texts')
    if not texts:
      return np.zeros((0, *shape), np.float32)
    place = {one: number for number, one in enumerate(dict.fromkeys(texts))}
    distinct, cut = list(place), []

    def read(rows: np.ndarray) -> Iterator[Tokens]:
      sequences, shortened = encode([distinct[row] for row in rows])
      cut.append(shortened)
      return ([*prefix, *sequence] or list(instead_of_empty) for sequence in sequences)

    scores = apply([len(one) for one in distinct], read)
    _warn_of_cut(sum(cut), len(distinct), room, model.source)
    return scores[[place[one] for one in texts]]

  return score


def _warn_of_cut(cut: int, count: int, limit: int, source: str) -> None:
  """Warns that `cut` of `count` texts were longer than the tokens that a model reads."""
  if cut:
    logging.warning(
      '%d of %s %s longer than the %d tokens that %s reads: cut on the left',
      cut,
      terminal.count(count, 'text'),
      terminal.plural(cut, 'is', 'are'),
      limit,
      source,
    )
