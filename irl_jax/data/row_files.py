"""Row files: opened, checked against their names, and read row by row."""

import collections
from collections.abc import Collection
import dataclasses
import gzip
import hashlib
import os
import pathlib
import zlib

from absl import logging
import pyarrow as pa

from irl_jax.data import downloads
from irl_jax.data.encodings import BadFile
from irl_jax.data.encodings import Binary
from irl_jax.data.row_formats import Reader
from irl_jax.data.row_formats import READERS
from irl_jax.data.row_values import BadRow
from irl_jax.data.row_values import Layout
from irl_jax.data.row_values import Numbered
from irl_jax.data.row_values import RowSource
from irl_jax.data.row_values import Unusable
from irl_jax.errors import ConfigError
from irl_jax.errors import DISK_FULL
from irl_jax.errors import InputError
from irl_jax.errors import unwritable
from irl_jax.runtime import terminal

SEPARATED = ('.csv', '.tsv')
SHOWN = 3  # maximum number of reasons to log for unusable values of unneeded fields


def source(path: str | os.PathLike, used: Collection[str], layout: Layout) -> RowSource:
  """Returns the rows of one file; the arguments are those of `read_numbered`."""
  quiet = dataclasses.replace(layout, quiet=True)
  return RowSource(
    lambda unheard: read_numbered(path, used, quiet if unheard else layout), lambda: sha256(path)
  )


def sha256(path: str | os.PathLike) -> str:
  """Returns the sha256 sum of a file, in hexadecimal digits."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def read_numbered(
  path: str | os.PathLike, used: Collection[str] | None = None, layout: Layout = Layout()
) -> Numbered:
  """Yields each row, or the reason why it is bad, with its number from 1.

  Args:
    path: the file.
    used: the fields that are needed; an unusable value of another field becomes None, and a warning
      counts them. None: all.
    layout: encoding of a text file ('': that of its byte order mark, or UTF-8), delimiter of a .csv
      or .tsv file ('': what its header shows), and whether to log the detected layout.

  Raises:
    ConfigError: no such file, not readable, or an unknown format.
    InputError: the file is not in the format that its name says.
  """
  path = pathlib.Path(path)
  reader, ending = _reader_of(path)
  if not layout.quiet:
    layout = dataclasses.replace(layout, log=lambda notes: logging.info('%s: %s', path, notes))
  if layout.delimiter and ending not in SEPARATED:
    layout.log('has no columns to separate, so the delimiter is not used')
  with _open(path) as file:
    try:
      if isinstance(file, gzip.GzipFile) and (
        problem := downloads.problem(file.peek(1), path.stem)
      ):
        raise BadFile(f'its content {problem}')
      yield from needed(reader(file, layout), used, str(path), layout.quiet)
    except (ValueError, OSError, EOFError, zlib.error, pa.ArrowException) as error:
      if isinstance(error, OSError) and error.errno in DISK_FULL:
        raise unwritable(f'{path}: cannot be unpacked', error) from error
      reason = (str(error).splitlines() or [type(error).__name__])[0]
      broken = isinstance(error, EOFError | zlib.error | gzip.BadGzipFile | UnicodeError)
      again = '. Download it again' if broken else ''
      raise InputError(f'{path}: is not a readable {ending} file: {reason}{again}') from error


def _reader_of(path: pathlib.Path) -> tuple[Reader, str]:
  """Returns the reader for a file's rows, and the ending of its name.

  Raises:
    ConfigError: there is no such file, or its extension is not supported.
  """
  if os.path.isdir(path):
    raise ConfigError(f'{path}: is a folder; name one file of rows')
  if os.path.exists(path) and not os.path.isfile(path):
    raise ConfigError(f'{path}: is a pipe or device, not a file; write its rows to a file')
  if not os.path.isfile(path):
    dangling = os.path.islink(path)
    instead = ' (standard input is not supported; write it to a file)' if str(path) == '-' else ''
    what = 'is a broken link' if dangling else f'no such file{instead}'
    raise ConfigError(f'{path}: {what}')
  ending = pathlib.PurePath(path.name.lower().removesuffix('.gz')).suffix
  if ending in downloads.UNPACK:
    raise ConfigError(f'{path}: {ending} is not supported; {downloads.UNPACK[ending]}')
  if ending not in READERS:
    raise ConfigError(f'{path}: unknown format; use {", ".join(READERS)}, also with .gz appended')
  return READERS[ending], ending


def needed(numbered: Numbered, used: Collection[str] | None, where: str, quiet: bool) -> Numbered:
  """Turns unusable values into bad rows, or into None if they are not needed.

  Args:
    numbered: rows, some with values that are `Unusable`.
    used: as for `read_numbered`.
    where: the name of the file or data set, for messages.
    quiet: whether to log nothing about them.
  """
  emptied: collections.Counter[str] = collections.Counter()
  for number, row in numbered:
    if not isinstance(row, BadRow):
      for field, value in row.items():
        if not isinstance(value, Unusable):
          continue
        if used is None or field in used:
          row = value.bad_row(field)
          break
        row[field] = None
        emptied[f'field {field!r} {value.reason}'.partition(' (')[0]] += 1
    yield number, row
  for reason, count in emptied.most_common(0 if quiet else SHOWN):
    of = terminal.count(count, 'row')
    logging.warning('%s: in %s, %s; the field is not needed, so it becomes null', where, of, reason)


def _open(path: pathlib.Path) -> Binary:
  """Opens a file, unpacking it if its name ends in .gz.

  Raises:
    ConfigError: it cannot be read.
    InputError: it is something else, such as a Git LFS pointer.
  """
  try:
    with path.open('rb') as file:
      problem = downloads.problem(file.read(downloads.SIZE), path.name)
    if problem:
      raise InputError(f'{path}: {problem}')
    return gzip.open(path) if path.name.lower().endswith('.gz') else path.open('rb')
  except OSError as error:
    raise ConfigError(f'{path}: {error.strerror}') from error
