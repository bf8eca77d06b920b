"""A run adds a probability and a flag to the scores of the rewards in its folder."""

import json
import math

import numpy as np
import pytest

from irl_jax.data import rows as rows_lib
from irl_jax.evaluation import run_scores

PLATT = [{'slope': 2.0, 'intercept': 0.5, 'n': 40}, {'slope': 3.0, 'intercept': 0.0, 'n': 40}, None]


@pytest.fixture
def run(tmp_path):
  """The folder of a run with two seeds, whose second has no probability."""
  members = ['seed_0/reward', 'seed_1/reward']
  for member in members:
    (tmp_path / 'irl' / member).mkdir(parents=True)
  config = {'model_type': 'irl_jax_ensemble', 'members': members}
  (tmp_path / 'irl' / 'config.json').write_text(json.dumps(config))
  ensemble, *seeds = ({'calibration': {'platt': platt}} for platt in PLATT)
  figures = {'irl': {'ensemble': ensemble, 'seeds': seeds}}
  (tmp_path / 'irl' / 'figures.json').write_text(json.dumps(figures))
  row = lambda number: {'prompt': 'ab', 'aligned': 'cab' * (1 + number % 3), 'base': ' a b'}
  rows_lib.write_jsonl(tmp_path / 'demos' / 'train.jsonl', map(row, range(30)))
  rows_lib.write_jsonl(tmp_path / 'demos' / 'validation.jsonl', map(row, range(30)))
  return tmp_path


def scores_of(folder, tokenizer, texts):
  scorer = lambda texts: {'reward': np.array([len(text) / 4 - 1 for text in texts])}
  place = run_scores.find(folder)
  return run_scores.extended(scorer, place, tokenizer, 36)(texts)


def test_the_places_of_a_runs_rewards_are_found(run, tmp_path, monkeypatch):
  irl = run / 'irl'
  assert run_scores.find(irl) == (irl, None)
  assert run_scores.find(irl / 'seed_1' / 'reward') == (irl, 1)
  monkeypatch.chdir(irl)
  assert run_scores.find('seed_0/reward') == (irl, 0)
  assert run_scores.find(run) is None and run_scores.find('owner/name') is None
  assert run_scores.find(irl / 'seed_2' / 'reward') is None


def test_the_probability_is_that_of_the_same_reward(run, letters):
  texts = ['', 'ab', 'abcdef']
  for folder, platt in ((run / 'irl', PLATT[0]), (run / 'irl' / 'seed_0' / 'reward', PLATT[1])):
    scores = scores_of(folder, letters, texts)
    expected = [
      1 / (1 + math.exp(-platt['slope'] * reward - platt['intercept']))
      for reward in scores['reward']
    ]
    np.testing.assert_allclose(scores['harmless_probability'], expected, rtol=1e-12)
  assert 'harmless_probability' not in scores_of(run / 'irl' / 'seed_1' / 'reward', letters, texts)


def test_texts_of_other_neighbours_are_flagged(run, letters):
  texts = ['abcabcab a b', 'xwvutsrqponm', '', 'x']
  scores = scores_of(run / 'irl', letters, texts)
  assert list(scores) == ['reward', 'harmless_probability', 'out_of_distribution']
  assert scores['out_of_distribution'].tolist() == [False, True, False, False]
  assert scores_of(run / 'irl', letters, [])['out_of_distribution'].shape == (0,)


def test_demonstrations_that_change_are_read_again(run, letters):
  assert scores_of(run / 'irl', letters, ['x w x w x w'])['out_of_distribution'].all()
  rows = [{'prompt': 'x', 'aligned': ' w x w', 'base': ' w x'}] * 3
  for split in ('train', 'validation'):
    rows_lib.write_jsonl(run / 'demos' / f'{split}.jsonl', rows)
  assert not scores_of(run / 'irl', letters, ['x w x w x w'])['out_of_distribution'].any()


def test_an_unfinished_run_adds_what_it_has(run, letters):
  (run / 'irl' / 'figures.json').unlink()
  assert list(scores_of(run / 'irl', letters, ['a'])) == ['reward', 'out_of_distribution']
  rows_lib.write_jsonl(run / 'demos' / 'validation.jsonl', [])
  assert list(scores_of(run / 'irl', letters, ['a'])) == ['reward']
  (run / 'demos' / 'train.jsonl').unlink()
  assert list(scores_of(run / 'irl', letters, ['a'])) == ['reward']
