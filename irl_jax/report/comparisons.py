"""Policies, rewards and seeds beside each other; each function draws one figure, or says in a str why it cannot."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from irl_jax.report import look
from irl_jax.report.inputs import Inputs
from irl_jax.report.look import Drawing
from irl_jax.report.lookup import auroc
from irl_jax.report.lookup import interval
from irl_jax.report.lookup import policies
from irl_jax.report.lookup import reference_section
from irl_jax.report.lookup import REFERENCES
from irl_jax.report.wording import count
from irl_jax.report.wording import name
from irl_jax.report.wording import number
from irl_jax.report.wording import percent
from irl_jax.report.wording import POLICIES
from irl_jax.report.wording import share

DARK, PALE = '#005f99', '#e9eef3'  # of the heat map, on any background
ON_DARK, ON_PALE = '#fefefe', '#1c2127'


@dataclasses.dataclass(frozen=True)
class Row:
  """A reward in the comparison: its AUROC, interval and mark."""

  label: str
  value: float
  interval: list[float] | None
  colour: str
  marker: str


def toxicity(inputs: Inputs) -> Drawing | str:
  """Share of toxic completions at the start and after each PPO, with Wilson intervals."""
  rates = measured(inputs.summary)
  if not rates:
    return 'no policy was measured (stages rlhf and rerlhf)'
  figure, axes = look.axes(0.85 + 0.42 * len(rates))
  for height, (label, rate) in enumerate(reversed(rates.items())):
    colour = {'start': look.PLAIN, POLICIES['rlhf']: look.TRUE}.get(label, look.RECOVERED)
    axes.plot([100 * rate['low'], 100 * rate['high']], [height] * 2, color=colour, linewidth=2)
    axes.plot([100 * rate['rate']], [height], 'o', color=colour)
    axes.annotate(
      f'{label}: {percent(rate["rate"])}', (0, height), xytext=(2, 6), textcoords='offset points'
    )
  axes.set(
    ylim=(-0.5, len(rates) - 0.3),
    yticks=[],
    xlabel='toxic completions, %, with 95\u00a0% interval',
    xlim=(0, 108 * max(max(rate['high'] for rate in rates.values()), 0.01)),
  )
  axes.spines['left'].set_visible(False)
  said = '; '.join(f'{label} {share(rate)}' for label, rate in rates.items())
  n = next(iter(rates.values()))['n']
  return Drawing(
    'toxicity',
    'Toxic completions',
    f'Share of toxic completions with 95\u00a0% intervals: {said}.',
    f'One sampled completion of each of {count(n, "held-out prompt")}; toxic by the true reward.',
    figure,
    rates,
  )


def measured(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
  """The toxicity of every policy by its label; a start that stages share is there once."""
  rates = {}
  for stage, figures in policies(summary).items():
    before, after = ((figures[when] or {}).get('toxicity') or {} for when in ('before', 'after'))
    if before.get('rate') is not None and before not in rates.values():
      rates['start' if not rates else f'start of {name(stage)}'] = before
    if after.get('rate') is not None:
      rates[POLICIES.get(stage, name(stage))] = after
  return rates


def seeds(inputs: Inputs) -> Drawing | str:
  """Heat map of the Spearman correlation of every two rewards."""
  table = inputs.irl.get('identifiability') or {}
  names, values = [name(label) for label in table.get('names') or []], table.get('spearman')
  if not values or len(names) < 2:
    return (
      'one reward has nothing to be compared with'
      if inputs.seeds == 1
      else 'no two rewards were compared'
    )
  from matplotlib.patches import Rectangle

  size = len(names)
  figure, axes = look.axes(min(look.WIDTH, 1.0 + 0.42 * size))
  for row, line in enumerate(values):
    for column, value in enumerate(line):
      strength = (
        0.0 if value is None else max(0.0, value) ** 3
      )  # most lie near 1: their differences must show
      axes.add_patch(Rectangle((column, row), 0.96, 0.93, facecolor=blend(strength), linewidth=0))
      axes.text(
        column + 0.48,
        row + 0.47,
        number(value, 2),
        ha='center',
        va='center',
        color=ON_DARK if strength > 0.5 else ON_PALE,
      )
  long = max(map(len, names)) > 8
  axes.set(xlim=(0, size), ylim=(size, 0), yticks=np.arange(size) + 0.47, yticklabels=names)
  axes.set_xticks(
    np.arange(size) + 0.48, names, rotation=30 if long else 0, ha='right' if long else 'center'
  )
  axes.grid(False)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  others = [value for row, line in enumerate(values) for value in line[:row] if value is not None]
  said = f'{number(min(others))} to {number(max(others))}' if others else 'none could be computed'
  return Drawing(
    'seeds',
    'Spearman of every two rewards',
    f'Spearman correlations of {count(size, "reward")}: {said}.',
    'On the held-out texts. 1: the same order; 0: unrelated.',
    figure,
    table,
  )


def blend(strength: float) -> str:
  """A colour between PALE (0) and DARK (1)."""
  low, high = ([int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (PALE, DARK))
  return '#' + ''.join(f'{round(a + strength * (b - a)):02x}' for a, b in zip(low, high))


def baselines(inputs: Inputs) -> Drawing | str:
  """AUROC of the ceiling, the seeds, their mean, and every baseline."""
  section = reference_section(inputs.irl)
  if section is None:
    return 'rewards are compared by a true reward or labels, and there are none'
  rows = compared(inputs.irl, section)
  figure, axes = look.axes(0.75 + 0.21 * len(rows))
  axes.axvline(0.5, color=look.MUTED, linewidth=0.8, linestyle=':')
  for height, row in enumerate(reversed(rows)):
    if row.interval:
      axes.plot(row.interval, [height] * 2, color=row.colour, linewidth=1.5)
    axes.plot([row.value], [height], row.marker, color=row.colour)
    axes.annotate(
      number(row.value),
      (max([row.value, *(row.interval or [])]), height),
      xytext=(5, 0),
      textcoords='offset points',
      va='center',
      color=row.colour,
    )
  low = min(0.5, *(min([row.value, *(row.interval or [])]) for row in rows)) - 0.03
  axes.set(
    yticks=range(len(rows)),
    yticklabels=[row.label for row in reversed(rows)],
    ylim=(-0.6, len(rows) - 0.4),
    xlim=(low, 1.06),
    xticks=[tick / 10 for tick in range(11) if tick / 10 >= low],
    xlabel=f'AUROC against {REFERENCES[section][0]} (0.5: chance)',
  )
  axes.tick_params(axis='y', length=0)
  axes.grid(False, axis='y')
  axes.spines['left'].set_visible(False)
  said = ', '.join(f'{row.label} {number(row.value)}' for row in rows)
  return Drawing(
    'baselines',
    'Beside simpler rewards, and the ceiling',
    f'AUROC: {said}.',
    'How often a harmless text scores above a toxic one. Lines: 95\u00a0% intervals, where computed.'
    + about_ceiling(inputs.irl, section),
    figure,
    {row.label: {'auroc': row.value, 'interval': row.interval} for row in rows},
  )


def about_ceiling(irl: Mapping[str, Any], section: str) -> str:
  """What the ceiling was trained on; '' where there is none."""
  ceiling = (irl.get('baselines') or {}).get('ceiling') or {}
  if auroc(ceiling, section) is None:
    return ''
  return f' Ceiling: the same model trained on {ceiling.get("trained_on") or "true labels"}.'


def compared(irl: Mapping[str, Any], section: str) -> list[Row]:
  """Every reward that has an AUROC: the ceiling, the mean of the seeds, each seed, then the baselines, best first."""
  others = dict(irl.get('baselines') or {})
  groups = [
    ({'ceiling': others.pop('ceiling', None) or {}}, look.TRUE, 'D'),
    (
      {'mean of seeds': irl.get('ensemble') or {}}
      | {f'seed {seed}': figures for seed, figures in enumerate(irl.get('seeds') or [])},
      look.RECOVERED,
      'o',
    ),
    (
      {
        name(other): others[other]
        for other in sorted(others, key=lambda other: -(auroc(others[other], section) or 0.0))
      },
      look.PLAIN,
      's',
    ),
  ]
  return [
    Row(label, auroc(figures, section), interval(figures, section, 'auroc'), colour, marker)
    for named, colour, marker in groups
    for label, figures in named.items()
    if auroc(figures, section) is not None
  ]
