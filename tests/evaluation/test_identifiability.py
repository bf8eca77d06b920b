"""Spread over seeds against NumPy, and metrics that some seeds do not have."""

import json

import numpy as np
import pytest
from scipy import stats

from irl_jax.evaluation.agreement import agreement
from irl_jax.evaluation.identifiability import compare_rewards
from irl_jax.evaluation.identifiability import epic_distance
from irl_jax.evaluation.identifiability import mean_and_std
from irl_jax.evaluation.identifiability import seed_spearman
from irl_jax.evaluation.identifiability import sign_agreement
from irl_jax.evaluation.identifiability import spearman
from irl_jax.evaluation.metrics import collect

RNG = np.random.default_rng(3)


def test_matrices_are_those_of_every_two_rewards():
  scores = np.round(RNG.normal(size=(3, 40)), 1)
  ranks, signs = spearman(scores), sign_agreement(scores)
  for i in range(3):
    for j in range(3):
      assert ranks[i, j] == pytest.approx(
        stats.spearmanr(scores[i], scores[j]).statistic, abs=1e-12
      )
      assert signs[i, j] == np.mean([(a < 0) == (b < 0) for a, b in zip(scores[i], scores[j])])


def epic_looped(first, second):
  """Half the distance of two rewards [M, C], each without its prompts' means and of norm 1."""
  vectors = []
  for reward in (first, second):
    canonical = [value - sum(row) / len(row) for row in reward for value in row]
    norm = sum(value**2 for value in canonical) ** 0.5
    vectors.append([value / norm for value in canonical])
  return sum((a - b) ** 2 for a, b in zip(*vectors)) ** 0.5 / 2


@pytest.mark.parametrize('completions', [2, 5])
def test_epic_distance_is_half_the_distance_of_the_canonical_rewards(completions):
  rewards = RNG.normal(size=(3, 20, completions))
  found = epic_distance(rewards)
  for i in range(3):
    for j in range(3):
      assert found[i, j] == pytest.approx(
        epic_looped(rewards[i].tolist(), rewards[j].tolist()), abs=1e-7
      )


def test_epic_distance_sees_neither_the_prompts_nor_the_scale():
  reward = RNG.normal(size=(500, 2))
  shaped = 3 * reward + RNG.normal(0, 10, (500, 1))
  found = epic_distance([reward, shaped, -reward, RNG.normal(size=(500, 2))])
  assert found[0, 1] == pytest.approx(0, abs=1e-7) and found[0, 2] == pytest.approx(1)
  assert found[0, 3] == pytest.approx(0.5**0.5, abs=0.05)
  np.testing.assert_array_equal(np.diag(found), 0)


def test_a_reward_that_tells_nothing_apart_has_no_entry_but_a_reason():
  texts = [[1.0, -2, 3], [1, 1, 1]]
  found = compare_rewards(['a', 'b'], texts, [[[1.0, 2], [3, 1]], [[4, 4], [7, 7]]])
  assert found['names'] == ['a', 'b']
  assert found['spearman'] == [[pytest.approx(1), None], [None, None]]
  assert found['epic_distance'] == [[0, None], [None, None]]
  assert found['sign_agreement'] == [[1, 2 / 3], [2 / 3, 1]] and set(found['why']) == {
    'spearman',
    'epic_distance',
  }
  json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
  'completions, message',
  [
    ([[1.0, 2]], 'rewards x prompts x completions'),
    ([[[1.0, np.inf]]], r'scores\[0\]\[1\] is inf'),
  ],
)
def test_bad_completions_are_named(completions, message):
  with pytest.raises(ValueError, match=message):
    epic_distance(completions)


def test_seed_spearman_is_the_mean_over_pairs():
  scores = np.random.default_rng(0).normal(size=(4, 30))
  ranks = np.argsort(np.argsort(scores, axis=1), axis=1)
  matrix = np.corrcoef(ranks)
  assert seed_spearman(scores) == pytest.approx(matrix[np.triu_indices(4, 1)].mean(), abs=1e-12)


@pytest.mark.parametrize('scores', [[], [[1, 2, 3]], [[1], [2]], [[1, 2, 3], [5, 5, 5], [1, 2, 3]]])
def test_seed_spearman_that_does_not_exist(scores):
  assert seed_spearman(scores) is None


def test_mean_and_std_are_numpys_at_any_depth():
  seeds = [
    {'texts': {'accuracy': value, 'why': {'f1': 'none'}, 'f1': None}, 'reliable': True}
    for value in (0.5, 0.75, 0.7)
  ]
  mean, std = mean_and_std(seeds)
  assert mean == {
    'texts': {
      'accuracy': pytest.approx(np.mean([0.5, 0.75, 0.7])),
      'f1': None,
      'why': {'f1': 'none'},
    }
  }
  assert std['texts']['accuracy'] == pytest.approx(np.std([0.5, 0.75, 0.7], ddof=1))
  json.dumps([mean, std], allow_nan=False)


def test_a_seed_without_the_figure_is_left_out_and_said_so():
  reference = [-1, 0, 1]
  seeds = [agreement(predicted, reference) for predicted in ([0, 0, 0], [-1, 0, 1], [1, 0, -1])]
  mean, std = mean_and_std(seeds)
  assert mean['pearson'] == pytest.approx(0) and std['pearson'] == pytest.approx(2**0.5)
  assert mean['why']['pearson'] == 'over 2 of 3 seeds: the reward has zero variance'
  assert mean['n'] == 3 and mean['accuracy'] == pytest.approx((2 / 3 + 1 + 1 / 3) / 3)


def test_parts_that_a_seed_lacks_and_lists_are_left_out():
  seeds = [
    {'platt': {'slope': 1.0}, 'curve': [1, 2]},
    {'platt': None, 'curve': [3], 'why': {'platt': 'no labels'}},
  ]
  mean, std = mean_and_std(seeds)
  assert mean == {'platt': {'slope': 1.0}, 'why': {'platt': 'over 1 of 2 seeds: no labels'}}
  assert std['platt']['slope'] is None
  assert mean_and_std([{'platt': None, 'why': {'platt': 'no labels'}}])[0] == {
    'platt': None,
    'why': {'platt': 'no labels'},
  }


def test_one_seed_has_no_deviation():
  mean, std = mean_and_std([{'accuracy': 0.5}])
  assert (
    mean == {'accuracy': 0.5} and std['accuracy'] is None and 'two seeds' in std['why']['accuracy']
  )
  assert mean_and_std([]) == ({}, {})


def test_collect_makes_plain_json():
  figures = collect(
    {'a': np.float32(0.5), 'b': np.int64(3), 'c': float('nan'), 'd': 'no text', 'e': np.bool_(True)}
  )
  assert figures == {
    'a': 0.5,
    'b': 3,
    'c': None,
    'd': None,
    'e': True,
    'why': {'c': 'the result is not finite (nan)', 'd': 'no text'},
  }
  assert json.dumps(figures, allow_nan=False)
