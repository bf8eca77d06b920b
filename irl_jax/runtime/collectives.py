"""Collectives for use inside an update: sums and means over the devices of `axis_name`.

Every function is the identity, or its single-device form, if `axis_name` is None.
"""

from typing import Any

import jax
import jax.numpy as jnp


def global_sum(tree: Any, axis_name: str | None) -> Any:
  """Returns the sum of every leaf over the devices."""
  return jax.lax.psum(tree, axis_name) if axis_name else tree


def global_mean(values: jax.Array, mask: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns the mean [] of `values` where `mask` is True, over all devices; 0 if it never is.

  Sums and counts are added up before the division, so counts may differ between devices.
  """
  mask = mask.astype(jnp.float32)
  total, count = global_sum((jnp.sum(values * mask), jnp.sum(mask)), axis_name)
  return total / jnp.maximum(count, 1)


def vary(tree: Any, axis_name: str | None) -> Any:
  """Marks replicated values as device-local, so that their gradient is this device's share."""
  return jax.lax.pcast(tree, axis_name, to='varying') if axis_name else tree


def in_own_slot(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns zeros [n] with x [] at this device's index; their sum over devices contains every x."""
  if not axis_name:
    return x[None]
  return jnp.where(jnp.arange(jax.lax.axis_size(axis_name)) == jax.lax.axis_index(axis_name), x, 0)
