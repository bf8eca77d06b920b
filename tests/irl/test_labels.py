"""Labels of pairs from log-ratios, against loops over pairs and prefixes."""

import math

import numpy as np
import pytest

from irl_jax.irl import labels as labels_lib

ALIGNED = [[0.5, 1.0, 3.0], [2.0], [0.0, -1.0]]
BASE = [[0.5, -1.0], [1.0, 4.0], [0.0, -1.0]]


def by_hand():
  """The differences of the cumulative log-ratios; a text that has ended keeps its last one."""
  rows = []
  for aligned, base in zip(ALIGNED, BASE):
    at = lambda text, place: text[min(place, len(text) - 1)]
    rows.append([at(aligned, t) - at(base, t) for t in range(max(len(aligned), len(base)))])
  return rows


def test_a_text_that_has_ended_keeps_its_log_ratio():
  found = labels_lib.differences(ALIGNED, BASE)
  assert [difference.tolist() for difference in found] == by_hand()
  assert by_hand() == [[0.0, 2.0, 4.0], [1.0, -2.0], [0.0, 0.0]]


@pytest.mark.parametrize('label', ['likelihood', 'mixed'])
def test_labels_are_the_sigmoid_of_differences_in_units_of_their_deviation(label):
  differences = labels_lib.differences(ALIGNED, BASE)
  wholes = [row[-1] for row in by_hand()]
  mean = sum(wholes) / 3
  deviation = math.sqrt(sum((whole - mean) ** 2 for whole in wholes) / 3)
  assert labels_lib.deviation(differences) == pytest.approx(deviation)
  found = labels_lib.from_differences(differences, label, deviation)
  for row, expected in zip(found, by_hand()):
    soft = [1 / (1 + math.exp(-4 * difference / deviation)) for difference in expected]
    wanted = soft if label == 'likelihood' else [0.5 + value / 2 for value in soft]
    np.testing.assert_allclose(row, wanted, rtol=1e-6)


def test_pairs_without_a_difference_are_undecided():
  same = labels_lib.differences([[1.0, 2.0]], [[1.0, 2.0]])
  assert labels_lib.deviation(same) == labels_lib.deviation([]) == 1.0
  (label,) = labels_lib.from_differences(same, 'likelihood', 1.0)
  assert label.tolist() == [0.5, 0.5]


def test_the_last_column_is_that_of_the_whole_texts():
  labels = [np.array([0.1, 0.2, 0.3]), np.array([0.9])]
  assert labels_lib.padded(labels, 4).tolist() == [[0.1, 0.2, 0.3, 0.3], [0.9] * 4]
  assert labels_lib.padded(labels, 1).tolist() == [[0.3], [0.9]]  # features have no length
  np.testing.assert_allclose(labels_lib.of_whole_texts(labels), [0.3, 0.9], rtol=1e-6)
