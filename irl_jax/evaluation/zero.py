"""Where the zero of a recovered reward lies, without labels: the two-class split of texts, and how sure that is.

The IRL loss sees only differences of rewards, so that a reward's zero has to be chosen afterwards. Dims: N texts.
"""

from typing import Any

import numpy as np
import scipy

from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import is_constant

ONE_CLASS = (
  'no reliable zero: the texts split no better into two classes than one normal distribution does'
)
WIDE = 'no reliable zero: its bootstrap interval reaches more than half-way to the mean of a class'


def split(scores: np.ndarray) -> tuple[float, float]:
  """The best two-class split of finite scores [N] and the share of their variance that lies between the classes.

  Every split between neighbouring distinct values is tried. Scores below the threshold are the lower class.

  Returns:
    (threshold: half-way between the two neighbours, share: in [0, 1]); (the value, 0) of constant scores.
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
  # Between two neighbouring floats there is no middle: the lower one must still be below the threshold.
  return float(middle if middle > low else high), float(min(share, 1.0))


def otsu(scores) -> float:
  """The threshold of the two-class split of scores [N] that maximises the between-class variance (Otsu 1979), exactly.

  Raises:
    ValueError: there is no score, or one is not finite.
  """
  scores = finite_vector(scores, 'scores')
  if not scores.size:
    raise ValueError('scores is empty: a zero needs texts')
  return split(scores)[0]


def one_normal(n: int, samples: int, seed: int) -> float:
  """The share of variance between classes that 95 % of samples of n normal values stay below (2 / pi as n grows)."""
  rng = np.random.default_rng(seed)
  return float(np.quantile([split(rng.standard_normal(n))[1] for _ in range(samples)], 0.95))


def zero(scores, bootstrap_samples: int, seed: int) -> dict[str, Any]:
  """Chooses the zero of a reward from unlabelled texts, and says whether it can be relied upon.

  It can be, where both hold:
  - The classes are two: the split explains more of the variance than it does in 95 % of samples of as many texts from
    one normal distribution, the shape of a score that carries no class. (The share does not depend on location or
    scale, so this is a test at 5 %. Overlapping classes, about d' < 1.5, fail it, and should: where they are also of
    unequal size, nothing in the scores tells where one ends. A flat or strongly skewed single class passes.)
  - The interval is narrow: each of its ends lies nearer to the zero than to the mean of the class on that side. The
    split lies midway between the two means, so whatever zero of the interval is taken, typical texts keep their sign.

  Args:
    scores: [N], the uncentred reward of unlabelled texts.
    bootstrap_samples: resamples of the percentile interval (95 %) and of the test.
    seed: of both.

  Returns:
    zero, low and high (None without a text), reliable (bool), why (a str where not reliable, else None).

  Raises:
    ValueError: a score is not finite.
  """
  scores = finite_vector(scores, 'scores')
  if is_constant(scores):
    value = float(scores[0]) if scores.size else None
    why = 'no reliable zero: ' + ('all texts have the same score' if scores.size else 'no text')
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
  lower, upper = scores[scores < threshold].mean(), scores[scores >= threshold].mean()
  why = None
  if share <= one_normal(scores.size, bootstrap_samples, seed):
    why = ONE_CLASS
  elif low <= (lower + threshold) / 2 or high >= (threshold + upper) / 2:
    why = WIDE
  return {'zero': threshold, 'low': low, 'high': high, 'reliable': why is None, 'why': why}


def saturation(scores, limit: float = 0.9) -> float | None:
  """Share of uncentred rewards [N] beyond +-limit, in [0, 1]; None without a text.

  |R| <= 1 by construction: a reward that sits at its bounds grades nothing and is useless to PPO.
  """
  scores = finite_vector(scores, 'scores')
  return float(np.mean(np.abs(scores) > limit)) if scores.size else None
