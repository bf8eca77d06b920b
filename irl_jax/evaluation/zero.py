"""The zero of a recovered reward, chosen without labels, and its reliability.

The IRL loss sees only differences of rewards, so a reward's zero has to be chosen afterwards: it is
the threshold that best splits the texts into two classes. Dims: N texts.
"""

from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike
import scipy

from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import is_constant

ONE_CLASS = (
  'no reliable zero: the scores do not form two clusters (they split no better than samples from a '
  'single normal distribution)'
)
WIDE = 'no reliable zero: its bootstrap interval reaches more than half-way to the mean of a class'


class ZeroEstimate(TypedDict):
  """The zero of a reward, with its 95 % interval."""

  zero: float | None  # None if there are no texts; so are the next two
  low: float | None
  high: float | None
  reliable: bool
  why: str | None  # the reason if it is not reliable


def split(scores: np.ndarray) -> tuple[float, float]:
  """Returns the best two-class split of finite scores [N], and how good it is.

  Every split between neighbouring distinct values is tried. Scores below the threshold are the
  lower class.

  Returns:
    (threshold: half-way between the two neighbours, share in [0, 1] of the scores' variance that
    lies between the classes); (the value, 0) for constant scores.
  """
  if is_constant(scores):
    return float(scores[0]), 0.0
  scores = np.sort(scores)
  centred = scores - scores.mean()
  below = np.arange(1, scores.size)  # texts in the lower class, by split [N - 1]
  # With centred scores, n0 n1 (m1 - m0)^2 / N is (sum of the lower class)^2 N / (n0 n1).
  between = np.cumsum(centred)[:-1] ** 2 * scores.size / (below * (scores.size - below))
  best = int(np.argmax(np.where(scores[1:] > scores[:-1], between, -np.inf)))
  low, high = scores[best], scores[best + 1]
  middle = low + (high - low) / 2
  share = between[best] / np.sum(centred**2)
  # Between two neighbouring floats there is no middle, but the lower one must stay below the
  # threshold.
  return float(middle if middle > low else high), float(min(share, 1.0))


def otsu(scores: ArrayLike) -> float:
  """Returns the threshold of scores [N] with the largest between-class variance (Otsu 1979).

  Raises:
    ValueError: there is no score, or one is not finite.
  """
  scores = finite_vector(scores, 'scores')
  if not scores.size:
    raise ValueError('scores is empty: a zero needs texts')
  return split(scores)[0]


def one_normal(n: int, samples: int, seed: int) -> float:
  """Returns the 95 % quantile of the variance share between classes of n normal values.

  It tends to 2 / pi as n grows.
  """
  rng = np.random.default_rng(seed)
  return float(np.quantile([split(rng.standard_normal(n))[1] for _ in range(samples)], 0.95))


def zero(scores: ArrayLike, bootstrap_samples: int, seed: int) -> ZeroEstimate:
  """Chooses the zero of a reward from unlabelled texts, and says whether it is reliable.

  It is reliable if both hold:
  - There are two classes: the split explains more of the variance than it does in 95 % of samples
    of as many texts from one normal distribution, the shape of a score that carries no class. The
    share does not depend on location or scale, so this is a test at 5 %. Overlapping classes (about
    d' < 1.5) fail it, as they should: if they also differ in size, nothing in the scores shows
    where one ends. A flat or strongly skewed single class passes.
  - The interval is narrow: each of its ends lies nearer to the zero than to the mean of the class
    on that side. The split lies midway between the two means, so typical texts keep their sign for
    every zero in the interval.

  Args:
    scores: [N], the uncentred reward of unlabelled texts.
    bootstrap_samples: resamples of the percentile interval (95 %) and of the test.
    seed: random seed for both.

  Raises:
    ValueError: a score is not finite.
  """
  scores = finite_vector(scores, 'scores')
  if is_constant(scores):
    value = float(scores[0]) if scores.size else None
    why = 'all texts have the same score' if scores.size else 'no text'
    why = f'no reliable zero: {why}'
    return {'zero': value, 'low': value, 'high': value, 'reliable': False, 'why': why}
  threshold, share = split(scores)
  interval = scipy.stats.bootstrap(
    (scores,),
    lambda resample: split(resample)[0],
    n_resamples=bootstrap_samples,
    batch=100,
    vectorized=False,
    method='percentile',
    rng=seed,
  ).confidence_interval
  low, high = float(interval.low), float(interval.high)
  reason = None
  lower, upper = scores[scores < threshold].mean(), scores[scores >= threshold].mean()
  if share <= one_normal(scores.size, bootstrap_samples, seed):
    reason = ONE_CLASS
  elif low <= (lower + threshold) / 2 or high >= (threshold + upper) / 2:
    reason = WIDE
  return {'zero': threshold, 'low': low, 'high': high, 'reliable': reason is None, 'why': reason}


def saturation(scores: ArrayLike, limit: float = 0.9) -> float | None:
  """Returns the share of uncentred rewards [N] beyond ±limit, in [0, 1]; None without a text.

  |R| <= 1 by construction. A reward at its bounds cannot distinguish texts and is useless to PPO.
  """
  scores = finite_vector(scores, 'scores')
  return float(np.mean(np.abs(scores) > limit)) if scores.size else None
