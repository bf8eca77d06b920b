"""Pythia in Flax: parity with transformers (torch), causality, and the cache."""

import dataclasses
import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models

from irl_jax.models import cpu
from irl_jax.models import gpt_neox
from irl_jax.models import huggingface
from irl_jax.models import pretrained
from irl_jax.models import trunk

CONFIG = gpt_neox.GPTNeoXConfig(
  vocab_size=61,
  hidden_size=32,
  num_hidden_layers=3,
  num_attention_heads=4,
  intermediate_size=48,
  max_position_embeddings=64,
)
SWITCHES = [  # every value of every switch, and every pair of values of two switches
  dict(
    use_parallel_residual=parallel, rotary_pct=share, tie_word_embeddings=tied, attention_bias=bias
  )
  for parallel, share, tied, bias in [
    (True, 0.25, False, True),
    (False, 0.25, True, False),
    (True, 0.5, True, False),
    (False, 0.5, False, True),
    (True, 1.0, False, False),
    (False, 1.0, True, True),
    (True, 0.25, True, True),
    (False, 0.5, False, False),
  ]
]


def batch(seed=0, rows=4, length=12, vocabulary=61, left=True):
  """Returns padded ids [B, S] and valid [B, S]; one row is full, one has a single token."""
  rng = np.random.default_rng(seed)
  lengths = np.array([length, 1, *rng.integers(2, length, rows - 2)])
  valid = np.arange(length) < lengths[:, None]
  valid = valid[:, ::-1] if left else valid
  return rng.integers(2, vocabulary, (rows, length)).astype(np.int32), valid


@pytest.fixture(scope='module')
def params():
  """Parameters of CONFIG; every leaf is random, biases and norms too."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32),
    huggingface.weights.shapes('causal_lm', CONFIG),
  )


run_blocks = jax.jit(trunk.run_blocks, static_argnames='config')
prefill = jax.jit(trunk.prefill, static_argnames=('config', 'slots'))
hidden_states = jax.jit(trunk.hidden_states, static_argnames=('config', 'dtype'))


@functools.partial(jax.jit, static_argnames='config')
def logits_of(params, ids, valid, config):
  return trunk.logits(params, trunk.hidden_states(params, ids, valid, config), config)


def torch_logits(network, ids, valid):
  """Returns the logits of transformers, with positions that count valid tokens."""
  torch = pytest.importorskip('torch')
  positions = np.maximum(np.cumsum(valid, 1) - 1, 0)
  with torch.no_grad():
    return network(
      torch.tensor(ids).long(),
      attention_mask=torch.tensor(valid.copy()).long(),
      position_ids=torch.tensor(positions),
    ).logits.numpy()


@pytest.mark.device
@pytest.mark.parametrize(
  'switches',
  # The first two have every value of every switch.
  [*SWITCHES[:2], *(pytest.param(switches, marks=pytest.mark.slow) for switches in SWITCHES[2:])],
  ids=lambda switches: '-'.join(map(str, switches.values())),
)
def test_random_models_score_as_in_torch(switches):
  torch = pytest.importorskip('torch')
  import transformers

  config = dataclasses.replace(CONFIG, **switches)
  shape = dataclasses.asdict(config)
  rope = {
    'rope_type': 'default',
    'rope_theta': shape.pop('rotary_emb_base'),
    'partial_rotary_factor': shape.pop('rotary_pct'),
  }
  torch.manual_seed(0)
  network = transformers.GPTNeoXForCausalLM(
    transformers.GPTNeoXConfig(**shape, rope_parameters=rope)
  ).eval()
  for parameter in network.parameters():
    parameter.data += 0.3 * torch.randn_like(parameter)
  weights = [(name, value.detach().numpy()) for name, value in network.state_dict().items()]
  params = huggingface.weights.to_params('causal_lm', config, weights, 'torch')
  for left in (True, False):
    ids, valid = batch(left=left)
    expected = torch_logits(network, ids, valid)[valid]
    np.testing.assert_allclose(
      logits_of(params, ids, valid, config)[valid], expected, atol=1e-4, rtol=0
    )
    assert expected.std() > 1


@pytest.mark.slow
def test_the_shared_checkpoint_scores_left_padded_prompts_as_in_torch(shared):
  torch = pytest.importorskip('torch')
  import transformers

  folder = shared / 'models/neox_14m'
  network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
  model = pretrained.load(str(folder))
  encoded = model.tokenizer(
    ['Hello world', 'a', 'You are quite right; thank you — for the source! 🙂'],
    padding=True,
    padding_side='left',
    return_tensors='np',
  )
  ids, valid = encoded['input_ids'].astype(np.int32), encoded['attention_mask'].astype(bool)
  assert not valid.all()
  found = logits_of(model.params, ids, valid, model.config)
  np.testing.assert_allclose(
    found[valid], torch_logits(network, ids, valid)[valid], atol=1e-4, rtol=0
  )


def test_no_position_sees_a_later_one_or_padding(params):
  _, valid = batch(rows=3)
  hidden = jax.random.normal(jax.random.key(1), (3, 12, CONFIG.hidden_size))
  run = lambda hidden: trunk.run_blocks(params['blocks'], hidden, valid, CONFIG)
  jacobian = jax.jit(jax.jacrev(lambda hidden: run(hidden).sum(-1)))(hidden)  # [B, S, B, S, D]
  reaches = np.abs(jacobian).max(-1) > 0  # output [B, S] of input [B, S]
  for row in range(3):
    expected = np.tril(np.ones((12, 12), bool)) & valid[row]
    seen = np.delete(reaches[row], row, axis=1)
    np.testing.assert_array_equal(reaches[row, :, row][valid[row]], expected[valid[row]])
    assert not seen.any()


def test_padding_and_what_it_holds_change_nothing(params):
  ids, valid = batch()
  found = logits_of(params, ids, valid, CONFIG)
  np.testing.assert_allclose(
    logits_of(params, np.where(valid, ids, 7), valid, CONFIG)[valid], found[valid], atol=1e-5
  )
  wider = np.pad(ids, ((0, 0), (5, 0))), np.pad(valid, ((0, 0), (5, 0)))
  np.testing.assert_allclose(
    logits_of(params, *wider, CONFIG)[:, 5:][valid], found[valid], atol=1e-4
  )


@pytest.mark.parametrize('parallel', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_prefill_and_decoding_give_the_hidden_states_of_the_whole(params, parallel):
  config = dataclasses.replace(CONFIG, use_parallel_residual=parallel)
  ids, valid = batch(length=7)
  new = np.random.default_rng(1).integers(2, 61, (4, 5)).astype(np.int32)
  whole_valid = np.concatenate([valid, np.ones((4, 5), bool)], 1)
  embedded = trunk.embed(params, np.concatenate([ids, new], 1), config)
  whole = run_blocks(params['blocks'], embedded, whole_valid, config)
  hidden, caches = prefill(
    params['blocks'], trunk.embed(params, ids, config), valid, config, slots=12
  )
  np.testing.assert_allclose(hidden[valid], whole[:, :7][valid], atol=1e-4)
  decode = jax.jit(functools.partial(trunk.decode_blocks, config=config))
  for step in range(5):
    slot = 7 + step
    visible = whole_valid & (np.arange(12) <= slot)
    embedded = trunk.embed(params, new[:, step : step + 1], config)
    hidden, caches = decode(
      trunk.decode_layers(params['blocks']),
      embedded,
      valid.sum(1) + step,
      np.int32(slot),
      visible,
      caches,
    )
    np.testing.assert_allclose(hidden[:, 0], whole[:, slot], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('rematerialise', [False, True])
def test_layers_one_by_one_are_layers_in_a_loop(params, monkeypatch, rematerialise):
  ids, valid = batch()

  def loss(params):
    return jnp.sum(
      trunk.hidden_states(params, ids, valid, CONFIG, rematerialise=rematerialise) ** 2
    )

  outcomes = []
  for shallow, loops in ((0, True), (3, rematerialise)):
    monkeypatch.setattr(cpu, 'SHALLOW', shallow)
    lowered = jax.jit(jax.value_and_grad(lambda params: loss(params))).lower(params)
    assert ('while' in lowered.as_text()) == loops
    outcomes.append(lowered.compile()(params))
  chex.assert_trees_all_close(*outcomes, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_a_deep_stack_is_compiled_once():
  text_of = lambda layers: len(
    jax.jit(
      lambda key: trunk.hidden_states(
        trunk.init(key, config := dataclasses.replace(CONFIG, num_hidden_layers=layers)),
        *batch(),
        config,
      )
    )
    .lower(jax.random.key(0))
    .as_text()
  )
  deep = cpu.SHALLOW + 1
  assert text_of(4 * deep) < 1.02 * text_of(deep)


def test_random_parameters_are_those_of_pythia(params):
  drawn = tiny_models.drawn(trunk.init, CONFIG)
  chex.assert_trees_all_equal_shapes_and_dtypes(drawn, params)
  kernel = np.asarray(drawn['blocks']['mlp']['dense_h_to_4h']['kernel'])
  assert 0.017 < kernel.std() < 0.023 and np.abs(kernel[0] - kernel[1]).min() > 0
  assert 0.017 < np.asarray(drawn['embed_out']['embedding']).std() < 0.023


def test_bfloat16_is_close_and_logits_float32(params):
  ids, valid = batch()
  exact = logits_of(params, ids, valid, CONFIG)[valid]
  hidden = hidden_states(params, ids, valid, CONFIG, jnp.bfloat16)
  rounded = trunk.logits(params, hidden, CONFIG)
  assert hidden.dtype == jnp.bfloat16 and rounded.dtype == jnp.float32
  np.testing.assert_allclose(rounded[valid], exact, atol=0.05 * np.abs(exact).max())


@pytest.mark.slow
def test_all_pythia_sizes_run(shared):
  ids, valid = jax.ShapeDtypeStruct((2, 2048), jnp.int32), jax.ShapeDtypeStruct((2, 2048), bool)
  for raw in json.loads((shared / 'models/pythia_configs.json').read_text())['models'].values():
    kind, config = huggingface.config.parse(raw, 'here')
    forward = lambda params, ids, valid, config=config: trunk.logits(
      params, trunk.hidden_states(params, ids, valid, config)[:, -1], config
    )
    out = jax.eval_shape(forward, huggingface.weights.shapes(kind, config), ids, valid)
    chex.assert_shape(out, (2, raw['vocab_size']))
