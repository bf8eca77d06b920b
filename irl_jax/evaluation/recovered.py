"""What a recovered reward is worth: agreement with r* and with labels, on whole texts and on pairs, beside baselines.

Dims: K seeds, N texts.
"""

import dataclasses
from typing import Any, Sequence

import numpy as np

from irl_jax import rewards
from irl_jax.evaluation import agreement
from irl_jax.evaluation import baselines
from irl_jax.evaluation import figures
from irl_jax.evaluation import identifiability

ONE_LABEL = 'the held-out texts have no labels of both classes'


@dataclasses.dataclass(frozen=True)
class Reference:
  """The held-out data, and what r* and people say of it."""

  texts: Sequence[str]               # whole original texts, each once
  labels: np.ndarray | None          # [N] 1 toxic, 0 not; None where a text has none
  aligned: Sequence[str]             # full texts of both completions of each held-out prompt
  base: Sequence[str]
  true_texts: np.ndarray             # r* of texts
  true_aligned: np.ndarray           # r* of aligned
  true_base: np.ndarray              # r* of base


def agree(reward: rewards.Reward, held: Reference) -> tuple[dict[str, Any], np.ndarray]:
  """The figures of one reward (heldout_texts, heldout_texts_human, heldout_pairs), and its scores of the texts [N]."""
  scores = np.asarray(reward(held.texts), np.float64)
  aligned, base = (np.asarray(reward(texts), np.float64) for texts in (held.aligned, held.base))
  count = len(aligned)
  on_pairs = agreement.agreement(
      np.concatenate([aligned, base]), np.concatenate([held.true_aligned, held.true_base]),
      pairs=(np.arange(count), count + np.arange(count)))
  result = {
      'heldout_texts': agreement.agreement(scores, held.true_texts),
      'heldout_pairs': on_pairs | {'prefers_aligned': float(np.mean((aligned > base) + 0.5 * (aligned == base)))},
  }
  if held.labels is None:
    result |= {'heldout_texts_human': None, 'why': {'heldout_texts_human': 'the held-out texts have no labels'}}
  else:
    result['heldout_texts_human'] = agreement.agreement(scores, agreement.labels_to_reward(held.labels))
  return result, scores


def compare(seeds: Sequence[rewards.Reward], held: Reference, calibrations: Sequence[dict[str, Any]],
            others: dict[str, rewards.Reward]) -> dict[str, Any]:
  """The `irl` part of summary.json: every seed, their mean, deviation and agreement, the ensemble, and baselines.

  Args:
    seeds: K centred rewards.
    held: held-out data.
    calibrations: of each seed.
    others: baselines by name.
  """
  agreed = [agree(reward, held) for reward in seeds]
  rows = [figures_ | {'calibration': calibration} for (figures_, _), calibration in zip(agreed, calibrations)]
  mean, std = identifiability.mean_and_std([figures_ for figures_, _ in agreed])
  spearman = identifiability.seed_spearman([scores for _, scores in agreed])
  return {
      'seeds': rows, 'mean': mean, 'std': std,
      **figures.collect({'seed_spearman': identifiability.NO_SEED_SPEARMAN if spearman is None else spearman}),
      'ensemble': agree(rewards.ensemble(seeds), held)[0],
      'baselines': {name: agree(reward, held)[0] for name, reward in others.items()},
  }


def demonstration_baselines(aligned: Sequence[str], base: Sequence[str]) -> dict[str, rewards.Reward]:
  """Baselines that need nothing but training demonstrations."""
  return {'constant': baselines.constant, 'length': baselines.length(aligned, base),
          'bag_of_words': baselines.bag_of_words(aligned, base)}
