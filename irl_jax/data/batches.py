"""Token lists to padded arrays, in few shapes so that little is compiled; and the order of data.

Dims: N examples, S padded length.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import functools

import numpy as np

from irl_jax import structs

BUCKETS = (8, 16, 24, 32, 40, 48, 56, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
TEXT_BUCKETS = (*range(8, 128, 8), *range(128, 512, 32), *range(512, 2049, 128))
WINDOW = 32  # batches of training whose texts are sorted by bucket together
UPDATES_OF_A_BUCKET, MOST_BUCKETS = 200, 6  # of training


def bucket(length: int, buckets: Sequence[int] = BUCKETS) -> int:
  """The smallest padded length that holds `length` tokens: of prompts, whose decode loops are long to compile; texts
  that are only read have TEXT_BUCKETS, with less padding.
  """
  return next((size for size in buckets if size >= length), length)


def round_up(length: int) -> int:
  """A padded length for the longest of a data set: little padding, where `bucket` means few shapes."""
  return -(-length // 4) * 4


def training_buckets(lengths: Sequence[int], limit: int, updates: int) -> tuple[int, ...]:
  """Padded lengths of training, of each of which an update is compiled; between two of them lie as many tokens.

  Args:
    lengths: of the texts, in tokens.
    limit: padded lengths are at most this.
    updates: how many there will be. Compilation takes as long as a hundred small ones: few updates have one length.
  """
  ordered = np.sort(lengths) if len(lengths) else np.ones(1, int)
  count = min(1 + updates // UPDATES_OF_A_BUCKET, MOST_BUCKETS)
  shares = np.cumsum(ordered) / ordered.sum()
  ends = ordered[[np.searchsorted(shares, part / count) for part in range(1, count)] + [-1]]
  return tuple(sorted({min(round_up(int(end)), limit) for end in ends}))


def pad_left(
  sequences: Sequence[Sequence[int]], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
  """Ids and validity [N, length], padding first."""
  ids, valid = pad_right([sequence[::-1] for sequence in sequences], length, pad_id)
  return np.ascontiguousarray(ids[:, ::-1]), np.ascontiguousarray(valid[:, ::-1])


def pad_right(
  sequences: Sequence[Sequence[int]], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
  """Ids and validity [N, length], padding last."""
  ids = np.full((len(sequences), length), pad_id, np.int32)
  valid = np.zeros((len(sequences), length), bool)
  for row, sequence in enumerate(sequences):
    ids[row, : len(sequence)] = sequence
    valid[row, : len(sequence)] = True
  return ids, valid


def text_batch(
  sequences: Sequence[Sequence[int]], pad_id: int, length: int | None = None
) -> structs.TextBatch:
  """Right-padded texts; to the bucket of the longest where no length is given."""
  return structs.TextBatch(
    *pad_right(sequences, length or bucket(max(map(len, sequences))), pad_id)
  )


def prompt_batch(
  sequences: Sequence[Sequence[int]], index: np.ndarray, pad_id: int
) -> structs.PromptBatch:
  """Left-padded prompts, to the bucket of the longest."""
  ids, valid = pad_left(sequences, bucket(max(map(len, sequences))), pad_id)
  return structs.PromptBatch(ids, valid, np.asarray(index, np.uint32))


def by_length(sequences: Sequence[Sequence[int]], batch_size: int) -> Iterator[np.ndarray]:
  """Indices of batches of texts of similar length; the last batch is filled up by repeating its last text.

  Every batch has `batch_size` rows, so that each padded length is compiled once.
  """
  order = np.argsort([len(sequence) for sequence in sequences], kind='stable')
  for start in range(0, len(order), batch_size):
    rows = order[start : start + batch_size]
    yield np.pad(rows, (0, batch_size - len(rows)), mode='edge')


def by_tokens(
  chunks: Iterable[list[tuple[int, Sequence[int]]]], rows_of: Callable[[int], int]
) -> Iterator[list[tuple[list[int], list[Sequence[int]], int, int]]]:
  """Batches of texts of similar length, longest first, as the chunks of a longer list come in.

  Args:
    chunks: (row, token ids) of some texts each, roughly by length; every row once.
    rows_of: padded length -> how many texts are a batch of it, so that each padded length is compiled once.

  Yields:
    For every chunk the batches that it completes, and at the end what is left: (rows, token ids, padded length, size).
    Of all batches only the very last can have fewer texts than its size.
  """
  waiting = []
  for chunk in chunks:
    full, waiting = _cut_batches(
      sorted(waiting + chunk, key=lambda item: -len(item[1])), rows_of, whole=True
    )
    yield full
  yield _cut_batches(waiting, rows_of, whole=False)[0]


def _cut_batches(texts, rows_of, whole: bool):
  """Batches off the front of texts that are sorted by length, and the texts behind them; `whole`: full ones alone."""
  cut, start = [], 0
  while start < len(texts):
    length = bucket(len(texts[start][1]), TEXT_BUCKETS)
    size = rows_of(length)
    if whole and start + size > len(texts):
      break
    rows, sequences = zip(*texts[start : start + size])
    cut.append((list(rows), list(sequences), length, size))
    start += size
  return cut, texts[start:]


def shuffled_indices(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
  """Which examples make batch number `step` [batch_size]: a pure function of (seed, step), so resuming is exact.

  Examples run through one permutation after the other, without a break between them. Of prompts: texts that are trained
  on have an `order_by_bucket`.
  """
  first = step * batch_size
  numbers = np.arange(first, first + batch_size)
  permutations = {
    epoch: np.random.default_rng((seed, epoch)).permutation(count)
    for epoch in set(numbers // count)
  }
  return np.array([permutations[number // count][number % count] for number in numbers])


def order_by_bucket(
  padded: Sequence[int], batch_size: int, seed: int
) -> Callable[[int], np.ndarray]:
  """An order of data in which the texts of a batch are mostly of one bucket, so that little of it is padding.

  Every epoch is another permutation, less the last texts, which fill no batch. Those of WINDOW batches are sorted by
  bucket and cut into batches, and these come in a random order; texts of one bucket stay mixed.

  Args:
    padded: the bucket of every example.
    batch_size: B; with fewer examples they come more than once.
    seed: of the order.

  Returns:
    step -> which examples make its batch [B]: a pure function of (seed, step), so resuming is exact.
  """
  padded, per_epoch = np.asarray(padded), max(len(padded) // batch_size, 1)

  @functools.lru_cache(maxsize=1)
  def epoch_of_batches(epoch: int) -> np.ndarray:
    rng = np.random.default_rng((seed, epoch))
    rows = np.resize(rng.permutation(len(padded)), (per_epoch, batch_size))
    windows = [window.ravel() for window in np.array_split(rows, -(-per_epoch // WINDOW))]
    windows = [window[np.argsort(padded[window], kind='stable')] for window in windows]
    return rng.permutation(np.concatenate(windows).reshape(per_epoch, batch_size))

  return lambda step: epoch_of_batches(step // per_epoch)[step % per_epoch]
