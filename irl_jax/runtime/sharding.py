"""The two ways to place parameters on the devices, and the shares of the second.

- `replicated`: each device holds all parameters. A function runs once per device, on its own rows
  of the batch, and collectives add up the sums (`jax.pmap`).
- `fsdp` (fully sharded data parallel; Rajbhandari et al. 2020, arXiv:1910.02054, stage 3): each
  device holds a share of every large array. The same function runs once over the rows of all
  devices (`jax.jit`, axis_name=None), and the compiler divides its work by rows. Only layers and
  heads are divided here (`jax.shard_map`), so that gradients are summed in float32, into shares.

`parallel` compiles functions for either way. A model calls the functions here where it reads a
large array. They are the identity unless the rows of several devices are being traced together:
the mesh of the trace says so, as it is a part of JAX's own cache keys.

Dims: n devices, N rows of a batch, L layers, V vocabulary, D width, C tokens of a chunk.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import contextvars
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

AXIS = 'data'  # of the mesh: both the rows of a batch and the shares of parameters
REPLICATED = jax.sharding.PartitionSpec()
SHARDED = jax.sharding.PartitionSpec(AXIS)
SMALLEST = 4 * 2**20  # bytes: smaller arrays are whole on each device, as they are cheap to hold


@dataclasses.dataclass(frozen=True)
class Way:
  """A way to place parameters."""

  name: str = 'replicated'  # runtime.sharding
  smallest: int = 0  # bytes from which fsdp splits an array

  @property
  def splits(self) -> bool:
    """True if large arrays are split over the devices."""
    return self.name == 'fsdp'


_DEFAULT = Way()
_way = contextvars.ContextVar('_way', default=_DEFAULT)


@contextlib.contextmanager
def using(name: str, smallest: int | None = None) -> Iterator[None]:
  """Places parameters and compiles functions in this way for the block.

  What was placed or compiled before keeps its own way, and works in the block too.

  Args:
    name: 'replicated' or 'fsdp' (`runtime.sharding`).
    smallest: bytes from which fsdp splits an array; None: SMALLEST.
  """
  with entered(Way(name, SMALLEST if smallest is None else smallest)):
    yield


@contextlib.contextmanager
def entered(way: Way) -> Iterator[None]:
  """Makes a way the current one for the block."""
  token = _way.set(way)
  try:
    yield
  finally:
    _way.reset(token)


def current() -> Way:
  """Returns the current way."""
  return _way.get()


@functools.lru_cache(maxsize=1)
def mesh() -> jax.sharding.Mesh:
  """Returns the devices of all processes in a row."""
  return jax.sharding.Mesh(np.array(jax.devices()), (AXIS,))


@functools.lru_cache(maxsize=16)
def named(spec: jax.sharding.PartitionSpec) -> jax.sharding.NamedSharding:
  """Returns the sharding of this spec over all devices."""
  return jax.sharding.NamedSharding(mesh(), spec)


def split_axis(shape: tuple[int, ...], itemsize: int, devices: int, smallest: int) -> int | None:
  """Returns the axis of an array that fsdp splits, or None if the array is whole on each device.

  It is the largest axis that the devices divide, but never the first. In a stack of layers the
  first axis is that of the layers: a scan over it would gather the whole stack. In an embedding it
  is the vocabulary, of which log-probs are computed slice by slice.

  Args:
    shape: the array's shape.
    itemsize: bytes of one of its numbers.
    devices: n.
    smallest: bytes from which an array is split.
  """
  divided = [axis for axis in range(1, len(shape)) if shape[axis] and shape[axis] % devices == 0]
  if devices == 1 or not divided or math.prod(shape) * itemsize < smallest:
    return None
  return max(divided, key=lambda axis: shape[axis])


def axis_of(x: Any) -> int | None:
  """Returns the axis of an array that the current way splits, or None."""
  way = current()
  if not way.splits or len(x.shape) < 2:  # a PRNG key has no itemsize of its own
    return None
  return split_axis(tuple(x.shape), x.dtype.itemsize, jax.device_count(), way.smallest)


def spec_of(x: Any) -> jax.sharding.PartitionSpec:
  """Returns the spec of an array in the current way."""
  return _spec(axis_of(x))


def _spec(axis: int | None) -> jax.sharding.PartitionSpec:
  return REPLICATED if axis is None else jax.sharding.PartitionSpec(*[None] * axis, AXIS)


def shardings_of(tree: Any) -> Any:
  """Returns the sharding of every leaf, of arrays or shapes, in the current way."""
  return jax.tree.map(lambda x: named(spec_of(x)), tree)


def shares() -> int:
  """Returns the number of devices whose rows the traced function sees: 1, or n with fsdp."""
  traced = jax.sharding.get_abstract_mesh()
  together = AXIS in traced.axis_names and traced.are_all_axes_auto
  return traced.size if together else 1


def _constrained(tree: Any, spec: jax.sharding.PartitionSpec) -> Any:
  return jax.lax.with_sharding_constraint(tree, named(spec))


def by_rows(tree: Any) -> Any:
  """Divides leaves [N, ...] by rows among the devices."""
  return tree if shares() == 1 else _constrained(tree, SHARDED)


def joined(batch: Any) -> Any:
  """Joins the rows of a batch [n, N / n, ...] -> [N, ...]; they stay on their devices."""
  return by_rows(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch))


def micro_batches(batch: Any, parts: int) -> Any:
  """Splits a batch [N, ...] into micro-batches [parts, N / parts, ...].

  Each device contributes the same number of its own consecutive rows to every micro-batch.
  """
  count = shares()
  if count == 1:
    return jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)

  def split(x: jax.Array) -> jax.Array:
    by_device = x.reshape(count, parts, -1, *x.shape[1:]).swapaxes(0, 1)
    return by_device.reshape(parts, -1, *x.shape[1:])

  rows = jax.sharding.PartitionSpec(None, AXIS)
  return _constrained(jax.tree.map(split, batch), rows)


def as_placed(tree: Any) -> Any:
  """Places gradients, or parts of them with all their axes, as their parameters are.

  Their sums over the devices then reach each device as its share alone.
  """
  if shares() == 1:
    return tree
  return jax.tree.map(lambda x: _constrained(x, spec_of(x)), tree)


def whole(x: jax.Array) -> jax.Array:
  """Gathers an array for the computation that follows, which no gradient passes through."""
  return x if shares() == 1 else _constrained(jax.lax.optimization_barrier(x), REPLICATED)


def rows_of(table: jax.Array, ids: jax.Array, parameter: jax.Array) -> jax.Array:
  """Returns the rows [..., D] of an embedding [V, D] at ids [...]; the first axis is that of rows.

  A split embedding is not gathered. Each device looks up its share of the width for all ids, and
  the devices then exchange shares of the width for rows. The gradient is summed in the type of the
  parameter.

  Args:
    table: the embedding, perhaps converted to another type.
    ids: token ids.
    parameter: the embedding as it was placed.
  """
  if shares() == 1:
    return table[ids]
  found = parameter[ids].astype(table.dtype)
  if axis_of(parameter) is not None:
    found = _constrained(found, _spec(ids.ndim))
  return by_rows(found)


def over_rows(run: Callable[..., Any], params: Any, *inputs: Any) -> Any:
  """Returns `run(params, *inputs)`; each device computes its own rows with gathered parameters.

  The gradients of the parameters are summed over the devices in the type of the parameters.

  Args:
    run: a function of parameters and leaves [N, ...] whose results are [N, ...].
    params: parameters as they were placed.
    *inputs: leaves [N, ...].
  """
  if shares() == 1:
    return run(params, *inputs)
  leaves, structure = jax.tree.flatten(params)
  axes = list(map(axis_of, leaves))

  def on_device(own: Any, *inputs: Any) -> Any:
    gathered = [_gathered(x, axis, x.dtype.name) for x, axis in zip(own, axes)]
    return run(jax.tree.unflatten(structure, gathered), *inputs)

  return _on_devices(on_device, axes, inputs, SHARDED)(leaves, *inputs)


def _on_devices(
  run: Callable[..., Any], axes: list[int | None], inputs: Any, results: Any
) -> Callable[..., Any]:
  """Maps `run(shares of parameters, *inputs [N, ...])` over the devices.

  JAX adds up the gradients of parameters that are whole on each device.
  """
  places = list(map(_spec, axes)), *[SHARDED] * len(inputs)
  return jax.shard_map(run, mesh=mesh(), in_specs=places, out_specs=results, check_vma=False)


def _gathered(x: jax.Array, axis: int | None, dtype: str) -> jax.Array:
  """Returns a device's share of an array, split on `axis`, whole and of another type."""
  return x if axis is None else _all_gathered(x, axis, x.dtype.name, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _all_gathered(x: jax.Array, axis: int, stored: str, dtype: str) -> jax.Array:
  """Returns the whole of an array of type `stored`, whose share on this device is `x`.

  It is converted before it is gathered. Its gradient is summed over the devices in `stored`: in
  bfloat16, the sum over many devices would lose what a replicated gradient keeps.
  """
  return _all_gathered_forward(x, axis, stored, dtype)[0]


def _all_gathered_forward(
  x: jax.Array, axis: int, stored: str, dtype: str
) -> tuple[jax.Array, None]:
  del stored
  # Without the barrier, XLA on CPU stores whole stacks in the layout that a gather prefers.
  x = jax.lax.optimization_barrier(x.astype(dtype))
  return jax.lax.all_gather(x, AXIS, axis=axis, tiled=True), None


def _all_gathered_backward(
  axis: int, stored: str, dtype: str, residuals: None, gradient: jax.Array
) -> tuple[jax.Array]:
  del dtype, residuals
  gradient = gradient.astype(stored)
  return (jax.lax.psum_scatter(gradient, AXIS, scatter_dimension=axis, tiled=True),)


_all_gathered.defvjp(_all_gathered_forward, _all_gathered_backward)


def scan_layers(
  run: Callable[[jax.Array, Any, Any], tuple[jax.Array, Any]],
  hidden: jax.Array,
  blocks: Any,
  rematerialise: bool,
  inputs: Any,
) -> tuple[jax.Array, Any]:
  """Runs stacked layers whose matrices are split, and gathers those of one layer at a time.

  The backward pass gathers them again: kept, they would be the whole stack. Of the rest it keeps
  the results of matmuls, and computes again what is cheap. It is always a loop, because XLA would
  merge the two gathers of unrolled layers. The arguments are those of `models.layers.scan_layers`.
  """
  leaves, structure = jax.tree.flatten(blocks)
  axes = list(map(axis_of, leaves))

  def of_layer(share: jax.Array, axis: int | None) -> jax.Array:
    # A layer reads its matrices in the type of its input, and its vectors in their own.
    dtype = hidden.dtype if share.ndim > 1 else share.dtype
    return _gathered(share, axis and axis - 1, jnp.dtype(dtype).name)

  def on_device(own: Any, hidden: jax.Array, inputs: Any) -> tuple[jax.Array, Any]:
    def gathering(hidden: jax.Array, layer: Any) -> tuple[jax.Array, Any]:
      gathered = list(map(of_layer, layer, axes))
      return run(hidden, jax.tree.unflatten(structure, gathered), inputs)

    policy = None if rematerialise else jax.checkpoint_policies.dots_saveable
    return jax.lax.scan(jax.checkpoint(gathering, prevent_cse=False, policy=policy), hidden, own)

  results = SHARDED, jax.sharding.PartitionSpec(None, AXIS)
  return _on_devices(on_device, axes, (hidden, inputs), results)(leaves, hidden, inputs)


def cast_split(tree: Any, dtype: DTypeLike) -> Any:
  """Converts the arrays that the current way splits, so that fewer bytes are gathered."""
  return jax.tree.map(lambda x: x if axis_of(x) is None else x.astype(dtype), tree)
