"""Drawings that compare policies, rewards and seeds; each function returns one, or says why not."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from irl_jax.report import drawing
from irl_jax.report.caveats import trained_ceiling
from irl_jax.report.drawing import Drawing
from irl_jax.report.inputs import Inputs
from irl_jax.report.summary import Interval
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import Reward
from irl_jax.report.summary import SetName
from irl_jax.report.summary import Share
from irl_jax.report.summary import Summary
from irl_jax.report.wording import baseline
from irl_jax.report.wording import count
from irl_jax.report.wording import name
from irl_jax.report.wording import number
from irl_jax.report.wording import percent
from irl_jax.report.wording import POLICIES
from irl_jax.report.wording import policy_name
from irl_jax.report.wording import reference as named
from irl_jax.report.wording import share
from irl_jax.report.wording import SPACE
from irl_jax.report.wording import yardstick

if TYPE_CHECKING:
  from matplotlib.axes import Axes

DARK, PALE = '#005f99', '#e9eef3'  # of the heat map, on any background
ON_DARK, ON_PALE = '#fefefe', '#1c2127'


def policies(inputs: Inputs) -> Drawing | str:
  """Draws what training changed: toxicity, or, if r* has no toxic class, how often it rose."""
  return win_rates(inputs) if inputs.summary.truth.is_score else toxicity(inputs)


def win_rates(inputs: Inputs) -> Drawing | str:
  """Draws the share of prompts whose true reward each PPO raised, with Wilson intervals."""
  shares = {
    policy_name(training.stage): training.win_rate
    for training in inputs.summary.trainings
    if training.win_rate.bounds
  }
  if not shares:
    return 'no policy was measured (stages rlhf and rerlhf)'
  figure, axes = drawing.subplots(0.85 + 0.42 * len(shares))
  axes.axvline(50, color=drawing.MUTED, linewidth=0.8, linestyle=':')
  draw_shares(axes, shares)
  axes.set(xlabel=f'prompts whose true reward rose, %, with 95{SPACE}% interval', xlim=(0, 108))
  in_words = '; '.join(f'{label} {share(won)}' for label, won in shares.items())
  prompts = count(next(iter(shares.values())).n, 'held-out prompt')
  return Drawing(
    'win_rates',
    'True reward after training',
    f'Share of prompts whose true reward rose, with 95{SPACE}% intervals: {in_words}.',
    f'The completion after training against the one before, for each of {prompts}; ties count '
    f'half. 50{SPACE}% is chance.',
    figure,
    {label: dataclasses.asdict(won) for label, won in shares.items()},
  )


def draw_shares(axes: 'Axes', shares: dict[str, Share]) -> float:
  """Draws shares with their intervals, the first on top, and returns the furthest end."""
  furthest = 0.01
  for height, (label, one) in enumerate(reversed(shares.items())):
    rate, low, high = one.bounds or (0.0, 0.0, 0.0)
    furthest = max(furthest, high)
    colour = {'start': drawing.PLAIN, POLICIES['rlhf']: drawing.TRUE}.get(label, drawing.RECOVERED)
    axes.plot([100 * low, 100 * high], [height] * 2, color=colour, linewidth=2)
    axes.plot([100 * rate], [height], 'o', color=colour)
    axes.annotate(
      f'{label}: {percent(rate)}', (0, height), xytext=(2, 6), textcoords='offset points'
    )
  axes.set(ylim=(-0.5, len(shares) - 0.3), yticks=[])
  axes.spines['left'].set_visible(False)
  return furthest


def toxicity(inputs: Inputs) -> Drawing | str:
  """Draws the share of toxic completions at the start and after each PPO, with Wilson intervals."""
  shares = toxicity_of_policies(inputs.summary)
  if not shares:
    return 'no policy was measured (stages rlhf and rerlhf)'
  figure, axes = drawing.subplots(0.85 + 0.42 * len(shares))
  furthest = draw_shares(axes, shares)
  axes.set(xlabel=f'toxic completions, %, with 95{SPACE}% interval', xlim=(0, 108 * furthest))
  in_words = '; '.join(f'{label} {share(toxic)}' for label, toxic in shares.items())
  prompts = count(next(iter(shares.values())).n, 'held-out prompt')
  return Drawing(
    'toxicity',
    'Toxic completions',
    f'Share of toxic completions with 95{SPACE}% intervals: {in_words}.',
    f'One sampled completion for each of {prompts}; toxic by the true reward.',
    figure,
    {label: dataclasses.asdict(toxic) for label, toxic in shares.items()},
  )


def toxicity_of_policies(summary: Summary) -> dict[str, Share]:
  """Returns the toxicity of every policy by its label; a shared starting policy is listed once."""
  shares: dict[str, Share] = {}
  for training in summary.trainings:
    before, after = training.before.toxicity, training.after.toxicity
    if before.bounds and before not in shares.values():
      shares['start' if not shares else f'start of {name(training.stage)}'] = before
    if after.bounds:
      shares[policy_name(training.stage)] = after
  return shares


def seeds(inputs: Inputs) -> Drawing | str:
  """Draws a heat map of the Spearman correlations between rewards."""
  alike = inputs.recovery.identifiability
  if not alike.spearman or len(alike.names) < 2:
    only_one = len(inputs.recovery.seeds) == 1
    return 'there is only one reward' if only_one else 'no two rewards were compared'
  names, size = [name(label) for label in alike.names], len(alike.names)
  figure, axes = drawing.subplots(min(drawing.WIDTH, 1.0 + 0.42 * size))
  for row, line in enumerate(alike.spearman):
    for column, value in enumerate(line):
      draw_cell(axes, row, column, value)
  long = max(map(len, names)) > 8
  axes.set(xlim=(0, size), ylim=(size, 0), yticks=np.arange(size) + 0.47, yticklabels=names)
  axes.set_xticks(
    np.arange(size) + 0.48, names, rotation=30 if long else 0, ha='right' if long else 'center'
  )
  axes.grid(False)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  below_diagonal = [value for row, line in enumerate(alike.spearman) for value in line[:row]]
  values = [value for value in below_diagonal if value is not None]
  in_words = (
    f'{number(min(values))} to {number(max(values))}' if values else 'none could be computed'
  )
  return Drawing(
    'seeds',
    'Spearman correlation of each pair of rewards',
    f'Spearman correlations of {count(size, "reward")}: {in_words}.',
    'On the held-out texts. 1: the same order; 0: unrelated.',
    figure,
    dataclasses.asdict(alike),
  )


def draw_cell(axes: 'Axes', row: int, column: int, value: float | None) -> None:
  """Draws one cell of the heat map."""
  from matplotlib.patches import Rectangle

  # Most values lie near 1: the cube makes their differences visible.
  strength = 0.0 if value is None else max(0.0, value) ** 3
  axes.add_patch(Rectangle((column, row), 0.96, 0.93, facecolor=blend(strength), linewidth=0))
  axes.text(
    column + 0.48,
    row + 0.47,
    number(value, 2),
    ha='center',
    va='center',
    color=ON_DARK if strength > 0.5 else ON_PALE,
  )


def blend(strength: float) -> str:
  """Returns a colour between PALE (0) and DARK (1)."""
  low, high = ([int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (PALE, DARK))
  return '#' + ''.join(f'{round(a + strength * (b - a)):02x}' for a, b in zip(low, high))


@dataclasses.dataclass(frozen=True)
class Row:
  """A reward in the comparison: its AUROC or correlation, interval and mark."""

  label: str
  value: float
  interval: Interval | None
  colour: str
  marker: str

  @property
  def ends(self) -> list[float]:
    """Everything drawn of it, on the axis."""
    return [self.value, *(self.interval or ())]


def baselines(inputs: Inputs) -> Drawing | str:
  """Draws the AUROC, or the correlation with a score, of ceiling, seeds, their mean, baselines."""
  reference = inputs.recovery.reference
  if reference is None:
    return 'comparing rewards needs a true reward or labels, and there are none'
  by = yardstick(inputs.recovery, reference)
  rows = compared_rewards(inputs.recovery, reference)
  figure, axes = drawing.subplots(0.75 + 0.21 * len(rows))
  axes.axvline(by.chance, color=drawing.MUTED, linewidth=0.8, linestyle=':')
  for height, row in enumerate(reversed(rows)):
    if row.interval:
      axes.plot(row.interval, [height] * 2, color=row.colour, linewidth=1.5)
    axes.plot([row.value], [height], row.marker, color=row.colour)
    axes.annotate(
      number(row.value),
      (max(row.ends), height),
      xytext=(5, 0),
      textcoords='offset points',
      va='center',
      color=row.colour,
    )
  low = min(by.chance, *(min(row.ends) for row in rows)) - 0.03
  axes.set(
    yticks=range(len(rows)),
    yticklabels=[row.label for row in reversed(rows)],
    ylim=(-0.6, len(rows) - 0.4),
    xlim=(low, 1.06),
    xticks=[tick / 10 for tick in range(-10, 11, by.ticks) if tick / 10 >= low],
    xlabel=f'{by.against} {named(reference, inputs.recovery.truth).who} ({by.chance:g}: chance)',
  )
  axes.tick_params(axis='y', length=0)
  axes.grid(False, axis='y')
  axes.spines['left'].set_visible(False)
  in_words = ', '.join(f'{row.label} {number(row.value)}' for row in rows)
  return Drawing(
    'baselines',
    'Compared with simpler rewards, and the ceiling',
    f'{by.name}: {in_words}.',
    f'{by.meaning} Lines: 95{SPACE}% intervals, if '
    f'computed.{describe_ceiling(inputs.recovery, reference)}',
    figure,
    {row.label: {by.metric: row.value, 'interval': row.interval} for row in rows},
  )


def describe_ceiling(recovery: Recovery, reference: SetName) -> str:
  """Says what the ceiling was trained on; '' if there is none."""
  if yardstick(recovery, reference).value(recovery.ceiling.on(reference)) is None:
    return ''
  return f' Ceiling: {trained_ceiling(recovery.ceiling)}.'


def compared_rewards(recovery: Recovery, reference: SetName) -> list[Row]:
  """Returns all rewards that can be compared: ceiling, mean of seeds, seeds, baselines by rank."""
  by = yardstick(recovery, reference)
  best_first = sorted(
    recovery.baselines.items(), key=lambda item: -(by.value(item[1].on(reference)) or 0.0)
  )
  rewards: list[tuple[str, Reward, str, str]] = [
    ('ceiling', recovery.ceiling, drawing.TRUE, 'D'),
    ('mean of seeds', recovery.ensemble, drawing.RECOVERED, 'o'),
    *((f'seed {index}', seed, drawing.RECOVERED, 'o') for index, seed in enumerate(recovery.seeds)),
    *((baseline(key, reward), reward, drawing.PLAIN, 's') for key, reward in best_first),
  ]
  rows = []
  for label, reward, colour, marker in rewards:
    agreement = reward.on(reference)
    if (value := by.value(agreement)) is not None:
      rows.append(Row(label, value, by.interval(agreement), colour, marker))
  return rows
