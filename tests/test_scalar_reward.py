"""A reward model of one label as the true reward, through every stage of a run."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_models

from irl_jax import pipeline
from irl_jax import rewards
from irl_jax.data.playground import comments
from irl_jax.data.playground import tokenizers
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.evaluation.metrics import NO_CLASSES
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.stages import preflight
from tests.test_pipeline import CONFIG

SCALE = 40  # of the scores, which no training knows


@pytest.fixture(scope='module')
def judge(tmp_path_factory):
  """The folder of a random reward model, whose scores lie far from 0 and 1."""
  folder = tmp_path_factory.mktemp('judge') / 'reward'
  texts = [row['text'] for row in comments.comments(300, 0)]
  tokenizer = tokenizers.language_model_tokenizer(texts)
  config = gpt_neox.GPTNeoXConfig(
    vocab_size=tokenizers.padded_size(tokenizer),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
  )
  params = tiny_models.drawn(trunk.init, config, seed=5)
  del params['embed_out']
  direction = np.random.default_rng(0).normal(size=(32, 1)).astype(np.float32)
  params['score'] = {'kernel': SCALE * direction}
  params['final_layer_norm']['bias'] += 2 * direction[:, 0]  # an offset
  pretrained.save(folder, pretrained.Pretrained('reward', config, params, tokenizer), '')
  return folder


def test_its_score_is_the_true_reward(judge):
  reward = rewards.load_true_reward(str(judge))
  texts = ['some words', 'others']
  assert not reward.has_classes and reward.of_kind('logit') is reward
  np.testing.assert_array_equal(reward(texts), rewards.load(str(judge))(texts))
  with pytest.raises(InputError, match='is a scalar reward model, which has no probabilities'):
    reward.of_kind('probability')
  with pytest.raises(ConfigError, match='is not a classifier, so it has no label'):
    rewards.load_true_reward(str(judge), label='toxic')


def test_a_run_is_told_what_its_true_reward_is_before_it_starts(judge, tmp_path, caplog):
  stages = tuple(stage for stage in CONFIG.stages if stage != 'classifier')
  named = lambda **more: dataclasses.replace(
    CONFIG, models=dataclasses.replace(CONFIG.models, classifier=str(judge), **more)
  )
  with caplog.at_level('INFO'):
    preflight.check(named(), tmp_path / 'run', stages)
  told = f'the true reward of {judge} is its score: higher is better'
  assert sum(told in record.getMessage() for record in caplog.records) == 1
  with pytest.raises(ConfigError, match="is not a classifier, so it has no label 'toxic'"):
    preflight.check(named(label='toxic'), tmp_path / 'run', stages)
  with pytest.raises(InputError, match='is a scalar reward model, which has no probabilities'):
    likely = dataclasses.replace(CONFIG.ppo, reward='probability')
    preflight.check(dataclasses.replace(named(), ppo=likely), tmp_path / 'run', stages)
  with pytest.raises(InputError, match='must be classifier'):
    preflight.check(named(), tmp_path / 'run', CONFIG.stages)


@pytest.mark.slow
def test_a_run_against_a_score_has_no_toxicity_and_says_why(judge, tmp_path):
  stages = tuple(stage for stage in CONFIG.stages if stage != 'classifier')
  models = dataclasses.replace(CONFIG.models, classifier=str(judge))
  evaluation = dataclasses.replace(CONFIG.evaluation, ceiling='true_reward')
  config = dataclasses.replace(CONFIG, stages=stages, models=models, evaluation=evaluation)
  pipeline.run(config, tmp_path / 'run')
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  assert summary['true_reward']['kind'] == 'score'
  assert summary['true_reward']['why'] == {'human_accuracy': NO_CLASSES}
  for stage in ('rlhf', 'rerlhf'):
    training = summary[stage]
    assert training['mcnemar'] is None and training['why'] == {'mcnemar': NO_CLASSES}
    for when in ('before', 'after'):
      assert training[when]['toxicity'] is None and abs(training[when]['true_reward']) > 5
      assert training[when]['why']['toxicity'] == NO_CLASSES
    assert 0 < training['win_rate']['rate'] < 1 and training['win_rate']['n'] > 50
  for row in (*summary['irl']['seeds'], summary['irl']['baselines']['length']):
    for name in ('heldout_texts', 'heldout_pairs'):
      texts, interval = row[name], row['intervals'][name]
      assert texts['auroc'] is texts['accuracy'] is texts['f1'] is interval['auroc'] is None
      assert texts['why']['auroc'] == interval['why']['auroc'] == NO_CLASSES
      assert isinstance(texts['pairwise_accuracy'], float) and interval['spearman']
    assert isinstance(row['heldout_texts_human']['auroc'], float)  # the playground's labels
  assert isinstance(summary['irl']['baselines']['ceiling']['heldout_texts']['spearman'], float)
  log = [json.loads(line) for line in (tmp_path / 'run' / 'log.jsonl').open()]
  clipped = [row['objective/clipped'] for row in log if row['stage'] == 'rlhf']
  assert clipped and max(clipped) < 0.1
  assert any('reported/spearman' in row for row in log)
  assert not any('reported/auroc' in row for row in log)
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert 'its score, without a toxic class and without a zero' in page
  assert 'Against the playground&#39;s labels' in page and "people's" not in page
  card = (tmp_path / 'run' / 'rlhf' / 'policy' / 'README.md').read_text()
  assert f'True reward: the score of `{judge}`' in card
