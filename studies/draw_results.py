"""Results of draws.py: how well rewards of several draws of PPO agree with r*, and with each other.

Dims: D draws, K seeds of each, N texts, R resamples, M pairs.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

Scores = dict[str, Any]
ByDraw = Sequence[Sequence[Scores]]  # [D][K]


@dataclasses.dataclass(frozen=True)
class Texts:
  """The texts that results are about."""

  texts: list[str]
  labels: Any  # [N] 1 toxic, 0 not
  true: Any  # [N] r*
  row: Any  # [N] the row that each text comes from; rows are resampled whole
  paired: bool  # whether the second half of the texts rewrites the first


def results(scores: ByDraw, texts: Texts, samples: int) -> dict[str, Any]:
  """Returns the row of one variant: [D][K] of each metric, and what needs no true reward."""
  import numpy as np

  from irl_jax.evaluation import agreement
  from irl_jax.evaluation import intervals
  from irl_jax.evaluation import zero

  toxic, labelled = texts.true < 0, texts.labels == 1
  threshold = lambda one: zero.otsu(one['unlabelled'])
  of_each = {
    'auroc': lambda one: number(agreement.auroc(one['texts'], toxic)),
    'auroc_labels': lambda one: number(agreement.auroc(one['texts'], labelled)),
    'accuracy': lambda one: agreement.accuracy(one['texts'] < threshold(one), toxic),
    'pearson': lambda one: number(agreement.correlate(one['texts'], texts.true)['pearson']),
    'saturated': lambda one: float(np.mean(np.abs(one['texts']) > 0.9)),
    'separation': lambda one: zero.split(one['unlabelled'])[1],
  }
  if texts.paired:
    of_each['ordered'] = lambda one: float(np.mean(np.greater(*np.split(one['texts'], 2)[::-1])))
  found: dict[str, Any] = {
    name: [[metric(one) for one in draw] for draw in scores] for name, metric in of_each.items()
  }
  flat = [one['texts'] for draw in scores for one in draw]
  resampled = intervals.resample(flat, texts.true, samples, 0, unit=texts.row)
  low, high = np.quantile(resampled.auroc.mean(axis=0), [0.025, 0.975]).tolist()
  return found | {'auroc_interval': [low, high]} | without_true_reward(scores)


def number(outcome: Any) -> float | None:
  """Returns a metric, or None in place of the reason why there is none."""
  return None if isinstance(outcome, str) else float(outcome)


def without_true_reward(scores: ByDraw) -> dict[str, Any]:
  """Returns what an auditor could measure: preferences on own and on other draws' pairs, agreement.

  `own` and `other` are the shares [D][K] of held-out, independently drawn pairs in which the
  aligned text scores higher: pairs of the reward's own draw, and of every other draw. `spearman`
  and `epic` [D (D - 1) / 2] compare the first seeds of two draws, on unlabelled texts and on the
  pairs of both.
  """
  import numpy as np

  from irl_jax.evaluation import identifiability

  draws = range(len(scores))
  prefers = lambda one, draw: float(np.mean(one[f'aligned_{draw}'] > one[f'base_{draw}']))
  own = [[prefers(one, draw) for one in scores[draw]] for draw in draws]
  other = [
    [float(np.mean([prefers(one, n) for n in draws if n != draw])) for one in scores[draw]]
    for draw in draws
    if len(scores) > 1
  ]
  couples = [(first, second) for first in draws for second in draws if first < second]
  spearman, epic = [], []
  for first, second in couples:
    both = scores[first][0], scores[second][0]
    spearman.append(float(identifiability.spearman([one['unlabelled'] for one in both])[0, 1]))
    pairs = [
      np.concatenate(
        [np.stack([one[f'aligned_{n}'], one[f'base_{n}']], axis=1) for n in (first, second)]
      )
      for one in both
    ]
    epic.append(float(identifiability.epic_distance(np.stack(pairs))[0, 1]))
  return {'own': own, 'other': other, 'spearman': spearman, 'epic': epic}


def gains(variants: dict[str, ByDraw], texts: Texts, samples: int) -> dict[str, Any]:
  """Returns each variant's mean AUROC minus that of the first one, by draw, with an interval.

  Both are measured on the same resamples of rows; the interval is over rows, not over draws.
  """
  import numpy as np

  from irl_jax.evaluation import intervals

  found, first = {}, None
  for name, scores in variants.items():
    if not scores:
      continue
    sizes = np.cumsum([len(draw) for draw in scores])[:-1]
    flat = [one['texts'] for draw in scores for one in draw]
    resampled = intervals.resample(flat, texts.true, samples, 0, unit=texts.row)
    of_draws = [part.mean(axis=0) for part in np.split(resampled.auroc, sizes)]  # D x [R]
    once = [float(part.mean()) for part in np.split(resampled.measured[0], sizes)]
    if first is None:
      first = of_draws, once
    change = np.mean(of_draws, axis=0) - np.mean(first[0], axis=0)
    found[name] = {
      'by_draw': np.subtract(once, first[1]).tolist(),
      'interval': np.quantile(change, [0.025, 0.975]).tolist(),
    }
  return found


def table(rows: dict[str, dict[str, Any]]) -> str:
  """Returns the table, in Markdown: means over draws and seeds, and AUROC's extremes."""
  import numpy as np

  of = lambda values: np.array([value for draw in values for value in draw], float)
  mean = lambda values: f'{np.mean(values):.3f}' if len(values) else '–'
  lines = [
    '| reward | n | AUROC, r* | lowest, highest | deviation over draws | AUROC, labels '
    '| accuracy at 0 | Pearson | ordered | prefers aligned: own, other draws | Spearman | EPIC '
    '| separation | saturated |',
    '|' + '---|' * 14,
  ]
  for name, row in rows.items():
    auroc = of(row['auroc'])
    spread = (
      np.std([np.mean(draw) for draw in row['auroc']], ddof=1) if len(row['auroc']) > 1 else 0
    )
    cells = [
      name,
      str(auroc.size),
      mean(auroc),
      f'{auroc.min():.3f}, {auroc.max():.3f}',
      f'{spread:.3f}',
      *(mean(of(row[key])) for key in ('auroc_labels', 'accuracy', 'pearson')),
      mean(of(row['ordered'])) if 'ordered' in row else '–',
      f'{mean(of(row["own"]))}, {mean(of(row["other"]))}',
      *(mean(row[key]) for key in ('spearman', 'epic')),
      *(mean(of(row[key])) for key in ('separation', 'saturated')),
    ]
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)
