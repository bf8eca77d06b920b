"""Demonstrations as minibatches: pairs of token ids, or of the features that a frozen trunk makes of them, once.

Dims: N pairs, B pairs of a minibatch, S padded length, D width.
"""

import dataclasses
from typing import Callable, Sequence

import numpy as np

from irl_jax import batches
from irl_jax import structs
from irl_jax import text
from irl_jax.models import pretrained

Pair = tuple[Sequence[int], Sequence[int]]  # token ids of the aligned and of the base text


def encode_pairs(model: pretrained.Pretrained, aligned: Sequence[str], base: Sequence[str], max_tokens: int
                 ) -> list[Pair]:
  """Whole texts to token ids, nothing added before or behind; an empty text is EOS alone."""
  limit = min(max_tokens, model.config.max_position_embeddings)
  encode = lambda texts: [ids or [model.config.eos_token_id]
                          for ids in text.encode(model.tokenizer, texts, max_tokens=limit)[0]]
  return list(zip(encode(aligned), encode(base)))


def pair_batch(pairs: Sequence[Pair], weight: np.ndarray, pad_id: int, length: int) -> structs.PairBatch:
  """Right-padded pairs; weight [B] is 0 for those that only fill the batch."""
  aligned, base = zip(*pairs)
  return structs.PairBatch(batches.text_batch(aligned, pad_id, length), batches.text_batch(base, pad_id, length),
                           np.asarray(weight, np.float32))


@dataclasses.dataclass(frozen=True)
class TokenPairs:
  """Pairs of texts."""

  pairs: Sequence[Pair]
  pad_id: int
  length: int                        # that all are padded to, so that the update compiles once

  def __len__(self) -> int:
    return len(self.pairs)

  def batch(self, rows: np.ndarray) -> structs.PairBatch:
    return pair_batch([self.pairs[row] for row in rows], np.ones(len(rows)), self.pad_id, self.length)


@dataclasses.dataclass(frozen=True)
class FeaturePairs:
  """The same pairs as a frozen trunk sees them: all that a head needs, whatever its weights."""

  aligned: np.ndarray                # [N, D] float32
  base: np.ndarray                   # [N, D] float32

  def __len__(self) -> int:
    return len(self.aligned)

  def batch(self, rows: np.ndarray) -> structs.PairBatch:
    return structs.PairBatch(structs.Features(self.aligned[rows]), structs.Features(self.base[rows]),
                             np.ones(len(rows), np.float32))


Pairs = TokenPairs | FeaturePairs


def token_pairs(pairs: Sequence[Pair], pad_id: int) -> TokenPairs:
  """Pairs padded to the longest text of all."""
  return TokenPairs(pairs, pad_id, batches.round_up(max(max(map(len, pair)) for pair in pairs)))


def compute_features(pairs: Sequence[Pair], features: Callable[[Sequence[Sequence[int]]], np.ndarray]) -> FeaturePairs:
  """Runs `features` (token lists [N] -> [N, D]) over every text once."""
  both = features([*(aligned for aligned, _ in pairs), *(base for _, base in pairs)])
  return FeaturePairs(both[:len(pairs)], both[len(pairs):])


def blocks_of_rows(count: int, batch_size: int) -> list[np.ndarray]:
  """Row numbers of batches in order; the last batch is filled up by repeating its last row."""
  return [np.pad(rows, (0, batch_size - len(rows)), mode='edge')
          for rows in np.split(np.arange(count), range(batch_size, count, batch_size))]
