"""Data sets of the Hugging Face hub, and folders with the same layout, read through `datasets`.

This module adds what `datasets` does not do on its own: it fails within seconds and in one line,
and reads nothing outside the folder or repository.
"""

from collections.abc import Sequence
import os
import pathlib
import re

from irl_jax.data import downloads
from irl_jax.data.row_formats import Numbered
from irl_jax.data.row_formats import READERS
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.runtime import hub_limits

_HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?')
_TIMEOUT = 10  # seconds for the hub's first answer; `datasets` alone would retry for half a minute
_ELSEWHERE = (
  'download it on another machine and pass the file or folder (config.data.source=PATH, or '
  'NAME:PATH)'
)


def is_hub_id(place: str) -> bool:
  """Returns True for 'owner/name' and 'owner/name@revision', but not for the path of a row file."""
  return bool(_HUB_ID.fullmatch(place)) and pathlib.PurePath(place).suffix not in (*READERS, '.gz')


def read_folder(folder: str, split: str) -> Numbered:
  """Reads a split of a local folder (data/train-00000-of-00001.parquet, train.jsonl, ...).

  Raises:
    ConfigError: no such split.
    InputError: the folder has no readable data, or its README names files outside.
  """
  root = os.path.abspath(folder)
  return _load(
    root,
    None,
    split,
    inside=root + os.sep,
    where=folder,
    remedy='pass one of its files to see the row',
  )


def read_hub(place: str, split: str) -> Numbered:
  """Reads a split of 'owner/name' or 'owner/name@revision'; offline, of its copy in the cache.

  Raises:
    ConfigError: no such split.
    InputError: no such repository or revision, or the hub does not answer.
  """
  import huggingface_hub  # imported here: like `datasets`, it is slow, and rarely needed

  repository, _, revision = place.partition('@')
  where = f'hub data set {repository} (revision {revision or "main"})'
  if not huggingface_hub.constants.HF_HUB_OFFLINE:
    try:
      huggingface_hub.HfApi().dataset_info(repository, revision=revision or None, timeout=_TIMEOUT)
    except Exception as error:  # the errors of several libraries have no common base
      raise InputError(f'{where}: {_refusal(error)}; {_ELSEWHERE}') from error
  return _load(
    repository,
    revision or None,
    split,
    inside=os.path.normpath(f'hf://datasets/{repository}@'),
    where=where,
    remedy=_ELSEWHERE,
  )


def _load(
  place: str, revision: str | None, split: str, *, inside: str, where: str, remedy: str
) -> Numbered:
  """Reads a split with `datasets`, after checking that all its files are `inside`."""
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
      outside = [file for file in files if not file.startswith(inside)]
      pointers = [] if outside else _pointers(files)
      if not outside and not pointers:
        builder.download_and_prepare()
  except Exception as error:  # as above
    raise InputError(f'{where}: {_first_line(error.__cause__ or error)}; {remedy}') from error
  if outside:
    raise InputError(f'{where}: its README names a file outside of it ({outside[0]}); refused')
  if pointers:
    raise InputError(f'{pointers[0]}: {downloads.POINTER}')
  try:
    return enumerate(builder.as_dataset(split), 1)
  except ValueError as error:
    raise ConfigError(f'config.data.split = {split!r}: {where}: {_first_line(error)}') from error


def _pointers(files: Sequence[str]) -> list[str]:
  """Returns which of the files on this machine are Git LFS pointers."""
  found = []
  for file in filter(os.path.isfile, files):
    with open(file, 'rb') as opened:
      if downloads.is_pointer(opened.read(downloads.SIZE)):
        found.append(file)
  return found


def _refusal(error: Exception) -> str:
  """Returns why the hub gave no data set, and what to do about it."""
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
