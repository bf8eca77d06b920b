"""Placing, splitting and bringing back; sums that are of all devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import errors
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


def test_examples_are_picked_on_the_devices():
  tree = {'x': np.arange(24.0).reshape(8, 3), 'y': np.arange(8), 'none': None}
  rows = np.array([6, 0, 3, 3])
  found = parallel.pick(parallel.shard(tree), rows)
  assert found['x'].shape == (4, 1, 3) and len(found['x'].devices()) == 4
  chex.assert_trees_all_equal(
    parallel.gather(found), {'x': tree['x'][rows], 'y': rows, 'none': None}
  )


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


def test_a_mean_is_of_all_devices_together():
  values = np.arange(8.0, dtype=np.float32)
  mask = np.array([1, 0, 0, 0, 1, 1, 1, 1], bool)  # the second device has none
  mean = jax.pmap(
    lambda x, m: parallel.global_mean(x, m, parallel.AXIS), axis_name=parallel.AXIS, out_axes=None
  )
  expected = values[mask].mean()
  np.testing.assert_allclose(mean(values.reshape(4, 2), mask.reshape(4, 2)), expected)
  np.testing.assert_allclose(parallel.global_mean(values, mask, None), expected)
  assert parallel.global_mean(values, np.zeros(8), None) == 0


def test_the_same_arguments_share_what_was_compiled():
  forward = lambda params, batch, scale: params * batch * scale
  assert parallel.map_forward(forward, scale=2) is parallel.map_forward(forward, scale=2)
  assert parallel.map_forward(forward, scale=2) is not parallel.map_forward(forward, scale=3)
  found = parallel.map_forward(forward, scale=3)(np.float32(2), parallel.shard(np.arange(4.0)))
  np.testing.assert_array_equal(parallel.gather(found), [0, 6, 12, 18])


def test_one_process_is_the_first_and_agrees_with_itself():
  assert parallel.is_first()
  assert parallel.greatest(15) == 15
  assert parallel.share({'step': 7, 'name': 'ä'}) == {'step': 7, 'name': 'ä'}


def test_what_the_first_process_does_is_done_once_and_its_error_is_raised():
  done = []
  parallel.by_first(done.append)(3)
  assert done == [3]
  assert parallel.by_first(lambda: [done[0], 'x'])() == [3, 'x']
  for where in (parallel.by_first, parallel.by_all):
    with pytest.raises(errors.CheckpointError, match='no space'):
      where(fail)()


def fail():
  raise errors.CheckpointError('no space')
