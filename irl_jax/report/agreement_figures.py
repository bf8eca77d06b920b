"""Drawings of R̂ against r* on held-out texts; each function returns one, or why there is none.

Blue is for the recovered reward, purple for the true reward, orange for toxic texts and errors,
grey for the rest. Seeds are exchangeable: they share a colour and one label.
Dims: N texts, K seeds.
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

import numpy as np

from irl_jax.report import drawing
from irl_jax.report.drawing import Drawing
from irl_jax.report.inputs import Inputs
from irl_jax.report.summary import Calibration
from irl_jax.report.wording import count
from irl_jax.report.wording import number
from irl_jax.report.wording import SPACE
from irl_jax.report.wording import spread
from irl_jax.runtime import records

if TYPE_CHECKING:
  from matplotlib.axes import Axes

POINTS = 1500  # texts that a scatter shows at most
CURVE_POINTS = 150  # points of one ROC curve
BINS = 40  # bins of the histogram
NO_TEXTS = 'the run has no scored texts (evaluation/texts.jsonl)'
NO_REFERENCE = 'the texts have neither a true reward nor labels of both classes'


def scatter(inputs: Inputs) -> Drawing | str:
  """Draws R̂ (mean of seeds) against r*, one point per text."""
  true = inputs.true_rewards()
  if true is None:
    return 'the texts have no true reward' if inputs.texts else NO_TEXTS
  recovered = inputs.rewards().mean(axis=1)
  shown = np.arange(0, len(true), -(-len(true) // POINTS))
  is_score = inputs.summary.truth.is_score
  differ = ((true < 0) != (recovered < 0)) & (not is_score)
  figure, axes = drawing.subplots()
  for mask, colour, marker in ((~differ, drawing.RECOVERED, 'o'), (differ, drawing.TOXIC, 'D')):
    rows = shown[mask[shown]]
    axes.plot(
      true[rows], recovered[rows], marker, color=colour, markersize=2, alpha=0.45, markeredgewidth=0
    )
  if not is_score:
    axes.axhline(0, color=drawing.MUTED, linewidth=0.6)
    axes.axvline(0, color=drawing.MUTED, linewidth=0.6)
  margin = 0.14 * max(np.ptp(recovered), 1e-6)
  axes.set(
    xlabel='true reward r*' + ('' if is_score else ', logits (below 0: toxic)'),
    ylabel='recovered reward R̂, mean of seeds',
    ylim=(recovered.min() - margin, recovered.max() + margin),
  )
  counts = {} if is_score else label_quadrants(axes, true, recovered)
  in_words = '; '.join(f'{label}: {n:,}' for label, n in counts.items())
  caption = (
    'The numbers count the texts of each quarter: blue if both rewards have the same sign, orange '
    'if not.'
  )
  fewer = f' {len(shown):,} of them are drawn.' if len(shown) < len(true) else ''
  return Drawing(
    'scatter',
    'R̂ against r*',
    f'The recovered reward against the true reward, for {count(len(true), "text")}. '
    f'{in_words}'.rstrip(' .')
    + '.',
    ('Each point is a text.' if is_score else caption) + fewer,
    figure,
    {
      'true_reward': true[shown].tolist(),
      'recovered_reward': recovered[shown].tolist(),
      'counts': counts,
    },
  )


def label_quadrants(axes: 'Axes', true: np.ndarray, recovered: np.ndarray) -> dict[str, int]:
  """Writes the number of texts in each quarter into its corner, and returns these numbers."""
  counts = {}
  for column, x, of_column, side in (
    ('toxic', 0.02, true < 0, 'left'),
    ('harmless', 0.98, true >= 0, 'right'),
  ):
    for row, y, of_row in (('toxic', 0.02, recovered < 0), ('harmless', 0.93, recovered >= 0)):
      counts[f'true reward {column}, recovered {row}'] = n = int(np.sum(of_column & of_row))
      axes.text(
        x,
        y,
        f'{n:,}',
        transform=axes.transAxes,
        ha=side,
        fontweight='bold',
        color=drawing.RECOVERED if column == row else drawing.TOXIC,
      )
  return counts


class Class(NamedTuple):
  """The texts of one class in the histogram."""

  label: str
  mask: np.ndarray  # [N] bool
  colour: str
  line: str
  side: str  # of its label

  def draw(self, axes: 'Axes', counts: np.ndarray, edges: np.ndarray) -> None:
    """Draws the class's histogram and its label."""
    axes.stairs(counts, edges, fill=True, color=self.colour, alpha=0.28, linewidth=0)
    axes.stairs(counts, edges, color=self.colour, linewidth=1, linestyle=self.line)
    axes.text(
      0.02 if self.side == 'left' else 0.98,
      0.98,
      f'{self.label}: {int(self.mask.sum()):,}',
      transform=axes.transAxes,
      ha=self.side,
      va='top',
      color=self.colour,
    )


def distribution(inputs: Inputs) -> Drawing | str:
  """Draws a histogram of R̂ (mean of seeds) by class, with 0 and its interval."""
  if not inputs.texts:
    return NO_TEXTS
  recovered, known = inputs.rewards().mean(axis=1), inputs.toxic()
  if known is None:
    everything = np.ones(len(recovered), bool)
    classes = [Class('all texts', everything, drawing.PLAIN, '-', 'right')]
  else:
    classes = [
      Class('harmless', ~known[0], drawing.RECOVERED, '-', 'right'),
      Class('toxic', known[0], drawing.TOXIC, '--', 'left'),
    ]
  edges = np.linspace(recovered.min(), recovered.max() + 1e-9, BINS + 1)
  figure, axes = drawing.subplots()
  bounds = zero_interval(inputs)
  numbers: dict[str, Any] = {'edges': edges.tolist(), 'zero_interval': bounds}
  for class_ in classes:
    counts = np.histogram(recovered[class_.mask], edges)[0]
    class_.draw(axes, counts, edges)
    numbers[class_.label] = counts.tolist()
  axes.axvline(0, color=drawing.INK, linewidth=0.9)
  axes.set(
    xlabel='recovered reward R̂, mean of seeds', ylabel='texts', ylim=(0, axes.get_ylim()[1] * 1.12)
  )
  band = ''
  if bounds:
    axes.axvspan(*bounds, color=drawing.MUTED, alpha=0.25, linewidth=0)
    ends = f'{number(bounds[0])} to {number(bounds[1])}'
    band = f' The band is the 95{SPACE}% interval of 0 over all seeds, {ends}.'
  means = ', '.join(
    f'{class_.label} mean {number(float(recovered[class_.mask].mean()))}'
    for class_ in classes
    if class_.mask.any()
  )
  by_whom = f'Classes by {known[1]}. ' if known else ''
  return Drawing(
    'distribution',
    'Where 0 lies',
    f'Histogram of the recovered reward of {count(len(recovered), "text")}: {means}.{band}',
    f'{by_whom}0 was chosen without these texts, and without labels.{band}',
    figure,
    numbers,
  )


def zero_interval(inputs: Inputs) -> list[float] | None:
  """Returns the 95 % interval of 0 over all seeds, on the scale of the centred rewards."""
  ends: list[float] = []
  for seed in inputs.recovery.seeds:
    calibration = seed.calibration or Calibration()
    if calibration.zero is None or calibration.zero_interval is None:
      return None
    ends += [end - calibration.zero for end in calibration.zero_interval]
  return [min(ends), max(ends)] if ends else None


def roc(inputs: Inputs) -> Drawing | str:
  """Draws the ROC curve of every seed: harmless texts ranked above toxic ones."""
  known = inputs.toxic()
  if known is None or known[0].all() or not known[0].any():
    return NO_REFERENCE if inputs.texts else NO_TEXTS
  toxic, whose = known
  figure, axes = drawing.subplots()
  axes.plot([0, 100], [0, 100], color=drawing.MUTED, linewidth=0.8, linestyle=':')
  axes.annotate('chance', (62, 58), color=drawing.MUTED, va='top')
  curves, areas = {}, []
  for seed, scores in enumerate(inputs.rewards().T):
    toxic_passed, harmless_passed, area = roc_curve(scores, toxic)
    axes.plot(
      100 * toxic_passed, 100 * harmless_passed, color=drawing.RECOVERED, linewidth=1, alpha=0.8
    )
    areas.append(area)
    curves[f'seed_{seed}'] = {
      'toxic_passed': toxic_passed.tolist(),
      'harmless_passed': harmless_passed.tolist(),
      'auroc': area,
    }
  label = f'{count(len(areas), "seed")}\nAUROC {spread(areas)}'
  axes.text(97, 8, label, ha='right', color=drawing.RECOVERED)
  axes.set(
    xlim=(0, 100),
    ylim=(0, 101),
    xlabel='toxic texts above the threshold, %',
    ylabel='harmless texts above it, %',
  )
  return Drawing(
    'roc',
    'ROC of each seed',
    f'ROC curves of {count(len(areas), "seed")}: AUROC {spread(areas)}.',
    'Each threshold on R̂ lets a share of the harmless and of the toxic texts pass (toxic by '
    f'{whose}). A curve nearer to the upper left is better.',
    figure,
    curves,
  )


def roc_curve(scores: np.ndarray, toxic: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
  """Computes a ROC curve of scores [N] and toxic [N] bool.

  Returns:
    The shares of toxic and of harmless texts at or above every threshold, thinned to CURVE_POINTS,
    and the area under the whole curve.
  """
  order = np.argsort(-scores, kind='stable')
  # Tied texts pass together: a threshold lies behind the last of each group.
  last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
  toxic_passed, harmless_passed = (
    np.append(0, np.cumsum(mask[order])[last] / mask.sum()) for mask in (toxic, ~toxic)
  )
  area = float(np.trapezoid(harmless_passed, toxic_passed))
  rows = np.unique(np.linspace(0, len(toxic_passed) - 1, CURVE_POINTS).round().astype(int))
  return toxic_passed[rows], harmless_passed[rows], area


def reliability(inputs: Inputs) -> Drawing | str:
  """Draws every seed's reliability curve: predicted against observed share of harmless texts."""
  calibrations = [seed.calibration or Calibration() for seed in inputs.recovery.seeds]
  curves = {
    f'seed_{seed}': calibration.reliability
    for seed, calibration in enumerate(calibrations)
    if calibration.reliability
  }
  if not curves:
    return no_probabilities(calibrations)
  figure, axes = drawing.subplots()
  axes.plot([0, 100], [0, 100], color=drawing.MUTED, linewidth=0.8, linestyle=':')
  # In the corner that curves rarely reach: high predictions, few harmless texts.
  axes.text(97, 4, '· · ·  as predicted', ha='right', color=drawing.MUTED)
  for bins in curves.values():
    draw_bins(axes, bins, linewidth=1, alpha=0.5)
  bold = ''
  ensemble = (inputs.recovery.ensemble.calibration or Calibration()).reliability
  if ensemble and len(curves) > 1:
    curves['mean of seeds'] = ensemble
    draw_bins(axes, ensemble, linewidth=1.6)
    draw_intervals(axes, ensemble)
    bold = f' Bold: the mean of the seeds as one reward, with 95{SPACE}% intervals.'
  errors = [calibration.ece for calibration in calibrations if calibration.ece is not None]
  seeds = count(len(calibrations), 'seed')
  label = f'{seeds}\nECE {spread(errors)}' if errors else f'{seeds}\nno calibration error'
  axes.text(3, 98, label, va='top', color=drawing.RECOVERED)
  axes.set(xlim=(0, 100), ylim=(0, 101), xlabel='predicted to be harmless, %', ylabel='harmless, %')
  in_words = f'expected calibration error {spread(errors)}' if errors else 'no calibration error'
  return Drawing(
    'reliability',
    'Reliability of probabilities',
    f'Reliability of {seeds}: {in_words}.',
    'The predicted probability that a text is harmless (Platt), against the share of harmless '
    f'texts among those with that probability.{bold}',
    figure,
    curves,
  )


def no_probabilities(calibrations: Sequence[Calibration]) -> str:
  """Returns the first reason for which a seed has no reliability curve."""
  reasons = (
    calibration.why.get(key) for calibration in calibrations for key in ('reliability', 'platt')
  )
  return next(filter(None, reasons), 'no probabilities were fitted, because there are no labels')


def draw_bins(axes: 'Axes', bins: Sequence[records.ReliabilityBin], **line: Any) -> None:
  """Draws one reliability curve."""
  axes.plot(
    [100 * bin_['predicted'] for bin_ in bins],
    [100 * bin_['observed'] for bin_ in bins],
    '-o',
    color=drawing.RECOVERED,
    markersize=2.5,
    **line,
  )


def draw_intervals(axes: 'Axes', bins: Sequence[records.ReliabilityBin]) -> None:
  """Draws the intervals of a reliability curve, if it has them."""
  for bin_ in bins:
    if bin_.get('observed_low') is not None:
      axes.plot(
        [100 * bin_['predicted']] * 2,
        [100 * bin_['observed_low'], 100 * bin_['observed_high']],
        color=drawing.RECOVERED,
        linewidth=0.8,
      )
