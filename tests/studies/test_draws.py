"""The study of several draws of PPO, on tiny models, through its command line."""

import dataclasses
import json
import pathlib
import runpy

import draw_results
import halves
import numpy as np
import pytest

from irl_jax import rewards
from irl_jax.command_line import launch as command_line
from irl_jax.models import pretrained

ROOT = pathlib.Path(__file__).parents[2]
PATH = str(ROOT / 'studies' / 'draws.py')
RNG = np.random.default_rng(0)
WORDS = [''.join(row) for row in RNG.choice(list('abcdefghijklmnop'), (400, 3))]
PAIRS = [
  {'toxic': ' '.join(WORDS[2 * n : 2 * n + 2]), 'neutral': WORDS[2 * n + 1]} for n in range(40)
]


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def study(folder, *flags):
  """Runs the study on two draws; returns its exit code and what it wrote."""
  module = runpy.run_path(PATH)  # flags are defined once
  output = folder / 'draws.json'
  arguments = [
    'draws.py',
    f'--config={ROOT}/configs/smoke.py',
    f'--workdir={folder / "runs"}',
    f'--output={output}',
    f'--pairs={folder / "pairs.jsonl"}',
    f'--config.data.source={folder / "texts.jsonl"}',
    f'--config.models.base={folder / "base"}',
    f'--config.models.classifier={folder / "classifier"}',
    '--config.stages=data,rlhf,demos,irl',
    '--config.irl.objective=logistic',
    '--config.irl.epochs=1',
    '--config.ppo.steps=1',
    '--config.ppo.trained_blocks=-1',
    '--draws=2',
    *flags,
  ]
  code = command_line.run_main(module['main'], module['FLAGS'], module['__doc__'], arguments)
  return code, json.loads(output.read_text()) if output.exists() else None


@pytest.fixture(scope='module')
def folder(policy, classifier, tmp_path_factory):
  """A base model, a classifier that calls half of the pairs' texts toxic, texts, and pairs."""
  folder = tmp_path_factory.mktemp('draws')
  texts = [text for row in PAIRS for text in row.values()]
  shift = np.array([0, np.median(rewards.true_reward(classifier)(texts))], np.float32)
  head = classifier.params['classifier']
  output = head['out_proj'] | {'bias': head['out_proj']['bias'] + shift}
  params = classifier.params | {'classifier': head | {'out_proj': output}}
  pretrained.save(folder / 'base', policy, '')
  pretrained.save(folder / 'classifier', dataclasses.replace(classifier, params=params), '')
  write(folder / 'texts.jsonl', [{'text': ' '.join(WORDS[n : n + 4])} for n in range(0, 320, 4)])
  write(folder / 'pairs.jsonl', PAIRS)
  return folder


def test_half_of_the_texts_are_kept_back_for_good():
  # The first bytes of the SHA-256 of these letters: ca 3e 2e 18 3f 25.
  rows = [{'toxic': text} for text in 'abcdef']
  assert halves.rows_of(rows, 'report', 'toxic') == rows[4:]
  assert halves.rows_of(rows, 'choice', 'toxic') == rows[:4]
  assert halves.rows_of(rows, '', 'toxic') == rows


def test_a_variant_s_row_holds_what_a_loop_over_draws_and_seeds_computes():
  rng = np.random.default_rng(1)
  true, labels = rng.normal(size=40), rng.integers(0, 2, 40)
  texts = draw_results.Texts([''] * 40, labels, true, np.tile(np.arange(20), 2), paired=True)
  one = lambda: {
    'texts': true + rng.normal(size=40),
    'unlabelled': rng.normal(size=30),
    **{f'{side}_{draw}': rng.normal(size=9) for side in ('aligned', 'base') for draw in (0, 1)},
  }
  scores = [[one(), one()], [one(), one()]]
  found = draw_results.results(scores, texts, samples=20)
  for draw in (0, 1):
    for seed in (0, 1):
      row = scores[draw][seed]
      toxic, harmless = row['texts'][true < 0], row['texts'][true >= 0]
      wins = [high > low for high in harmless for low in toxic]
      assert found['auroc'][draw][seed] == pytest.approx(np.mean(wins))
      ordered = [row['texts'][20 + n] > row['texts'][n] for n in range(20)]
      assert found['ordered'][draw][seed] == pytest.approx(np.mean(ordered))
      for name, other in (('own', draw), ('other', 1 - draw)):
        higher = row[f'aligned_{other}'] > row[f'base_{other}']
        assert found[name][draw][seed] == pytest.approx(np.mean(higher))
  low, high = found['auroc_interval']
  assert low < np.mean(found['auroc']) < high


def test_a_gain_is_measured_on_the_same_rows_and_one_draw_at_a_time():
  rng = np.random.default_rng(2)
  true = rng.normal(size=60)
  texts = draw_results.Texts([''] * 60, true < 0, true, np.arange(60), paired=False)
  noisy = [[{'texts': true + rng.normal(size=60)}] for _ in range(2)]
  perfect = [[{'texts': true}] for _ in range(2)]
  found = draw_results.gains({'noisy': noisy, 'perfect': perfect, 'missing': []}, texts, 50)
  assert found['noisy'] == {'by_draw': [0, 0], 'interval': [0, 0]}
  auroc = [
    np.mean([high > low for high in one['texts'][true >= 0] for low in one['texts'][true < 0]])
    for (one,) in noisy
  ]
  np.testing.assert_allclose(found['perfect']['by_draw'], 1 - np.array(auroc))
  low, high = found['perfect']['interval']
  assert 0 < low < 1 - np.mean(auroc) < high


@pytest.mark.slow
def test_every_draw_has_its_own_rewards_and_the_same_command_adds_what_is_missing(folder, capsys):
  variants = '--variants=source-T.05,independent-T.5,true-order-T.5'
  code, found = study(folder, variants, '--seeds=1')
  assert code == 0, capsys.readouterr().err
  kept = halves.rows_of(PAIRS, 'report', 'toxic')
  assert found['texts'] == 2 * len(kept)
  assert np.shape(found['rewards']['source-T.05']['auroc']) == (2, 1)
  assert np.shape(found['rewards']['dpo_given_prompt']['auroc']) == (2, 1)
  first, second = found['rlhf']
  assert first['after']['true_reward'] != second['after']['true_reward']
  done = {path: path.stat().st_mtime for path in (folder / 'runs').rglob('*.npz')}
  code, found = study(folder, '--variants=source-T.05', '--seeds=2', '--half=choice')
  assert code == 0 and found['texts'] == 2 * (len(PAIRS) - len(kept))
  assert np.shape(found['rewards']['source-T.05']['auroc']) == (2, 2)
  now = {path: path.stat().st_mtime for path in (folder / 'runs').rglob('*.npz')}
  assert now.items() >= done.items() and len(now) == len(done) + 2
