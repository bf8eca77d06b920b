"""The only place that knows how many devices and processes there are.

An update is `update(state, frozen, batch, *, <statics>, axis_name) -> (state, metrics)`. State and frozen parameters
are replicated and have no device axis, so checkpoints do not depend on the device count; batches are split.

Over several processes, the host's code runs on each of them, in lockstep and on the same data: `shard` takes from a
batch what belongs to a process's own devices, `gather` gives the whole to every process. So the order of data and keys
does not depend on the number of processes. What is written, one process writes (`by_first`).
"""

from collections.abc import Callable
import functools
import json
from typing import Any
import zlib

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from irl_jax import errors
from irl_jax.runtime import host_memory
from irl_jax.runtime import watchdog

AXIS = 'data'
REPLICATED = jax.sharding.PartitionSpec()
SHARDED = jax.sharding.PartitionSpec(AXIS)

_claimed: list[
  tuple[Any, Any]
] = []  # greatest checksum of what was replicated, and of its negation: not looked at yet


def device_count() -> int:
  """How many devices, of all processes, share a batch."""
  return jax.device_count()


def batch_size(wanted: int, count: int) -> int:
  """The largest batch of at most `wanted` of `count` examples that the devices divide; at least one a device."""
  devices = device_count()
  return max(min(wanted, count) // devices, 1) * devices


def _mesh() -> jax.sharding.Mesh:
  return jax.sharding.Mesh(np.array(jax.devices()), (AXIS,))


def _sharding(spec: jax.sharding.PartitionSpec) -> jax.sharding.NamedSharding:
  return jax.sharding.NamedSharding(_mesh(), spec)


def _place(array: np.ndarray, sharding: jax.sharding.NamedSharding) -> jax.Array:
  """Puts each part of an array that every process holds on the device where it belongs."""
  with jax.transfer_guard_host_to_device(
    'allow'
  ):  # a transfer that is asked for, where others are forbidden
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def replicate(tree: Any) -> Any:
  """Places every leaf on all devices, once, so that calls transfer nothing.

  The leaves are copied: a donated state must not share a buffer with what it was made from. All processes must hold
  the same, which the next `gather` finds out.
  """
  tree, sharding = jax.tree.map(np.array, tree), _sharding(REPLICATED)
  if jax.default_backend() == 'cpu':
    host_memory.keep_freed(sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
  if not alone():
    checksum = _checksum(tree)
    _claimed.append((greatest(checksum), greatest(-checksum)))
  return jax.tree.map(lambda x: _place(x, sharding), tree)


def _checksum(tree: Any) -> int:
  """Of all bytes, in the range of int32."""
  checksum = 0
  for leaf in jax.tree.leaves(tree):
    checksum = zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8), checksum)
  return checksum >> 1


def _check_claims() -> None:
  """What was replicated must be the same in every process; nothing else would notice that it is not."""
  claims = [int(highest) == -int(lowest) for highest, lowest in _claimed]
  _claimed.clear()
  if not all(claims):
    raise errors.InputError(
      'the processes hold different parameters: give all the same files, packages and kind of '
      'machine'
    )


def key(seed: int) -> jax.Array:
  """A PRNG key on all devices."""
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
  """Brings sharded leaves [n, N / n, ...] back to the host, to that of every process, as NumPy arrays [N, ...].

  Raises:
    InputError: the processes did not replicate the same.
  """
  whole = jax.device_get(tree if alone() else _on_every_device()(tree))
  watchdog.feed()
  _check_claims()
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), whole)


def pick(batch: Any, rows: np.ndarray) -> Any:
  """Examples [M] of a sharded batch [n, N / n, ...], by number and in that order -> [n, M / n, ...]: from device to
  device, not by way of the host.
  """
  return _picked()(batch, _place(np.array(rows, np.int32), _sharding(REPLICATED)))


@functools.lru_cache(maxsize=1)
def _picked() -> Callable:
  def picked(batch, rows):
    of_all = lambda x: x.reshape(-1, *x.shape[2:])[rows]
    return jax.tree.map(lambda x: of_all(x).reshape(x.shape[0], -1, *x.shape[2:]), batch)

  return jax.jit(picked, out_shardings=_sharding(SHARDED))


@functools.lru_cache(maxsize=1)
def _on_every_device() -> Callable:
  """The all-gather of a tree: what the devices hold parts of, each then holds whole."""
  return jax.jit(lambda tree: tree, out_shardings=_sharding(REPLICATED))


def _on_own_devices(tree: Any, spec: jax.sharding.PartitionSpec) -> Any:
  """What this process's devices hold of arrays of all devices: what `jax.pmap` takes. Nothing is copied."""
  return multihost_utils.global_array_to_host_local_array(tree, _mesh(), spec)


def _on_all_devices(tree: Any, spec: jax.sharding.PartitionSpec) -> Any:
  """Undoes `_on_own_devices`: what Orbax saves, and `gather` gathers. Nothing is copied."""
  return multihost_utils.host_local_array_to_global_array(tree, _mesh(), spec)


@functools.lru_cache(maxsize=128)
def map_update(update: Callable, **statics) -> Callable:
  """Maps an update function over the devices; its state is donated. The same arguments share what was compiled."""
  bound = functools.partial(update, axis_name=AXIS, **statics)
  mapped = jax.pmap(
    bound, axis_name=AXIS, in_axes=(None, None, 0), out_axes=(None, None), donate_argnums=(0,)
  )
  if jax.process_count() == 1:
    return mapped

  def call(state: Any, frozen: Any, batch: Any) -> tuple[Any, Any]:
    state, frozen = _on_own_devices((state, frozen), REPLICATED)
    return _on_all_devices(mapped(state, frozen, _on_own_devices(batch, SHARDED)), REPLICATED)

  return call


@functools.lru_cache(maxsize=128)
def map_forward(forward: Callable, **statics) -> Callable:
  """Maps `forward(params, batch) -> per-example results` over the devices, as `map_update` does."""
  mapped = jax.pmap(
    functools.partial(forward, **statics), axis_name=AXIS, in_axes=(None, 0), out_axes=0
  )
  if jax.process_count() == 1:
    return mapped
  return lambda params, batch: _on_all_devices(
    mapped(_on_own_devices(params, REPLICATED), _on_own_devices(batch, SHARDED)), SHARDED
  )


def alone() -> bool:
  """Whether this is the only process."""
  return jax.process_count() == 1


def is_first() -> bool:
  """Whether this is the process that writes files and shows what happens."""
  return jax.process_index() == 0


def greatest(value: int) -> jax.Array | int:
  """The greatest of all processes' values; it need not have come yet, and `int` of it waits."""
  watchdog.feed()
  if alone():
    return value
  own = jax.make_array_from_callback(
    (device_count(),), _sharding(SHARDED), lambda _: np.array([value], np.int32)
  )
  return _maximum()(own)


@functools.lru_cache(maxsize=1)
def _maximum() -> Callable:
  return jax.jit(jnp.max, out_shardings=_sharding(REPLICATED))


def share(value: Any) -> Any:
  """The first process's value, of JSON's types, on every process."""
  if alone():
    return value
  text = json.dumps(value).encode() if is_first() else b''
  length = int(greatest(len(text)))
  padded = np.zeros(1 << length.bit_length(), np.uint8)  # few sizes: each is compiled
  padded[: len(text)] = np.frombuffer(text, np.uint8)
  return json.loads(bytes(multihost_utils.broadcast_one_to_all(padded)[:length]))


def by_all(check: Callable[..., None]) -> Callable[..., None]:
  """Has every process check something; where one raises, the others do so too, instead of waiting for it for ever."""

  @functools.wraps(check)
  def together(*args, **kwargs) -> None:
    error = None
    try:
      check(*args, **kwargs)
    except Exception as raised:  # pylint: disable=broad-except
      error = raised
    exit_code = int(greatest(getattr(error, 'exit_code', 1) if error else 0))
    if error:
      raise error
    if exit_code:
      raise errors.OtherProcessError('another process: its message says why', exit_code)

  return together


def by_first(work: Callable) -> Callable:
  """Has the first process alone do what is to be done once, such as writing a file; the others wait until it is done.

  What it returns, of JSON's types, is returned on every process. Where it fails, all raise: the first its error, the
  others an `OtherProcessError` of the same exit code.
  """

  @functools.wraps(work)
  def once(*args, **kwargs) -> Any:
    result = error = None
    try:
      result = work(*args, **kwargs) if is_first() else None
    except Exception as raised:  # pylint: disable=broad-except
      error = raised
    result, failure = share([result, error and [str(error), getattr(error, 'exit_code', 1)]])
    if error:
      raise error
    if failure:
      raise errors.OtherProcessError(f'the first process: {failure[0]}', failure[1])
    return result

  return once


def global_sum(tree: Any, axis_name: str | None) -> Any:
  """Sum over the devices; the identity where there is no device axis."""
  return jax.lax.psum(tree, axis_name) if axis_name else tree


def vary(tree: Any, axis_name: str | None) -> Any:
  """Marks what is the same on every device as each device's own: its gradient is then that device's share alone."""
  return jax.lax.pcast(tree, axis_name, to='varying') if axis_name else tree


def in_own_slot(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Zeros [n] with x [] in this device's place: the sum over the devices then holds the x of each."""
  if not axis_name:
    return x[None]
  return jnp.where(jnp.arange(jax.lax.axis_size(axis_name)) == jax.lax.axis_index(axis_name), x, 0)


def global_mean(values: jax.Array, mask: jax.Array, axis_name: str | None) -> jax.Array:
  """Mean of values where mask, over all devices: sums and counts are added up before the division."""
  mask = mask.astype(jnp.float32)
  total, count = global_sum((jnp.sum(values * mask), jnp.sum(mask)), axis_name)
  return total / jnp.maximum(count, 1)
