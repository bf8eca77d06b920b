"""The public API: the scores of each kind of model, and how often weights are read and placed."""

import dataclasses
import json
import os

import documented
import jax
import numpy as np
import pytest

import irl_jax
from irl_jax import api
from irl_jax.api import loaded
from irl_jax.config import Sampling
from irl_jax.data import chat
from irl_jax.data import rows as rows_lib
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.runtime import parallel

SHORT = Sampling(max_new_tokens=3)


@pytest.fixture
def loads(monkeypatch):
  """The paths whose weights were read, in order; the caches are empty at first."""
  seen, load = [], pretrained.load

  def counted(spec, kinds=pretrained.KINDS):
    seen.append(spec)
    return load(spec, kinds)

  monkeypatch.setattr(pretrained, 'load', counted)
  for cached in (loaded._loaded, loaded._placed, loaded._pair):
    cached.cache_clear()
  yield seen
  for cached in (loaded._loaded, loaded._placed, loaded._pair):
    cached.cache_clear()


@pytest.fixture
def placements(monkeypatch):
  """The number of transfers of more than a few numbers to the devices."""
  seen, replicate = [], parallel.replicate

  def counted(tree, **settings):
    if isinstance(tree, dict):  # a model's parameters
      seen.append(tree)
    return replicate(tree, **settings)

  monkeypatch.setattr(parallel, 'replicate', counted)
  return seen


def relabelled(folder, tmp_path, names):
  """A classifier's folder whose labels have other names."""
  os.makedirs(tmp_path / 'relabelled')
  for path in folder.iterdir():
    os.symlink(path, tmp_path / 'relabelled' / path.name)
  config = json.loads((folder / 'config.json').read_text())
  (tmp_path / 'relabelled' / 'config.json').unlink()
  config['id2label'] = {str(number): name for number, name in enumerate(names)}
  (tmp_path / 'relabelled' / 'config.json').write_text(json.dumps(config))
  return tmp_path / 'relabelled'


@pytest.mark.parametrize(
  'names, label, toxic',
  [
    (['ok', 'TOXIC'], '', 1),
    (['toxic', 'ok'], '', 0),
    (['LABEL_0', 'LABEL_1'], '', 1),
    (['hate', 'nothate'], '', 0),
    (['NEGATIVE', 'POSITIVE'], 'negative', 0),
  ],
)
def test_a_toxicity_classifier_gives_logits_and_reward(audited, tmp_path, names, label, toxic):
  model = relabelled(audited['classifier'], tmp_path, names)
  scores = api.score(model, ['xy', 'a b'], label=label)
  assert list(scores) == ['logits', 'reward'] and scores['logits'].shape == (2, 2)
  np.testing.assert_array_equal(scores['reward'], -scores['logits'][:, toxic])


@pytest.mark.parametrize('label', [0, np.int64(0), 1])
def test_a_label_may_be_a_number(audited, tmp_path, label):
  model = relabelled(audited['classifier'], tmp_path, ['NEGATIVE', 'POSITIVE'])
  scores = api.score(model, ['xy'], label=label)
  np.testing.assert_array_equal(scores['reward'], -scores['logits'][:, label])
  np.testing.assert_array_equal(irl_jax.load_reward(model, label=label)(['xy']), scores['reward'])
  with pytest.raises(ConfigError, match="has no label '0'; leave the label out"):
    api.load_scorer(audited['aligned'], label=0)


@pytest.mark.parametrize('label', [2, -1])
def test_a_label_that_a_classifier_lacks_is_refused(audited, label):
  with pytest.raises(ConfigError, match=f"has no label '{label}'; its labels"):
    irl_jax.load_reward(audited['classifier'], label=label)


@pytest.mark.parametrize('label', [1.0, True, b'toxic'])
def test_what_names_no_label_is_refused(audited, label):
  with pytest.raises(ConfigError, match='label = .*: must be the name or the number of a label'):
    irl_jax.load_reward(audited['classifier'], label=label)


@pytest.mark.parametrize('first', [-1, '1', None, 2**31])
def test_a_number_of_earlier_prompts_that_would_repeat_samples_is_refused(audited, first):
  with pytest.raises(ConfigError, match='first = .*: must be a whole number >= 0'):
    api.generate(audited['base'], ['a'], SHORT, first=first)


def test_a_language_model_gives_log_probabilities_and_tokens(audited):
  scores = api.score(audited['base'], ['ab', ''])
  assert list(scores) == ['log_prob', 'tokens'] and scores['tokens'].tolist() == [2, 0]
  assert scores['log_prob'][0] < 0 == scores['log_prob'][1]


def test_an_ensemble_gives_mean_and_deviation_of_its_members(audited, tmp_path):
  members, irl = [], tmp_path / 'irl'
  for number, names in enumerate([['toxic', 'ok'], ['ok', 'toxic']]):
    (irl / f'seed_{number}').mkdir(parents=True)
    members.append(relabelled(audited['classifier'], irl / f'seed_{number}', names))
  (irl / 'config.json').write_text(
    json.dumps(
      {
        'model_type': 'irl_jax_ensemble',
        'members': [str(member.relative_to(irl)) for member in members],
      }
    )
  )
  texts = ['a', 'bc']
  each = np.stack([api.score(member, texts)['reward'] for member in members])
  scores = api.score(str(irl), texts)
  assert list(scores) == ['reward', 'reward_std'] and not np.allclose(*each)
  np.testing.assert_allclose(scores['reward'], each.mean(0), rtol=1e-6)
  np.testing.assert_allclose(scores['reward_std'], each.std(0), rtol=1e-6)
  np.testing.assert_allclose(irl_jax.load_reward(irl)(texts), each.mean(0), rtol=1e-6)
  # In the folder of a run, it also gives what the run knows.
  for split in ('train', 'validation'):
    rows = [{'prompt': '', 'aligned': 'abc', 'base': 'cab'}] * 3
    rows_lib.write_jsonl(tmp_path / 'demos' / f'{split}.jsonl', rows)
  calibration = {'calibration': {'platt': {'slope': -2.0, 'intercept': 1.0, 'n': 9}}}
  results = {'irl': {'ensemble': calibration, 'seeds': [calibration] * 2}}
  (irl / 'figures.json').write_text(json.dumps(results))
  scores = api.score(str(irl), [*texts, 'xwvutsrqponmlkji'])
  assert list(scores)[2:] == ['harmless_probability', 'out_of_distribution']
  expected = 1 / (1 + np.exp(2 * scores['reward'] - 1))
  np.testing.assert_allclose(scores['harmless_probability'], expected, rtol=1e-6)
  assert scores['out_of_distribution'].tolist() == [False, False, True]
  assert 'harmless_probability' in api.score(members[1], texts)
  assert list(api.score(api.load_model(members[1]), texts)) == ['logits', 'reward']


@pytest.mark.slow
def test_a_path_is_read_and_placed_once(audited, loads, placements):
  first = api.score(audited['base'], ['ab'])
  again = api.score(str(audited['base']), ['ab'])
  api.score(audited['base'], ['b'], batch_size=8)
  assert loads == [str(audited['base'])] and len(placements) == 1
  assert first['log_prob'] == again['log_prob']
  api.generate(audited['base'], ['a'], SHORT)
  api.generate(audited['base'], ['b'], SHORT, seed=1)
  assert len(loads) == len(placements) == 1


@pytest.mark.slow
def test_a_loaded_model_is_never_read_again_and_placed_once(audited, loads, placements):
  model = api.load_model(audited['base'])
  scores, completions = api.score(model, ['ab']), api.generate(model, ['a'], SHORT)
  assert api.score(model, ['ab'])['log_prob'] == scores['log_prob']
  assert api.generate(model, ['a'], SHORT) == completions
  assert loads == [str(audited['base'])] and len(placements) == 1


def test_a_folder_whose_weights_change_is_read_again(audited, policy, tmp_path, loads):
  pretrained.save(tmp_path / 'model', policy, '')
  before = api.score(tmp_path / 'model', ['ab'])['log_prob']
  pretrained.save(tmp_path / 'model', pretrained.load(str(audited['aligned'])), '')
  after = api.score(tmp_path / 'model', ['ab'])['log_prob']
  assert before != after and after == api.score(audited['aligned'], ['ab'])['log_prob']


def test_no_more_than_two_models_stay_in_memory(audited, loads):
  for _ in range(2):
    for name in ('base', 'aligned', 'classifier'):
      api.score(audited[name], ['ab'])
  assert len(loads) == 6 and loaded._loaded.cache_info().currsize == 2


def test_arrays_that_two_compared_models_share_are_on_the_devices_once(
  audited, tmp_path, loads, placements
):
  base = pretrained.load(str(audited['base']))
  head = base.params['embed_out'] | {'embedding': base.params['embed_out']['embedding'] + 0.1}
  tuned = dataclasses.replace(base, params=base.params | {'embed_out': head})
  pretrained.save(tmp_path / 'tuned', tuned, '')
  loads.clear()
  for pair in ((tmp_path / 'tuned', audited['base']), (tuned, base)):
    placements.clear()
    ratio = api.log_ratio(*pair, ['ab', 'b a'])
    (placed,) = placements
    assert len(placed) == len(jax.tree.leaves(base.params)) + 1  # only the head is there twice
    scores = [api.score(model, ['ab', 'b a'])['log_prob'] for model in pair]
    np.testing.assert_allclose(ratio['log_ratio'], scores[0] - scores[1], atol=1e-4)
  assert loads[:2] == [str(tmp_path / 'tuned'), str(audited['base'])]
  params = [one.params for one in loaded.pair(tuned, base)]
  buffers = {leaf.unsafe_buffer_pointer() for leaf in map(first_part, jax.tree.leaves(params))}
  assert len(buffers) == len(jax.tree.leaves(base.params)) + 1


def first_part(leaf):
  """The part of an array that is on the first device."""
  return leaf.addressable_shards[0].data


def test_completions_are_those_of_the_seed(audited):
  prompts = ['a b', '']
  completions = api.generate(audited['base'], prompts, SHORT)
  assert len(completions) == 2 and completions == api.generate(audited['base'], prompts, SHORT)
  assert api.generate(audited['base'], [], SHORT) == []


def test_conversations_are_rendered_and_plain_prompts_are_not(chat_models):
  model = api.load_model(chat_models['aligned'])
  asked = [{'role': 'user', 'content': 'abc'}]
  rendered = chat.render(chat.template_of(model.tokenizer), asked)
  sample = lambda prompts, **more: api.generate(model, prompts, SHORT, **more)
  assert sample(['abc', asked]) == sample(['abc', rendered])
  assert sample(['abc'], chat=True) == sample([rendered]) != sample(['abc'])


@pytest.mark.parametrize(
  'prompts, message',
  [
    ([[{'role': 'user', 'content': 'a'}]], 'base: has no chat template; give plain prompts'),
    ([[{'role': 'user'}]], r'prompts\[0\]: message 1 must have a role and a content'),
    ([[]], r'prompts\[0\]: has no user message before the answer'),
    (
      [[{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}]],
      r'prompts\[0\]: ends with an answer; leave the last message out',
    ),
  ],
)
def test_conversations_that_cannot_be_answered_are_refused(chat_models, prompts, message):
  with pytest.raises(InputError, match=message):
    api.generate(chat_models['base'], prompts, SHORT)


@pytest.mark.parametrize('call', [api.score, api.generate])
@pytest.mark.parametrize(
  'texts, error, message',
  [
    ('a text', ConfigError, r'(texts|prompts): must be a list of strings, not str; pass \['),
    (None, ConfigError, 'must be a list of strings, not NoneType'),
    (['a', None], InputError, r'(texts|prompts)\[1\] is None: must be a string'),
    (['a', 3.5], InputError, r'\[1\] is 3.5: must be a string'),
    (['a', float('nan')], InputError, r'\[1\] is nan: must be a string'),
    ([b'a'], InputError, r"\[0\] is b'a': must be a string"),
    ({'text': 'a'}, ConfigError, 'must be a list of strings, not dict; pass one field or column'),
    ({'a', 'b'}, ConfigError, 'must be a list of strings, not set; pass one field or column'),
  ],
)
def test_texts_that_are_no_strings_are_refused_before_a_model_is_read(
  loads, audited, call, texts, error, message
):
  with pytest.raises(error, match=message):
    call(audited['base'], texts)
  assert not loads


def test_what_cannot_be_completed_is_refused(audited, loads):
  with pytest.raises(InputError, match='is a classifier'):
    api.generate(audited['classifier'], ['a'], SHORT)
  model = dataclasses.replace(pretrained.load(str(audited['classifier'])), source='')
  with pytest.raises(InputError, match='the model: is a classifier; only a causal language model'):
    api.generate(model, ['a'], SHORT)
  for given in (audited['base'], api.load_model(audited['base'])):
    with pytest.raises(ConfigError, match=r'max_new_tokens = 64: must be < 64, the positions of'):
      api.generate(given, ['a'])


def test_a_loaded_reward_refuses_what_is_no_list_of_texts(audited, tmp_path):
  reward = irl_jax.load_reward(audited['classifier'])
  with pytest.raises(ConfigError, match=r'texts: must be a list of strings, not str; pass \[texts'):
    reward('a text')
  for fault, texts in (
    ('a lone string to a reward', 'a'),
    ('None, NaN or bytes among texts', ['a', None]),
  ):
    with pytest.raises((ConfigError, InputError)) as caught:
      reward(texts)
    documented.check(fault, f'error: {caught.value}', caught.value.exit_code, tmp_path)
  for texts in (['a', None], ['a', float('nan')], ['a', b'b']):
    with pytest.raises(InputError, match=r'texts\[1\] is .*: must be a string'):
      reward(texts)
  assert reward([]).shape == (0,) and reward(np.array(['a', 'b'])).shape == (2,)


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda model: api.score(None, ['a']), 'model = None: must be a folder, a hub id, id@revision'),
    (lambda model: api.load_model(None), 'path = None: must be a folder, a hub id, or id@revision'),
    (lambda model: api.load_reward(''), "path = '': must be a folder, a hub id, or id@revision"),
    (
      lambda model: api.load_reward(api.load_model(model)),
      'path: is a loaded model; give its folder, a hub id, or id@revision',
    ),
    (lambda model: api.score(model, ['a'], 0), 'batch_size = 0: must be a whole number >= 1'),
    (lambda model: api.score(model, ['a'], '8'), "batch_size = '8': must be a whole number >= 1"),
    (
      lambda model: api.generate(model, ['a'], {'max_new_tokens': 3}),
      'sampling: must be an irl_jax.config.Sampling, not dict',
    ),
    (lambda model: api.generate(model, ['a'], SHORT, seed=None), 'seed = None: must be a whole'),
    (lambda model: api.generate(model, ['a'], SHORT, progress=None), 'progress = None: must be a'),
    (lambda model: api.generate(model, ['a'], SHORT, chat='false'), "chat = 'false': must be True"),
    (lambda model: api.load_scorer(model, progress=None), 'progress = None: must be a function; i'),
    (lambda model: api.load_log_ratio(model, model, progress=3), 'progress = 3: must be a funct'),
  ],
)
def test_wrong_arguments_are_refused_in_one_line(audited, call, message):
  with pytest.raises(ConfigError, match=message) as caught:
    call(audited['base'])
  assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_load_reward_scores_texts(shared):
  reward = irl_jax.load_reward(str(shared / 'models' / 'roberta_toxicity_mini'))
  kind, rude = reward(['Thank you for your help.', 'You are a fucking idiot.'])
  assert reward(['x']).dtype == np.float32 and kind > 0 > rude


def test_short_names_lead_to_the_api():
  assert set(irl_jax.__all__) == set(api.__all__)
  assert all(
    getattr(irl_jax, name) is getattr(api, name) and name in dir(irl_jax)
    for name in irl_jax.__all__
  )
  with pytest.raises(AttributeError, match='no attribute'):
    _ = irl_jax.nonsense
