"""A forward pass over any number of texts: batches of similar length, and the host ahead of the devices.

Texts are tokenised a chunk at a time, long ones first; while the devices compute one chunk, the host tokenises the
next. Dims: N texts, B texts of a batch, S padded length.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from absl import logging
import jax
import numpy as np

from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.models import pretrained
from irl_jax.runtime import parallel

Tokens = Sequence[int]
CHUNK = 1024  # texts that are tokenised at once
TOKENS_OF_A_TEXT = 64  # by which a number of texts becomes a number of tokens
TOKENS_ON_CPU = (
  1024  # of one device: with more, RoBERTa-base leaves the last-level cache, a sixth slower
)
BATCHES_OF_A_CALL = (
  8  # as many at least: in a single batch, all texts would be as long as the longest
)
LEAST_TOKENS = (
  512  # but no fewer at once: all weights are read for every batch (16 texts: a third of the time)
)


def tokens_at_once(count: int, batch_size: int) -> int:
  """Tokens of one batch, padding among them, over all devices.

  Args:
    count: texts of the call; rounded up to a power of two, so that calls of similar size share what was compiled.
    batch_size: texts of TOKENS_OF_A_TEXT tokens that the devices hold at once.
  """
  most = batch_size * TOKENS_OF_A_TEXT
  if jax.default_backend() == 'cpu':
    most = min(most, TOKENS_ON_CPU * parallel.device_count())
  wanted = max(_power_of_two(count) * TOKENS_OF_A_TEXT // BATCHES_OF_A_CALL, LEAST_TOKENS)
  return max(min(most, wanted), 1)


def rows_at_once(length: int, tokens: int, count: int) -> int:
  """Texts [B] of a padded length in one batch: as many for every batch of that length, and a multiple of the devices."""
  devices = parallel.device_count()
  return max(min(tokens // length, _power_of_two(count)) // devices, 1) * devices


def _power_of_two(count: int) -> int:
  return 1 << max(count - 1, 0).bit_length()


def batched(
  forward: Callable,
  model: pretrained.Pretrained,
  limit: int,
  pad_id: int,
  batch_size: int,
  dtype,
  progress: Callable = iter,
  **statics,
) -> Callable:
  """`forward(params, TextBatch, *, config, dtype, <statics>)` over any number of texts, mapped over the devices.

  Args:
    forward: gives results [B, ...].
    model: its params, config.
    limit: tokens that the model reads; no batch is padded beyond.
    pad_id: what batches are padded with.
    batch_size: as `tokens_at_once` takes it.
    dtype: of computation.
    progress: wraps the iterable of chunks.
    **statics: what else `forward` needs.

  Returns:
    A function (sizes [N], read) -> np.float32 [N, ...]. `sizes` are the texts' lengths, in any unit and as roughly as
    one likes: long texts come first. `read` gives the token ids of the texts of some rows.
  """
  run = parallel.map_forward(forward, config=model.config, dtype=dtype, **statics)
  params = parallel.replicated(model.params)

  def dispatch(
    rows: Sequence[int], sequences: Sequence[Tokens], length: int, size: int
  ) -> tuple[Sequence[int], Any]:
    filled = [*sequences, *[sequences[-1]] * (size - len(sequences))]
    return rows, run(params, parallel.shard(batches.text_batch(filled, pad_id, min(length, limit))))

  def apply(sizes: Sequence[int], read: Callable[[np.ndarray], Sequence[Tokens]]) -> np.ndarray:
    count = len(sizes)
    tokens = tokens_at_once(count, batch_size)
    order = np.argsort(-np.asarray(sizes), kind='stable')
    chunks = progress(np.split(order, range(CHUNK, count, CHUNK)))
    read_chunks = (list(zip(rows.tolist(), read(rows))) for rows in chunks)
    results, pending = [], []
    for ready in batches.by_tokens(read_chunks, lambda length: rows_at_once(length, tokens, count)):
      dispatched = [dispatch(*batch) for batch in ready]
      results += [
        (rows, parallel.gather(result)) for rows, result in pending
      ]  # waits for the chunk before
      pending = dispatched
    return _in_order(count, results + [(rows, parallel.gather(result)) for rows, result in pending])

  return apply


def _in_order(count: int, results: Iterable[tuple[Sequence[int], np.ndarray]]) -> np.ndarray:
  """Results of batches, put where their rows are."""
  out = None
  for rows, values in results:
    if out is None:
      out = np.zeros((count, *values.shape[1:]), np.float32)
    out[rows] = values[: len(rows)]
  return out


def over_tokens(*arguments, **more) -> Callable:
  """`batched` over token lists [N] -> np.float32 [N, ...]."""
  apply = batched(*arguments, **more)
  return lambda sequences: apply(
    list(map(len, sequences)), lambda rows: [sequences[row] for row in rows]
  )


def over_texts(
  forward: Callable,
  model: pretrained.Pretrained,
  limit: int,
  pad_id: int,
  batch_size: int,
  dtype,
  *,
  specials: bool = False,
  prefix: Tokens = (),
  instead_of_empty: Tokens = (),
  shape: tuple[int, ...] = (),
  progress: Callable = iter,
  **statics,
) -> Callable:
  """`batched` over strings: texts [N] -> np.float32 [N, *shape]. A text that comes twice is read once.

  Args:
    specials: whether the tokenizer's special tokens are put around a text.
    prefix: ids in front of every text.
    instead_of_empty: ids of a text that has none.
    shape: of one text's result.
  """
  apply = batched(forward, model, limit, pad_id, batch_size, dtype, progress, **statics)

  def score(texts: Sequence[str]) -> np.ndarray:
    if not len(texts):
      return np.zeros((0, *shape), np.float32)
    place = {one: number for number, one in enumerate(dict.fromkeys(texts))}
    different, cut = list(place), []

    def read(rows: np.ndarray) -> Iterator[Tokens]:
      sequences, shortened = text.encode(
        model.tokenizer,
        [different[row] for row in rows],
        max_tokens=limit - len(prefix),
        specials=specials,
      )
      cut.append(shortened)
      return ([*prefix, *sequence] or list(instead_of_empty) for sequence in sequences)

    scores = apply([len(one) for one in different], read)
    if sum(cut):
      logging.warning(
        '%d of %d texts are longer than the %d tokens that %s reads: cut on the left',
        sum(cut),
        len(different),
        limit - len(prefix),
        model.source,
      )
    return scores[[place[one] for one in texts]]

  return score
