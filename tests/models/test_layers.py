"""Layers that the architectures share: attention and layers, looped and unrolled, against NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models import cpu
from irl_jax.models import layers


def test_attention_is_that_of_a_loop_over_queries_and_keys():
  rng = np.random.default_rng(0)
  query, key, value = rng.normal(size=(3, 2, 3, 5, 4)).astype(np.float32)
  mask = rng.random((2, 1, 5, 5)) < 0.6
  mask[:, :, :, 0] = True
  expected = np.zeros(query.shape)
  for row, head, s in np.ndindex(2, 3, 5):
    seen = [k for k in range(5) if mask[row, 0, s, k]]
    scores = [query[row, head, s] @ key[row, head, k] / 2 for k in seen]  # sqrt(4) = 2
    weights = np.exp(scores) / np.sum(np.exp(scores))
    expected[row, head, s] = sum(w * value[row, head, k] for w, k in zip(weights, seen))
  np.testing.assert_allclose(layers.attend(query, key, value, mask), expected, atol=1e-5)


def test_a_query_that_sees_nothing_stays_finite():
  x = jnp.ones((1, 1, 2, 4))
  assert np.isfinite(layers.attend(x, x, x, jnp.zeros((1, 1, 2, 2), bool))).all()


def test_heads_are_split_and_merged():
  x = np.arange(24).reshape(1, 2, 12)
  heads = layers.split_heads(x, 3)
  np.testing.assert_array_equal(heads[0, 1, 0], x[0, 0, 4:8])
  np.testing.assert_array_equal(layers.merge_heads(heads), x)


def test_stacked_layers_are_split_into_one_tree_each():
  blocks = {'a': np.arange(6).reshape(3, 2), 'b': {'c': np.arange(3)}}
  assert layers.depth(blocks) == 3
  chex.assert_trees_all_equal(layers.unstacked(blocks)[1], {'a': np.array([2, 3]), 'b': {'c': 1}})


def run(hidden, params, inputs):
  hidden = jnp.tanh(hidden @ params['kernel'] + inputs)
  return hidden, hidden.sum()


def stack(depth):
  return {'kernel': np.random.default_rng(0).normal(size=(depth, 4, 4)).astype(np.float32)}


@pytest.mark.parametrize('rematerialise', [False, True])
def test_layers_one_by_one_are_layers_in_a_loop(monkeypatch, rematerialise):
  hidden = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)

  def loss(blocks):
    last, outputs = layers.scan_layers(run, hidden, blocks, rematerialise, hidden[:, :1])
    return jnp.sum(last**2) + outputs @ np.arange(3.0, dtype=np.float32)

  outcomes = []
  for shallow, loops in ((0, True), (3, rematerialise)):
    monkeypatch.setattr(cpu, 'SHALLOW', shallow)
    lowered = jax.jit(jax.value_and_grad(lambda blocks: loss(blocks))).lower(stack(3))
    assert ('while' in lowered.as_text()) == loops
    outcomes.append(lowered.compile()(stack(3)))
  chex.assert_trees_all_close(*outcomes, rtol=1e-5, atol=1e-5)


def test_normalised_states_have_mean_0_and_variance_1():
  hidden = np.random.default_rng(1).normal(3, 5, (4, 16)).astype(np.float32)
  found = np.asarray(layers.layer_normalised(hidden, 1e-5))
  np.testing.assert_allclose(found.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(found.var(-1), 1, atol=1e-4)
  assert not np.asarray(layers.layer_normalised(np.full((1, 4), 7.0, np.float32), 1e-5)).any()
