"""The evaluate stage of an audit without a true reward, with labels and without."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import errors
from irl_jax import rewards
from irl_jax.config import Config
from irl_jax.config import Data
from irl_jax.config import Evaluation
from irl_jax.config import Models
from irl_jax.data import rows as rows_lib
from irl_jax.evaluation import heldout
from irl_jax.evaluation import likelihoods
from irl_jax.evaluation import zero
from irl_jax.irl import export
from irl_jax.irl import prepare
from irl_jax.irl import reward
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log
from irl_jax.runtime import workdir
from irl_jax.stages import baselines
from irl_jax.stages import evaluate as evaluation
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run

LETTERS = list('abcdefghijklmnopqrstuvw ')


def draw(count, seed):
  return [''.join(letters) for letters in np.random.default_rng(seed).choice(LETTERS, (count, 6))]


def data(labelled):
  """Returns rows of a split; half of them have a label."""
  return [
    {
      'prompt_id': str(index),
      'prompt': prompt,
      'original': original,
      'label': index // 2 % 2 if labelled and index % 2 else None,
    }
    for index, (prompt, original) in enumerate(zip(draw(60, 1), draw(60, 2)))
  ]


def demonstrations():
  return [
    {
      'prompt_id': str(index),
      'sample': 0,
      'prompt': prompt,
      'aligned': aligned,
      'base': base,
      'true_reward_aligned': None,
      'true_reward_base': None,
    }
    for index, (prompt, aligned, base) in enumerate(zip(draw(40, 3), draw(40, 4), draw(40, 5)))
  ]


@pytest.fixture(params=[True, False], ids=['labels', 'no_labels'])
def run(request, tmp_path, policy):
  """A Run in which two rewards were recovered."""
  for split in ('train', 'validation', 'heldout'):
    rows_lib.write_jsonl(tmp_path / 'data' / f'{split}.jsonl', data(request.param))
    rows_lib.write_jsonl(tmp_path / 'demos' / f'{split}.jsonl', demonstrations())
  moved = jax.tree.map(
    lambda leaf: (leaf + 0.1 * np.sin(np.arange(leaf.size)).reshape(leaf.shape)).astype(np.float32),
    policy.params,
  )
  pretrained.save(tmp_path / 'aligned', dataclasses.replace(policy, params=moved), '')
  pretrained.save(tmp_path / 'base', policy, '')
  members = []
  for seed in (0, 1):
    trunk = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
    head = heads.init_reward_head(jax.random.key(seed), 16)
    model = export.reward_model(policy, (trunk | {'reward_head': head}, {}))
    pretrained.save(tmp_path / 'irl' / f'seed_{seed}' / 'reward', model, '')
    workdir.write_json(
      tmp_path / 'irl' / f'seed_{seed}' / 'calibration.json', {'zero': 0.0, 'reliable_zero': False}
    )
    members.append(f'seed_{seed}/reward')
  workdir.write_json(
    tmp_path / 'irl' / 'config.json', {'model_type': 'irl_jax_ensemble', 'members': members}
  )
  config = Config(
    models=Models(base=str(tmp_path / 'base'), aligned=str(tmp_path / 'aligned')),
    stages=('data', 'demos', 'irl', 'evaluate', 'report'),
    data=Data(max_prompt_tokens=16),
    evaluation=Evaluation(bootstrap_samples=20, batch_size=16, ceiling='none'),
  )
  with metrics_log.MetricsLog(tmp_path, '') as log:
    yield Run(config, tmp_path, log, jnp.float32)


@pytest.mark.slow
def test_what_needs_a_true_reward_is_null_and_the_rest_is_there(run):
  evaluation.evaluate(run)
  text = (run.folder / 'irl' / 'figures.json').read_text()
  figures = json.loads(text, parse_constant=lambda constant: pytest.fail(f'{constant} in JSON'))
  labelled = any(row['label'] is not None for row in run.rows('heldout'))
  assert figures['true_reward']['human_accuracy'] is None
  irl = figures['irl']
  assert set(irl['baselines']) == {
    'constant',
    'length',
    'length_reversed',
    'bag_of_words',
    'last_token',
    'dpo_implicit',
    'dpo_given_prompt',
    'dpo_given_prompt_per_token',
    'ceiling',
  }
  of_length = [irl['baselines'][name] for name in ('length', 'length_reversed')]
  assert {row['prefers'] for row in of_length} == {'longer', 'shorter'}
  rates = [row['heldout_pairs']['prefers_aligned'] for row in of_length]
  assert sum(rates) == pytest.approx(1) and rates[0] >= 0.5
  for row in (*irl['seeds'], irl['ensemble'], irl['baselines']['dpo_implicit']):
    assert row['heldout_texts'] is None and 'true reward' in row['why']['heldout_texts']
    assert (row['heldout_texts_human'] is not None) == labelled
    assert (
      0 <= row['heldout_pairs']['prefers_aligned'] <= 1 and row['heldout_pairs']['auroc'] is None
    )
  ratio = lambda side: np.subtract(
    *(
      likelihoods.text_log_prob(pretrained.load(str(run.folder / name)))(
        full_texts(demonstrations(), side)
      )
      for name in ('aligned', 'base')
    )
  )
  implicit = irl['baselines']['dpo_implicit']['heldout_pairs']
  assert implicit['prefers_aligned'] == np.mean(ratio('aligned') > ratio('base'))
  given_prompt = np.subtract(
    *(
      likelihoods.completion_log_prob_scorer(pretrained.load(str(run.folder / name)), 16)(
        [(row['prompt'], row[side]) for side in ('aligned', 'base') for row in demonstrations()]
      )[:, 0]
      for name in ('aligned', 'base')
    )
  )
  of_completions = irl['baselines']['dpo_given_prompt']['heldout_pairs']
  assert of_completions['prefers_aligned'] == np.mean(given_prompt[:40] > given_prompt[40:])
  words = [len(text.split()) for text in full_texts(data(labelled))]
  sign = 1 if of_length[0]['prefers'] == 'longer' else -1
  assert of_length[0]['zero'] == zero.otsu(sign * np.array(words, float)) == -of_length[1]['zero']
  assert (irl['seeds'][0]['calibration']['brier'] is not None) == labelled
  assert -1 <= irl['seed_spearman'] <= 1
  assert irl['coupled_pairs']  # these rows do not say it, so an older version wrote them
  # With so few pairs both seeds begin along the mean difference of all of them.
  assert irl['start']['between_seeds'] == pytest.approx(1)
  assert len(irl['start']['with_start']) == 2
  for row in (*irl['seeds'], irl['ensemble'], irl['baselines']['length']):
    assert row['preference']['low'] <= row['preference']['rate'] <= row['preference']['high']
    assert row['preference']['n'] == row['preference']['pairs'] == 40
  texts = rows_lib.read_jsonl(run.folder / 'evaluation' / 'texts.jsonl')
  assert all(row['true_reward'] is None for row in texts) and len(texts) == 60
  pairs = rows_lib.read_jsonl(run.folder / 'evaluation' / 'pairs.jsonl')
  score = rewards.load(str(run.folder / 'irl' / 'seed_1' / 'reward'))
  np.testing.assert_allclose(
    [row['rewards_base'][1] for row in pairs],
    score(full_texts(demonstrations(), 'base')),
    atol=1e-5,
  )
  shown = rows_lib.read_jsonl(run.folder / 'evaluation' / 'attributions.jsonl')
  assert [row['chosen'] for row in shown].count('by hash') == 20 and len(shown) == 40


def test_attributions_need_the_base_models_tokenizer_but_not_its_weights(run, monkeypatch):
  length = lambda texts: np.array([len(text) for text in texts], float)
  monkeypatch.setattr(evaluation, 'load', lambda run, place: length)
  monkeypatch.setattr(
    pretrained.huggingface.weight_files, 'stream', lambda *_: pytest.fail('weights were read')
  )
  held = evaluation.reference(run, None)
  rows = evaluation.explain(run, held, heldout.score(length, held)).texts
  assert len(rows) == 40 and all(
    ''.join(token['piece'] for token in row['tokens']) == row['text'] for row in rows
  )


def test_words_of_the_held_out_completions_have_the_effect_that_the_reward_gives_them(
  run, monkeypatch
):
  letters = lambda texts: np.array([2.0 * text.count('a') for text in texts])
  monkeypatch.setattr(evaluation, 'load', lambda run, place: letters)
  settings = dataclasses.replace(run.config.evaluation, attributed_texts=0)
  run = dataclasses.replace(run, config=dataclasses.replace(run.config, evaluation=settings))
  pairs = [
    {**row, 'aligned': f' a {"b" if number % 2 else "c"}', 'base': ' b c'}
    for number, row in enumerate(run.demonstrations('heldout'))
  ]
  rows_lib.write_jsonl(run.folder / 'demos' / 'heldout.jsonl', pairs)
  held = evaluation.reference(run, None)
  explained = evaluation.explain(run, held, heldout.score(letters, held))
  assert explained.texts == []
  effects = {row['word']: row for row in explained.words}
  assert effects['a']['effect'] == 2.0 and effects['b']['effect'] == effects['c']['effect'] == 0.0
  assert (effects['a']['share_aligned'], effects['a']['share_base']) == (1.0, 0.0)
  assert (effects['b']['share_aligned'], effects['b']['share_base']) == (0.5, 1.0)


def test_prompts_alone_are_judged_by_their_completions(run):
  rows = [{**row, 'original': '', 'label': None} for row in run.rows('heldout')]
  rows_lib.write_jsonl(run.folder / 'data' / 'heldout.jsonl', rows)
  pairs = run.demonstrations('heldout')
  held = evaluation.reference(run, None)
  assert set(held.texts) == {*full_texts(pairs, 'aligned'), *full_texts(pairs, 'base')}
  assert len(held.texts) == len(set(held.texts)) == len(held.labels)
  rows_lib.write_jsonl(run.folder / 'data' / 'heldout.jsonl', [{**row, 'label': 1} for row in rows])
  labelled = evaluation.reference(run, None)
  assert labelled.texts == full_texts(rows) and set(labelled.labels) == {1}


@pytest.mark.parametrize('initial_head, most', [('random', 2000), ('difference', 8)])
def test_the_first_reward_of_each_seed_is_the_one_that_training_starts_from(
  run, monkeypatch, initial_head, most
):
  monkeypatch.setattr(prepare, 'DIRECTION_PAIRS', most)
  irl = dataclasses.replace(run.config.irl, initial_head=initial_head, trained_blocks=1)
  run = dataclasses.replace(run, config=dataclasses.replace(run.config, irl=irl, seed=3))
  texts = full_texts(run.rows('heldout'))
  found = evaluation.first_scores(run, texts, 2)
  base = pretrained.load_language_model(run.base)
  pairs = recovery.encode_demonstrations(base, demonstrations(), irl)
  for number, scores in enumerate(found):
    parts = prepare.initial_parts(base, pairs, irl, 3000 + number, jnp.float32)
    np.testing.assert_array_equal(scores, reward.scorer(base, parts)(texts))
  assert not np.allclose(*found)
  assert evaluation.first_scores(run, texts, 1) is None


def test_a_text_is_cut_where_the_run_cut_it(run):
  pair, row = run.demonstrations('heldout')[0], run.rows('validation')[0]
  cut = baselines.cut_of(run)
  assert cut(pair['prompt'] + pair['base']) == (pair['prompt'], pair['base'])
  assert cut(row['prompt'] + row['original']) == (row['prompt'], row['original'])
  assert cut('a text of no run, of eight words') == ('a text', ' of no run, of eight words')


def test_what_has_not_run_is_said(run):
  (run.folder / 'demos' / 'heldout.jsonl').unlink()
  with pytest.raises(errors.ConfigError, match='run the stage demos first'):
    evaluation.evaluate(run)
