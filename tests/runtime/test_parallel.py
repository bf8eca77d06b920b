"""Batches and parameters on the devices, and functions mapped over them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.runtime import parallel


def test_there_are_four_devices():
  assert parallel.device_count() == 4


@pytest.mark.parametrize(
  'wanted, count, expected', [(64, 1000, 64), (64, 30, 28), (66, 100, 64), (8, 3, 4), (2, 9, 4)]
)
def test_a_batch_is_divided_by_the_devices_and_never_empty(wanted, count, expected):
  assert parallel.batch_size(wanted, count) == expected


def test_what_is_split_comes_back():
  tree = {'x': np.arange(24.0).reshape(8, 3), 'y': np.arange(8)}
  placed = parallel.shard(tree)
  assert placed['x'].shape == (4, 2, 3) and len(placed['x'].devices()) == 4
  chex.assert_trees_all_equal(parallel.gather(placed), tree)
  with pytest.raises((TypeError, ValueError)):
    parallel.shard(np.zeros(6))


def test_examples_are_taken_on_the_devices():
  x, rows = np.arange(24.0).reshape(8, 3), np.array([6, 0, 3, 3])
  taken = parallel.take(parallel.shard({'x': x, 'y': np.arange(8), 'none': None}), rows)
  assert taken['x'].shape == (4, 1, 3) and len(taken['x'].devices()) == 4
  chex.assert_trees_all_equal(parallel.gather(taken), {'x': x[rows], 'y': rows, 'none': None})


def test_a_key_is_on_every_device():
  key = parallel.key(7)
  assert len(key.devices()) == 4
  np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.key(7)))


def test_what_is_replicated_is_a_copy_on_every_device():
  first = jnp.arange(3.0)
  placed = parallel.replicate({'x': first})
  assert placed['x'].sharding.is_fully_replicated and len(placed['x'].devices()) == 4
  jax.jit(lambda x: x + 1, donate_argnums=0)(placed['x'])
  np.testing.assert_array_equal(first, [0, 1, 2])


def test_only_what_an_update_may_donate_is_copied_on_the_host(monkeypatch):
  given, place, x = [], parallel._place, np.arange(3.0)
  monkeypatch.setattr(
    parallel, '_place', lambda array, where: given.append(array) or place(x, where)
  )
  parallel.replicate(x)
  parallel.replicate(x, donated=False)
  parallel.replicated(x)
  assert [np.shares_memory(x, array) for array in given] == [False, True, True]


def test_one_array_of_several_trees_is_placed_once():
  shared, own = np.arange(3.0), np.arange(3.0)
  placed = parallel.replicated({'a': {'x': shared}, 'b': {'x': shared, 'y': own}})
  assert placed['a']['x'] is placed['b']['x'] and placed['b']['y'] is not placed['b']['x']
  np.testing.assert_array_equal(placed['b']['y'], own)
  assert parallel.replicated(placed['b']) is placed['b']


def test_the_same_arguments_share_what_was_compiled():
  forward = lambda params, batch, scale: params * batch * scale
  assert parallel.map_forward(forward, scale=2) is parallel.map_forward(forward, scale=2)
  assert parallel.map_forward(forward, scale=2) is not parallel.map_forward(forward, scale=3)
  found = parallel.map_forward(forward, scale=3)(np.float32(2), parallel.shard(np.arange(4.0)))
  np.testing.assert_array_equal(parallel.gather(found), [0, 6, 12, 18])
