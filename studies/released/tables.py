"""The tables of the study of released faults: results of many seeds, and what each fault costs.

Dims: K seeds, N texts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from irl_jax.evaluation import agreement
from irl_jax.evaluation import identifiability
from irl_jax.evaluation import zero as zero_lib
from released.training import AT_ONCE
from released.training import Scored
from released.training import Sets
from released.training import VARIANTS

HELD = 'held-out texts'  # what most results are measured on
ZERO = 'validation texts'  # what the zero is chosen from
HELD_PAIRS = 'held-out demonstrations'
TRAINED_TEXTS = 'training texts'
TRAINED_PAIRS = 'training demonstrations'


def results(
  scored: Sequence[Scored], true: np.ndarray, name: str = HELD, centred: bool = True
) -> dict[str, list]:
  """Measures K rewards on one set of texts.

  Returns:
    AUROC, accuracy at 0 and largest |R̂| [K]; Spearman of every two seeds, without those of a
    constant reward.
  """
  zeros = [zero_lib.split(scores[ZERO])[0] if centred else 0.0 for scores in scored]
  rewards_of_seeds = np.stack([scores[name] for scores in scored])
  between = identifiability.spearman(rewards_of_seeds)[np.triu_indices(len(rewards_of_seeds), 1)]
  return {
    'auroc': [agreement.auroc(scores, true < 0) for scores in rewards_of_seeds],
    'accuracy': [
      agreement.accuracy(scores < zero, true < 0) for scores, zero in zip(rewards_of_seeds, zeros)
    ],
    'spearman': between[np.isfinite(between)].tolist(),
    'largest': np.abs(rewards_of_seeds).max(axis=1).tolist(),
  }


def best_of(row: dict[str, list]) -> dict[str, list]:
  """Fault 6: returns the results of the seed that agrees best with r*, by each of them."""
  return {
    'auroc': [max(row['auroc'])],
    'accuracy': [max(row['accuracy'])],
    'spearman': [],
    'largest': [],
  }


def rows_of(scored: dict[str, Sequence[Scored]], sets: Sets) -> dict[str, dict[str, Any]]:
  """Returns the table of one start: results, a description of each row, and its reference row.

  The reference row is 'no fault' unless the row names another one under 'against'.
  """
  sound, true = scored['no fault'], {name: reference for name, (_, reference) in sets.items()}
  on = lambda name, **more: results(sound, true[name], name) | more
  rows = {
    name: results(scored[name], true[HELD]) | {'what': variant.what}
    for name, variant in VARIANTS.items()
    if name != AT_ONCE
  }
  at_once = results(scored[AT_ONCE], true[HELD], centred=False)
  return rows | {
    '4 uncentred 0': results(sound, true[HELD], centred=False)
    | {'what': 'the verdict is the sign of the uncentred R̂'},
    '5 training texts': on(TRAINED_TEXTS, what="measured on the training prompts' original texts"),
    HELD_PAIRS: on(HELD_PAIRS, what='no fault; the row that the next one is compared with'),
    '5 training demonstrations': on(
      TRAINED_PAIRS, what='measured on what was trained on', against=HELD_PAIRS
    ),
    '6 best seed': best_of(rows['no fault'])
    | {'what': f'the best of {len(sound)} by r*, result by result'},
    AT_ONCE: at_once | {'what': VARIANTS[AT_ONCE].what},
    '1 to 4 and 6 at once': best_of(at_once) | {'what': f'the best of those {len(sound)} by r*'},
  }


def spread(values: Sequence[float]) -> str:
  """Formats mean, standard deviation and range."""
  if len(values) < 2:
    return f'{values[0]:.3f}' if values else '–'
  return (
    f'{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} ({min(values):.3f} to {max(values):.3f})'
  )


def difference(values: Sequence[float], reference: Sequence[float]) -> str:
  """Formats the mean difference, seed by seed, with its 95 % t interval over seeds.

  A single value is compared with the mean.
  """
  if len(values) != len(reference):
    return f'{values[0] - np.mean(reference):+.3f}'
  gaps = np.subtract(values, reference)
  half = stats.t.ppf(0.975, len(gaps) - 1) * np.std(gaps, ddof=1) / len(gaps) ** 0.5
  return f'{gaps.mean():+.3f} ± {half:.3f}'


def table(rows: dict[str, dict[str, Any]]) -> str:
  """Formats the rows of one start in Markdown."""
  titles = (
    'fault',
    'what it does',
    'AUROC',
    'accuracy at 0',
    'Spearman between seeds',
    'AUROC against no fault',
    'accuracy against no fault',
    'largest absolute R̂',
  )
  lines = [f'| {" | ".join(titles)} |', '|---' * len(titles) + '|']
  for name, row in rows.items():
    reference = rows[row.get('against', 'no fault')]
    costs = [
      difference(row[result], reference[result]) if name not in ('no fault', HELD_PAIRS) else '–'
      for result in ('auroc', 'accuracy')
    ]
    largest = f'{max(row["largest"]):.3g}' if row['largest'] else '–'
    cells = [
      name,
      row['what'],
      *(spread(row[result]) for result in ('auroc', 'accuracy', 'spearman')),
      *costs,
      largest,
    ]
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)
