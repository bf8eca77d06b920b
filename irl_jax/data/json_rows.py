"""Rows of JSON: one object per line, or a list of objects, one of which is in memory at a time."""

from collections.abc import Iterator
import io
import json
import math
import re
from typing import Any

from irl_jax.data.encodings import BadFile
from irl_jax.data.encodings import Binary
from irl_jax.data.encodings import UNDECODED
from irl_jax.data.row_values import BadRow
from irl_jax.data.row_values import by_name
from irl_jax.data.row_values import CARRIAGE_RETURNS
from irl_jax.data.row_values import decoded
from irl_jax.data.row_values import filler
from irl_jax.data.row_values import first_unusable
from irl_jax.data.row_values import kind_of
from irl_jax.data.row_values import Layout
from irl_jax.data.row_values import not_decoded
from irl_jax.data.row_values import Numbered
from irl_jax.data.row_values import opened
from irl_jax.data.row_values import Unusable
from irl_jax.data.row_values import USUAL_REMEDY

WINDOW = 2**16  # minimum number of characters of a list that are read at once
# An error or the end of a value this close to the end of the window may be an artefact of the
# window
_TAIL = 16
_SPACE = re.compile('[ \t\r\n]*')
_REASONS = {  # of Python's json, in plain words
  'Invalid control character at': 'a string contains a line break, tab or other control character '
  'that is not escaped',
  'Unterminated string starting at': 'a string has no closing quote',
  'Extra data': 'its first value is followed by something else, such as a comma or another value',
}


def json_lines(file: Binary, layout: Layout) -> Numbered:
  """Reads one JSON object per line, skipping blank lines; or one list of objects."""
  text = opened(file, layout, '\n')
  values = Values(text)
  if (values.take(), values.peek()) == ('[', '{'):
    layout.log('has one list of objects, not one object per line')
    text.seek(0)
    yield from _listed(Values(text), layout)
  else:
    text.seek(0)
    yield from _json_lines(text, layout)


def json_file(file: Binary, layout: Layout) -> Numbered:
  """Reads a list of objects, one object, or JSON lines, which are often named .json too."""
  text = opened(file, layout, '\n')
  values = Values(text)
  if values.peek() == '[':
    yield from _listed(values, layout)
    return
  try:
    value, undecoded = values.take_value()
    is_only = not values.peek()
  except (ValueError, RecursionError):
    is_only = False
  if is_only and isinstance(value, dict) and _is_by_columns(value):
    raise BadFile(
      'one object contains all rows, column by column; save them row by row (pandas: '
      "orient='records')"
    )
  if is_only:
    yield 1, _only_object(value, layout, undecoded)
  else:
    text.seek(0)
    yield from _json_lines(text, layout)


class Values:
  """The JSON values of a text, read through a window that is as long as the longest of them."""

  def __init__(self, text: io.TextIOBase) -> None:
    self._text = text
    self._window, self._at, self._ended = '', 0, False
    self._read_on()
    self._window = self._window.removeprefix('\ufeff')

  def peek(self) -> str:
    """Returns the next character that is not white space; '' at the end."""
    while True:
      space = _SPACE.match(self._window, self._at)
      self._at = space.end() if space else self._at
      if self._at < len(self._window) or self._ended:
        return self._window[self._at : self._at + 1]
      self._read_on()

  def take(self) -> str:
    """Returns the next character that is not white space, and moves past it."""
    taken = self.peek()
    self._at += len(taken)
    return taken

  def take_value(self) -> tuple[Any, bool]:
    """Returns the next value, and whether it contains UNDECODED characters.

    Raises:
      JSONDecodeError, RecursionError: what follows is not a valid JSON value.
    """
    self.peek()
    while True:
      try:
        value, end = _DECODER.raw_decode(self._window, self._at)
      except json.JSONDecodeError as error:
        # A string may end beyond the window, and anything may go on at its end.
        cut = error.msg.startswith('Unterminated') or error.pos + _TAIL > len(self._window)
        if self._ended or not cut:
          raise
      else:
        if self._ended or end + _TAIL <= len(self._window):  # else 1 may be the beginning of 1.5
          undecoded = UNDECODED.search(self._window, self._at, end)
          self._at = end
          return value, bool(undecoded)
      self._read_on()

  def _read_on(self) -> None:
    """Drops what was taken, and at least doubles what is left."""
    left = self._window[self._at :]
    read = self._text.read(max(WINDOW, len(left)))
    self._window, self._at, self._ended = left + read, 0, not read


def _listed(values: Values, layout: Layout) -> Numbered:
  """Reads the objects of one list.

  Raises:
    BadFile: the list is damaged, so it is uncertain where the next object begins.
  """
  values.take()
  for number in _counted(values):
    try:
      value, undecoded = values.take_value()
    except RecursionError:
      raise BadFile(f'row {number} of its list is nested too deeply') from None
    except ValueError as error:
      raise BadFile(f'row {number} of its list is not valid JSON: {_reason(error)}') from error
    yield number, _only_object(value, layout, undecoded)
  if values.peek():
    raise BadFile(
      f'continues after its list with {values.peek()!r}; write one list, or one object per line'
    )


def _counted(values: Values) -> Iterator[int]:
  """Yields the number of each value of a list, and takes what is between them."""
  if values.peek() == ']':
    values.take()
    return
  number = 0
  while True:
    if not values.peek():
      raise BadFile(
        f'its list ends after row {number} without a closing bracket. Download it again'
      )
    number += 1
    yield number
    between = values.take()
    if between == ']':
      return
    if between and between != ',':
      raise BadFile(f'row {number} of its list is followed by {between!r} instead of a comma')


def _is_by_columns(value: dict[str, Any]) -> bool:
  """Returns True if an object is a table stored by columns, as pandas writes it by default."""
  if {'columns', 'data'} <= value.keys() and isinstance(value['columns'], list):
    return True
  columns = list(value.values())
  sizes = {len(column) if isinstance(column, list | dict) else -1 for column in columns}
  return len(sizes) == 1 and min(sizes) > 0 and all(map(_has_plain_values, columns))


def _has_plain_values(column: list | dict[str, Any]) -> bool:
  inner = column.values() if isinstance(column, dict) else column
  return not any(isinstance(one, list | dict) for one in inner)


def _json_lines(lines: io.TextIOBase, layout: Layout) -> Numbered:
  first = True
  for number, line in enumerate(lines, 1):
    if line.strip():
      row = filler(line) or _object(line, layout)
      if first and isinstance(row, BadRow):
        row = _not_by_lines(line, row)
      first = False
      yield number, row


def _not_by_lines(line: str, row: BadRow) -> BadRow:
  """Explains the first line, if the file may not hold JSON lines at all.

  Raises:
    BadFile: the line begins a value that goes on, so the following lines are not rows either.
  """
  start = line.strip('\ufeff \t\r\n')
  if '\r' in start and not line.endswith('\n'):
    raise BadFile(CARRIAGE_RETURNS)
  if start == '{':
    raise BadFile('an object spans several lines; write one object per line (jq -c .)')
  if start == '[':
    raise BadFile('its first line begins a list, but not one of objects; write one object per line')
  if start[:1] in ('{', '[') or row.remedy != USUAL_REMEDY or filler(line):
    return row
  remedy = 'if the file is a table or plain text, rename it to end in .csv, .tsv or .txt'
  return BadRow(str(row), f'{remedy}; else {row.remedy}')


def _object(line: str, layout: Layout) -> dict[str, Any] | BadRow:
  try:
    value = _DECODER.decode(line.removeprefix('\ufeff'))
    return _only_object(value, layout, bool(UNDECODED.search(line)))
  except (ValueError, RecursionError) as error:
    if UNDECODED.search(line):
      problem = not_decoded(line, layout)
      return BadRow(problem.reason, problem.remedy)
    if isinstance(error, RecursionError):
      return BadRow('is nested too deeply')
    return BadRow(f'is not valid JSON: {_reason(error)}')


def _reason(error: ValueError) -> str:
  reason = getattr(error, 'msg', str(error))
  return _REASONS.get(reason, reason)


def _only_object(value: Any, layout: Layout, undecoded: bool) -> dict[str, Any] | BadRow:
  if not isinstance(value, dict):
    return BadRow(f'must be a JSON object, but is {kind_of(value)}')
  try:
    row = {field: first_unusable(inner) or inner for field, inner in value.items()}
    return decoded(row, layout, deep=True) if undecoded else row
  except RecursionError:
    return BadRow('is nested too deeply')


def _finite(number: str) -> float | Unusable:
  """Refuses NaN, Infinity and 1e999: Python reads them, but they are not JSON."""
  if not math.isfinite(float(number)):
    return Unusable(f'has {number}, which is not a finite number')
  return float(number)


def _whole(number: str) -> int | Unusable:
  """Refuses integers with more digits than Python converts."""
  try:
    return int(number)
  except ValueError:
    return Unusable(f'has a number of {len(number)} digits')


_DECODER = json.JSONDecoder(
  parse_constant=_finite, parse_float=_finite, parse_int=_whole, object_pairs_hook=by_name
)
