"""A reader of PyTorch's `.bin` files without PyTorch, which runs no code from them.

The pickle inside may name tensors and nothing else: an allow-list. Both formats of `torch.save` are
read, the zip archive (PyTorch 1.6 and later) and the legacy stream.
"""

import collections
from collections.abc import Iterator
import io
import math
import pathlib
import pickle
import pickletools
import struct
from typing import Any
from typing import BinaryIO
from typing import NamedTuple
import zipfile

import ml_dtypes
import numpy as np

from irl_jax.errors import InputError

# The allow-list of storages; every other name is refused. The stand-ins are strings and bound
# methods, so that a hostile pickle cannot alter them for the files that are read after it.
_STORAGES = {
  'FloatStorage': 'float32',
  'DoubleStorage': 'float64',
  'HalfStorage': 'float16',
  'BFloat16Storage': 'bfloat16',
  'LongStorage': 'int64',
  'IntStorage': 'int32',
  'ShortStorage': 'int16',
  'CharStorage': 'int8',
  'ByteStorage': 'uint8',
  'BoolStorage': 'bool',
}
_DTYPES = {name: np.dtype(name) for name in _STORAGES.values() if name != 'bfloat16'}
_DTYPES['bfloat16'] = np.dtype(ml_dtypes.bfloat16)
_MOST_MEMOS = 10**7  # a tensor usually needs about ten
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Storage(NamedTuple):
  """A storage in the file; its size is in elements."""

  key: str
  dtype: np.dtype
  size: int


class Tensor(NamedTuple):
  """A view of a storage; offset and strides are in elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class Refused(pickle.UnpicklingError):
  """Signals a pickle that refers to something that weight files never need."""


class _TensorUnpickler(pickle.Unpickler):
  """Builds dictionaries of Tensor descriptions."""

  def find_class(self, module: str, name: str) -> Any:
    """Returns the stand-in of an allowed name, and refuses all others."""
    if module == 'torch' and name in _STORAGES:
      return _STORAGES[name]
    allowed = {
      ('collections', 'OrderedDict'): collections.OrderedDict,
      ('torch._utils', '_rebuild_tensor_v2'): self._rebuild_tensor,
      ('torch._utils', '_rebuild_parameter'): self._rebuild_parameter,
    }
    if (module, name) not in allowed:
      raise Refused(f'its pickle refers to {module}.{name}, which weight files never need')
    return allowed[module, name]

  def persistent_load(self, pid: Any) -> Storage:
    """Returns the description of a storage."""
    kind, dtype, key, _, size, *view = pid
    if kind != 'storage' or any(part is not None for part in view):
      raise Refused('it refers to something that is not a storage of its own')
    return Storage(str(key), _DTYPES[dtype], int(size))

  def _rebuild_tensor(
    self, storage: Any, offset: Any, shape: Any, strides: Any, *_: object
  ) -> Tensor:
    return Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))

  def _rebuild_parameter(self, tensor: Any, *_: object) -> Any:
    return tensor


def _load(file: BinaryIO) -> Any:
  """Reads the next pickle of a file.

  Raises:
    Refused: it asks for more than tensors, or its memo numbers are so high that the table alone
      would fill the memory.
  """
  start = file.tell()
  for opcode, argument, _ in pickletools.genops(file):
    memo = argument if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT') else None
    if memo is not None and memo > _MOST_MEMOS:
      raise Refused(f'it numbers an object {memo}, which weight files never need')
  file.seek(start)
  return _TensorUnpickler(file).load()


def _to_array(tensor: Tensor, values: np.ndarray) -> np.ndarray:
  """Returns a tensor as a view of its storage's values [size].

  Raises:
    ValueError: it reaches outside the values, or has more elements than there are values.
  """
  _, offset, shape, strides = tensor
  count = math.prod(shape)
  last = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
  reach = offset + last + 1 if count else 0
  if min((offset, *shape, *strides)) < 0 or max(reach, count) > len(values):
    raise ValueError('a tensor reaches outside its storage')
  byte_strides = [stride * values.itemsize for stride in strides]
  return np.lib.stride_tricks.as_strided(values[offset:], shape, byte_strides, writeable=False)


def _named_tensors(state: Any) -> dict[str, Tensor]:
  """Checks that an unpickled object is a table of tensors."""
  if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
    raise ValueError('it contains no table of named tensors')
  wrong = [
    name
    for name, value in state.items()
    if not isinstance(value, Tensor) or not isinstance(value[0], Storage)
  ]
  if wrong:
    more = f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''
    raise ValueError('not tensors: ' + ', '.join(wrong[:5]) + more)
  return state


def _read_zip(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
  with zipfile.ZipFile(path) as archive:
    if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
      raise ValueError('its members are compressed, which torch.save never does')
    pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
    if len(pickles) != 1:
      raise ValueError('it is a zip archive, but torch.save did not write it')
    base = pickles[0].removesuffix('data.pkl')
    if base + 'byteorder' in archive.namelist() and archive.read(base + 'byteorder') != b'little':
      raise ValueError('it was written on a big-endian machine')
    tensors = _named_tensors(_load(io.BytesIO(archive.read(pickles[0]))))
    for name, tensor in tensors.items():
      storage = tensor.storage
      values = np.frombuffer(archive.read(f'{base}data/{storage.key}'), storage.dtype)
      yield name, _to_array(tensor, values)


def _read_legacy(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
  with open(path, 'rb') as file:
    if file.read(2) == b'PK':
      raise ValueError('it is a truncated zip archive')
    file.seek(0)
    if _load(file) != _LEGACY_MAGIC or _load(file) != _LEGACY_PROTOCOL:
      raise ValueError('torch.save did not write it')
    if not _load(file).get('little_endian'):
      raise ValueError('it was written on a big-endian machine')
    tensors = _named_tensors(_load(file))
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values: dict[str, np.ndarray] = {}
    for key in _load(file):
      (size,) = struct.unpack('<q', file.read(8))
      if key not in storages or size != storages[key].size:
        raise ValueError(f'storage {key} is not the one that its tensors describe')
      values[key] = np.frombuffer(
        file.read(size * storages[key].dtype.itemsize), storages[key].dtype
      )
      if len(values[key]) != size:
        raise ValueError('it ends early')
    for name, tensor in tensors.items():
      yield name, _to_array(tensor, values[tensor.storage.key])


def read(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
  """Yields every tensor of a `.bin` file as (name, array), in the file's order and dtype.

  The arrays are read-only.

  Raises:
    InputError: the file is damaged, was not written by torch.save, or its pickle asks for more than
      tensors. Nothing that it asks for is imported or run.
  """
  try:
    yield from (_read_zip if zipfile.is_zipfile(path) else _read_legacy)(path)
  except Refused as error:
    raise InputError(
      f'{path}: refused (nothing was executed): {error}. Convert it to safetensors on a '
      'machine where you trust it'
    ) from error
  except Exception as error:  # a damaged pickle can fail in any way
    raise InputError(
      f'{path}: truncated, damaged or not PyTorch weights: {str(error) or type(error).__name__}. '
      'Download it again'
    ) from error
