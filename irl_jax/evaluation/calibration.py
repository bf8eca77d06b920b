"""The scale of a recovered reward: its zero, its saturation, and probabilities fitted on labels.

Dims: N texts, B bins, L vectors of labels.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
import scipy

from irl_jax import confidence
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector
from irl_jax.evaluation.metrics import is_constant
from irl_jax.evaluation.zero import saturation
from irl_jax.evaluation.zero import zero
from irl_jax.runtime import records

BINS = 15
DRAWS = 200  # label vectors that the ECE of a calibrated reward is averaged over
FEWEST = 10  # labelled validation texts of each class; with fewer, the slope is not determined
# Labelled validation texts that an isotonic fit needs: with fewer, two parameters are better than
# steps (Niculescu-Mizil and Caruana 2005, section 5).
FEWEST_ISOTONIC = 500
NO_PROBABILITY = (
  f'a probability needs {FEWEST} labelled validation texts of each class; without them, use '
  'only the order of texts, and the zero chosen without labels'
)
ERRORS = ('ece', 'ece_if_calibrated', 'brier', 'brier_constant', 'reliability')


def calibration(scores: ArrayLike, bootstrap_samples: int, seed: int) -> records.Zero:
  """Describes a reward by its uncentred scores of unlabelled texts that it was not trained on.

  A reliable zero means that the texts fall into two classes. It does not mean that these are the
  toxic and the harmless ones.

  Args:
    scores: [N], uncentred.
    bootstrap_samples: resamples of the zero's interval and test.
    seed: random seed for the resamples.

  Returns:
    zero with its 95 % interval zero_low to zero_high, reliable_zero (bool), saturated (share of
    |R| > 0.9); if the zero is not reliable, its reason under 'why'.

  Raises:
    ValueError: a score is not finite.
  """
  result = zero(scores, bootstrap_samples, seed)
  described: records.Zero = {
    'zero': result['zero'],
    'zero_low': result['low'],
    'zero_high': result['high'],
    'reliable_zero': result['reliable'],
    'saturated': saturation(scores),
  }
  if result['why']:
    described['why'] = {'reliable_zero': result['why']}
  return described


def probability(
  validation: ArrayLike,
  validation_labels: Sequence[int | None],
  held: ArrayLike,
  held_labels: Sequence[int | None],
  seed: int,
) -> records.Probabilities:
  """Fits P(harmless | R) on labelled validation texts and measures it on labelled held-out texts.

  Args:
    validation: [N], the centred reward of the validation split's original texts.
    validation_labels: the labels of the same texts: 1 toxic, 0 not, None: no label.
    held: [N'], the centred reward of the held-out texts.
    held_labels: the labels of the same texts.
    seed: random seed for the labels that `ece_if_calibrated` draws.

  Returns:
    platt (`fit_platt`); isotonic (`fit_isotonic`), if there are enough labels; and the errors of
    the probabilities (`calibration_errors`). If there are too few labels, they are None, with the
    reason under 'why'.
  """
  scores, labels = labelled(validation, validation_labels)
  if np.bincount(labels, minlength=2).min() < FEWEST:
    return without_probability(NO_PROBABILITY)
  fitted = fit_platt(scores, labels == 0)
  if isinstance(fitted, str):
    return without_probability(fitted)
  found: dict[str, Any] = {'platt': fitted}
  if labels.size >= FEWEST_ISOTONIC:
    found['isotonic'] = fit_isotonic(scores, labels == 0)
  scores, labels = labelled(held, held_labels)
  if not labels.size:
    return without_probability('the held-out texts have no labels', **found)
  errors = calibration_errors(harmless_probability(scores, found), labels == 0, seed)
  return cast(records.Probabilities, {**found, **errors})


def harmless_probability(scores: ArrayLike, fitted: Mapping[str, Any]) -> np.ndarray:
  """Returns P(harmless) [N] of rewards [N], by the fits that `probability` has returned."""
  if steps := fitted.get('isotonic'):
    return np.interp(np.asarray(scores, np.float64), steps['reward'], steps['probability'])
  return platt_probability(scores, fitted['platt'])


def without_probability(reason: str, **known: Any) -> records.Probabilities:
  """Returns the results of `probability` if they cannot be computed."""
  return cast(records.Probabilities, collect(dict.fromkeys(('platt', *ERRORS), reason) | known))


def labelled(scores: ArrayLike, labels: Sequence[int | None]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the scores and labels of the texts that have a label."""
  has_label = np.array([label is not None for label in labels], bool)
  known = np.array([label for label in labels if label is not None], int)
  return np.asarray(scores, np.float64)[has_label], known


def fit_platt(scores: ArrayLike, harmless: ArrayLike) -> records.Platt | str:
  """Fits P(harmless | R) = sigmoid(slope R + intercept) (Platt 1999), or returns a reason.

  Minimises the cross-entropy against Platt's targets, (n+ + 1) / (n+ + 2) for the n+ harmless texts
  and 1 / (n- + 2) for the n- toxic ones. Targets inside (0, 1) keep the fit finite if a threshold
  separates the classes.

  Args:
    scores: [N] rewards of labelled texts that are neither trained on nor held out.
    harmless: [N] bool.

  Raises:
    ValueError: a score is not finite.
  """
  scores, harmless = finite_vector(scores, 'scores'), np.asarray(harmless, bool)
  above, below = int(harmless.sum()), int((~harmless).sum())
  if not above or not below:
    return 'needs labelled validation texts of both classes'
  if is_constant(scores):
    return 'the reward has zero variance'
  # Standardised scores keep the problem well conditioned for rewards of any scale.
  centre, spread = scores.mean(), scores.std()
  features = np.stack([(scores - centre) / spread, np.ones(scores.size)], axis=1)  # [N, 2]
  target = np.where(harmless, (above + 1) / (above + 2), 1 / (below + 2))
  start = np.array([0.0, np.log((above + 1) / (below + 1))])
  slope, intercept = logistic_regression(features, target, start)
  return {
    'slope': float(slope / spread),
    'intercept': float(intercept - slope * centre / spread),
    'n': scores.size,
  }


def logistic_regression(features: np.ndarray, target: np.ndarray, start: np.ndarray) -> np.ndarray:
  """Returns the weights [F] that minimise the cross-entropy of sigmoid(features @ weights).

  Args:
    features: [N, F].
    target: [N], in (0, 1).
    start: [F], weights to start from.
  """

  def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
    logits = features @ weights
    gradient = features.T @ (scipy.special.expit(logits) - target)
    return np.sum(np.logaddexp(0, logits) - target * logits), gradient

  def curvature(weights: np.ndarray) -> np.ndarray:
    probability = scipy.special.expit(features @ weights)
    return (features.T * (probability * (1 - probability))) @ features

  return scipy.optimize.minimize(
    loss,
    start,
    jac=True,
    hess=curvature,
    method='trust-exact',
    options={'gtol': 1e-10 * target.size},
  ).x


def fit_isotonic(scores: ArrayLike, harmless: ArrayLike) -> dict[str, list[float]]:
  """Fits the P(harmless | R) that is best of all that never fall (Zadrozny and Elkan 2002).

  The fit is a step function. Its steps are joined, and kept away from 0 and 1 as Platt's targets.

  Args:
    scores: [N] rewards of labelled texts that are neither trained on nor held out.
    harmless: [N] bool.

  Returns:
    `reward` [K], ascending, and the `probability` [K] at each. It is linear between them, and
    constant outside.

  Raises:
    ValueError: a score is not finite.
  """
  scores, harmless = finite_vector(scores, 'scores'), np.asarray(harmless, np.float64)
  values, place, weights = np.unique(scores, return_inverse=True, return_counts=True)
  shares = np.bincount(place, harmless) / weights
  steps = scipy.optimize.isotonic_regression(shares, weights=weights).x
  ends = np.diff(steps, prepend=-1) > 0, np.diff(steps, append=2) > 0  # of each step
  kept = np.logical_or(*ends)
  above, below = harmless.sum(), scores.size - harmless.sum()
  bounded = np.clip(steps[kept], 1 / (below + 2), (above + 1) / (above + 2))
  return {'reward': values[kept].tolist(), 'probability': bounded.tolist()}


def platt_probability(scores: ArrayLike, fitted: records.Platt) -> np.ndarray:
  """Returns P(harmless) [N] of rewards [N]."""
  return scipy.special.expit(fitted['slope'] * np.asarray(scores, np.float64) + fitted['intercept'])


def calibration_errors(predicted: ArrayLike, harmless: ArrayLike, seed: int) -> dict[str, Any]:
  """Measures the errors of probabilities on texts that they were not fitted on.

  Args:
    predicted: [N] P(harmless).
    harmless: [N] bool, the labels.
    seed: random seed for the labels that `ece_if_calibrated` is averaged over.

  Returns:
    ece: mean distance between observed and predicted share over 15 bins with equally many texts,
      weighted by their texts (Naeini et al. 2015).
    ece_if_calibrated: the mean ece if labels are drawn from the predictions themselves. It is not
      0, because the share in a bin of few texts is noisy. Only the part of ece above it shows
      miscalibration.
    brier: mean squared error of the probabilities (Brier 1950).
    brier_constant: the Brier score if the predicted probability of every text is the share of
      harmless texts.
    reliability: the bins, records.ReliabilityBin each.

  Raises:
    ValueError: a probability is not finite, or there is none.
  """
  predicted, observed = finite_vector(predicted, 'predicted'), np.asarray(harmless, np.float64)
  if not predicted.size:
    raise ValueError('predicted is empty: calibration needs texts')
  bins = equal_mass_bins(predicted)
  drawn = np.random.default_rng(seed).random((DRAWS, predicted.size)) < predicted
  return {
    'ece': float(ece(predicted, observed[None], bins)[0]),
    'ece_if_calibrated': float(ece(predicted, drawn.astype(np.float64), bins).mean()),
    'brier': float(np.mean((predicted - observed) ** 2)),
    'brier_constant': float(observed.var()),
    'reliability': [describe_bin(predicted[texts], observed[texts]) for texts in bins],
  }


def equal_mass_bins(predicted: np.ndarray) -> list[np.ndarray]:
  """Splits texts [N] into at most 15 bins of nearly equal size; equal predictions share a bin."""
  order = np.argsort(predicted, kind='stable')
  parts = [part for part in np.array_split(order, BINS) if part.size]
  # Bins are cut at predictions, not at texts, so that ties never fall into two bins.
  edges = np.unique(predicted[[part[0] for part in parts]])
  bin_of_text = np.searchsorted(edges, predicted, side='right') - 1
  return [np.flatnonzero(bin_of_text == number) for number in range(edges.size)]


def ece(predicted: np.ndarray, observed: np.ndarray, bins: list[np.ndarray]) -> np.ndarray:
  """Returns the expected calibration error [L] of predictions [N] under labels [L, N]."""
  gaps = [np.abs(np.sum(observed[:, texts] - predicted[texts][None], axis=1)) for texts in bins]
  return np.sum(gaps, axis=0) / predicted.size


def describe_bin(predicted: np.ndarray, observed: np.ndarray) -> records.ReliabilityBin:
  """Returns one bin of the reliability curve."""
  low, high = confidence.wilson(int(observed.sum()), observed.size)
  return {
    'low': float(predicted.min()),
    'high': float(predicted.max()),
    'predicted': float(predicted.mean()),
    'observed': float(observed.mean()),
    'observed_low': low,
    'observed_high': high,
    'n': observed.size,
  }
