"""What PPO adapts outside of the update: the running scale of scores, and the KL coefficient.

Both are plain numbers kept in the checkpoint's meta, so that a resumed run continues exactly.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class RunningMoments:
  """Mean and variance of all scores so far (Chan et al. 1983), float64."""

  count: float = 0.0
  mean: float = 0.0
  variance: float = 1.0

  def add(self, scores: np.ndarray) -> 'RunningMoments':
    """Moments with scores [N] added."""
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
  """Scores over their running standard deviation, clipped to +- clip: monotone, unlike a min-max over a batch."""
  return np.clip(scores / np.sqrt(moments.variance + 1e-8), -clip, clip).astype(np.float32)


def scaled_or_clipped(
  scores: np.ndarray, moments: RunningMoments, scaling: str, clip: float
) -> np.ndarray:
  """Scores as PPO takes them, float32 within +- clip; scaling: 'running' (over their deviation) or 'none'."""
  if scaling == 'running':
    return scale(scores, moments, clip)
  return np.clip(scores, -clip, clip).astype(np.float32)


def adapt_kl(coefficient: float, kl: float, target: float, horizon: int, samples: int) -> float:
  """The adaptive KL coefficient of Ziegler et al. 2019, section 2.2; target 0 keeps it fixed."""
  if not target:
    return coefficient
  error = float(np.clip(kl / target - 1, -0.2, 0.2))
  return coefficient * (1 + error * samples / horizon)
