"""Best-of-n sampling: what an order of samples by one reward gains in another, without PPO.

The source of both formulas is Gao et al. 2023 (arXiv 2210.10760), appendix A and section 2.
Dims: P prompts, N samples of each.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


def kl(n: int) -> float:
  """Returns the KL of best-of-n from the policy that draws the samples, nats: log n - (n - 1)/n."""
  return math.log(n) - (n - 1) / n


def expected(proxy: ArrayLike, gold: ArrayLike, n: int) -> float:
  """Returns the expected gold reward of the best of n samples by the proxy, over all subsets.

  Sorted by the proxy, sample i (from 1) is the best of n that are drawn from N without replacement
  with probability C(i - 1, n - 1) / C(N, n). Samples of equal proxy share their probability.

  Args:
    proxy: [P, N], the reward that orders the samples.
    gold: [P, N], the reward that is measured.
    n: from 1 to N.

  Raises:
    ValueError: the shapes differ, or n is not in 1 to N.
  """
  proxy, gold = np.asarray(proxy, np.float64), np.asarray(gold, np.float64)
  if proxy.ndim != 2 or proxy.shape != gold.shape:
    raise ValueError(f'proxy has shape {proxy.shape} and gold {gold.shape}: must be [P, N]')
  samples = proxy.shape[1]
  if not 1 <= n <= samples:
    raise ValueError(f'n = {n}: must be in 1 to {samples}')
  weights = special.binom(np.arange(samples), n - 1) / special.binom(samples, n)
  return float(np.mean([_of_prompt(*rows, weights) for rows in zip(proxy, gold)]))


def _of_prompt(proxy: np.ndarray, gold: np.ndarray, weights: np.ndarray) -> float:
  order = np.argsort(proxy, kind='stable')
  group = np.unique(proxy[order], return_inverse=True)[1]
  means = np.bincount(group, gold[order]) / np.bincount(group)
  return float(np.sum(weights * means[group]))
