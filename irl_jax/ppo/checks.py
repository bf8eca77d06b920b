"""Checks that PPO can learn: its arguments, the self-check, non-finite numbers, clipped scores."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import math
import pathlib
from typing import Any

from absl import logging
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import rewards
from irl_jax import settings
from irl_jax import structs
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.ppo import probe as probe_lib
from irl_jax.ppo import reward_scale
from irl_jax.runtime import processes
from irl_jax.runtime import terminal
from irl_jax.training import arguments
from irl_jax.training import divergence
from irl_jax.training import fingerprint

# Effect of rounding on log-probs if logits are small, in nats per token. If a deviation is larger,
# the tolerance is computed from the size of the logits.
TOLERANCE = {'float32': 1e-4, 'bfloat16': 0.05}
SOME_TOKENS = 512  # tokens over which the largest rounding error is estimated
MOST = 0.5  # a larger share of clipped scores leads to a warning
REMEDIES = {  # for scores that are clipped, by `ppo.scale_reward`
  'running': 'Set config.ppo.scale_reward=centred, which subtracts the running mean first',
  'none': 'Set config.ppo.scale_reward=centred, or raise config.ppo.clip_reward',
  'centred': 'Raise config.ppo.clip_reward',
}


def rounding(
  size: Mapping[str, np.ndarray], config: trunk.Config, dtype: DTypeLike
) -> tuple[float, float]:
  """Returns how far rounding may move log-probs, in nats: the maximum and the mean.

  The maximum is over SOME_TOKENS tokens. Logits are float32 sums over the width, rounded at every
  addition: a random walk whose steps are relative to the largest logit. The states that are summed
  have the compute type, and are rounded in every block. A shift of all logits cancels in a
  log-prob, so the rounding of states is relative to the distance of the logits from their mean.
  Models of 2 and 6 blocks, 32 and 128 wide, with logits of 15 to 30,000, had actual deviations of
  at most 0.6 times these estimates.

  Args:
    size: 'largest' and 'spread' of the logits (`update.logit_size`).
    config: the model's shape.
    dtype: the compute type.
  """
  eps = lambda dtype: float(jnp.finfo(dtype).eps)
  sums = config.hidden_size**0.5 * eps(jnp.float32) * float(np.max(size['largest']))
  states = max(1.0, config.num_hidden_layers / 4) ** 0.5 * eps(dtype)
  states *= float(np.max(size['spread']))
  return sums + states, sums / 4 + states / 8


def check_agreement(
  statistics: Mapping[str, np.ndarray],
  responses: structs.Responses,
  rollout: structs.Rollout,
  first_update: Mapping[str, Any],
  dtype: DTypeLike,
  at_start: bool,
  rounding_error: Callable[[], tuple[float, float]],
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
    at_start: whether no update has been made, so that policy and reference are equal.
    rounding_error: computes `rounding` for this model. It is called only if a deviation exceeds
      TOLERANCE, and must return the same value on all processes.

  Raises:
    DivergedError: they differ by more than rounding.
  """
  mask = rollout.response_mask
  mismatch = float(np.mean(np.abs(responses.log_probs - rollout.log_probs)[mask]))
  kl = float(np.max(np.abs(statistics['kl']))) if at_start else 0.0
  ratio = float(first_update['val/ratio_deviation'])
  floor = TOLERANCE[jnp.dtype(dtype).name]
  if all(deviation <= floor for deviation in (ratio, mismatch, kl)):  # not if one is NaN
    return
  largest, mean = rounding_error()
  # The largest of n normal errors grows with sqrt(log n), and a sum of n with sqrt(n).
  tokens, longest = int(mask.sum()), int(mask.sum(1).max())
  largest *= max(1.0, math.log(tokens) / math.log(SOME_TOKENS)) ** 0.5
  for what, deviation, allowed in (
    (
      'in the first minibatch the probability ratio differs from 1',
      ratio,
      float(np.expm1(largest)),
    ),
    ('the log-probs of decoding and training differ', mismatch, mean),
    ('the KL to the reference differs from 0', kl, mean * longest**0.5),
  ):
    allowed = max(floor, allowed)
    if not deviation <= allowed:  # also if it is NaN
      raise errors.DivergedError(
        f'PPO self-check: {what} by {deviation:.2g} (allowed {allowed:.2g}): padding, positions or '
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


def warn_of_scores(metrics: Mapping[str, float], step: int, ppo: config_lib.PPO) -> bool:
  """Warns if PPO can hardly tell texts apart: most scores of a step are clipped, or nearly equal.

  Args:
    metrics: the step's metrics.
    step: the step number, for the message.
    ppo: hyper-parameters; `scale_reward` and `clip_reward` are used.

  Returns:
    True if it has logged a warning.
  """
  mean, deviation = metrics['objective/scores'], metrics['objective/scores_std']
  if metrics['objective/clipped'] > MOST:
    what = (
      f'{100 * metrics["objective/clipped"]:.0f} % of the scores were clipped to '
      f'+-{ppo.clip_reward:g} (config.ppo.clip_reward), so PPO cannot tell these texts apart '
      f'(scores: mean {mean:.4g}, standard deviation {deviation:.4g}). {REMEDIES[ppo.scale_reward]}'
    )
  elif deviation < reward_scale.SMALLEST_DEVIATION:
    what = (
      f'the scores hardly differ (mean {mean:.4g}, standard deviation {deviation:.2g}), so PPO has '
      'little to learn from. Check the reward; if such differences matter, multiply it'
    )
  else:
    return False
  if processes.is_first():
    logging.warning('PPO step %d: %s', step, what)
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


def check_arguments(
  policy: pretrained.Pretrained,
  rows: Sequence[Mapping[str, Any]],
  config: config_lib.Config,
  folder: str | pathlib.Path,
  dtype: DTypeLike,
) -> None:
  """Refuses arguments that training would fail on, with the same messages as the command line.

  Raises:
    ConfigError, InputError: as `loop.train`.
  """
  arguments.check_policy(policy)
  arguments.check_config(config, config_lib.Config, 'config')
  arguments.check_settings(config)
  arguments.check_blocks(config.ppo, policy)
  arguments.check_rows(rows, ('prompt', 'original'))
  arguments.check_dtype(dtype)
  settings.folder(folder, 'folder')


def check_continues(
  first: int,
  probe: probe_lib.Probe | None,
  reward: rewards.Reward,
  config: config_lib.Config,
  folder: pathlib.Path,
) -> None:
  """Refuses to continue a run with another reward, or one that has more steps than configured.

  Raises:
    ConfigError: names the number of steps, or the scores that differ.
  """
  if first > config.ppo.steps:
    fingerprint.refuse(
      folder,
      f'it has already done {terminal.count(first, "step")}, but config.ppo.steps = '
      f'{config.ppo.steps}',
    )
  if probe is not None:
    probe_lib.check(probe, reward, folder)
