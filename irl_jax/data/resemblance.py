"""Texts that resemble each other: near-duplicates that differ in more than case and punctuation."""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
import math
import re

WORDS = 3  # of a shingle
LEAST = 0.5  # resemblance of two near-duplicates

_WORD = re.compile(r'\w+')


def shingles(text: str) -> frozenset[str]:
  """Returns all runs of three words of a text, case folded; a shorter text is one shingle."""
  words = _WORD.findall(text.casefold())
  runs = (words[first : first + WORDS] for first in range(max(len(words) - WORDS + 1, 1)))
  return frozenset(map(' '.join, runs))


def count_resembling(texts: Sequence[str], others: Iterable[str]) -> int:
  """Counts the texts for which one of `others` is a near-duplicate.

  Two texts with the sets of shingles A and B are if |A ∩ B| / |A ∪ B| is at least LEAST (the
  resemblance of Broder 1997). Then they share at least LEAST |A| shingles, so one of any
  |A| - LEAST |A| + 1 shingles of A is in B. Only the texts that share one of their rarest so many
  are compared (prefix filtering, Chaudhuri et al. 2006). The result is exact.
  """
  sets = [shingles(text) for text in texts]
  frequency = collections.Counter(shingle for one in sets for shingle in one)
  rows_of: dict[str, list[int]] = collections.defaultdict(list)
  for row, one in enumerate(sets):
    rarest = sorted(one, key=lambda shingle: (frequency[shingle], shingle))
    for shingle in rarest[: len(one) - math.ceil(LEAST * len(one)) + 1]:
      rows_of[shingle].append(row)
  found: set[int] = set()
  for other in others:
    own = shingles(other)
    candidates = {row for shingle in own for row in rows_of.get(shingle, ())} - found
    found |= {row for row in candidates if resemblance(sets[row], own) >= LEAST}
  return len(found)


def resemblance(one: frozenset[str], other: frozenset[str]) -> float:
  """Returns the share of the shingles of either text that both have, in [0, 1]."""
  return len(one & other) / len(one | other)
