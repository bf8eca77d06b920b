"""The metrics of one PPO step, under TRL's names.

Dims: B responses of a rollout.
"""

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np


def summarise(
  statistics: Mapping[str, np.ndarray],
  scores: np.ndarray,
  learned_scores: np.ndarray,
  clipped_share: float,
  kl_coefficient: float,
  updates: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, float]:
  """Returns one step's metrics: means over its responses, and over its updates.

  Args:
    statistics: 'kl' and 'entropy' in nats, and 'length' in tokens, of each response [B]. 'kl' is
      the log-ratio to the reference; with top-k or top-p its mean is no estimate of the KL.
    scores: the reward's scores [B].
    learned_scores: the scores [B] that PPO learned from, scaled and clipped.
    clipped_share: the share of the scores that were clipped.
    kl_coefficient: the weight of the KL penalty.
    updates: the metrics of every update.
  """
  kl = statistics['kl']
  averaged = {name: float(np.mean([metrics[name] for metrics in updates])) for name in updates[0]}
  return (
    {
      'objective/kl': float(kl.mean()),
      'objective/kl_per_token': float(kl.sum() / statistics['length'].sum()),
      'objective/kl_coefficient': kl_coefficient,
      'objective/entropy': float(statistics['entropy'].mean()),
      'objective/scores': float(scores.mean()),
      'objective/scores_std': float(scores.std()),
      'objective/clipped': clipped_share,
      'objective/non_score_reward': float(-kl_coefficient * kl.mean()),
      'objective/rlhf_reward': float(learned_scores.mean() - kl_coefficient * kl.mean()),
      'objective/response_tokens': float(statistics['length'].mean()),
    }
    | averaged
    | {  # counts, which are not averaged over updates
      'policy/skipped_updates': int(updates[-1]['policy/skipped_updates']),
      'policy/skipped_in_row': max(int(metrics['policy/skipped_in_row']) for metrics in updates),
    }
  )
