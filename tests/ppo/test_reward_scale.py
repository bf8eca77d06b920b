"""The running scale of scores against NumPy over all of them, and the KL coefficient."""

import numpy as np
import pytest

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


def test_scores_are_divided_by_their_deviation_and_clipped():
  moments = reward_scale.RunningMoments().add(np.array([-2.0, 2.0]))
  scaled = reward_scale.scale(np.array([-30.0, -1.0, 0.0, 3.0, 50.0]), moments, clip=10.0)
  np.testing.assert_allclose(scaled, [-10, -0.5, 0, 1.5, 10], rtol=1e-6)
  assert scaled.dtype == np.float32


def test_unscaled_scores_are_clipped_only():
  moments = reward_scale.RunningMoments().add(np.array([-2.0, 2.0]))
  scores = np.array([-30.0, -1.0, 3.0, 50.0])
  plain = reward_scale.scaled_or_clipped(scores, moments, 'none', 10.0)
  np.testing.assert_array_equal(plain, np.float32([-10, -1, 3, 10]))
  assert plain.dtype == np.float32
  np.testing.assert_allclose(
    reward_scale.scaled_or_clipped(scores, moments, 'running', 10.0), [-10, -0.5, 1.5, 10]
  )


def test_constant_scores_stay_finite():
  moments = reward_scale.RunningMoments().add(np.full(4, 2.0))
  np.testing.assert_array_equal(reward_scale.scale(np.array([2.0, -2.0]), moments, 10.0), [10, -10])


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
