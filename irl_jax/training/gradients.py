"""The gradient of a loss that is a mean over the examples, or tokens, of all devices.

Each device sums its losses, counts and gradients over its batch, or over one micro-batch after
another. A single all-reduce adds the sums across devices, which are then divided by the total
count. The result is therefore the mean over the whole batch even if the token counts of
micro-batches and devices differ. With fsdp the sums are over the rows of all devices, and each
device gets its share of the gradients (runtime/sharding.py).

Dims: B examples of a device.
"""

import functools
from typing import Any
from typing import Protocol

from flax import struct
import jax
import jax.numpy as jnp

from irl_jax.runtime import collectives
from irl_jax.runtime import sharding
from irl_jax.training import micro_batch as micro_batch_lib


@struct.dataclass
class Totals:
  """Sums of a loss and its metrics over some examples."""

  count: jax.Array  # []: examples or tokens, which the loss and the sums are divided by
  sums: dict[str, jax.Array]  # {name: []}
  largest: dict[str, jax.Array] = struct.field(default_factory=dict)  # {name: []}: maxima


class Loss(Protocol):
  """A loss summed over the examples of one device, before the division by their count."""

  def __call__(self, trained: Any, frozen: Any, batch: Any, /) -> tuple[jax.Array, Totals]:
    """Returns the sum [] that is differentiated with respect to `trained`, and its totals."""


def of_mean(
  loss: Loss,
  trained: Any,
  frozen: Any,
  batch: Any,
  axis_name: str | None,
  micro_batch: int = 0,
  group_size: int = 1,
) -> tuple[Any, dict[str, jax.Array]]:
  """Returns the gradient of the mean loss, and the mean of every metric.

  Both are the same on every device.

  Args:
    loss: a loss summed over the examples of a batch.
    trained: parameters that the loss is differentiated with respect to, the same on every device.
    frozen: other parameters of the loss.
    batch: one device's examples, leaves [B, ...]; with fsdp those of all devices.
    axis_name: the mapped axis of the devices; None if there is only one, or with fsdp.
    micro_batch: the maximum number of examples of a device that go forward and backward at once; 0
      means all.
    group_size: consecutive examples that must stay in one micro-batch.
  """
  local = collectives.vary(trained, axis_name)

  def gradient_of(part: Any) -> tuple[Any, Totals]:
    gradients, totals = jax.grad(loss, has_aux=True)(local, frozen, part)
    return sharding.as_placed(gradients), totals

  examples = jax.tree.leaves(batch)[0].shape[0] // sharding.shares()  # of one device
  parts = micro_batch_lib.count(examples, micro_batch, group_size)
  if parts == 1:
    gradients, totals = gradient_of(batch)
  else:

    def add(gradients: Any, part: Any) -> tuple[Any, Totals]:
      more, totals = gradient_of(part)
      return jax.tree.map(jnp.add, gradients, more), totals

    start = sharding.as_placed(jax.tree.map(jnp.zeros_like, local))
    gradients, totals = jax.lax.scan(add, start, sharding.micro_batches(batch, parts))
    totals = jax.tree.map(functools.partial(jnp.sum, axis=0), totals).replace(
      largest=jax.tree.map(functools.partial(jnp.max, axis=0), totals.largest)
    )
  return _over_devices(gradients, totals, axis_name)


def _over_devices(
  gradients: Any, totals: Totals, axis_name: str | None
) -> tuple[Any, dict[str, jax.Array]]:
  """Returns means and maxima over all devices.

  One all-reduce is faster than two, so each maximum joins the all-reduce of the sums, as a vector
  with one slot per device.
  """
  slots = jax.tree.map(lambda x: collectives.in_own_slot(x, axis_name), totals.largest)
  gradients, count, sums, slots = collectives.global_sum(
    (gradients, totals.count, totals.sums, slots), axis_name
  )
  # XLA recomputes a product wherever it is read, but stores a quotient: multiplying saves memory
  # traffic.
  share = 1 / jnp.maximum(count, 1)
  mean = lambda x: x * share
  return jax.tree.map(mean, gradients), jax.tree.map(mean, sums) | jax.tree.map(jnp.max, slots)
