"""Confounds of a recovered reward: length, and the style of the aligned model.

Dims: N texts, M prompts.
"""

from typing import cast

import numpy as np
from numpy.typing import ArrayLike
import scipy

from irl_jax import confidence
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import is_constant
from irl_jax.evaluation.metrics import Outcome
from irl_jax.runtime import records

CALIPER = 0.1  # in standard deviations of r*
NO_TRUE_REWARD = 'there is no true reward to compare with'
STYLE = ('style_auroc', 'style_low', 'style_high', 'style_n')
Matches = tuple[np.ndarray, np.ndarray]  # indices of aligned texts, and of their base texts


def confounds(
  scores: ArrayLike,
  true_reward: ArrayLike | None,
  words: ArrayLike,
  aligned: ArrayLike,
  base: ArrayLike,
  matched: Matches | None,
) -> records.Confounds:
  """Measures how much of one reward is length and style.

  Args:
    scores: [N], the reward of texts.
    true_reward: [N], r* of the same texts; None if there is none.
    words: [N], their lengths.
    aligned: [M], the reward of the aligned model's text for each prompt.
    base: [M], the same for the base model's texts.
    matched: the result of `match` for their r*; None if there is no r*.

  Returns:
    length_spearman: correlation of R̂ and length.
    partial_pearson_given_length, partial_spearman_given_length: correlation of R̂ and r*, with
      length held fixed.
    style_auroc, style_low, style_high (95 %), style_n: `style`.
    A metric that cannot be computed is None, with its reason under 'why'.
  """
  scores, words = finite_vector(scores, 'scores'), finite_vector(words, 'words')
  ranks = scipy.stats.rankdata
  pearson: Outcome = NO_TRUE_REWARD
  spearman: Outcome = NO_TRUE_REWARD
  if true_reward is not None:
    true_reward = finite_vector(true_reward, 'true_reward')
    pearson = partial_correlation(scores, true_reward, words)
    spearman = partial_correlation(ranks(scores), ranks(true_reward), ranks(words))
  results = collect(
    {
      'length_spearman': correlation(ranks(scores), ranks(words)),
      'partial_pearson_given_length': pearson,
      'partial_spearman_given_length': spearman,
      **(
        dict.fromkeys(STYLE, NO_TRUE_REWARD) if matched is None else style(aligned, base, matched)
      ),
    }
  )
  return cast(records.Confounds, results)


def correlation(first: np.ndarray, second: np.ndarray) -> Outcome:
  """Returns Pearson's correlation of two [N]."""
  if first.size < 2:
    return 'fewer than 2 texts'
  if is_constant(first) or is_constant(second):
    return 'the rewards, or the lengths, are all the same'
  return float(np.clip(np.corrcoef(first, second)[0, 1], -1, 1))


def partial_correlation(first: np.ndarray, second: np.ndarray, given: np.ndarray) -> Outcome:
  """Returns Pearson's correlation of two [N] after a linear fit on `given` (Yule 1907).

  On ranks this is the partial Spearman. It equals (r12 - r13 r23) / sqrt((1 - r13^2) (1 - r23^2)),
  but is also exact if one of the two is a linear function of `given`.
  """
  if first.size < 3:
    return 'fewer than 3 texts'
  design = np.stack([np.ones(given.size), given], axis=1)
  residuals = []
  for values in (first, second):
    residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    if np.linalg.norm(residual) <= 1e-9 * np.linalg.norm(values):
      return 'length alone determines a reward'
    residuals.append(residual)
  return correlation(*residuals)


def match(true_aligned: ArrayLike, true_base: ArrayLike) -> Matches:
  """Pairs each aligned text with the base text of the most similar r*, from any prompt.

  A base text may serve several times. Any remaining difference in r* would look like style, so a
  pair counts only within a tenth of a standard deviation of r* over all texts (the caliper of
  Rosenbaum and Rubin 1985, here of r* instead of the propensity).

  Args:
    true_aligned: [M], r* of the aligned model's texts.
    true_base: [M], r* of the base model's texts.

  Returns:
    Indices of the aligned texts that have a match, and of their matches [matches].
  """
  aligned, base = finite_vector(true_aligned, 'true_aligned'), finite_vector(true_base, 'true_base')
  if not aligned.size or not base.size:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
  order = np.argsort(base, kind='stable')
  place = np.searchsorted(base[order], aligned)
  # The nearest base text is one of the two neighbours in sorted order.
  neighbours = order[np.clip(np.stack([place - 1, place]), 0, base.size - 1)]  # [2, M]
  distances = np.abs(base[neighbours] - aligned[None])
  nearer = np.argmin(distances, axis=0)
  chosen, distance = (
    np.take_along_axis(values, nearer[None], axis=0)[0] for values in (neighbours, distances)
  )
  near = np.flatnonzero(distance <= CALIPER * np.std(np.concatenate([aligned, base])))
  return near, chosen[near]


def style(aligned: ArrayLike, base: ArrayLike, matched: Matches) -> dict[str, Outcome]:
  """Measures how much of R̂ is style: its AUROC at telling apart models where r* sees no difference.

  This is the share of matched pairs in which R̂ puts the aligned text above (ties count half), the
  AUROC adjusted for r* (Janes and Pepe 2009). At .5, R̂ responds only to what r* rewards; at 1, it
  recognises the aligned model by its style. The Wilson interval is approximate: as the number of
  pairs it uses their effective size, because some base texts are used several times.

  Args:
    aligned: [M], R̂ of the aligned model's texts.
    base: [M], R̂ of the base model's texts.
    matched: indices from `match`.
  """
  aligned, base = finite_vector(aligned, 'aligned'), finite_vector(base, 'base')
  first, second = matched
  if not first.size:
    why = 'no aligned text has a base text with a similar r*'
    return {'style_auroc': why, 'style_low': why, 'style_high': why, 'style_n': 0}
  share = float(np.mean((aligned[first] > base[second]) + 0.5 * (aligned[first] == base[second])))
  independent = confidence.alike_size(second.tolist())
  low, high = confidence.wilson(round(share * independent), independent)
  return {'style_auroc': share, 'style_low': low, 'style_high': high, 'style_n': first.size}
