"""The rlhf stage: PPO on the true reward; rerlhf runs the same with another reward."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
from typing import Any

import numpy as np

from irl_jax import rewards
from irl_jax.evaluation import policy as policy_metrics
from irl_jax.evaluation import toxicity
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import NO_CLASSES
from irl_jax.models import pretrained
from irl_jax.models.huggingface import card
from irl_jax.ppo import loop as ppo_loop
from irl_jax.runtime import processes
from irl_jax.runtime import records
from irl_jax.runtime import terminal_tables
from irl_jax.runtime import workdir
from irl_jax.stages.run import Run

BEFORE = 'rlhf/before.json'  # what was measured of the policy that PPO starts from


def rlhf(run: Run) -> None:
  """Trains a policy on the true reward -> rlhf/{policy,figures.json}."""
  true_reward = run.true_reward()
  train_policy(run, 'rlhf', true_reward.of_kind(run.config.ppo.reward), true_reward)


def train_policy(
  run: Run,
  stage: card.Stage,
  reward: rewards.Reward,
  true_reward: rewards.TrueReward | rewards.ScalarReward,
  report: Callable[[Sequence[str]], dict[str, float]] = lambda texts: {},
) -> None:
  """Trains a policy with PPO and measures it before and after -> <stage>/{policy,figures.json}.

  Both stages start from the same policy, so rerlhf takes what rlhf has measured of it.

  Args:
    run: its starting policy, prompts and settings are used.
    stage: 'rlhf' or 'rerlhf', which names the folder.
    reward: the reward that PPO maximises.
    true_reward: r*; both policies are measured by it.
    report: computes more metrics to log, from the scored texts of a rollout.
  """
  start = pretrained.load_language_model(run.start)
  policy = ppo_loop.train(
    start,
    run.rows('train'),
    reward,
    run.config,
    run.folder / stage / 'checkpoints',
    dtype=run.dtype,
    show_samples=functools.partial(show_samples, stage),
    report=report,
    **run.logging(stage),
  )
  base = pretrained.load_language_model(run.base)
  held, judge = run.rows('heldout'), run.load_judge()
  measure = lambda model: policy_metrics.evaluate(
    model,
    start,
    base,
    held,
    true_reward,
    run.config,
    run.dtype,
    has_classes=true_reward.has_classes,
    judge=judge,
  )
  known = measured_before(run, len(held)) if stage == 'rerlhf' else None
  (before, old), (after, new) = known or measure(start), measure(policy)
  if stage == 'rlhf':
    run.write_json(BEFORE, {'metrics': before, 'true_rewards': old.tolist()})
  results = collect(
    {
      'before': before,
      'after': after,
      'win_rate': toxicity.win_rate(old, new, [row['prompt'] for row in held]),
      'mcnemar': toxicity.mcnemar(old < 0, new < 0) if true_reward.has_classes else NO_CLASSES,
    }
  )
  run.write_json(f'{stage}/figures.json', results)
  run.save(stage, 'policy', policy, run.start, results, in_words(run, true_reward))


def measured_before(run: Run, prompts: int) -> tuple[records.PolicyMetrics, np.ndarray] | None:
  """Returns what rlhf has measured of the starting policy: its metrics, and r* of its completions.

  None if rlhf was not run here, or by a version that did not write it down.

  Args:
    run: its folder is used.
    prompts: the number of held-out prompts.
  """
  path = run.folder / BEFORE
  if not processes.broadcast(path.exists()):
    return None
  measured = workdir.read_json(path)
  scores = np.array(measured['true_rewards'], np.float32)
  return (measured['metrics'], scores) if len(scores) == prompts else None


def show_samples(stage: str, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
  """Prints completions of one step with their scores."""
  if processes.is_first():
    terminal_tables.show(
      terminal_tables.sample_table(
        [(row['prompt'], row['completion'], row['score']) for row in rows],
        title=f'{stage}, step {step}',
      )
    )


def in_words(run: Run, true_reward: rewards.TrueReward | rewards.ScalarReward) -> str:
  """Names the true reward for the model card."""
  if not true_reward.has_classes:
    return f'the score of `{run.classifier}`'
  return f'minus the logit of the label `{true_reward.label}` of `{run.classifier}`'
