"""Rows of .jsonl, .json, .csv, .tsv, .parquet and .txt files, gzipped or not, as dicts in the order of the file.

A row that cannot be used is named by file and number, and refused or left out and counted; none is repaired silently.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import gzip
import json
import os
import pathlib
from typing import Any
import zlib

from absl import logging
import pyarrow as pa

from irl_jax.data.row_formats import BadRow
from irl_jax.data.row_formats import kind
from irl_jax.data.row_formats import Numbered
from irl_jax.data.row_formats import READERS
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.runtime import atomic


def read_rows(
  path: str | os.PathLike, *, fields: Sequence[str] = (), bad_rows: str = 'error'
) -> tuple[list[dict[str, Any]], dict[str, int]]:
  """Reads a file's rows, all their fields in their order; a .txt file gives {'text': line}.

  Args:
    path: a .jsonl, .json, .csv, .tsv, .parquet or .txt file, also with .gz behind it.
    fields: the first of these that a row has must hold a string (`text_of(row, fields)` returns it); (): no check.
    bad_rows: 'error' refuses the file at its first bad row; 'skip' leaves bad rows out and logs how many.

  Returns:
    The rows, and {'rows_read', 'bad_rows'}.

  Raises:
    ConfigError: no such file, not readable, or an unknown format.
    InputError: a bad row (bad JSON, null, wrong type, missing field, not UTF-8), or no usable row at all.
  """

  def checked(row):
    if fields:
      text_of(row, fields)
    return row

  return usable_rows(read_numbered(path), str(path), checked, bad_rows)


def usable_rows(
  numbered: Numbered, where: str, convert: Callable[[dict[str, Any]], dict[str, Any]], bad_rows: str
) -> tuple[list[dict[str, Any]], dict[str, int]]:
  """Converts every row; what `convert` refuses with BadRow is a bad row too. `where` names the source in messages."""
  rows, bad = [], []
  for number, row in numbered:
    try:
      if isinstance(row, BadRow):
        raise row
      rows.append(convert(row))
    except BadRow as problem:
      if bad_rows == 'error':
        raise InputError(
          f'{where}, row {number}: {problem}; mend it, or leave such rows out with --bad_rows=skip'
        ) from None
      bad.append(f'row {number}: {problem}')
  if not rows:
    raise InputError(
      f'{where}: none of {len(bad)} rows is usable ({bad[0]})' if bad else f'{where}: holds no rows'
    )
  if bad:
    logging.warning(
      '%s: left out %d of %d rows (%s)',
      where,
      len(bad),
      len(rows) + len(bad),
      '; '.join(bad[:3] + ['...'] * (len(bad) > 3)),
    )
  return rows, {'rows_read': len(rows) + len(bad), 'bad_rows': len(bad)}


def text_of(row: dict[str, Any], fields: Sequence[str]) -> str:
  """The text in the first of `fields` that the row has.

  Raises:
    BadRow: it is null or not a string, or the row has none of them (the message lists what it has).
  """
  field = present(row, fields)
  if not isinstance(row[field], str):
    raise BadRow(f'field {field!r} holds {kind(row[field])}, not a text')
  return row[field]


def present(row: dict[str, Any], fields: Sequence[str]) -> str:
  """The first of `fields` that the row has; raises BadRow, listing what it has, where that is none of them."""
  for field in fields:
    if field in row:
      return field
  raise BadRow(
    f'has no field {" or ".join(map(repr, fields))}; its fields: {", ".join(map(repr, row)) or "none"}'
  )


def read_numbered(path: str | os.PathLike) -> Numbered:
  """Yields (number from 1, row or why it is bad); raises as `read_rows` does where the file itself is at fault."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise ConfigError(f'{path}: no such file')
  ending = pathlib.PurePath(path.name.lower().removesuffix('.gz')).suffix
  if ending not in READERS:
    raise ConfigError(f'{path}: unknown format; give {", ".join(READERS)}, also with .gz behind it')
  try:
    file = open(path, 'rb')
  except OSError as error:
    raise ConfigError(f'{path}: {error.strerror}') from error
  with file:
    unpacked = gzip.open(file) if path.name.lower().endswith('.gz') else file
    try:
      yield from READERS[ending](unpacked)
    except (ValueError, OSError, EOFError, zlib.error, pa.ArrowException) as error:
      reason = (str(error).splitlines() or [type(error).__name__])[0]
      raise InputError(f'{path}: broken, or not a {ending} file: {reason}') from error


def read_jsonl(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Reads a JSON lines file that this package wrote (it may hold no rows); raises as `read_rows` does."""
  rows = []
  for number, row in read_numbered(path):
    if isinstance(row, BadRow):
      raise InputError(f'{path}, row {number}: {row}')
    rows.append(row)
  return rows


def write_jsonl(path: str | os.PathLike, rows: Iterable[dict[str, Any]]) -> None:
  """Writes rows as JSON lines, whole or not at all: see `write_lines`. A NaN or infinity is a ValueError."""
  write_lines(path, (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows))


def write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
  r"""Writes UTF-8 lines under a temporary name in the same folder (made if missing), then renames.

  A lone surrogate is written as \udXXX, which JSON reads back as it was.

  Raises:
    ConfigError: the place cannot be written.
  """
  path = pathlib.Path(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path, errors='backslashreplace', newline='\n') as file:
      file.writelines(line + '\n' for line in lines)
  except OSError as error:
    raise ConfigError(f'{path}: cannot be written: {error.strerror}') from error
