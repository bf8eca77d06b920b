"""The stages rlhf and rerlhf: which reward each of them trains with."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from irl_jax import config as c
from irl_jax.stages import rlhf as policies
from irl_jax.stages.run import Run


def test_rlhf_optimises_the_true_reward_and_rerlhf_the_mean_of_the_recovered_ones(
  tmp_path, monkeypatch
):
  constant = lambda value: lambda texts: np.full(len(texts), value, np.float32)
  rewards = {'logit': constant(-1), 'probability': constant(-2)}
  monkeypatch.setattr(Run, 'true_reward', lambda self, kind='logit': rewards[kind])
  monkeypatch.setattr(
    Run, 'recovered_rewards', lambda self: [constant(1), constant(2), constant(6)]
  )
  trained, reported = {}, {}

  def train_policy(run, stage, reward, report=None):
    trained[stage], reported[stage] = reward(['a', 'b']), report and report(['a', 'b'])

  monkeypatch.setattr(policies, 'train_policy', train_policy)
  run = Run(c.Config(ppo=c.PPO(reward='probability')), tmp_path, None, jnp.float32)
  policies.rlhf(run)
  policies.rerlhf(run)
  np.testing.assert_array_equal(trained['rlhf'], [-2, -2])
  np.testing.assert_array_equal(trained['rerlhf'], [3, 3])
  assert reported == {
    'rlhf': None,
    'rerlhf': {'reported/true_reward': -1},
  }  # r* is looked at, not trained with
  policies.rlhf(dataclasses.replace(run, config=c.Config(ppo=c.PPO(reward='logit'))))
  np.testing.assert_array_equal(trained['rlhf'], [-1, -1])
