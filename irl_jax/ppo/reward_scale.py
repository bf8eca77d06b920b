"""The state that PPO adapts between updates: the running scale of scores, and the KL coefficient.

Both are plain numbers in a checkpoint's meta, so that a resumed run continues exactly.
"""

import dataclasses

import numpy as np

FACTORS = 0.5, 2.0  # bounds of the factor by which one step changes the KL coefficient
COEFFICIENTS = 1e-6, 1e6  # bounds of an adaptive KL coefficient
SMALLEST_DEVIATION = 1e-4  # scores that differ less are not scaled up: it may be rounding


@dataclasses.dataclass(frozen=True)
class RunningMoments:
  """Mean and variance of all scores so far, float64.

  Moments of two sets are combined as in Chan et al. 1983.
  """

  count: float = 0.0
  mean: float = 0.0
  variance: float = 1.0

  def add(self, scores: np.ndarray) -> 'RunningMoments':
    """Returns the moments with scores [N] added."""
    scores = np.asarray(scores, np.float64)
    total = self.count + len(scores)
    shift = scores.mean() - self.mean
    squares = (
      self.variance * self.count
      + scores.var() * len(scores)
      + shift**2 * self.count * len(scores) / total
    )
    return RunningMoments(
      float(total), float(self.mean + shift * len(scores) / total), float(squares / total)
    )


def scale(scores: np.ndarray, moments: RunningMoments, scaling: str) -> np.ndarray:
  """Returns the scores [N] before they are clipped.

  Unlike min-max scaling over a batch, this is monotone: a better text never scores lower.

  Args:
    scores: the reward's scores [N].
    moments: the moments of all scores so far.
    scaling: 'running' divides by the running standard deviation, 'centred' subtracts the running
      mean first, 'none' changes nothing.
  """
  if scaling == 'running':
    return scores / np.sqrt(moments.variance + 1e-8)
  if scaling == 'centred':
    return (np.asarray(scores, np.float64) - moments.mean) / np.sqrt(moments.variance + 1e-8)
  return scores


def clip(scaled: np.ndarray, limit: float) -> tuple[np.ndarray, float]:
  """Returns the scores [N] that PPO learns from, float32 within +-limit, and the share clipped."""
  clipped = float(np.mean(np.abs(scaled) > limit))
  return np.clip(scaled, -limit, limit).astype(np.float32), clipped


def adapt_kl(coefficient: float, kl: float, target: float, horizon: int, samples: int) -> float:
  """Returns the KL coefficient of the next step (Ziegler et al. 2019, section 2.2).

  beta <- beta (1 + e samples / horizon), with e = clip(kl / target - 1, -0.2, 0.2). With a horizon
  much shorter than a step the factor would be negative or explode, so it stays within FACTORS, and
  beta stays within COEFFICIENTS: it remains positive and finite in a run of any length.

  Args:
    coefficient: beta, the current one.
    kl: the measured KL, nats per response.
    target: the KL to reach; 0 keeps the coefficient fixed.
    horizon: the number of samples over which the coefficient adapts.
    samples: the number of samples of one step.
  """
  if not target:
    return coefficient
  error = float(np.clip(kl / target - 1, -0.2, 0.2))
  factor = float(np.clip(1 + error * samples / horizon, *FACTORS))
  low, high = COEFFICIENTS
  # A coefficient that was configured outside the range may stay where it is.
  return float(np.clip(coefficient * factor, min(low, coefficient), max(high, coefficient)))
