"""The agreement of independent recoveries. Their spread shows how far r* fails to be identifiable.

The matrices take any K rewards of the same texts: other seeds, other objectives, r*. Dims: K
rewards, N texts, M prompts, C completions of each.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import statistics
from typing import Any
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
import scipy

from irl_jax.evaluation.metrics import annotate
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import is_constant
from irl_jax.runtime import records

NO_ENTRY = {
  'spearman': 'a reward scores all texts the same',
  'sign_agreement': 'no text',
  'epic_distance': 'a reward gives all completions of a prompt the same score',
}
NO_START = 'needs two seeds, and what each scored before training'
NO_SEED_SPEARMAN = 'needs two seeds, two texts, and no seed that scores all texts the same'


def compare_rewards(
  names: Sequence[str], texts: Sequence[ArrayLike], completions: ArrayLike
) -> records.Identifiability:
  """Compares each pair of rewards: the `identifiability` part of summary.json.

  Args:
    names: the names of K rewards.
    texts: [K, N], their centred scores of texts.
    completions: [K, M, C], their scores of C completions of each of M prompts.

  Returns:
    names, K x K lists spearman, sign_agreement (of texts) and epic_distance (of completions), and
    n, the number of texts.
    An entry that cannot be computed is None, with the reason under 'why'.

  Raises:
    ValueError: a score is not finite, or the shapes do not fit.
  """
  matrices = {
    'spearman': spearman(texts),
    'sign_agreement': sign_agreement(texts),
    'epic_distance': epic_distance(completions),
  }
  plain = {
    name: [[None if np.isnan(entry) else float(entry) for entry in row] for row in matrix]
    for name, matrix in matrices.items()
  }
  why = {name: NO_ENTRY[name] for name, matrix in matrices.items() if np.isnan(matrix).any()}
  size = finite_rows(texts).shape[1]
  result = {'names': list(names), **plain, 'n': size} | ({'why': why} if why else {})
  return cast(records.Identifiability, result)


def compare_with_start(
  texts: Sequence[ArrayLike], starts: Sequence[ArrayLike] | None
) -> records.Start | None:
  """Measures the similarity of the seeds' rewards before training, and how far each then moved.

  Seeds that start out similar and hardly move agree regardless of the pairs.

  Args:
    texts: [K, N], the scores of texts by K seeds' rewards.
    starts: [K, N], the scores by the same rewards before training; None: not known.
  """
  if starts is None or len(starts) < 2:
    return None
  first = spearman(starts)
  lowest = float(np.min(first[np.triu_indices(len(first), 1)]))  # NaN if one is
  moved = [float(spearman(both)[0, 1]) for both in zip(texts, starts)]
  with_start = [None if np.isnan(value) else value for value in moved]
  result = collect(
    {
      'between_seeds': NO_ENTRY['spearman'] if np.isnan(lowest) else lowest,
      'with_start': with_start,
    }
  )
  if None in with_start:
    result = annotate(result, {'with_start': NO_ENTRY['spearman']})
  return cast(records.Start, result)


def spearman(scores: Sequence[ArrayLike]) -> np.ndarray:
  """Returns the Spearman correlation [K, K] of rewards [K, N]; NaN if one of two is constant."""
  rows = finite_rows(scores)
  return correlation(np.array([scipy.stats.rankdata(row) for row in rows]).reshape(rows.shape))


def sign_agreement(scores: Sequence[ArrayLike]) -> np.ndarray:
  """Returns the share [K, K] of texts on which two centred rewards [K, N] give the same verdict."""
  rows = finite_rows(scores)
  toxic = (rows < 0).astype(np.float64)
  both = toxic @ toxic.T + (1 - toxic) @ (1 - toxic).T
  return both / rows.shape[1] if rows.shape[1] else np.full(both.shape, np.nan)


def epic_distance(completions: ArrayLike) -> np.ndarray:
  """Returns the EPIC distance [K, K], in [0, 1], of rewards [K, M, C].

  EPIC (Gleave et al. 2021, definition 4.6) for text: rewards that differ by a function of the
  prompt and a positive factor induce the same policies. So each reward is made canonical by
  subtracting its mean over a prompt's completions. The distance is the Pearson distance
  sqrt((1 - rho) / 2): half the Euclidean distance between the canonical rewards scaled to norm 1.
  0: equivalent; sqrt(1/2) = .71: unrelated; 1: opposite. NaN if a reward tells no two completions
  of a prompt apart.

  Raises:
    ValueError: completions is not [K, M, C], or a reward is not finite.
  """
  completions = np.asarray(completions, np.float64)
  if completions.ndim != 3:
    raise ValueError(
      f'completions has shape {completions.shape}: must be rewards x prompts x completions'
    )
  finite_rows(completions.reshape(len(completions), -1))
  canonical = completions - completions.mean(axis=2, keepdims=True)
  unit = unit_rows(canonical.reshape(len(completions), -1))
  # As a Euclidean distance: 1 - rho would round away the difference of nearly equal rewards.
  return np.array([[np.linalg.norm(first - second) / 2 for second in unit] for first in unit])


def finite_rows(scores: Sequence[ArrayLike] | np.ndarray) -> np.ndarray:
  """Returns scores as float64 [K, N].

  Raises:
    ValueError: a score is not finite, or the rows differ in length.
  """
  return np.stack([finite_vector(row, f'scores[{index}]') for index, row in enumerate(scores)])


def correlation(rows: np.ndarray) -> np.ndarray:
  """Returns the Pearson correlation [K, K] of rows [K, N], in [-1, 1]; NaN if a row is constant."""
  unit = unit_rows(rows - rows.mean(axis=1, keepdims=True) if rows.size else rows)
  return np.clip(unit @ unit.T, -1, 1)


def unit_rows(centred: np.ndarray) -> np.ndarray:
  """Scales rows [K, N] of mean 0 to norm 1; NaN if a row is constant."""
  norm = np.array([0.0 if is_constant(row) else np.linalg.norm(row) for row in centred])
  return centred / np.where(norm > 0, norm, np.nan)[:, None]


def seed_spearman(scores: Sequence[ArrayLike]) -> float | None:
  """Returns the mean Spearman correlation over all pairs of seeds.

  Args:
    scores: [K, N], K seeds' rewards of the same N texts.

  Returns:
    None if it cannot be computed; the reason is `NO_SEED_SPEARMAN`. A constant seed is not left
    out: without it, the seeds would look more alike than they are.

  Raises:
    ValueError: a score is not finite.
  """
  if len(scores) < 2:
    return None
  matrix = spearman(scores)
  mean = float(np.mean(matrix[np.triu_indices(len(matrix), 1)]))
  return None if np.isnan(mean) else mean


def mean_and_std(seeds: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
  """Averages every metric over K seeds; the results are nested like the inputs.

  A seed without a metric is left out, and 'why' says so. A metric that no seed has is None. A
  deviation needs two seeds, and is None otherwise. Anything that is not a number (a bool, a text, a
  list) is not averaged.

  Returns:
    The mean and the sample standard deviation (K - 1).
  """
  names = [name for name in seeds[0] if name != 'why'] if seeds else []
  mean: dict[str, Any] = {}
  std: dict[str, Any] = {}
  notes = {}
  for name in names:
    values = [seed.get(name) for seed in seeds]
    present = [value for value in values if value is not None]
    if any(isinstance(value, dict) for value in present):
      nested = mean_and_std(present)
      if any(nested):  # not if nothing in it is a number
        mean[name], std[name] = nested
    elif not any(isinstance(value, (bool, str, list)) for value in present):
      mean[name] = statistics.fmean(present) if present else reason(seeds, name)
      std[name] = (
        float(statistics.stdev(present))
        if len(present) > 1
        else 'needs two seeds that have the metric'
      )
    if 0 < len(present) < len(values):
      notes[name] = f'over {len(present)} of {len(values)} seeds: {reason(seeds, name)}'
  return annotate(collect(mean), notes), annotate(collect(std), notes)


def reason(seeds: Sequence[Mapping[str, Any]], name: str) -> str:
  """Returns the first seed's reason for lacking a metric."""
  return next((seed['why'][name] for seed in seeds if name in seed.get('why', {})), 'not computed')
