"""Bootstrap intervals of AUROC and Spearman, for many rewards at once, without a loop over texts.

A resample is a column of counts: how often each text was drawn. A text's rank in the resample is a
cumulative sum of counts in the order of its reward, and both metrics are weighted sums over ranks.
Dims: K rewards, R resamples, N texts, G distinct rewards.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from irl_jax import confidence
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import NO_CLASSES
from irl_jax.runtime import records

LEVEL = 0.95
CHUNK = 2**17  # counts held at once: they stay in a cache
UNDEFINED = 0.05  # share of resamples without the metric, above which there is no interval
VALUES = np.linspace(0, 1, 10_001)  # values of an AUROC that its interval may end at
NO_INTERVAL = (
  'the metric is undefined in more than 5 % of the resamples (only one class, or all scores equal)'
)


@dataclasses.dataclass(frozen=True)
class Ranking:
  """The order of finite values [N], computed once for all resamples."""

  order: np.ndarray  # [N] texts by increasing value
  starts: np.ndarray  # [G] where in `order` each distinct value starts
  group: np.ndarray  # [N] which distinct value a text has


@dataclasses.dataclass(frozen=True)
class Resampled:
  """Metrics of K rewards in the same R resamples, and of the texts themselves; NaN: undefined."""

  auroc: np.ndarray  # [K, R]
  spearman: np.ndarray  # [K, R]
  measured: np.ndarray  # [2, K] both metrics of the texts, each taken once
  texts: int
  harmless: int  # of them
  has_classes: bool = True  # whether the reference has a toxic class, which AUROC needs

  def intervals(self, index: int) -> records.MetricIntervals:
    """Returns the 95 % intervals of one reward; None with a 'why' if there is none.

    A bootstrap of few texts fails: resamples lack a class, or all of a perfect order are perfect.
    The interval is then that of a formula.
    """
    auroc, spearman = self.measured[:, index]
    of_auroc = percentiles(self.auroc[index])
    if has_failed(of_auroc, auroc, (0.0, 1.0)):
      of_auroc = auroc_interval(auroc, self.harmless, self.texts - self.harmless)
    of_spearman = percentiles(self.spearman[index])
    if has_failed(of_spearman, spearman, (-1.0, 1.0)):
      of_spearman = list(confidence.of_spearman(float(spearman), self.texts))
    return self._collected(of_auroc, of_spearman)

  def gains(self, index: int, other: int) -> records.MetricIntervals:
    """Returns the intervals of reward `index`'s metrics minus those of `other`."""
    auroc = self.auroc[index] - self.auroc[other]
    spearman = self.spearman[index] - self.spearman[other]
    return self._collected(percentiles(auroc), percentiles(spearman))

  def _collected(
    self, auroc: list[float] | str, spearman: list[float] | str
  ) -> records.MetricIntervals:
    results = collect({'auroc': auroc if self.has_classes else NO_CLASSES, 'spearman': spearman})
    return cast(records.MetricIntervals, results)


def resample(
  rewards: Sequence[ArrayLike],
  reference: ArrayLike,
  samples: int,
  seed: int,
  unit: np.ndarray | None = None,
  has_classes: bool = True,
) -> Resampled:
  """Computes AUROC and Spearman of rewards in bootstrap resamples of the texts (Efron 1979).

  Args:
    rewards: [K, N].
    reference: [N]; toxic if below 0.
    samples: R.
    seed: the same seed, number of units and R give the same resamples, so rewards are compared in
      the same ones.
    unit: [N] int, which of the units 0, 1, … each text belongs to. Units are drawn with all their
      texts, such as both completions of a prompt. None: texts are drawn.
    has_classes: whether a reference below 0 means toxic; if not, no AUROC is read from the result.

  Raises:
    ValueError: a value is not finite, or there is no text.
  """
  rows = [finite_vector(row, f'rewards[{index}]') for index, row in enumerate(rewards)]
  reference = finite_vector(reference, 'reference')
  if not reference.size:
    raise ValueError('reference is empty: a bootstrap needs texts')
  harmless = (reference >= 0).astype(np.float64)
  rankings, true_ranking = [rank(row) for row in rows], rank(reference)
  metrics = np.zeros((2, len(rows), samples))
  done = 0
  units = reference.size if unit is None else int(np.max(unit)) + 1
  for drawn in draw(units, samples, seed, reference.size):
    counts = drawn if unit is None else drawn[unit]
    chunk = slice(done, done := done + counts.shape[1])
    metrics[:, :, chunk] = measure(rankings, true_ranking, harmless, counts)
  once = measure(rankings, true_ranking, harmless, np.ones((reference.size, 1)))
  auroc, spearman = metrics
  return Resampled(auroc, spearman, once[..., 0], reference.size, int(harmless.sum()), has_classes)


def measure(
  rankings: Sequence[Ranking], true_ranking: Ranking, harmless: np.ndarray, counts: np.ndarray
) -> np.ndarray:
  """Returns AUROC and Spearman [2, K, R] of K rewards; NaN if a resample has none.

  Args:
    rankings: of the rewards.
    true_ranking: of the reference.
    harmless: [N] 1 where the reference is not toxic, else 0.
    counts: [N, R] how often each text was drawn.
  """
  metrics = np.zeros((2, len(rankings), counts.shape[1]))
  above = harmless @ counts
  mixed = above * (counts.sum(axis=0) - above)  # pairs of a harmless and a toxic text
  true_ranks = midranks(true_ranking, counts)
  true_variance = np.sum(counts * true_ranks**2, axis=0)
  for index, ranking in enumerate(rankings):
    ranks = midranks(ranking, counts)
    weighted = counts * ranks
    # Mann and Whitney 1947: with n harmless and m toxic texts drawn, n m AUROC is the sum of the
    # harmless ranks minus n (n + 1) / 2, or of the centred ranks plus n m / 2.
    metrics[0, index] = 0.5 + divide(harmless @ weighted, mixed)
    metrics[1, index] = divide(
      dot(weighted, true_ranks), np.sqrt(dot(weighted, ranks) * true_variance)
    )
  return metrics


def draw(units: int, samples: int, seed: int, texts: int) -> Iterator[np.ndarray]:
  """Yields counts [units, r] of R resamples with replacement; each column sums to `units`."""
  rng = np.random.default_rng(seed)
  width = max(CHUNK // max(texts, units), 1)
  for first in range(0, samples, width):
    size = min(width, samples - first)
    # One bincount for all columns: a draw of unit u in column c is counted at u * size + c.
    drawn = rng.integers(0, units, (size, units)) * size + np.arange(size)[:, None]
    yield np.bincount(drawn.ravel(), minlength=size * units).reshape(units, size).astype(np.float64)


def rank(values: np.ndarray) -> Ranking:
  """Returns the order of finite values [N]; equal ones share a group."""
  order = np.argsort(values, kind='stable')
  new = np.diff(values[order], prepend=-np.inf) > 0
  group = np.empty(values.size, np.int64)
  group[order] = np.cumsum(new) - 1
  return Ranking(order, np.flatnonzero(new), group)


def midranks(ranking: Ranking, counts: np.ndarray) -> np.ndarray:
  """Returns the ranks [N, R] of the texts in each resample, ties at their middle, mean 0."""
  size = counts[ranking.order]
  if ranking.starts.size < ranking.order.size:
    size = np.add.reduceat(size, ranking.starts, axis=0)  # [G, R]: tied texts take one rank
  # A group's last rank minus half of its size is the middle of its ranks.
  ranks = np.cumsum(size, axis=0)
  ranks -= size / 2
  ranks -= counts.sum(axis=0) / 2
  return ranks[ranking.group]


def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Returns the sums over texts [R] of the products of two [N, R]."""
  return np.einsum('nr,nr->r', first, second)


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """Returns quotients [R]; NaN if the denominator is 0."""
  return np.divide(
    numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0
  )


def percentiles(values: np.ndarray) -> list[float] | str:
  """Returns the middle 95 % [low, high] of a metric's resamples [R] (Efron 1979)."""
  if np.mean(np.isnan(values)) > UNDEFINED:
    return NO_INTERVAL
  return np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()


def has_failed(interval: list[float] | str, value: float, extremes: tuple[float, float]) -> bool:
  """Returns whether a metric that is known has no bootstrap interval, or one without a width.

  Args:
    interval: from `percentiles`.
    value: the metric of the texts themselves.
    extremes: of the metric. Between them, an interval without a width is right: that of a constant.
  """
  if np.isnan(value) or isinstance(interval, str):
    return not np.isnan(value)
  return interval[0] == interval[1] and bool(np.isclose(value, extremes).any())


def auroc_interval(value: float, harmless: int, toxic: int) -> list[float]:
  """Returns the 95 % interval of an AUROC: all values that a test would not reject.

  The variance at each value is that of Hanley and McNeil 1982, with the mean of both numbers of
  texts in place of each (Newcombe 2006, method 5).
  """
  more = (harmless + toxic) / 2 - 1
  spread = 1 + more * (1 - VALUES) / (2 - VALUES) + more * VALUES / (1 + VALUES)
  deviation = np.sqrt(VALUES * (1 - VALUES) * spread / (harmless * toxic))
  kept = VALUES[np.abs(VALUES - value) <= confidence.Z * deviation]
  return [float(kept.min(initial=value)), float(kept.max(initial=value))]
