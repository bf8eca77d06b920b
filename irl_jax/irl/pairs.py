"""Demonstrations as minibatches: pairs of texts, with the outputs of frozen layers.

The outputs are computed once.

Dims: N pairs, G groups, K pairs of a group, B pairs of a minibatch, S padded length, D width.
"""

from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Sized
import dataclasses
import itertools
from typing import Any

import numpy as np

from irl_jax import errors
from irl_jax import scoring
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.irl import labels as labels_lib
from irl_jax.models import pretrained
from irl_jax.runtime import terminal
from irl_jax.training import arguments

Pair = tuple[Sequence[int], Sequence[int]]  # token ids of the aligned and the base text
MUST_BE = 'must be the token ids of an aligned and a base text; encode_pairs returns them'


def encode_pairs(
  model: pretrained.Decoder,
  aligned: Sequence[str],
  base: Sequence[str],
  max_tokens: int,
  prompts: Sequence[Hashable] | None = None,
) -> list[Pair]:
  """Tokenises whole texts. Nothing is added around them, and an empty text becomes EOS.

  A text of more than `max_tokens` loses its beginning. Texts of one prompt lose the same number of
  tokens, so that the same position in two texts still has the same distance from the prompt.

  Args:
    model: its tokenizer and its number of positions are used.
    aligned: N texts.
    base: N texts.
    max_tokens: the maximum number of tokens of a text.
    prompts: the prompt of every pair [N]; None: the texts share no prompt, and each is cut on its
      own.

  Raises:
    ConfigError: the lists differ in length, one is a single string, or max_tokens is no number
      from 1.
    InputError: a text is not a string.
  """
  arguments.check_whole(max_tokens, 'max_tokens', low=1)
  aligned, base = text.check_texts(aligned, 'aligned'), text.check_texts(base, 'base')
  check_lengths(len(aligned), base=base, prompts=prompts)
  limit = min(max_tokens, model.config.max_position_embeddings)
  ids, _ = text.encode(model.tokenizer, [*aligned, *base])
  cut = sum(len(row) > limit for row in ids)
  text.report_cut(cut, terminal.count(len(ids), 'demonstrated text'), limit)
  groups = range(len(ids)) if prompts is None else [*prompts, *prompts]
  ids = _cut_alike(ids, groups, limit) if cut else ids
  ids = [row or [model.config.eos_token_id] for row in ids]
  return list(zip(ids[: len(aligned)], ids[len(aligned) :]))


def check_lengths(count: int, **others: Sequence[Any] | None) -> None:
  """Refuses what is no list of `count` members, by name; None: there is no list.

  Raises:
    ConfigError: names the list.
  """
  for name, values in others.items():
    if values is not None and not isinstance(values, Sized):
      raise errors.ConfigError(f'{name}: must be a list, not {type(values).__name__}')
    if values is not None and len(values) != count:
      raise errors.ConfigError(f'{name}: has {len(values)}, but must have {count}, one per pair')


def checked(pairs: Any, model: pretrained.Decoder, name: str) -> list[Pair]:
  """Returns pairs of token ids as lists, if they are nothing else.

  Args:
    pairs: what a caller passed as pairs.
    model: its vocabulary and its number of positions limit the ids.
    name: the name of the argument, for messages.

  Raises:
    ConfigError: it is not a list.
    InputError: one of the pairs is not two texts of token ids that the model can read.
  """
  if isinstance(pairs, str | bytes | Mapping) or not isinstance(pairs, Iterable):
    raise errors.ConfigError(f'{name}: must be a list of pairs, not {type(pairs).__name__}')
  return [_checked(pair, model, f'{name}[{number}]') for number, pair in enumerate(pairs)]


def _checked(pair: Any, model: pretrained.Decoder, name: str) -> Pair:
  if isinstance(pair, str | Mapping) or not isinstance(pair, Sequence) or len(pair) != 2:
    raise errors.InputError(f'{name} is {pair!r:.60}: {MUST_BE}')
  aligned, base = (_checked_ids(ids, model, f'{name}[{side}]') for side, ids in enumerate(pair))
  return aligned, base


def _checked_ids(ids: Any, model: pretrained.Decoder, name: str) -> list[int]:
  values = np.asarray(ids) if isinstance(ids, Sequence | np.ndarray) else np.zeros(())
  if values.ndim != 1 or not values.size or values.dtype.kind not in 'iu':
    raise errors.InputError(f'{name} is {ids!r:.60}: {MUST_BE}')
  vocabulary, positions = model.config.vocab_size, model.config.max_position_embeddings
  if values.min() < 0 or values.max() >= vocabulary:
    wrong = values[(values < 0) | (values >= vocabulary)][0]
    raise errors.InputError(f'{name}: token id {wrong}: must be from 0 to {vocabulary - 1}')
  if len(values) > positions:
    raise errors.InputError(
      f'{name}: has {len(values)} tokens; must have at most {positions}, the positions of '
      f'{model.source or "the model"}; encode_pairs cuts texts'
    )
  return values.tolist()


def _cut_alike(
  texts: Sequence[list[int]], groups: Sequence[Hashable], limit: int
) -> list[list[int]]:
  """Cuts texts on the left to at most `limit` tokens, all texts of a group by the same number.

  At most the common beginning (the prompt) is cut on the left. What is still too long is cut on the
  right.
  """
  members: dict[Hashable, list[int]] = {}
  for row, group in enumerate(groups):
    members.setdefault(group, []).append(row)
  out = list(texts)
  for rows in members.values():
    surplus = max(len(texts[row]) for row in rows) - limit
    if surplus <= 0:
      continue
    columns = zip(*(texts[row] for row in rows))
    shared = len(list(itertools.takewhile(lambda tokens: len(set(tokens)) == 1, columns)))
    for row in rows:
      out[row] = texts[row][min(surplus, shared) :][:limit]
  return out


def pair_batch(
  pairs: Sequence[Pair],
  weight: np.ndarray,
  pad_id: int,
  length: int,
  cut_hidden: tuple[np.ndarray, np.ndarray] | None = None,
) -> structs.PairBatch:
  """Pads pairs on the right.

  Args:
    pairs: B pairs.
    weight: [B], 0 for pairs that only fill the batch.
    pad_id: the padding token.
    length: S.
    cut_hidden: states at the lowest trained block [B, S, D], of the aligned and of the base texts;
      None: not computed.
  """
  aligned, base = (batches.text_batch(texts, pad_id, length) for texts in zip(*pairs))
  if cut_hidden is not None:
    aligned = dataclasses.replace(aligned, cut_hidden=cut_hidden[0])
    base = dataclasses.replace(base, cut_hidden=cut_hidden[1])
  return structs.PairBatch(aligned, base, np.asarray(weight, np.float32))


@dataclasses.dataclass(frozen=True)
class PairDataset:
  """Pairs in groups of K pairs of one prompt.

  Objectives of single pairs use groups of one (`pair_dataset`).
  At most one of `features` and `cut_hidden` is set. Batches then contain it, so that the frozen
  part does not run again.
  """

  pairs: Sequence[Pair]
  pad_id: int
  buckets: Sequence[int]  # allowed padded lengths S, ascending
  groups: np.ndarray  # [G, K] int: row numbers of pairs; -1 where a group has fewer than K
  features: np.ndarray | None = None  # [N, 2, D] float32: pooled states of a fully frozen trunk
  # States at the lowest trained block, of the aligned texts, then of the base texts [2N]
  cut_hidden: scoring.States | None = None
  labels: labels_lib.Labels | None = None  # of the N pairs; None: the aligned text is better

  def __len__(self) -> int:
    """Returns the number of groups G."""
    return len(self.groups)

  @property
  def padded(self) -> list[int]:
    """The padded length of every group [G]; always 1 for features, which have no length."""
    if self.features is not None:
      return [1] * len(self)
    of_pairs = [batches.bucket(max(map(len, pair)), self.buckets) for pair in self.pairs]
    return [max(of_pairs[row] for row in rows if row >= 0) for rows in self.groups]

  def batch(self, numbers: np.ndarray) -> structs.PairBatch:
    """Returns the pairs of some groups; the K pairs of a group are consecutive.

    An incomplete group is filled with copies of its first pair, of weight 0.
    """
    rows = self.groups[numbers]
    weight = (rows >= 0).ravel().astype(np.float32)
    return self._batch_of_pairs(np.where(rows >= 0, rows, rows[:, :1]).ravel(), weight)

  def _batch_of_pairs(self, rows: np.ndarray, weight: np.ndarray) -> structs.PairBatch:
    """Returns the pairs of these row numbers [B]."""
    if self.features is not None:
      aligned, base = (structs.Features(self.features[rows, side]) for side in (0, 1))
      return structs.PairBatch(aligned, base, weight, self._labels(rows, 1))
    pairs = [self.pairs[row] for row in rows]
    length = batches.bucket(max(max(map(len, pair)) for pair in pairs), self.buckets)
    hidden = None
    if self.cut_hidden is not None:
      both = [self.cut_hidden.padded(rows + first, length) for first in (0, len(self.pairs))]
      hidden = both[0], both[1]
    batch = pair_batch(pairs, weight, self.pad_id, length, hidden)
    return dataclasses.replace(batch, label=self._labels(rows, length))

  def _labels(self, rows: np.ndarray, length: int) -> np.ndarray | None:
    """Returns the labels [B, S] of the pairs of these row numbers; None if there are none."""
    if self.labels is None:
      return None
    return labels_lib.padded([self.labels[row] for row in rows], length)


def pair_dataset(pairs: Sequence[Pair], pad_id: int, updates: int = 0) -> PairDataset:
  """Returns the pairs in groups of one, with padded lengths that suit them and the updates."""
  lengths = [max(map(len, pair)) for pair in pairs]
  buckets = batches.training_buckets(lengths, batches.round_up(max(lengths)), updates)
  return PairDataset(pairs, pad_id, buckets, groups=np.arange(len(pairs))[:, None])


def texts_of(pairs: Sequence[Pair]) -> list[Sequence[int]]:
  """Returns the aligned texts, then the base texts [2N]."""
  return [*(aligned for aligned, _ in pairs), *(base for _, base in pairs)]


def of_both(results: np.ndarray) -> np.ndarray:
  """Puts results [2N, D] of the texts in the order of `texts_of` side by side -> [N, 2, D]."""
  return np.stack(np.split(results, 2), axis=1)


def by_prompt(
  dataset: PairDataset, prompts: Sequence[Hashable] | None, group_size: int
) -> PairDataset:
  """Regroups pairs by prompt.

  A prompt with more than K pairs fills several groups. A group that would have a single pair is
  dropped: a mean needs two pairs.

  Args:
    dataset: pairs in any order, in groups of one.
    prompts: the prompt of every pair [N]; None: any pairs may form a group.
    group_size: K; with 1 the dataset stays as it is.

  Raises:
    InputError: no prompt has the two pairs that a group needs.
  """
  if group_size == 1:
    return dataset
  of_prompt: dict[Hashable, list[int]] = {}
  for row in range(len(dataset.pairs)):
    of_prompt.setdefault(None if prompts is None else prompts[row], []).append(row)
  groups = [
    part + [-1] * (group_size - len(part))
    for rows in of_prompt.values()
    for part in (rows[first : first + group_size] for first in range(0, len(rows), group_size))
    if len(part) > 1
  ]
  if not groups:
    raise errors.InputError(
      'config.irl.objective needs at least two different pairs per prompt, but no prompt has two: '
      'raise config.irl.samples_per_prompt and rerun stage demos, or choose another objective'
    )
  return dataclasses.replace(dataset, groups=np.array(groups))


def blocks_of_rows(count: int, batch_size: int) -> list[np.ndarray]:
  """Splits row numbers into batches in order; the last one is filled by repeating its last row."""
  return [
    np.pad(rows, (0, batch_size - len(rows)), mode='edge')
    for rows in np.split(np.arange(count), range(batch_size, count, batch_size))
  ]
