"""config.json and weights of the Llama family, against transformers' own models, both ways."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from irl_jax.errors import InputError
from irl_jax.models import huggingface
from irl_jax.models import pretrained
from irl_jax.models import trunk

SHAPE = {
  'vocab_size': 264,
  'hidden_size': 32,
  'intermediate_size': 48,
  'num_hidden_layers': 3,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 64,
}
LLAMA3 = {
  'rope_type': 'llama3',
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 16,
}
GEMMA = {'head_dim': 16, 'query_pre_attn_scalar': 24, 'sliding_window': 4}
GEMMA3_ROPE = {
  'full_attention': {'rope_type': 'linear', 'factor': 8.0, 'rope_theta': 5000.0},
  'sliding_attention': {'rope_type': 'default', 'rope_theta': 100.0},
}
# The classes of transformers, with settings that every family has and some of its own.
FAMILIES = {
  'llama': ('Llama', {'rope_parameters': LLAMA3 | {'rope_theta': 500.0}, 'head_dim': 16}),
  'llama-biased': (
    'Llama',
    {'attention_bias': True, 'mlp_bias': True, 'tie_word_embeddings': True},
  ),
  'mistral': ('Mistral', {'sliding_window': 4}),
  'mistral-whole': ('Mistral', {'sliding_window': None, 'head_dim': 16}),
  'qwen2': ('Qwen2', {'tie_word_embeddings': True, 'rms_norm_eps': 1e-5}),
  'qwen2-slides': (
    'Qwen2',
    {'use_sliding_window': True, 'sliding_window': 4, 'max_window_layers': 1},
  ),
  'qwen3': ('Qwen3', {'head_dim': 16}),
  'qwen3-biased': ('Qwen3', {'head_dim': 8, 'attention_bias': True}),
  'olmo2': ('Olmo2', {}),
  'gemma2': ('Gemma2', GEMMA | {'attn_logit_softcapping': 2.0, 'final_logit_softcapping': 1.0}),
  'gemma3': ('Gemma3', GEMMA | {'rope_parameters': GEMMA3_ROPE, 'num_hidden_layers': 7}),
}
RAW = SHAPE | {
  'architectures': ['LlamaForCausalLM'],
  'model_type': 'llama',
  'rms_norm_eps': 1e-5,
  'rope_theta': 500.0,
  'eos_token_id': [0, 7],
}


def parse(**changes):
  raw = RAW | {name: value for name, value in changes.items() if value != 'absent'}
  for name in [name for name, value in changes.items() if value == 'absent']:
    del raw[name]
  return huggingface.config.parse(raw, 'here')[1]


def network(family, head='ForCausalLM', **changes):
  """Returns a random tiny model of transformers."""
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  name, settings = FAMILIES[family]
  text = 'Text' if name == 'Gemma3' else ''
  config = getattr(transformers, f'{name}{text}Config')(
    **SHAPE | settings | {'eos_token_id': 0, 'bos_token_id': 0, 'pad_token_id': 1} | changes
  )
  torch.manual_seed(0)
  is_text = text if head != 'ForCausalLM' else ''
  model = getattr(transformers, f'{name}{is_text}{head}')(config).eval()
  for parameter in model.parameters():
    parameter.data += 0.2 * torch.randn_like(parameter)
  return model


def batch():
  """Returns ids [B, S] and valid [B, S]; the second row is padded on the right."""
  ids = np.random.default_rng(0).integers(2, 264, (2, 12)).astype(np.int32)
  valid = np.ones((2, 12), bool)
  valid[1, 8:] = False
  return np.where(valid, ids, 1), valid


def torch_logits(model):
  torch = pytest.importorskip('torch')
  ids, valid = batch()
  with torch.no_grad():
    return model(torch.tensor(ids).long(), attention_mask=torch.tensor(valid).long()).logits.numpy()


@functools.partial(jax.jit, static_argnames='config')
def forward(params, ids, valid, config):
  return trunk.logits(params, trunk.hidden_states(params, ids, valid, config), config)


def our_logits(model):
  return np.asarray(forward(model.params, *batch(), model.config))


def reload(folder, auto):
  """Loads a folder with transformers, which must miss no weight and find none too many."""
  transformers = pytest.importorskip('transformers')
  model, report = getattr(transformers, auto).from_pretrained(
    folder, output_loading_info=True, dtype='float32'
  )
  assert not any(report.values()), report
  return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES)
def test_language_models_of_transformers_come_back_the_same(tmp_path, language_model, family):
  model = network(family)
  model.save_pretrained(tmp_path / 'theirs')
  language_model.tokenizer.save_pretrained(tmp_path / 'theirs')
  ours = pretrained.load(str(tmp_path / 'theirs'))
  valid = batch()[1]
  theirs = torch_logits(model)
  np.testing.assert_allclose(our_logits(ours)[valid], theirs[valid], atol=1e-4, rtol=0)
  pretrained.save(tmp_path / 'ours', ours, '')
  again = pretrained.load(str(tmp_path / 'ours'))
  assert again.config == ours.config
  np.testing.assert_array_equal(
    *(
      np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(one.params)])
      for one in (ours, again)
    )
  )
  back = torch_logits(reload(tmp_path / 'ours', 'AutoModelForCausalLM'))
  np.testing.assert_allclose(back[valid], theirs[valid], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
  'family', ['llama', 'mistral', 'qwen2', 'qwen3', 'olmo2', 'gemma2', 'gemma3']
)
def test_rewards_of_transformers_come_back_the_same(tmp_path, language_model, family):
  model = network(family, 'ForSequenceClassification', num_labels=1)
  model.save_pretrained(tmp_path / 'theirs')
  language_model.tokenizer.save_pretrained(tmp_path / 'theirs')
  ours = pretrained.load(str(tmp_path / 'theirs'), kinds=('reward',))
  ids, valid = batch()
  hidden = jax.jit(trunk.run_blocks, static_argnames='config')(
    ours.params['blocks'], trunk.embed(ours.params, ids, ours.config), valid, ours.config
  )
  last = hidden[np.arange(2), valid.sum(1) - 1]
  scores = np.asarray(trunk.score(ours.params, last, ours.config))
  theirs = torch_logits(model)[:, 0]
  np.testing.assert_allclose(scores, theirs, atol=1e-4, rtol=0)
  ours.params['score']['bias'][...] = -0.25
  pretrained.save(tmp_path / 'ours', ours, '')
  assert json.loads((tmp_path / 'ours/config.json').read_text())['reward_zero'] == 0.25
  again = pretrained.load(str(tmp_path / 'ours'))
  np.testing.assert_array_equal(again.params['score']['bias'], np.float32([-0.25]))
  reloaded = reload(tmp_path / 'ours', 'AutoModelForSequenceClassification')
  np.testing.assert_allclose(torch_logits(reloaded)[:, 0], theirs, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_shards_in_bfloat16_score_as_in_transformers(tmp_path, language_model):
  torch = pytest.importorskip('torch')
  model = network('llama-biased').to(torch.bfloat16)
  model.save_pretrained(tmp_path, max_shard_size='20KB')
  language_model.tokenizer.save_pretrained(tmp_path)
  assert (tmp_path / 'model.safetensors.index.json').exists()
  ours = pretrained.load(str(tmp_path))
  assert 'embed_out' not in ours.params
  valid = batch()[1]
  theirs = torch_logits(reload(tmp_path, 'AutoModelForCausalLM'))
  np.testing.assert_allclose(our_logits(ours)[valid], theirs[valid], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_another_padding_than_eos_is_written_and_read_back(tmp_path, language_model):
  """As SmolLM2 is: its files say that EOS pads."""
  model = network('llama', pad_token_id=0)
  model.save_pretrained(tmp_path / 'theirs')
  language_model.tokenizer.save_pretrained(tmp_path / 'theirs')
  ours = pretrained.load(str(tmp_path / 'theirs'))
  assert ours.config.pad_token_id == ours.tokenizer.pad_token_id == 1
  pretrained.save(tmp_path / 'ours', ours, '')
  assert pretrained.load(str(tmp_path / 'ours')).config == ours.config


@pytest.mark.slow
def test_the_language_model_of_a_gemma_3_that_sees_images(tmp_path, language_model, caplog):
  transformers = pytest.importorskip('transformers')
  text = network('gemma3')
  vision = {
    'hidden_size': 16,
    'intermediate_size': 16,
    'num_hidden_layers': 1,
    'num_attention_heads': 2,
    'image_size': 28,
    'patch_size': 14,
  }
  whole = transformers.Gemma3ForConditionalGeneration(
    transformers.Gemma3Config(
      text_config=text.config.to_dict(), vision_config=vision, mm_tokens_per_image=4, eos_token_id=0
    )
  ).eval()
  whole.model.language_model.load_state_dict(text.model.state_dict())
  whole.save_pretrained(tmp_path)
  language_model.tokenizer.save_pretrained(tmp_path)
  ours = pretrained.load(str(tmp_path))
  assert ours.config.model_type == 'gemma3_text'
  valid = batch()[1]
  np.testing.assert_allclose(our_logits(ours)[valid], torch_logits(whole)[valid], atol=1e-4, rtol=0)


@pytest.mark.parametrize('factor', [1.0, 4.0])
def test_both_spellings_of_rope_are_read(factor):
  scaling = {'rope_type': 'linear', 'factor': factor}
  new = parse(rope_theta='absent', rope_parameters=scaling | {'rope_theta': 500.0})
  assert (
    parse(rope_scaling=scaling) == parse(rope_scaling={'type': 'linear', 'factor': factor}) == new
  )
  assert new.rope == dataclasses.replace(new.rope, theta=500.0, kind='linear', factor=factor)
  assert parse(rope_theta='absent').rope.theta == 10000.0


def test_gemma_3_is_read_in_the_spelling_of_transformers_4():
  old = {
    'model_type': 'gemma3_text',
    'architectures': ['Gemma3ForCausalLM'],
    'rope_scaling': {'rope_type': 'linear', 'factor': 8.0},
    'rope_theta': 5000.0,
    'rope_local_base_freq': 100.0,
    'sliding_window': 4,
    'sliding_window_pattern': 3,
    'attn_logit_softcapping': None,
  }
  config = parse(**old)
  assert (config.rope.theta, config.rope.factor, config.local_rope.theta) == (5000.0, 8.0, 100.0)
  assert config.sliding_layers == (True, True, False) and config.head_dim == 256
  new = dict(old, rope_parameters=GEMMA3_ROPE)
  for name in ('rope_scaling', 'rope_theta', 'rope_local_base_freq'):
    del new[name]
  assert parse(**new, rope_theta='absent') == config


def test_several_ends_are_read():
  assert parse().eos_token_ids == (0, 7)
  assert parse(eos_token_id='absent').eos_token_ids == ()


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0}}, "rope_type = 'yarn' is not supported"),
    ({'rope_scaling': {'type': 'dynamic', 'factor': 2.0}}, "rope_type = 'dynamic'"),
    ({'rope_scaling': {'rope_type': 'linear'}}, "rope_type = 'linear' without factor"),
    ({'rope_scaling': {'rope_type': 'linear', 'factor': 0}}, 'factor = 0: must be a number > 0'),
    ({'rope_scaling': {'rope_theta': 5.0, 'partial_rotary_factor': 0.5}}, 'partial_rotary_factor'),
    ({'partial_rotary_factor': 0.5}, 'partial_rotary_factor = 0.5: llama has no such setting'),
    ({'quantization_config': {'bits': 4}}, 'quantized weights are not read'),
    ({'hidden_act': 'gelu'}, "hidden_act = 'gelu': must be silu"),
    ({'sliding_window': 8}, 'sliding_window = 8: llama has no such setting'),
    ({'layer_types': ['sliding_attention'] * 3}, 'layer_types = .*: llama has no such setting'),
    ({'final_logit_softcapping': 30.0}, 'final_logit_softcapping = 30.0'),
    (
      {'model_type': 'mistral', 'architectures': ['MistralForCausalLM'], 'attention_bias': True},
      'attention_bias = True: mistral has no such setting',
    ),
    ({'num_key_value_heads': 3}, 'num_key_value_heads = 3: must divide num_attention_heads = 4'),
    ({'head_dim': 7}, 'head_dim = 7: must be an even number'),
    ({'hidden_size': 30}, 'num_attention_heads = 4: must divide hidden_size = 30'),
    ({'hidden_size': 'absent'}, 'config.json has no hidden_size'),
    ({'attention_bias': 1}, 'attention_bias = 1: must be true or false'),
    ({'num_hidden_layers': '3'}, "num_hidden_layers = '3'"),
    ({'eos_token_id': [0, 264]}, 'eos_token_id = 264: must be < vocab_size = 264'),
    ({'eos_token_id': [0, '7']}, 'must be a token id, or a list of them'),
    ({'model_type': 'qwen2'}, 'is not supported'),
  ],
)
def test_what_would_be_computed_otherwise_is_refused(changes, message):
  with pytest.raises(InputError, match=f'here: .*{message}'):
    parse(**changes)


@pytest.mark.parametrize('zero', ['0', float('nan'), True])
def test_a_zero_of_a_reward_that_is_no_number_is_refused(zero):
  with pytest.raises(InputError, match='reward_zero = .*: must be a finite number'):
    huggingface.config.reward_zero({'reward_zero': zero}, 'here')
