"""How each file format becomes rows: a reader per format, from an open binary file to numbered dicts.

A row that the format itself shows to be bad (not UTF-8, not JSON, a cell too many) comes out as a BadRow in its place.
"""

from collections.abc import Iterator
import csv
import functools
import io
import json
import math
import re
from typing import Any
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet

_UNDECODED = re.compile(
  '[\udc80-\udcff]'
)  # what `surrogateescape` makes of bytes that are not UTF-8


class BadRow(ValueError):
  """Why one row cannot be used; whoever knows them adds the file and the row's number."""


class BadFile(ValueError):
  """Why a file cannot be read as rows at all."""


Numbered = Iterator[
  tuple[int, dict[str, Any] | BadRow]
]  # rows are counted from 1; in .jsonl and .txt they are lines


def json_lines(file: BinaryIO) -> Numbered:
  """An object a line; blank lines are no rows."""
  for number, line in enumerate(file, 1):
    if line.strip():
      yield number, _object(line)


def json_file(file: BinaryIO) -> Numbered:
  """A list of objects, or one object, or (a common misnomer) JSON lines."""
  raw = file.read()
  try:
    value = _load(raw)
  except (ValueError, RecursionError) as error:
    if raw.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'['):
      raise BadFile(str(error)) from error
    yield from json_lines(io.BytesIO(raw))
    return
  yield from enumerate(map(_only_object, value if isinstance(value, list) else [value]), 1)


def separated(file: BinaryIO, delimiter: str) -> Numbered:
  """CSV or TSV with a header and, where needed, double quotes; a row may span lines, a blank line is no row."""
  csv.field_size_limit(2**31 - 1)  # the default refuses long texts
  reader = csv.reader(
    io.TextIOWrapper(file, 'utf-8-sig', errors='surrogateescape', newline=''),
    delimiter=delimiter,
    strict=True,
  )
  try:
    header = next(reader, [])
  except csv.Error as error:
    raise BadFile(f'the header: {error}') from error
  if len(set(header)) < len(header) or _UNDECODED.search(''.join(header)):
    raise BadFile('the header names a column twice, or is not UTF-8')
  number, row = 0, None
  while row != {}:
    row = _next_cells(reader, header)
    if row:
      yield (number := number + 1), row


def _next_cells(reader, header: list[str]) -> dict[str, Any] | BadRow | None:
  """The next row; None for a blank line; {} at the end."""
  first_line = reader.line_num + 1
  try:
    cells = next(reader, None)
  except csv.Error as error:
    return BadRow(f'(lines {first_line} to {reader.line_num}) is not well quoted: {error}')
  if not cells:
    return {} if cells is None else None
  if len(cells) != len(header):
    return BadRow(f'(line {first_line}) has {len(cells)} cells where the header has {len(header)}')
  return _decoded(dict(zip(header, cells)))


def parquet(file: BinaryIO) -> Numbered:
  """Dates and decimals become text, NaN becomes null: what JSON can hold."""
  number = 0
  for batch in pyarrow.parquet.ParquetFile(io.BytesIO(file.read())).iter_batches():
    for cells in zip(*map(_cells, batch.columns)):
      number += 1
      yield number, _decoded(dict(zip(batch.schema.names, map(_plain, cells))))


def text_lines(file: BinaryIO) -> Numbered:
  """A text a line as {'text': line}; a blank line is an empty text."""
  for number, line in enumerate(file, 1):
    text = line.removesuffix(b'\n').removesuffix(b'\r')
    yield number, _decoded({'text': text.decode('utf-8-sig', 'surrogateescape')})


READERS = {
  '.jsonl': json_lines,
  '.json': json_file,
  '.csv': functools.partial(separated, delimiter=','),
  '.tsv': functools.partial(separated, delimiter='\t'),
  '.parquet': parquet,
  '.txt': text_lines,
}


def kind(value: Any) -> str:
  """What a value is, in words for a message."""
  names = {
    type(None): 'null',
    bool: 'true or false',
    int: 'a number',
    float: 'a number',
    str: 'a text',
    list: 'a list',
  }
  return names.get(type(value), 'an object')


def _object(line: bytes) -> dict[str, Any] | BadRow:
  try:
    return _only_object(_load(line))
  except UnicodeDecodeError:
    return BadRow('is not UTF-8')
  except (ValueError, RecursionError) as error:
    return BadRow(f'is not JSON: {getattr(error, "msg", error)}')


def _only_object(value: Any) -> dict[str, Any] | BadRow:
  return (
    value if isinstance(value, dict) else BadRow(f'holds {kind(value)}, not an object with fields')
  )


def _load(raw: bytes) -> Any:
  return json.loads(raw.decode('utf-8-sig'), parse_constant=_finite, parse_float=_finite)


def _finite(number: str) -> float:
  """NaN, Infinity and 1e999 pass Python's reader, but are no JSON and could not be written again."""
  if not math.isfinite(float(number)):
    raise ValueError(f'{number} is not a number')
  return float(number)


def _cells(column: pa.Array) -> list[Any]:
  try:
    return column.to_pylist()
  except UnicodeDecodeError:  # one bad row must not hide the others: keep the bytes
    return column.cast(pa.binary()).to_pylist()


def _plain(value: Any) -> Any:
  if isinstance(value, dict):
    return {str(key): _plain(inner) for key, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(inner) for inner in value]
  if isinstance(value, bytes):
    return value.decode('utf-8', 'surrogateescape')
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _decoded(row: dict[str, Any]) -> dict[str, Any] | BadRow:
  for field, value in row.items():
    if isinstance(value, str) and _UNDECODED.search(value):
      return BadRow(f'field {field!r} is not UTF-8')
  return row
