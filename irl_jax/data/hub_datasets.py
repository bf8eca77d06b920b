"""Data sets of the Hugging Face hub, and folders with the same layout, read through `datasets`.

This module adds what `datasets` does not do on its own: failing within seconds and with a one-line
error, and reading nothing outside the folder or repository.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import re
from typing import Any

from absl import logging

from irl_jax.data import downloads
from irl_jax.data import saved_datasets
from irl_jax.data.parquet_rows import json_values
from irl_jax.data.row_files import needed
from irl_jax.data.row_files import read_numbered
from irl_jax.data.row_files import sha256
from irl_jax.data.row_formats import READERS
from irl_jax.data.row_values import Layout
from irl_jax.data.row_values import Numbered
from irl_jax.data.row_values import RowSource
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.runtime import hub_limits

_HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?')
# Settings of `datasets` that do not affect how a file is read, or that we detect from the file
_WHERE = {
  'name',
  'version',
  'data_dir',
  'data_files',
  'description',
  'sep',
  'delimiter',
  'features',
}
SHOWN = 3  # files that the log names
_TIMEOUT = 10  # seconds for the hub's first answer; `datasets` alone would retry for half a minute


def is_hub_id(place: str) -> bool:
  """Returns True for 'owner/name' and 'owner/name@revision', but not for the path of a row file."""
  return bool(_HUB_ID.fullmatch(place)) and pathlib.PurePath(place).suffix not in (*READERS, '.gz')


def is_row_file(file: str) -> bool:
  """Returns True for a local file that one of our readers supports."""
  name = os.path.basename(file).lower().removesuffix('.gz')
  return os.path.isfile(file) and os.path.splitext(name)[1] in READERS


def read_folder(folder: str, split: str, used: Collection[str], layout: Layout) -> RowSource:
  """Finds a split of a local folder (data/train-00000-of-00001.parquet, train.jsonl, ...).

  `datasets` finds the files of the split by their names or by the README. Row files are read by our
  own readers, as if each had been given by its path; other files by `datasets`.

  Args:
    folder: the folder.
    split: its name.
    used: as in `read_numbered`.
    layout: of its files of rows.

  Raises:
    ConfigError: no such split.
    InputError: the folder has no readable data, or its README names files outside.
  """
  if saved_datasets.is_saved(folder):
    return saved_datasets.read(folder, split, used, layout)
  root = os.path.abspath(folder)
  remedy = 'pass one of its files to see the row'
  builder = _builder(root, None, inside=root + os.sep, where=folder, remedy=remedy)
  files = list((builder.config.data_files or {}).get(split, ()))
  readme = os.path.join(root, 'README.md')
  read_files = [*files, *[readme] * os.path.isfile(readme)] if files else list(_visible(root))
  fingerprint = lambda: {os.path.relpath(file, root): sha256(file) for file in read_files}
  if not files or not all(map(is_row_file, files)) or _has_options(builder.config):
    rows = _prepared(builder, split, used, layout, where=folder, remedy=remedy)
    return RowSource(rows, fingerprint)
  names = [os.path.relpath(file, root) for file in files]
  logging.info('%s: reads the split %s of %s', folder, split, _listed(names))
  known = {file for part in builder.config.data_files.values() for file in part}
  if left := sorted(filter(is_row_file, map(str, set(_visible(root)) - known))):
    listed = _listed([os.path.relpath(file, root) for file in left])
    logging.warning(
      '%s: files of no split are not read: %s; to read one, give its path as the source',
      folder,
      listed,
    )
  quiet = dataclasses.replace(layout, quiet=True)
  by_name = dict(zip(names, files))
  return RowSource(
    lambda unheard: _rows_of(by_name, used, quiet if unheard else layout), fingerprint
  )


def _visible(root: str) -> Iterator[str]:
  """Yields the files of a folder; not those of hidden folders, such as .git."""
  for folder, inner, names in os.walk(root):
    inner[:] = [name for name in inner if not name.startswith('.')]
    yield from (os.path.join(folder, name) for name in names if not name.startswith('.'))


def _listed(names: Sequence[str]) -> str:
  return ', '.join(names[:SHOWN]) + (f' and {len(names) - SHOWN} more' * (len(names) > SHOWN))


def _has_options(config: Any) -> bool:
  """Returns True if the README sets how files are read, which only `datasets` understands."""
  default = type(config)()
  names = {field.name for field in dataclasses.fields(config)} - _WHERE
  return any(getattr(config, name) != getattr(default, name) for name in names)


def _rows_of(files: Mapping[str, str], used: Collection[str], layout: Layout) -> Numbered:
  """Yields the rows of several files, with their numbers and the names of their files."""
  for name, file in files.items():
    for number, row in read_numbered(file, used, layout):
      yield f'{number} of {name}', row


def read_hub(place: str, split: str, used: Collection[str], layout: Layout) -> RowSource:
  """Finds a split of 'owner/name' or 'owner/name@revision'; offline, of its copy in the cache.

  Args:
    place: from `is_hub_id`.
    split: its name.
    used: as in `read_numbered`.
    layout: names the settings, for messages.

  Raises:
    ConfigError: no such split.
    InputError: no such repository or revision, or the hub does not answer.
  """
  import huggingface_hub  # imported here: like `datasets`, it is slow, and rarely needed

  repository, _, revision = place.partition('@')
  where = f'hub data set {repository} (revision {revision or "main"})'
  elsewhere = (
    'download it on another machine and pass the file or folder '
    f'({layout.named("source")}=PATH, or NAME:PATH)'
  )
  if not huggingface_hub.constants.HF_HUB_OFFLINE:
    try:
      huggingface_hub.HfApi().dataset_info(repository, revision=revision or None, timeout=_TIMEOUT)
    except Exception as error:  # the errors of several libraries have no common base
      raise InputError(f'{where}: {_refusal(error)}; {elsewhere}') from error
  inside = os.path.normpath(f'hf://datasets/{repository}@')
  builder = _builder(repository, revision or None, inside=inside, where=where, remedy=elsewhere)
  of = _listed(
    [os.path.basename(file) for file in (builder.config.data_files or {}).get(split, ())]
  )
  of = f' ({of})' if of else ''
  logging.info('%s: reads the split %s of commit %s%s', where, split, builder.hash, of)
  rows = _prepared(builder, split, used, layout, where=where, remedy=elsewhere)
  return RowSource(rows, lambda: [repository, str(builder.hash), split])


def _builder(place: str, revision: str | None, *, inside: str, where: str, remedy: str) -> Any:
  """Returns a builder of `datasets`, after checking that all its files are `inside`."""
  import datasets

  datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # no telemetry
  try:
    with hub_limits.limited():
      builder = datasets.load_dataset_builder(place, revision=revision)
      # A README may name any path or address as a data file: look before anything is read.
      files = [
        os.path.normpath(file.split('::')[-1])
        for files in (builder.config.data_files or {}).values()
        for file in files
      ]
  except Exception as error:  # as above
    raise InputError(f'{where}: {_first_line(error.__cause__ or error)}; {remedy}') from error
  if outside := [file for file in files if not file.startswith(inside)]:
    raise InputError(f'{where}: its README names a file outside its folder ({outside[0]}); refused')
  if pointers := _pointers(files):
    raise InputError(f'{pointers[0]}: {downloads.POINTER}')
  return builder


def _prepared(
  builder: Any, split: str, used: Collection[str], layout: Layout, *, where: str, remedy: str
) -> Callable[[bool], Numbered]:
  """Downloads or converts the data of a builder, and returns the rows of a split."""
  try:
    with hub_limits.limited():
      builder.download_and_prepare()
  except Exception as error:  # as above
    raise InputError(f'{where}: {_first_line(error.__cause__ or error)}; {remedy}') from error
  try:
    prepared = builder.as_dataset(split)
  except ValueError as error:
    reason = _first_line(error)
    raise ConfigError(f'{layout.named("split", split)}: {where}: {reason}') from error

  def rows(quiet: bool) -> Numbered:
    return needed(enumerate(map(json_values, prepared), 1), used, where, quiet)

  return rows


def _pointers(files: Sequence[str]) -> list[str]:
  """Returns which of the files on this machine are Git LFS pointers."""
  found = []
  for file in filter(os.path.isfile, files):
    with open(file, 'rb') as opened:
      if downloads.is_pointer(opened.read(downloads.SIZE)):
        found.append(file)
  return found


def _refusal(error: Exception) -> str:
  """Returns why the data set could not be read from the hub, and what to do about it."""
  from huggingface_hub import errors

  reasons = {
    errors.GatedRepoError: 'is gated: accept its terms on the hub and set HF_TOKEN',
    errors.RevisionNotFoundError: 'has no such revision',
    errors.RepositoryNotFoundError: 'not found, or private (then set HF_TOKEN)',
    errors.HfHubHTTPError: f'refused ({_first_line(error)})',
  }
  unreachable = (
    f'the hub cannot be reached ({_first_line(error)}); set HF_HUB_OFFLINE=1 to use a copy in the '
    'cache'
  )
  return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), unreachable)


def _first_line(error: BaseException) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0]
