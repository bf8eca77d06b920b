"""Drawings over training, from log.jsonl; each function returns one, or says why it cannot."""

from collections.abc import Sequence
from typing import NamedTuple
from typing import TYPE_CHECKING

import numpy as np

from irl_jax.report import drawing
from irl_jax.report.drawing import Drawing
from irl_jax.report.inputs import Inputs
from irl_jax.report.inputs import LogRow
from irl_jax.report.wording import count
from irl_jax.report.wording import number
from irl_jax.report.wording import policy_name
from irl_jax.report.wording import spread

if TYPE_CHECKING:
  from matplotlib.axes import Axes

POINTS = 200  # points of one curve; longer ones are averaged over neighbouring steps
STAGES = {'rlhf': drawing.TRUE, 'rerlhf': drawing.RECOVERED}


class Curve(NamedTuple):
  """A metric of the irl stage over training."""

  metric: str  # in the log
  file: str
  title: str
  label: str
  percent: bool = False
  note: str = ''


IRL = (
  Curve('validation/loss', 'irl_loss', 'IRL: loss', 'validation loss'),
  Curve(
    'validation/pairwise_accuracy',
    'irl_accuracy',
    'IRL: pairs in order',
    'validation pairs in order, %',
    percent=True,
  ),
)
SHOWN = ' r* is shown for reference and is not used for selection.'
AUROC = Curve(
  'reported/auroc', 'irl_auroc', 'IRL: AUROC against r*', 'AUROC against r*', note=SHOWN
)
SPEARMAN = Curve(  # where r* is a score without a toxic class
  'reported/spearman',
  'irl_spearman',
  'IRL: Spearman with r*',
  'Spearman correlation with r*',
  note=SHOWN,
)


def scores(inputs: Inputs, stage: str) -> Drawing | str:
  """Draws the reward that PPO maximised over its steps, and r* below it if it was logged."""
  rows = inputs.stage_log(stage)
  steps, values = series(rows, 'objective/scores')
  if len(steps) < 2:
    return f'the log has fewer than two steps of {stage}'
  on_true = stage == 'rlhf'
  true_steps, true_values = series(rows, 'reported/true_reward')
  both = not on_true and len(true_steps) > 1
  figure, axes = drawing.subplots(drawing.HEIGHT, 1 + both, sharex=True)
  axes = np.atleast_1d(axes)
  axes[0].plot(steps, values, color=STAGES.get(stage, drawing.RECOVERED))
  axes[0].set_ylabel('mean r*' if on_true else 'mean R̂')
  numbers = {'step': steps, 'score': values}
  in_words = f'{"true" if on_true else "recovered"} reward {from_to(values)}'
  flaw = ''
  if both:
    axes[1].plot(true_steps, true_values, color=drawing.TRUE)
    axes[1].set_ylabel('mean r*')
    numbers |= {'true_step': true_steps, 'true_reward': true_values}
    in_words += f'; true reward {from_to(true_values)}'
    flaw = ' If the upper curve rises while the lower falls, PPO exploits a flaw in R̂.'
  axes[-1].set_xlabel('PPO step (rollouts)')
  axes[-1].xaxis.get_major_locator().set_params(integer=True)
  return Drawing(
    f'{stage}_scores',
    'Reward over RLHF' + (' on R̂' if stage == 'rerlhf' else ''),
    f'Over {count(len(rows), "step")}: {in_words}.',
    'The reward that PPO maximises, averaged over each rollout (minus that of the original text '
    f'if config.ppo.subtract_original is on).{flaw}',
    figure,
    numbers,
  )


def from_to(values: Sequence[float]) -> str:
  """Writes the first and the last value of a curve."""
  return f'from {number(values[0], 2)} at the first step to {number(values[-1], 2)} at the last'


TRUNCATED = (
  'PPO sampled with top-k or top-p, so the mean log-ratio of its samples is not the KL; the table '
  'below has the KL. '
)


def kl(inputs: Inputs) -> Drawing | str:
  """Draws how far PPO moved each policy from its start."""
  curves = {stage: series(inputs.stage_log(stage), 'objective/kl') for stage in STAGES}
  curves = {stage: curve for stage, curve in curves.items() if len(curve[0]) > 1}
  if not curves:
    return 'the log has fewer than two steps of rlhf and of rerlhf'
  figure, axes = drawing.subplots()
  for stage, (steps, values) in curves.items():
    axes.plot(steps, values, color=STAGES[stage], linestyle='-' if stage == 'rerlhf' else '--')
  label_above(axes, list(curves))
  axes.xaxis.get_major_locator().set_params(integer=True)
  sampling = inputs.config.get('sampling') or {}
  truncated = bool(sampling.get('top_k')) or sampling.get('top_p', 1.0) < 1
  what = 'log-ratio to the starting policy' if truncated else 'KL from the starting policy'
  axes.set(xlabel='PPO step (rollouts)', ylabel=f'{what}, nats per response')
  cheap = 'A high reward' if inputs.summary.truth.is_score else 'Low toxicity'
  in_words = '; '.join(
    f'{policy_name(stage)} {number(values[-1], 1)} nats at the last step'
    for stage, (_, values) in curves.items()
  )
  return Drawing(
    'policy_kl',
    'How far the policies moved',
    f'{what} over PPO steps: {in_words}.',
    f'{TRUNCATED if truncated else ""}{cheap} at a large KL can mean a broken model: compare it '
    'with the table below.',
    figure,
    {stage: {'step': steps, 'kl': values} for stage, (steps, values) in curves.items()},
  )


def label_above(axes: 'Axes', stages: Sequence[str]) -> None:
  """Labels the curves above the axes, so that no curve crosses a label."""
  names = {'rlhf': '- -  on the true reward', 'rerlhf': '—  on the recovered reward'}
  for line, stage in enumerate(reversed(stages)):
    axes.annotate(
      names[stage],
      (0, 1),
      xycoords='axes fraction',
      xytext=(0, 4 + 11 * line),
      textcoords='offset points',
      color=STAGES[stage],
    )


def against_truth(inputs: Inputs) -> Drawing | str:
  """Draws how well the seeds agreed with r* over their training."""
  return irl(inputs, SPEARMAN if inputs.summary.truth.is_score else AUROC)


def irl(inputs: Inputs, curve: Curve) -> Drawing | str:
  """Draws one metric of every seed over the steps of its training."""
  stages = sorted({row['stage'] for row in inputs.log if str(row['stage']).startswith('irl/seed_')})
  curves = {stage: series(inputs.stage_log(stage), curve.metric) for stage in stages}
  curves = {stage: points for stage, points in curves.items() if len(points[0]) > 1}
  if not curves:
    return f'the log has fewer than two values of {curve.metric} for each seed'
  scale = 100 if curve.percent else 1
  figure, axes = drawing.subplots()
  for steps, values in curves.values():
    axes.plot(
      steps,
      scale * np.array(values),
      '-o',
      color=drawing.RECOVERED,
      linewidth=1,
      markersize=2.5,
      alpha=0.8,
    )
  seeds = count(len(curves), 'seed')
  last = spread([scale * values[-1] for _, values in curves.values()], 2)
  axes.set(xlabel='IRL step (updates)', ylabel=curve.label)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_title(f'{seeds}, last: {last}', loc='left', color=drawing.RECOVERED)
  return Drawing(
    curve.file,
    curve.title,
    f'{curve.label} of {seeds} over training, last: {last}.',
    f'One line per seed.{curve.note}',
    figure,
    {stage: {'step': steps, curve.metric: values} for stage, (steps, values) in curves.items()},
  )


def series(rows: Sequence[LogRow], metric: str) -> tuple[list[float], list[float]]:
  """Returns the steps and values of a metric, averaged over neighbours to at most POINTS."""
  points = np.array(
    [(row['step'], row[metric]) for row in rows if isinstance(row.get(metric), (int, float))], float
  )
  if not len(points):
    return [], []
  blocks = np.array_split(points, min(POINTS, len(points)))
  steps, values = np.array([block.mean(axis=0) for block in blocks]).T
  return steps.tolist(), values.tolist()
