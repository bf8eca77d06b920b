"""Sums and means over the devices."""

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax.runtime import collectives
from irl_jax.runtime import parallel


def test_a_mean_is_of_all_devices_together():
  values = np.arange(8.0, dtype=np.float32)
  mask = np.array([1, 0, 0, 0, 1, 1, 1, 1], bool)  # the second device has none
  mean = jax.pmap(
    lambda x, m: collectives.global_mean(x, m, parallel.AXIS),
    axis_name=parallel.AXIS,
    out_axes=None,
  )
  expected = values[mask].mean()
  np.testing.assert_allclose(mean(values.reshape(4, 2), mask.reshape(4, 2)), expected)
  np.testing.assert_allclose(
    collectives.global_mean(jnp.array(values), jnp.array(mask), None), expected
  )
  assert collectives.global_mean(jnp.array(values), jnp.zeros(8), None) == 0


def test_each_device_has_a_slot_of_its_own():
  slots = jax.pmap(
    lambda x: collectives.global_sum(collectives.in_own_slot(x, 'data'), 'data'),
    axis_name='data',
    out_axes=None,
  )
  np.testing.assert_array_equal(slots(np.array([3.0, 1.0, 4.0, 1.5])), [3.0, 1.0, 4.0, 1.5])
  np.testing.assert_array_equal(collectives.in_own_slot(jnp.float32(7), None), [7])
