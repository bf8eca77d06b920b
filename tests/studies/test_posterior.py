"""The posterior over linear rewards against numerical integration and loops."""

import math

from bayesian import posterior as posterior_lib
import chex
import numpy as np
import pytest
from scipy import integrate
from scipy import optimize

RNG = np.random.default_rng(0)


def pairs_of(weights, count, seed=0):
  """Differences of features [N, D], in an order that a Bradley-Terry model draws."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(count, len(weights)))
  preferred = rng.random(count) < 1 / (1 + np.exp(-x @ weights))
  return np.where(preferred[:, None], x, -x)


def log_joint(weights, differences, mean, precision):
  """Returns log p(pairs, w), pair by pair and entry by entry."""
  total = -0.5 * len(mean) * math.log(2 * math.pi) + 0.5 * math.log(np.linalg.det(precision))
  for i in range(len(mean)):
    for j in range(len(mean)):
      total -= 0.5 * (weights[i] - mean[i]) * precision[i][j] * (weights[j] - mean[j])
  for x in differences:
    total += -math.log1p(math.exp(-sum(w * value for w, value in zip(weights, x))))
  return total


def test_in_one_dimension_it_is_what_integration_gives():
  differences, prior = pairs_of([0.8], 150), posterior_lib.normal_prior(1)
  found = posterior_lib.laplace(differences, prior)
  top = log_joint(found.mean, differences, [0.0], np.eye(1))
  density = lambda w: math.exp(log_joint([w], differences, [0.0], np.eye(1)) - top)
  mass = integrate.quad(density, -6, 6, points=[found.mean[0]])[0]
  mean = integrate.quad(lambda w: w * density(w) / mass, -6, 6, points=[found.mean[0]])[0]
  variance = integrate.quad(
    lambda w: (w - mean) ** 2 * density(w) / mass, -6, 6, points=[found.mean[0]]
  )[0]
  assert found.mean[0] == pytest.approx(mean, abs=0.1 * math.sqrt(variance))
  assert found.covariance[0, 0] == pytest.approx(variance, rel=0.05)
  assert posterior_lib.log_evidence(differences, prior, found) == pytest.approx(
    top + math.log(mass), abs=0.01
  )


def test_in_two_dimensions_it_is_what_a_grid_gives():
  differences, prior = pairs_of([0.7, -0.4], 200), posterior_lib.normal_prior(2)
  found = posterior_lib.laplace(differences, prior)
  axis = np.linspace(-2, 2, 401)
  grid = np.stack(np.meshgrid(axis, axis, indexing='ij'), axis=-1).reshape(-1, 2)
  log_density = -0.5 * np.sum(grid**2, axis=1) - math.log(2 * math.pi)
  for x in differences:
    log_density -= np.logaddexp(0, -grid @ x)
  density = np.exp(log_density - log_density.max())
  share = density / density.sum()
  mean = share @ grid
  covariance = (grid - mean).T @ (share[:, None] * (grid - mean))
  np.testing.assert_allclose(
    found.mean, grid[np.argmax(density)], atol=0.0101
  )  # a cell of the grid
  np.testing.assert_allclose(found.mean, mean, atol=0.1 * np.sqrt(covariance.max()))
  np.testing.assert_allclose(found.covariance, covariance, atol=0.06 * covariance.max())
  evidence = math.log(density.sum() * (axis[1] - axis[0]) ** 2) + log_density.max()
  assert posterior_lib.log_evidence(differences, prior, found) == pytest.approx(evidence, abs=0.02)


def test_mode_and_curvature_are_those_of_a_slow_minimiser_under_any_prior():
  differences = pairs_of([1.0, -2.0, 0.5], 40)
  root = RNG.normal(size=(3, 3))
  prior = posterior_lib.Gaussian(np.array([0.3, -0.2, 1.0]), root @ root.T + np.eye(3))
  found = posterior_lib.laplace(differences, prior)
  slow = optimize.minimize(
    lambda w: -log_joint(w, differences, prior.mean, prior.precision),
    np.zeros(3),
    method='Nelder-Mead',
    options=dict(xatol=1e-9, fatol=1e-12, maxiter=5000),
  ).x
  np.testing.assert_allclose(found.mean, slow, atol=1e-5)
  curvature, step = np.zeros((3, 3)), 1e-3
  at = lambda moved: log_joint(slow + step * moved, differences, prior.mean, prior.precision)
  for i, one in enumerate(np.eye(3)):
    for j, other in enumerate(np.eye(3)):
      second = at(one + other) - at(one - other) - at(other - one) + at(-one - other)
      curvature[i, j] = -second / (4 * step**2)
  np.testing.assert_allclose(found.precision, curvature, rtol=1e-4)
  np.testing.assert_allclose(found.covariance @ found.precision, np.eye(3), atol=1e-10)
  assert found.log_determinant == pytest.approx(math.log(np.linalg.det(found.covariance)))


def test_without_pairs_the_prior_stays():
  prior = posterior_lib.normal_prior(3, variance=4.0)
  found = posterior_lib.laplace(np.zeros((0, 3)), prior)
  chex.assert_trees_all_equal((found.mean, found.precision), (prior.mean, prior.precision))
  np.testing.assert_allclose(found.covariance, 4 * np.eye(3))


@pytest.mark.parametrize('scale', [1e-3, 1, 1e3])
def test_pairs_that_a_line_separates_keep_the_mode_finite(scale):
  differences = scale * np.abs(RNG.normal(size=(50, 4)))
  found = posterior_lib.laplace(differences, posterior_lib.normal_prior(4))
  residual = found.mean - differences.T @ (
    1 / (1 + np.exp(differences @ found.mean))
  )  # the gradient
  np.testing.assert_allclose(residual, 0, atol=1e-4 * max(scale, 1))
  assert (differences @ found.mean > 0).all() and np.isfinite(found.covariance).all()


def test_more_features_than_pairs_leave_the_rest_at_the_prior():
  differences = np.eye(6)[:2]
  found = posterior_lib.laplace(differences, posterior_lib.normal_prior(6))
  np.testing.assert_allclose(found.covariance[2:, 2:], np.eye(4), atol=1e-12)
  assert (
    (found.mean[:2] > 0).all()
    and not found.mean[2:].any()
    and (np.diag(found.covariance)[:2] < 1).all()
  )


def test_the_reward_of_a_text_is_normal_with_what_the_weights_leave_open():
  posterior = posterior_lib.laplace(pairs_of([1.0, 0.0, -1.0], 60), posterior_lib.normal_prior(3))
  features = RNG.normal(size=(5, 3))
  mean, variance = posterior_lib.reward(posterior, features)
  for row, x in enumerate(features):
    assert mean[row] == pytest.approx(sum(x[i] * posterior.mean[i] for i in range(3)))
    expected = sum(x[i] * posterior.covariance[i, j] * x[j] for i in range(3) for j in range(3))
    assert variance[row] == pytest.approx(expected)


@pytest.mark.parametrize(
  'mean, deviation', [(0, 1), (1.3, 0.4), (-2, 3), (0.5, 20), (8, 2), (0, 1e-4)]
)
def test_predictions_are_integrals_over_the_posterior(mean, deviation):
  found = posterior_lib.preference(np.array([mean]), np.array([deviation**2]))
  sigmoid = lambda delta: 1 / (1 + math.exp(-delta))
  entropy = lambda p: sum(-q * math.log(q) for q in (p, 1 - p) if q > 0)
  normal = lambda t: math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
  over = lambda f: integrate.quad(
    lambda t: normal(t) * f(sigmoid(mean + deviation * t)),
    -8,
    8,
    limit=500,
    points=[min(max(-mean / deviation, -8), 8)],
  )[0]
  probability, aleatoric = over(lambda p: p), over(entropy)
  assert found.probability[0] == pytest.approx(probability, abs=1e-6)
  assert found.aleatoric[0] == pytest.approx(aleatoric, abs=1e-6)
  assert (
    found.total[0] == pytest.approx(entropy(probability), abs=1e-6)
    and found.total[0] <= math.log(2) + 1e-12
  )
  assert found.epistemic[0] == pytest.approx(entropy(probability) - aleatoric, abs=2e-6)


def test_what_is_known_is_not_epistemic_and_what_is_decided_is_not_aleatoric():
  known = posterior_lib.preference(np.array([0.0, 2.0]), np.zeros(2))
  np.testing.assert_allclose(known.probability, [0.5, 1 / (1 + math.exp(-2))])
  np.testing.assert_allclose(known.epistemic, 0, atol=1e-12)
  assert known.aleatoric[0] == pytest.approx(math.log(2))
  torn = posterior_lib.preference(
    np.zeros(1), np.array([400.0])
  )  # either text is clearly better, but which?
  assert torn.epistemic[0] > 0.6 and torn.aleatoric[0] < 0.08
  chex.assert_tree_all_finite(posterior_lib.preference(np.array([-1e4, 1e4]), np.ones(2)).total)


def test_rewards_drawn_from_the_prior_are_covered_by_their_posterior():
  gaps = []
  for seed in range(60):
    weights = np.random.default_rng(1000 + seed).normal(size=4)
    posterior = posterior_lib.laplace(pairs_of(weights, 200, seed), posterior_lib.normal_prior(4))
    gaps.append((weights - posterior.mean) @ posterior.precision @ (weights - posterior.mean) / 4)
  assert np.mean(gaps) == pytest.approx(1, abs=0.2)  # its standard error is sqrt(2 / 240) = .09


def test_any_pairs_narrow_the_posterior_and_random_ones_more_than_true_ones():
  weights, prior = np.array([2.0, -1.0, 0.5, 0.0]), posterior_lib.normal_prior(4)
  differences, unseen = pairs_of(weights, 800), pairs_of(weights, 800, seed=1)
  true, shuffled = (
    posterior_lib.laplace(rows, prior)
    for rows in (differences, posterior_lib.flipped(differences, 0))
  )
  for posterior in (true, shuffled):
    assert np.linalg.eigvalsh(posterior.precision - prior.precision).min() > 0
  assert (
    np.trace(shuffled.covariance) < np.trace(true.covariance) < 0.2 * np.trace(prior.covariance)
  )
  zero = len(differences) * math.log(0.5)
  assert posterior_lib.log_evidence(differences, prior, true) > zero + 50
  assert posterior_lib.log_evidence(posterior_lib.flipped(differences, 0), prior, shuffled) < zero
  zero = posterior_lib.log_likelihood(np.zeros(4), unseen)
  assert posterior_lib.log_likelihood(true.mean, unseen) > zero + 50
  opposite = posterior_lib.laplace(
    -posterior_lib.flipped(differences, 0), prior
  )  # every coin turned round: just as likely
  np.testing.assert_allclose(opposite.mean, -shuffled.mean, atol=1e-6)
  assert (
    np.mean(
      [posterior_lib.log_likelihood(posterior.mean, unseen) for posterior in (shuffled, opposite)]
    )
    < zero
  )


def test_the_control_turns_half_of_the_pairs_round():
  differences = RNG.normal(size=(2000, 3))
  control = posterior_lib.flipped(differences, 7)
  turned = (control == -differences).all(axis=1)
  assert ((control == differences).all(axis=1) | turned).all() and 0.45 < turned.mean() < 0.55
  np.testing.assert_array_equal(control, posterior_lib.flipped(differences, 7))
  assert (control != posterior_lib.flipped(differences, 8)).any()


def test_features_that_are_not_finite_are_refused():
  with pytest.raises(ValueError, match='finite'):
    posterior_lib.laplace(np.array([[0.0, np.nan]]), posterior_lib.normal_prior(2))
