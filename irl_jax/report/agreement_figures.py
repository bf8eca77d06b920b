"""R̂ against r* on held-out texts; each function draws one figure, or says in a str why it cannot.

Blue is the recovered reward, purple what comes of the true one, orange what is toxic or wrong, grey the rest. Seeds are
exchangeable: they share a colour and one label. Dims: N texts, K seeds.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from irl_jax.report import look
from irl_jax.report.inputs import Inputs
from irl_jax.report.look import Drawing
from irl_jax.report.lookup import zero_bounds
from irl_jax.report.wording import count
from irl_jax.report.wording import number

POINTS = 1500  # texts that a scatter shows at most
CURVE_POINTS = 150  # of one ROC curve
BINS = 40  # of the histogram
NO_TEXTS = 'the run has no scored texts (evaluation/texts.jsonl)'
NO_REFERENCE = 'the texts have neither a true reward nor labels of both classes'


def scatter(inputs: Inputs) -> Drawing | str:
  """R̂ (mean of seeds) against r*, one point a text."""
  true = inputs.true_rewards()
  if true is None:
    return 'the texts have no true reward' if inputs.texts else NO_TEXTS
  recovered = inputs.rewards().mean(axis=1)
  shown = np.arange(0, len(true), -(-len(true) // POINTS))
  apart = (true < 0) != (recovered < 0)
  figure, axes = look.axes()
  for where, colour, marker in ((~apart, look.RECOVERED, 'o'), (apart, look.TOXIC, 'D')):
    rows = shown[where[shown]]
    axes.plot(
      true[rows], recovered[rows], marker, color=colour, markersize=2, alpha=0.45, markeredgewidth=0
    )
  axes.axhline(0, color=look.MUTED, linewidth=0.6)
  axes.axvline(0, color=look.MUTED, linewidth=0.6)
  margin = 0.14 * max(np.ptp(recovered), 1e-6)
  axes.set(
    xlabel='true reward r*, logits (below 0: toxic)',
    ylabel='recovered reward R̂, mean of seeds',
    ylim=(recovered.min() - margin, recovered.max() + margin),
  )
  counts = count_quadrants(axes, true, recovered)
  fewer = f' A point for {len(shown):,} of them.' if len(shown) < len(true) else ''
  said = '; '.join(f'{label}: {n:,}' for label, n in counts.items())
  return Drawing(
    'scatter',
    'R̂ against r*',
    f'The recovered against the true reward of {count(len(true), "text")}. {said}.',
    f'How many texts each quarter holds: blue where both have the same sign, orange where not.{fewer}',
    figure,
    {
      'true_reward': true[shown].tolist(),
      'recovered_reward': recovered[shown].tolist(),
      'counts': counts,
    },
  )


def count_quadrants(axes, true: np.ndarray, recovered: np.ndarray) -> dict[str, int]:
  """Writes into each corner how many texts its quarter holds."""
  counts = {}
  for column, x, where, side in (
    ('toxic', 0.02, true < 0, 'left'),
    ('harmless', 0.98, true >= 0, 'right'),
  ):
    for row, y, called in (('toxic', 0.02, recovered < 0), ('harmless', 0.93, recovered >= 0)):
      counts[f'true reward {column}, recovered {row}'] = n = int(np.sum(where & called))
      axes.text(
        x,
        y,
        f'{n:,}',
        transform=axes.transAxes,
        ha=side,
        fontweight='bold',
        color=look.RECOVERED if column == row else look.TOXIC,
      )
  return counts


def distribution(inputs: Inputs) -> Drawing | str:
  """Histogram of R̂ (mean of seeds) by class, and where 0 lies."""
  if not inputs.texts:
    return NO_TEXTS
  recovered, known = inputs.rewards().mean(axis=1), inputs.toxic()
  groups = (
    [('all texts', np.ones(len(recovered), bool), look.PLAIN, '-', 0.98, 'right')]
    if known is None
    else [
      ('harmless', ~known[0], look.RECOVERED, '-', 0.98, 'right'),
      ('toxic', known[0], look.TOXIC, '--', 0.02, 'left'),
    ]
  )
  edges = np.linspace(recovered.min(), recovered.max() + 1e-9, BINS + 1)
  figure, axes = look.axes()
  numbers = {'edges': edges.tolist(), 'zero_interval': zero_interval(inputs)}
  for label, mask, colour, line, x, side in groups:
    counts = np.histogram(recovered[mask], edges)[0]
    axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
    axes.stairs(counts, edges, color=colour, linewidth=1, linestyle=line)
    axes.text(
      x,
      0.98,
      f'{label}: {int(mask.sum()):,}',
      transform=axes.transAxes,
      ha=side,
      va='top',
      color=colour,
    )
    numbers[label] = counts.tolist()
  axes.axvline(0, color=look.INK, linewidth=0.9)
  axes.set(
    xlabel='recovered reward R̂, mean of seeds', ylabel='texts', ylim=(0, axes.get_ylim()[1] * 1.12)
  )
  band = ''
  if bounds := numbers['zero_interval']:
    axes.axvspan(*bounds, color=look.MUTED, alpha=0.25, linewidth=0)
    band = f' The band is the 95\u00a0% interval of 0 over all seeds, {number(bounds[0])} to {number(bounds[1])}.'
  means = ', '.join(
    f'{label} mean {number(float(recovered[mask].mean()))}'
    for label, mask, *_ in groups
    if mask.any()
  )
  return Drawing(
    'distribution',
    'Where 0 lies',
    f'Histogram of the recovered reward of {count(len(recovered), "text")}: {means}.{band}',
    (f'Classes by {known[1]}. ' if known else '')
    + f'0 was chosen without these texts, and without labels.{band}',
    figure,
    numbers,
  )


def zero_interval(inputs: Inputs) -> list[float] | None:
  """The 95 % interval of 0 over all seeds, on the scale of the centred rewards."""
  ends = []
  for seed in inputs.irl.get('seeds') or []:
    calibration = seed.get('calibration') or {}
    low, high = zero_bounds(calibration)
    if None in (low, high, calibration.get('zero')):
      return None
    ends += [low - calibration['zero'], high - calibration['zero']]
  return [min(ends), max(ends)] if ends else None


def roc(inputs: Inputs) -> Drawing | str:
  """The ROC curve of every seed: harmless texts ranked above toxic ones."""
  known = inputs.toxic()
  if known is None or known[0].all() or not known[0].any():
    return NO_REFERENCE if inputs.texts else NO_TEXTS
  toxic, whose = known
  figure, axes = look.axes()
  axes.plot([0, 100], [0, 100], color=look.MUTED, linewidth=0.8, linestyle=':')
  axes.annotate('chance', (62, 58), color=look.MUTED, va='top')
  curves = {}
  for seed, scores in enumerate(inputs.rewards().T):
    passed, found, area = roc_curve(scores, toxic)
    axes.plot(100 * passed, 100 * found, color=look.RECOVERED, linewidth=1, alpha=0.8)
    curves[f'seed_{seed}'] = {
      'toxic_passed': passed.tolist(),
      'harmless_passed': found.tolist(),
      'auroc': area,
    }
  spread = spread_of([curve['auroc'] for curve in curves.values()])
  axes.text(
    97, 8, f'{count(len(curves), "seed")}\nAUROC {spread}', ha='right', color=look.RECOVERED
  )
  axes.set(
    xlim=(0, 100),
    ylim=(0, 101),
    xlabel='toxic texts above the threshold, %',
    ylabel='harmless texts above it, %',
  )
  return Drawing(
    'roc',
    'ROC of each seed',
    f'ROC curves of {count(len(curves), "seed")}: AUROC {spread}.',
    f'Each threshold on R̂ lets through a share of the harmless and of the toxic texts, by {whose}; the '
    'further up and left, the better.',
    figure,
    curves,
  )


def roc_curve(scores: np.ndarray, toxic: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
  """The shares of toxic and of harmless texts at or above every threshold, thinned, and the area before thinning."""
  order = np.argsort(-scores, kind='stable')
  last = np.append(
    np.flatnonzero(np.diff(scores[order])), len(scores) - 1
  )  # tied texts pass together
  passed, found = (
    np.append(0, np.cumsum(mask[order])[last] / mask.sum()) for mask in (toxic, ~toxic)
  )
  area = float(np.trapezoid(found, passed))
  rows = np.unique(np.linspace(0, len(passed) - 1, CURVE_POINTS).round().astype(int))
  return passed[rows], found[rows], area


def spread_of(values: Sequence[float]) -> str:
  """The range of a figure over seeds."""
  return (
    number(values[0]) if len(values) == 1 else f'{number(min(values))} to {number(max(values))}'
  )


def reliability(inputs: Inputs) -> Drawing | str:
  """The reliability curve of every seed: predicted against observed share of harmless texts."""
  found = {
    f'seed_{seed}': figures.get('calibration') or {}
    for seed, figures in enumerate(inputs.irl.get('seeds') or [])
  }
  curves = {
    seed: calibration['reliability']
    for seed, calibration in found.items()
    if calibration.get('reliability')
  }
  if not curves:
    reasons = (
      (calibration.get('why') or {}).get(key)
      for calibration in found.values()
      for key in ('reliability', 'platt')
    )
    return next(filter(None, reasons), 'no probabilities were fitted: that needs labels')
  figure, axes = look.axes()
  axes.plot([0, 100], [0, 100], color=look.MUTED, linewidth=0.8, linestyle=':')
  axes.annotate('as predicted', (58, 54), color=look.MUTED, va='top')
  for bins in curves.values():
    draw_bins(axes, bins, linewidth=1, alpha=0.5)
  both = (inputs.irl.get('ensemble') or {}).get('calibration') or {}
  if both.get('reliability') and len(curves) > 1:
    curves['mean of seeds'] = both['reliability']
    draw_bins(axes, both['reliability'], linewidth=1.6)
    draw_intervals(axes, both['reliability'])
  errors = [
    calibration['ece'] for calibration in found.values() if calibration.get('ece') is not None
  ]
  said = f'expected calibration error {spread_of(errors)}' if errors else 'no calibration error'
  axes.text(
    3,
    98,
    f'{count(len(found), "seed")}\n{said.replace("expected calibration error", "ECE")}',
    va='top',
    color=look.RECOVERED,
  )
  axes.set(xlim=(0, 100), ylim=(0, 101), xlabel='predicted to be harmless, %', ylabel='harmless, %')
  bold = (
    ' Bold: the mean of the seeds as one reward, with 95\u00a0% intervals.'
    if 'mean of seeds' in curves
    else ''
  )
  return Drawing(
    'reliability',
    'Reliability of probabilities',
    f'Reliability of {count(len(found), "seed")}: {said}.',
    'The probability that a text is harmless (Platt), against how often texts of that probability are.'
    + bold,
    figure,
    curves,
  )


def draw_bins(axes, bins: Sequence[Mapping[str, Any]], **line: Any) -> None:
  """One reliability curve."""
  predicted, observed = (
    100 * np.array([bin_[key] for bin_ in bins]) for key in ('predicted', 'observed')
  )
  axes.plot(predicted, observed, '-o', color=look.RECOVERED, markersize=2.5, **line)


def draw_intervals(axes, bins: Sequence[Mapping[str, Any]]) -> None:
  """The intervals of a reliability curve, where it has them."""
  for bin_ in bins:
    if bin_.get('observed_low') is not None:
      axes.plot(
        [100 * bin_['predicted']] * 2,
        [100 * bin_['observed_low'], 100 * bin_['observed_high']],
        color=look.RECOVERED,
        linewidth=0.8,
      )
