"""The figures over training, from log.jsonl; each function draws one, or says in a str why it cannot."""

from collections.abc import Sequence

import numpy as np

from irl_jax.report import look
from irl_jax.report.inputs import Inputs
from irl_jax.report.inputs import Row
from irl_jax.report.look import Drawing
from irl_jax.report.wording import count
from irl_jax.report.wording import number
from irl_jax.report.wording import POLICIES

POINTS = 200  # of one curve; longer ones are averaged over neighbouring steps
STAGES = {'rlhf': look.TRUE, 'rerlhf': look.RECOVERED}
IRL = {
  'validation/loss': ('irl_loss', 'IRL: loss', 'validation loss'),
  'validation/pairwise_accuracy': (
    'irl_accuracy',
    'IRL: pairs in order',
    'validation pairs in order, %',
  ),
  'reported/auroc': ('irl_auroc', 'IRL: AUROC against r*', 'AUROC against r*'),
}


def scores(inputs: Inputs, stage: str) -> Drawing | str:
  """The reward that PPO was given, over its steps; and r* beside it where the log holds it."""
  rows = inputs.stage_log(stage)
  steps, values = series(rows, 'objective/scores')
  if len(steps) < 2:
    return f'the log has no two steps of {stage}'
  true_steps, true_values = series(rows, 'reported/true_reward')
  both = stage != 'rlhf' and len(true_steps) > 1
  figure, axes = look.axes(look.HEIGHT, 1 + both, sharex=True)
  axes = np.atleast_1d(axes)
  reward = 'true reward' if stage == 'rlhf' else 'recovered reward'
  axes[0].plot(steps, values, color=STAGES.get(stage, look.RECOVERED))
  axes[0].set_ylabel('mean r*' if stage == 'rlhf' else 'mean R̂')
  numbers = {'step': steps, 'score': values}
  said = f'{reward} {number(values[0], 2)} at first, {number(values[-1], 2)} at last'
  if both:
    axes[1].plot(true_steps, true_values, color=look.TRUE)
    axes[1].set_ylabel('mean r*')
    numbers |= {'true_step': true_steps, 'true_reward': true_values}
    said += (
      f'; true reward {number(true_values[0], 2)} at first, {number(true_values[-1], 2)} at last'
    )
  axes[-1].set_xlabel('PPO step (rollouts)')
  axes[-1].xaxis.get_major_locator().set_params(integer=True)
  flaw = ' Where the upper curve rises and the lower falls, it exploits a flaw.' if both else ''
  return Drawing(
    f'{stage}_scores',
    'Reward over RLHF' + (' on R̂' if stage == 'rerlhf' else ''),
    f'Over {count(len(rows), "step")}: {said}.',
    'What PPO maximises, averaged over each rollout (less that of the original text, where '
    f'config.ppo.subtract_original is on).{flaw}',
    figure,
    numbers,
  )


def kl(inputs: Inputs) -> Drawing | str:
  """How far PPO moved each policy from its start."""
  curves = {stage: series(inputs.stage_log(stage), 'objective/kl') for stage in STAGES}
  curves = {stage: curve for stage, curve in curves.items() if len(curve[0]) > 1}
  if not curves:
    return 'the log has no two steps of rlhf or rerlhf'
  figure, axes = look.axes()
  for place, (stage, (steps, values)) in enumerate(curves.items()):
    axes.plot(steps, values, color=STAGES[stage], linestyle='-' if stage == 'rerlhf' else '--')
    name = '- -  on the true reward' if stage == 'rlhf' else '—  on the recovered reward'
    axes.text(
      0.98, 0.13 - 0.1 * place, name, transform=axes.transAxes, ha='right', color=STAGES[stage]
    )
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set(xlabel='PPO step (rollouts)', ylabel='KL to the start, nats a response')
  said = '; '.join(
    f'{POLICIES[stage]} {number(values[-1], 1)} nats at last'
    for stage, (_, values) in curves.items()
  )
  return Drawing(
    'policy_kl',
    'How far the policies moved',
    f'KL over PPO steps: {said}.',
    'Little toxicity at a large KL can be a broken model: read it beside the table below.',
    figure,
    {stage: {'step': steps, 'kl': values} for stage, (steps, values) in curves.items()},
  )


def irl(inputs: Inputs, metric: str) -> Drawing | str:
  """One figure of every seed over the steps of its training."""
  file, title, label = IRL[metric]
  stages = sorted({row['stage'] for row in inputs.log if str(row['stage']).startswith('irl/seed_')})
  curves = {stage: series(inputs.stage_log(stage), metric) for stage in stages}
  curves = {stage: curve for stage, curve in curves.items() if len(curve[0]) > 1}
  if not curves:
    return f'the log holds fewer than two values of {metric} for each seed'
  scale = 100 if label.endswith('%') else 1
  figure, axes = look.axes()
  for steps, values in curves.values():
    axes.plot(
      steps,
      scale * np.array(values),
      '-o',
      color=look.RECOVERED,
      linewidth=1,
      markersize=2.5,
      alpha=0.8,
    )
  last = [scale * values[-1] for _, values in curves.values()]
  spread = (
    number(last[0], 2) if len(last) == 1 else f'{number(min(last), 2)} to {number(max(last), 2)}'
  )
  axes.set(xlabel='IRL step (updates)', ylabel=label)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_title(
    f'{count(len(curves), "seed")}, at last {spread}', loc='left', color=look.RECOVERED
  )
  return Drawing(
    file,
    title,
    f'{label} of {count(len(curves), "seed")} over training: at last {spread}.',
    'A line for each seed.' + (' r* is looked at only here.' if 'auroc' in metric else ''),
    figure,
    {stage: {'step': steps, metric: values} for stage, (steps, values) in curves.items()},
  )


def series(rows: Sequence[Row], metric: str) -> tuple[list[float], list[float]]:
  """The steps and values of a metric, averaged over neighbours to at most POINTS."""
  points = np.array(
    [(row['step'], row[metric]) for row in rows if isinstance(row.get(metric), (int, float))], float
  )
  if not len(points):
    return [], []
  blocks = np.array_split(points, min(POINTS, len(points)))
  steps, values = np.array([block.mean(axis=0) for block in blocks]).T
  return steps.tolist(), values.tolist()
