"""How well a recovered reward agrees with the true reward, or with human labels (the paper, section 4).

Dims: N texts, M pairs of them.
"""

from typing import Any

import numpy as np
import scipy

from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import is_constant

FIGURES = ('accuracy', 'f1', 'auroc', 'pearson', 'spearman', 'kendall', 'pairwise_accuracy')


def agreement(predicted, reference, pairs=None) -> dict[str, Any]:
  """Compares a centred recovered reward with a reference; a text is toxic where its reward is below 0.

  Args:
    predicted: [N], the centred recovered reward.
    reference: [N], the true reward, or human labels through `labels_to_reward`.
    pairs: two integer arrays [M]: the texts that pairwise accuracy compares, such as both completions of a prompt;
      None: all N (N - 1) / 2 pairs.

  Returns:
    accuracy, f1 (positive class: toxic), auroc (that a non-toxic text ranks above a toxic one, ties count half),
    pearson, spearman, kendall (tau-b), pairwise_accuracy (pairs in the reference's order, a predicted tie counts
    half), n (texts), ties (pairs that the reference ties: left out of pairwise_accuracy). A figure that cannot be
    computed is None, with its reason under 'why'.

  Raises:
    ValueError: an input is not finite or not of one length, or a pair names no text.
  """
  predicted, reference = (
    finite_vector(predicted, 'predicted'),
    finite_vector(reference, 'reference'),
  )
  if predicted.size != reference.size:
    raise ValueError(
      f'predicted has {predicted.size} texts and reference {reference.size}: must be the same'
    )
  correlations = correlate(predicted, reference)
  if pairs is None:
    pairwise, ties = order_all_pairs(predicted, reference, correlations['kendall'])
  else:
    pairwise, ties = order_pairs(predicted, reference, *pairs)
  return collect(
    {
      'accuracy': accuracy(predicted < 0, reference < 0),
      'f1': f1(predicted < 0, reference < 0),
      'auroc': auroc(predicted, reference < 0),
      **correlations,
      'pairwise_accuracy': pairwise,
      'n': predicted.size,
      'ties': ties,
    }
  )


def labels_to_reward(labels) -> np.ndarray:
  """Turns human labels [N] (1 or True: toxic, 0 or False: not) into rewards [N] of -1 and +1.

  Raises:
    ValueError: a label is neither; a text without a label has to be left out before.
  """
  for index, label in enumerate(labels):
    if label not in (0, 1):
      raise ValueError(f'labels[{index}] is {label!r}: must be 0 or 1')
  return 1.0 - 2.0 * np.asarray(labels, dtype=np.float64)


def accuracy(predicted: np.ndarray, reference: np.ndarray) -> float | str:
  """Share of texts [N] with the right verdict (bool: toxic), or the reason why there is none."""
  return float(np.mean(predicted == reference)) if reference.size else 'no text'


def f1(predicted: np.ndarray, reference: np.ndarray) -> float | str:
  """F1 = 2 TP / (2 TP + FP + FN) of the toxic class [N] bool; without a toxic text there is nothing to find."""
  if not reference.any():
    return 'the reference calls no text toxic'
  return float(2 * np.sum(predicted & reference) / (np.sum(predicted) + np.sum(reference)))


def auroc(scores: np.ndarray, toxic: np.ndarray) -> float | str:
  """Probability that a non-toxic text scores above a toxic one, ties counted half (Mann and Whitney 1947)."""
  above, below = int(np.sum(~toxic)), int(np.sum(toxic))
  if not above or not below:
    return (
      f'the reference calls {"no" if above else "every"} text toxic' if toxic.size else 'no text'
    )
  rank_sum = scipy.stats.rankdata(scores)[~toxic].sum()
  return float((rank_sum - above * (above + 1) / 2) / (above * below))


def correlate(predicted: np.ndarray, reference: np.ndarray) -> dict[str, float | str]:
  """Pearson, Spearman and Kendall (tau-b) of two [N], or the reason why there is none."""
  names = ('pearson', 'spearman', 'kendall')
  if predicted.size < 2:
    return dict.fromkeys(names, 'fewer than 2 texts')
  for name, values in (('recovered reward', predicted), ('reference', reference)):
    if is_constant(values):
      return dict.fromkeys(names, f'the {name} has zero variance')
  tests = (scipy.stats.pearsonr, scipy.stats.spearmanr, scipy.stats.kendalltau)
  return {name: float(test(predicted, reference).statistic) for name, test in zip(names, tests)}


def tied_pairs(values: np.ndarray) -> int:
  """How many of all pairs of values [N] are equal."""
  counts = np.unique(values, return_counts=True)[1]
  return int(np.sum(counts * (counts - 1) // 2))


def order_all_pairs(
  predicted: np.ndarray, reference: np.ndarray, kendall: float | str
) -> tuple[float | str, int]:
  """Pairwise accuracy over all pairs of [N], and the reference's ties, in O(N log N).

  tau-b = (C - D) / sqrt((pairs - predicted ties) (pairs - reference ties)) holds the integer C - D, concordant minus
  discordant pairs; with predicted ties T counted half, (C + T / 2) / (C + D + T) = (1 + (C - D) / (C + D + T)) / 2.
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
  predicted: np.ndarray, reference: np.ndarray, first, second
) -> tuple[float | str, int]:
  """Pairwise accuracy over the pairs (first, second) [M] of texts [N], and the reference's ties among them."""
  first, second = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
  if first.ndim != 1 or first.shape != second.shape:
    raise ValueError(
      f'pairs have shapes {first.shape} and {second.shape}: must be one-dimensional and the same'
    )
  named = np.concatenate([first, second])
  if (outside := named[(named < 0) | (named >= predicted.size)]).size:
    raise ValueError(f'pairs name text {outside[0]}: must be 0 to {predicted.size - 1}')
  right = compare(predicted, first, second) * compare(
    reference, first, second
  )  # 1 right, -1 wrong, 0 tied
  comparable = compare(reference, first, second) != 0
  ties = int(np.sum(~comparable))
  return float(
    np.mean((1 + right[comparable]) / 2)
  ) if comparable.any() else 'the reference orders no pair', ties


def compare(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Sign of values[first] - values[second], [M]."""
  return (values[first] > values[second]).astype(np.int64) - (values[first] < values[second])
