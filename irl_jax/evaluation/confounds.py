"""What else a recovered reward follows: length, and the style of the aligned model beside what r* asks for.

Dims: N texts, M prompts.
"""

from typing import Any

import numpy as np
import scipy

from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import is_constant
from irl_jax.evaluation.toxicity import wilson

CALIPER = 0.1  # standard deviations of r*
NO_TRUE_REWARD = 'there is no true reward to compare with'


def confounds(scores, true_reward, words, aligned, base, matched) -> dict[str, Any]:
  """The `confounds` of one reward.

  Args:
    scores: [N], the reward of texts.
    true_reward: [N], r* of the same; None where there is none.
    words: [N], how long they are.
    aligned: [M], the reward of the aligned model's text for each prompt.
    base: [M], the same of the base model's.
    matched: what `match` gave for their r*; None where there is no r*.

  Returns:
    length_spearman: of R̂ and length.
    partial_pearson_given_length, partial_spearman_given_length: of R̂ and r*, length held fixed.
    style_auroc, style_low, style_high (95 %), style_n: `style`.
    A figure that cannot be computed is None, with its reason under 'why'.
  """
  scores, words = finite_vector(scores, 'scores'), finite_vector(words, 'words')
  ranks = scipy.stats.rankdata
  partial = {
    'partial_pearson_given_length': NO_TRUE_REWARD,
    'partial_spearman_given_length': NO_TRUE_REWARD,
  }
  if true_reward is not None:
    true_reward = finite_vector(true_reward, 'true_reward')
    partial = {
      'partial_pearson_given_length': partial_correlation(scores, true_reward, words),
      'partial_spearman_given_length': partial_correlation(
        ranks(scores), ranks(true_reward), ranks(words)
      ),
    }
  followed = (
    style(aligned, base, matched)
    if matched is not None
    else dict.fromkeys(('style_auroc', 'style_low', 'style_high', 'style_n'), NO_TRUE_REWARD)
  )
  return collect(
    {'length_spearman': correlation(ranks(scores), ranks(words)), **partial, **followed}
  )


def correlation(first: np.ndarray, second: np.ndarray) -> float | str:
  """Pearson's of two [N], or the reason why there is none."""
  if first.size < 2:
    return 'fewer than 2 texts'
  if is_constant(first) or is_constant(second):
    return 'the rewards, or the lengths, are all the same'
  return float(np.clip(np.corrcoef(first, second)[0, 1], -1, 1))


def partial_correlation(first: np.ndarray, second: np.ndarray, given: np.ndarray) -> float | str:
  """Pearson's of what a linear fit on `given` leaves of two [N] (Yule 1907); on ranks: the partial Spearman.

  As (r12 - r13 r23) / sqrt((1 - r13^2) (1 - r23^2)), but exact where one of them follows `given` wholly.
  """
  if first.size < 3:
    return 'fewer than 3 texts'
  design = np.stack([np.ones(given.size), given], axis=1)
  left = [
    values - design @ np.linalg.lstsq(design, values, rcond=None)[0] for values in (first, second)
  ]
  if any(
    np.linalg.norm(rest) <= 1e-9 * np.linalg.norm(values)
    for rest, values in zip(left, (first, second))
  ):
    return 'a reward follows from length alone'
  return correlation(*left)


def match(true_aligned, true_base) -> tuple[np.ndarray, np.ndarray]:
  """Pairs an aligned with the base text that r* scores most alike, whatever their prompts.

  With replacement, since what is left of the difference in r* would look like style: each aligned text gets its nearest
  base text, if that lies within a tenth of a standard deviation of r* over all texts (the caliper of Rosenbaum and
  Rubin 1985, here of r* in place of the propensity).

  Args:
    true_aligned: [M], r* of the aligned model's texts.
    true_base: [M], of the base model's.

  Returns:
    Indices of the aligned texts that have a match, and of their matches [matches].
  """
  aligned, base = finite_vector(true_aligned, 'true_aligned'), finite_vector(true_base, 'true_base')
  if not aligned.size or not base.size:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
  order = np.argsort(base, kind='stable')
  place = np.searchsorted(base[order], aligned)
  neighbours = order[np.clip(np.stack([place - 1, place]), 0, base.size - 1)]  # [2, M]
  distances = np.abs(base[neighbours] - aligned[None])
  nearer = np.argmin(distances, axis=0)
  chosen, distance = (
    np.take_along_axis(values, nearer[None], axis=0)[0] for values in (neighbours, distances)
  )
  near = np.flatnonzero(distance <= CALIPER * np.std(np.concatenate([aligned, base])))
  return near, chosen[near]


def style(aligned, base, matched: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
  """How much of R̂ is style: the AUROC at telling aligned from base texts that r* scores alike.

  The share of matched pairs in which R̂ puts the aligned text above (ties count half): the AUROC adjusted for r* (Janes
  and Pepe 2009). .5: R̂ sees nothing of the aligned model but what r* asks for; 1: it knows that model by its style.
  The Wilson interval counts as many pairs as their reuse of base texts leaves independent, (sum w)^2 / sum w^2 with w
  uses of a base text (Kish 1965): approximate.

  Args:
    aligned: [M], R̂ of the aligned model's texts.
    base: [M], of the base model's.
    matched: indices from `match`.
  """
  aligned, base = finite_vector(aligned, 'aligned'), finite_vector(base, 'base')
  first, second = matched
  if not first.size:
    why = 'no aligned text has a base text that r* scores alike'
    return {'style_auroc': why, 'style_low': why, 'style_high': why, 'style_n': 0}
  share = float(np.mean((aligned[first] > base[second]) + 0.5 * (aligned[first] == base[second])))
  uses = np.unique(second, return_counts=True)[1]
  independent = max(round(uses.sum() ** 2 / np.sum(uses**2)), 1)
  low, high = wilson(round(share * independent), independent)
  return {'style_auroc': share, 'style_low': low, 'style_high': high, 'style_n': first.size}
