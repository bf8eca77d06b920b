"""Rewards: the same numbers as torch, whatever the batch; ensembles; what may be loaded."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from irl_jax import errors
from irl_jax import rewards
from irl_jax.evaluation import likelihoods
from irl_jax.irl import export
from irl_jax.models import heads
from irl_jax.models import pretrained

TEXTS = ['bad', '', 'a cat', 'hello there old cow', 'w' * 45, 'b']
REAL = [
  'You are a wonderful person',
  'Shut up, you stupid idiot!',
  'a',
  'naïve — 🙂 <|endoftext|> and so on',
]


@pytest.fixture(scope='module')
def recovered(policy):
  """A recovered reward with its zero at 0.2."""
  trunk = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  head = heads.init_reward_head(jax.random.key(1), 16)
  return export.reward_model(policy, (trunk | {'reward_head': head}, {}), 0.2)


def torch_of(folder, auto):
  torch = pytest.importorskip('torch')
  import transformers

  return torch, getattr(transformers, auto).from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.slow
def test_true_reward_of_the_shared_classifier_is_that_of_torch(shared):
  folder = shared / 'models/roberta_toxicity_mini'
  torch, network = torch_of(folder, 'AutoModelForSequenceClassification')
  model = pretrained.load(str(folder))
  encode = lambda text: model.tokenizer(text, split_special_tokens=True, return_tensors='pt')[
    'input_ids'
  ]
  with torch.no_grad():
    expected = np.concatenate([network(encode(text)).logits.numpy() for text in REAL])
  np.testing.assert_allclose(rewards.class_scorer(model)(REAL), expected, atol=1e-4, rtol=0)
  scores = rewards.true_reward(model)(REAL)
  np.testing.assert_allclose(scores, -expected[:, 1], atol=1e-4, rtol=0)
  assert scores[0] > 0 > scores[1]
  odds = np.exp(expected[:, 1]) / np.exp(expected).sum(1)
  np.testing.assert_allclose(rewards.true_reward(model).probability(REAL), -odds, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_log_probs_of_the_shared_language_model_are_those_of_torch(shared):
  folder = shared / 'models/neox_14m'
  torch, network = torch_of(folder, 'AutoModelForCausalLM')
  model = pretrained.load(str(folder))
  texts = [*REAL, '']
  expected, counts = [], []
  for text in texts:
    ids = [0, *model.tokenizer(text, split_special_tokens=True)['input_ids']]
    with torch.no_grad():
      log_probs = torch.log_softmax(network(torch.tensor([ids])).logits[0], -1)
    expected.append(sum(log_probs[place, token].item() for place, token in enumerate(ids[1:])))
    counts.append(len(ids) - 1)
  actual = likelihoods.text_log_prob(model)(texts)
  np.testing.assert_allclose(actual, expected, atol=1e-3, rtol=1e-5)
  assert actual[-1] == 0
  np.testing.assert_array_equal(likelihoods.log_prob_scorer(model)(texts)[:, 1], counts)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['true_reward', 'recovered_reward', 'text_log_prob'])
def test_a_score_does_not_depend_on_its_company(request, policy, classifier, recovered, kind):
  model = {'true_reward': classifier, 'recovered_reward': recovered, 'text_log_prob': policy}[kind]
  module = likelihoods if kind == 'text_log_prob' else rewards
  reward = getattr(module, kind)(model, batch_size=8)
  scores = reward(TEXTS)
  assert scores.shape == (6,) and scores.dtype == np.float32 and np.ptp(scores) > 0.01
  np.testing.assert_allclose(np.concatenate([reward([text]) for text in TEXTS]), scores, atol=1e-4)
  order = [3, 0, 5, 1, 2, 4]
  np.testing.assert_allclose(reward([TEXTS[row] for row in order]), scores[order], atol=1e-4)
  np.testing.assert_allclose(reward(TEXTS * 5), np.tile(scores, 5), atol=1e-4)
  assert reward([]).shape == (0,) and likelihoods.log_prob_scorer(policy)([]).shape == (0, 2)


def test_an_empty_text_is_read_at_eos_alone(policy, recovered):
  reward = rewards.recovered_reward(recovered)
  forward = jax.jit(
    lambda params, ids: rewards.recovered_reward_of(
      params,
      rewards.structs.TextBatch(ids, np.ones((1, 1), bool)),
      config=policy.config,
      dtype=np.float32,
    )
  )
  np.testing.assert_allclose(
    reward(['']), forward(recovered.params, np.zeros((1, 1), np.int32)), atol=1e-6
  )


def test_long_texts_keep_their_end_and_are_counted(classifier, recovered, caplog):
  for build, model, longest in (
    (rewards.true_reward, classifier, 48),
    (rewards.recovered_reward, recovered, 64),
  ):
    reward = build(model)
    long = 'ab' * 50 + 'cd' * 20
    np.testing.assert_allclose(reward([long]), reward([long[-longest:]]), atol=1e-5)
    assert '1 of 1 text is longer than the ' in caplog.text
    assert f'{model.source} reads: cut on the left' in caplog.text


def test_the_toxic_label_is_found_by_its_name(classifier):
  swapped = dataclasses.replace(classifier, hf_config={'id2label': {'0': 'Toxic', '1': 'fine'}})
  logits = rewards.class_scorer(classifier)(TEXTS)
  np.testing.assert_array_equal(rewards.true_reward(swapped)(TEXTS), -logits[:, 0])
  unknown = dataclasses.replace(classifier, hf_config={'id2label': {'0': 'a', '1': 'b', '2': 'c'}})
  with pytest.raises(errors.InputError):
    rewards.true_reward(unknown)


def test_the_label_can_be_named(classifier, tmp_path):
  logits = rewards.class_scorer(classifier)(TEXTS)
  for label, column in (('neutral', 0), ('1', 1)):
    reward = rewards.true_reward(classifier, label=label)
    np.testing.assert_array_equal(reward(TEXTS), -logits[:, column])


def test_the_probability_of_one_of_several_labels_is_its_sigmoid(classifier):
  several = dataclasses.replace(
    classifier, hf_config={'problem_type': 'multi_label_classification'}
  )
  logits = rewards.class_scorer(classifier)(TEXTS)[:, 1].astype(np.float64)
  np.testing.assert_allclose(
    rewards.true_reward(several, label='1').probability(TEXTS),
    -1 / (1 + np.exp(-logits)),
    rtol=1e-5,
  )


def test_a_regression_has_no_probability(classifier):
  regression = dataclasses.replace(classifier, hf_config={'problem_type': 'regression'})
  reward = rewards.true_reward(regression, label='1')
  assert np.isfinite(reward(TEXTS)).all()
  with pytest.raises(errors.InputError, match='problem_type = regression: has no probabilities'):
    reward.probability(TEXTS)


def test_a_label_is_of_classifiers(recovered, tmp_path):
  pretrained.save(tmp_path / 'reward', recovered, '')
  with pytest.raises(errors.ConfigError, match="is not a classifier, so it has no label 'toxic'"):
    rewards.load(str(tmp_path / 'reward'), label='toxic')


def test_an_ensemble_is_the_mean_of_its_members(recovered, tmp_path):
  other = dataclasses.replace(
    recovered,
    params=recovered.params | {'score': {'kernel': -0.5 * recovered.params['score']['kernel']}},
  )
  for seed, member in enumerate((recovered, other)):
    pretrained.save(tmp_path / f'seed_{seed}' / 'reward', member, '')
  config = {'model_type': 'irl_jax_ensemble', 'members': ['seed_0/reward', 'seed_1/reward']}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  alone = rewards.load(str(tmp_path / 'seed_0' / 'reward'))(TEXTS)
  np.testing.assert_allclose(rewards.recovered_reward(recovered)(TEXTS), alone, atol=1e-6)
  np.testing.assert_allclose(rewards.load(str(tmp_path))(TEXTS), 0.25 * alone, atol=1e-5)


def test_a_pessimistic_ensemble_trusts_no_text_on_which_its_members_differ():
  members = [
    lambda texts, scores=scores: np.array(scores) for scores in ([1.0, 1.0, -2.0], [1.0, 3.0, 0.0])
  ]
  np.testing.assert_allclose(rewards.ensemble(members)('abc'), [1, 2, -1])
  np.testing.assert_allclose(rewards.ensemble(members, pessimism=2.0)('abc'), [1, 0, -3])


@pytest.mark.parametrize('outside', ['../reward', '/tmp', 'seed_0/../../reward', '.'])
def test_a_member_outside_the_ensembles_folder_is_refused(tmp_path, outside):
  folder = tmp_path / 'irl'
  folder.mkdir()
  config = {'model_type': 'irl_jax_ensemble', 'members': [outside]}
  (folder / 'config.json').write_text(json.dumps(config))
  with pytest.raises(errors.InputError, match='lies outside'):
    rewards.members_of(folder)


@pytest.mark.parametrize(
  'content, message',
  [
    ('{"model_type": "irl_jax_ensemble"}', 'members = None: must list the folders of rewards'),
    ('{"model_type": "irl_jax_ensemble", "members": []}', r'members = \[\]'),
    ('{"model_type": "irl_jax_ensemble", "members": "seed_0"}', "members = 'seed_0'"),
    ('{"model_type": "irl_jax_ensemble", "members": [0]}', r'members = \[0\]'),
    ('{"model_type": "irl_jax_ens', 'is not JSON'),
    ('[' * 100000, 'is not JSON'),
    ('', 'is empty'),
    ('<!DOCTYPE html>', 'is an HTML page'),
  ],
)
def test_an_ensemble_that_names_no_rewards_is_refused(tmp_path, content, message):
  (tmp_path / 'config.json').write_text(content)
  with pytest.raises(errors.InputError, match=f'config.json: {message}'):
    rewards.members_of(tmp_path)


def test_a_lone_model_is_its_own_member(tmp_path):
  assert rewards.members_of(tmp_path) == [tmp_path]
  (tmp_path / 'config.json').write_text('{"model_type": "gpt_neox"}')
  assert rewards.members_of(tmp_path) == [tmp_path]


def test_a_language_model_is_no_reward(policy, tmp_path):
  pretrained.save(tmp_path / 'policy', policy, '')
  with pytest.raises(errors.InputError, match='causal_lm'):
    rewards.load(str(tmp_path / 'policy'))


def test_the_member_of_an_ensemble_that_is_wrong_is_named():
  one = lambda texts: np.ones(len(texts))
  with pytest.raises(errors.InputError, match='member 1 .*: returned one float; must return 2'):
    rewards.ensemble([one, lambda texts: 1.0])(['a', 'b'])
  with pytest.raises(errors.ConfigError, match='members: is empty'):
    rewards.ensemble([])


@pytest.mark.parametrize('members', [None, np.ones, {'a': np.ones}, 'irl/reward'])
def test_members_that_are_no_list_are_refused(members):
  with pytest.raises(errors.ConfigError, match='members: must be a list of rewards, not'):
    rewards.ensemble(members)


@pytest.mark.parametrize('pessimism', [-1, float('nan'), float('inf'), '1', None])
def test_a_pessimism_that_is_no_number_from_0_is_refused(pessimism):
  with pytest.raises(errors.ConfigError, match='pessimism = .*: must be a number >= 0'):
    rewards.ensemble([np.ones], pessimism)


def test_float16_scores_of_members_do_not_overflow():
  members = (lambda texts, high=high: np.array([0, high], np.float16) for high in (0, 2000))
  np.testing.assert_array_equal(rewards.ensemble(members, 0.5)('ab'), np.float32([0, 500]))
