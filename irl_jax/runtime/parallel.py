"""Places parameters and batches on the devices, and maps updates over them.

Other modules use the number of devices only to size batches and predict memory. An update is
`update(state, frozen, batch, *, <statics>, axis_name) -> (state, metrics)`. State and frozen
parameters are replicated and have no device axis, so checkpoints do not depend on the device count.
Batches are split on their first axis.

With several processes, the host code runs on each of them, in lockstep and on the same data.
`shard` takes the part of a batch that belongs to the process's own devices, and `gather` returns
the whole batch to every process. The order of data and keys therefore does not depend on the number
of processes.

Dims: `n` devices, `N` examples of a batch, `M` examples taken from it.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from irl_jax.runtime import host_memory
from irl_jax.runtime import processes
from irl_jax.runtime import watchdog

AXIS = 'data'
REPLICATED = jax.sharding.PartitionSpec()
SHARDED = jax.sharding.PartitionSpec(AXIS)

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


def _mesh() -> jax.sharding.Mesh:
  return jax.sharding.Mesh(np.array(jax.devices()), (AXIS,))


def _sharding(spec: jax.sharding.PartitionSpec) -> jax.sharding.NamedSharding:
  return jax.sharding.NamedSharding(_mesh(), spec)


def _place(array: np.ndarray, sharding: jax.sharding.NamedSharding) -> jax.Array:
  """Puts each part of an array on its device; every process passes the whole array."""
  # Callers may forbid implicit transfers; this one is explicit.
  with jax.transfer_guard_host_to_device('allow'):
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _keep_freed(tree: Any) -> None:
  """Tells the CPU memory allocator the size of the arrays that training keeps."""
  if jax.default_backend() == 'cpu':
    host_memory.keep_freed(sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))


def replicate(tree: Any) -> Any:
  """Places every leaf on all devices, once, so that later calls transfer nothing.

  The leaves are copied: a donated state must not share a buffer with its source. All processes
  must pass the same tree, which the next `gather` verifies.
  """
  tree, sharding = jax.tree.map(np.array, tree), _sharding(REPLICATED)
  _keep_freed(tree)
  if not processes.alone():
    _replicated.add(tree)
  return jax.tree.map(lambda x: _place(x, sharding), tree)


def make_replicated(make: Callable[..., Any], *arguments: Any, **statics: Any) -> Any:
  """Returns `make(*arguments, **statics)`, computed on all devices and replicated there.

  Nothing is transferred through the host.
  """
  made = _replicated_results(make, **statics)(*arguments)
  _keep_freed(made)
  return made


@functools.lru_cache(maxsize=128)
def _replicated_results(make: Callable[..., Any], **statics: Any) -> Callable[..., Any]:
  return jax.jit(functools.partial(make, **statics), out_shardings=_sharding(REPLICATED))


def replicated(tree: Any) -> Any:
  """Returns the tree on all devices: unchanged if it is there already, else a copy (`replicate`).

  Use it for parameters that no update donates.
  """
  sharding = _sharding(REPLICATED)
  placed = all(
    isinstance(leaf, jax.Array) and leaf.sharding == sharding for leaf in jax.tree.leaves(tree)
  )
  if placed:
    return tree
  # What is one array, such as weights that two models share, is placed once.
  leaves, structure = jax.tree.flatten(tree)
  once = {id(leaf): number for number, leaf in reversed([*enumerate(leaves)])}
  distinct = replicate({number: leaves[number] for number in sorted(once.values())})
  return jax.tree.unflatten(structure, [distinct[once[id(leaf)]] for leaf in leaves])


def key(seed: int) -> jax.Array:
  """Returns a PRNG key that is replicated on all devices."""
  return jax.jit(jax.random.key, out_shardings=_sharding(REPLICATED))(seed)


def shard(batch: Any) -> Any:
  """Splits [N, ...] leaves over the devices -> [n, N / n, ...].

  Raises:
    ValueError: the devices do not divide N.
  """
  count, sharding = device_count(), _sharding(SHARDED)
  split = lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:])
  return jax.tree.map(lambda x: _place(split(np.asarray(x)), sharding), batch)


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
  return jax.jit(lambda tree: tree, out_shardings=_sharding(REPLICATED))


def take(batch: Any, rows: np.ndarray) -> Any:
  """Takes examples [M] of a sharded batch [n, N / n, ...], in that order -> [n, M / n, ...].

  The examples move from device to device, not through the host.
  """
  return _take()(batch, _place(np.array(rows, np.int32), _sharding(REPLICATED)))


@functools.lru_cache(maxsize=1)
def _take() -> Callable[[Any, jax.Array], Any]:
  def taken(batch: Any, rows: jax.Array) -> Any:
    of_all = lambda x: x.reshape(-1, *x.shape[2:])[rows]
    return jax.tree.map(lambda x: of_all(x).reshape(x.shape[0], -1, *x.shape[2:]), batch)

  return jax.jit(taken, out_shardings=_sharding(SHARDED))


def _to_local(tree: Any, spec: jax.sharding.PartitionSpec) -> Any:
  """Returns this process's part of global arrays, which `jax.pmap` takes; nothing is copied."""
  return multihost_utils.global_array_to_host_local_array(tree, _mesh(), spec)


def _to_global(tree: Any, spec: jax.sharding.PartitionSpec) -> Any:
  """Undoes `_to_local`: returns what Orbax saves and `gather` gathers."""
  return multihost_utils.host_local_array_to_global_array(tree, _mesh(), spec)


@functools.lru_cache(maxsize=128)
def map_update(
  update: Callable[..., tuple[Any, Any]], **statics: Any
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
  """Maps an update over the devices -> `call(state, frozen, batch) -> (state, metrics)`.

  The state is donated. The same arguments return the same mapped function, so it is compiled once.

  Args:
    update: see this module's docstring.
    **statics: keyword arguments to bind; they must be hashable.
  """
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


@functools.lru_cache(maxsize=128)
def map_forward(forward: Callable[..., Any], **statics: Any) -> Callable[[Any, Any], Any]:
  """Maps `forward(params, batch) -> per-example results` over the devices, as `map_update` does."""
  bound = functools.partial(forward, **statics)
  mapped = jax.pmap(bound, axis_name=AXIS, in_axes=(None, 0), out_axes=0)
  if processes.alone():
    return mapped
  return lambda params, batch: _to_global(
    mapped(_to_local(params, REPLICATED), _to_local(batch, SHARDED)), SHARDED
  )
