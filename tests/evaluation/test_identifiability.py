"""Spread over seeds against NumPy, and figures that some seeds do not have."""

import json

import numpy as np
import pytest

from irl_jax.evaluation.agreement import agreement
from irl_jax.evaluation.figures import collect
from irl_jax.evaluation.identifiability import mean_and_std, seed_spearman


def test_seed_spearman_is_the_mean_over_pairs():
  scores = np.random.default_rng(0).normal(size=(4, 30))
  ranks = np.argsort(np.argsort(scores, axis=1), axis=1)
  matrix = np.corrcoef(ranks)
  assert seed_spearman(scores) == pytest.approx(matrix[np.triu_indices(4, 1)].mean(), abs=1e-12)


@pytest.mark.parametrize('scores', [[], [[1, 2, 3]], [[1], [2]], [[1, 2, 3], [5, 5, 5], [1, 2, 3]]])
def test_seed_spearman_that_does_not_exist(scores):
  assert seed_spearman(scores) is None


def test_mean_and_std_are_numpys_at_any_depth():
  seeds = [{'texts': {'accuracy': value, 'why': {'f1': 'none'}, 'f1': None}, 'reliable': True} for value in
           (0.5, 0.75, 0.7)]
  mean, std = mean_and_std(seeds)
  assert mean == {'texts': {'accuracy': pytest.approx(np.mean([0.5, 0.75, 0.7])), 'f1': None, 'why': {'f1': 'none'}}}
  assert std['texts']['accuracy'] == pytest.approx(np.std([0.5, 0.75, 0.7], ddof=1))
  json.dumps([mean, std], allow_nan=False)


def test_a_seed_without_the_figure_is_left_out_and_said_so():
  reference = [-1, 0, 1]
  seeds = [agreement(predicted, reference) for predicted in ([0, 0, 0], [-1, 0, 1], [1, 0, -1])]
  mean, std = mean_and_std(seeds)
  assert mean['pearson'] == pytest.approx(0) and std['pearson'] == pytest.approx(2 ** 0.5)
  assert mean['why']['pearson'] == 'over 2 of 3 seeds: the recovered reward has zero variance'
  assert mean['n'] == 3 and mean['accuracy'] == pytest.approx((2 / 3 + 1 + 1 / 3) / 3)


def test_one_seed_has_no_deviation():
  mean, std = mean_and_std([{'accuracy': 0.5}])
  assert mean == {'accuracy': 0.5} and std['accuracy'] is None and 'two seeds' in std['why']['accuracy']
  assert mean_and_std([]) == ({}, {})


def test_collect_makes_plain_json():
  figures = collect({'a': np.float32(0.5), 'b': np.int64(3), 'c': float('nan'), 'd': 'no text', 'e': np.bool_(True)})
  assert figures == {'a': 0.5, 'b': 3, 'c': None, 'd': None, 'e': True,
                     'why': {'c': 'the result is not finite (nan)', 'd': 'no text'}}
  assert json.dumps(figures, allow_nan=False)
