"""The flag for texts unlike those of the recovery: against sets of pairs, and what it flags."""

import numpy as np
import pytest

from irl_jax.evaluation import familiarity

RNG = np.random.default_rng(0)
VOCABULARY = 50


def texts_of(count, first, last):
  """Texts of 1 to 12 tokens, which lie in [first, last)."""
  return [RNG.integers(first, last, RNG.integers(1, 13)).tolist() for _ in range(count)]


TRAINING, VALIDATION = texts_of(60, 0, 20), texts_of(200, 0, 20)
OTHERS = [*texts_of(30, 0, 20), *texts_of(30, 10, 50), [], [3]]


def of_loop(training, texts):
  """The new and all pairs of each text, with a set of tuples."""
  seen = {(text[at], text[at + 1]) for text in training for at in range(len(text) - 1)}
  counts = []
  for text in texts:
    pairs = [(text[at], text[at + 1]) for at in range(len(text) - 1)]
    counts.append((sum(pair not in seen for pair in pairs), len(pairs)))
  return counts


def test_novelty_and_limit_are_those_of_sets_of_pairs():
  familiar = familiarity.fit(TRAINING, VALIDATION, VOCABULARY)
  known = of_loop(TRAINING, VALIDATION)
  usual = sum(new for new, _ in known) / sum(pairs for _, pairs in known)
  novelty = lambda texts: [
    (new + 10 * usual) / (pairs + 10) for new, pairs in of_loop(TRAINING, texts)
  ]
  assert familiar.usual == pytest.approx(usual) and 0 < usual < 1
  limit = sorted(novelty(VALIDATION))[int(np.ceil(0.99 * 199))]
  assert familiar.limit == pytest.approx(limit)
  np.testing.assert_allclose(familiar.novelty(OTHERS), novelty(OTHERS))
  assert familiar.flags(OTHERS).tolist() == [value > limit + 1e-12 for value in novelty(OTHERS)]
  assert familiar.flags([]).shape == (0,)


def test_the_flag_is_raised_for_other_texts_and_rarely_for_texts_of_the_same_kind():
  familiar = familiarity.fit(TRAINING, VALIDATION, VOCABULARY)
  other = [RNG.integers(20, 50, 12).tolist() for _ in range(50)]
  assert familiar.flags(other).all()
  assert familiar.flags(texts_of(1000, 0, 20)).mean() <= 0.03
  assert not familiar.flags([[], [49], [48, 49]]).any()  # too short to say


@pytest.mark.parametrize(
  'training, validation', [([], [[1, 2]]), ([[1]], [[1, 2]]), ([[1, 2]], [])]
)
def test_without_texts_there_is_no_flag(training, validation):
  with pytest.raises(ValueError, match='the flag needs texts'):
    familiarity.fit(training, validation, VOCABULARY)
