"""Shared parts of the readers of rows: bad rows, unusable values, and the settings of a file."""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import io
import json
from typing import Any

from irl_jax.data import encodings
from irl_jax.data.encodings import Binary
from irl_jax.data.encodings import UNDECODED

USUAL_REMEDY = 'fix it, or skip such rows with --bad_rows=skip'
CARRIAGE_RETURNS = (
  "its lines end with carriage returns only, as on old Macs; convert them (tr '\\r' '\\n')"
)
_FILLER = '\0\x1a'  # characters that a crash or DOS leaves at the end of a file


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
  flags: str = '--config.data.'  # prefix of the two flags' names, for messages
  source: str = 'input'  # the flag that names the source, where the prefix is that of a command
  quiet: bool = False  # whether to log nothing about the layout and about values not needed
  log: Callable[[str], None] = lambda notes: None  # called with the detected layout

  def named(self, field: str, value: str | None = None) -> str:
    """Names a field of config.data for a message, perhaps with its value, as the user sets it."""
    if self.flags != '--':
      return f'config.data.{field}' + (f' = {value!r}' if value is not None else '')
    flag = f'--{self.source if field == "source" else field}'
    return flag + (f'={value}' if value is not None else '')


# Rows are counted from 1; in .jsonl and .txt files the number is that of the line. If there are
# several files, the number is followed by the name of the file.
Numbered = Iterator[tuple[int | str, dict[str, Any] | BadRow]]


@dataclasses.dataclass(frozen=True)
class RowSource:
  """Rows that can be read more than once."""

  read: Callable[[bool], Numbered]  # whether to log nothing -> every row, with its number
  fingerprint: Callable[[], Any]  # JSON values that change whenever the rows may have changed


def opened(file: Binary, layout: Layout, newline: str) -> io.TextIOWrapper:
  """Returns the file as text, by the layout's encoding; `newline` as in `open`.

  Raises:
    BadFile: as `encodings.open_text`.
  """
  return encodings.open_text(file, layout.encoding, newline, f'{layout.flags}encoding')


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


def first_unusable(value: Any) -> Unusable | None:
  """Returns an unusable value within the value, if there is one."""
  if isinstance(value, Unusable):
    return value
  if not isinstance(value, dict | list):
    return None
  inner = value.values() if isinstance(value, dict) else value
  return next(filter(None, map(first_unusable, inner)), None)


def by_name(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns the fields of an object; if a name occurs twice, neither value can be used."""
  row = dict(pairs)
  if len(row) < len(pairs):
    counts = collections.Counter(name for name, _ in pairs)
    twice = Unusable('occurs twice in its row', 'remove one of the two')
    row |= dict.fromkeys((name for name, count in counts.items() if count > 1), twice)
  return row


def filler(line: str) -> BadRow | None:
  """Explains a line without text that consists of NULs or DOS's end-of-file mark."""
  if line.strip('\r\n') and not line.strip(_FILLER + '\r\n'):
    return BadRow('contains only control characters, as if the file was not written to its end')
  return None


def decoded(row: dict[str, Any], layout: Layout, deep: bool = False) -> dict[str, Any]:
  """Replaces strings that could not be decoded; `deep`: also those within lists and objects."""
  for field, value in row.items():
    text = json.dumps(value, ensure_ascii=False, default=str) if deep else value
    if isinstance(text, str) and UNDECODED.search(text):
      row[field] = not_decoded(text, layout)
    elif isinstance(text, str) and (meant := encodings.utf8(text, layout.encoding)):
      row[field] = Unusable(
        f'is UTF-8 ({meant!r:.30}), not {layout.encoding}',
        'convert all rows to one encoding, or skip such rows with --bad_rows=skip',
      )
  return row


def not_decoded(text: str, layout: Layout) -> Unusable:
  """Describes a text that is invalid in its encoding, and how it reads in the likeliest one."""
  flag = f'{layout.flags}encoding'
  if layout.encoding:
    return Unusable(f'is not {layout.encoding}', f'convert the file to UTF-8, or set {flag}=NAME')
  guess = encodings.misread(text)
  if guess:
    remedy = f'convert the file (iconv -f cp1252 -t utf-8), or set {flag}=cp1252'
  else:
    remedy = f'convert the file to UTF-8, or set {flag}=NAME (such as cp1251, gb18030, shift_jis)'
  return Unusable(f'is not UTF-8{guess}', remedy)
