"""Confounds in worlds where the answer is known: length alone, style alone, r* alone."""

import json

import numpy as np
import pytest
from scipy import stats

from irl_jax.evaluation.confounds import confounds
from irl_jax.evaluation.confounds import match
from irl_jax.evaluation.confounds import partial_correlation
from irl_jax.evaluation.confounds import style

RNG = np.random.default_rng(0)


def by_formula(x, y, z):
  r = np.corrcoef([x, y, z])
  return (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))


def test_partial_correlation_is_yules_formula():
  z = RNG.normal(size=200)
  x, y = z + RNG.normal(size=200), -z + RNG.normal(size=200)
  assert partial_correlation(x, y, z) == pytest.approx(by_formula(x, y, z), abs=1e-12)
  assert np.corrcoef(x, y)[0, 1] < -0.3 and abs(partial_correlation(x, y, z)) < 0.2
  assert partial_correlation(x, y, np.ones(200)) == pytest.approx(
    np.corrcoef(x, y)[0, 1], abs=1e-12
  )


def test_a_reward_that_follows_length_alone_is_found_out():
  words = RNG.integers(1, 40, 300).astype(float)
  true = words + RNG.normal(0, 5, 300)
  nothing = np.zeros(0)
  found = confounds(words**2, true, words, nothing, nothing, match(nothing, nothing))
  assert found['length_spearman'] == pytest.approx(1)
  assert (
    found['partial_spearman_given_length'] is None
    and 'length alone' in found['why']['partial_spearman_given_length']
  )
  noisy = confounds(
    words + RNG.normal(0, 5, 300), true, words, nothing, nothing, match(nothing, nothing)
  )
  assert abs(noisy['partial_pearson_given_length']) < 0.15


def test_the_partial_spearman_is_that_of_ranks():
  scores, true, words = RNG.normal(size=(3, 100)) @ RNG.normal(size=(100, 100))
  found = confounds(scores, true, words, [1.0], [0.0], match([0.0], [5.0]))
  ranked = [stats.rankdata(values) for values in (scores, true, words)]
  assert found['partial_spearman_given_length'] == pytest.approx(by_formula(*ranked), abs=1e-12)
  assert found['partial_pearson_given_length'] == pytest.approx(
    by_formula(scores, true, words), abs=1e-12
  )
  assert found['length_spearman'] == pytest.approx(
    stats.spearmanr(scores, words).statistic, abs=1e-12
  )


@pytest.mark.parametrize('seed', range(5))
def test_every_aligned_text_gets_the_nearest_base_text_within_the_caliper(seed):
  rng = np.random.default_rng(seed)
  aligned, base = np.round(rng.normal(1, 1, 40), 1), np.round(rng.normal(0, 1, 30), 1)
  caliper = 0.1 * np.std([*aligned, *base])
  first, second = match(aligned, base)
  found = dict(zip(first.tolist(), second.tolist()))
  for index, value in enumerate(aligned):
    nearest = min(abs(value - other) for other in base)
    assert (index in found) == (nearest <= caliper)
    if index in found:
      assert abs(value - base[found[index]]) == nearest


def world(style_weight, n=4000):
  """R̂ of aligned and base texts that follows r* and, so far, the aligned style; and r* of both."""
  rng = np.random.default_rng(1)
  true_aligned, true_base = rng.normal(1, 1, n), rng.normal(0, 1, n)
  noise = rng.normal(0, 1, (2, n))
  return true_aligned + style_weight + noise[0], true_base + noise[1], true_aligned, true_base


def test_style_is_what_is_left_where_r_star_is_alike():
  aligned, base, true_aligned, true_base = world(0.0)
  matched = match(true_aligned, true_base)
  assert np.mean(aligned > base) > 0.65  # it prefers the aligned texts, because r* does
  found = style(aligned, base, matched)
  assert found['style_low'] < 0.5 < found['style_high'] and abs(found['style_auroc'] - 0.5) < 0.03
  aligned, base, true_aligned, true_base = world(1.0)
  found = style(aligned, base, matched)
  assert found['style_auroc'] == pytest.approx(
    stats.norm.cdf(1 / np.sqrt(2)), abs=0.03
  )  # two unit normals, 1 apart
  assert (
    0.5 < found['style_low'] < found['style_auroc'] < found['style_high']
    and 3000 < found['style_n'] <= 4000
  )


def test_a_base_text_that_is_used_often_widens_the_interval():
  aligned, base = RNG.normal(size=100), RNG.normal(size=100)
  once = style(aligned, base, (np.arange(100), np.arange(100)))
  one = style(aligned, base, (np.arange(100), np.zeros(100, int)))
  assert once['style_high'] - once['style_low'] < 0.2
  assert one['style_high'] - one['style_low'] > 0.7


def test_what_cannot_be_computed_has_a_reason():
  found = confounds([1, 2, 3], None, [5, 5, 5], [1.0], [2.0], None)
  assert (
    {name for name, value in found.items() if value is None}
    == set(found['why'])
    == set(found) - {'why'}
  )
  apart = confounds([1, 2, 3], [1, 2, 4], [1, 5, 5], [1.0], [2.0], match([0.0], [9.0]))
  assert apart['style_auroc'] is None and apart['style_n'] == 0
  json.dumps([found, apart], allow_nan=False)
