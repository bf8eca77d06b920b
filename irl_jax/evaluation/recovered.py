"""What a recovered reward is worth: agreement with r* and with labels, on whole texts and on pairs, beside baselines.

Dims: K seeds, N texts, M pairs, V validation texts.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from irl_jax.evaluation import agreement
from irl_jax.evaluation import baselines
from irl_jax.evaluation import calibration
from irl_jax.evaluation import confounds
from irl_jax.evaluation import identifiability
from irl_jax.evaluation import intervals
from irl_jax.evaluation import metrics as figures
from irl_jax.evaluation.confounds import NO_TRUE_REWARD
from irl_jax.evaluation.heldout import mean
from irl_jax.evaluation.heldout import NO_LABELS
from irl_jax.evaluation.heldout import Reference
from irl_jax.evaluation.heldout import Scores

NO_PAIR = 'no pair'
SETS = {
  'heldout_texts': NO_TRUE_REWARD,
  'heldout_texts_human': NO_LABELS,
  'heldout_pairs': NO_TRUE_REWARD,
}


def agree(scores: Scores, held: Reference) -> dict[str, Any]:
  """The figures of one reward: heldout_texts, heldout_pairs, heldout_texts_human; None beside a 'why'."""
  return figures.collect(
    {
      'heldout_texts': (
        NO_TRUE_REWARD
        if held.true_texts is None
        else agreement.agreement(scores.texts, held.true_texts)
      ),
      'heldout_pairs': on_pairs(scores, held),
      'heldout_texts_human': (
        agreement.agreement(scores.texts[held.labelled], held.human)
        if held.labelled.any()
        else NO_LABELS
      ),
    }
  )


def on_pairs(scores: Scores, held: Reference) -> dict[str, Any]:
  """Agreement on both completions of every prompt; how often R̂ prefers the aligned one; EPIC distance to r*."""
  count = len(scores.aligned)
  prefers = (scores.aligned > scores.base) + 0.5 * (scores.aligned == scores.base)
  extra = {'prefers_aligned': float(np.mean(prefers)) if count else NO_PAIR}
  if held.true_texts is None:
    return figures.collect(
      dict.fromkeys((*agreement.FIGURES, 'n', 'ties'), NO_TRUE_REWARD)
      | extra
      | {'epic_distance': NO_TRUE_REWARD}
    )
  agreed = agreement.agreement(
    scores.pairs, held.true_pairs, pairs=(np.arange(count), count + np.arange(count))
  )
  extra |= {'epic_distance': distance_to_truth(scores, held) if count else NO_PAIR}
  return figures.annotate(agreed | figures.collect(extra), agreed.get('why', {}))


def distance_to_truth(scores: Scores, held: Reference) -> float | str:
  """EPIC distance of a reward and r* on the pairs."""
  both = np.stack(
    [np.stack([scores.aligned, scores.base], 1), np.stack([held.true_aligned, held.true_base], 1)]
  )
  distance = identifiability.epic_distance(both)[0, 1]
  return identifiability.NO_ENTRY['epic_distance'] if np.isnan(distance) else float(distance)


def resample(
  scores: Sequence[Scores], held: Reference, samples: int, seed: int
) -> dict[str, intervals.Resampled | None]:
  """Bootstrap resamples of the figures of several rewards, by set; pairs are drawn by prompt."""
  found = dict.fromkeys(SETS)
  if held.true_texts is not None and len(held.texts):
    found['heldout_texts'] = intervals.resample(
      [row.texts for row in scores], held.true_texts, samples, seed
    )
  if held.labelled.any():
    labelled = [row.texts[held.labelled] for row in scores]
    found['heldout_texts_human'] = intervals.resample(labelled, held.human, samples, seed)
  if held.true_texts is not None and len(held.aligned):
    unit = np.tile(np.arange(len(held.aligned)), 2)
    found['heldout_pairs'] = intervals.resample(
      [row.pairs for row in scores], held.true_pairs, samples, seed, unit
    )
  return found


def by_set(found: dict[str, intervals.Resampled | None], intervals_of: Callable) -> dict[str, Any]:
  """`intervals_of` of each set's resamples; None beside a 'why' where there are none."""
  return figures.collect(
    {
      name: SETS[name] if resampled is None else intervals_of(resampled)
      for name, resampled in found.items()
    }
  )


def compare(
  seeds: Sequence[Scores],
  held: Reference,
  calibrations: Sequence[dict[str, Any]],
  others: dict[str, Scores],
  samples: int = 1000,
  seed: int = 0,
) -> dict[str, Any]:
  """The `irl` part of summary.json: every seed, their mean, deviation and agreement, the ensemble, and baselines.

  Args:
    seeds: what K centred rewards give.
    held: held-out data.
    calibrations: of each seed.
    others: what baselines give, by name.
    samples: bootstrap resamples.
    seed: of the resamples.
  """
  ensemble = mean(seeds)
  found = resample([*seeds, ensemble, *others.values()], held, samples, seed)
  words = baselines.count_words(held.texts)
  matched = None if held.true_texts is None else confounds.match(held.true_aligned, held.true_base)

  def figures_of(scores: Scores, index: int, calibrated: dict[str, Any]) -> dict[str, Any]:
    probability = calibration.probability(
      scores.validation, held.validation_labels, scores.texts, held.labels, seed
    )
    return agree(scores, held) | {
      'intervals': by_set(found, lambda resampled: resampled.intervals(index)),
      'calibration': figures.annotate(calibrated | probability, calibrated.get('why', {})),
      'confounds': confounds.confounds(
        scores.texts, held.true_texts, words, scores.aligned, scores.base, matched
      ),
    }

  def baseline_of(scores: Scores, index: int) -> dict[str, Any]:
    return agree(scores, held) | {
      'intervals': by_set(found, lambda resampled: resampled.intervals(index)),
      'ensemble_gain': by_set(found, lambda resampled: resampled.gains(len(seeds), index)),
    }

  rows = [
    figures_of(scores, index, calibrated)
    for index, (scores, calibrated) in enumerate(zip(seeds, calibrations))
  ]
  mean_, std = identifiability.mean_and_std(
    [{name: value for name, value in row.items() if name != 'intervals'} for row in rows]
  )
  spearman = identifiability.seed_spearman([scores.texts for scores in seeds])
  return {
    'seeds': rows,
    'mean': mean_,
    'std': std,
    **figures.collect(
      {'seed_spearman': identifiability.NO_SEED_SPEARMAN if spearman is None else spearman}
    ),
    'identifiability': identifiability.compare_rewards(
      [f'seed_{index}' for index in range(len(seeds))],
      [scores.texts for scores in seeds],
      [np.stack([scores.aligned, scores.base], axis=1) for scores in seeds],
    ),
    'ensemble': figures_of(ensemble, len(seeds), {}),
    'baselines': {
      name: baseline_of(scores, index)
      for index, (name, scores) in enumerate(others.items(), len(seeds) + 1)
    },
  }


def missing(why: str) -> dict[str, Any]:
  """The figures of a reward that there is not."""
  return figures.collect(dict.fromkeys(SETS, why))


def human_accuracy(held: Reference) -> dict[str, Any]:
  """How often r* agrees with the labels: the `true_reward` part of summary.json."""
  if held.true_texts is None or not held.labelled.any():
    return figures.collect(
      {'human_accuracy': NO_TRUE_REWARD if held.true_texts is None else NO_LABELS}
    )
  return {
    'human_accuracy': float(np.mean((held.true_texts[held.labelled] < 0) == (held.human < 0)))
  }
