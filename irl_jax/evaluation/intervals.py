"""How sure AUROC and Spearman are: percentile bootstrap, of many rewards at once, without a loop over texts.

A resample is a column of counts: how often each text was drawn. A text's rank in the resample is a cumulative sum of
counts in the order of its reward, and both figures are weighted sums over ranks. Dims: K rewards, R resamples, N texts,
G distinct rewards.
"""

from collections.abc import Iterator
import dataclasses
from typing import Any

import numpy as np

from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector

LEVEL = 0.95
CHUNK = 2**17  # counts held at once: what stays in a cache
UNDEFINED = 0.05  # share of resamples without the figure, above which there is no interval
NO_INTERVAL = (
  'more than 5 % of the resamples do not have the figure: one class, or one score, for all texts'
)


@dataclasses.dataclass(frozen=True)
class Ranking:
  """The order of finite values [N], found once for all resamples."""

  order: np.ndarray  # [N] texts by increasing value
  starts: np.ndarray  # [G] where in `order` each distinct value starts
  group: np.ndarray  # [N] which distinct value a text has


@dataclasses.dataclass(frozen=True)
class Resampled:
  """Figures of K rewards in the same R resamples; NaN where a resample has none."""

  auroc: np.ndarray  # [K, R]
  spearman: np.ndarray  # [K, R]

  def intervals(self, index: int) -> dict[str, Any]:
    """The 95 % intervals of one reward: {'auroc': [low, high], 'spearman': [low, high]}; None beside a 'why'."""
    return collect(
      {'auroc': percentiles(self.auroc[index]), 'spearman': percentiles(self.spearman[index])}
    )

  def gains(self, index: int, other: int) -> dict[str, Any]:
    """Intervals of how far the figures of reward `index` are above those of `other`, in the same resamples."""
    return collect(
      {
        'auroc': percentiles(self.auroc[index] - self.auroc[other]),
        'spearman': percentiles(self.spearman[index] - self.spearman[other]),
      }
    )


def resample(rewards, reference, samples: int, seed: int, unit=None) -> Resampled:
  """AUROC and Spearman of rewards against a reference, in bootstrap resamples of the texts (Efron 1979).

  Args:
    rewards: [K, N].
    reference: [N]; toxic where below 0.
    samples: R.
    seed: the same seed, n of units and R give the same resamples, so that rewards are compared in the same ones.
    unit: [N] int, which of the units 0, 1, … each text belongs to: units are drawn, with all their texts (both
      completions of a prompt); None: texts are drawn.

  Raises:
    ValueError: a value is not finite, or there is no text.
  """
  rewards = [finite_vector(row, f'rewards[{index}]') for index, row in enumerate(rewards)]
  reference = finite_vector(reference, 'reference')
  if not reference.size:
    raise ValueError('reference is empty: a bootstrap needs texts')
  harmless = (reference >= 0).astype(np.float64)
  rankings, true_ranking = [rank(row) for row in rewards], rank(reference)
  figures = np.zeros((2, len(rewards), samples))
  done = 0
  for counts in draw(
    reference.size if unit is None else int(np.max(unit)) + 1, samples, seed, reference.size
  ):
    counts = counts if unit is None else counts[unit]
    above = harmless @ counts
    mixed = above * (counts.sum(axis=0) - above)  # pairs of a harmless and a toxic text
    true_ranks = midranks(true_ranking, counts)
    true_variance = np.sum(counts * true_ranks**2, axis=0)
    chunk = slice(done, done := done + counts.shape[1])
    for index, ranking in enumerate(rankings):
      ranks = midranks(ranking, counts)
      weighted = counts * ranks
      # Mann and Whitney 1947: with n harmless and m toxic texts drawn, n m AUROC is the sum of the harmless ranks less
      # n (n + 1) / 2, and of the centred ones plus n m / 2.
      figures[0, index, chunk] = 0.5 + divide(harmless @ weighted, mixed)
      figures[1, index, chunk] = divide(
        dot(weighted, true_ranks), np.sqrt(dot(weighted, ranks) * true_variance)
      )
  return Resampled(*figures)


def draw(units: int, samples: int, seed: int, texts: int) -> Iterator[np.ndarray]:
  """Counts [units, r] of resamples with replacement, R of them in chunks of r; each column sums to `units`."""
  rng = np.random.default_rng(seed)
  width = max(CHUNK // max(texts, units), 1)
  for first in range(0, samples, width):
    size = min(width, samples - first)
    drawn = rng.integers(0, units, (size, units)) * size + np.arange(size)[:, None]
    yield np.bincount(drawn.ravel(), minlength=size * units).reshape(units, size).astype(np.float64)


def rank(values: np.ndarray) -> Ranking:
  """The order of finite values [N]; equal ones share a group."""
  order = np.argsort(values, kind='stable')
  new = np.diff(values[order], prepend=-np.inf) > 0
  group = np.empty(values.size, np.int64)
  group[order] = np.cumsum(new) - 1
  return Ranking(order, np.flatnonzero(new), group)


def midranks(ranking: Ranking, counts: np.ndarray) -> np.ndarray:
  """Ranks [N, R] of the texts within each resample, ties at their middle, less the mean rank of the resample."""
  size = counts[ranking.order]
  if ranking.starts.size < ranking.order.size:
    size = np.add.reduceat(size, ranking.starts, axis=0)  # [G, R]
  ranks = np.cumsum(size, axis=0)
  ranks -= size / 2
  ranks -= counts.sum(axis=0) / 2
  return ranks[ranking.group]


def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Sums over texts [R] of the products of two [N, R]."""
  return np.einsum('nr,nr->r', first, second)


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """Quotients [R]; NaN where the denominator is 0."""
  return np.divide(
    numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0
  )


def percentiles(values: np.ndarray) -> list[float] | str:
  """The middle 95 % [low, high] of a figure's resamples [R] (Efron 1979), or the reason why there is no interval."""
  if np.mean(np.isnan(values)) > UNDEFINED:
    return NO_INTERVAL
  return np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
