"""The stages rlhf and rerlhf: one PPO, on the true reward and on the recovered one."""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from irl_jax import rewards
from irl_jax.evaluation import policy as policy_figures
from irl_jax.evaluation import toxicity
from irl_jax.models import pretrained
from irl_jax.ppo import loop as ppo_loop
from irl_jax.report import tables as table
from irl_jax.runtime import processes
from irl_jax.stages.run import Row
from irl_jax.stages.run import Run


def rlhf(run: Run) -> None:
  """PPO on the true reward -> rlhf/policy."""
  train_policy(run, 'rlhf', run.true_reward(run.config.ppo.reward))


def rerlhf(run: Run) -> None:
  """PPO on the recovered reward, the mean of all seeds (less their spread) -> rerlhf/policy; r* is only looked at."""
  true_reward = run.true_reward()
  train_policy(
    run,
    'rerlhf',
    rewards.ensemble(run.recovered_rewards(), run.config.ppo.pessimism),
    report=lambda texts: {'reported/true_reward': float(np.mean(true_reward(texts)))},
  )


def train_policy(
  run: Run,
  stage: str,
  reward: rewards.Reward,
  report: Callable[[Sequence[str]], dict[str, float]] = lambda texts: {},
) -> None:
  """PPO from where RLHF starts, on any reward; then the figures before and after -> <stage>/{policy,figures.json}."""
  start = pretrained.load_language_model(run.start)

  def show(step: int, rows: Sequence[Row]) -> None:
    if processes.is_first():
      table.show(
        table.sample_table(
          [(row['prompt'], row['completion'], row['score']) for row in rows],
          title=f'{stage}, step {step}',
        )
      )

  policy = ppo_loop.train(
    start,
    run.rows('train'),
    reward,
    run.config,
    run.folder / stage / 'checkpoints',
    dtype=run.dtype,
    show_samples=show,
    report=report,
    **run.logging(stage),
  )
  base = pretrained.load_language_model(run.base)
  held, true_reward = run.rows('heldout'), run.true_reward()
  measure = lambda model: policy_figures.evaluate(
    model, start, base, held, true_reward, run.config, run.dtype
  )
  (before, toxic_before), (after, toxic_after) = measure(start), measure(policy)
  figures = {
    'before': before,
    'after': after,
    'mcnemar': toxicity.mcnemar(toxic_before, toxic_after),
  }
  run.write_json(f'{stage}/figures.json', figures)
  run.save(f'{stage}/policy', policy, run.start, figures)
