"""Evaluation of recovered rewards: agreement with r* and labels, compared with baselines.

Dims: K seeds, N texts, M pairs, V validation texts.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import cast

import numpy as np

from irl_jax import confidence
from irl_jax.evaluation import agreement
from irl_jax.evaluation import baselines
from irl_jax.evaluation import calibration
from irl_jax.evaluation import confounds
from irl_jax.evaluation import heldout
from irl_jax.evaluation import identifiability
from irl_jax.evaluation import intervals
from irl_jax.evaluation.confounds import NO_TRUE_REWARD
from irl_jax.evaluation.heldout import mean
from irl_jax.evaluation.heldout import NO_LABELS
from irl_jax.evaluation.heldout import Reference
from irl_jax.evaluation.heldout import Scores
from irl_jax.evaluation.metrics import annotate
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import NO_CLASSES
from irl_jax.evaluation.metrics import Outcome
from irl_jax.evaluation.toxicity import exact_interval
from irl_jax.runtime import records

NO_PAIR = 'no pair'
NO_DIFFERENT_PAIR = 'no held-out pair contains two different texts'
SETS = {  # with the reason that is given if it is missing
  'heldout_texts': NO_TRUE_REWARD,
  'heldout_texts_human': NO_LABELS,
  'heldout_pairs': NO_TRUE_REWARD,
}
Resamples = Mapping[str, intervals.Resampled | None]  # by set


def compare(
  seeds: Sequence[Scores],
  held: Reference,
  calibrations: Sequence[Mapping[str, Any]],
  others: Mapping[str, Scores],
  samples: int = 1000,
  seed: int = 0,
  starts: Sequence[np.ndarray] | None = None,
) -> records.Recovery:
  """Returns the `irl` part of summary.json: every seed, the ensemble, and the baselines.

  Args:
    seeds: the scores of K centred rewards.
    held: held-out data.
    calibrations: the calibration of each seed (records.Zero).
    others: the scores of the baselines, by name.
    samples: bootstrap resamples.
    seed: random seed for the resamples.
    starts: [K, N], the scores of the texts by each seed's reward before training; None: not known.
  """
  ensemble = mean(seeds)
  measures = Measures.of([*seeds, ensemble, *others.values()], held, len(seeds), samples, seed)
  rows = [
    measures.reward(scores, index, calibrated)
    for index, (scores, calibrated) in enumerate(zip(seeds, calibrations))
  ]
  # Intervals cannot be averaged over seeds.
  no_numbers = ('intervals', 'preference')
  averaged = [{key: value for key, value in row.items() if key not in no_numbers} for row in rows]
  seed_mean, seed_std = identifiability.mean_and_std(averaged)
  spearman = identifiability.seed_spearman([scores.texts for scores in seeds])
  start = identifiability.compare_with_start([scores.texts for scores in seeds], starts)
  result = {
    'seeds': rows,
    'mean': seed_mean,
    'std': seed_std,
    **collect(
      {
        'seed_spearman': identifiability.NO_SEED_SPEARMAN if spearman is None else spearman,
        'start': start or identifiability.NO_START,
      }
    ),
    'identifiability': identifiability.compare_rewards(
      [f'seed_{index}' for index in range(len(seeds))],
      [scores.texts for scores in seeds],
      np.stack([np.stack([scores.aligned, scores.base], axis=1) for scores in seeds]),
    ),
    'ensemble': measures.reward(ensemble, len(seeds), {}),
    'baselines': {
      name: measures.baseline(scores, index)
      for index, (name, scores) in enumerate(others.items(), len(seeds) + 1)
    },
  }
  return cast(records.Recovery, result)


@dataclasses.dataclass(frozen=True)
class Measures:
  """The data that all rewards are measured with: held-out data and the same bootstrap resamples.

  A reward's index is its place among the rewards that were resampled.
  """

  held: Reference
  resamples: Resamples
  words: np.ndarray  # [N], lengths of the texts
  matched: confounds.Matches | None
  ensemble: int  # the ensemble's index
  seed: int

  @classmethod
  def of(
    cls, scores: Sequence[Scores], held: Reference, ensemble: int, samples: int, seed: int
  ) -> 'Measures':
    """Resamples the metrics of all rewards."""
    matched = None
    if held.true_aligned is not None and held.true_base is not None:
      matched = confounds.match(held.true_aligned, held.true_base)
    words = baselines.count_words(held.texts)
    return cls(held, resample(scores, held, samples, seed), words, matched, ensemble, seed)

  def reward(self, scores: Scores, index: int, calibrated: Mapping[str, Any]) -> dict[str, Any]:
    """Measures a seed or the ensemble, and adds the probabilities to its calibration."""
    held = self.held
    probability = calibration.probability(
      scores.validation, held.validation_labels, scores.texts, held.labels, self.seed
    )
    return {
      **agree(scores, held),
      'preference': preference(scores, held),
      'intervals': by_set(self.resamples, lambda resampled: resampled.intervals(index)),
      'calibration': annotate({**calibrated, **probability}, calibrated.get('why', {})),
      'confounds': confounds.confounds(
        scores.texts, held.true_texts, self.words, scores.aligned, scores.base, self.matched
      ),
    }

  def baseline(self, scores: Scores, index: int) -> dict[str, Any]:
    """Measures a baseline, and how far the ensemble is above it."""
    return {
      **agree(scores, self.held),
      'preference': preference(scores, self.held),
      'intervals': by_set(self.resamples, lambda resampled: resampled.intervals(index)),
      'ensemble_gain': by_set(
        self.resamples, lambda resampled: resampled.gains(self.ensemble, index)
      ),
    }


def agree(scores: Scores, held: Reference) -> records.Agreements:
  """Measures the agreement of one reward on every set; None with a 'why' if a set is missing."""
  on_texts = on_labels = None
  if held.true_texts is not None:
    on_texts = agreement.agreement(scores.texts, held.true_texts, has_classes=held.has_classes)
  if held.labelled.any():
    on_labels = agreement.agreement(scores.texts[held.labelled], held.human)
  results = collect(
    {
      'heldout_texts': on_texts or NO_TRUE_REWARD,
      'heldout_pairs': on_pairs(scores, held),
      'heldout_texts_human': on_labels or NO_LABELS,
    }
  )
  return cast(records.Agreements, results)


def on_pairs(scores: Scores, held: Reference) -> dict[str, Any]:
  """Measures the agreement on both completions of every prompt.

  Returns:
    The metrics of `agreement`, how often R̂ prefers the aligned completion (ties count half), and
    the EPIC distance to r*.
  """
  count = len(scores.aligned)
  prefers = (scores.aligned > scores.base) + 0.5 * (scores.aligned == scores.base)
  extra: dict[str, Outcome] = {'prefers_aligned': float(np.mean(prefers)) if count else NO_PAIR}
  if held.true_texts is None:
    missing = dict.fromkeys((*agreement.METRICS, 'n', 'ties'), NO_TRUE_REWARD)
    return collect({**missing, **extra, 'epic_distance': NO_TRUE_REWARD})
  rows = np.arange(count)
  agreed = agreement.agreement(
    scores.pairs, held.true_pairs, (rows, count + rows), held.has_classes
  )
  extra['epic_distance'] = distance_to_truth(scores, held) if count else NO_PAIR
  return annotate({**agreed, **collect(extra)}, agreed.get('why', {}))


def preference(scores: Scores, held: Reference) -> records.Preference:
  """Measures how often R̂ prefers the aligned of two different texts, with an exact interval.

  A pair of two equal texts is always a tie, so it would only narrow the interval. Pairs of one
  prompt are not independent, so the interval is that of their effective size.
  """
  rows = np.array(
    [row for row, texts in enumerate(zip(held.aligned, held.base)) if texts[0] != texts[1]], int
  )
  counts = {'n': len(rows), 'pairs': len(scores.aligned)}
  if not rows.size:
    missing = dict.fromkeys(('rate', 'low', 'high'), NO_DIFFERENT_PAIR)
    return cast(records.Preference, collect({**missing, **counts}))
  aligned, base = scores.aligned[rows], scores.base[rows]
  prefers = (aligned > base) + 0.5 * (aligned == base)
  rate = float(np.mean(prefers))
  independent = confidence.effective_size(prefers, held.pair_numbers[rows].tolist())
  low, high = exact_interval(rate, independent)
  return cast(records.Preference, {'rate': rate, 'low': low, 'high': high, **counts})


def distance_to_truth(scores: Scores, held: Reference) -> Outcome:
  """Returns the EPIC distance of a reward and r* on the pairs."""
  true = held.true_pairs.reshape(2, -1)  # aligned, base
  completions = np.stack(
    [np.stack([scores.aligned, scores.base], axis=1), np.stack([true[0], true[1]], axis=1)]
  )
  distance = identifiability.epic_distance(completions)[0, 1]
  return identifiability.NO_ENTRY['epic_distance'] if np.isnan(distance) else float(distance)


def resample(
  scores: Sequence[Scores], held: Reference, samples: int, seed: int
) -> dict[str, intervals.Resampled | None]:
  """Resamples the metrics of several rewards on every set; texts and pairs are drawn by prompt."""
  result: dict[str, intervals.Resampled | None] = dict.fromkeys(SETS)
  if held.true_texts is not None and len(held.texts):
    texts = [row.texts for row in scores]
    result['heldout_texts'] = intervals.resample(
      texts, held.true_texts, samples, seed, held.text_numbers, held.has_classes
    )
  if held.labelled.any():
    labelled = [row.texts[held.labelled] for row in scores]
    numbers = heldout.numbers_of(held.text_numbers[held.labelled].tolist(), 0)
    result['heldout_texts_human'] = intervals.resample(labelled, held.human, samples, seed, numbers)
  if held.true_texts is not None and len(held.aligned):
    pairs, numbers = [row.pairs for row in scores], np.tile(held.pair_numbers, 2)
    result['heldout_pairs'] = intervals.resample(
      pairs, held.true_pairs, samples, seed, numbers, held.has_classes
    )
  return result


def by_set(
  resamples: Resamples, intervals_of: Callable[[intervals.Resampled], records.MetricIntervals]
) -> records.SetIntervals:
  """Applies `intervals_of` to each set's resamples; None with a 'why' if there are none."""
  results = collect(
    {
      name: SETS[name] if resampled is None else intervals_of(resampled)
      for name, resampled in resamples.items()
    }
  )
  return cast(records.SetIntervals, results)


def missing(why: str) -> records.BaselineResults:
  """Returns the results of a reward that does not exist."""
  return cast(records.BaselineResults, collect(dict.fromkeys(SETS, why)))


def human_accuracy(held: Reference) -> records.TrueRewardQuality:
  """Measures how often r* agrees with the labels: the `true_reward` part of summary.json."""
  if held.true_texts is None or not held.has_classes or not held.labelled.any():
    why = NO_LABELS if held.has_classes else NO_CLASSES
    why = NO_TRUE_REWARD if held.true_texts is None else why
    return cast(records.TrueRewardQuality, collect({'human_accuracy': why}))
  agrees = (held.true_texts[held.labelled] < 0) == (held.human < 0)
  return {'human_accuracy': float(np.mean(agrees))}
