"""Readers of file formats, one per format: an open binary file becomes numbered rows.

A row that is bad in its format comes out as a BadRow in its place: not UTF-8, not JSON, a cell too
many.
"""

from collections.abc import Callable
from collections.abc import Iterator
import csv
import functools
import gzip
import io
import json
import math
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet

ROWS_OF_A_BATCH = 1024  # of a parquet file, in memory at once
# `surrogateescape` turns bytes that are not UTF-8 into these characters.
_UNDECODED = re.compile('[\udc80-\udcff]')


class BadRow(ValueError):
  """The reason why one row cannot be used; its reader adds the file and the row's number."""


class BadFile(ValueError):
  """The reason why a file cannot be read as rows at all."""


Binary = io.BufferedReader | gzip.GzipFile | io.BytesIO  # a file that is open for reading

# Rows are counted from 1; in .jsonl and .txt files the number is that of the line.
Numbered = Iterator[tuple[int, dict[str, Any] | BadRow]]


def json_lines(file: Binary) -> Numbered:
  """Reads one JSON object per line; blank lines are skipped."""
  for number, line in enumerate(file, 1):
    if line.strip():
      yield number, _object(line)


def json_file(file: Binary) -> Numbered:
  """Reads a list of objects, one object, or JSON lines, which are often named .json too."""
  raw = file.read()
  try:
    value = _load(raw)
  except (ValueError, RecursionError) as error:
    if raw.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'['):
      raise BadFile(str(error)) from error
    yield from json_lines(io.BytesIO(raw))
    return
  yield from enumerate(map(_only_object, value if isinstance(value, list) else [value]), 1)


def separated(file: Binary, delimiter: str) -> Numbered:
  """Reads CSV or TSV with a header; a quoted row may span lines, and blank lines are skipped."""
  csv.field_size_limit(2**31 - 1)  # the default refuses long texts
  reader = csv.reader(
    io.TextIOWrapper(file, 'utf-8-sig', errors='surrogateescape', newline=''),
    delimiter=delimiter,
    strict=True,
  )
  try:
    header = next(reader, [])
  except csv.Error as error:
    raise BadFile(f'the header is not valid: {error}') from error
  if len(set(header)) < len(header):
    raise BadFile('the header names a column twice')
  if _UNDECODED.search(''.join(header)):
    raise BadFile('the header is not UTF-8')
  number, row = 0, None
  while row != {}:
    row = _next_cells(reader, header)
    if row:
      yield (number := number + 1), row


def _next_cells(reader: Any, header: list[str]) -> dict[str, Any] | BadRow | None:
  """Returns the next row of a csv.reader; None for a blank line; {} at the end."""
  first_line = reader.line_num + 1
  try:
    cells = next(reader, None)
  except csv.Error as error:
    return BadRow(f'lines {first_line} to {reader.line_num} are not quoted correctly: {error}')
  if not cells:
    return {} if cells is None else None
  if len(cells) != len(header):
    plural = '' if len(cells) == 1 else 's'
    return BadRow(
      f'line {first_line} has {len(cells)} cell{plural}, but the header has {len(header)}'
    )
  return _decoded(dict(zip(header, cells)))


def parquet(file: Binary) -> Numbered:
  """Reads parquet as JSON values: dates and decimals become strings, NaN becomes null."""
  number = 0
  if isinstance(file, gzip.GzipFile):  # in which parquet, read from its end, would jump about
    file = io.BytesIO(file.read())
  for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=ROWS_OF_A_BATCH):
    for cells in zip(*map(_cells, batch.columns)):
      number += 1
      yield number, _decoded(dict(zip(batch.schema.names, map(_plain, cells))))


def text_lines(file: Binary) -> Numbered:
  """Reads one text per line as {'text': line}; a blank line is an empty text."""
  for number, line in enumerate(file, 1):
    text = line.removesuffix(b'\n').removesuffix(b'\r')
    yield number, _decoded({'text': text.decode('utf-8-sig', 'surrogateescape')})


READERS: dict[str, Callable[[Binary], Numbered]] = {
  '.jsonl': json_lines,
  '.json': json_file,
  '.csv': functools.partial(separated, delimiter=','),
  '.tsv': functools.partial(separated, delimiter='\t'),
  '.parquet': parquet,
  '.txt': text_lines,
}


def kind_of(value: Any) -> str:
  """Returns the JSON type of a value, as messages name it."""
  names = {
    type(None): 'null',
    bool: 'a boolean',
    int: 'a number',
    float: 'a number',
    str: 'a string',
    list: 'a list',
  }
  return names.get(type(value), 'an object')


def _object(line: bytes) -> dict[str, Any] | BadRow:
  try:
    return _only_object(_load(line))
  except UnicodeDecodeError:
    return BadRow('is not UTF-8')
  except (ValueError, RecursionError) as error:
    return BadRow(f'is not valid JSON: {getattr(error, "msg", error)}')


def _only_object(value: Any) -> dict[str, Any] | BadRow:
  if isinstance(value, dict):
    return value
  return BadRow(f'must be a JSON object, but is {kind_of(value)}')


def _load(raw: bytes) -> Any:
  return json.loads(raw.decode('utf-8-sig'), parse_constant=_finite, parse_float=_finite)


def _finite(number: str) -> float:
  """Refuses NaN, Infinity and 1e999: Python reads them, but JSON cannot hold them."""
  if not math.isfinite(float(number)):
    raise ValueError(f'{number} is not a finite number')
  return float(number)


def _cells(column: pa.Array) -> list[Any]:
  try:
    return column.to_pylist()
  except UnicodeDecodeError:
    # One bad row must not hide the others: keep the bytes, which `_plain` decodes row by row.
    return column.cast(pa.binary()).to_pylist()


def _plain(value: Any) -> Any:
  """Returns the nearest value that JSON can hold."""
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
