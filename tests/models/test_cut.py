"""A model in two parts is the whole model; what is trained is above the cut."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models import cut as cut_lib
from irl_jax.models import trunk

hidden_states = jax.jit(trunk.hidden_states, static_argnames='config')


@pytest.mark.parametrize('trained_blocks', [-1, 0, 1, 3])
def test_a_cut_model_is_the_whole_one(policy, trained_blocks):
  trained, frozen = cut_lib.split(policy.params, trained_blocks)
  chex.assert_trees_all_equal(cut_lib.join(trained, frozen), policy.params)
  rng = np.random.default_rng(0)
  ids = rng.integers(2, 32, (4, 12)).astype(np.int32)
  valid = np.arange(12) >= np.array([[0], [11], [3], [7]])  # left-padded
  below = jax.jit(cut_lib.below, static_argnames='config')(frozen, ids, valid, policy.config)
  assert (below is None) == (trained_blocks == -1)
  above = jax.jit(cut_lib.above, static_argnames='config')
  hidden = above(trained, frozen, below, ids, valid, policy.config)
  np.testing.assert_allclose(
    hidden, hidden_states(policy.params, ids, valid, policy.config), atol=1e-5
  )


def test_frozen_matrices_are_stored_in_the_type_of_the_computation(policy):
  half = jax.tree.map(lambda leaf: leaf.astype(np.float16), policy.params)
  shared = {'one': half, 'other': half | {'score': {'kernel': np.ones((4, 1), np.float16)}}}
  stored = cut_lib.stored(shared, jnp.bfloat16)
  types = jax.tree.map(lambda leaf: leaf.dtype.name, stored)
  assert types['one']['embed_in']['embedding'] == 'bfloat16'
  assert {*jax.tree.leaves(types['one']['final_layer_norm'])} == {'float32'}
  assert types['other']['score']['kernel'] == 'float32'
  for one, other in zip(jax.tree.leaves(stored['one']), jax.tree.leaves(stored['other'])):
    assert one is other
  # Nothing is copied that has its type already, and on a CPU nothing is rounded.
  again = cut_lib.stored(stored, jnp.bfloat16)
  assert all(x is y for x, y in zip(jax.tree.leaves(again), jax.tree.leaves(stored)))
  chex.assert_trees_all_equal(cut_lib.stored(policy.params, jnp.float32), policy.params)


def test_what_stands_above_a_cut_is_trained(policy):
  trained, frozen = cut_lib.split(policy.params | {'value_head': {}}, 1)
  assert set(trained) == {'blocks', 'final_layer_norm', 'embed_out', 'value_head'}
  assert set(frozen) == {'embed_in', 'lower_blocks'}
  assert {leaf.shape[0] for leaf in jax.tree.leaves(trained['blocks'])} == {1}
  trained, frozen = cut_lib.split(policy.params, 0)
  assert set(trained) == {'embed_out'} and set(frozen) == {
    'embed_in',
    'lower_blocks',
    'final_layer_norm',
  }
  with pytest.raises(ValueError, match='trained_blocks = 4, but the model has 3 blocks'):
    cut_lib.split(policy.params, 4)
