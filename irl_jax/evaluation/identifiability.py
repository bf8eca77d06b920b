"""How far independent recoveries agree: the true reward is not identifiable, the spread over seeds shows how far."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from irl_jax.evaluation.figures import collect, finite_vector, is_constant

NO_SEED_SPEARMAN = 'needs two seeds, two texts, and no seed that scores all texts the same'


def seed_spearman(scores) -> float | None:
  """Mean Spearman correlation over all pairs of seeds.

  Args:
    scores: [K, N], K seeds' rewards of the same N texts.

  Returns:
    None where it cannot be computed; the reason is `NO_SEED_SPEARMAN`. (A constant seed is not left out: the rest
    would look more alike than the seeds are.)

  Raises:
    ValueError: a score is not finite.
  """
  scores = [finite_vector(row, f'scores[{seed}]') for seed, row in enumerate(scores)]
  if len(scores) < 2 or any(is_constant(row) for row in scores):
    return None
  return statistics.fmean(stats.spearmanr(*pair).statistic for pair in itertools.combinations(scores, 2))


def mean_and_std(seeds: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
  """Mean and sample standard deviation (K - 1) of every figure over K seeds, with the dicts' own nesting.

  A seed without the figure is left out and said so under 'why', and so is a figure that no seed has, or fewer than
  two for the deviation: it is None. Anything that is no number (a bool, a text) is not averaged.
  """
  names = [name for name in seeds[0] if name != 'why'] if seeds else []
  mean, std = {}, {}
  notes = {}
  for name in names:
    values = [seed.get(name) for seed in seeds]
    if isinstance(values[0], dict):
      mean[name], std[name] = mean_and_std(values)
    elif not any(isinstance(value, (bool, str)) for value in values):
      present = [value for value in values if value is not None]
      mean[name] = statistics.fmean(present) if present else reason(seeds, name)
      std[name] = float(statistics.stdev(present)) if len(present) > 1 else 'needs two seeds that have the figure'
      if 0 < len(present) < len(values):
        notes[name] = f'over {len(present)} of {len(values)} seeds: {reason(seeds, name)}'
  return annotate(collect(mean), notes), annotate(collect(std), notes)


def reason(seeds: Sequence[dict[str, Any]], name: str) -> str:
  """Why a seed does not have a figure: the first reason that one gives."""
  return next((seed['why'][name] for seed in seeds if name in seed.get('why', {})), 'not computed')


def annotate(figures: dict[str, Any], notes: dict[str, str]) -> dict[str, Any]:
  """Adds notes to a dict's 'why'; its own reasons stay."""
  why = notes | figures.get('why', {})
  return figures | ({'why': why} if why else {})
