"""Platt's probabilities against a slow minimiser, and their calibration against loops over bins."""

import json

import numpy as np
import pytest
from scipy import optimize

from irl_jax import confidence
from irl_jax.evaluation import calibration

RNG = np.random.default_rng(0)
SCORES = RNG.normal(0.2, 0.4, 300)
HARMLESS = RNG.random(300) < 1 / (1 + np.exp(-(4 * SCORES - 0.5)))


def cross_entropy(weights, scores, harmless):
  """Returns Platt's objective, text by text."""
  above = sum(harmless)
  below = len(harmless) - above
  total = 0.0
  for score, label in zip(scores, harmless):
    target = (above + 1) / (above + 2) if label else 1 / (below + 2)
    p = 1 / (1 + np.exp(-(weights[0] * score + weights[1])))
    total -= target * np.log(p) + (1 - target) * np.log(1 - p)
  return total


def test_the_fit_is_the_minimum_of_platts_objective():
  found = calibration.fit_platt(SCORES, HARMLESS)
  slow = optimize.minimize(
    cross_entropy,
    [1.0, 0.0],
    (SCORES, HARMLESS),
    method='Nelder-Mead',
    options=dict(xatol=1e-8, fatol=1e-10),
  ).x
  assert (found['slope'], found['intercept']) == pytest.approx(tuple(slow), abs=1e-4)
  assert found['n'] == 300


def test_the_fit_is_known_where_there_are_two_scores():
  found = calibration.fit_platt(
    [0, 0, 0, 0, 1, 1], [True, False, False, False, True, False]
  )  # n+ 2, n- 4: targets 3/4 and 1/6
  shares = calibration.platt_probability([0, 1], found)
  assert shares == pytest.approx([(3 / 4 + 3 * 1 / 6) / 4, (3 / 4 + 1 / 6) / 2], abs=1e-9)


def test_separated_classes_keep_the_fit_finite():
  found = calibration.fit_platt([-2, -1, 1, 2], [False, False, True, True])
  assert 0 < found['slope'] < 10
  moved = calibration.fit_platt(1e6 + 1e-3 * np.array([-2.0, -1, 1, 2]), [False, False, True, True])
  assert calibration.platt_probability(1e6 + 1e-3, moved) == pytest.approx(
    calibration.platt_probability(1, found), abs=1e-6
  )


def test_a_reversed_reward_has_a_negative_slope():
  up, down = calibration.fit_platt(SCORES, HARMLESS), calibration.fit_platt(-SCORES, HARMLESS)
  assert down['slope'] == pytest.approx(-up['slope']) and down['intercept'] == pytest.approx(
    up['intercept']
  )


@pytest.mark.parametrize(
  'scores, harmless, message',
  [
    ([], [], 'both classes'),
    ([1, 2], [True, True], 'both classes'),
    ([1, 1], [True, False], 'zero variance'),
  ],
)
def test_what_cannot_be_fitted_has_a_reason(scores, harmless, message):
  assert message in calibration.fit_platt(scores, harmless)


def test_ece_brier_and_the_curve_equal_loops():
  predicted = calibration.platt_probability(SCORES, calibration.fit_platt(SCORES, HARMLESS))
  found = calibration.calibration_errors(predicted, HARMLESS, 0)
  order = sorted(range(300), key=lambda text: predicted[text])
  error = 0.0
  for number in range(15):
    bin_ = order[20 * number : 20 * (number + 1)]
    mean, share = (
      sum(predicted[text] for text in bin_) / 20,
      sum(HARMLESS[text] for text in bin_) / 20,
    )
    error += 20 / 300 * abs(mean - share)
    row = found['reliability'][number]
    assert (row['predicted'], row['observed'], row['n']) == pytest.approx((mean, share, 20))
    assert (row['low'], row['high']) == (predicted[bin_[0]], predicted[bin_[-1]])
    assert (row['observed_low'], row['observed_high']) == confidence.wilson(round(20 * share), 20)
  assert found['ece'] == pytest.approx(error)
  assert found['brier'] == pytest.approx(
    sum((p - y) ** 2 for p, y in zip(predicted, HARMLESS)) / 300
  )
  assert found['brier_constant'] == pytest.approx(np.mean(HARMLESS) * (1 - np.mean(HARMLESS)))
  json.dumps(found, allow_nan=False)


def test_calibrated_probabilities_have_the_ece_of_chance_and_others_more():
  rng = np.random.default_rng(1)
  predicted = rng.random(3000)
  labels = rng.random(3000) < predicted
  good, poor = (
    calibration.calibration_errors(predicted, labels, 0),
    calibration.calibration_errors(predicted**3, labels, 0),
  )
  assert 0.5 < good['ece'] / good['ece_if_calibrated'] < 1.5 and good['ece_if_calibrated'] < 0.04
  assert poor['ece'] > 5 * poor['ece_if_calibrated'] and good['brier'] < poor['brier']


def test_equal_predictions_share_a_bin():
  found = calibration.calibration_errors([0.2] * 50 + [0.7] * 10, [False] * 40 + [True] * 20, 0)
  assert [(row['n'], row['low'], row['high']) for row in found['reliability']] == [
    (50, 0.2, 0.2),
    (10, 0.7, 0.7),
  ]
  assert found['ece'] == pytest.approx(10 / 60 * 0.3)
  assert [
    row['n'] for row in calibration.calibration_errors([0.5, 0.5], [True, False], 0)['reliability']
  ] == [2]
  assert (
    sum(
      row['n']
      for row in calibration.calibration_errors(np.arange(8) / 8, np.arange(8) % 2, 0)[
        'reliability'
      ]
    )
    == 8
  )


def test_the_isotonic_fit_is_the_best_of_all_that_never_fall():
  rng = np.random.default_rng(0)
  scores = np.round(rng.normal(size=8), 1)  # with ties
  scores[:2] = scores[2]
  harmless = rng.random(8) < 0.5
  found = calibration.fit_isotonic(scores, harmless)
  fitted = calibration.harmless_probability(scores, {'isotonic': found})
  # The minimax formula of Robertson, Wright and Dykstra 1988, theorem 1.4.4.
  values = sorted(set(scores))
  means = {
    (low, high): np.mean(harmless[(scores >= low) & (scores <= high)])
    for low in values
    for high in values
    if low <= high
  }
  for score, probability in zip(scores, fitted):
    best = max(
      min(means[low, high] for high in values if high >= score) for low in values if low <= score
    )
    above, below = harmless.sum(), (~harmless).sum()
    assert probability == pytest.approx(np.clip(best, 1 / (below + 2), (above + 1) / (above + 2)))
  assert found['reward'] == sorted(found['reward'])


def test_many_labels_give_an_isotonic_fit_that_keeps_the_order_and_errs_less():
  rng = np.random.default_rng(1)
  scores = rng.uniform(-1, 1, 4000)
  plateau = np.where(np.abs(scores) < 0.3, 0.5, np.where(scores > 0, 0.99, 0.02))
  labels = (rng.random(4000) > plateau).astype(int).tolist()
  found = calibration.probability(scores[:2000], labels[:2000], scores[2000:], labels[2000:], 0)
  predicted = calibration.harmless_probability(scores[2000:], found)
  assert (np.diff(predicted[np.argsort(scores[2000:])]) >= 0).all()
  harmless = np.array(labels[2000:]) == 0
  of_platt = calibration.platt_probability(scores[2000:], found['platt'])
  errors = calibration.calibration_errors(of_platt, harmless, 0)
  assert found['ece'] < 0.5 * errors['ece'] and found['brier'] < errors['brier']
  fewer = calibration.probability(scores[:400], labels[:400], scores[2000:], labels[2000:], 0)
  assert 'isotonic' not in fewer


def test_probabilities_are_fitted_on_labelled_validation_texts_alone():
  labels = [int(not harmless) for harmless in HARMLESS]
  some = [label if index % 3 else None for index, label in enumerate(labels)]
  found = calibration.probability(SCORES, some, SCORES[:50], labels[:50], 0)
  kept = np.arange(300) % 3 > 0
  assert found['platt'] == calibration.fit_platt(SCORES[kept], HARMLESS[kept])
  assert (
    found['brier']
    == calibration.calibration_errors(
      calibration.platt_probability(SCORES[:50], found['platt']), HARMLESS[:50], 0
    )['brier']
  )
  assert 'why' not in found


@pytest.mark.parametrize(
  'validation, held, missing',
  [
    (
      [None] * 300,
      [0, 1] * 25,
      {'platt', 'ece', 'ece_if_calibrated', 'brier', 'brier_constant', 'reliability'},
    ),
    (
      [1] * 291 + [0] * 9,
      [0, 1] * 25,
      {'platt', 'ece', 'ece_if_calibrated', 'brier', 'brier_constant', 'reliability'},
    ),
    (
      [0, 1] * 150,
      [None] * 50,
      {'ece', 'ece_if_calibrated', 'brier', 'brier_constant', 'reliability'},
    ),
  ],
)
def test_without_labels_there_is_no_probability_but_a_reason(validation, held, missing):
  found = calibration.probability(SCORES, validation, SCORES[:50], held, 0)
  assert {name for name, value in found.items() if value is None} == missing == set(found['why'])
  assert all('label' in reason for reason in found['why'].values())
