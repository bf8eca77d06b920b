"""Pairwise accuracy, on all pairs and on subsets, against a loop over pairs."""

import json

import numpy as np
import pytest

from irl_jax import confidence
from irl_jax.evaluation import preferences

RNG = np.random.default_rng(0)
CHOSEN, REJECTED = RNG.integers(0, 6, (2, 60)).astype(float)  # with ties
SUBSETS = [('easy', 'hard', None)[number] for number in RNG.integers(0, 3, 60)]


def of_loop(pairs):
  """The pairs in order, with half of each tie, and the ties."""
  right, ties = 0.0, 0
  for chosen, rejected in pairs:
    if chosen > rejected:
      right += 1
    elif chosen == rejected:
      right += 0.5
      ties += 1
  return right, ties


def test_accuracies_are_those_of_a_loop_on_all_pairs_and_on_each_subset():
  found = preferences.accuracies(CHOSEN, REJECTED, SUBSETS)
  triples = list(zip(CHOSEN, REJECTED, SUBSETS))
  assert list(found['subsets']) == list(dict.fromkeys(name for name in SUBSETS if name))
  for row, name in (
    (found['all'], ''),
    *((found['subsets'][one], one) for one in ('easy', 'hard')),
  ):
    pairs = [(first, second) for first, second, subset in triples if name in ('', subset)]
    right, ties = of_loop(pairs)
    low, high = confidence.wilson(right, len(pairs))
    assert ties > 0
    assert row == {
      'rate': right / len(pairs),
      'low': low,
      'high': high,
      'n': len(pairs),
      'ties': ties,
    }
  json.dumps(found, allow_nan=False)


def test_no_pair_has_no_accuracy():
  found = preferences.accuracies([], [], [])
  assert found['all']['rate'] is None and found['all']['why']['rate'] == preferences.NO_PAIR
  assert found['subsets'] == {}


def test_other_lengths_and_values_are_refused():
  with pytest.raises(ValueError, match='chosen has 2 rewards, rejected 1 and subsets 2'):
    preferences.accuracies([1, 2], [1], [None, None])
  with pytest.raises(ValueError, match=r'rejected\[0\] is nan'):
    preferences.accuracies([1], [np.nan], [None])
