"""Weight files of a Hugging Face folder, read one tensor at a time to save memory.

A tensor of a safetensors file can also be left in the file, and read in parts later.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import pathlib
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from irl_jax.errors import InputError
from irl_jax.models.huggingface import torch_bin

SINGLE = ('model.safetensors', 'pytorch_model.bin')
INDEXED = ('model.safetensors.index.json', 'pytorch_model.bin.index.json')
# The types that a model's weights may have, by their names in safetensors files
UNREAD_TYPES = {
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'F32': np.dtype(np.float32),
}
ADAPTER = 'adapter_config.json'  # what makes a folder an adapter (huggingface/adapter.py)
ADAPTER_WEIGHTS = ('adapter_model.safetensors', 'adapter_model.bin')
# Files that other tools leave in place of weights, and the advice for each.
OTHER_FORMATS = {
  'model-*-of-*.safetensors': 'parts without their index: copy model.safetensors.index.json too',
  'pytorch_model-*-of-*.bin': 'parts without their index: copy pytorch_model.bin.index.json too',
  'pytorch_model_fsdp_*': 'shards of FSDP: merge them first (accelerate merge-weights)',
  '*.distcp': 'shards of FSDP: merge them first (accelerate merge-weights)',
  'zero_to_fp32.py': 'a checkpoint of DeepSpeed: convert it first (python zero_to_fp32.py . .)',
  'global_step*': 'a checkpoint of DeepSpeed: convert it first (its zero_to_fp32.py)',
  'checkpoint-*': 'a folder of checkpoints: pass one of its folders checkpoint-…',
  '*.gguf': 'a GGUF file: pass the model in safetensors',
  'tf_model.h5': 'weights of TensorFlow: save the model as safetensors (from_tf=True)',
  'flax_model.msgpack': 'weights of Flax: save the model as safetensors (from_flax=True)',
}


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object from a file.

  Raises:
    InputError: the file is missing, or contains something other than a JSON object.
  """
  check_file(path)
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except (ValueError, RecursionError) as error:
    raise InputError(f'{path}: is not JSON: {error}') from error
  if not isinstance(value, dict):
    raise InputError(f'{path}: must be a JSON object, but is a {type(value).__name__}')
  return value


def check_file(path: pathlib.Path) -> None:
  """Refuses the remains of a failed download, recognised by their first bytes.

  Raises:
    InputError: the file is missing, unreadable, empty, a Git LFS pointer or an HTML page.
  """
  try:
    with open(path, 'rb') as file:
      head = file.read(256).lstrip().lower()
  except FileNotFoundError as error:
    raise InputError(f'{path.parent}: has no {path.name}') from error
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {error.strerror}') from error
  if not head:
    raise InputError(f'{path}: is empty. Download it again')
  if head.startswith(b'version https://git-lfs'):
    raise InputError(
      f'{path}: is a Git LFS pointer, not the file itself. Run `git lfs pull` in its repository'
    )
  if head.startswith((b'<!doctype', b'<html', b'<?xml')):
    raise InputError(
      f'{path}: is an HTML page, not the file itself: a failed download. Download it again'
    )


def find_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the weight files of a folder.

  As in transformers, safetensors are preferred to `.bin`, and a single file to shards.

  Raises:
    InputError: there are none, one is missing, or the index of the shards names a file outside the
      folder.
  """
  for single, index in zip(SINGLE, INDEXED):
    if (folder / single).exists():
      return [folder / single]
    if (folder / index).exists():
      return _shards(folder / index)
  for pattern, meaning in OTHER_FORMATS.items():
    if any(folder.glob(pattern)):
      raise InputError(f'{folder}: has no weights of its own, but {meaning}')
  raise InputError(f'{folder}: has no weights; expected one of {", ".join(SINGLE + INDEXED)}')


def adapter_file(folder: pathlib.Path) -> pathlib.Path:
  """Returns the weight file of an adapter's folder; safetensors are preferred to `.bin`.

  Raises:
    InputError: there is none.
  """
  for name in ADAPTER_WEIGHTS:
    if (folder / name).exists():
      return folder / name
  raise InputError(
    f'{folder}: has {ADAPTER}, but no {" or ".join(ADAPTER_WEIGHTS)}; copy it too, or remove '
    f'{ADAPTER} if the folder has a whole model'
  )


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
  """Returns the files that an index names; they must lie in its own folder."""
  weight_map = read_json(index).get('weight_map')
  if not isinstance(weight_map, dict) or not weight_map:
    raise InputError(f'{index}: has no weight_map')
  names = sorted({str(name) for name in weight_map.values()})
  suffix = '.bin' if index.name == INDEXED[1] else '.safetensors'
  for name in names:
    if pathlib.PureWindowsPath(name).name != name or not name.endswith(suffix):
      raise InputError(f'{index}: names {name!r}: must be a {suffix} file of the same folder')
  paths = [index.parent / name for name in names]
  missing = [path.name for path in paths if not path.exists()]
  if missing:
    raise InputError(
      f'{index.parent}: has no {", ".join(missing)}, which {index.name} names; copy it too'
    )
  return paths


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
  """A tensor that stays in its safetensors file; indexing reads the part that is asked for."""

  path: pathlib.Path
  name: str
  file: Any  # open: another file that takes this one's name is not read
  shape: tuple[int, ...]
  dtype: np.dtype

  def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
    """Reads a part.

    Raises:
      InputError: the file is damaged, or a number is not finite.
    """
    with _explained(self.path):
      values = self.file.get_slice(self.name)[index]
    if not np.isfinite(values).all():
      raise InputError(f'{self.path}: {self.name} is not finite')
    return values

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    del copy
    with _explained(self.path):
      values = self.file.get_tensor(self.name)
    return values if dtype is None else values.astype(dtype, copy=False)


@contextlib.contextmanager
def _explained(path: pathlib.Path) -> Iterator[None]:
  """Turns what safetensors raises into one line."""
  try:
    yield
  except AttributeError as error:  # NumPy lacks the dtypes of eight bits and fewer
    raise InputError(
      f'{path}: contains numbers of a type that cannot be read ({error}); must be float16, '
      'bfloat16 or float32'
    ) from error
  except (safetensors.SafetensorError, OSError) as error:
    raise InputError(
      f'{path}: truncated, damaged or not safetensors: {error}. Download it again'
    ) from error


def _read_safetensors(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
  with _explained(path), safetensors.safe_open(path, framework='np') as file:
    for name in file.keys():  # noqa: SIM118  (the file is not a dict and cannot be iterated)
      yield name, file.get_tensor(name)


def _tensors(path: pathlib.Path) -> Iterator[tuple[str, Tensor | np.ndarray]]:
  """Yields the tensors of a safetensors file without reading those of the usual types."""
  check_file(path)
  with _explained(path):
    file = safetensors.safe_open(path, framework='np')
    for name in file.keys():  # noqa: SIM118
      part = file.get_slice(name)
      dtype = UNREAD_TYPES.get(part.get_dtype())
      if dtype is None:
        yield name, file.get_tensor(name)
      else:
        yield name, Tensor(path, name, file, tuple(part.get_shape()), dtype)


def read(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
  """Yields every tensor of a weight file as (name, array), in its stored dtype.

  Raises:
    InputError: the file is missing, damaged or unsafe.
  """
  check_file(path)
  yield from (torch_bin.read if path.suffix == '.bin' else _read_safetensors)(path)


def stream(folder: pathlib.Path, unread: bool = False) -> Iterator[tuple[str, np.ndarray | Tensor]]:
  """Yields every tensor of a folder as (name, array), in its stored dtype.

  Args:
    folder: the folder of a model.
    unread: leave the tensors of safetensors files there; those of other files are read anyway.

  Raises:
    InputError: there are no weights, they are damaged or unsafe, or two tensors have one name.
  """
  seen: set[str] = set()
  for path in find_files(folder):
    later = unread and path.suffix == '.safetensors'
    for name, array in (_tensors if later else read)(path):
      if name in seen:
        raise InputError(f'{path}: {name} is also in another file of the folder')
      seen.add(name)
      yield name, array
