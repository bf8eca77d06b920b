"""Folders that `save_to_disk` of the library `datasets` wrote, read without the library.

One data set is state.json, dataset_info.json and the Arrow files that state.json lists; several
splits are a folder for each, listed in dataset_dict.json. Nothing outside the folder is read.
"""

from collections.abc import Collection
from collections.abc import Iterator
import json
import os
from typing import Any

from absl import logging
import pyarrow as pa

from irl_jax.data import downloads
from irl_jax.data import parquet_rows
from irl_jax.data.row_files import needed
from irl_jax.data.row_files import sha256
from irl_jax.data.row_values import Layout
from irl_jax.data.row_values import Numbered
from irl_jax.data.row_values import RowSource
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError

STATE, INFO, SPLITS = 'state.json', 'dataset_info.json', 'dataset_dict.json'


def is_saved(folder: str) -> bool:
  """Returns True if `save_to_disk` wrote this folder."""
  has = lambda name: os.path.isfile(os.path.join(folder, name))
  return has(SPLITS) or (has(STATE) and has(INFO))


def read(folder: str, split: str, used: Collection[str], layout: Layout) -> RowSource:
  """Returns the rows of a saved data set; `split` chooses one only if there are several.

  Args:
    folder: from `is_saved`.
    split: its name.
    used: as in `row_files.read_numbered`.
    layout: names the settings, for messages.

  Raises:
    ConfigError: no such split.
    InputError: a file is damaged or missing, or the folder names one outside.
  """
  place = _split_of(folder, split, layout)
  state = _json(os.path.join(place, STATE))
  listed = state.get('_data_files') or []
  if not isinstance(listed, list) or not all(isinstance(file, dict) for file in listed):
    raise InputError(f'{place}/{STATE}: _data_files must be a list of files. Save it again')
  files = [_inside(folder, place, str(file.get('filename'))) for file in listed]
  named = f', {state["_split"]!r}' if isinstance(state.get('_split'), str) else ''
  if place == folder and named not in ('', f', {split!r}'):
    logging.info('%s: has only one split%s, which is read', folder, named)

  def rows(quiet: bool) -> Numbered:
    return needed(enumerate(_rows(files), 1), used, folder, quiet)

  return RowSource(rows, lambda: {os.path.relpath(file, folder): sha256(file) for file in files})


def _split_of(folder: str, split: str, layout: Layout) -> str:
  """Returns the folder of a split."""
  path = os.path.join(folder, SPLITS)
  if not os.path.isfile(path):
    return folder
  splits = _json(path).get('splits')
  if not isinstance(splits, list) or not all(isinstance(one, str) for one in splits):
    raise InputError(f'{path}: splits must be a list of names. Save the data set again')
  if split not in splits:
    raise ConfigError(
      f'{layout.named("split", split)}: {folder}: has no such split; its splits: '
      f'{", ".join(splits)}'
    )
  place = os.path.join(folder, split)
  if not os.path.isfile(_inside(folder, place, STATE)):
    raise InputError(f'{place}: has no {STATE}. Copy the whole folder, or save the data set again')
  return place


def _inside(folder: str, place: str, name: str) -> str:
  """Returns the path of a file of the data set.

  Raises:
    InputError: it is not in the folder.
  """
  path = os.path.join(place, name)
  root = os.path.realpath(folder) + os.sep
  if not os.path.realpath(path).startswith(root):
    raise InputError(f'{folder}: its {STATE} names a file outside its folder ({name}); refused')
  return path


def _json(path: str) -> dict[str, Any]:
  try:
    with open(path, encoding='utf-8') as file:
      content = json.load(file)
  except (OSError, ValueError, RecursionError) as error:
    reason = error.strerror if isinstance(error, OSError) else 'is not JSON'
    raise InputError(f'{path}: {reason}. Copy the whole folder, or save it again') from error
  if not isinstance(content, dict):
    raise InputError(f'{path}: must be a JSON object. Save the data set again')
  return content


def _rows(files: list[str]) -> Iterator[dict[str, Any]]:
  for path in files:
    try:
      yield from parquet_rows.arrow_stream(path)
    except (pa.ArrowException, OSError) as error:
      reason = str(error).partition('\n')[0] if os.path.isfile(path) else 'no such file'
      if _is_pointer(path):
        raise InputError(f'{path}: {downloads.POINTER}') from error
      raise InputError(
        f'{path}: is not a readable Arrow file: {reason}. Copy the whole folder, or save it again'
      ) from error


def _is_pointer(path: str) -> bool:
  if not os.path.isfile(path):
    return False
  with open(path, 'rb') as file:
    return downloads.is_pointer(file.read(downloads.SIZE))
