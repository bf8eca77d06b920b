"""Llama and its relatives, over every switch: logits and greedy texts are those of transformers."""

import dataclasses
import functools

import chex
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models

from irl_jax import distribution
from irl_jax import sampling
from irl_jax import structs
from irl_jax.models import cpu
from irl_jax.models import cut as cut_lib
from irl_jax.models import llama
from irl_jax.models import trunk
from irl_jax.models.llama_config import Rope

END = 60
TINY = {
  'vocab_size': 61,
  'hidden_size': 32,
  'num_hidden_layers': 4,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'intermediate_size': 48,
  'max_position_embeddings': 64,
}
ALTERNATE = (True, False, True, False)
TYPES = ['sliding_attention' if slides else 'full_attention' for slides in ALTERNATE]
LLAMA_3 = {
  'factor': 4.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 16,
}
GEMMA = {
  'hidden_act': 'gelu_pytorch_tanh',
  'norm_placement': 'sandwich',
  'norm_weight': 'one_plus',
  'query_pre_attn_scalar': 12.0,
  'sliding_window': 4,
  'sliding_layers': ALTERNATE,
  'final_logit_softcapping': 2.0,
  'scale_embedding': True,
  'tie_word_embeddings': True,
}
IN_GEMMA = {
  'head_dim': 16,
  'query_pre_attn_scalar': 12,
  'sliding_window': 4,
  'layer_types': TYPES,
  'final_logit_softcapping': 2.0,
}
# name: (transformers' class, its settings, our settings)
FAMILIES = {
  'llama': ('Llama', {'tie_word_embeddings': True}, {'tie_word_embeddings': True}),
  'llama 3': (
    'Llama',
    {
      'head_dim': 16,
      'attention_bias': True,
      'mlp_bias': True,
      'rope_parameters': {'rope_type': 'llama3', 'rope_theta': 500.0, **LLAMA_3},
    },
    {
      'head_dim': 16,
      'qkv_bias': True,
      'o_bias': True,
      'mlp_bias': True,
      'rope': Rope(500.0, 'llama3', **LLAMA_3),
    },
  ),
  'llama, linear': (
    'Llama',
    {'rope_parameters': {'rope_type': 'linear', 'rope_theta': 100.0, 'factor': 3.0}},
    {'rope': Rope(100.0, 'linear', 3.0)},
  ),
  'mistral': (
    'Mistral',
    {'sliding_window': 4},
    {'sliding_window': 4, 'sliding_layers': (True,) * 4},
  ),
  'qwen2': (
    'Qwen2',
    {'use_sliding_window': True, 'sliding_window': 4, 'max_window_layers': 2},
    {'qkv_bias': True, 'sliding_window': 4, 'sliding_layers': (False, False, True, True)},
  ),
  'qwen3': (
    'Qwen3',
    {'head_dim': 16, 'attention_bias': True},
    {'head_dim': 16, 'qkv_bias': True, 'o_bias': True, 'qk_norm': 'head'},
  ),
  'olmo2': (
    'Olmo2',
    {'rms_norm_eps': 1e-5},
    {
      'norm_placement': 'post',
      'norm_weight': 'float32',
      'qk_norm': 'projection',
      'rms_norm_eps': 1e-5,
    },
  ),
  'gemma2': (
    'Gemma2',
    IN_GEMMA | {'attn_logit_softcapping': 3.0},
    GEMMA | {'head_dim': 16, 'attn_logit_softcapping': 3.0},
  ),
  'gemma3_text': (
    'Gemma3',
    IN_GEMMA
    | {
      'rope_parameters': {
        'full_attention': {'rope_type': 'linear', 'rope_theta': 1000.0, 'factor': 2.0},
        'sliding_attention': {'rope_type': 'default', 'rope_theta': 50.0},
      }
    },
    GEMMA
    | {
      'head_dim': 16,
      'qk_norm': 'head',
      'rope': Rope(1000.0, 'linear', 2.0),
      'local_rope': Rope(50.0),
    },
  ),
}
QUICK = 'gemma3_text'  # it has the most switches
EVERY = [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in FAMILIES]


def config_of(name):
  """Our config of a family."""
  settings = {'head_dim': 8, 'eos_token_ids': (END,)} | FAMILIES[name][2]
  return llama.LlamaConfig(**TINY, **settings)


def random_params(config, seed=0):
  """Parameters all of which are random, norms and biases too."""
  rng = np.random.default_rng(seed)
  drawn = lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32)
  return jax.tree.map(drawn, jax.eval_shape(lambda: trunk.init(jax.random.key(0), config)))


def batch(length=9, left=True, seed=0):
  """Padded ids [B, S] and valid [B, S]; one row is full, one holds a single token."""
  rng = np.random.default_rng(seed)
  valid = np.arange(length) < np.array([[length], [1], [5], [length - 2]])
  return rng.integers(2, END, valid.shape).astype(np.int32), valid[:, ::-1] if left else valid


run_blocks = jax.jit(trunk.run_blocks, static_argnames='config')
prefill = jax.jit(trunk.prefill, static_argnames=('config', 'slots'))
hidden_states = jax.jit(trunk.hidden_states, static_argnames=('config', 'dtype'))


@functools.partial(jax.jit, static_argnames='config')
def logits_of(params, ids, valid, config):
  return trunk.logits(params, trunk.hidden_states(params, ids, valid, config), config)


def named(params):
  """Our parameters under transformers' names."""
  roots = {
    'embed_in': 'model.embed_tokens',
    'final_layer_norm': 'model.norm',
    'embed_out': 'lm_head',
  }
  for (root, *path), array in traverse_util.flatten_dict(params).items():
    for layer, weight in enumerate(array) if root == 'blocks' else [(None, array)]:
      prefix = roots[root] if layer is None else f'model.layers.{layer}'
      leaf = 'bias' if path[-1] == 'bias' else 'weight'
      yield '.'.join([prefix, *path[:-1], leaf]), weight.T if path[-1] == 'kernel' else weight


def network_of(name, params):
  """The same model in transformers."""
  torch = pytest.importorskip('torch')
  import transformers

  family, settings, _ = FAMILIES[name]
  kind = f'{family}Text' if family == 'Gemma3' else family
  config = getattr(transformers, f'{kind}Config')(
    **TINY, **settings, eos_token_id=END, pad_token_id=1, attn_implementation='eager'
  )
  network = getattr(transformers, f'{family}ForCausalLM')(config).eval()
  weights = {key: torch.tensor(np.ascontiguousarray(value)) for key, value in named(params)}
  missing, unexpected = network.load_state_dict(weights, strict=False)
  assert not unexpected and set(missing) <= {'lm_head.weight'}
  return network


@pytest.mark.device
@pytest.mark.parametrize('name', EVERY)
def test_logits_are_those_of_transformers(name):
  torch = pytest.importorskip('torch')
  config = config_of(name)
  params = random_params(config)
  network = network_of(name, params)
  for left in (True, False):
    ids, valid = batch(left=left)
    positions = np.maximum(np.cumsum(valid, 1) - 1, 0)
    tensors = (torch.tensor(np.array(x)).long() for x in (ids, valid, positions))
    with torch.no_grad():
      found = network(**dict(zip(('input_ids', 'attention_mask', 'position_ids'), tensors)))
    np.testing.assert_allclose(
      logits_of(params, ids, valid, config)[valid], found.logits.numpy()[valid], atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILIES)
def test_greedy_texts_are_those_of_transformers(name):
  torch = pytest.importorskip('torch')
  config = config_of(name)
  params, new = random_params(config), 12
  ids, valid = batch()
  with torch.no_grad():
    expected = network_of(name, params).generate(
      torch.tensor(ids).long(),
      attention_mask=torch.tensor(np.array(valid)).long(),
      do_sample=False,
      max_new_tokens=new,
    )[:, ids.shape[1] :]
  found = sample(params, config, ids, valid, new)
  for row, length, wanted in zip(found.ids, found.length, expected.numpy()):
    np.testing.assert_array_equal(row[:length], wanted[:length])
    assert length == new or row[length - 1] == END
  assert found.length.max() == new


def sample(params, config, ids, valid, new, ends=(END,)):
  """Greedy responses."""
  tokens = np.arange(config.vocab_size)
  allowed = distribution.Allowed(tokens < 0, np.isin(tokens, ends), np.float32(1))
  run = functools.partial(
    sampling.sample,
    config=config,
    dtype=jnp.float32,
    max_new_tokens=new,
    min_new_tokens=0,
    top_k=0,
    top_p=1.0,
    greedy=True,
  )
  prompts = structs.PromptBatch(ids, valid, np.arange(len(ids), dtype=np.uint32))
  return jax.device_get(jax.jit(run)((params, allowed, jax.random.key(0)), prompts))


@pytest.mark.slow
def test_any_of_several_ends_ends_a_response():
  config = dataclasses.replace(config_of('qwen2'), eos_token_ids=(END, 7))
  params, (ids, valid) = random_params(config), batch()
  unended = sample(params, config, ids, valid, 12, ends=())
  ends = (END, int(unended.ids[0, 3]))
  found = sample(params, dataclasses.replace(config, eos_token_ids=ends), ids, valid, 12, ends)
  length = found.length[0]
  assert found.ids[0, length - 1] == ends[1] and length <= 4
  np.testing.assert_array_equal(found.ids[0, :length], unended.ids[0, :length])
  assert (found.ids[0, length:] == END).all()  # filled with the first of them


@pytest.mark.slow
@pytest.mark.parametrize('name', EVERY)
def test_prefill_and_decoding_give_the_hidden_states_of_the_whole(name):
  config = config_of(name)
  params, (ids, valid) = random_params(config), batch(7)
  new = np.random.default_rng(1).integers(2, 60, (4, 5)).astype(np.int32)
  whole_valid = np.concatenate([valid, np.ones((4, 5), bool)], 1)
  embedded = trunk.embed(params, np.concatenate([ids, new], 1), config)
  whole = run_blocks(params['blocks'], embedded, whole_valid, config)
  hidden, caches = prefill(params['blocks'], embedded[:, :7], valid, config, slots=12)
  np.testing.assert_allclose(hidden[valid], whole[:, :7][valid], atol=1e-4)
  assert caches[0].keys.shape == (4, config.num_key_value_heads, 12, config.head_dim)
  decode = jax.jit(functools.partial(trunk.decode_blocks, config=config))
  layers = trunk.decode_layers(params['blocks'])
  for slot in range(7, 12):
    visible = whole_valid & (np.arange(12) <= slot)
    hidden, caches = decode(
      layers, embedded[:, slot : slot + 1], valid.sum(1) + slot - 7, np.int32(slot), visible, caches
    )
    np.testing.assert_allclose(hidden[:, 0], whole[:, slot], atol=1e-4)


@pytest.mark.parametrize(
  'trained_blocks', [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (-1, 0, 1, 4))]
)
def test_a_cut_model_is_the_whole_one_although_layers_differ(trained_blocks):
  config = config_of('gemma3_text')
  params, (ids, valid) = random_params(config), batch()
  trained, frozen = cut_lib.split(params, trained_blocks)
  below = jax.jit(cut_lib.below, static_argnames='config')(frozen, ids, valid, config)
  above = jax.jit(cut_lib.above, static_argnames='config')
  hidden = above(trained, frozen, below, ids, valid, config)
  np.testing.assert_allclose(
    hidden[valid], hidden_states(params, ids, valid, config)[valid], atol=1e-5
  )
  chex.assert_trees_all_equal(cut_lib.join(trained, frozen), params)


@pytest.mark.slow
def test_no_token_sees_a_later_one_nor_padding():
  config = config_of('gemma3_text')
  params, (ids, valid) = random_params(config), batch(6)
  hidden = trunk.embed(params, ids, config)
  run = lambda hidden: trunk.run_blocks(params['blocks'], hidden, valid, config)
  jacobian = jax.jit(jax.jacrev(lambda hidden: run(hidden).sum(-1)))(hidden)  # [B, S, B, S, D]
  reaches = np.abs(jacobian).max(-1) > 0
  row, position = np.indices((4, 6)).reshape(2, -1)
  for r, p in zip(row, position):
    if valid[r, p]:
      seen = (np.arange(4)[:, None] == r) & valid & (np.arange(6) <= p)
      np.testing.assert_array_equal(reaches[r, p], seen)


def test_a_single_layer_sees_its_window_and_nothing_before_it():
  config = dataclasses.replace(config_of('mistral'), num_hidden_layers=1, sliding_layers=(True,))
  params = random_params(config)
  hidden = np.random.default_rng(0).normal(size=(1, 9, 32)).astype(np.float32)
  valid = np.ones((1, 9), bool)
  run = lambda hidden: trunk.run_blocks(params['blocks'], hidden, valid, config)[0].sum(-1)
  reaches = np.abs(jax.jit(jax.jacrev(run))(hidden)[:, 0]).max(-1) > 0
  behind = np.arange(9)[:, None] - np.arange(9)
  np.testing.assert_array_equal(reaches, (behind >= 0) & (behind < 4))


@pytest.mark.slow
@pytest.mark.parametrize('rematerialise', [False, True])
def test_layers_one_by_one_are_layers_in_a_loop(monkeypatch, rematerialise):
  config = config_of('gemma3_text')
  params, (ids, valid) = random_params(config), batch()
  loss = lambda params: jnp.sum(
    jnp.square(trunk.hidden_states(params, ids, valid, config, rematerialise=rematerialise))
  )
  outcomes = []
  for shallow in (0, 4):
    monkeypatch.setattr(cpu, 'SHALLOW', shallow)
    outcomes.append(jax.jit(jax.value_and_grad(lambda params: loss(params)))(params))
  chex.assert_trees_all_close(*outcomes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('name', EVERY)
def test_random_parameters_have_the_deviation_of_the_config_and_neutral_norms(name):
  config = config_of(name)
  drawn = tiny_models.drawn(trunk.init, config)
  for path, leaf in traverse_util.flatten_dict(drawn).items():
    if path[-1] in ('kernel', 'embedding'):
      assert 0.015 < np.asarray(leaf).std() < 0.025
    else:
      neutral = path[-1] == 'scale' and config.norm_weight != 'one_plus'
      assert (np.asarray(leaf) == neutral).all()


@pytest.mark.parametrize('name', [pytest.param('olmo2', marks=pytest.mark.slow), QUICK])
def test_bfloat16_is_close_and_logits_float32(name):
  config = config_of(name)
  params, (ids, valid) = random_params(config), batch()
  exact = logits_of(params, ids, valid, config)[valid]
  hidden = hidden_states(params, ids, valid, config, jnp.bfloat16)
  rounded = trunk.logits(params, hidden, config)
  assert hidden.dtype == jnp.bfloat16 and rounded.dtype == jnp.float32
  np.testing.assert_allclose(rounded[valid], exact, atol=0.1 * np.abs(exact).max())


def test_normalised_states_have_root_mean_square_1():
  config = config_of('llama')
  hidden = np.random.default_rng(1).normal(3, 5, (4, 32)).astype(np.float32)
  found = np.asarray(trunk.normalise(hidden, config))
  np.testing.assert_allclose(np.square(found).mean(-1), 1, atol=1e-4)
