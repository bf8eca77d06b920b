"""Checks that PPO can learn: the self-check, non-finite numbers, and scores that are clipped."""

from collections.abc import Mapping
from typing import Any

from absl import logging
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import structs
from irl_jax.runtime import processes
from irl_jax.training import divergence

TOLERANCE = {'float32': 1e-4, 'bfloat16': 0.05}  # nats per token that rounding alone may change
MOST = 0.5  # a larger share of clipped scores leads to a warning
REMEDIES = {  # for scores that are clipped, by `ppo.scale_reward`
  'running': 'Set config.ppo.scale_reward=centred, which subtracts the running mean first',
  'none': 'Set config.ppo.scale_reward=centred, or raise config.ppo.clip_reward',
  'centred': 'Raise config.ppo.clip_reward',
}


def check_agreement(
  statistics: Mapping[str, np.ndarray],
  responses: structs.Responses,
  rollout: structs.Rollout,
  first_update: Mapping[str, Any],
  dtype: DTypeLike,
  at_start: bool,
) -> None:
  """Checks that sampling, rollout and update see the same distribution.

  A forgotten mask or temperature raises no error; it makes the measured KL negative and lets PPO
  drift.

  Args:
    statistics: 'kl' of each response [B], nats.
    responses: the responses as they were sampled.
    rollout: the same responses after the training forward pass.
    first_update: the metrics of the first update.
    dtype: the compute type, which decides the tolerance.
    at_start: whether the policy is still its own reference.

  Raises:
    DivergedError: they differ by more than rounding.
  """
  tolerance = TOLERANCE[jnp.dtype(dtype).name]
  mismatch = float(np.mean(np.abs(responses.log_probs - rollout.log_probs)[rollout.response_mask]))
  deviations = {
    'in the first minibatch the probability ratio differs from 1': float(
      first_update['val/ratio_deviation']
    ),
    'the log-probs of decoding and training differ': mismatch,
  }
  if at_start:
    deviations['the KL to the reference differs from 0'] = float(np.max(np.abs(statistics['kl'])))
  for what, deviation in deviations.items():
    if not deviation <= tolerance:  # also if it is NaN
      raise errors.DivergedError(
        f'PPO self-check: {what} by {deviation:.2g} (allowed {tolerance:g}): padding, positions or '
        'temperature differ between sampling and training'
      )


def check_scores(scores: np.ndarray, step: int, saved: str) -> None:
  """Ends PPO if a score is not finite.

  Args:
    scores: the reward's scores [B].
    step: the step number, for the message.
    saved: describes the newest checkpoint (`Checkpoints.saved`), for the message.

  Raises:
    DivergedError: a score is not finite.
  """
  remedy = 'Check what the reward returns for these prompts'
  divergence.check(f'PPO step {step}', {'the reward': scores}, 0, 1, saved, remedy)


def warn_of_clipping(metrics: Mapping[str, float], step: int, ppo: config_lib.PPO) -> bool:
  """Warns if most scores of a step were clipped: PPO cannot tell these texts apart.

  Args:
    metrics: the step's metrics.
    step: the step number, for the message.
    ppo: hyper-parameters; `scale_reward` and `clip_reward` are used.

  Returns:
    Whether most scores were clipped.
  """
  if metrics['objective/clipped'] <= MOST:
    return False
  if processes.is_first():
    logging.warning(
      'PPO step %d: %.0f %% of the scores were clipped to +-%g (config.ppo.clip_reward), so PPO '
      'cannot tell these texts apart (scores: mean %.4g, standard deviation %.4g). %s',
      step,
      100 * metrics['objective/clipped'],
      ppo.clip_reward,
      metrics['objective/scores'],
      metrics['objective/scores_std'],
      REMEDIES[ppo.scale_reward],
    )
  return True


def check_metrics(metrics: Mapping[str, float], step: int, limit: int, saved: str) -> None:
  """Ends PPO if it diverges.

  Args:
    metrics: the step's metrics.
    step: the step number, for the message.
    limit: `runtime.max_skipped_in_row`.
    saved: describes the newest checkpoint, for the message.

  Raises:
    DivergedError: the KL or a loss is not finite, or too many gradients in a row are not.
  """
  divergence.check(
    f'PPO step {step}',
    {
      'the KL': metrics['objective/kl'],
      'the policy loss': metrics['loss/policy_avg'],
      'the value loss': metrics['loss/value_avg'],
    },
    int(metrics['policy/skipped_in_row']),
    limit,
    saved,
    'Lower config.ppo.learning_rate, or raise config.ppo.kl_coefficient',
  )
