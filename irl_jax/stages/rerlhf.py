"""The rerlhf stage: PPO again, on the recovered reward instead of the true one."""

import numpy as np

from irl_jax import rewards
from irl_jax.stages.rlhf import train_policy
from irl_jax.stages.run import Run


def rerlhf(run: Run) -> None:
  """Trains a policy on the ensemble of recovered rewards -> rerlhf/{policy,figures.json}.

  The true reward only measures the policy; it never trains it.
  """
  true_reward = run.true_reward()
  train_policy(
    run,
    'rerlhf',
    rewards.ensemble(run.recovered_rewards(), run.config.ppo.pessimism),
    true_reward,
    report=lambda texts: {'reported/true_reward': float(np.mean(true_reward(texts)))},
  )
