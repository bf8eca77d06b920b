"""The gradient of a loss that is a mean over the examples, or tokens, of all devices.

Every device adds up sums, a count, and the gradient of its sum: for its whole batch, or one micro-batch after the other
where the memory is short. One all-reduce adds up all of that over the devices; only then is divided by the count. So
the mean is that of the whole batch, however unequal the token counts of micro-batches and devices are.

Dims: B examples of a device, M micro-batches.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp

from irl_jax.runtime import collectives
from irl_jax.training import micro_batch as micro_batch_lib


@struct.dataclass
class Totals:
  """What a loss adds up over its examples."""

  loss: jax.Array  # []: what is differentiated
  count: jax.Array  # []: what loss and sums are means over
  sums: dict[str, jax.Array]  # {name: []}
  largest: dict[str, jax.Array] = struct.field(
    default_factory=dict
  )  # {name: []}: a maximum, where the others are sums


def of_mean(
  totals_of: Callable[[Any, Any], Totals],
  trained: Any,
  batch: Any,
  axis_name: str | None,
  micro_batch: int = 0,
  group_size: int = 1,
) -> tuple[Any, dict[str, jax.Array]]:
  """Gradient of the mean loss with respect to `trained`, and the mean of every sum; the same on every device.

  Args:
    totals_of: (trained, batch) -> `Totals`, of one device's examples.
    trained: parameters, the same on every device.
    batch: [B, ...] leaves.
    axis_name: of the devices.
    micro_batch: examples that go forward and backward at once, at most; 0 is all.
    group_size: consecutive examples that must stay in one micro-batch.
  """
  local = collectives.vary(trained, axis_name)
  parts = micro_batch_lib.count(jax.tree.leaves(batch)[0].shape[0], micro_batch, group_size)

  def of_part(part):
    total = lambda trained: (lambda totals: (totals.loss, totals))(totals_of(trained, part))
    return jax.grad(total, has_aux=True)(local)

  def add(gradients, part):
    more, totals = of_part(part)
    return jax.tree.map(jnp.add, gradients, more), totals

  if parts == 1:
    gradients, totals = of_part(batch)
  else:
    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    gradients, totals = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, local), split)
    totals = jax.tree.map(functools.partial(jnp.sum, axis=0), totals).replace(
      largest=jax.tree.map(functools.partial(jnp.max, axis=0), totals.largest)
    )
  return _over_devices(gradients, totals, axis_name)


def _over_devices(
  gradients, totals: Totals, axis_name: str | None
) -> tuple[Any, dict[str, jax.Array]]:
  """Means over all devices; a maximum goes into the same all-reduce as a vector with a slot for each device."""
  slots = jax.tree.map(lambda x: collectives.in_own_slot(x, axis_name), totals.largest)
  gradients, count, sums, slots = collectives.global_sum(
    (gradients, totals.count, totals.sums, slots), axis_name
  )
  share = 1 / jnp.maximum(count, 1)
  mean = lambda x: (
    x * share
  )  # XLA computes a product anew wherever it is read, and a quotient once, into memory
  return jax.tree.map(mean, gradients), jax.tree.map(mean, sums) | jax.tree.map(jnp.max, slots)
