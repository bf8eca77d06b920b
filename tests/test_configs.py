"""Every config of configs/ loads, names its command, and its updates trace at real shapes."""

import ast
import dataclasses
import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from irl_jax import config as c
from irl_jax import distribution
from irl_jax import structs
from irl_jax.command_line import config_files
from irl_jax.data.playground import tokenizers as playground_tokenizers
from irl_jax.irl import update as irl_update
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads
from irl_jax.models import trunk as trunk_lib
from irl_jax.models.huggingface import config as huggingface_config
from irl_jax.models.huggingface import weights as huggingface_weights
from irl_jax.ppo import update as ppo_update
from irl_jax.stages import classifier as classifier_stage
from irl_jax.stages import dry_run
from irl_jax.stages import sft as sft_stage
from irl_jax.training import optimizer
from irl_jax.training import supervised

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / 'configs').glob('[!_]*.py'))
PYTHIA = {  # layers, width, attention heads
  'EleutherAI/pythia-14m': (6, 128, 4),
  'EleutherAI/pythia-31m': (6, 256, 8),
  'EleutherAI/pythia-70m': (6, 512, 8),
  'EleutherAI/pythia-160m': (12, 768, 12),
  'EleutherAI/pythia-410m': (24, 1024, 16),
  'EleutherAI/pythia-1b': (16, 2048, 8),
  'EleutherAI/pythia-1.4b': (24, 2048, 16),
  'EleutherAI/pythia-2.8b': (32, 2560, 32),
  'EleutherAI/pythia-6.9b': (32, 4096, 32),
  'EleutherAI/pythia-12b': (36, 5120, 40),
  'lomahony/eleuther-pythia70m-hh-sft': (6, 512, 8),
  'lomahony/eleuther-pythia160m-hh-sft': (12, 768, 12),
  'lomahony/eleuther-pythia410m-hh-sft': (24, 1024, 16),
  'cleanrl/EleutherAI_pythia-1b-deduped__sft__tldr': (16, 2048, 8),
  'cleanrl/EleutherAI_pythia-1b-deduped__ppo__tldr': (16, 2048, 8),
  'cleanrl/EleutherAI_pythia-1b-deduped__reward__tldr': (16, 2048, 8),
}
VOCABULARIES = {'EleutherAI/pythia-6.9b': 50432, 'EleutherAI/pythia-12b': 50688}  # others: 50304
OLMO2 = {
  'architectures': ['Olmo2ForCausalLM'],
  'model_type': 'olmo2',
  'vocab_size': 100352,
  'hidden_size': 2048,
  'intermediate_size': 8192,
  'num_hidden_layers': 16,
  'num_attention_heads': 16,
  'num_key_value_heads': 16,
  'max_position_embeddings': 4096,
  'rms_norm_eps': 1e-6,
  'rope_theta': 500000,
  'eos_token_id': 100257,
  'pad_token_id': 100277,
}
OTHERS = {  # what changes the shapes, in config.json of their repositories
  'HuggingFaceTB/SmolLM2-135M-Instruct': {
    'architectures': ['LlamaForCausalLM'],
    'model_type': 'llama',
    'vocab_size': 49152,
    'hidden_size': 576,
    'intermediate_size': 1536,
    'num_hidden_layers': 30,
    'num_attention_heads': 9,
    'num_key_value_heads': 3,
    'max_position_embeddings': 8192,
    'rms_norm_eps': 1e-5,
    'rope_theta': 100000,
    'tie_word_embeddings': True,
    'eos_token_id': 2,
  },
  'allenai/OLMo-2-0425-1B-SFT': OLMO2,
  'allenai/OLMo-2-0425-1B-DPO': OLMO2,
  's-nlp/roberta_toxicity_classifier': {
    'architectures': ['RobertaForSequenceClassification'],
    'model_type': 'roberta',
    'vocab_size': 50265,
    'hidden_size': 768,
    'intermediate_size': 3072,
    'num_hidden_layers': 12,
    'num_attention_heads': 12,
    'max_position_embeddings': 514,
    'type_vocab_size': 1,
    'layer_norm_eps': 1e-5,
    'id2label': {'0': 'neutral', '1': 'toxic'},
  },
}
NEEDED = re.compile(r'It needs (\d+) devices? of 80 GB')
OF_HUB = [path for path in CONFIGS if config_files.load(str(path)).models != c.Models()]


def raw_config(spec):
  """The content of a hub model's config.json."""
  name, _, _ = spec.partition('@')
  if name in OTHERS:
    return OTHERS[name]
  layers, width, attention_heads = PYTHIA[name]
  is_reward = '__reward__' in name
  kind = 'SequenceClassification' if is_reward else 'CausalLM'
  return {
    'architectures': [f'GPTNeoXFor{kind}'],
    'model_type': 'gpt_neox',
    'vocab_size': VOCABULARIES.get(name, 50304),
    'hidden_size': width,
    'num_hidden_layers': layers,
    'num_attention_heads': attention_heads,
    'intermediate_size': 4 * width,
    'max_position_embeddings': 2048,
    'layer_norm_eps': 1e-5,
    'rotary_pct': 0.25,
    'rotary_emb_base': 10000,
    **({'id2label': {'0': 'LABEL_0'}} if is_reward else {}),
  }


each_config = pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
each_traced_config = pytest.mark.parametrize(
  'path',
  [
    pytest.param(path, marks=() if path.stem in ('70m', 'smoke') else pytest.mark.slow)
    for path in CONFIGS
  ],
  ids=lambda path: path.stem,
)
each_dtype = pytest.mark.parametrize(
  'dtype', [jnp.float32, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)]
)


def array(shape, dtype):
  return jax.ShapeDtypeStruct(shape, dtype)


def texts(count, length):
  return structs.TextBatch(array((count, length), jnp.int32), array((count, length), jnp.bool))


def base_config(config) -> trunk_lib.Config:
  """The base model's shape: that of the hub, or of stage sft; an audit gets Pythia-70m's."""
  if 'sft' in config.stages:
    return sft_stage.shape(config.sft, playground_tokenizers.MAX_VOCABULARY)
  spec = config.models.base or 'EleutherAI/pythia-70m'
  return huggingface_config.parse(raw_config(spec), spec)[1]


def shapes_of(make, *arguments):
  return jax.eval_shape(lambda: make(*arguments))


def trace(update, params, frozen, batch, tx):
  """Traces one update: the state keeps its shapes and types, and all metrics are numbers."""
  state = jax.eval_shape(functools.partial(optimizer.new_state, tx=tx), params)
  after, metrics = jax.eval_shape(
    functools.partial(update, tx=tx, axis_name=None), state, frozen, batch
  )
  assert jax.tree.structure(after) == jax.tree.structure(state)
  assert jax.tree.leaves(after) == jax.tree.leaves(state)
  assert metrics and all(metric.shape == () for metric in metrics.values())


def adamw(**changes):
  return optimizer.adamw(learning_rate=1e-3, updates=10, **changes)[0]


@each_config
def test_config_loads_and_says_how_it_is_run(path):
  assert config_files.load(str(path)).name == path.stem
  command = f'python launch/train.py --config=configs/{path.name}'
  assert command in ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))


@pytest.mark.parametrize('path', OF_HUB, ids=lambda path: path.stem)
def test_a_dry_run_needs_only_the_models_config_files(path, tmp_path):
  config = config_files.load(str(path))
  places = {role: spec for role, spec in dataclasses.asdict(config.models).items() if '/' in spec}
  for role, spec in places.items():
    (tmp_path / role).mkdir()
    (tmp_path / role / 'config.json').write_text(json.dumps(raw_config(spec)))
  models = c.Models(**{role: str(tmp_path / role) for role in places})
  config = dataclasses.replace(config, models=models)
  described = dry_run.describe(config, 'runs/x', config.stages)
  assert 'unknown' not in described
  predicted = [stage for stage in config.stages if stage not in ('data', 'report')]
  assert described.count('    peak, during ') == len(predicted)

  if needed := NEEDED.search(path.read_text(encoding='utf-8')):
    least = f'80 GB: {needed[1]}, with config.runtime.sharding={config.runtime.sharding}'
    assert described.endswith(least)


@pytest.mark.slow
@each_dtype
@each_traced_config
def test_supervised_updates_trace_at_their_real_shapes(path, dtype):
  config = config_files.load(str(path))
  if not {'sft', 'classifier'} & set(config.stages):
    pytest.skip('it trains nothing by supervision')
  vocabulary = playground_tokenizers.MAX_VOCABULARY
  for stage, section, shape, kind, losses in (
    ('sft', config.sft, sft_stage.shape, 'causal_lm', supervised.language_model_losses),
    (
      'classifier',
      config.classifier,
      classifier_stage.shape,
      'classifier',
      supervised.classifier_losses,
    ),
  ):
    if stage not in config.stages:
      continue
    model_config = shape(section, vocabulary)
    batch = texts(section.batch_size, section.max_tokens)
    if stage == 'classifier':
      batch = structs.LabelledBatch(batch, array((section.batch_size,), jnp.int32))
    update = functools.partial(
      supervised.update, losses=losses, config=model_config, dtype=dtype, rematerialise=False
    )
    trace(update, huggingface_weights.shapes(kind, model_config), (), batch, adamw(b2=0.98))


@each_dtype
@each_traced_config
def test_the_update_of_ppo_traces_at_its_real_shapes(path, dtype):
  config = config_files.load(str(path))
  if not {'rlhf', 'rerlhf'} & set(config.stages):
    pytest.skip('an audit trains no policy')
  model_config, ppo = base_config(config), config.ppo
  params = huggingface_weights.shapes('causal_lm', model_config)
  params['value_head'] = shapes_of(
    heads.init_value_head, jax.random.key(0), model_config.hidden_size
  )
  trained, frozen = jax.eval_shape(
    functools.partial(cut_lib.split, trained_blocks=ppo.trained_blocks), params
  )
  stored = lambda tree: jax.eval_shape(functools.partial(cut_lib.stored, dtype=dtype), tree)
  allowed = distribution.Allowed(
    *[array((model_config.vocab_size,), jnp.bool)] * 2, array((), jnp.float32)
  )
  reference = {name: value for name, value in trained.items() if name != 'value_head'}
  frozen = ppo_update.Frozen(stored(frozen), stored(reference), allowed)
  responses = config.sampling.max_new_tokens
  length, count = config.data.max_prompt_tokens + responses, ppo.rollouts_per_step
  sequences = texts(count, length)
  experience = structs.Experience(
    sequences.ids,
    sequences.valid,
    array((count, responses), jnp.bool),
    array((count,), jnp.float32),
  )
  statics = dict(
    config=model_config, dtype=dtype, min_new_tokens=config.sampling.min_new_tokens, ppo=ppo
  )
  rollout, statistics = jax.eval_shape(
    functools.partial(ppo_update.make_rollout, axis_name=None, **statics),
    (trained, frozen, array((), jnp.float32)),
    experience,
  )
  assert rollout.advantages.shape == (count, responses) and statistics['kl'].shape == (count,)
  assert (rollout.cut_hidden is None) == (ppo.trained_blocks == -1)
  minibatch = jax.eval_shape(
    lambda whole: jax.tree.map(lambda leaf: leaf[: ppo.minibatch_size], whole), rollout
  )
  trace(functools.partial(ppo_update.update, **statics), trained, frozen, minibatch, adamw())


@each_dtype
@each_traced_config
def test_the_update_of_irl_traces_at_its_real_shapes(path, dtype):
  config = config_files.load(str(path))
  model_config, irl = base_config(config), config.irl
  params = huggingface_weights.shapes('causal_lm', model_config)
  trunk = {name: params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  trained, frozen = jax.eval_shape(
    functools.partial(cut_lib.split, trained_blocks=irl.trained_blocks), trunk
  )
  head = shapes_of(heads.init_reward_head, jax.random.key(0), model_config.hidden_size)
  side = texts(irl.batch_size, min(irl.max_tokens, model_config.max_position_embeddings))
  batch = structs.PairBatch(side, side, array((irl.batch_size,), jnp.float32))
  update = functools.partial(
    irl_update.update, irl=irl, updates=10, config=model_config, dtype=dtype
  )
  trace(update, trained | {'reward_head': head}, frozen, batch, adamw())
