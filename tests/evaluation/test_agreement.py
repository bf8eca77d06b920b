"""Agreement against independent double loops, and inputs for which a metric does not exist."""

import json
import math

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from irl_jax.evaluation import agreement as agreement_lib
from irl_jax.evaluation.agreement import agreement
from irl_jax.evaluation.agreement import labels_to_reward


def sign(value):
  return (value > 0) - (value < 0)


def looped(predicted, reference):
  """Computes every metric by loops over texts and over pairs of texts."""
  n = len(predicted)
  true_positive = false_positive = false_negative = right = 0
  for p, r in zip(predicted, reference):
    right += (p < 0) == (r < 0)
    true_positive += p < 0 and r < 0
    false_positive += p < 0 and r >= 0
    false_negative += p >= 0 and r < 0
  above, both = 0.0, 0
  for i in range(n):
    for j in range(n):
      if reference[i] >= 0 > reference[j]:
        both += 1
        above += (
          1.0 if predicted[i] > predicted[j] else 0.5 if predicted[i] == predicted[j] else 0.0
        )
  concordance = tied_p = tied_r = pairs = 0
  pair_right = 0.0
  for i in range(n):
    for j in range(i):
      p, r = sign(predicted[i] - predicted[j]), sign(reference[i] - reference[j])
      pairs, tied_p, tied_r = pairs + 1, tied_p + (p == 0), tied_r + (r == 0)
      concordance += p * r
      pair_right += 0 if r == 0 else (1 + p * r) / 2

  def ranks(values):
    return [
      sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
      for value in values
    ]

  def pearson(a, b):
    a, b = [x - sum(a) / n for x in a], [x - sum(b) / n for x in b]
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(
      sum(x * x for x in a) * sum(y * y for y in b)
    )

  return {
    'accuracy': right / n,
    'f1': 2 * true_positive / (2 * true_positive + false_positive + false_negative),
    'auroc': above / both,
    'pearson': pearson(predicted, reference),
    'spearman': pearson(ranks(predicted), ranks(reference)),
    'kendall': concordance / math.sqrt((pairs - tied_p) * (pairs - tied_r)),
    'pairwise_accuracy': pair_right / (pairs - tied_r),
    'n': n,
    'ties': tied_r,
  }


@pytest.mark.parametrize('round_to', [8, 0])
@pytest.mark.parametrize('seed', range(3))
def test_equals_double_loops(seed, round_to):
  rng = np.random.default_rng(seed)
  reference = np.round(rng.normal(size=60), round_to)
  predicted = np.round(reference + rng.normal(size=60), round_to)
  assert agreement(predicted, reference) == pytest.approx(
    looped(predicted.tolist(), reference.tolist()), abs=1e-12
  )


def test_pairs_are_compared_within_a_prompt():
  predicted, reference = [1, 0, 3, 3, -1, 5, 2, 9], [2, 1, 1, 2, 4, 4, 1, 3]
  figures = agreement(predicted, reference, pairs=([0, 2, 4, 6], [1, 3, 5, 7]))
  assert figures['pairwise_accuracy'] == pytest.approx(
    (1 + 0.5 + 1) / 3
  )  # right, predicted tie, -, right
  assert figures['ties'] == 1 and figures['n'] == 8


def test_all_pairs_equal_the_named_pairs():
  rng = np.random.default_rng(0)
  predicted, reference = np.round(rng.normal(size=(2, 80)), 1)
  assert agreement(predicted, reference)['pairwise_accuracy'] == pytest.approx(
    agreement(predicted, reference, pairs=np.triu_indices(80, 1))['pairwise_accuracy'], abs=1e-12
  )


def test_many_texts_take_no_quadratic_memory():
  rng = np.random.default_rng(0)
  predicted, labels = rng.normal(size=100_000), rng.random(100_000) < 0.5
  figures = agreement(predicted, labels_to_reward(labels))
  assert figures['pairwise_accuracy'] == pytest.approx(
    figures['auroc'], abs=1e-12
  )  # two classes: the same question


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), max_size=12))
def test_negating_the_prediction_mirrors_every_ranking(rows):
  predicted, reference = ([row[i] for row in rows] for i in (0, 1))
  figures = agreement(predicted, reference)
  mirrored = agreement([-value for value in predicted], reference)
  json.dumps(figures, allow_nan=False)
  assert set(figures.get('why', {})) == {name for name, value in figures.items() if value is None}
  for name, total in {
    'auroc': 1,
    'pairwise_accuracy': 1,
    'pearson': 0,
    'spearman': 0,
    'kendall': 0,
  }.items():
    if figures[name] is None:
      assert mirrored[name] is None
    else:
      assert figures[name] + mirrored[name] == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
  'predicted, reference, missing',
  [
    ([], [], set(agreement_lib.METRICS)),
    ([1], [-1], {'auroc', 'pearson', 'spearman', 'kendall', 'pairwise_accuracy'}),
    ([1, 1, 1], [-1, 1, 2], {'pearson', 'spearman', 'kendall'}),
    ([1, 2, 3], [2, 2, 2], set(agreement_lib.METRICS) - {'accuracy'}),
    ([1, 2, 3], [-3, -2, -1], {'auroc'}),
    ([1, 2, 3], [1, 2, 3], {'auroc', 'f1'}),
    ([1e308, 1e308, -1], [1, -1, 2], {'pearson'}),
  ],
)
@pytest.mark.filterwarnings('ignore::RuntimeWarning')
def test_figures_that_do_not_exist_have_a_reason(predicted, reference, missing):
  figures = agreement(predicted, reference)
  json.dumps(figures, allow_nan=False)
  assert {name for name in agreement_lib.METRICS if figures[name] is None} == missing
  assert set(figures.get('why', {})) == missing and all(figures.get('why', {}).values())


def test_a_constant_prediction_ties_every_pair():
  figures = agreement([0, 0, 0], [-1, 0, 1])
  assert figures['pairwise_accuracy'] == 0.5 and figures['auroc'] == 0.5 and figures['f1'] == 0


def test_pairs_that_the_reference_ties_leave_nothing_to_compare():
  figures = agreement([1, 2], [3, 3], pairs=([0], [1]))
  assert figures['pairwise_accuracy'] is None and figures['ties'] == 1


@pytest.mark.parametrize(
  'arguments, message',
  [
    (([1, np.nan], [1, 2]), r'predicted\[1\] is nan'),
    (([1, 2], [np.inf, 2]), r'reference\[0\] is inf'),
    (([1, 2], [1]), 'predicted has 2 texts and reference 1'),
    (([[1, 2]], [1, 2]), r'predicted has shape \(1, 2\)'),
    (([1, 2], [1, 2], ([0], [2])), 'pairs name text 2'),
    (([1, 2], [1, 2], ([0], [-1])), 'pairs name text -1'),
    (([1, 2], [1, 2], ([0, 1], [1])), 'pairs have shapes'),
  ],
)
def test_bad_input_is_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    agreement(*arguments)


def test_labels_become_rewards():
  assert labels_to_reward([1, 0, True, False]).tolist() == [-1, 1, -1, 1]
  for bad in (None, 2, 'toxic', float('nan')):
    with pytest.raises(ValueError, match=r'labels\[1\]'):
      labels_to_reward([0, bad])
