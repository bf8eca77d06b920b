"""Communication between the processes of one run, on the host.

Every process runs the same host code in lockstep, so each function here must be called by all of
them. With a single process nothing is exchanged.
"""

from collections.abc import Callable
import functools
import json
from typing import Any
from typing import ParamSpec
from typing import TypeVar
import zlib

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from irl_jax import errors
from irl_jax.runtime import unread
from irl_jax.runtime import watchdog

P = ParamSpec('P')
R = TypeVar('R')


def alone() -> bool:
  """Returns True if this is the only process."""
  return jax.process_count() == 1


def is_first() -> bool:
  """Returns True if this is the process that writes files and shows progress."""
  return jax.process_index() == 0


def maximum(value: int) -> jax.Array | int:
  """Returns the largest value over all processes.

  The result may still be computing; `int` of it waits.

  Args:
    value: a number in the range of int32.
  """
  watchdog.feed()
  if alone():
    return value
  sharded, reduce = _maximum()
  own = np.array([value], np.int32)
  return reduce(jax.make_array_from_callback((jax.device_count(),), sharded, lambda _: own))


@functools.lru_cache(maxsize=1)
def _maximum() -> tuple[jax.sharding.NamedSharding, Callable[[jax.Array], jax.Array]]:
  """Returns the sharding of one value per device, and the compiled maximum of such an array."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('device',))
  sharding = functools.partial(jax.sharding.NamedSharding, mesh)
  spec = jax.sharding.PartitionSpec
  return sharding(spec('device')), jax.jit(jnp.max, out_shardings=sharding(spec()))


def broadcast(value: Any) -> Any:
  """Returns the first process's value, which must consist of JSON types, on every process."""
  if alone():
    return value
  text = json.dumps(value).encode() if is_first() else b''
  length = int(maximum(len(text)))
  # Each length is compiled, so lengths are rounded up to a power of two.
  padded = np.zeros(1 << length.bit_length(), np.uint8)
  padded[: len(text)] = np.frombuffer(text, np.uint8)
  return json.loads(bytes(multihost_utils.broadcast_one_to_all(padded)[:length]))


def on_all(check: Callable[P, None]) -> Callable[P, None]:
  """Runs a check on every process; if it fails on one, it raises on all.

  Otherwise the others would wait forever for the one that failed.
  """

  @functools.wraps(check)
  def checked(*args: P.args, **kwargs: P.kwargs) -> None:
    error = None
    try:
      check(*args, **kwargs)
    except Exception as raised:  # pylint: disable=broad-except
      error = raised
    exit_code = int(maximum(getattr(error, 'exit_code', 1) if error else 0))
    if error:
      raise error
    if exit_code:
      raise errors.OtherProcessError('another process failed; see its error message', exit_code)

  return checked


def on_first(work: Callable[P, R]) -> Callable[P, R]:
  """Runs a function on the first process only, such as writing a file; the others wait.

  Every process gets its result, of JSON's types. If it fails, the first process raises its error,
  and the others raise an `OtherProcessError` with the same exit code.
  """

  @functools.wraps(work)
  def once(*args: P.args, **kwargs: P.kwargs) -> R:
    result = error = None
    try:
      result = work(*args, **kwargs) if is_first() else None
    except Exception as raised:  # pylint: disable=broad-except
      error = raised
    result, failure = broadcast([result, error and [str(error), getattr(error, 'exit_code', 1)]])
    if error:
      raise error
    if failure:
      raise errors.OtherProcessError(f'the first process failed: {failure[0]}', failure[1])
    return result

  return once


class SameTrees:
  """Checks that all processes have the same trees, without blocking when one is added.

  `add` starts the comparison of a tree's checksums; the next `verify` reads the results.
  """

  def __init__(self) -> None:
    # For each tree, the maxima of its checksum and of the negated checksum over all processes.
    self._pending: list[tuple[jax.Array | int, jax.Array | int]] = []

  def add(self, tree: Any) -> None:
    """Starts to compare a tree of NumPy arrays with those of the other processes.

    Of arrays that are still in files, a few numbers of each part are compared.
    """
    checksum = _checksum(tree)
    self._pending.append((maximum(checksum), maximum(-checksum)))

  def verify(self) -> None:
    """Waits for the comparisons.

    Raises:
      InputError: the processes have different trees.
    """
    equal = [int(highest) == -int(lowest) for highest, lowest in self._pending]
    self._pending.clear()
    if not all(equal):
      raise errors.InputError(
        'the processes have different parameters: use the same files, packages and type of machine '
        'for all of them'
      )


def _checksum(tree: Any) -> int:
  """Returns a checksum of all bytes that are compared, in the range of int32."""
  checksum = 0
  for leaf in jax.tree.leaves(tree):
    leaf = leaf.sample() if isinstance(leaf, unread.Unread) else leaf
    checksum = zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data, checksum)
  return checksum >> 1
