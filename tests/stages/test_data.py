"""The data stage of an audit: early refusals, and texts sampled from the base model."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest
import tokenizers
import transformers

from irl_jax import errors
from irl_jax.config import Config
from irl_jax.config import Data
from irl_jax.config import Models
from irl_jax.config import Sampling
from irl_jax.data import prompts
from irl_jax.data import resemblance
from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log
from irl_jax.stages import data
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run

STAGES = ('data', 'demos', 'irl', 'evaluate', 'report')
DATA = Data(source='prompts', sampled_prompts=200, prompt_fraction=0.5, max_prompt_tokens=8)

PLAYGROUND = Data(source='playground', playground_comments=600)


def with_two_letters_swapped(tokenizer):
  """Returns a tokenizer that numbers two letters the other way round."""
  content = json.loads(tokenizer.backend_tokenizer.to_str())
  vocabulary = content['model']['vocab']
  vocabulary['a'], vocabulary['b'] = vocabulary['b'], vocabulary['a']
  backend = tokenizers.Tokenizer.from_str(json.dumps(content))
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    bos_token=tokenizer.bos_token,
    eos_token=tokenizer.eos_token,
    pad_token=tokenizer.pad_token,
  )


@pytest.fixture(scope='module')
def folder(policy, classifier, tmp_path_factory):
  """A base model, an aligned one, a copy, one of another vocabulary, and a classifier."""
  root = tmp_path_factory.mktemp('models')
  other = dataclasses.replace(policy, params=jax.tree.map(lambda leaf: leaf * 1.01, policy.params))
  renumbered = dataclasses.replace(other, tokenizer=with_two_letters_swapped(policy.tokenizer))
  for name, model in (
    ('base', policy),
    ('aligned', other),
    ('copy', policy),
    ('renumbered', renumbered),
    ('classifier', classifier),
  ):
    pretrained.save(root / name, model, '')
  return root


@pytest.fixture
def start(folder, tmp_path):
  """A function (base=…, aligned=…) -> a Run of an audit; models by name."""
  with metrics_log.MetricsLog(tmp_path, '') as log:

    def run(source=DATA, stages=STAGES, **models):
      places = {role: str(folder / name) for role, name in models.items()}
      config = Config(
        stages=stages, models=Models(**places), data=source, sampling=Sampling(max_new_tokens=4)
      )
      return Run(config, tmp_path, log, jnp.float32)

    yield run


def texts_of(run):
  return {split: full_texts(run.rows(split)) for split in ('train', 'validation', 'heldout')}


def test_what_is_evaluated_can_be_fewer_texts(start):
  only = dict(stages=('data',))
  whole, fewer = (
    start(PLAYGROUND, **only),
    start(dataclasses.replace(PLAYGROUND, max_evaluated=30), **only),
  )
  data.data(whole)
  texts = texts_of(whole)
  data.data(fewer)
  assert (
    texts_of(fewer)
    == {
      'train': texts['train'],
      'validation': texts['validation'][:30],
      'heldout': texts['heldout'][:30],
    }
    and len(texts['heldout']) > 30
  )
  counts = json.loads((fewer.folder / 'data' / 'counts.json').read_text())
  trained, held = (texts_of(fewer)[split] for split in ('train', 'heldout'))
  assert counts['heldout_near_duplicates'] == resemblance.count_resembling(held, trained)
  assert counts['heldout_kept'] == counts['validation_kept'] == 30 < counts['heldout']


@pytest.mark.slow
def test_texts_of_the_base_model_are_split(start):
  run = start(base='base', aligned='aligned')
  data.data(run)
  texts = texts_of(run)
  assert all(texts.values()) and 100 < sum(map(len, texts.values())) <= 200
  assert len(texts['train']) > 5 * len(texts['heldout'])
  data.data(run)
  assert texts_of(run) == texts


@pytest.mark.parametrize(
  'models, error, message',
  [
    (dict(aligned='aligned'), errors.ConfigError, 'config.models.base is empty'),
    (dict(base='base'), errors.ConfigError, 'config.models.aligned is empty'),
    (dict(base='base', aligned='nowhere'), errors.ConfigError, 'nowhere'),
    (
      dict(base='base', aligned='classifier'),
      errors.InputError,
      'is a classifier .*; must be causal_lm',
    ),
    (
      dict(base='classifier', aligned='aligned'),
      errors.InputError,
      'is a classifier .*; must be causal_lm',
    ),
    (dict(base='base', aligned='renumbered'), errors.InputError, 'different vocabularies'),
    (dict(base='base', aligned='copy'), errors.InputError, 'have the same weights'),
    (
      dict(base='base', aligned='aligned', classifier='base'),
      errors.InputError,
      'must be classifier',
    ),
  ],
)
def test_what_cannot_be_audited_is_refused_before_any_work(
  start, tmp_path, monkeypatch, models, error, message
):
  monkeypatch.setattr(data, 'sample', lambda run: pytest.fail('sampled'))
  with pytest.raises(error, match=message) as caught:
    data.data(start(**models))
  assert '\n' not in str(caught.value) and not (tmp_path / 'data').exists()


def test_models_that_the_run_makes_are_not_looked_for(start):
  assert not data.compares_existing_models(start(stages=('data', 'rlhf', 'demos', 'irl')))
  assert not data.compares_existing_models(
    start(stages=('data', 'sft', 'demos', 'irl'), aligned='aligned')
  )
  assert not data.compares_existing_models(start(stages=('data',)))


def test_an_aligned_model_and_the_stage_that_makes_one_exclude_each_other():
  with pytest.raises(errors.ConfigError, match="config.models.aligned = 'M' is set, .* stage rlhf"):
    Config(stages=('data', 'rlhf', 'demos'), models=Models(base='B', aligned='M'))


def test_too_few_different_texts_name_the_source(start, monkeypatch):
  rows = [{'prompt': 'a', 'original': '', 'label': None}] * 200
  monkeypatch.setattr(data, 'sample', lambda run: (rows, {}))
  with pytest.raises(
    errors.InputError,
    match="config.data.source = 'prompts': none of its 200 rows fall in the .* split",
  ):
    data.data(start(base='base', aligned='aligned'))


def cut(texts):
  return [{'prompt': text[:3], 'original': text[3:], 'label': None} for text in texts]


def check_splits(rows, **settings):
  data.check_splits(rows, prompts.split_rows(rows)[0], Data(source='x.jsonl', **settings))


def test_rows_that_all_begin_alike_are_told_so():
  rows = cut(f'One {number}' for number in range(400))
  with pytest.raises(
    errors.InputError,
    match="x.jsonl': none of its 400 rows .*: all 400 different texts have the same prompt, 'One'; "
    'raise config.data.prompt_fraction = 0.25, or name a field .*prompt_field$',
  ):
    check_splits(rows)
  with pytest.raises(errors.InputError, match="'One'; provide more rows, or more distinct ones$"):
    check_splits(rows, prompt_field='prompt')


def test_splits_far_from_their_shares_are_told(monkeypatch):
  told = []
  monkeypatch.setattr(data.logging, 'warning', lambda message, *args: told.append(message % args))
  check_splits(cut(f'{number:03} word' for number in range(300)))
  assert not told
  check_splits(cut(f'{number % 20:03} word {number}' for number in range(300)))
  assert (
    len(told) == 1 and '300 different texts have 20 different prompts; the most common, ' in told[0]
  )
  assert 'has 15 of them; raise config.data.prompt_fraction' in told[0]


def test_more_texts_to_choose_the_zero_by_come_without_labels_and_without_held_out_prompts(
  start, tmp_path
):
  path = tmp_path / 'pairs.jsonl'
  path.write_text(
    ''.join(
      json.dumps({'toxic': f't{number} bad', 'neutral': f'n{number} good'}) + '\n'
      for number in range(400)
    )
  )
  source = Data(
    source=f'paradetox:{path}', unlabelled=f'paradetox-neutral:{path}', max_prompt_tokens=8
  )
  run = start(source, base='base', aligned='aligned')
  data.data(run)
  more = run.rows('unlabelled')
  held = {row['prompt_id'] for row in run.rows('heldout')}
  assert (
    more
    and {row['label'] for row in more} == {None}
    and not {row['prompt_id'] for row in more} & held
  )
  assert all(text.endswith('good') for text in full_texts(more))
  assert recovery.unlabelled_texts(run) == full_texts(run.rows('validation')) + full_texts(more)
  assert data.unlabelled(run, more) == []  # were they held out, none would be left
