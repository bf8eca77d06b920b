"""Whether a text is like those that a reward was recovered from: a flag for texts out of distribution.

Dims: N texts, D width.
"""

import dataclasses

import numpy as np
from scipy import linalg

RIDGE = 1e-3  # of a feature's variance: a direction in which no training text varies cannot raise the flag alone


@dataclasses.dataclass(frozen=True)
class Familiar:
  """Mean and spread of the features of the training demonstrations."""

  mean: np.ndarray  # [D]
  deviation: np.ndarray  # [D], 1 where a feature is constant
  factor: np.ndarray  # [D, D] lower Cholesky factor of the standardised features' covariance

  def standardise(self, features: np.ndarray) -> np.ndarray:
    """Features [N, D] less the mean, over the deviation."""
    return (np.asarray(features, np.float64) - self.mean) / self.deviation

  def distance(self, features: np.ndarray) -> np.ndarray:
    """Mahalanobis distance [N] from the mean training text (Lee et al. 2018); of typical texts about sqrt(D)."""
    root = linalg.solve_triangular(self.factor, self.standardise(features).T, lower=True)
    return np.sqrt(np.sum(root**2, axis=0))


def fit(features: np.ndarray) -> Familiar:
  """From the features [N, D] of the training demonstrations.

  Raises:
    ValueError: there are fewer than two texts, or a feature is not finite.
  """
  features = np.asarray(features, np.float64)
  if len(features) < 2 or not np.isfinite(features).all():
    raise ValueError(f'{features.shape} features: must be those of two texts at least, and finite')
  mean, deviation = features.mean(axis=0), features.std(axis=0)
  deviation = np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
  standard = (features - mean) / deviation
  covariance = standard.T @ standard / len(features) + RIDGE * np.eye(features.shape[1])
  return Familiar(mean, deviation, linalg.cholesky(covariance, lower=True))


def limit(distances: np.ndarray, share: float = 0.99) -> float:
  """The distance that `share` of texts not trained on stay within; those beyond are flagged."""
  return float(np.quantile(distances, share))
