"""Readers of file formats, one per format: an open binary file becomes numbered rows.

A malformed row (not JSON, a cell too many) becomes a BadRow in its place. A single unusable value
becomes an Unusable, which matters only if the value is needed.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import gzip
import io
import json
import math
import re
from typing import Any

from absl import logging
import pyarrow as pa
import pyarrow.parquet

from irl_jax.data import encodings
from irl_jax.data import separated
from irl_jax.data.encodings import BadFile
from irl_jax.data.encodings import Binary
from irl_jax.data.encodings import UNDECODED

ROWS_OF_A_BATCH = 1024  # of a parquet file, in memory at once
LIST_OF_OBJECTS = re.compile(r'\[\s*(\{|$)')  # its beginning, on one line or on several
USUAL_REMEDY = 'fix it, or skip such rows with --bad_rows=skip'


class BadRow(ValueError):
  """The reason why one row cannot be used; its reader adds the file and the row's number.

  Args:
    reason: the reason, in words.
    remedy: how to fix it.
  """

  def __init__(self, reason: str, remedy: str = USUAL_REMEDY) -> None:
    super().__init__(reason)
    self.remedy = remedy


@dataclasses.dataclass(frozen=True)
class Unusable:
  """A value that cannot be used, and why."""

  reason: str
  remedy: str = USUAL_REMEDY

  def bad_row(self, field: str) -> BadRow:
    """Returns the reason why a row that needs this field cannot be used."""
    return BadRow(f'field {field!r} {self.reason}', self.remedy)


@dataclasses.dataclass(frozen=True)
class Layout:
  """The user's settings for a text file; '' means: detect it from the file."""

  encoding: str = ''
  delimiter: str = ''
  tell: Callable[[str], None] = logging.info  # is called with what was read off


# Rows are counted from 1; in .jsonl and .txt files the number is that of the line.
Numbered = Iterator[tuple[int, dict[str, Any] | BadRow]]


def json_lines(file: Binary, layout: Layout) -> Numbered:
  """Reads one JSON object per line; blank lines are skipped."""
  yield from _json_lines(encodings.open_text(file, layout.encoding, '\n'), layout)


def _json_lines(lines: io.TextIOBase, layout: Layout) -> Numbered:
  first = True
  for number, line in enumerate(lines, 1):
    if line.strip():
      row = _object(line, layout)
      if first and isinstance(row, BadRow):
        row = _not_by_lines(line, row)
      first = False
      yield number, row


def _not_by_lines(line: str, row: BadRow) -> BadRow:
  """Explains the first line, if the file is one list, or spreads objects over several lines.

  Raises:
    BadFile: the line begins one of them, so the following lines are not rows either.
  """
  start = line.strip('\ufeff \t\r\n')
  if start == '{':
    raise BadFile('an object goes over several lines; write one on each line (jq -c .)')
  if not LIST_OF_OBJECTS.match(start):
    return row
  remedy = 'if the file is one list of objects, let its name end in .json'
  if start.endswith(']'):
    return BadRow(str(row), f'{remedy}; else {row.remedy}')
  raise BadFile(f'its first line begins a list; {remedy}')


def json_file(file: Binary, layout: Layout) -> Numbered:
  """Reads a list of objects, one object, or JSON lines, which are often named .json too."""
  text = encodings.open_text(file, layout.encoding, '\n').read()
  try:
    value = _load(text)
  except (ValueError, RecursionError) as error:
    if text.lstrip('\ufeff \t\r\n').startswith('['):
      raise BadFile(str(error)) from error
    yield from _json_lines(io.StringIO(text, newline='\n'), layout)
    return
  if isinstance(value, dict) and _is_by_columns(value):
    raise BadFile(
      'one object contains all rows, column by column; save them row by row (pandas: '
      "orient='records')"
    )
  undecoded = bool(UNDECODED.search(text))
  for number, one in enumerate(value if isinstance(value, list) else [value], 1):
    yield number, _only_object(one, layout, undecoded)


def _is_by_columns(value: dict[str, Any]) -> bool:
  """Returns True if an object is a table by its columns, as pandas writes it by default."""
  if {'columns', 'data'} <= value.keys() and isinstance(value['columns'], list):
    return True
  columns = list(value.values())
  sizes = {len(column) if isinstance(column, list | dict) else -1 for column in columns}
  return len(sizes) == 1 and min(sizes) > 0 and all(map(_has_plain_values, columns))


def _has_plain_values(column: list | dict[str, Any]) -> bool:
  inner = column.values() if isinstance(column, dict) else column
  return not any(isinstance(one, list | dict) for one in inner)


def comma_separated(file: Binary, layout: Layout) -> Numbered:
  """Reads CSV with a header."""
  yield from _separated(file, layout, ',')


def tab_separated(file: Binary, layout: Layout) -> Numbered:
  """Reads TSV with a header."""
  yield from _separated(file, layout, '\t')


def _separated(file: Binary, layout: Layout, usual: str) -> Numbered:
  """Reads a table with a header, in the dialect that `separated.dialect_of` finds."""
  text = encodings.open_text(file, layout.encoding, '')
  dialect = separated.dialect_of(text, layout.delimiter, usual)
  if dialect.told:
    layout.tell(dialect.told)
  if UNDECODED.search(''.join(dialect.header)):
    problem = _not_decoded(''.join(dialect.header), layout)
    raise BadFile(f'the header {problem.reason}; {problem.remedy}')
  twice = {
    name: Unusable('is named twice by the header', 'rename one of the two columns')
    for name in dialect.header
    if name and dialect.header.count(name) > 1
  }
  for number, cells in enumerate(separated.rows_of(text, dialect), 1):
    if isinstance(cells, str):
      yield number, BadRow(cells)
    else:
      yield number, _decoded(cells | twice, layout)


def parquet(file: Binary, layout: Layout) -> Numbered:
  """Reads parquet as JSON values: dates and decimals become strings, NaN becomes null."""
  number = 0
  if isinstance(file, gzip.GzipFile):  # in which parquet, read from its end, would jump about
    file = io.BytesIO(file.read())
  for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=ROWS_OF_A_BATCH):
    for cells in zip(*map(_cells, batch.columns)):
      number += 1
      yield number, _decoded(_by_name(list(zip(batch.schema.names, map(_plain, cells)))), layout)


def text_lines(file: Binary, layout: Layout) -> Numbered:
  """Reads one text per line as {'text': line}; a blank line is an empty text."""
  for number, line in enumerate(encodings.open_text(file, layout.encoding, '\n'), 1):
    text = line.removesuffix('\n').removesuffix('\r').removeprefix('\ufeff')
    yield number, _decoded({'text': text}, layout)


READERS: dict[str, Callable[[Binary, Layout], Numbered]] = {
  '.jsonl': json_lines,
  '.json': json_file,
  '.csv': comma_separated,
  '.tsv': tab_separated,
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


_REASONS = {  # of Python's json, in plain words
  'Invalid control character at': 'a string contains a line break, tab or other control character '
  'that is not escaped',
  'Extra data': 'its first value is followed by something else, such as a comma or another value',
}


def _object(line: str, layout: Layout) -> dict[str, Any] | BadRow:
  try:
    return _only_object(_load(line), layout, bool(UNDECODED.search(line)))
  except (ValueError, RecursionError) as error:
    if UNDECODED.search(line):
      problem = _not_decoded(line, layout)
      return BadRow(problem.reason, problem.remedy)
    if isinstance(error, RecursionError):
      return BadRow('is nested too deeply')
    reason = getattr(error, 'msg', str(error))
    return BadRow(f'is not valid JSON: {_REASONS.get(reason, reason)}')


def _only_object(value: Any, layout: Layout, undecoded: bool = False) -> dict[str, Any] | BadRow:
  if not isinstance(value, dict):
    return BadRow(f'must be a JSON object, but is {kind_of(value)}')
  try:
    row = {field: _first_unusable(inner) or inner for field, inner in value.items()}
    return _decoded(row, layout, deep=True) if undecoded else row
  except RecursionError:
    return BadRow('is nested too deeply')


def _first_unusable(value: Any) -> Unusable | None:
  """Returns a number within the value that is not finite, if there is one."""
  if isinstance(value, Unusable):
    return value
  if not isinstance(value, dict | list):
    return None
  inner = value.values() if isinstance(value, dict) else value
  return next(filter(None, map(_first_unusable, inner)), None)


def _load(text: str) -> Any:
  text = text.removeprefix('\ufeff')
  return json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_by_name)


def _by_name(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns the fields of an object; of a name that comes twice, neither value can be used."""
  row = dict(pairs)
  if len(row) < len(pairs):
    counts = collections.Counter(name for name, _ in pairs)
    twice = Unusable('comes twice in its row', 'leave one of the two out')
    row |= dict.fromkeys((name for name, count in counts.items() if count > 1), twice)
  return row


def _finite(number: str) -> float | Unusable:
  """Refuses NaN, Infinity and 1e999: Python reads them, but they are not JSON."""
  if not math.isfinite(float(number)):
    return Unusable(f'has {number}, which is not a finite number')
  return float(number)


def _cells(column: pa.Array) -> list[Any]:
  try:
    return column.to_pylist()
  except UnicodeDecodeError:
    # One bad row must not hide the others: keep the bytes, which `_plain` decodes row by row.
    return column.cast(pa.binary()).to_pylist()


def _plain(value: Any) -> Any:
  """Returns the nearest value that JSON can express."""
  if isinstance(value, dict):
    return {str(key): _plain(inner) for key, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(inner) for inner in value]
  if isinstance(value, bytes):
    return value.decode('utf-8', 'surrogateescape')
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _decoded(row: dict[str, Any], layout: Layout, deep: bool = False) -> dict[str, Any]:
  """Replaces strings that could not be decoded; `deep`: also those within lists and objects."""
  for field, value in row.items():
    text = json.dumps(value, ensure_ascii=False, default=str) if deep else value
    if isinstance(text, str) and UNDECODED.search(text):
      row[field] = _not_decoded(text, layout)
    elif isinstance(text, str) and (meant := encodings.utf8(text, layout.encoding)):
      row[field] = Unusable(
        f'is UTF-8 ({meant!r:.30}), not {layout.encoding}',
        'convert all rows to one encoding, or skip such rows with --bad_rows=skip',
      )
  return row


def _not_decoded(text: str, layout: Layout) -> Unusable:
  """Says that a text is not in its encoding, and how it reads in the most likely other one."""
  remedy = 'convert the file to UTF-8, or in a training run set --config.data.encoding=NAME'
  if layout.encoding:
    return Unusable(f'is not {layout.encoding}', remedy)
  guess = encodings.misread(text)
  if guess:
    remedy = (
      'convert the file (iconv -f cp1252 -t utf-8), or in a training run set '
      '--config.data.encoding=cp1252'
    )
  return Unusable(f'is not UTF-8{guess}', remedy)
