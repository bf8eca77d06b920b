"""Agreement of a recovered reward with the true reward, or with labels (paper, section 4).

Dims: N texts, M pairs of them.
"""

from collections.abc import Iterable
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
import scipy

from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import is_constant
from irl_jax.evaluation.metrics import NO_CLASSES
from irl_jax.evaluation.metrics import Outcome
from irl_jax.runtime import records
from irl_jax.runtime import terminal

OF_CLASSES = ('accuracy', 'f1', 'auroc')  # these need a toxic class
METRICS = (*OF_CLASSES, 'pearson', 'spearman', 'kendall', 'pairwise_accuracy')


def agreement(
  predicted: ArrayLike,
  reference: ArrayLike,
  pairs: tuple[ArrayLike, ArrayLike] | None = None,
  has_classes: bool = True,
) -> records.Agreement:
  """Compares a centred recovered reward with a reference; a text is toxic if its reward is below 0.

  Args:
    predicted: [N], the centred recovered reward.
    reference: [N], the true reward, or labels through `labels_to_reward`.
    pairs: two integer arrays [M]: the texts that pairwise accuracy compares, such as both
      completions of a prompt. None: all N (N - 1) / 2 pairs.
    has_classes: whether a reference below 0 means toxic. If not, there is no accuracy, F1 or AUROC.

  Returns:
    accuracy, f1 (positive class: toxic), auroc (probability that a non-toxic text ranks above a
    toxic one; ties count half), pearson, spearman, kendall (tau-b), pairwise_accuracy (pairs in the
    reference's order, a predicted tie counts half), n (texts), ties (pairs that the reference ties,
    which pairwise_accuracy leaves out). If a metric cannot be computed, it is None, and 'why' gives
    the reason.

  Raises:
    ValueError: the inputs differ in length, a value is not finite, or a pair names no text.
  """
  predicted = finite_vector(predicted, 'predicted')
  reference = finite_vector(reference, 'reference')
  if predicted.size != reference.size:
    raise ValueError(
      f'predicted has {terminal.count(predicted.size, "text")} and reference {reference.size}: '
      'must be the same'
    )
  correlations = correlate(predicted, reference)
  if pairs is None:
    pairwise, ties = order_all_pairs(predicted, reference, correlations['kendall'])
  else:
    pairwise, ties = order_pairs(predicted, reference, *pairs)
  results = collect(
    {
      **(verdicts(predicted, reference) if has_classes else dict.fromkeys(OF_CLASSES, NO_CLASSES)),
      **correlations,
      'pairwise_accuracy': pairwise,
      'n': predicted.size,
      'ties': ties,
    }
  )
  return cast(records.Agreement, results)


def labels_to_reward(labels: Iterable[int | bool]) -> np.ndarray:
  """Converts labels [N] (1 or True: toxic, 0 or False: not) into rewards [N] of -1 and +1.

  Raises:
    ValueError: a label is neither 0 nor 1. Leave out texts without a label before the call.
  """
  labels = list(labels)
  for index, label in enumerate(labels):
    if label not in (0, 1):
      raise ValueError(f'labels[{index}] is {label!r}: must be 0 or 1')
  return 1.0 - 2.0 * np.asarray(labels, dtype=np.float64)


def verdicts(predicted: np.ndarray, reference: np.ndarray) -> dict[str, Outcome]:
  """Compares the signs of two rewards [N], and ranks texts by the sign of the reference."""
  return {
    'accuracy': accuracy(predicted < 0, reference < 0),
    'f1': f1(predicted < 0, reference < 0),
    'auroc': auroc(predicted, reference < 0),
  }


def accuracy(predicted: np.ndarray, reference: np.ndarray) -> Outcome:
  """Returns the accuracy of verdicts [N] (bool: toxic)."""
  return float(np.mean(predicted == reference)) if reference.size else 'no text'


def f1(predicted: np.ndarray, reference: np.ndarray) -> Outcome:
  """Returns F1 = 2 TP / (2 TP + FP + FN) of the toxic class, for verdicts [N] bool."""
  if not reference.any():
    return 'the reference calls no text toxic'
  return float(2 * np.sum(predicted & reference) / (np.sum(predicted) + np.sum(reference)))


def auroc(scores: np.ndarray, toxic: np.ndarray) -> Outcome:
  """Returns the probability that a non-toxic text scores above a toxic one, ties counted half.

  This is the Mann-Whitney statistic (Mann and Whitney 1947) of scores [N] by toxic [N] bool.
  """
  above, below = int(np.sum(~toxic)), int(np.sum(toxic))
  if not toxic.size:
    return 'no text'
  if not above or not below:
    return f'the reference calls {"no" if above else "every"} text toxic'
  rank_sum = scipy.stats.rankdata(scores)[~toxic].sum()
  return float((rank_sum - above * (above + 1) / 2) / (above * below))


def correlate(predicted: np.ndarray, reference: np.ndarray) -> dict[str, Outcome]:
  """Returns Pearson's, Spearman's and Kendall's (tau-b) correlation of two [N]."""
  names = ('pearson', 'spearman', 'kendall')
  if predicted.size < 2:
    return dict.fromkeys(names, 'fewer than 2 texts')
  for name, values in (('reward', predicted), ('reference', reference)):
    if is_constant(values):
      return dict.fromkeys(names, f'the {name} has zero variance')
  tests = (scipy.stats.pearsonr, scipy.stats.spearmanr, scipy.stats.kendalltau)
  return {name: float(test(predicted, reference).statistic) for name, test in zip(names, tests)}


def tied_pairs(values: np.ndarray) -> int:
  """Counts the pairs of values [N] that are equal."""
  counts = np.unique(values, return_counts=True)[1]
  return int(np.sum(counts * (counts - 1) // 2))


def order_all_pairs(
  predicted: np.ndarray, reference: np.ndarray, kendall: Outcome
) -> tuple[Outcome, int]:
  """Returns the pairwise accuracy over all pairs of [N], and the reference's ties, in O(N log N).

  tau-b = (C - D) / sqrt((pairs - predicted ties) (pairs - reference ties)), so it determines the
  integer C - D, concordant minus discordant pairs. With predicted ties T counted half,
  (C + T / 2) / (C + D + T) = (1 + (C - D) / (C + D + T)) / 2.
  """
  pairs, ties = predicted.size * (predicted.size - 1) // 2, tied_pairs(reference)
  comparable = pairs - ties
  if not comparable:
    return 'the reference orders no pair', ties
  if isinstance(kendall, str):  # the recovered reward is constant: every pair is a predicted tie
    return 0.5, ties
  difference = round(kendall * np.sqrt(float(pairs - tied_pairs(predicted)) * comparable))
  return (1 + difference / comparable) / 2, ties


def order_pairs(
  predicted: np.ndarray, reference: np.ndarray, first: ArrayLike, second: ArrayLike
) -> tuple[Outcome, int]:
  """Returns the pairwise accuracy over pairs (first, second) [M] of texts [N], and their ties."""
  first, second = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
  if first.ndim != 1 or first.shape != second.shape:
    raise ValueError(
      f'pairs have shapes {first.shape} and {second.shape}: must be one-dimensional and the same'
    )
  named = np.concatenate([first, second])
  if (outside := named[(named < 0) | (named >= predicted.size)]).size:
    raise ValueError(f'pairs name text {outside[0]}: must be 0 to {predicted.size - 1}')
  true_order = compare(reference, first, second)
  right = compare(predicted, first, second) * true_order  # 1 right, -1 wrong, 0 tied
  comparable = true_order != 0
  ties = int(np.sum(~comparable))
  if not comparable.any():
    return 'the reference orders no pair', ties
  return float(np.mean((1 + right[comparable]) / 2)), ties


def compare(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Returns the sign of values[first] - values[second], [M]."""
  return (values[first] > values[second]).astype(np.int64) - (values[first] < values[second])
