"""Decoders as the true reward: scores and classes equal transformers', in every stage of a run."""

import dataclasses
import json

import numpy as np
import pytest

from irl_jax import api
from irl_jax import pipeline
from irl_jax import rewards
from irl_jax.command_line import config_files
from irl_jax.data.playground import comments
from irl_jax.data.playground import tokenizers
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.stages import preflight
from tests.test_pipeline import ROOT

pytestmark = pytest.mark.slow  # every test imports torch

CONFIG = config_files.load(str(ROOT / 'configs' / 'smoke.py'))
TEXTS = ['you are kind', 'what an idiot', 'a', 'some words </s> and others <|endoftext|> here']
LABELS = {
  1: {0: 'LABEL_0'},
  2: {0: 'neutral', 1: 'toxic'},
  3: {0: 'insult', 1: 'toxic', 2: 'threat'},
}
MODELS = {  # model_type, labels, problem_type
  'llama_score': ('llama', 1, None),
  'qwen2_score': ('qwen2', 1, 'regression'),
  'gemma2_score': ('gemma2', 1, None),
  'neox_classes': ('gpt_neox', 2, None),
  'llama_classes': ('llama', 2, 'single_label_classification'),
  'gemma3_labels': ('gemma3_text', 3, 'multi_label_classification'),
  'neox_labels': ('gpt_neox', 3, 'multi_label_classification'),
}


@pytest.fixture(scope='module')
def words():
  return tokenizers.language_model_tokenizer(row['text'] for row in comments.comments(300, 0))


@pytest.fixture(scope='module')
def saved(words, tmp_path_factory):
  """A function of a name in MODELS -> the folder that transformers wrote, and its model."""
  torch = pytest.importorskip('torch')
  import transformers

  def save(name):
    family, count, problem_type = MODELS[name]
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(
      family,
      vocab_size=tokenizers.padded_size(words),
      hidden_size=32,
      num_hidden_layers=2,
      num_attention_heads=4,
      intermediate_size=48,
      max_position_embeddings=128,
      initializer_range=0.3,
      id2label=LABELS[count],
      label2id={label: number for number, label in LABELS[count].items()},
      problem_type=problem_type,
      eos_token_id=0,
      bos_token_id=0,
      pad_token_id=1,
      **({} if family == 'gpt_neox' else {'num_key_value_heads': 2, 'head_dim': 8}),
    )
    model = transformers.AutoModelForSequenceClassification.from_config(config).float().eval()
    folder = tmp_path_factory.mktemp(name)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder, model

  return save


def logits_of(model, words):
  """Transformers' logits [N, labels], each text on its own."""
  import torch

  ids = [words(text, split_special_tokens=True, return_tensors='pt')['input_ids'] for text in TEXTS]
  with torch.no_grad():
    return np.concatenate([model(one).logits.numpy() for one in ids])


@pytest.mark.parametrize('name', [name for name in MODELS if name.endswith('score')])
def test_a_score_is_that_of_transformers(saved, words, name):
  folder, model = saved(name)
  reward = rewards.load_true_reward(str(folder))
  assert not reward.has_classes
  np.testing.assert_allclose(reward(TEXTS), logits_of(model, words)[:, 0], atol=1e-4)


@pytest.mark.parametrize('name', [name for name in MODELS if not name.endswith('score')])
def test_classes_are_those_of_transformers(saved, words, name):
  folder, model = saved(name)
  expected = logits_of(model, words)
  assert pretrained.kind_of(str(folder)) == 'classifier'
  reward = rewards.load_true_reward(str(folder))
  assert reward.has_classes and reward.label == 'toxic'
  np.testing.assert_allclose(reward(TEXTS), -expected[:, 1], atol=1e-4)
  exponentials = np.exp(expected)
  likely = exponentials / exponentials.sum(1, keepdims=True)
  if MODELS[name][2] == 'multi_label_classification':
    likely = exponentials / (1 + exponentials)
  np.testing.assert_allclose(reward.of_kind('probability')(TEXTS), -likely[:, 1], atol=1e-4)
  scores = api.score(folder, TEXTS, label='neutral' if expected.shape[1] == 2 else 'threat')
  np.testing.assert_allclose(scores['logits'], expected, atol=1e-4)
  chosen = 0 if expected.shape[1] == 2 else 2
  np.testing.assert_allclose(scores['reward'], -expected[:, chosen], atol=1e-4)


def test_a_label_that_it_lacks_and_further_training_are_refused(saved, tmp_path):
  folder, _ = saved('neox_classes')
  with pytest.raises(ConfigError, match="has no label 'rude'; its labels: "):
    rewards.load_true_reward(str(folder), label='rude')
  config = dataclasses.replace(
    CONFIG, models=dataclasses.replace(CONFIG.models, classifier=str(folder))
  )
  with pytest.raises(InputError, match='was made of a language model; only encoders'):
    preflight.check(config, tmp_path / 'run', CONFIG.stages)


@pytest.mark.parametrize('name', ['llama_score', 'neox_labels'])
def test_a_run_with_a_decoder_as_the_true_reward(saved, tmp_path, name):
  folder, _ = saved(name)
  stages = tuple(stage for stage in CONFIG.stages if stage not in ('classifier', 'rerlhf'))
  models = dataclasses.replace(CONFIG.models, classifier=str(folder))
  pipeline.run(dataclasses.replace(CONFIG, stages=stages, models=models), tmp_path / 'run')
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  after = summary['rlhf']['after']
  assert (
    np.isfinite(after['true_reward']) and 'spearman' in summary['irl']['seeds'][0]['heldout_texts']
  )
  if name == 'neox_labels':
    assert summary['true_reward']['kind'] == 'classifier'
    assert summary['true_reward']['label'] == 'toxic' and after['toxicity']['n'] > 0
  else:
    assert summary['true_reward']['kind'] == 'score' and after['toxicity'] is None
