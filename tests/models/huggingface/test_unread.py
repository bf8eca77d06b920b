"""Weights that stay in their files until they are placed: what is read, and what is refused."""

import weakref

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save_file
import tiny_models

from irl_jax.errors import InputError
from irl_jax.models import comparable
from irl_jax.models import cut
from irl_jax.models import huggingface
from irl_jax.models import llama
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.models.huggingface import weight_files
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding
from irl_jax.runtime import unread
from irl_jax.training import fingerprint

TYPES = ('float32', 'float16', 'bfloat16')


@pytest.fixture
def tied(letters):
  """A tiny relative of Llama whose output head is its input embedding."""
  config = llama.LlamaConfig(
    model_type='gemma3_text',
    vocab_size=36,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    head_dim=8,
    intermediate_size=32,
    max_position_embeddings=64,
    bos_token_id=0,
    pad_token_id=1,
    **tiny_models.RELATIVES['gemma3_text'],
  )
  return pretrained.Pretrained('causal_lm', config, tiny_models.drawn(trunk.init, config), letters)


@pytest.fixture
def folder(policy, tmp_path):
  """The folder of the tiny policy."""
  pretrained.save(tmp_path / 'policy', policy, '')
  return tmp_path / 'policy'


def rewrite(folder, change):
  """Replaces the weights file of a folder by one with `change` of the weights."""
  file, new = folder / 'model.safetensors', folder / 'new'
  save_file(change(load_file(file)), new, metadata={'format': 'pt'})
  new.rename(file)


def unread_of(params):
  return [leaf for leaf in jax.tree.leaves(params) if isinstance(leaf, unread.Unread)]


@pytest.fixture
def reads(monkeypatch):
  """The bytes of each part that is read from a file, and the most that were held at once."""
  record = {'sizes': [], 'held': 0, 'most': 0}
  read = weight_files.Tensor.__getitem__

  def free(size):
    record['held'] -= size

  def recorded(self, index):
    values = read(self, index)
    record['sizes'].append(values.nbytes)
    record['held'] += values.nbytes
    record['most'] = max(record['most'], record['held'])
    weakref.finalize(values, free, values.nbytes)
    return values

  monkeypatch.setattr(weight_files.Tensor, '__getitem__', recorded)
  return record


@pytest.mark.parametrize('dtype', TYPES)
@pytest.mark.parametrize('name', ['policy', 'tied', 'classifier'])
def test_placed_parameters_are_those_of_a_whole_load(request, tmp_path, reads, name, dtype):
  pretrained.save(tmp_path, request.getfixturevalue(name), '')
  of_type = lambda weights: {key: x.astype(jnp.dtype(dtype)) for key, x in weights.items()}
  rewrite(tmp_path, of_type)
  whole = pretrained.load(str(tmp_path)).params
  with sharding.using('fsdp', smallest=0):
    model = pretrained.load(str(tmp_path))
    assert unread_of(model.params) and not reads['sizes']
    chex.assert_trees_all_equal_shapes_and_dtypes(
      jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), model.params),
      jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), whole),
    )
    trained = parallel.replicate(model.params, jnp.float32)
    frozen = parallel.replicate(cut.stored(model.params, jnp.bfloat16))
  chex.assert_trees_all_equal(
    parallel.to_host(trained), jax.tree.map(lambda x: x.astype(np.float32), whole)
  )
  chex.assert_trees_all_equal(parallel.to_host(frozen), cut.stored(whole, jnp.bfloat16))
  # At most the share of one layer, on one of four devices
  share = max(leaf.nbytes // len(leaf.parts) // 4 for leaf in unread_of(model.params))
  assert max(reads['sizes']) == share and reads['most'] <= share


def test_layers_are_cut_and_joined_without_reading(folder, reads):
  whole = pretrained.load(str(folder)).params
  with sharding.using('fsdp', smallest=0):
    trained, frozen = cut.split(pretrained.load(str(folder)).params, 1)
  assert not reads['sizes'] and len(unread_of(frozen)) > 2
  joined = cut.join(*jax.device_get((trained, frozen)))
  chex.assert_trees_all_equal(joined, whole)
  assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(joined))


def test_digests_and_comparisons_read_piece_by_piece(folder, reads, monkeypatch):
  monkeypatch.setattr(unread, 'PIECE', 1)
  whole = pretrained.load(str(folder))
  with sharding.using('fsdp', smallest=0):
    model = pretrained.load(str(folder))
  assert fingerprint.of_params(model.params) == fingerprint.of_params(whole.params)
  assert comparable.same_weights(model, whole) and comparable.same_weights(model, model)
  largest = max(leaf.nbytes // len(leaf) for leaf in unread_of(model.params))
  assert 0 < reads['most'] <= 2 * largest  # a row of each of two models
  rewrite(folder, lambda weights: weights | {'embed_out.weight': weights['embed_out.weight'] + 1})
  with sharding.using('fsdp', smallest=0):
    other = pretrained.load(str(folder))
  assert not comparable.same_weights(model, other)  # the first file is still open
  assert fingerprint.of_params(other.params) != fingerprint.of_params(model.params)
  embeddings = [one.params['embed_out']['embedding'] for one in (model, other)]
  assert np.any(embeddings[0].sample() != embeddings[1].sample())


QKV = 'gpt_neox.layers.1.attention.query_key_value.weight'
WRONG = {
  'is missing': lambda weights: {name: weights[name] for name in weights if name != QKV},
  'is unexpected': lambda weights: weights | {QKV + '2': weights[QKV]},
  'is [48, 15], must be [48, 16]': lambda weights: weights | {QKV: weights[QKV][:, :15].copy()},
  'is int8, must be float16': lambda weights: weights | {QKV: weights[QKV].astype(np.int8)},
}


@pytest.mark.parametrize('problem', WRONG)
def test_names_shapes_and_types_are_checked_at_once(folder, problem):
  rewrite(folder, WRONG[problem])
  for way in ('replicated', 'fsdp'):
    with sharding.using(way, smallest=0), pytest.raises(InputError) as caught:
      pretrained.load(str(folder))
    assert problem in str(caught.value) and QKV in str(caught.value)


def test_numbers_are_checked_when_they_are_read(folder):
  def with_nan(weights):
    weights[QKV][5, 3] = np.nan
    return weights

  rewrite(folder, with_nan)
  with sharding.using('fsdp', smallest=0):
    model = pretrained.load(str(folder))
    with pytest.raises(InputError, match=f'{QKV} is not finite'):
      parallel.replicate(model.params)


def test_a_tied_head_in_the_file_is_compared(folder, policy):
  rewrite(
    folder, lambda weights: weights | {'embed_out.weight': weights['gpt_neox.embed_in.weight']}
  )
  config = folder / 'config.json'
  config.write_text(
    config.read_text().replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
  )
  with sharding.using('fsdp', smallest=0):
    model = pretrained.load(str(folder))
    assert 'embed_out' not in model.params
    rewrite(folder, lambda weights: weights | {'embed_out.weight': weights['embed_out.weight'] + 1})
    with pytest.raises(InputError, match='embed_out.weight differs'):
      pretrained.load(str(folder))


def test_layers_of_different_types_become_float32(folder):
  rewrite(folder, lambda weights: weights | {QKV: weights[QKV].astype(np.float16)})
  whole = pretrained.load(str(folder)).params
  with sharding.using('fsdp', smallest=0):
    params = pretrained.load(str(folder)).params
  kernel = params['blocks']['attention']['query_key_value']['kernel']
  assert isinstance(kernel, unread.Unread) and kernel.dtype == np.float32
  chex.assert_trees_all_equal(jax.device_get(params), whole)


def test_weights_that_are_in_memory_are_placed_too(policy):
  """Such as those of a `.bin` file, or those that an adapter changed."""
  weights = huggingface.weights.from_params(policy.config, policy.params)
  with sharding.using('fsdp', smallest=0):
    params = huggingface.weights.to_params(policy.kind, policy.config, weights.items(), 'here')
    chex.assert_trees_all_equal(parallel.to_host(parallel.replicate(params)), policy.params)


def test_a_part_of_a_part_is_in_the_type_that_it_went_through():
  values = np.float32([[1.001, 2.002, 3.003], [4.004, 5.005, 6.006]])
  kernel = unread.parameter((values, -values), stacked=True, transposed=True, dtype=values.dtype)
  assert kernel.shape == (2, 3, 2) and kernel.nbytes == 48
  part = kernel[1:][:, 1:].astype(jnp.bfloat16).astype(np.float32)
  expected = (-values.T[None, 1:]).astype(jnp.bfloat16).astype(np.float32)
  np.testing.assert_array_equal(np.asarray(part), expected)
  assert part.shape == (1, 2, 2) and part.dtype == np.float32
  assert np.asarray(kernel[2:]).shape == (0, 3, 2)
