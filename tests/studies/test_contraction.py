"""Results over rounds of evidence and of shuffled pairs, against their parts one by one."""

import json

from bayesian import contraction
from bayesian import posterior as posterior_lib
import numpy as np
import pytest

from irl_jax.evaluation import agreement

RNG = np.random.default_rng(0)
WEIGHTS = np.array([1.5, -1.0, 0.0, 0.5, 0.0])


def pairs_of(count):
  x = RNG.normal(size=(count, 5))
  return np.where((RNG.random(count) < 1 / (1 + np.exp(-x @ WEIGHTS)))[:, None], x, -x)


PRIOR = posterior_lib.normal_prior(5)
PAIRS = pairs_of(960)
TEXTS = RNG.normal(size=(300, 5))
UNSEEN = contraction.Unseen(pairs_of(400), TEXTS, TEXTS @ WEIGHTS + RNG.normal(size=300))


def test_every_round_is_the_posterior_of_all_pairs_so_far():
  rows, posterior = contraction.rounds(PAIRS, PRIOR, UNSEEN)
  assert [row['pairs'] for row in rows] == [60, 120, 240, 480, 960]
  for row in rows:
    seen = PAIRS[: row['pairs']]
    expected = posterior_lib.laplace(seen, PRIOR)
    mean, variance = posterior_lib.reward(expected, UNSEEN.pairs)
    predicted = posterior_lib.preference(mean, variance)
    assert row['trace'] == pytest.approx(sum(expected.covariance[i, i] for i in range(5)))
    assert row['log_determinant'] == pytest.approx(expected.log_determinant)
    assert row['log_evidence'] == pytest.approx(
      posterior_lib.log_evidence(seen, PRIOR, expected) / len(seen)
    )
    assert row['accuracy'] == pytest.approx(sum(value > 0 for value in mean) / 400)
    assert row['accuracy_low'] < row['accuracy'] < row['accuracy_high']
    assert row['log_likelihood'] == pytest.approx(
      np.mean([np.log(p) for p in predicted.probability])
    )
    assert row['log_likelihood_mode'] == pytest.approx(
      -np.mean(np.log1p(np.exp(-UNSEEN.pairs @ expected.mean)))
    )
    assert row['auroc'] == agreement.auroc(TEXTS @ expected.mean, UNSEEN.true_reward < 0)
  np.testing.assert_array_equal(posterior.mean, expected.mean)


@pytest.mark.slow
def test_true_and_shuffled_pairs_narrow_alike_but_only_true_ones_predict():
  result, _ = contraction.compare(PAIRS, PRIOR, UNSEEN, coins=4, seed=0)
  first, last = result['rounds'][0], result['rounds'][-1]
  for order in ('true', 'shuffled'):
    assert last[order]['trace'] < first[order]['trace'] < result['prior']['trace'] == 5
  assert last['shuffled']['trace'] < last['true']['trace']
  assert last['true']['log_evidence'] > np.log(0.5) > last['shuffled']['log_evidence']
  assert (
    last['true']['log_likelihood'] > -0.6
    and last['true']['auroc'] > 0.8 > last['shuffled']['range']['auroc'][0]
  )
  assert last['shuffled']['log_likelihood'] == pytest.approx(np.log(0.5), abs=0.03)
  assert result['trust']['true']['calibration']['brier'] < 0.22
  json.dumps(result, allow_nan=False)


def test_a_chain_of_rounds_comes_close_to_one_fit_and_depends_on_the_order_of_the_pairs():
  _, posterior = contraction.rounds(PAIRS, PRIOR, UNSEEN)
  chained = contraction.chain(PAIRS, PRIOR)
  by_hand = PRIOR
  for first, last in [(0, 60), (60, 120), (120, 240), (240, 480), (480, 960)]:
    by_hand = posterior_lib.laplace(PAIRS[first:last], by_hand)
  np.testing.assert_allclose(chained.mean, by_hand.mean)
  assert 1e-4 < contraction.apart(chained, posterior) < 0.5
  assert contraction.apart(contraction.chain(PAIRS[::-1], PRIOR), chained) > 1e-4
  assert contraction.apart(contraction.rounds(PAIRS[::-1], PRIOR, UNSEEN)[1], posterior) < 1e-4
  shifted = posterior_lib.Gaussian(
    posterior.mean + np.sqrt(np.diag(posterior.covariance)), posterior.precision
  )
  only = posterior_lib.Gaussian(posterior.mean, np.diag(1 / np.diag(posterior.covariance)))
  assert contraction.apart(shifted, only) == pytest.approx(1)


def test_coins_are_averaged_and_their_range_is_kept():
  rows = [
    [{'pairs': 3, 'trace': 1.0, 'accuracy_low': 0.1, 'auroc': None, 'why': {'auroc': 'no'}}],
    [{'pairs': 3, 'trace': 4.0, 'accuracy_low': 0.2, 'auroc': None, 'why': {'auroc': 'no'}}],
  ]
  assert contraction.over_coins(rows) == [
    {'pairs': 3, 'trace': 2.5, 'range': {'trace': [1.0, 4.0]}}
  ]


def test_without_a_true_reward_the_auroc_has_a_reason():
  row = contraction.rounds(PAIRS, PRIOR, contraction.Unseen(UNSEEN.pairs, TEXTS, None))[0][0]
  assert row['auroc'] is None and 'true reward' in row['why']['auroc']


def test_predictions_of_a_posterior_hold_and_the_certain_half_is_right_more_often():
  posterior = posterior_lib.laplace(PAIRS, PRIOR)
  found = contraction.trust(posterior, pairs_of(4000), 0)
  held = found['calibration']
  assert held['ece'] < 2 * held['ece_if_calibrated'] and held['brier'] < held['brier_constant']
  assert sum(row['n'] for row in held['reliability']) == 4000
  less, more = found['accuracy_by_aleatoric']
  assert less > more + 0.1
  overconfident = posterior_lib.Gaussian(5 * posterior.mean, posterior.precision)
  poor = contraction.trust(overconfident, UNSEEN.pairs, 0)['calibration']
  assert poor['ece'] > 2 * poor['ece_if_calibrated']


@pytest.mark.parametrize('count', [1, 3])
def test_few_pairs_still_make_every_round(count):
  rows, posterior = contraction.rounds(PAIRS[:count], PRIOR, UNSEEN)
  assert [row['pairs'] for row in rows] == [1, 1, 1, 1, count] and np.isfinite(posterior.mean).all()
