"""Bayesian recovery: a posterior over rewards that are linear in frozen features.

After the Alignment Auditor (Bou et al. 2025, arXiv 2510.06096): R(text) = <w, features(text)>,
w ~ N(0, I), one comparison per pair of demonstrations. Everything is float64 on the host.
Dims: N pairs or texts, D width.
"""

import dataclasses

import chex
import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg
from scipy import optimize
from scipy import special

from irl_jax import errors

STEPS = 1000  # maximum number of steps of the search for the mode
LARGEST_GAIN = 5e-11  # nats that a further step may gain at the mode
QUADRATURE = np.linspace(-8, 8, 801)  # standard deviations; 1e-15 of a normal lies outside


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """A normal distribution of the weights."""

  mean: np.ndarray  # [D]
  precision: np.ndarray  # [D, D] symmetric, positive definite

  @property
  def covariance(self) -> np.ndarray:
    """Sigma, the inverse of the precision [D, D]."""
    return linalg.cho_solve(linalg.cho_factor(self.precision, lower=True), np.eye(self.mean.size))

  @property
  def log_determinant(self) -> float:
    """Log determinant of the covariance, nats: twice the entropy, up to a constant of D."""
    return 2 * float(np.sum(-np.log(np.diag(linalg.cholesky(self.precision, lower=True)))))


@dataclasses.dataclass(frozen=True)
class Preference:
  """The posterior's predictions of comparisons; entropies in nats, at most log 2."""

  # [N]: that the first of two texts is preferred, averaged over the posterior
  probability: np.ndarray
  # [N]: entropy of the choice if w were known, which more evidence does not reduce
  aleatoric: np.ndarray
  # [N]: the information about w in the choice, which more evidence reduces
  epistemic: np.ndarray

  @property
  def total(self) -> np.ndarray:
    """Entropy of the predicted choice [N]."""
    return self.aleatoric + self.epistemic


def normal_prior(width: int, variance: float = 1.0) -> Gaussian:
  """Returns N(0, variance I)."""
  return Gaussian(np.zeros(width), np.eye(width) / variance)


def log_likelihood(weights: np.ndarray, differences: np.ndarray) -> float:
  """Returns the log-likelihood of pairs, in nats: sum log sigmoid(<w, x>) (Bradley & Terry 1952).

  Args:
    weights: w [D].
    differences: x = features(aligned) - features(base), [N, D].
  """
  return -float(np.sum(np.logaddexp(0, -differences @ weights)))


def laplace(differences: ArrayLike, prior: Gaussian) -> Gaussian:
  """Returns the posterior after some pairs: a normal at its mode, with the curvature there.

  Laplace's approximation (MacKay 1992). The mode maximises
  log_likelihood(w) - (w - m)' P (w - m) / 2 for the prior's mean m and precision P, which is
  strictly concave. The precision at the mode is P + sum s (1 - s) x x', s = sigmoid(<w, x>).

  This precision never falls below P, regardless of the pairs, so a narrow posterior does not show
  that w is right. If nothing can be predicted, s (1 - s) has its maximum.

  Args:
    differences: features of the aligned text minus those of the base text, [N, D].
    prior: the prior of the weights; a posterior may serve as one, for evidence that comes in
      rounds.

  Raises:
    ValueError: a difference is not finite.
    DivergedError: the mode was not found.
  """
  differences = np.asarray(differences, np.float64)
  chex.assert_shape(differences, (None, prior.mean.size))
  if not np.isfinite(differences).all():
    raise ValueError('differences of features must be finite')

  def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
    away = prior.precision @ (weights - prior.mean)
    value = (weights - prior.mean) @ away / 2 - log_likelihood(weights, differences)
    return value, away - differences.T @ special.expit(-differences @ weights)

  def curvature(weights: np.ndarray) -> np.ndarray:
    chosen = special.expit(differences @ weights)
    return prior.precision + (differences.T * (chosen * (1 - chosen))) @ differences

  mode = optimize.minimize(
    loss,
    prior.mean,
    jac=True,
    hess=curvature,
    method='trust-exact',
    options={'gtol': 1e-9, 'maxiter': STEPS},
  ).x
  _check_mode(loss(mode)[1], curvature(mode))
  return Gaussian(mode, curvature(mode))


def _check_mode(gradient: np.ndarray, precision: np.ndarray) -> None:
  """Checks that a Newton step from here gains next to nothing (Boyd & Vandenberghe 2004, 9.5).

  Raises:
    DivergedError: it would gain more.
  """
  gain = gradient @ linalg.cho_solve(linalg.cho_factor(precision, lower=True), gradient) / 2
  if not gain < LARGEST_GAIN:
    raise errors.DivergedError(
      f'the mode of the posterior was not found ({gain:.1e} nats are left to gain): give the prior '
      'less variance, or standardised features'
    )


def _distance(weights: np.ndarray, normal: Gaussian) -> float:
  """Returns (w - m)' P (w - m)."""
  return float((weights - normal.mean) @ normal.precision @ (weights - normal.mean))


def log_evidence(differences: np.ndarray, prior: Gaussian, posterior: Gaussian) -> float:
  """Returns log p(pairs) in nats, by Laplace's approximation.

  A reward of 0 would give N log 1/2. Unlike the width, the evidence depends on the labels.
  """
  return (
    log_likelihood(posterior.mean, differences)
    - _distance(posterior.mean, prior) / 2
    + (posterior.log_determinant - prior.log_determinant) / 2
  )


def reward(posterior: Gaussian, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean [N] and epistemic variance x' Sigma x [N] of the rewards of features [N, D].

  For differences of features they are those of Delta.
  """
  chex.assert_shape(features, (None, posterior.mean.size))
  root = linalg.solve_triangular(
    linalg.cholesky(posterior.precision, lower=True), features.T, lower=True
  )
  return features @ posterior.mean, np.sum(root**2, axis=0)


def preference(mean: np.ndarray, variance: np.ndarray) -> Preference:
  """Predicts choices whose difference of rewards Delta is normal with this mean and variance [N].

  probability = E sigmoid(Delta); aleatoric = E H(sigmoid(Delta));
  epistemic = H(probability) - aleatoric, the mutual information of choice and weights
  (Houlsby et al. 2011; Depeweg et al. 2018).

  For a single text, Delta is its reward minus that of the mean demonstration, whose standardised
  features are 0. The integrals are trapezoidal sums, exact to 1e-6 up to a deviation of 20.
  """
  chex.assert_equal_shape([mean, variance])
  weight = np.exp(-(QUADRATURE**2) / 2)
  weight /= weight.sum()
  probability, aleatoric = np.zeros(len(mean)), np.zeros(len(mean))
  for node, share in zip(QUADRATURE, weight):
    delta = mean + np.sqrt(variance) * node
    probability += share * special.expit(delta)
    aleatoric += share * choice_entropy(delta)
  total = special.entr(probability) + special.entr(1 - probability)
  return Preference(probability, aleatoric, np.maximum(total - aleatoric, 0))


def choice_entropy(delta: np.ndarray) -> np.ndarray:
  """Returns the entropy [N] in nats of a choice of probability sigmoid(d).

  It is log(1 + e^-|d|) + |d| sigmoid(-|d|), which does not overflow.
  """
  distance = np.abs(delta)
  return np.log1p(np.exp(-distance)) + distance * special.expit(-distance)


def flipped(differences: np.ndarray, seed: int) -> np.ndarray:
  """Returns the control: the pairs [N, D], with a fair coin choosing the aligned text of each."""
  coins = np.random.default_rng(seed).choice([-1.0, 1.0], len(differences))
  return differences * coins[:, None]
