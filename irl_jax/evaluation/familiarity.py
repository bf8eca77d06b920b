"""A flag for texts that are unlike those that a reward was recovered from.

It counts pairs of neighbouring tokens that the recovery never saw. Dims: N texts, T pairs of
neighbouring tokens of all texts, G distinct pairs.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

Tokens = Sequence[int]

# Imaginary pairs added to every text, of which the usual share is new. Without them, one new pair
# would flag a text of three words.
ADDED = 10
SHARE = 0.99  # of texts like those of the recovery, which are not flagged
NO_TEXTS = 'the flag needs texts to compare with, and texts to set its limit on'


@dataclasses.dataclass(frozen=True)
class Familiar:
  """The pairs of neighbouring tokens that a recovery saw, and what is usual for unseen texts."""

  seen: np.ndarray  # [G] int64, sorted codes of the pairs
  vocabulary: int  # larger than every token id
  usual: float  # share of new pairs in texts like those of the recovery
  limit: float  # novelty above which a text is flagged

  def novelty(self, texts: Sequence[Tokens]) -> np.ndarray:
    """Returns the share of new pairs of each text [N], in [0, 1], shrunk towards the usual share.

    With k new pairs among the m pairs of a text, it is (k + 10 usual) / (m + 10).
    """
    new, pairs = count_new(self.seen, texts, self.vocabulary)
    return (new + ADDED * self.usual) / (pairs + ADDED)

  def flags(self, texts: Sequence[Tokens]) -> np.ndarray:
    """Returns which texts [N] are unlike those of the recovery."""
    return self.novelty(texts) > self.limit


def fit(training: Sequence[Tokens], validation: Sequence[Tokens], vocabulary: int) -> Familiar:
  """Learns which pairs are seen, and sets the limit so that 99 % of unseen texts lie within it.

  Args:
    training: the texts that the reward was recovered from.
    validation: texts of the same kind that it was not trained on.
    vocabulary: larger than every token id.

  Raises:
    ValueError: there are no texts, or none of two tokens to compare with.
  """
  seen = np.unique(codes(training, vocabulary)[0])
  if not seen.size or not validation:
    raise ValueError(NO_TEXTS)
  new, pairs = count_new(seen, validation, vocabulary)
  usual = float(new.sum() / max(pairs.sum(), 1))
  unlimited = Familiar(seen, vocabulary, usual, limit=1.0)
  limit = float(np.quantile(unlimited.novelty(validation), SHARE, method='higher'))
  return dataclasses.replace(unlimited, limit=limit)


def count_new(
  seen: np.ndarray, texts: Sequence[Tokens], vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the number of new pairs and of all pairs of each text, both [N].

  Args:
    seen: [G], sorted codes.
    texts: N texts.
    vocabulary: larger than every token id.
  """
  pairs, lengths = codes(texts, vocabulary)
  place = np.minimum(np.searchsorted(seen, pairs), seen.size - 1)
  # Sums of each text's stretch: a cumulative sum also works for texts without a pair.
  total = np.concatenate([[0], np.cumsum(seen[place] != pairs)])
  ends = np.cumsum(lengths)
  return total[ends] - total[ends - lengths], lengths


def codes(texts: Sequence[Tokens], vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the pairs of neighbours [T] as numbers, first id x vocabulary + second, and [N] counts.

  Ids beyond the vocabulary would collide with other pairs.
  """
  arrays = [np.asarray(text, np.int64) for text in texts]
  pairs = [ids[:-1] * vocabulary + ids[1:] for ids in arrays]
  joined = np.concatenate(pairs) if pairs else np.zeros(0, np.int64)
  return joined, np.array([len(one) for one in pairs], np.int64)
