"""From a reward to a probability, where there are labels: Platt scaling, and how well such probabilities hold.

Dims: N texts, B bins.
"""

from typing import Any

import numpy as np
from scipy import special

from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import is_constant
from irl_jax.evaluation.toxicity import wilson

BINS = 15
DRAWS = 200  # label vectors that the ECE of a calibrated reward is averaged over
NEWTON_STEPS = 100


def fit(scores, harmless) -> dict[str, Any] | str:
  """Fits P(harmless | R) = sigmoid(slope R + intercept) (Platt 1999), or says why there is none.

  Minimises the cross-entropy against Platt's targets, (n+ + 1) / (n+ + 2) for the n+ harmless texts and
  1 / (n- + 2) for the n- toxic ones, by Newton's method with backtracking (Lin, Lin and Weng 2007). Targets inside
  (0, 1) keep the fit finite where a threshold separates the classes.

  Args:
    scores: [N] rewards of labelled texts that are neither trained on nor held out.
    harmless: [N] bool.

  Returns:
    {'slope', 'intercept', 'n'}.

  Raises:
    ValueError: a score is not finite.
  """
  scores, harmless = finite_vector(scores, 'scores'), np.asarray(harmless, bool)
  above, below = int(harmless.sum()), int((~harmless).sum())
  if not above or not below:
    return 'needs labelled validation texts of both classes'
  if is_constant(scores):
    return 'the recovered reward has zero variance'
  centre, spread = scores.mean(), scores.std()
  features = np.stack([(scores - centre) / spread, np.ones(scores.size)], axis=1)  # [N, 2]
  target = np.where(harmless, (above + 1) / (above + 2), 1 / (below + 2))
  slope, intercept = minimise(features, target, np.array([0.0, np.log((above + 1) / (below + 1))]))
  return {
    'slope': float(slope / spread),
    'intercept': float(intercept - slope * centre / spread),
    'n': scores.size,
  }


def minimise(features: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """The weights [F] that minimise the cross-entropy of sigmoid(features [N, F] @ weights) against target [N]."""
  loss = lambda weights: np.sum(np.logaddexp(0, features @ weights) - target * (features @ weights))
  for _ in range(NEWTON_STEPS):
    probability = special.expit(features @ weights)
    gradient = features.T @ (probability - target)
    if np.abs(gradient).max() < 1e-10 * target.size:
      break
    curvature = (features.T * (probability * (1 - probability))) @ features + 1e-12 * np.eye(
      weights.size
    )
    step, size = np.linalg.solve(curvature, gradient), 1.0
    while (
      size > 1e-10 and loss(weights - size * step) > loss(weights) - 1e-4 * size * gradient @ step
    ):
      size /= 2
    weights = weights - size * step
  return weights


def probability(scores, fitted: dict[str, Any]) -> np.ndarray:
  """P(harmless) [N] of rewards [N]."""
  return special.expit(fitted['slope'] * np.asarray(scores, np.float64) + fitted['intercept'])


def holds(predicted, harmless, seed: int) -> dict[str, Any]:
  """How well probabilities hold on texts that they were not fitted on.

  Args:
    predicted: [N] P(harmless).
    harmless: [N] bool, the labels.
    seed: of the labels that `ece_if_calibrated` is averaged over.

  Returns:
    ece: mean distance of observed from predicted over 15 bins of equal mass, weighted by their texts (Naeini et al.
      2015).
    ece_if_calibrated: what ece is on average where labels are drawn from the predictions themselves; it is not 0, since
      a bin's share is as noisy as its texts are few. Miscalibration is what ece has beyond it.
    brier: mean squared error of the probabilities (Brier 1950); brier_constant: of the share of harmless texts in
      place of every one of them.
    reliability: the bins, {'low', 'high' (of its predictions), 'predicted', 'observed' (means), 'observed_low',
      'observed_high' (Wilson 95 %), 'n'}.

  Raises:
    ValueError: a probability is not finite, or there is none.
  """
  predicted, observed = finite_vector(predicted, 'predicted'), np.asarray(harmless, np.float64)
  if not predicted.size:
    raise ValueError('predicted is empty: calibration needs texts')
  bins = equal_mass(predicted)
  drawn = np.random.default_rng(seed).random((DRAWS, predicted.size)) < predicted
  return {
    'ece': float(ece(predicted, observed[None], bins)[0]),
    'ece_if_calibrated': float(ece(predicted, drawn.astype(np.float64), bins).mean()),
    'brier': float(np.mean((predicted - observed) ** 2)),
    'brier_constant': float(observed.var()),
    'reliability': [describe(predicted[bin_], observed[bin_]) for bin_ in bins],
  }


def equal_mass(predicted: np.ndarray) -> list[np.ndarray]:
  """Indices of the texts of at most 15 bins of as equal size as ties allow: equal predictions share a bin."""
  order = np.argsort(predicted, kind='stable')
  edges = np.unique(
    predicted[order[[part[0] for part in np.array_split(np.arange(order.size), BINS) if part.size]]]
  )
  place = np.searchsorted(edges, predicted, side='right') - 1
  return [np.flatnonzero(place == number) for number in range(edges.size)]


def ece(predicted: np.ndarray, observed: np.ndarray, bins: list[np.ndarray]) -> np.ndarray:
  """Expected calibration error [L] of predictions [N] under L vectors of labels [L, N]."""
  gaps = [np.abs(np.sum(observed[:, bin_] - predicted[bin_][None], axis=1)) for bin_ in bins]
  return np.sum(gaps, axis=0) / predicted.size


def describe(predicted: np.ndarray, observed: np.ndarray) -> dict[str, Any]:
  """One bin of the reliability curve."""
  low, high = wilson(int(observed.sum()), observed.size)
  return {
    'low': float(predicted.min()),
    'high': float(predicted.max()),
    'predicted': float(predicted.mean()),
    'observed': float(observed.mean()),
    'observed_low': low,
    'observed_high': high,
    'n': observed.size,
  }
