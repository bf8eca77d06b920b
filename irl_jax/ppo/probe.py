"""A probe of the reward: a few texts and their scores, stored in a training's checkpoints.

A Python function cannot be hashed reliably, so its scores for a few texts identify it.
"""

from collections.abc import Mapping
import pathlib
from typing import Any

from absl import logging
import numpy as np

from irl_jax import rewards
from irl_jax.data import user_rewards
from irl_jax.ppo import rollout
from irl_jax.runtime import terminal
from irl_jax.training import fingerprint

TEXTS = 16
# Tolerances, as shares of the range of the scores and of the largest one. Another device or compute
# type changes a score by less, and another reward by more, even if both have a large constant.
TOLERANCE = 0.05
ROUNDING = 0.005  # bfloat16 has 8 bits

Probe = Mapping[str, Any]  # {'reward': its name, 'texts': [N], 'scores': [N]}, of JSON's types


def of(reward: rewards.Reward, sampled: rollout.Sampled, originals: np.ndarray) -> Probe:
  """Returns a probe made from a rollout: its texts with the lowest and the highest scores.

  The reward is not called again.

  Args:
    reward: its name is stored.
    sampled: the rollout of B responses.
    originals: what was subtracted from the scores [B].
  """
  scores = np.asarray(sampled.scores + originals, np.float64)
  order = np.argsort(scores, kind='stable')
  rows = (
    order if len(order) <= TEXTS else np.concatenate([order[: TEXTS // 2], order[-TEXTS // 2 :]])
  )
  return {
    'reward': user_rewards.name_of(reward),
    'texts': [sampled.scored[row] for row in rows],
    'scores': scores[rows].tolist(),
  }


def check(probe: Probe, reward: rewards.Reward, folder: pathlib.Path) -> None:
  """Refuses to continue the training of another reward.

  A reward whose scores change at each call cannot be compared; a warning says so.

  Raises:
    ConfigError: the reward's scores of the probe's texts have changed.
  """
  name = user_rewards.name_of(reward)
  texts, before = list(probe['texts']), np.array(probe['scores'])
  now = np.asarray(reward(texts), np.float64)
  if _differ(before, now):
    # A score that is not finite differs from itself, but the reward does not vary.
    if np.isfinite(now).all() and _differ(now, np.asarray(reward(texts), np.float64)):
      logging.warning(
        '%s: reward %s gives different scores at each call, so it cannot be compared', folder, name
      )
      return
    row = int(np.argmax(np.abs(now - before)))
    fingerprint.refuse(
      folder,
      f'its reward {probe["reward"]} gave {before[row]:.4g} for {texts[row]!r:.60}, {name} gives '
      f'{now[row]:.4g}',
    )
  if name != probe['reward']:
    logging.warning(
      '%s: the reward was %s and is %s now, which gives the same scores for %s',
      folder,
      probe['reward'],
      name,
      terminal.count(len(texts), 'text'),
    )


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
  """Returns True if scores differ by more than devices and compute types explain."""
  allowed = TOLERANCE * float(np.ptp(one)) + ROUNDING * float(np.abs(one).max()) + 1e-6
  differ = not float(np.abs(one - other).max()) <= allowed  # also if one is NaN
  return differ or _opposed(one, other)


def _opposed(one: np.ndarray, other: np.ndarray) -> bool:
  """Returns True if two scores order texts the other way round, by more than float32 rounds."""
  moved = [float(np.ptp(scores)) > 1e-5 * float(np.abs(scores).max()) for scores in (one, other)]
  return all(moved) and float(np.corrcoef(one, other)[0, 1]) < 0
