"""What is said of the scale of one recovered reward: its zero, how much of it is saturated, and probabilities.

Dims: N texts.
"""

from typing import Any

import numpy as np

from irl_jax.evaluation import platt
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.zero import saturation
from irl_jax.evaluation.zero import zero

FEWEST = 10  # labelled validation texts of each class: fewer say nothing of a slope
NO_PROBABILITY = (
  f'a probability needs {FEWEST} labelled validation texts of each class; without them the reward '
  'gives an order of texts, and a zero chosen without labels'
)
HOLDS = ('ece', 'ece_if_calibrated', 'brier', 'brier_constant', 'reliability')


def calibration(scores, bootstrap_samples: int, seed: int) -> dict[str, Any]:
  """Describes a reward by its uncentred scores [N] of unlabelled texts that it was not trained on.

  A reliable zero means that the texts fall into two classes, not that these are the toxic and the harmless ones.

  Returns:
    zero with its 95 % interval zero_low to zero_high, reliable_zero (bool), saturated (share of |R| > .9); under
    'why' the reason where the zero is not reliable.

  Raises:
    ValueError: a score is not finite.
  """
  found = zero(scores, bootstrap_samples, seed)
  plain = {
    'zero': found['zero'],
    'zero_low': found['low'],
    'zero_high': found['high'],
    'reliable_zero': found['reliable'],
    'saturated': saturation(scores),
  }
  return plain | ({} if found['reliable'] else {'why': {'reliable_zero': found['why']}})


def probability(validation, validation_labels, held, held_labels, seed: int) -> dict[str, Any]:
  """P(non-toxic | R̂), fitted on labelled validation texts and measured on labelled held-out ones.

  Args:
    validation: [N], the centred reward of the validation split's original texts.
    validation_labels: of the same, 1 toxic, 0 not, None where there is no label.
    held: [N'], of the held-out texts.
    held_labels: of the same.
    seed: of what chance alone would do.

  Returns:
    platt {'slope', 'intercept', 'n'} (`platt.fit`), and what `platt.holds` says of its probabilities; None beside a
    'why' where the labels do not allow them.
  """
  scores, labels = given(validation, validation_labels)
  if np.bincount(labels, minlength=2).min() < FEWEST:
    return collect(dict.fromkeys(('platt', *HOLDS), NO_PROBABILITY))
  fitted = platt.fit(scores, labels == 0)
  if isinstance(fitted, str):
    return collect(dict.fromkeys(('platt', *HOLDS), fitted))
  scores, labels = given(held, held_labels)
  if not labels.size:
    return collect({'platt': fitted, **dict.fromkeys(HOLDS, 'the held-out texts have no labels')})
  return {'platt': fitted, **platt.holds(platt.probability(scores, fitted), labels == 0, seed)}


def given(scores, labels) -> tuple[np.ndarray, np.ndarray]:
  """Scores and labels of the texts that have a label."""
  mask = np.array([label is not None for label in labels], bool)
  return np.asarray(scores, np.float64)[mask], np.array(
    [label for label in labels if label is not None], int
  )
