"""The intervals behind the verdicts, and the claims that each interval allows."""

import numpy as np
import pytest
import scipy

from irl_jax.report import verdicts


@pytest.mark.parametrize('successes, n', [(0, 1), (1, 1), (3, 7), (60, 120), (119, 120)])
def test_the_interval_of_a_share_is_wilsons(successes, n):
  expected = scipy.stats.binomtest(successes, n).proportion_ci(method='wilson')
  found = verdicts.share_interval(successes / n, n)
  np.testing.assert_allclose(found, (expected.low, expected.high), atol=1e-7)


@pytest.mark.parametrize('rate, n', [(None, 5), (0.5, None), (0.5, 0)])
def test_without_texts_there_is_no_interval(rate, n):
  assert verdicts.share_interval(rate, n) is None


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
    low, high = verdicts.spearman_interval(scipy.stats.spearmanr(first, second).statistic, n)
    covered += low <= true <= high
  assert 0.93 < covered / 1000 < 0.97


def test_few_texts_say_nothing_of_a_correlation():
  assert verdicts.spearman_interval(1.0, 3) == (-1.0, 1.0)
  assert verdicts.spearman_interval(0.9, None) is None
  assert verdicts.spearman_interval(None, 100) is None
  low, high = verdicts.spearman_interval(1.0, 100)
  assert 0.99 < low <= high <= 1.0
  # A perfect order of four texts is one of 24, so it may be chance; of seven, one of 5,040.
  assert verdicts.spearman_interval(1.0, 4)[0] < 0 < 0.7 < verdicts.spearman_interval(1.0, 7)[0]


@pytest.mark.parametrize(
  'value, bounds, verdict',
  [
    (0.95, None, 'yes'),
    (0.95, (0.7, 0.99), 'yes'),
    (0.95, (0.69, 0.99), 'partly'),
    (0.95, (0.0, 0.99), 'unknown'),
    (0.8, (0.01, 0.99), 'partly'),
    (0.8, (0.0, 0.89), 'unknown'),
    (0.5, (-0.2, 0.89), 'no'),
    (0.5, (0.1, 0.9), 'unknown'),
  ],
)
def test_a_verdict_claims_no_more_than_its_interval(value, bounds, verdict):
  assert verdicts.grade_within(value, bounds, 0.9, 0.7, chance=0.0) == verdict
