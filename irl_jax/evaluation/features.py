"""Features of texts that a reward may pay for, and how strongly its scores depend on them.

A feature is written KIND:VALUE. `word:lovely` is a whole word, `phrase:take care` a sequence of
characters, `regex:[!?]{2}` a regular expression (all without case). `length` means that a text has
more words than the median text.

Dims: N texts, K features.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import hashlib
import re
from typing import Any

import numpy as np

from irl_jax.errors import ConfigError
from irl_jax.evaluation import agreement
from irl_jax.evaluation import words
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import is_constant

KINDS = ('word', 'phrase', 'regex', 'length')
FEWEST = 10  # texts with a feature, and without it, that an edit needs


@dataclasses.dataclass(frozen=True)
class Feature:
  """A property that a text has or does not have."""

  name: str  # as it was written
  is_in: Callable[[str], bool]
  without: Callable[[str], str] | None  # the text without it; None: it cannot be left out


def parse(written: str, texts: Sequence[str]) -> Feature:
  """Returns the feature of this name.

  Args:
    written: KIND:VALUE, or `length`.
    texts: the median length is theirs.

  Raises:
    ConfigError: the kind is unknown, the value is missing, or the expression cannot be compiled.
  """
  kind, _, value = written.partition(':')
  if kind not in KINDS or bool(value.strip()) == (kind == 'length'):
    raise ConfigError(
      f'--feature={written}: must be word:WORD, phrase:CHARACTERS, regex:EXPRESSION or length'
    )
  if kind == 'length':
    median = float(np.median([len(text.split()) for text in texts])) if texts else 0.0
    return Feature(written, lambda text: len(text.split()) > median, None)
  if kind == 'word':
    word = value.strip().casefold()
    if words.words_of(word) != {word}:
      raise ConfigError(f'--feature={written}: must be one word; use phrase:{value} or regex:')
    return Feature(
      written, lambda text: word in words.words_of(text), lambda text: words.without(text, word)
    )
  try:
    pattern = re.compile(re.escape(value) if kind == 'phrase' else value, re.IGNORECASE)
    spaced = re.compile(rf'\s*(?:{pattern.pattern})', re.IGNORECASE)
  except re.error as error:
    raise ConfigError(f'--feature={written}: is not a regular expression: {error}') from None
  return Feature(
    written, lambda text: bool(pattern.search(text)), lambda text: spaced.sub('', text)
  )


def present(features: Sequence[Feature], texts: Sequence[str]) -> np.ndarray:
  """Returns which texts have which features, bool [N, K]."""
  return np.array([[one.is_in(text) for one in features] for text in texts], bool).reshape(
    len(texts), len(features)
  )


def left_out(features: Sequence[Feature], texts: Sequence[str]) -> list[tuple[str, str]]:
  """Returns (text, the same text without any of the features) of the texts that have one.

  The two differ in nothing else, so a difference of their rewards is due to the features. Texts
  that still have a feature afterwards, or of which nothing is left, are not among them.
  """
  pairs = []
  for text in dict.fromkeys(texts):
    rest = text
    for one in features:
      rest = one.without(rest) if one.without else rest
    if rest != text and rest.strip() and not any(one.is_in(rest) for one in features):
      pairs.append((text, rest))
  return pairs


def in_first_half(text: str) -> bool:
  """Returns whether a text is one that edits are fitted on, by its hash; others check the edit."""
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).digest()[-1] % 2 == 0


def check_counts(features: Sequence[Feature], has: np.ndarray, which: str) -> None:
  """Checks that enough texts have each feature, and that enough do not.

  Raises:
    ConfigError: names the feature.
  """
  for one, column in zip(features, has.T):
    count, missing = int(column.sum()), int((~column).sum())
    if min(count, missing) < FEWEST:
      raise ConfigError(
        f'--feature={one.name}: {count} of the {len(column)} {which} texts have it and {missing} '
        f'do not; must be at least {FEWEST} each. Give more texts with --texts'
      )


def dependence(scores: np.ndarray, has: np.ndarray) -> dict[str, Any]:
  """Measures how strongly scores [N] depend on one feature, has [N] bool.

  Returns:
    correlation: Pearson's.
    auroc: the probability that a text with the feature scores above one without (ties half).
    effect: the difference of their mean scores, in standard deviations of the scores.
    n: texts. A result that cannot be computed is None, with its reason under 'why'.
  """
  scores = np.asarray(scores, np.float64)
  effect: float | str = 'the scores have zero variance'
  if not is_constant(scores) and has.any() and not has.all():
    effect = float((scores[has].mean() - scores[~has].mean()) / scores.std())
  return collect(
    {
      'correlation': agreement.correlate(scores, has.astype(np.float64))['pearson'],
      'auroc': agreement.auroc(scores, ~has),
      'effect': effect,
      'n': int(has.size),
    }
  )
