"""Features of texts: how they are written, found and left out, and how a reward depends on them."""

import numpy as np
import pytest

from irl_jax import errors
from irl_jax.evaluation import features


@pytest.mark.parametrize(
  'written, text, found, without',
  [
    ('word:lovely', 'a LOVELY day', True, 'a day'),
    ('word:lovely', 'lovelyness and unlovely', False, None),
    ('phrase:take care', 'so long, Take care!', True, 'so long,!'),
    ('phrase:a.b', 'axb', False, None),
    (r'regex:[!?]{2}', 'what?! no', True, 'what no'),
    (r'regex:(?:hi|bye)$', 'hi there bye', True, 'hi there'),
  ],
)
def test_a_feature_is_found_and_left_out(written, text, found, without):
  one = features.parse(written, [])
  assert one.is_in(text) == found
  assert not found or one.without(text) == without


def test_length_is_above_the_median_and_cannot_be_left_out():
  one = features.parse('length', ['a', 'a b', 'a b c', 'a b c d'])
  assert [one.is_in(text) for text in ('a', 'a b', 'a b c', 'a b c d')] == [False] * 2 + [True] * 2
  assert one.without is None


@pytest.mark.parametrize(
  'written, message',
  [
    ('lovely', 'must be word:WORD'),
    ('word:', 'must be word:WORD'),
    ('length:3', 'must be word:WORD'),
    ('word:take care', 'must be one word; use phrase:take care'),
    ('regex:(', 'is not a regular expression'),
  ],
)
def test_features_that_mean_nothing_are_refused(written, message):
  with pytest.raises(errors.ConfigError, match=message):
    features.parse(written, [])


def test_texts_are_paired_with_themselves_without_the_features():
  named = [features.parse(name, []) for name in ('word:hi', 'word:bye')]
  texts = ['hi you and bye', 'nothing', 'hi', 'bye now', 'bye now']
  assert features.left_out(named, texts) == [('hi you and bye', ' you and'), ('bye now', ' now')]
  expected = [[True, True], [False, False], [True, False], [False, True], [False, True]]
  assert features.present(named, texts).tolist() == expected


def test_halves_are_about_equal_and_depend_on_the_text_alone():
  texts = [f'text {number}' for number in range(400)]
  first = [text for text in texts if features.in_first_half(text)]
  assert 150 < len(first) < 250
  assert first == [text for text in reversed(texts) if features.in_first_half(text)][::-1]


def test_too_few_texts_are_refused_by_the_feature():
  named = [features.parse('word:hi', []), features.parse('word:bye', [])]
  has = np.zeros((30, 2), bool)
  has[:15, 0] = has[:9, 1] = True
  with pytest.raises(errors.ConfigError, match='word:bye: 9 of the 30 fitted texts have it and 21'):
    features.check_counts(named, has, 'fitted')
  has[:10, 1] = True
  features.check_counts(named, has, 'fitted')


def test_the_dependence_of_scores_on_a_feature():
  scores = np.array([1.0, 2.0, 3.0, 2.0])
  found = features.dependence(scores, np.array([False, False, True, True]))
  assert found['auroc'] == (0.5 + 3) / 4  # of 4 pairs: one tie, and three with the feature above
  assert found['effect'] == pytest.approx(1.0 / np.sqrt(0.5))
  assert found['correlation'] == pytest.approx(0.5 / np.sqrt(0.5))
  assert found['n'] == 4
  flat = features.dependence(np.ones(4), np.array([False, False, True, True]))
  assert flat['effect'] is None and flat['why']['effect'] == 'the scores have zero variance'
