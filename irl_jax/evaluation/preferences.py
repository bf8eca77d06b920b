"""Agreement of a reward with preferences: which of two answers it scores higher (RewardBench).

Lambert et al. 2024, "RewardBench: Evaluating Reward Models for Language Modeling", section 4.
Dims: M pairs.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from irl_jax import confidence
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector
from irl_jax.runtime import records

NO_PAIR = 'no pair'


class PairwiseAccuracy(records.Share):
  """The share of pairs whose chosen answer scores higher, ties counted half, with its interval."""

  ties: int  # pairs with equal scores


class Preferences(records.Explained):
  """The accuracy on all pairs, and on each subset of them."""

  all: PairwiseAccuracy
  subsets: dict[str, PairwiseAccuracy]  # in the order of their first pairs; {}: there are none


def accuracies(
  chosen: ArrayLike, rejected: ArrayLike, subsets: Sequence[str | None]
) -> Preferences:
  """Measures how often the chosen answer has the higher reward.

  Args:
    chosen: [M] rewards of the chosen answers.
    rejected: [M] rewards of the rejected answers.
    subsets: [M] the subset of each pair; None: it has none, and counts only among all.

  Raises:
    ValueError: a reward is not finite, or the three differ in length.
  """
  chosen, rejected = finite_vector(chosen, 'chosen'), finite_vector(rejected, 'rejected')
  if not chosen.size == rejected.size == len(subsets):
    raise ValueError(
      f'chosen has {chosen.size} rewards, rejected {rejected.size} and subsets {len(subsets)}: '
      'must be the same'
    )
  rows: dict[str, list[int]] = {}
  for row, name in enumerate(subsets):
    if name is not None:
      rows.setdefault(name, []).append(row)
  return {
    'all': pairwise_accuracy(chosen, rejected),
    'subsets': {
      name: pairwise_accuracy(chosen[numbers], rejected[numbers]) for name, numbers in rows.items()
    },
  }


def pairwise_accuracy(chosen: np.ndarray, rejected: np.ndarray) -> PairwiseAccuracy:
  """Returns the share of pairs [M] in order, with Wilson's 95 % interval.

  A tie counts half, as for a coin that is thrown. RewardBench counts it as wrong; the two are equal
  if no two rewards are.
  """
  if not chosen.size:
    missing = dict.fromkeys(('rate', 'low', 'high'), NO_PAIR)
    return cast(PairwiseAccuracy, collect({**missing, 'n': 0, 'ties': 0}))
  ties = int(np.sum(chosen == rejected))
  right = int(np.sum(chosen > rejected)) + ties / 2
  low, high = confidence.wilson(right, chosen.size)
  return {'rate': right / chosen.size, 'low': low, 'high': high, 'n': chosen.size, 'ties': ties}
