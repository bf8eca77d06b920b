"""What PPO adapts between updates: the running scale of scores, and the KL coefficient.

Both are plain numbers in a checkpoint's meta, so that a resumed run continues exactly.
"""

import dataclasses

import numpy as np


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


def scale(scores: np.ndarray, moments: RunningMoments, clip: float) -> np.ndarray:
  """Returns scores divided by their running standard deviation, within [-clip, clip].

  Unlike a min-max over a batch this is monotone: a better text never scores lower.
  """
  return np.clip(scores / np.sqrt(moments.variance + 1e-8), -clip, clip).astype(np.float32)


def scaled_or_clipped(
  scores: np.ndarray, moments: RunningMoments, scaling: str, clip: float
) -> np.ndarray:
  """Returns the scores [N] that PPO learns from, float32 within [-clip, clip].

  Args:
    scores: the reward's scores [N].
    moments: of all scores so far.
    scaling: 'running' divides by the running standard deviation, 'none' does not.
    clip: the largest absolute value.
  """
  if scaling == 'running':
    return scale(scores, moments, clip)
  return np.clip(scores, -clip, clip).astype(np.float32)


def adapt_kl(coefficient: float, kl: float, target: float, horizon: int, samples: int) -> float:
  """Returns the KL coefficient of the next step (Ziegler et al. 2019, section 2.2).

  beta <- beta (1 + e samples / horizon), with e = clip(kl / target - 1, -0.2, 0.2).

  Args:
    coefficient: beta, the current one.
    kl: the measured KL, nats per response.
    target: the KL to reach; 0 keeps the coefficient fixed.
    horizon: samples over which the coefficient adapts.
    samples: of one step.
  """
  if not target:
    return coefficient
  error = float(np.clip(kl / target - 1, -0.2, 0.2))
  return coefficient * (1 + error * samples / horizon)
