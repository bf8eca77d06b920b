"""Best-of-n against all subsets, and the study of overoptimisation through its command line."""

import itertools
import json
import math
import pathlib
import runpy

import best_of_n
import numpy as np
import pytest
import recovered_run

from irl_jax.command_line import launch as command_line

ROOT = pathlib.Path(__file__).parents[2]
PATH = str(ROOT / 'studies' / 'overoptimisation.py')
MODULE = runpy.run_path(PATH)


@pytest.mark.parametrize('n', [1, 2, 3, 5])
def test_best_of_n_is_the_mean_over_all_subsets(n):
  rng = np.random.default_rng(0)
  proxy, gold = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
  best = [
    gold[row][max(chosen, key=lambda column: proxy[row][column])]
    for row in range(3)
    for chosen in itertools.combinations(range(5), n)
  ]
  assert best_of_n.expected(proxy, gold, n) == pytest.approx(np.mean(best))


def test_an_order_that_knows_nothing_gains_nothing():
  gold = np.random.default_rng(0).normal(size=(4, 6))
  for n in (1, 3, 6):
    assert best_of_n.expected(np.zeros((4, 6)), gold, n) == pytest.approx(gold.mean())


def test_the_kl_of_best_of_n_is_that_of_the_sample_that_wins():
  # With no ties, the best of n has the density n F^(n-1) relative to one sample.
  grid = (np.arange(200_000) + 0.5) / 200_000
  for n in (1, 2, 8, 64):
    density = n * grid ** (n - 1)
    density = density[density > 1e-300]
    relative = np.sum(density * np.log(density)) / grid.size
    assert best_of_n.kl(n) == pytest.approx(relative, abs=1e-3)


@pytest.mark.parametrize('n', [0, 7])
def test_more_than_all_samples_are_refused(n):
  with pytest.raises(ValueError, match='must be in 1 to 6'):
    best_of_n.expected(np.zeros((1, 6)), np.zeros((1, 6)), n)


def test_a_curve_that_turns_has_its_best_before_its_end():
  curve = {
    'kl': list(np.arange(16.0)),
    'reward': list(np.arange(16.0)),
    'true_reward': [*np.arange(8.0), *np.arange(8.0)[::-1]],
  }
  found = MODULE['summary']([curve])
  assert found['best_true_reward'] == [6.5] and found['kl_at_best'] == [6.5]
  assert found['last_true_reward'] == [0.5] and found['last_kl'] == [14.5]
  assert found['reward'] == [[0.5, 14.5]]


@pytest.mark.slow
def test_every_reward_has_a_curve_of_each_seed_and_finished_ones_are_kept(
  policy, classifier, tmp_path, capsys
):
  run = recovered_run.make(tmp_path / 'run', policy, classifier)

  def study(seeds):
    module = runpy.run_path(PATH)  # flags are defined once
    arguments = [
      'overoptimisation.py',
      f'--config={ROOT}/configs/smoke.py',
      f'--workdir={run}',
      f'--output={tmp_path}/found.json',
      f'--figure={tmp_path}/found.png',
      '--config.irl.epochs=1',
      '--steps=2',
      f'--seeds={seeds}',
      '--samples=4',
      '--sampled_prompts=3',
    ]
    code = command_line.run_main(module['main'], module['FLAGS'], module['__doc__'], arguments)
    assert code == 0, capsys.readouterr().err
    return json.loads((tmp_path / 'found.json').read_text())

  first = study(1)
  assert len(first['ppo']) == 5
  for curves, of_samples in zip(first['curves'].values(), first['best_of_n'].values()):
    (curve,) = curves
    assert len(curve['kl']) == len(curve['reward']) == 2 and curve['kl'][0] == pytest.approx(0)
    assert of_samples['kl'] == [best_of_n.kl(n) for n in (1, 2, 4)]
    assert all(map(math.isfinite, of_samples['true_reward']))
  ours = first['best_of_n']['the true reward']
  assert ours['true_reward'] == sorted(ours['true_reward'])
  second = study(2)
  assert {name: seeds[:1] for name, seeds in second['curves'].items()} == first['curves']
  assert (tmp_path / 'found.png').read_bytes().startswith(b'\x89PNG')
