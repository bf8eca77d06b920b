"""The words that a reward likes and dislikes: the change in reward when a word is left out.

Candidates are the words whose completions score most differently from the others. That difference
alone could come from anything that goes with the word. So every candidate is left out of some
completions that contain it: its effect is the mean of R(text) - R(text without the word).

Dims: N completions, W words.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import re

import numpy as np
from numpy.typing import ArrayLike
import scipy

from irl_jax.runtime import records

MIN_TEXTS = 5  # completions that contain a word; rarer words are not considered
CANDIDATES = 12  # words with the largest t, each way
EXAMPLES = 8  # completions that a word is left out of

# Letters, with apostrophes inside; not part of something longer such as '2nd' or 'a_b'.
_WORD = r"(?<!\w)(?<!\w['’])[^\W\d_]+(?:['’][^\W\d_]+)*(?!['’]?\w)"
_WITH_SPACE = re.compile(rf'\s*({_WORD})')


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A word, and how its completions score."""

  word: str
  rows: np.ndarray  # the completions that contain it
  examples: tuple[tuple[str, str], ...]  # (text with the word, the same text without it)


def words_of(completion: str) -> set[str]:
  """Returns the words of a completion, without case."""
  return {word.casefold() for word in _WITH_SPACE.findall(completion)}


def without(completion: str, word: str) -> str:
  """Returns a completion without all occurrences of a word and the white space before each.

  Args:
    completion: any text.
    word: one of `words_of`. Both compare by `casefold`, so that a word that is found is left out:
      re.IGNORECASE has another rule, and does not know that 'Straße' is 'STRASSE'.
  """
  return _WITH_SPACE.sub(lambda match: '' if match[1].casefold() == word else match[0], completion)


def candidates(
  prompts: Sequence[str], completions: Sequence[str], reward: ArrayLike
) -> list[Candidate]:
  """Returns the words whose completions score most differently (Welch's t), each way.

  Args:
    prompts: N prompts.
    completions: N completions of them.
    reward: [N], R̂ of prompt and completion.
  """
  reward = np.asarray(reward, np.float64)
  occurrences: dict[str, list[int]] = {}
  for row, completion in enumerate(completions):
    for word in words_of(completion):
      occurrences.setdefault(word, []).append(row)
  scored = [
    (_welch_t(reward, np.array(rows)), word)
    for word, rows in sorted(occurrences.items())
    if MIN_TEXTS <= len(rows) <= len(completions) - MIN_TEXTS
  ]
  scored.sort()
  high = [word for t, word in scored[::-1][:CANDIDATES] if t > 0]
  low = [word for t, word in scored[:CANDIDATES] if t < 0]
  return [_candidate(word, occurrences[word], prompts, completions) for word in [*high, *low]]


def _welch_t(reward: np.ndarray, rows: np.ndarray) -> float:
  """Returns Welch's t of the completions with a word against the others; 0 if all are equal."""
  others = np.delete(reward, rows)
  spread = np.sqrt(np.var(reward[rows], ddof=1) / len(rows) + np.var(others, ddof=1) / len(others))
  return float((reward[rows].mean() - others.mean()) / spread) if spread > 0 else 0.0


def _candidate(
  word: str, rows: Sequence[int], prompts: Sequence[str], completions: Sequence[str]
) -> Candidate:
  digest = lambda row: hashlib.sha256(
    (prompts[row] + completions[row]).encode('utf-8', 'surrogatepass')
  ).digest()
  chosen = sorted(rows, key=digest)[:EXAMPLES]  # a choice that depends on the texts alone
  examples = tuple(
    (prompts[row] + completions[row], prompts[row] + without(completions[row], word))
    for row in chosen
  )
  return Candidate(word, np.array(rows), examples)


def texts_to_score(found: Sequence[Candidate]) -> list[str]:
  """Returns every example, with and without its word; duplicates occur once."""
  return list(dict.fromkeys(text for one in found for pair in one.examples for text in pair))


def effects(
  found: Sequence[Candidate], scores: Mapping[str, float], of_aligned: ArrayLike
) -> list[records.WordEffect]:
  """Returns the effect of every word, the largest first.

  Args:
    found: from `candidates`.
    scores: R̂ of every text of `texts_to_score`.
    of_aligned: [N] bool, whether the aligned model wrote a completion.
  """
  of_aligned = np.asarray(of_aligned, bool)
  rows: list[records.WordEffect] = []
  for one in found:
    changes = np.array([scores[text] - scores[rest] for text, rest in one.examples])
    low, high = _interval(changes)
    rows.append(
      records.WordEffect(
        word=one.word,
        effect=float(changes.mean()),
        low=low,
        high=high,
        n=len(changes),
        share_aligned=_share(one.rows, of_aligned),
        share_base=_share(one.rows, ~of_aligned),
      )
    )
  return sorted(rows, key=lambda row: -row['effect'])


def _interval(changes: np.ndarray) -> tuple[float, float]:
  """Returns Student's 95 % interval of a mean."""
  half = scipy.stats.t.ppf(0.975, len(changes) - 1) * scipy.stats.sem(changes)
  return float(changes.mean() - half), float(changes.mean() + half)


def _share(rows: np.ndarray, mask: np.ndarray) -> float:
  """Returns the share of the completions in a mask that contain a word."""
  return float(mask[rows].sum() / max(mask.sum(), 1))
