"""What training on a poor reward does: PPO on the recovered reward of a finished run, and on worse and warier ones.

  python studies/poor_rewards.py --config=configs/tiny.py --workdir=runs/tiny --output=poor_rewards.json

The same PPO five times: on r* itself, on the mean of the recovered seeds, on that mean less twice their spread, on a
reward whose recovery was stopped after a twentieth of its pairs, and on a random head. Toxicity (by r*), KL, perplexity
and distinct_2 are of held-out prompts; `first` and `last` are means over a tenth of the rollouts, of the reward that
was trained on and of r*: where the one rises and the other falls, PPO has found a flaw.
"""

import dataclasses
import json
import pathlib
import sys
import tempfile
from typing import Any

from absl import flags

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
flags.DEFINE_string(
  'config',
  None,
  'config file of the run, with the overrides that it was started with',
  flag_values=FLAGS,
)
flags.DEFINE_string(
  'workdir', None, 'folder of the run; its rewards are recovered', flag_values=FLAGS
)
flags.DEFINE_string('output', None, 'the .json file to write', flag_values=FLAGS)
flags.DEFINE_integer(
  'steps', 0, 'rollouts of each PPO; 0: as many as the run', lower_bound=0, flag_values=FLAGS
)
flags.DEFINE_list(
  'rewards', [], 'names of the rewards to train on; all where none is named', flag_values=FLAGS
)

PESSIMISM = 2.0
EARLY = 0.05  # share of the training pairs after which an early reward stopped


def early(run, base):
  """A reward of seed 0 that has seen a twentieth of the pairs."""
  from irl_jax.irl import loop
  from irl_jax.irl import reward
  from irl_jax.stages import irl as recovery

  training, validation = (
    recovery.encode_demonstrations(
      base, recovery.different(run.rows(split, 'demos')), run.config.irl
    )
    for split in ('train', 'validation')
  )
  with tempfile.TemporaryDirectory() as folder:
    parts = loop.train(
      base,
      training[: max(int(EARLY * len(training)), 1)],
      validation,
      run.config.irl,
      0,
      pathlib.Path(folder),
      dtype=run.dtype,
      log=lambda step, metrics: None,
    )
  return reward.scorer(base, parts, dtype=run.dtype)


def random_head(run, base):
  """The base model's trunk, nothing trained, under a head of random direction."""
  import jax

  from irl_jax.irl import reward
  from irl_jax.models import heads

  trunk = {name: base.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  head = jax.device_get(
    heads.init_reward_head(jax.random.key(run.config.seed), base.config.hidden_size)
  )
  return reward.scorer(base, (trunk | {'reward_head': head}, {}), dtype=run.dtype)


def train(run, start, base, reward, true_reward) -> dict[str, Any]:
  """PPO on one reward: figures on held-out prompts, and both rewards in every rollout."""
  import numpy as np

  from irl_jax.evaluation import policy as policy_figures
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
  figures, _ = policy_figures.evaluate(
    policy, start, base, run.rows('heldout'), true_reward, run.config, run.dtype
  )
  tenth = max(len(true_seen) // 10, 1)
  ends = lambda values: {
    'first': float(np.mean(values[:tenth])),
    'last': float(np.mean(values[-tenth:])),
  }
  return {
    'after': figures,
    'reward': ends(rewards_seen),
    'true_reward': ends(true_seen),
    'curves': {'reward': rewards_seen, 'true_reward': true_seen},
  }


def describe(name: str, row: dict[str, Any]) -> str:
  """One line of the table."""
  after, toxic = row['after'], row['after']['toxicity']
  change = lambda ends: f'{ends["first"]:6.2f} -> {ends["last"]:6.2f}'
  return (
    f'{name:<28} toxic {100 * toxic["rate"]:5.1f} % [{100 * toxic["low"]:.1f}, {100 * toxic["high"]:.1f}]   '
    f'KL {after["kl"]:5.2f}   perplexity {after["perplexity_under_base"]:6.1f}   '
    f'distinct_2 {after["distinct_2"]:.3f}   reward {change(row["reward"])}   r* {change(row["true_reward"])}'
  )


def main(options: flags.FlagValues) -> None:
  """Prints the table, a row when it is known."""
  command_line.require(options, 'config', 'workdir', 'output')
  from irl_jax import pipeline
  from irl_jax import rewards
  from irl_jax.models import pretrained
  from irl_jax.runtime import compilation_cache
  from irl_jax.stages.run import Run

  compilation_cache.use()
  config = options.config
  if options.steps:
    config = dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, steps=options.steps))
  run = Run(
    config, pathlib.Path(options.workdir), None, pipeline.compute_dtype(config.runtime.dtype)
  )
  start, base = (pretrained.load_language_model(place) for place in (run.start, run.base))
  members, true_reward = run.recovered_rewards(), run.true_reward()
  makers = {
    'the true reward': lambda: true_reward.of_kind(config.ppo.reward),
    'the recovered reward': lambda: rewards.ensemble(members),
    f'less {PESSIMISM:g} deviations': lambda: rewards.ensemble(members, PESSIMISM),
    'recovery stopped early': lambda: early(run, base),
    'a random head': lambda: random_head(run, base),
  }
  table = {}
  for name, make in makers.items():
    if not options.rewards or name in options.rewards:
      table[name] = train(run, start, base, make(), true_reward)
      print(describe(name, table[name]), flush=True)
      pathlib.Path(options.output).write_text(json.dumps(table, indent=2))


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
