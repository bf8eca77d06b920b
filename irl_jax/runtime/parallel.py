"""Places parameters and batches on the devices, and maps updates over them.

Other modules use the number of devices only to size batches and predict memory. An update is
`update(state, frozen, batch, *, <statics>, axis_name) -> (state, metrics)`. State and frozen
parameters have no device axis, so checkpoints do not depend on the device count. Batches are split
on their first axis.

There are two ways to place parameters, `replicated` and `fsdp` (sharding.py), and this is the only
module that tells them apart for a caller. Arrays and functions keep the way in which they were
placed or mapped; batches and results are the same in both.

With several processes, the host code runs on each of them, in lockstep and on the same data.
`shard` takes the part of a batch that belongs to the process's own devices, and `gather` returns
the whole batch to every process. The order of data and keys therefore does not depend on the number
of processes.

Dims: `n` devices, `N` examples of a batch, `M` examples taken from it.
"""

from collections.abc import Callable
from collections.abc import Hashable
import functools
from typing import Any
from typing import cast

import jax
from jax.experimental import multihost_utils
from jax.typing import DTypeLike
import numpy as np

from irl_jax.runtime import fsdp
from irl_jax.runtime import host_memory
from irl_jax.runtime import processes
from irl_jax.runtime import sharding
from irl_jax.runtime import unread
from irl_jax.runtime import watchdog
from irl_jax.runtime.sharding import AXIS
from irl_jax.runtime.sharding import REPLICATED
from irl_jax.runtime.sharding import SHARDED

_replicated = processes.SameTrees()


def device_count() -> int:
  """Returns the number of devices, of all processes, that share a batch."""
  return jax.device_count()


def batch_size(wanted: int, count: int) -> int:
  """Returns the largest multiple of the number of devices that is at most `wanted` and `count`.

  It is at least one example per device, even if that is more than `wanted` or `count`.
  """
  devices = device_count()
  return max(min(wanted, count) // devices, 1) * devices


def _place(array: np.ndarray, placement: jax.sharding.NamedSharding) -> jax.Array:
  """Puts each part of an array on its device; every process passes the whole array."""
  # Callers may forbid implicit transfers; this one is explicit.
  with jax.transfer_guard_host_to_device('allow'):
    return jax.make_array_from_callback(array.shape, placement, lambda index: array[index])


def _keep_freed(tree: Any) -> None:
  """Tells the CPU memory allocator the size of the arrays that training keeps."""
  if jax.default_backend() == 'cpu':
    host_memory.keep_freed(sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))


def replicate(tree: Any, dtype: DTypeLike | None = None, donated: bool = True) -> Any:
  """Places parameters on the devices, once, so that later calls transfer nothing.

  Each device gets all of them, or with fsdp its share of the large ones: only these shares are
  read from files, and copied on the host. All processes must pass the same tree, which the next
  `gather` verifies.

  Args:
    tree: arrays, on the host or the devices, or still in files (unread.py).
    dtype: the type that they are converted to; None: they keep their own.
    donated: whether an update may donate them; if so, they share no buffer with their source.
  """
  way, whole = sharding.current(), np.array if donated else np.asarray
  on_host = unread.as_array if way.splits else lambda x: whole(x, dtype)
  tree = jax.tree.map(on_host, tree)
  _keep_freed(tree)
  if not processes.alone():
    _replicated.add(tree)
  if not way.splits:
    placement = sharding.named(REPLICATED)
    return jax.tree.map(lambda x: _place(x, placement), tree)
  return jax.tree.map(lambda x: _place_shares(x, x.dtype if dtype is None else dtype), tree)


def _place_shares(array: Any, dtype: DTypeLike) -> jax.Array:
  """Copies an array part by part to the devices that hold a share of it, converted to a type."""
  placed_as = jax.ShapeDtypeStruct(array.shape, dtype)
  placement = sharding.named(sharding.spec_of(placed_as))
  with jax.transfer_guard_host_to_device('allow'):
    return jax.make_array_from_callback(
      array.shape, placement, lambda index: np.array(array[index], dtype)
    )


def make_replicated(make: Callable[..., Any], *arguments: Any, **statics: Any) -> Any:
  """Returns `make(*arguments, **statics)`, computed on all devices and placed as by `replicate`.

  Nothing is transferred through the host, and no device holds more than its share of a result.
  """
  way = sharding.current()
  if way.splits:
    bound = functools.partial(make, **statics)
    placements = sharding.shardings_of(jax.eval_shape(bound, *arguments))
    made = jax.jit(bound, out_shardings=placements)(*arguments)
  else:
    made = _replicated_results(make, **statics)(*arguments)
  _keep_freed(made)
  return made


@functools.lru_cache(maxsize=128)
def _replicated_results(make: Callable[..., Any], **statics: Any) -> Callable[..., Any]:
  return jax.jit(functools.partial(make, **statics), out_shardings=sharding.named(REPLICATED))


def replicated(tree: Any) -> Any:
  """Returns the tree on the devices: unchanged if it is there already, else a copy (`replicate`).

  Use it for parameters that no update donates.
  """
  leaves, structure = jax.tree.flatten(tree)
  if all(_is_placed(leaf) for leaf in leaves):
    return tree
  # What is one array, such as weights that two models share, is placed once.
  once = {id(leaf): number for number, leaf in reversed([*enumerate(leaves)])}
  distinct = replicate({number: leaves[number] for number in sorted(once.values())}, donated=False)
  return jax.tree.unflatten(structure, [distinct[once[id(leaf)]] for leaf in leaves])


def _is_placed(leaf: Any) -> bool:
  if not isinstance(leaf, jax.Array):
    return False
  return leaf.sharding == sharding.named(sharding.spec_of(leaf))


def to_host(tree: Any) -> Any:
  """Brings parameters to the host of every process, as NumPy arrays.

  Shares that other processes hold are gathered one array, or one layer of a stack, at a time.
  """
  on_host = lambda x: (
    not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
  )
  if all(map(on_host, jax.tree.leaves(tree))):
    return jax.device_get(tree)
  return jax.tree.map(lambda x: jax.device_get(x) if on_host(x) else _collected(x), tree)


def _collected(x: jax.Array) -> np.ndarray:
  """Gathers an array of which other processes hold a part: a stack layer by layer."""
  if x.ndim < 3:
    return jax.device_get(_all_gather()(x))
  return np.stack([jax.device_get(_layer()(x, number)) for number in range(x.shape[0])])


@functools.lru_cache(maxsize=1)
def _layer() -> Callable[[jax.Array, int], jax.Array]:
  return jax.jit(lambda x, number: x[number], out_shardings=sharding.named(REPLICATED))


def key(seed: int) -> jax.Array:
  """Returns a PRNG key that is replicated on all devices."""
  return jax.jit(jax.random.key, out_shardings=sharding.named(REPLICATED))(seed)


def shard(batch: Any) -> Any:
  """Splits [N, ...] leaves over the devices -> [n, N / n, ...].

  Raises:
    ValueError: the devices do not divide N.
  """
  count, placement = device_count(), sharding.named(SHARDED)
  split = lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:])
  return jax.tree.map(lambda x: _place(split(np.asarray(x)), placement), batch)


def gather(tree: Any) -> Any:
  """Brings sharded leaves [n, N / n, ...] to the host of every process, as NumPy arrays [N, ...].

  Raises:
    InputError: the processes did not replicate the same trees.
  """
  whole = jax.device_get(tree if processes.alone() else _all_gather()(tree))
  watchdog.feed()
  _replicated.verify()
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), whole)


@functools.lru_cache(maxsize=1)
def _all_gather() -> Callable[[Any], Any]:
  return jax.jit(lambda tree: tree, out_shardings=sharding.named(REPLICATED))


def take(batch: Any, rows: np.ndarray) -> Any:
  """Takes examples [M] of a sharded batch [n, N / n, ...], in that order -> [n, M / n, ...].

  The examples move from device to device, not through the host.
  """
  return _take()(batch, _place(np.array(rows, np.int32), sharding.named(REPLICATED)))


@functools.lru_cache(maxsize=1)
def _take() -> Callable[[Any, jax.Array], Any]:
  def taken(batch: Any, rows: jax.Array) -> Any:
    of_all = lambda x: x.reshape(-1, *x.shape[2:])[rows]
    return jax.tree.map(lambda x: of_all(x).reshape(x.shape[0], -1, *x.shape[2:]), batch)

  return jax.jit(taken, out_shardings=sharding.named(SHARDED))


def _to_local(tree: Any, spec: jax.sharding.PartitionSpec) -> Any:
  """Returns this process's part of global arrays, which `jax.pmap` takes; nothing is copied."""
  return multihost_utils.global_array_to_host_local_array(tree, sharding.mesh(), spec)


def _to_global(tree: Any, spec: jax.sharding.PartitionSpec) -> Any:
  """Undoes `_to_local`: returns what Orbax saves and `gather` gathers."""
  return multihost_utils.host_local_array_to_global_array(tree, sharding.mesh(), spec)


def axis_name() -> str | None:
  """Returns the `axis_name` of a function that `map_forward` maps: None if it sees all rows."""
  return None if sharding.current().splits else AXIS


def map_update(
  update: Callable[..., tuple[Any, Any]], **statics: Any
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
  """Maps an update over the devices -> `call(state, frozen, batch) -> (state, metrics)`.

  The state is donated. The same arguments return the same mapped function, so it is compiled once.

  Args:
    update: see this module's docstring.
    **statics: keyword arguments to bind; they must be hashable.
  """
  return _map_update(sharding.current(), update, **statics)


@functools.lru_cache(maxsize=128)
def _map_update(
  way: sharding.Way, update: Callable[..., tuple[Any, Any]], **statics: Any
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
  if way.splits:
    return fsdp.Update(way, functools.partial(update, axis_name=None, **statics))
  bound = functools.partial(update, axis_name=AXIS, **statics)
  mapped = jax.pmap(
    bound, axis_name=AXIS, in_axes=(None, None, 0), out_axes=(None, None), donate_argnums=(0,)
  )
  if processes.alone():
    return mapped

  def call(state: Any, frozen: Any, batch: Any) -> tuple[Any, Any]:
    state, frozen = _to_local((state, frozen), REPLICATED)
    return _to_global(mapped(state, frozen, _to_local(batch, SHARDED)), REPLICATED)

  return call


def map_forward(forward: Callable[..., Any], **statics: Any) -> Callable[[Any, Any], Any]:
  """Maps `forward(params, batch) -> per-example results` over the devices, as `map_update` does."""
  return _map_forward(sharding.current(), forward, **statics)


@functools.lru_cache(maxsize=128)
def _map_forward(
  way: sharding.Way, forward: Callable[..., Any], **statics: Any
) -> Callable[[Any, Any], Any]:
  bound = functools.partial(forward, **statics)
  if way.splits:
    return fsdp.Forward(way, bound)
  mapped = jax.pmap(bound, axis_name=AXIS, in_axes=(None, 0), out_axes=0)
  if processes.alone():
    return mapped
  return lambda params, batch: _to_global(
    mapped(_to_local(params, REPLICATED), _to_local(batch, SHARDED)), SHARDED
  )


def map_decode(
  forward: Callable[..., Any], *, dtype: DTypeLike, **statics: Any
) -> Callable[[Any, Any], Any]:
  """As `map_forward`, for a function that reads all parameters once per token.

  With fsdp, the parameters are gathered once per call, and each device decodes its own rows.

  Args:
    forward: (params, batch, *, dtype, <statics>) -> per-example results. It reads all matrices in
      `dtype`.
    dtype: the compute type.
    **statics: other keyword arguments to bind.
  """
  way = sharding.current()
  if not way.splits:
    return map_forward(forward, dtype=dtype, **statics)
  return _map_decode(way, forward, dtype=cast(Hashable, dtype), **statics)


@functools.lru_cache(maxsize=128)
def _map_decode(
  way: sharding.Way, forward: Callable[..., Any], **statics: Any
) -> Callable[[Any, Any], Any]:
  return fsdp.Decode(way, forward, **statics)
