"""The running scale of scores against NumPy over all of them, and the KL coefficient."""

import numpy as np
import pytest

from irl_jax import config
from irl_jax import errors
from irl_jax.ppo import reward_scale


def test_moments_are_those_of_all_scores_so_far():
  rng = np.random.default_rng(0)
  moments, seen = reward_scale.RunningMoments(), []
  for size in (5, 1, 32, 7):
    scores = rng.normal(1e3, 3.0, size).astype(np.float32)
    moments = moments.add(scores)
    seen += scores.tolist()
    np.testing.assert_allclose(
      [moments.count, moments.mean, moments.variance],
      [len(seen), np.mean(seen), np.var(seen)],
      rtol=1e-9,
    )


def learnt_from(scores, moments, scaling):
  return reward_scale.clip(reward_scale.scale(np.array(scores), moments, scaling), 10.0)


@pytest.mark.parametrize(
  'scaling, expected, clipped',
  [
    ('running', [-10, -0.5, 0, 1.5, 10], 0.4),  # the deviation is 2, the mean 1
    ('centred', [-10, -1, -0.5, 1, 10], 0.4),
    ('none', [-10, -1, 0, 3, 10], 0.4),
  ],
)
def test_scores_are_scaled_and_clipped_and_the_share_is_known(scaling, expected, clipped):
  moments = reward_scale.RunningMoments().add(np.array([-1.0, 3.0]))
  scaled, share = learnt_from([-30.0, -1.0, 0.0, 3.0, 50.0], moments, scaling)
  np.testing.assert_allclose(scaled, expected, rtol=1e-6)
  assert scaled.dtype == np.float32 and share == clipped


def test_scores_at_the_limit_are_not_clipped():
  assert learnt_from([10.0, -10.0, 11.0, 0.0], reward_scale.RunningMoments(), 'none')[1] == 0.25


@pytest.mark.parametrize('constant', [-1e6, 40.0, 1e6])
def test_a_constant_changes_centred_scores_by_no_more_than_rounding(constant):
  rng = np.random.default_rng(0)
  plain, moved = reward_scale.RunningMoments(), reward_scale.RunningMoments()
  for _ in range(5):
    scores = rng.normal(0, 3.0, 32)
    plain, moved = plain.add(scores), moved.add(scores + constant)
    expected, nothing = learnt_from(scores, plain, 'centred')
    found, none_clipped = learnt_from(scores + constant, moved, 'centred')
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert nothing == none_clipped == 0


@pytest.mark.parametrize('scaling, expected', [('running', [10, -10]), ('centred', [0, -10])])
def test_constant_scores_stay_finite(scaling, expected):
  moments = reward_scale.RunningMoments().add(np.full(4, 2.0))
  np.testing.assert_array_equal(learnt_from([2.0, -2.0], moments, scaling)[0], expected)


@pytest.mark.parametrize(
  'kl, expected',
  [
    (6.0, 0.1),
    (6.6, 0.1 * (1 + 0.1 * 64 / 1000)),
    (60.0, 0.1 * (1 + 0.2 * 64 / 1000)),
    (0.0, 0.1 * (1 - 0.2 * 64 / 1000)),
  ],
)
def test_adaptive_coefficient_follows_the_target(kl, expected):
  assert reward_scale.adapt_kl(0.1, kl, target=6.0, horizon=1000, samples=64) == pytest.approx(
    expected
  )


def test_without_a_target_the_coefficient_is_fixed():
  assert reward_scale.adapt_kl(0.1, 1e9, target=0.0, horizon=1000, samples=64) == 0.1


@pytest.mark.parametrize('kl', [0.0, 1e9])
@pytest.mark.parametrize('horizon', [1, 7, 64, 2**31 - 1])
@pytest.mark.parametrize('start', [1e-9, 0.035, 1e9])
def test_the_coefficient_stays_positive_and_finite_whatever_the_horizon(kl, horizon, start):
  coefficient = start
  for _ in range(3000):
    before = coefficient
    coefficient = reward_scale.adapt_kl(before, kl, target=6.0, horizon=horizon, samples=4096)
    assert 0.5 * before <= coefficient <= 2 * before
  assert min(start, 1e-6) <= coefficient <= max(start, 1e6)
  assert np.isfinite(np.float32(coefficient)) and coefficient > 0


def test_a_coefficient_of_0_cannot_adapt():
  with pytest.raises(errors.ConfigError, match='kl_coefficient = 0.0: must be > 0 if config.ppo'):
    config.PPO(kl_coefficient=0.0, kl_target=6.0)
  assert config.PPO(kl_coefficient=0.0).kl_target == 0
