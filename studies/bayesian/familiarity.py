"""A flag for texts that are unlike those that a reward was recovered from.

Dims: N texts, D width.
"""

import dataclasses

import numpy as np
from scipy import linalg

# Added to the covariance of the standardised features: a direction in which no training text varies
# cannot raise the flag alone.
RIDGE = 1e-3


@dataclasses.dataclass(frozen=True)
class Familiar:
  """Mean and spread of the features of the training demonstrations."""

  mean: np.ndarray  # [D]
  deviation: np.ndarray  # [D], 1 where a feature is constant
  factor: np.ndarray  # [D, D] lower Cholesky factor of the standardised features' covariance

  def standardise(self, features: np.ndarray) -> np.ndarray:
    """Returns (features - mean) / deviation, [N, D]."""
    return (np.asarray(features, np.float64) - self.mean) / self.deviation

  def distance(self, features: np.ndarray) -> np.ndarray:
    """Returns the Mahalanobis distance [N] from the mean training text (Lee et al. 2018).

    A typical text's distance is about sqrt(D).
    """
    root = linalg.solve_triangular(self.factor, self.standardise(features).T, lower=True)
    return np.sqrt(np.sum(root**2, axis=0))


def fit(features: np.ndarray) -> Familiar:
  """Fits mean and spread to the features [N, D] of the training demonstrations.

  Raises:
    ValueError: there are fewer than two texts, or a feature is not finite.
  """
  features = np.asarray(features, np.float64)
  if len(features) < 2 or not np.isfinite(features).all():
    raise ValueError(f'features {features.shape}: must be finite, and of at least two texts')
  mean, deviation = features.mean(axis=0), features.std(axis=0)
  deviation = np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
  standard = (features - mean) / deviation
  covariance = standard.T @ standard / len(features) + RIDGE * np.eye(features.shape[1])
  return Familiar(mean, deviation, linalg.cholesky(covariance, lower=True))


def limit(distances: np.ndarray, share: float = 0.99) -> float:
  """Returns the distance beyond which a text is flagged.

  `share` of these texts, which are not trained on, lie within it.
  """
  return float(np.quantile(distances, share))
