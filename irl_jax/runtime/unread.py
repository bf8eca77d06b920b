"""Arrays that stay in their files until they are placed on devices, each part where it belongs.

With fsdp a host reads only the shares of its own devices, one array at a time. An `Unread` can be
sliced and given another type like an array of NumPy; neither reads anything. `np.asarray` reads it.
"""

from collections.abc import Iterator
import dataclasses
import functools
import math
from typing import Any
from typing import Protocol

import jax
from jax.typing import DTypeLike
import numpy as np

PIECE = 2**28  # bytes that `pieces` reads at once
SAMPLED = 64  # numbers of each part that `sample` reads


class Part(Protocol):
  """An array of NumPy, or a tensor of a file; indexing reads."""

  @property
  def shape(self) -> tuple[int, ...]:
    """Its shape."""

  def __getitem__(self, index: tuple[slice, ...], /) -> Any:
    """Returns the numbers that one slice per axis selects, as an array of NumPy."""


@dataclasses.dataclass(frozen=True, eq=False)
class Unread:
  """A parameter whose numbers are read when it is converted to an array of NumPy."""

  parts: tuple[Part, ...]  # one per layer if it is stacked, else one
  stacked: bool  # the first axis is that of the layers
  transposed: bool  # the parts are [out, in], and the parameter is [in, out]
  types: tuple[np.dtype, ...]  # that the numbers are converted to, one after the other
  window: tuple[range, ...]  # for each axis, which indices of the whole parameter this is

  @property
  def dtype(self) -> np.dtype:
    """The type of its numbers."""
    return self.types[-1]

  @property
  def shape(self) -> tuple[int, ...]:
    """Its shape."""
    return tuple(map(len, self.window))

  @property
  def nbytes(self) -> int:
    """The bytes that it takes once it is read."""
    return math.prod(self.shape) * self.dtype.itemsize

  def __len__(self) -> int:
    return len(self.window[0])

  def __getitem__(self, index: slice | tuple[slice, ...]) -> 'Unread':
    slices = index if isinstance(index, tuple) else (index,)
    some = tuple(axis[part] for axis, part in zip(self.window, slices))
    return dataclasses.replace(self, window=some + self.window[len(slices) :])

  def astype(self, dtype: DTypeLike) -> 'Unread':
    """Returns the array in another type."""
    return dataclasses.replace(self, types=(*self.types, np.dtype(dtype)))

  def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
    del copy  # what is read is always new
    wanted = self.astype(self.dtype if dtype is None else dtype)
    out = np.empty(self.shape, wanted.dtype)
    layers, inner = (self.window[0], self.window[1:]) if self.stacked else ((0,), self.window)
    index = tuple(slice(axis.start, axis.stop) for axis in inner)
    for target, layer in zip(out if self.stacked else out[None], layers, strict=True):
      target[...] = wanted._read(layer, index)
    return out

  def _read(self, layer: int, index: tuple[slice, ...]) -> np.ndarray:
    """Returns a part of one layer, converted, in the orientation of the parameter."""
    values = self.parts[layer][index[::-1] if self.transposed else index]
    values = functools.reduce(lambda x, to: x.astype(to, copy=False), self.types, values)
    return values.T if self.transposed else values

  def sample(self) -> np.ndarray:
    """Reads a few numbers of every part; those of another model would differ."""
    first = 1 if self.stacked else 0
    few = [slice(0, 1)] * (len(self.window) - first - 1) + [slice(0, SAMPLED)]
    return np.asarray(self[(slice(None),) * first + tuple(few)])


def parameter(parts: tuple[Part, ...], stacked: bool, transposed: bool, dtype: np.dtype) -> Unread:
  """Returns a whole parameter of these parts, of this type."""
  inner = parts[0].shape[::-1] if transposed else parts[0].shape
  shape = (len(parts), *inner) if stacked else inner
  return Unread(parts, stacked, transposed, (dtype,), tuple(map(range, shape)))


def as_array(array: Any, dtype: DTypeLike | None = None) -> Any:
  """Returns an array of NumPy, or an `Unread` that stays so, of the wanted type."""
  if not isinstance(array, Unread):
    return np.asarray(array, dtype)
  return array if dtype is None else array.astype(dtype)


def pieces(array: Any) -> Iterator[np.ndarray]:
  """Yields an array in order, in pieces of at most PIECE bytes if it is not in memory yet."""
  for part in _rows(array):
    yield np.asarray(array[part])


def equal(one: Any, other: Any) -> bool:
  """Returns whether two arrays have the same values, whatever types they are stored in.

  What is not in memory yet is read piece by piece.
  """
  if one.shape != other.shape:
    return False
  rows = max(_rows(one), _rows(other), key=len)
  return all(_equal_arrays(np.asarray(one[part]), np.asarray(other[part])) for part in rows)


def _equal_arrays(one: np.ndarray, other: np.ndarray) -> bool:
  if one.dtype == other.dtype:
    return np.array_equal(one, other)
  return np.array_equal(np.asarray(one, np.float32), np.asarray(other, np.float32))


def _rows(array: Any) -> list[tuple[slice, ...]]:
  """Returns the parts of an array, along its first axis, that are read at once."""
  if isinstance(array, np.ndarray | jax.Array) or not len(array.shape):
    return [()]
  bytes_of_row = math.prod(array.shape[1:]) * array.dtype.itemsize
  count = max(PIECE // max(bytes_of_row, 1), 1)
  rows = array.shape[0]
  return [(slice(first, min(first + count, rows)),) for first in range(0, rows, count)]
