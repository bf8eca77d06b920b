"""The intervals of a share and of a Spearman correlation, which evaluation and report share."""

import math

import numpy as np
import pytest
import scipy

from irl_jax import confidence
from irl_jax.evaluation import intervals


@pytest.mark.parametrize(
  'successes, n', [(0, 10), (3, 10), (2.5, 10), (10, 10), (150, 500), (1, 1)]
)
def test_wilson_is_the_published_formula(successes, n):
  z, share = 1.959963984540054, successes / n
  centre = (share + z * z / (2 * n)) / (1 + z * z / n)
  half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
  low, high = confidence.wilson(successes, n)
  assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-12)
  assert 0 <= low < high <= 1
  if isinstance(successes, int):
    expected = scipy.stats.binomtest(successes, n).proportion_ci(method='wilson')
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize('successes, n', [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_the_impossible(successes, n):
  with pytest.raises(ValueError, match=f'{successes} successes of {n}'):
    confidence.wilson(successes, n)


@pytest.mark.parametrize(
  'units, size',
  [('abcd', 4), ('aaaa', 1), ('aabb', 2), ('aaab', 2), ('', 1)],  # 16/10 rounds to 2
)
def test_observations_that_are_alike_count_less(units, size):
  assert confidence.alike_size(units) == size


def test_the_effective_size_covers_the_truth_whatever_the_correlation_within_units():
  rng, units = np.random.default_rng(0), np.repeat(np.arange(60), 5).tolist()
  for shared, size in ((0.0, 300), (1.0, 60)):
    covered, sizes = 0, []
    for _ in range(200):
      of_units = np.repeat(rng.random(60), 5)
      alike = rng.random(300) < shared
      outcomes = np.where(alike, of_units, rng.random(300)) < 0.3
      sizes.append(confidence.effective_size(outcomes, units))
      low, high = confidence.wilson(outcomes.mean() * sizes[-1], sizes[-1])
      covered += low <= 0.3 <= high
    assert covered >= 180 and 0.7 * size <= np.mean(sizes) <= size


def test_few_units_and_equal_outcomes_count_as_alike():
  assert confidence.effective_size([0, 1, 1, 1], 'aabb') == 2
  assert confidence.effective_size(np.ones(120), np.repeat(np.arange(40), 3).tolist()) == 40
  assert confidence.effective_size([0, 1] * 30, range(60)) == 60


@pytest.mark.parametrize('value, n', [(0.0, 10), (0.6, 50), (-0.9, 200), (0.5, 4)])
def test_the_interval_is_the_published_formula(value, n):
  half = 1.959963985 * math.sqrt((1 + value**2 / 2) / (n - 3))
  expected = np.tanh(np.arctanh(value) + np.array([-half, half]))
  np.testing.assert_allclose(confidence.of_spearman(value, n), expected, atol=1e-6)


@pytest.mark.parametrize('n', [4, 5, 40, 10_000, 1_000_000])
def test_a_perfect_order_has_a_width_on_its_own_side_of_one(n):
  low, high = confidence.of_spearman(1.0, n)
  assert -1 < low <= high < 1 and (low < high or n > 100_000)
  assert confidence.of_spearman(-1.0, n) == (-high, -low)
  # Rounding can put a correlation just beyond 1, where atanh does not exist.
  assert confidence.of_spearman(np.nextafter(1.0, 2), n) == (low, high)
  # The next order, with two neighbours exchanged, is no better.
  assert low >= confidence.of_spearman(1 - 12 / (n**3 - n), n)[0]


@pytest.mark.parametrize('value', [-1.0, 0.0, 1.0])
@pytest.mark.parametrize('n', [0, 1, 2, 3])
def test_three_texts_or_fewer_allow_every_correlation(value, n):
  assert confidence.of_spearman(value, n) == (-1.0, 1.0)


@pytest.mark.parametrize('n', [3, 4, 12])
@pytest.mark.parametrize('sign', [1, -1])
def test_summary_and_report_give_a_perfect_order_the_same_interval(n, sign):
  order = np.arange(n)
  measured = intervals.resample([sign * order], order, samples=50, seed=0).intervals(0)
  assert tuple(measured['spearman']) == confidence.of_spearman(float(sign), n)


@pytest.mark.slow
@pytest.mark.parametrize('correlation', [0.0, 0.6, 0.9])
def test_the_interval_of_a_spearman_correlation_covers(correlation):
  rng, n = np.random.default_rng(0), 60
  # Pearson (1907): the rank correlation of two normal variables of this correlation.
  true = 6 / np.pi * np.arcsin(correlation / 2)
  covered = 0
  for _ in range(1000):
    first = rng.standard_normal(n)
    second = correlation * first + np.sqrt(1 - correlation**2) * rng.standard_normal(n)
    low, high = confidence.of_spearman(scipy.stats.spearmanr(first, second).statistic, n)
    covered += low <= true <= high
  assert 0.93 < covered / 1000 < 0.97


def test_few_texts_say_nothing_of_a_correlation():
  low, high = confidence.of_spearman(1.0, 100)
  assert 0.99 < low <= high <= 1.0
  # A perfect order of four texts is one of 24, so it may be chance; of seven, one of 5,040.
  assert confidence.of_spearman(1.0, 4)[0] < 0 < 0.7 < confidence.of_spearman(1.0, 7)[0]
