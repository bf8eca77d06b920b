"""The zero without labels against an exhaustive search, and when it is not reliable."""

import itertools
import json

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from irl_jax.evaluation.calibration import calibration
from irl_jax.evaluation.zero import ONE_CLASS
from irl_jax.evaluation.zero import otsu
from irl_jax.evaluation.zero import saturation
from irl_jax.evaluation.zero import WIDE
from irl_jax.evaluation.zero import zero

RNG = np.random.default_rng(0)
TWO = np.concatenate([RNG.normal(-0.5, 0.1, 150), RNG.normal(0.4, 0.1, 250)])


def between(scores, threshold):
  """Between-class variance of the split at threshold."""
  low, high = [s for s in scores if s < threshold], [s for s in scores if s >= threshold]
  if not low or not high:
    return -1.0
  return (
    len(low) * len(high) / len(scores) ** 2 * (sum(low) / len(low) - sum(high) / len(high)) ** 2
  )


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=15))
def test_otsu_is_the_best_of_all_splits_and_half_way_between_two_scores(scores):
  threshold, values = otsu(scores), sorted(set(scores))
  if len(values) == 1:
    assert threshold == values[0]
    return
  splits = [(low + high) / 2 for low, high in itertools.pairwise(values)]
  assert min(abs(threshold - split) for split in splits) <= 1e-12
  assert between(scores, threshold) >= max(between(scores, split) for split in splits) * (1 - 1e-9)


def test_otsu_keeps_neighbouring_floats_apart_and_ignores_order():
  low = np.float64(0.1)
  high = np.nextafter(low, 1)
  assert low < otsu([high, low]) <= high
  assert otsu(TWO) == otsu(TWO[::-1])
  assert otsu(1000 + TWO) == pytest.approx(1000 + otsu(TWO), abs=1e-9)


@pytest.mark.parametrize('scores, message', [([], 'empty'), ([0, np.nan], r'scores\[1\] is nan')])
def test_otsu_refuses(scores, message):
  with pytest.raises(ValueError, match=message):
    otsu(scores)


def test_two_classes_have_a_reliable_zero_between_them():
  found = zero(TWO, 200, 0)
  assert found['reliable'] and found['why'] is None
  assert -0.3 < found['low'] <= found['zero'] <= found['high'] < 0.2
  assert found == zero(TWO, 200, 0)  # the same seed, the same interval
  json.dumps(found, allow_nan=False)


def test_the_interval_is_the_percentile_bootstrap():
  found = zero(TWO, 400, 3)
  rng = np.random.default_rng(17)
  resampled = [otsu(rng.choice(TWO, TWO.size)) for _ in range(400)]
  assert (found['low'], found['high']) == pytest.approx(
    np.quantile(resampled, [0.025, 0.975]), abs=0.02
  )


@pytest.mark.parametrize('n', [2, 30, 400])
def test_one_class_has_no_reliable_zero(n):
  found = zero(np.random.default_rng(n).normal(0.3, 0.2, n), 200, 0)
  assert not found['reliable'] and found['why'] == ONE_CLASS


def test_three_classes_have_no_narrow_zero():
  found = zero(np.repeat([-1.0, 0.0, 1.0], 40), 200, 0)
  assert not found['reliable'] and found['why'] == WIDE


@pytest.mark.parametrize('scores, value', [([], None), ([0.2], 0.2), ([0.1] * 9, 0.1)])
def test_no_texts_and_constant_scores_have_no_reliable_zero(scores, value):
  found = zero(scores, 50, 0)
  assert not found['reliable'] and found['why'].startswith('no reliable zero: ')
  assert found['zero'] == found['low'] == found['high'] == value
  json.dumps(calibration(scores, 50, 0), allow_nan=False)


def test_a_two_valued_reward_splits_between_its_values():
  found = zero([-15868.0] * 60 + [15340.0] * 40, 100, 0)
  assert found['reliable'] and found['zero'] == found['low'] == found['high'] == -264.0


def test_saturation_is_the_share_near_the_bound():
  assert saturation([0.91, -0.95, 0.9, 0.0]) == 0.5
  assert saturation([0.3, 0.1], limit=0.2) == 0.5 and saturation([]) is None


def test_calibration_says_why_only_where_the_zero_is_not_reliable():
  good, bad = calibration(TWO, 100, 0), calibration(np.zeros(5), 100, 0)
  assert (
    list(good) == ['zero', 'zero_low', 'zero_high', 'reliable_zero', 'saturated']
    and good['reliable_zero']
  )
  assert bad['why'] == {'reliable_zero': 'no reliable zero: all texts have the same score'}
