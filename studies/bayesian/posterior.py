"""Bayesian recovery: a posterior over rewards that are linear in frozen features, and what it is unsure of.

After the Alignment Auditor (Bou et al. 2025, arXiv 2510.06096): R(text) = <w, features(text)>, w ~ N(0, I), one
comparison per pair of demonstrations. Everything is float64 on the host. Dims: N pairs or texts, D width.
"""

import dataclasses

import chex
import numpy as np
from scipy import linalg
from scipy import special

from irl_jax import errors

NEWTON_STEPS = 100
QUADRATURE = np.linspace(-8, 8, 801)  # standard deviations; outside lies 1e-15 of a normal's mass


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """A normal distribution of the weights."""

  mean: np.ndarray  # [D]
  precision: np.ndarray  # [D, D] symmetric, positive definite

  @property
  def covariance(self) -> np.ndarray:
    """[D, D]."""
    return linalg.cho_solve(linalg.cho_factor(self.precision, lower=True), np.eye(self.mean.size))

  @property
  def log_determinant(self) -> float:
    """Of the covariance, nats: twice the entropy, up to a constant of D."""
    return 2 * float(np.sum(-np.log(np.diag(linalg.cholesky(self.precision, lower=True)))))


@dataclasses.dataclass(frozen=True)
class Preference:
  """What the posterior says of comparisons; entropies in nats, of at most log 2."""

  probability: (
    np.ndarray
  )  # [N] that the first of two texts is preferred, averaged over the posterior
  aleatoric: np.ndarray  # [N] entropy of the choice, were w known: what no more evidence takes away
  epistemic: (
    np.ndarray
  )  # [N] what one would learn about w from the choice: what more evidence takes away

  @property
  def total(self) -> np.ndarray:
    """Entropy [N] of the predicted choice."""
    return self.aleatoric + self.epistemic


def normal_prior(width: int, variance: float = 1.0) -> Gaussian:
  """N(0, variance I)."""
  return Gaussian(np.zeros(width), np.eye(width) / variance)


def log_likelihood(weights: np.ndarray, differences: np.ndarray) -> float:
  """Sum log sigmoid(<w, x>) over pairs, x [N, D] = features(aligned) - features(base): Bradley & Terry 1952."""
  return -float(np.sum(np.logaddexp(0, -differences @ weights)))


def laplace(differences, prior: Gaussian) -> Gaussian:
  """The posterior after pairs have been seen, as a normal at its mode with the curvature there (MacKay 1992).

  The mode maximises log_likelihood(w) - (w - m)' P (w - m) / 2 for the prior's mean m and precision P; Newton with
  backtracking finds it, since this is strictly concave. The precision there is P + sum s (1 - s) x x', s = sigmoid(<w,
  x>). It never falls below P, whatever the pairs say: a narrow posterior is no sign that w is right, and where nothing
  can be predicted s (1 - s) is as large as it gets.

  Args:
    differences: [N, D], features of the aligned text less those of the base text.
    prior: of the weights; a posterior may serve as one, for evidence that comes in rounds.

  Raises:
    ValueError: a difference is not finite.
    DivergedError: the mode was not found.
  """
  differences = np.asarray(differences, np.float64)
  chex.assert_shape(differences, (None, prior.mean.size))
  if not np.isfinite(differences).all():
    raise ValueError('differences of features must be finite')
  loss = lambda weights: _distance(weights, prior) / 2 - log_likelihood(weights, differences)
  weights = prior.mean
  for _ in range(NEWTON_STEPS):
    chosen = special.expit(differences @ weights)
    gradient = prior.precision @ (weights - prior.mean) - differences.T @ (1 - chosen)
    precision = prior.precision + (differences.T * (chosen * (1 - chosen))) @ differences
    step = linalg.cho_solve(linalg.cho_factor(precision, lower=True), gradient)
    decrease = (
      gradient @ step
    )  # twice what a Newton step gains, in nats (Boyd & Vandenberghe 2004, section 9.5)
    if decrease < 1e-10:
      return Gaussian(weights, precision)
    size, start = 1.0, loss(weights)
    while size > 1e-10 and loss(
      weights - size * step
    ) > start - 1e-4 * size * decrease + 1e-12 * abs(start):
      size /= 2
    weights = weights - size * step
  raise errors.DivergedError(
    f'the mode of the posterior was not found in {NEWTON_STEPS} Newton steps ({decrease:.1e} '
    'nats are left to gain): give the prior less variance, or standardised features'
  )


def _distance(weights: np.ndarray, normal: Gaussian) -> float:
  """(w - m)' P (w - m)."""
  return float((weights - normal.mean) @ normal.precision @ (weights - normal.mean))


def log_evidence(differences: np.ndarray, prior: Gaussian, posterior: Gaussian) -> float:
  """Log p(pairs) in nats, by Laplace; a reward of 0 would give N log 1/2. Unlike the width it depends on the labels."""
  return (
    log_likelihood(posterior.mean, differences)
    - _distance(posterior.mean, prior) / 2
    + (posterior.log_determinant - prior.log_determinant) / 2
  )


def reward(posterior: Gaussian, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean [N] and epistemic variance x' Sigma x [N] of the rewards of features [N, D]; of differences: of Delta."""
  chex.assert_shape(features, (None, posterior.mean.size))
  root = linalg.solve_triangular(
    linalg.cholesky(posterior.precision, lower=True), features.T, lower=True
  )
  return features @ posterior.mean, np.sum(root**2, axis=0)


def preference(mean: np.ndarray, variance: np.ndarray) -> Preference:
  """What the posterior predicts of a choice whose difference of rewards is normal [N].

  probability = E sigmoid(Delta); aleatoric = E H(sigmoid(Delta)); epistemic = H(probability) - aleatoric, the mutual
  information of choice and weights (Houlsby et al. 2011; Depeweg et al. 2018). For one text, Delta is its reward over
  that of the mean demonstration, whose standardised features are 0. The integrals are trapezoidal sums, exact to
  1e-6 up to a deviation of 20.
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
  """Entropy [N] in nats of a choice of probability sigmoid(delta): log(1 + e^-|d|) + |d| sigmoid(-|d|)."""
  distance = np.abs(delta)
  return np.log1p(np.exp(-distance)) + distance * special.expit(-distance)


def flipped(differences: np.ndarray, seed: int) -> np.ndarray:
  """The control: pairs [N, D] of which a fair coin says which text is the aligned one."""
  coins = np.random.default_rng(seed).choice([-1.0, 1.0], len(differences))
  return differences * coins[:, None]
