"""Padded batches of token lists, and the order in which training reads its examples.

Batches have few different shapes, because every shape is compiled once.

Dims: N examples, B examples of a batch, S padded length.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import functools

import numpy as np

from irl_jax import structs

# Padded lengths of prompts. There are few, because a decode loop takes long to compile.
BUCKETS = (8, 16, 24, 32, 40, 48, 56, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
# Padded lengths of texts that are only read: more of them, so that there is less padding.
TEXT_BUCKETS = (*range(8, 128, 8), *range(128, 512, 32), *range(512, 2049, 128))

WINDOW = 32  # batches of training whose texts are sorted by bucket
UPDATES_PER_BUCKET = 200  # compiling an update takes as long as about a hundred small updates
MOST_BUCKETS = 6  # maximum number of padded lengths in training

Tokens = Sequence[int]
Batch = tuple[list[int], list[Tokens], int, int]  # rows, token ids, padded length, size


def bucket(length: int, buckets: Sequence[int] = BUCKETS) -> int:
  """Returns the smallest padded length that fits `length` tokens, or `length` beyond the last."""
  return next((size for size in buckets if size >= length), length)


def round_up(length: int) -> int:
  """Returns the next multiple of 4, for texts whose padding costs more than one more shape."""
  return -(-length // 4) * 4


def training_buckets(lengths: Sequence[int], limit: int, updates: int) -> tuple[int, ...]:
  """Returns padded lengths for training; an update is compiled for each of them.

  The lengths are chosen so that each bucket has about the same number of tokens, and every
  compiled update does a similar share of the work.

  Args:
    lengths: the lengths of the texts, in tokens.
    limit: maximum padded length.
    updates: number of updates; short runs get a single length, because compiling takes time too.
  """
  ordered = np.sort(lengths) if len(lengths) else np.ones(1, int)
  count = min(1 + updates // UPDATES_PER_BUCKET, MOST_BUCKETS)
  shares = np.cumsum(ordered) / ordered.sum()
  ends = ordered[[np.searchsorted(shares, part / count) for part in range(1, count)] + [-1]]
  return tuple(sorted({min(round_up(int(end)), limit) for end in ends}))


def pad_left(
  sequences: Sequence[Tokens], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns ids and validity [N, length], padding first."""
  ids, valid = pad_right([sequence[::-1] for sequence in sequences], length, pad_id)
  return np.ascontiguousarray(ids[:, ::-1]), np.ascontiguousarray(valid[:, ::-1])


def pad_right(
  sequences: Sequence[Tokens], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns ids and validity [N, length], padding last."""
  ids = np.full((len(sequences), length), pad_id, np.int32)
  valid = np.zeros((len(sequences), length), bool)
  for row, sequence in enumerate(sequences):
    ids[row, : len(sequence)] = sequence
    valid[row, : len(sequence)] = True
  return ids, valid


def text_batch(
  sequences: Sequence[Tokens], pad_id: int, length: int | None = None
) -> structs.TextBatch:
  """Returns right-padded texts; without a `length`, padded to the bucket of the longest."""
  ids, valid = pad_right(sequences, length or bucket(max(map(len, sequences))), pad_id)
  return structs.TextBatch(ids, valid)


def prompt_batch(
  sequences: Sequence[Tokens], index: np.ndarray, pad_id: int
) -> structs.PromptBatch:
  """Returns prompts, left-padded to the bucket of the longest."""
  ids, valid = pad_left(sequences, bucket(max(map(len, sequences))), pad_id)
  return structs.PromptBatch(ids, valid, np.asarray(index, np.uint32))


def by_length(sequences: Sequence[Tokens], batch_size: int) -> Iterator[np.ndarray]:
  """Yields the indices [batch_size] of batches of similar length.

  The last batch repeats its last text, so that each padded length is compiled once.
  """
  order = np.argsort([len(sequence) for sequence in sequences], kind='stable')
  for start in range(0, len(order), batch_size):
    rows = order[start : start + batch_size]
    yield np.pad(rows, (0, batch_size - len(rows)), mode='edge')


def by_tokens(
  chunks: Iterable[list[tuple[int, Tokens]]], rows_of: Callable[[int], int]
) -> Iterator[list[Batch]]:
  """Groups texts into batches of similar length, longest first, as the chunks arrive.

  Args:
    chunks: (row, token ids) of some texts each, roughly from long to short; every row once.
    rows_of: padded length -> the number of texts per batch; it depends on the padded length alone,
      so that each length is compiled once.

  Yields:
    The batches that a chunk completes; after the last chunk, what is left. Only the very last batch
    can have fewer texts than its size.
  """
  waiting: list[tuple[int, Tokens]] = []
  for chunk in chunks:
    longest_first = sorted(waiting + chunk, key=lambda item: -len(item[1]))
    full, waiting = _cut_batches(longest_first, rows_of, whole=True)
    yield full
  yield _cut_batches(waiting, rows_of, whole=False)[0]


def _cut_batches(
  texts: list[tuple[int, Tokens]], rows_of: Callable[[int], int], whole: bool
) -> tuple[list[Batch], list[tuple[int, Tokens]]]:
  """Takes batches off the front of texts that are sorted by length.

  Args:
    texts: (row, token ids), longest first.
    rows_of: padded length -> texts per batch.
    whole: whether to take only full batches.

  Returns:
    The batches, and the texts that are left.
  """
  batches: list[Batch] = []
  start = 0
  while start < len(texts):
    # The longest text that is left decides the padded length of the batch, and so its size.
    length = bucket(len(texts[start][1]), TEXT_BUCKETS)
    size = rows_of(length)
    if whole and start + size > len(texts):
      break
    rows, sequences = zip(*texts[start : start + size])
    batches.append((list(rows), list(sequences), length, size))
    start += size
  return batches, texts[start:]


def shuffled_indices(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
  """Returns the examples [batch_size] of batch number `step`.

  Permutations of the examples follow one another without a break, so a batch may span two epochs.
  The result is a pure function of (seed, step), so resuming is exact. This order is for prompts;
  training texts use `order_by_bucket`.
  """
  first = step * batch_size
  numbers = range(first, first + batch_size)
  permutations = {
    epoch: np.random.default_rng((seed, epoch)).permutation(count)
    for epoch in {number // count for number in numbers}
  }
  return np.array([permutations[number // count][number % count] for number in numbers])


def order_by_bucket(
  padded: Sequence[int], batch_size: int, seed: int
) -> Callable[[int], np.ndarray]:
  """Orders training texts so that those of a batch are mostly of one bucket, with little padding.

  Every epoch uses a new permutation, without the last texts that do not fill a batch. The texts of
  WINDOW batches are sorted by bucket and cut into batches, which come in random order. Texts of one
  bucket stay mixed.

  Args:
    padded: the bucket of every example.
    batch_size: B; if there are fewer examples, some occur more than once.
    seed: random seed for the order.

  Returns:
    step -> the examples of its batch [B]: a pure function of (seed, step), so resuming is exact.
  """
  lengths, per_epoch = np.asarray(padded), max(len(padded) // batch_size, 1)

  @functools.lru_cache(maxsize=1)
  def epoch_of_batches(epoch: int) -> np.ndarray:
    rng = np.random.default_rng((seed, epoch))
    rows = np.resize(rng.permutation(len(lengths)), (per_epoch, batch_size))
    windows = [window.ravel() for window in np.array_split(rows, -(-per_epoch // WINDOW))]
    windows = [window[np.argsort(lengths[window], kind='stable')] for window in windows]
    return rng.permutation(np.concatenate(windows).reshape(per_epoch, batch_size))

  return lambda step: epoch_of_batches(step // per_epoch)[step % per_epoch]
