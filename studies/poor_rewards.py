r"""The effect of training on a poor reward: PPO on a run's recovered reward, and on worse ones.

  python studies/poor_rewards.py --config=configs/tiny.py --workdir=runs/tiny \
      --output=poor_rewards.json

The same PPO runs five times: on r* itself, on the mean of the recovered seeds, on that mean minus
twice their standard deviation, on a reward whose recovery stopped after a twentieth of its pairs,
and on a random head.

Toxicity (by r*), KL, perplexity and distinct_2 are those of held-out prompts. `first` and `last`
are means over a tenth of the rollouts, of the reward that was trained on and of r*. If the one
rises and the other falls, PPO has found a flaw. docs/poor_rewards.md has the table of a run.
"""

from collections.abc import Callable
import dataclasses
import json
import pathlib
import sys
import tempfile
from typing import Any

from absl import flags
import finished_run
import recovering

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
finished_run.define_flags(FLAGS)
flags.DEFINE_integer(
  'steps', 0, 'rollouts of each PPO; 0: as many as the run', lower_bound=0, flag_values=FLAGS
)
flags.DEFINE_list(
  'rewards', [], 'names of the rewards to train on; default: all', flag_values=FLAGS
)

PESSIMISM = 2.0
EARLY = 0.05  # share of the training pairs that an early reward has seen


def early(run, base):
  """Recovers a reward from a twentieth of the pairs, by seed 0."""
  from irl_jax.stages import demonstrated

  rows, validation = (run.demonstrations(split) for split in ('train', 'validation'))
  used = demonstrated.different(rows)
  used = used[: max(int(EARLY * len(used)), 1)]
  return recovering.recover(
    run, base, used, validation, {'evaluate_every': run.config.irl.evaluate_every}, seed=0
  )


def random_head(run, base):
  """Returns the base model's trunk, untrained, under a head of random direction."""
  import jax

  from irl_jax.irl import reward
  from irl_jax.models import heads

  trunk = {name: base.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  head = jax.device_get(
    heads.init_reward_head(jax.random.key(run.config.seed), base.config.hidden_size)
  )
  return reward.scorer(base, (trunk | {'reward_head': head}, {}), dtype=run.dtype)


def train(run, start, base, reward, true_reward) -> dict[str, Any]:
  """Runs PPO on one reward; measures held-out prompts, and both rewards in every rollout."""
  import numpy as np

  from irl_jax.evaluation import policy as policy_lib
  from irl_jax.ppo import loop as ppo_loop

  rewards_seen, true_seen = [], []

  def report(texts) -> dict[str, float]:
    rewards_seen.append(float(np.mean(reward(texts))))
    true_seen.append(float(np.mean(true_reward(texts))))
    return {}

  with tempfile.TemporaryDirectory() as folder:
    policy = ppo_loop.train(
      start,
      run.rows('train'),
      reward,
      run.config,
      pathlib.Path(folder),
      dtype=run.dtype,
      log=lambda step, metrics: None,
      report=report,
    )
  measured, _ = policy_lib.evaluate(
    policy, start, base, run.rows('heldout'), true_reward, run.config, run.dtype
  )
  tenth = max(len(true_seen) // 10, 1)
  ends = lambda values: {
    'first': float(np.mean(values[:tenth])),
    'last': float(np.mean(values[-tenth:])),
  }
  return {
    'after': measured,
    'reward': ends(rewards_seen),
    'true_reward': ends(true_seen),
    'curves': {'reward': rewards_seen, 'true_reward': true_seen},
  }


def describe(name: str, row: dict[str, Any]) -> str:
  """Returns one line of the table."""
  after, toxic = row['after'], row['after']['toxicity']
  change = lambda ends: f'{ends["first"]:6.2f} -> {ends["last"]:6.2f}'
  return (
    f'{name:<28} toxic {100 * toxic["rate"]:5.1f} % '
    f'[{100 * toxic["low"]:.1f}, {100 * toxic["high"]:.1f}]   '
    f'KL {after["kl"]:5.2f}   perplexity {after["perplexity_under_base"]:6.1f}   '
    f'distinct_2 {after["distinct_2"]:.3f}   reward {change(row["reward"])}   '
    f'r* {change(row["true_reward"])}'
  )


def rewards_of(run, base, true_reward) -> dict[str, Callable[[], Any]]:
  """Returns a function that makes each reward, by its name in the table."""
  from irl_jax import rewards

  members = run.recovered_rewards()
  return {
    'the true reward': lambda: true_reward.of_kind(run.config.ppo.reward),
    'the recovered reward': lambda: rewards.ensemble(members),
    f'less {PESSIMISM:g} deviations': lambda: rewards.ensemble(members, PESSIMISM),
    'recovery stopped early': lambda: early(run, base),
    'a random head': lambda: random_head(run, base),
  }


def main(options: flags.FlagValues) -> None:
  """Prints and writes the table, row by row."""
  run = finished_run.open_run(options)
  from irl_jax.models import pretrained

  if options.steps:
    ppo = dataclasses.replace(run.config.ppo, steps=options.steps)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, ppo=ppo))
  start, base = (pretrained.load_language_model(place) for place in (run.start, run.base))
  true_reward, table = run.true_reward(), {}
  for name, make in rewards_of(run, base, true_reward).items():
    if not options.rewards or name in options.rewards:
      table[name] = train(run, start, base, make(), true_reward)
      print(describe(name, table[name]), flush=True)
      pathlib.Path(options.output).write_text(json.dumps(table, indent=2))


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
