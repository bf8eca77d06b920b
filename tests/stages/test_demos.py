"""The demos stage with and without a true reward: samples, limits, and the texts of the zero."""

import gc
import json
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from irl_jax import errors
from irl_jax.config import Config
from irl_jax.config import Data
from irl_jax.config import IRL
from irl_jax.config import Models
from irl_jax.config import Sampling
from irl_jax.data import rows as rows_lib
from irl_jax.evaluation import policy as policy_metrics
from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log
from irl_jax.runtime import parallel
from irl_jax.stages import demos as demonstrations
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import Run

PAIRS = [{'prompt_id': '1', 'sample': 0, 'prompt': 'you', 'aligned': ' are', 'base': ''}]


@pytest.fixture
def start(tmp_path):
  """A function from config fields to a Run whose rows are written by the test."""
  with metrics_log.MetricsLog(tmp_path, '') as log:
    yield lambda *stages, **fields: Run(
      Config(stages=stages or ('demos',), **fields), tmp_path, log, jnp.float32
    )


def write(run, stage, split, rows):
  rows_lib.write_jsonl(run.folder / stage / f'{split}.jsonl', rows)


def test_both_texts_are_scored_whole():
  scored = demonstrations.scored(
    PAIRS, lambda texts: np.array([len(text) for text in texts], np.float32)
  )
  assert scored == [PAIRS[0] | {'true_reward_aligned': 7.0, 'true_reward_base': 3.0}]
  assert list(scored[0]) == [*PAIRS[0], 'true_reward_aligned', 'true_reward_base']


def test_without_a_true_reward_its_figures_are_none():
  assert demonstrations.scored(PAIRS, None) == [
    PAIRS[0] | {'true_reward_aligned': None, 'true_reward_base': None}
  ]


def test_only_training_prompts_are_limited_and_sampled_several_times(start):
  run = start(irl=IRL(max_prompts=2, samples_per_prompt=3))
  for split in ('train', 'heldout'):
    write(run, 'data', split, [{'prompt_id': str(number)} for number in range(4)])
  numbers = lambda split: [
    (row['prompt_id'], sample) for row, sample in demonstrations.prompts_of(run, split)
  ]
  assert numbers('train') == [(prompt, sample) for prompt in '01' for sample in range(3)]
  assert numbers('heldout') == [(prompt, 0) for prompt in '0123']


@pytest.mark.parametrize('coupled', [True, False])
def test_both_models_share_random_numbers_on_pairs_to_train_on_alone(start, monkeypatch, coupled):
  run = start(irl=IRL(coupled=coupled), seed=2)
  for split in demonstrations.SPLITS:
    write(run, 'data', split, [{'prompt_id': '0', 'prompt': 'you'}])
  write(run, 'demos', 'validation', PAIRS)  # an earlier attempt finished it
  drawn = []

  def sample(model, rows, config, seed, dtype, progress):
    drawn.append((model, seed))
    return policy_metrics.Sampled([], [], [f' {model}'])

  models = {'aligned': 'A', 'base': 'B'}
  monkeypatch.setattr(demonstrations, 'load_models', lambda run: models)
  monkeypatch.setattr(demonstrations.chat_templates, 'check_alike', lambda *arguments: None)
  monkeypatch.setattr(policy_metrics, 'sample', sample)
  demonstrations.demos(run)
  of_train, of_base, of_heldout, of_held_base = [seed for _, seed in drawn]
  assert [model for model, _ in drawn] == ['A', 'B', 'A', 'B']
  assert (of_train == of_base) == coupled and of_heldout != of_held_base
  assert len({of_train, of_heldout, of_held_base}) == 3
  (trained,), (held,) = (run.demonstrations(split) for split in ('train', 'heldout'))
  assert (trained['aligned'], trained['base']) == (' A', ' B')
  assert trained['coupled'] == coupled and not held['coupled']
  assert run.demonstrations('validation') == PAIRS


def test_rows_that_do_not_say_how_they_were_drawn_are_coupled():
  assert demonstrations.any_coupled(PAIRS)
  assert demonstrations.any_coupled([PAIRS[0] | {'coupled': False}, *PAIRS])
  assert not demonstrations.any_coupled([PAIRS[0] | {'coupled': False}])


def write_adapter(folder, base):
  """Writes an adapter of the first layer's attention output."""
  folder.mkdir()
  settings = {'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4, 'base_model_name_or_path': str(base)}
  (folder / 'adapter_config.json').write_text(json.dumps(settings))
  module = 'base_model.model.gpt_neox.layers.0.attention.dense'
  shapes = {'lora_A': (2, 16), 'lora_B': (16, 2)}
  factors = {
    f'{module}.{name}.weight': np.ones(shape, np.float32) for name, shape in shapes.items()
  }
  save_file(factors, folder / 'adapter_model.safetensors')


@pytest.mark.slow
def test_an_adapter_and_its_own_base_hold_frozen_weights_once(start, tmp_path, policy, monkeypatch):
  pretrained.save(tmp_path / 'base', policy, '')
  write_adapter(tmp_path / 'adapter', tmp_path / 'base')
  run = start(
    models=Models(aligned=str(tmp_path / 'adapter')),
    data=Data(max_prompt_tokens=8),
    sampling=Sampling(max_new_tokens=4, batch_size=4),
  )
  models = demonstrations.load_models(run)
  aligned, base = (models[side].params for side in ('aligned', 'base'))
  same = jax.tree.map(lambda one, other: one is other, aligned, base)
  assert not same['blocks']['attention']['dense'].pop('kernel') and all(jax.tree.leaves(same))
  # On the devices there is one model at a time.
  placed, place = [], parallel.replicated

  def watch(tree):
    gc.collect()
    assert not any(leaf() is not None for leaf in placed)
    there = place(tree)
    placed.extend(map(weakref.ref, jax.tree.leaves(there)))
    return there

  for split in demonstrations.SPLITS:
    write(run, 'data', split, [{'prompt_id': '0', 'prompt': 'hello'}] * 3)
  monkeypatch.setattr(parallel, 'replicated', watch)
  demonstrations.demos(run)
  assert placed and len(run.demonstrations('heldout')) == 3


def test_a_true_reward_is_there_where_one_is_named_made_or_was_made(start, tmp_path):
  assert not start('demos').has_true_reward
  assert start(models=Models(classifier='M')).has_true_reward
  assert start('classifier', 'demos').has_true_reward  # then run.true_reward says what is missing
  with pytest.raises(errors.ConfigError, match='run the stage that makes it'):
    start('classifier', 'demos').true_reward()
  (tmp_path / 'classifier' / 'classifier').mkdir(parents=True)
  assert start('demos').has_true_reward


@pytest.mark.parametrize(
  'source, original, expected',
  [
    ('comments.jsonl', ' there', ['hello there']),
    ('comments.jsonl', '', ['you are', 'you']),
    ('prompts', ' there', ['you are', 'you']),
  ],
)
def test_the_zero_comes_from_written_texts_or_else_from_demonstrations(
  start, source, original, expected
):
  run = start(data=Data(source=source))
  write(run, 'data', 'validation', [{'prompt': 'hello', 'original': original}])
  write(run, 'demos', 'validation', PAIRS)
  assert recovery.unlabelled_texts(run) == expected
