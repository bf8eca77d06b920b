"""Demonstrations as minibatches: pairs of token ids, and what a frozen trunk or its frozen blocks make of them, once.

Dims: N pairs, B pairs of a minibatch, K samples of a prompt, S padded length, D width.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
import dataclasses

import numpy as np

from irl_jax import errors
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.models import pretrained

Pair = tuple[Sequence[int], Sequence[int]]  # token ids of the aligned and of the base text


def encode_pairs(
  model: pretrained.Pretrained, aligned: Sequence[str], base: Sequence[str], max_tokens: int
) -> list[Pair]:
  """Whole texts to token ids, nothing added before or behind; long ones lose their beginning, an empty one is EOS."""
  limit = min(max_tokens, model.config.max_position_embeddings)
  ids, cut = text.encode(model.tokenizer, [*aligned, *base], max_tokens=limit)
  text.report_cut(cut, len(ids), 'demonstrated texts', limit)
  ids = [row or [model.config.eos_token_id] for row in ids]
  return list(zip(ids[: len(aligned)], ids[len(aligned) :]))


def pair_batch(
  pairs: Sequence[Pair], weight: np.ndarray, pad_id: int, length: int
) -> structs.PairBatch:
  """Right-padded pairs; weight [B] is 0 for those that only fill the batch."""
  aligned, base = zip(*pairs)
  return structs.PairBatch(
    batches.text_batch(aligned, pad_id, length),
    batches.text_batch(base, pad_id, length),
    np.asarray(weight, np.float32),
  )


@dataclasses.dataclass(frozen=True)
class TokenPairs:
  """Pairs of texts."""

  pairs: Sequence[Pair]
  pad_id: int
  buckets: Sequence[int]  # what S of a batch can be, ascending

  def __len__(self) -> int:
    return len(self.pairs)

  @property
  def padded(self) -> list[int]:
    """The bucket of every pair [N]."""
    return [batches.bucket(max(map(len, pair)), self.buckets) for pair in self.pairs]

  def batch(self, rows: np.ndarray) -> structs.PairBatch:
    pairs = [self.pairs[row] for row in rows]
    length = batches.bucket(max(max(map(len, pair)) for pair in pairs), self.buckets)
    return pair_batch(pairs, np.ones(len(rows)), self.pad_id, length)


@dataclasses.dataclass(frozen=True)
class FeaturePairs:
  """The same pairs as a frozen trunk sees them: all that a head needs, whatever its weights."""

  aligned: np.ndarray  # [N, D] float32
  base: np.ndarray  # [N, D] float32

  def __len__(self) -> int:
    return len(self.aligned)

  @property
  def padded(self) -> list[int]:
    return [1] * len(self)

  def batch(self, rows: np.ndarray) -> structs.PairBatch:
    return structs.PairBatch(
      structs.Features(self.aligned[rows]),
      structs.Features(self.base[rows]),
      np.ones(len(rows), np.float32),
    )


@dataclasses.dataclass(frozen=True)
class CutPairs:
  """Pairs of texts, and what the frozen blocks below the trained ones make of them."""

  tokens: TokenPairs
  hidden: np.ndarray  # [N, 2, S, D] at the cut, of the aligned and of the base texts

  def __len__(self) -> int:
    return len(self.tokens)

  @property
  def padded(self) -> list[int]:
    return self.tokens.padded

  def batch(self, rows: np.ndarray) -> structs.PairBatch:
    batch = self.tokens.batch(rows)
    hidden = self.hidden[rows, :, : batch.aligned.ids.shape[1]]
    return batch.replace(
      aligned=batch.aligned.replace(cut_hidden=hidden[:, 0]),
      base=batch.base.replace(cut_hidden=hidden[:, 1]),
    )


Pairs = TokenPairs | FeaturePairs | CutPairs


def token_pairs(pairs: Sequence[Pair], pad_id: int, updates: int = 0) -> TokenPairs:
  """Pairs, and the padded lengths that suit them and so many updates."""
  lengths = [max(map(len, pair)) for pair in pairs]
  return TokenPairs(
    pairs, pad_id, batches.training_buckets(lengths, batches.round_up(max(lengths)), updates)
  )


def compute_features(
  pairs: Sequence[Pair], features: Callable[[Sequence[Sequence[int]]], np.ndarray]
) -> FeaturePairs:
  """Runs `features` (token lists [N] -> [N, D]) over every text once."""
  both = features([*(aligned for aligned, _ in pairs), *(base for _, base in pairs)])
  return FeaturePairs(both[: len(pairs)], both[len(pairs) :])


@dataclasses.dataclass(frozen=True)
class PromptPairs:
  """The same pairs prompt by prompt: a batch of n prompts is n K pairs, those of a prompt in a row."""

  pairs: Pairs
  rows: np.ndarray  # [prompts, K] int: which of the pairs; -1: one that is missing

  def __len__(self) -> int:
    return len(self.rows)

  @property
  def padded(self) -> list[int]:
    of_pairs = self.pairs.padded
    return [max(of_pairs[row] for row in rows if row >= 0) for rows in self.rows]

  def batch(self, prompts: np.ndarray) -> structs.PairBatch:
    """What is missing is filled with the prompt's first pair, of weight 0."""
    rows = self.rows[prompts]
    batch = self.pairs.batch(np.where(rows >= 0, rows, rows[:, :1]).ravel())
    return batch.replace(weight=(rows >= 0).ravel().astype(np.float32))


def by_prompt(pairs: Pairs, prompts: Sequence[Hashable] | None, samples: int) -> PromptPairs:
  """Puts `samples` pairs of a prompt together; one that is alone, and so no sample of a mean, is left out.

  Args:
    pairs: in any order.
    prompts: which prompt each pair is of [N]; None: any two may be compared.
    samples: K; a prompt that has more pairs fills several rows.

  Raises:
    InputError: no prompt has two pairs.
  """
  of_prompt = {}
  for row in range(len(pairs)):
    of_prompt.setdefault(None if prompts is None else prompts[row], []).append(row)
  rows = [
    part + [-1] * (samples - len(part))
    for numbers in of_prompt.values()
    for part in (numbers[first : first + samples] for first in range(0, len(numbers), samples))
    if len(part) > 1
  ]
  if not rows:
    raise errors.InputError(
      'maximum entropy needs two pairs of one prompt and there are none: demonstrate more '
      '(config.irl.samples_per_prompt, stage demos), or choose another config.irl.objective'
    )
  return PromptPairs(pairs, np.array(rows))


def blocks_of_rows(count: int, batch_size: int) -> list[np.ndarray]:
  """Row numbers of batches in order; the last batch is filled up by repeating its last row."""
  return [
    np.pad(rows, (0, batch_size - len(rows)), mode='edge')
    for rows in np.split(np.arange(count), range(batch_size, count, batch_size))
  ]
