"""Checks at the start, before a folder is created or weights are read."""

import collections
import copy
import dataclasses
import json
import re

import jax
import pytest
import tokenizers
import transformers

from irl_jax import config as c
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.stages import preflight
from irl_jax.stages.run import Run

STAGES = ('data', 'rlhf', 'demos', 'irl', 'evaluate', 'rerlhf')
Usage = collections.namedtuple('Usage', 'total used free')


@pytest.fixture(scope='module')
def models(policy, classifier, tmp_path_factory):
  """Folders of a language model with 3 blocks and 64 positions, and of a classifier."""
  root = tmp_path_factory.mktemp('models')
  pretrained.save(root / 'policy', policy, '')
  pretrained.save(root / 'classifier', classifier, '')
  return c.Models(base=str(root / 'policy'), classifier=str(root / 'classifier'))


@pytest.fixture
def config(models):
  """Returns the config of a run that only just has all it needs."""
  return c.Config(
    stages=STAGES,
    models=models,
    data=c.Data(max_prompt_tokens=58),
    sampling=c.Sampling(max_new_tokens=6),
    ppo=c.PPO(trained_blocks=3),
    irl=c.IRL(trained_blocks=3),
  )


def refused(config, folder, error=ConfigError, stages=STAGES):
  """Returns the message of the refusal, which leaves no files."""
  before = sorted(folder.rglob('*'))
  with pytest.raises(error) as caught:
    preflight.check(config, folder / 'run', stages)
  assert sorted(folder.rglob('*')) == before and '\n' not in str(caught.value)
  return str(caught.value)


def test_a_run_that_has_all_it_needs_reads_no_weights(config, models, tmp_path, monkeypatch):
  monkeypatch.setattr(
    pretrained.huggingface.weight_files, 'stream', lambda folder: pytest.fail('weights were read')
  )
  preflight.check(config, tmp_path / 'new' / 'run', STAGES)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'section, changes, message',
  [
    ('sampling', {'temperature': 0.0}, 'config.sampling.temperature = 0.0: must be > 0'),
    (
      'sampling',
      {'max_new_tokens': 7},
      r'max_new_tokens = 65: must be <= 64, the positions of .*policy',
    ),
    (
      'data',
      {'max_prompt_tokens': 59},
      r'max_new_tokens = 65: must be <= 64, the positions of .*policy',
    ),
    (
      'ppo',
      {'rollouts_per_step': 30, 'minibatch_size': 6},
      'config.ppo.rollouts_per_step = 30: must be a multiple of 4, the number of devices',
    ),
    (
      'ppo',
      {'minibatch_size': 2},
      'config.ppo.minibatch_size = 2: must be a multiple of 4, the number of devices',
    ),
    (
      'ppo',
      {'trained_blocks': 4},
      'config.ppo.trained_blocks = 4: must be <= 3, the blocks of .*policy',
    ),
    (
      'irl',
      {'trained_blocks': 5},
      'config.irl.trained_blocks = 5: must be <= 3, the blocks of .*policy',
    ),
    ('models', {'base': ''}, 'config.models.base is empty and .* run the stage that makes it'),
    (
      'models',
      {'classifier': ''},
      'rerlhf measures policies with the true reward; name a classifier',
    ),
    ('models', {'base': './nowhere'}, "'./nowhere': is neither a folder nor a hub id"),
  ],
)
def test_settings_that_cannot_work(config, tmp_path, section, changes, message):
  changed = dataclasses.replace(
    config, **{section: dataclasses.replace(getattr(config, section), **changes)}
  )
  assert re.search(message, refused(changed, tmp_path))


def test_devices_are_looked_at_before_any_model(config, tmp_path):
  changed = dataclasses.replace(
    config, models=c.Models(base='./nowhere'), ppo=c.PPO(minibatch_size=2)
  )
  assert 'the number of devices' in refused(changed, tmp_path)


def test_what_a_stage_makes_need_not_be_there(config, tmp_path):
  scratch = dataclasses.replace(
    config,
    models=c.Models(),
    stages=('data', 'sft', 'classifier', *STAGES[1:]),
    sft=c.Supervised(layers=3),
    data=c.Data(max_prompt_tokens=2042),
  )
  preflight.check(scratch, tmp_path / 'run', scratch.stages)
  too_long = dataclasses.replace(scratch, data=c.Data(max_prompt_tokens=2043))
  assert '2049: must be <= 2048, the positions of the model of the stage sft' in refused(
    too_long, tmp_path, stages=scratch.stages
  )
  assert 'config.models.base is empty' in refused(scratch, tmp_path, stages=STAGES)


def test_rlhf_needs_a_true_reward(config, tmp_path):
  unjudged = dataclasses.replace(config, models=dataclasses.replace(config.models, classifier=''))
  assert re.search(
    'config.models.classifier is empty and .* run the stage that makes it',
    refused(unjudged, tmp_path, stages=('data', 'rlhf')),
  )


def test_what_a_finished_stage_has_read_need_not_be_there_any_more(config, tmp_path):
  gone = dataclasses.replace(config, models=dataclasses.replace(config.models, classifier='./gone'))
  preflight.check(gone, tmp_path / 'run', ('irl', 'report'))
  assert './gone' in refused(gone, tmp_path, stages=('rlhf',))


def test_a_model_of_another_kind_is_refused(config, models, tmp_path):
  swapped = dataclasses.replace(
    config, models=c.Models(base=models.classifier, classifier=models.classifier)
  )
  assert 'is a classifier (RobertaForSequenceClassification); must be causal_lm' in refused(
    swapped, tmp_path, InputError
  )


def test_a_classifier_of_something_else_is_refused(config, classifier, tmp_path):
  pretrained.save(tmp_path / 'moods', classifier, '')
  raw = json.loads((tmp_path / 'moods' / 'config.json').read_text())
  raw['id2label'] = {'0': 'anger', '1': 'fear', '2': 'joy'}
  (tmp_path / 'moods' / 'config.json').write_text(json.dumps(raw))
  moods = dataclasses.replace(
    config, models=dataclasses.replace(config.models, classifier=str(tmp_path / 'moods'))
  )
  assert (
    "moods: the label names do not show which one means toxic: id2label = ['anger', 'fear', 'joy']"
    in refused(moods, tmp_path, InputError)
  )


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'label': 'rude'}, "has no label 'rude'; its labels: "),
    ({'label': 'toxic', 'classifier': ''}, "label = 'toxic': there is no classifier; name one in"),
  ],
)
def test_a_label_that_no_classifier_has(config, tmp_path, changes, message):
  models = dataclasses.replace(config.models, aligned=config.models.base, **changes)
  changed = dataclasses.replace(config, models=models, stages=('data', 'demos'))
  assert message in refused(changed, tmp_path, stages=('data', 'demos'))


def test_the_models_of_an_audit_have_one_vocabulary(config, models, policy, tmp_path):
  words = policy.tokenizer.get_vocab()
  words['a'], words['b'] = words['b'], words['a']
  other = copy.deepcopy(policy.tokenizer)
  other.backend_tokenizer.model = tokenizers.models.BPE(vocab=words, merges=[])
  pretrained.save(tmp_path / 'other', dataclasses.replace(policy, tokenizer=other), '')
  aligned = dataclasses.replace(models, aligned=str(tmp_path / 'other'))
  audit = dataclasses.replace(config, models=aligned, stages=('data', 'demos'))
  assert "different vocabularies (2 tokens differ, such as 'a': " in refused(
    audit, tmp_path, InputError, stages=('data', 'demos')
  )


def test_a_tokenizer_that_loses_text_is_refused(config, models, policy, tmp_path):
  pretrained.save(tmp_path / 'lossy', policy, '')
  words = tokenizers.Tokenizer(
    tokenizers.models.WordLevel({'<unk>': 0, '<|padding|>': 1}, unk_token='<unk>')
  )
  transformers.PreTrainedTokenizerFast(
    tokenizer_object=words, unk_token='<unk>', eos_token='<unk>', pad_token='<|padding|>'
  ).save_pretrained(tmp_path / 'lossy')
  lossy = dataclasses.replace(
    config, models=dataclasses.replace(models, base=str(tmp_path / 'lossy'))
  )
  assert "its tokenizer loses text (' Hello  world<unk>' comes back as ''" in refused(
    lossy, tmp_path, InputError
  )


def test_too_little_space_on_the_disk_is_refused(config, tmp_path, monkeypatch):
  models = preflight.models_of(preflight.Run(config, tmp_path, None, None), STAGES)
  needed = preflight.bytes_written(config, models, STAGES)
  monkeypatch.setattr(preflight.shutil, 'disk_usage', lambda place: Usage(0, 0, needed))
  preflight.check(config, tmp_path / 'run', STAGES)
  monkeypatch.setattr(preflight.shutil, 'disk_usage', lambda place: Usage(0, 0, needed - 1))
  message = refused(config, tmp_path)
  assert (
    f'--workdir={tmp_path}/run: checkpoints and models need about {needed / 1e6:,.0f} MB, but '
    in message
  )
  assert 'config.runtime.keep_checkpoints' in message
  (tmp_path / 'run' / 'irl').mkdir(parents=True)
  (tmp_path / 'run' / 'irl' / 'checkpoint').write_bytes(
    b'x'
  )  # a continued run has written some of it
  preflight.check(config, tmp_path / 'run', STAGES)


def test_the_bytes_of_a_run_are_those_of_its_parameters(config, policy, tmp_path):
  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  whole, embeddings = count(policy.params), count(policy.params['embed_in'])
  models = dict.fromkeys(('start', 'base', 'classifier'), policy)
  # PPO with 3 of 3 blocks: all but the embeddings, with two moments, in two checkpoints and one
  # that is being written.
  assert preflight.bytes_written(config, models, ['rlhf']) == 4 * (
    whole + 3 * 3 * (whole - embeddings)
  )
  # With a validation loss the best parameters are kept too; IRL does so for every seed.
  assert preflight.bytes_written(config, models, ['sft', 'classifier']) == 4 * 2 * (
    whole + 3 * 4 * whole
  )
  assert preflight.bytes_written(config, models, ['irl']) == 4 * 3 * (
    whole + 3 * 4 * (whole - embeddings)
  )


def test_a_judge_must_be_another_classifier_that_gives_probabilities(
  config, models, classifier, policy, tmp_path
):
  judged = lambda judge: dataclasses.replace(
    config, models=dataclasses.replace(models, judge=judge)
  )
  assert preflight.roles(Run(judged('x'), tmp_path, None, None), ['rlhf', 'rerlhf']) == [
    'base',
    'start',
    'classifier',
    'judge',
  ]
  pretrained.save(tmp_path / 'judge', classifier, '')
  preflight.check(judged(str(tmp_path / 'judge')), tmp_path / 'run', STAGES)
  assert "is the true reward's own model; name another classifier" in refused(
    judged(models.classifier), tmp_path
  )
  assert 'is a causal_lm' in refused(judged(models.base), tmp_path, InputError)
  path = tmp_path / 'judge' / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'problem_type': 'regression'}))
  assert f'config.models.judge={tmp_path}/judge: config.json: problem_type = regression' in refused(
    judged(str(tmp_path / 'judge')), tmp_path, InputError
  )


def test_samples_of_a_prompt_need_probabilities_and_positions(config, policy, tmp_path):
  sampled = dataclasses.replace(config, evaluation=c.Evaluation(toxicity_samples=25))
  preflight.check(sampled, tmp_path / 'run', STAGES)
  short = dataclasses.replace(policy.config, max_position_embeddings=20)
  pretrained.save(tmp_path / 'short', dataclasses.replace(policy, config=short), '')
  models = dataclasses.replace(config.models, base=str(tmp_path / 'short'))
  sampled = dataclasses.replace(
    sampled,
    models=models,
    data=c.Data(max_prompt_tokens=2),
    irl=dataclasses.replace(config.irl, max_tokens=20),
  )
  assert 'its samples have 20 tokens' in refused(sampled, tmp_path)
  preflight.check(dataclasses.replace(sampled, evaluation=c.Evaluation()), tmp_path / 'run', STAGES)
