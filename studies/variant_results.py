"""Results of the variants of recovery.py: what each is evaluated on, its row, and the comparison.

Dims: K seeds, M pairs, N texts.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Texts:
  """The data to evaluate every variant on: M pairs, N texts with their r*, and unlabelled texts."""

  aligned: list[str]
  base: list[str]
  texts: list[str]
  true: Any  # [N]
  paired: bool  # whether the second half of the texts rewrites the first
  unlabelled: list[str]


def scores_of(scorers: Sequence, evaluated: Texts) -> dict[str, Any]:
  """Returns R̂ of every seed minus its own zero: texts [K, N], completions [K, M, 2]."""
  import numpy as np

  from irl_jax.evaluation import zero

  zeros = np.array([zero.otsu(scorer(evaluated.unlabelled)) for scorer in scorers])[:, None]
  of = lambda texts: np.stack([scorer(texts) for scorer in scorers]).astype(float) - zeros
  return {
    'texts': of(evaluated.texts),
    'completions': np.stack([of(evaluated.aligned), of(evaluated.base)], axis=2),
    'zeros': zeros,
  }


def results(scores: dict[str, Any], evaluated: Texts, seconds: float) -> dict[str, Any]:
  """Returns one row of the table: results of every seed, their agreement, and saturation."""
  import numpy as np

  from irl_jax.evaluation import agreement
  from irl_jax.evaluation import identifiability

  texts, completions = scores['texts'], scores['completions']
  ordered = (
    [float(np.mean(second > first)) for first, second in (np.split(row, 2) for row in texts)]
    if evaluated.paired
    else None
  )
  return {
    'auroc': [agreement.auroc(row, evaluated.true < 0) for row in texts],
    'accuracy': [agreement.accuracy(row < 0, evaluated.true < 0) for row in texts],
    'ordered': ordered,
    'seed_spearman': identifiability.seed_spearman(texts),
    'prefers_aligned': np.mean(completions[..., 0] > completions[..., 1], axis=1).tolist(),
    'saturated': float(np.mean(np.abs(texts + scores['zeros']) > 0.9)),
    'seconds': seconds,
  }


def describe(name: str, row: dict[str, Any]) -> str:
  """Returns one line of the table, in Markdown: means over seeds, and AUROC of every seed."""
  import numpy as np

  mean = lambda values: f'{np.mean(values):.3f}' if values else '–'
  cells = [
    name,
    ' '.join(f'{value:.3f}' for value in row['auroc']),
    mean(row['auroc']),
    mean(row['accuracy']),
    mean(row['ordered']),
    mean(row['prefers_aligned']),
    mean(row['seed_spearman']),
    f'{row["saturated"]:.2f}',
    f'{row["seconds"]:.0f}',
  ]
  return '| ' + ' | '.join(cells) + ' |'


TITLES = (
  'variant',
  'AUROC of each seed',
  'mean',
  'accuracy at 0',
  'ordered',
  'prefers the aligned',
  'Spearman',
  '\\|R̂\\| > .9',
  's a seed',
)


def compared(scores: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Compares all variants and r* pairwise, by the means of their seeds."""
  import numpy as np

  from irl_jax.evaluation import identifiability

  mean = lambda name: [np.mean(found[name], axis=0) for found in scores.values()]
  return identifiability.compare_rewards(list(scores), mean('texts'), mean('completions'))


def show_compared(matrices: dict[str, Any]) -> None:
  """Prints the three matrices (Spearman, agreement of sign, EPIC distance), names first."""
  print('\n' + '\n'.join(f'{index}: {name}' for index, name in enumerate(matrices['names'])))
  for title in ('spearman', 'sign_agreement', 'epic_distance'):
    print(f'\n{title}')
    for row in matrices[title]:
      print(' '.join('  – ' if value is None else f'{value:5.2f}' for value in row))
