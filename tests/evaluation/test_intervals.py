"""Bootstrap intervals: each resample against scipy on the texts drawn, and their coverage."""

import json

import numpy as np
import pytest
from scipy import optimize
from scipy import stats

from irl_jax import confidence
from irl_jax.evaluation import agreement
from irl_jax.evaluation import intervals


def data(n, seed, digits=8):
  rng = np.random.default_rng(seed)
  reference = np.round(rng.normal(size=n), digits)
  return [np.round(reference + rng.normal(size=n), digits) for _ in range(2)], reference


def drawn(counts):
  """Counts [n, r] as the texts of each resample."""
  return [np.repeat(np.arange(len(column)), column.astype(int)) for column in counts.T]


@pytest.mark.parametrize('digits', [8, 0])
def test_every_resample_has_the_figures_of_the_texts_drawn(digits):
  rewards, reference = data(40, 1, digits)
  found = intervals.resample(rewards, reference, 30, seed=3)
  (counts,) = intervals.draw(40, 30, 3, 40)
  for number, texts in enumerate(drawn(counts)):
    assert texts.size == 40
    for reward in (0, 1):
      predicted = rewards[reward][texts]
      assert found.auroc[reward, number] == pytest.approx(
        agreement.auroc(predicted, reference[texts] < 0), abs=1e-12
      )
      assert found.spearman[reward, number] == pytest.approx(
        stats.spearmanr(predicted, reference[texts]).statistic, abs=1e-12
      )


def test_pairs_are_drawn_together():
  rewards, reference = data(20, 2)
  unit = np.tile(np.arange(10), 2)
  found = intervals.resample(rewards, reference, 20, seed=5, unit=unit)
  (counts,) = intervals.draw(10, 20, 5, 20)
  for number, prompts in enumerate(drawn(counts)):
    texts = np.concatenate([prompts, prompts + 10])
    assert found.spearman[0, number] == pytest.approx(
      stats.spearmanr(rewards[0][texts], reference[texts]).statistic, abs=1e-12
    )


def test_resamples_draw_every_text_as_often_on_average_and_are_the_same_for_a_seed(monkeypatch):
  whole = np.concatenate(list(intervals.draw(50, 4000, 7, 50)), axis=1)
  assert whole.shape == (50, 4000) and (whole.sum(0) == 50).all()
  np.testing.assert_allclose(whole.mean(1), 1, atol=0.08)
  assert np.var(whole) == pytest.approx(1 - 1 / 50, abs=0.02)  # binomial(50, 1/50)
  np.testing.assert_array_equal(
    whole, np.concatenate(list(intervals.draw(50, 4000, 7, 50)), axis=1)
  )
  monkeypatch.setattr(intervals, 'CHUNK', 500)
  assert [part.shape for part in intervals.draw(50, 25, 7, 50)] == [(50, 10), (50, 10), (50, 5)]
  rewards, reference = data(50, 8)
  assert not np.isnan(intervals.resample(rewards, reference, 25, 0).spearman).any()


def test_intervals_hold_as_often_as_they_say():
  runs = 200
  rng = np.random.default_rng(0)
  inside = 0
  truth = (
    6 / np.pi * np.arcsin(0.6 / 2)
  )  # Spearman of two normals with correlation .6 (Pearson 1907)
  for run in range(runs):
    reference = rng.normal(size=80)
    reward = 0.6 * reference + 0.8 * rng.normal(size=80)
    low, high = intervals.resample([reward], reference, 200, run).intervals(0)['spearman']
    inside += low <= truth <= high
  assert 0.89 <= inside / runs <= 0.99


def test_a_gain_is_measured_in_the_same_resamples():
  (first, _), reference = data(200, 4)
  rng = np.random.default_rng(0)
  barely_worse = first + 0.05 * rng.normal(size=200)
  found = intervals.resample([first, barely_worse, -reference], reference, 300, 0)
  low, high = found.gains(0, 1)['spearman']
  apart = found.intervals(0)['spearman']
  assert high - low < 0.3 * (apart[1] - apart[0])
  assert found.gains(0, 0) == {'auroc': [0, 0], 'spearman': [0, 0]}
  assert found.gains(0, 2)['auroc'][0] > 0


@pytest.mark.parametrize(
  'reward, reference, missing',
  [
    ([0.0] * 30, [-1.0] * 15 + [1.0] * 15, {'spearman'}),
    (list(range(30)), [1.0] * 30, {'auroc', 'spearman'}),
  ],
)
def test_without_a_figure_there_is_no_interval_but_a_reason(reward, reference, missing):
  found = intervals.resample([reward], reference, 200, 0).intervals(0)
  assert (
    {name for name in ('auroc', 'spearman') if found[name] is None} == missing == set(found['why'])
  )
  json.dumps(found, allow_nan=False)
  if 'auroc' not in missing:
    assert found['auroc'] == [0.5, 0.5]


def perfect(harmless, toxic):
  reference = [-1.0] * toxic + [1.0] * harmless
  reward = list(range(harmless + toxic))
  return intervals.resample([reward], reference, 300, 0).intervals(0)['auroc']


def hanley_mcneil(theta, harmless, toxic):
  """Returns the variance of an AUROC (1982), with the mean number of texts as Newcombe has it."""
  q1, q2, more = theta / (2 - theta), 2 * theta**2 / (1 + theta), (harmless + toxic) / 2 - 1
  rest = more * (q1 - theta**2) + more * (q2 - theta**2)
  return (theta * (1 - theta) + rest) / (harmless * toxic)


@pytest.mark.parametrize('harmless, toxic', [(29, 1), (2, 2), (26, 4), (100, 20)])
def test_a_perfect_order_of_few_texts_is_not_certain(harmless, toxic):
  low, high = perfect(harmless, toxic)
  assert high == 1
  off = lambda theta: 1 - theta - 1.959964 * hanley_mcneil(theta, harmless, toxic) ** 0.5
  assert low == pytest.approx(optimize.brentq(off, 0.01, 1 - 1e-6), abs=2e-4)
  reverse = intervals.auroc_interval(0.0, harmless, toxic)
  np.testing.assert_allclose(reverse, [0, 1 - low], atol=2e-4)


def test_one_toxic_text_shows_nothing_and_twenty_do():
  assert perfect(29, 1)[0] < 0.5 < 0.6 < perfect(26, 4)[0] < 0.9 < perfect(100, 20)[0]


def test_a_perfect_correlation_of_few_texts_is_not_certain():
  of = lambda n, reward: intervals.resample([reward], list(range(n)), 300, 0).intervals(0)
  for n in (3, 4):
    assert of(n, list(range(n)))['spearman'][0] < 0
    assert of(n, list(range(n))[::-1])['spearman'][1] > 0
  lows = [of(n, list(range(n)))['spearman'][0] for n in (5, 7, 10, 100)]
  assert 0 < lows[0] < 0.7 < lows[1] < lows[2] < lows[3] < 1
  assert lows[1] == pytest.approx(confidence.of_spearman(1.0, 7)[0])


@pytest.mark.parametrize(
  'arguments, message',
  [(([[1, np.nan]], [1, 2]), r'rewards\[0\]\[1\] is nan'), (([[]], []), 'reference is empty')],
)
def test_bad_input_is_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    intervals.resample(*arguments, 10, 0)
