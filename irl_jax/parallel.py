"""The only place that knows how many devices there are.

An update is `update(state, frozen, batch, *, <statics>, axis_name) -> (state, metrics)`. State and frozen parameters
are replicated and have no device axis, so checkpoints do not depend on the device count; batches are split.
"""

import functools
from typing import Any, Callable

import jax
import jax.numpy as jnp
import numpy as np

AXIS = 'data'


def device_count() -> int:
  """How many devices share a batch."""
  return jax.local_device_count()


def batch_size(wanted: int, count: int) -> int:
  """The largest batch of at most `wanted` of `count` examples that the devices divide; at least one a device."""
  devices = device_count()
  return max(min(wanted, count) // devices, 1) * devices


def _sharding(*axes) -> jax.sharding.NamedSharding:
  mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def replicate(tree: Any) -> Any:
  """Places every leaf on all devices, once, so that calls transfer nothing.

  The leaves are copied: a donated state must not share a buffer with what it was made from.
  """
  sharding = _sharding()
  return jax.tree.map(lambda x: jax.device_put(np.array(x) if not jax.dtypes.issubdtype(
      getattr(x, 'dtype', None), jax.dtypes.prng_key) else x, sharding), tree)


def shard(batch: Any) -> Any:
  """Splits [N, ...] leaves over the devices -> [n, N / n, ...].

  Raises:
    ValueError: the devices do not divide N.
  """
  count = device_count()
  split = lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:])
  return jax.device_put(jax.tree.map(split, batch), _sharding(AXIS))


def gather(tree: Any) -> Any:
  """Brings sharded leaves [n, N / n, ...] back to the host as NumPy arrays [N, ...]."""
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.device_get(tree))


@functools.lru_cache(maxsize=128)
def map_update(update: Callable, **statics) -> Callable:
  """Maps an update function over the devices; its state is donated. The same arguments share what was compiled."""
  bound = functools.partial(update, axis_name=AXIS, **statics)
  return jax.pmap(bound, axis_name=AXIS, in_axes=(None, None, 0), out_axes=(None, None), donate_argnums=(0,))


@functools.lru_cache(maxsize=128)
def map_forward(forward: Callable, **statics) -> Callable:
  """Maps `forward(params, batch) -> per-example results` over the devices, as `map_update` does."""
  return jax.pmap(functools.partial(forward, **statics), axis_name=AXIS, in_axes=(None, 0), out_axes=0)


def global_sum(tree: Any, axis_name: str | None) -> Any:
  """Sum over the devices; the identity where there is no device axis."""
  return jax.lax.psum(tree, axis_name) if axis_name else tree


def global_mean(values: jax.Array, mask: jax.Array, axis_name: str | None) -> jax.Array:
  """Mean of values where mask, over all devices: sums and counts are added up before the division."""
  mask = mask.astype(jnp.float32)
  total, count = global_sum((jnp.sum(values * mask), jnp.sum(mask)), axis_name)
  return total / jnp.maximum(count, 1)


def average_gradients(gradients: Any, axis_name: str | None) -> Any:
  """Gradients of a loss whose sums were taken over all devices (`global_mean`)."""
  return jax.lax.pmean(gradients, axis_name) if axis_name else gradients
