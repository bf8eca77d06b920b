"""The public API: what each kind of model says about texts, and that the package's short names lead here."""

import json
import types

import numpy as np
import pytest

import irl_jax
from irl_jax import api
from irl_jax import rewards
from irl_jax.models import pretrained


def classifier(monkeypatch, names):
  """Every path is a classifier with these labels; logit i of a text is i + its length."""
  hf_config = {'id2label': {str(i): name for i, name in enumerate(names)}}
  model = types.SimpleNamespace(kind='classifier', hf_config=hf_config)
  monkeypatch.setattr(pretrained, 'read_config', lambda path: hf_config)
  monkeypatch.setattr(pretrained, 'load', lambda path: model)
  monkeypatch.setattr(
    rewards,
    'class_scorer',
    lambda model, batch_size, progress: (
      lambda texts: np.array(
        [[i + len(text) for i in range(len(names))] for text in texts], np.float32
      )
    ),
  )


@pytest.mark.parametrize(
  'names, reward', [(['ok', 'TOXIC', 'spam'], -3.0), (['toxic', 'ok'], -2.0), (['a', 'b'], -3.0)]
)
def test_toxicity_classifier_gives_logits_and_reward(monkeypatch, names, reward):
  classifier(monkeypatch, names)
  scores = api.score('M', ['xy'])
  assert list(scores) == ['logits', 'reward'] and scores['logits'].shape == (1, len(names))
  assert scores['reward'].tolist() == [reward]


def test_classifier_of_something_else_gives_logits_alone(monkeypatch):
  classifier(monkeypatch, ['joy', 'anger', 'fear'])
  assert list(api.score('M', ['xy'])) == ['logits']


def test_ensemble_gives_mean_and_deviation_of_its_members(tmp_path, monkeypatch):
  for name in ('seed_0', 'seed_1', 'seed_2'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').write_text('{}')
  (tmp_path / 'config.json').write_text(
    json.dumps({'model_type': 'irl_jax_ensemble', 'members': ['seed_0', 'seed_1', 'seed_2']})
  )
  monkeypatch.setattr(
    rewards,
    'load',
    lambda path, batch_size, progress: (
      lambda texts: np.array([len(text) * int(path[-1]) for text in texts], np.float32)
    ),
  )
  scores = api.score(str(tmp_path), ['a', 'bc'])
  assert list(scores) == ['reward', 'reward_std']
  np.testing.assert_allclose(scores['reward'], [1, 2])
  np.testing.assert_allclose(scores['reward_std'], np.array([1, 2]) * np.sqrt(2 / 3), rtol=1e-6)


def test_load_reward_scores_texts(shared):
  reward = irl_jax.load_reward(str(shared / 'models' / 'roberta_toxicity_mini'))
  kind, rude = reward(['Thank you for your help.', 'You are a fucking idiot.'])
  assert reward(['x']).dtype == np.float32 and kind > 0 > rude


def test_short_names_lead_to_the_api():
  assert all(
    getattr(irl_jax, name) is getattr(api, name) and name in dir(irl_jax)
    for name in irl_jax.__all__
  )
  with pytest.raises(AttributeError, match='no attribute'):
    _ = irl_jax.nonsense
