"""Edits of a recovered reward: its head is changed so that it no longer pays for a feature.

A bounded reward is linear in the normalised last state z of a text: R̂ = <w, z> / sqrt(D). A linear
change of z before the head is therefore another head, exactly, plus a constant, which disappears
because the zero is chosen again. With features y [K] of a text, C = Cov(z, y) and S = Cov(z), every
method replaces w by

  w' = w - A C M C^T w        leace            A = S^+   M = (C^T S^+ C)^+
                              mean_difference  A = I     M = (C^T C)^+
                              subtract         A = S^+   M = Cov(y)^+

- leace: least-squares concept erasure (Belrose et al. 2023, arXiv:2306.03819, theorem 4.3),
  r(z) = z - W^+ P W (z - E z), where W = (S^(1/2))^+ and P projects onto the columns of W C. It is
  the smallest change of z after which no linear function of it predicts y. Because W^+ W C = C,
  r(z) = z - C M (S^+ C)^T (z - E z), and <w, r(z)> = <w', z> + constant. S is shrunk towards a
  multiple of the identity (`shrunk`), as in the authors' program: C^T w' = 0 holds for any A, but
  the inverse of a sample covariance would make w' long in directions that hardly vary.
- mean_difference: the columns of C are projected out. For one feature that is present or absent, C
  is a multiple of the difference of the two mean states.
- subtract: R̂ minus its least-squares regression on y, with y predicted from z by least squares. The
  regression has the weights Cov(y)^+ C^T w, and the prediction is y^ = C^T S^+ (z - E z) + E y. y
  itself is no function of z, so it could not be part of the head. If the prediction explains the
  share r^2 of one feature's variance, 1 - r^2 of its covariance with R̂ remains.

After the first two, Cov(R̂', y) = C^T w' = 0 on the texts that the edit was fitted on.

Dims: N texts, D width, K features.
"""

import dataclasses

import chex
import numpy as np

from irl_jax import errors
from irl_jax.models import pretrained

METHODS = ('leace', 'mean_difference', 'subtract')
# Smaller eigenvalues, relative to the largest, are left out of inverses: they would amplify the
# rounding of float32 states
CUTOFF = 1e-7
LEAST = 1e-4  # share of its norm that a head must keep; a shorter rest is rounding


@dataclasses.dataclass(frozen=True)
class Edit:
  """The linear change z -> z - C (A C M)^T (z - E z) of normalised states z [D]."""

  cross: np.ndarray  # C [D, K]
  applied: np.ndarray  # A C M [D, K]
  mean: np.ndarray  # E z [D]

  def states(self, states: np.ndarray) -> np.ndarray:
    """Returns changed states [N, D]."""
    return states - (states - self.mean) @ self.applied @ self.cross.T

  def head(self, direction: np.ndarray) -> np.ndarray:
    """Returns the head w' [D] that scores states as `direction` scores the changed ones.

    Raises:
      ConfigError: nothing is left of the direction.
    """
    direction = np.asarray(direction, np.float64)
    left = direction - self.applied @ (self.cross.T @ direction)
    if np.linalg.norm(left) < LEAST * np.linalg.norm(direction):
      raise errors.ConfigError(
        'the edit leaves nothing of the reward, which depends on the features alone; name fewer '
        'of them'
      )
    return left


def fit(states: np.ndarray, features: np.ndarray, method: str) -> Edit:
  """Fits an edit, in float64.

  Args:
    states: normalised last states z [N, D] of texts.
    features: y [N, K] of the same texts.
    method: one of METHODS.
  """
  states, features = np.asarray(states, np.float64), np.asarray(features, np.float64)
  chex.assert_rank([states, features], 2)
  chex.assert_equal_shape_prefix([states, features], 1)
  mean = states.mean(axis=0)
  z, y = states - mean, features - features.mean(axis=0)
  cross = z.T @ y / len(z)  # [D, K]
  if method == 'mean_difference':
    applied = cross
  else:
    applied = _inverse(shrunk(z) if method == 'leace' else z.T @ z / len(z)) @ cross
  inner = y.T @ y / len(y) if method == 'subtract' else cross.T @ applied  # [K, K]
  return Edit(cross, applied @ _inverse(inner), mean)


def shrunk(centred: np.ndarray) -> np.ndarray:
  """Returns the covariance [D, D] of centred states [N, D], by Ledoit and Wolf (2004).

  It is (1 - a) S + a m I, where m is the mean eigenvalue of S. The share a minimises the expected
  squared error: a = b^2 / d^2, with d^2 = |S - m I|^2 and b^2 the estimated variance of S, at most
  d^2.
  """
  count, width = centred.shape
  sample = centred.T @ centred / count
  target = np.eye(width) * np.trace(sample) / width
  distance = np.sum((sample - target) ** 2)
  variance = (np.sum(np.sum(centred**2, axis=1) ** 2) / count - np.sum(sample**2)) / count
  share = min(variance / distance, 1.0) if distance > 0 else 0.0
  return (1 - share) * sample + share * target


def _inverse(symmetric: np.ndarray) -> np.ndarray:
  """Returns the pseudo-inverse of a positive semidefinite matrix."""
  values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
  kept = values > CUTOFF * max(values.max(), 0)
  return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T


def head_of(model: pretrained.Decoder) -> np.ndarray:
  """Returns the head w [D], of norm 1, of a reward that `export.reward_model` made.

  Raises:
    InputError: its final norm is not as `trunk.fold` writes it, so it is another kind of reward.
  """
  if np.ptp(model.params['final_layer_norm']['scale']):
    raise errors.InputError(
      f'{model.source}: is a reward model that irl_jax did not recover (its final norm has a gain '
      'of its own), so it cannot be edited'
    )
  kernel = np.asarray(model.params['score']['kernel'], np.float64)[:, 0]
  return kernel / np.linalg.norm(kernel)
