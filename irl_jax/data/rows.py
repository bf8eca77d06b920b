"""Rows of .jsonl, .json, .csv, .tsv, .parquet and .txt files, gzipped or not, as dicts.

A row that cannot be used is named by file and number. It is refused, or skipped and counted, but
never repaired silently.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import json
import os
import pathlib
import shlex
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from absl import logging

from irl_jax.data.row_files import read_numbered
from irl_jax.data.row_values import BadRow
from irl_jax.data.row_values import kind_of
from irl_jax.data.row_values import Numbered
from irl_jax.data.row_values import USUAL_REMEDY
from irl_jax.errors import InputError
from irl_jax.errors import unwritable
from irl_jax.runtime import atomic
from irl_jax.runtime import terminal

Row = dict[str, Any]
Converted = TypeVar('Converted')

SHOWN = 3  # bad rows that a warning lists


def read_rows(
  path: str | os.PathLike,
  *,
  fields: Sequence[str] = (),
  bad_rows: str = 'error',
  flag: str = '--field',
) -> tuple[list[Row], dict[str, int]]:
  """Reads a file's rows with all their fields, in the order of the file.

  Args:
    path: a .jsonl, .json, .csv, .tsv, .parquet or .txt file, also with .gz appended. The rows of a
      .txt file are {'text': line}.
    fields: alternatives; the first one that a row has must be a string, which `text_of` returns.
      (): no check. Only these can make a row bad: an unusable value elsewhere becomes None.
    bad_rows: 'error' raises at the first bad row; 'skip' skips bad rows and logs how many.
    flag: names the flag that chooses the field, for messages.

  Returns:
    The rows, and {'rows_read', 'bad_rows'}.

  Raises:
    ConfigError: no such file, not readable, or an unknown format.
    InputError: a bad row (not JSON, null, wrong type, missing field, not UTF-8), or no usable row.
  """

  def checked(row: Row) -> Row:
    if fields:
      text_of(row, fields, flag)
    return row

  return usable_rows(read_numbered(path, fields or None), str(path), checked, bad_rows)


class Examined(NamedTuple):
  """One row of a file, usable or not."""

  number: int | str
  row: Row  # {}: its fields could not be read
  problem: str  # why the row cannot be used; '': it can
  remedy: str = ''  # what to do about it
  value: Any = None  # what was read from it


def examined(numbered: Numbered, read: Callable[[Row], Any]) -> Iterator[Examined]:
  """Yields every row; a row for which `read` raises BadRow cannot be used.

  Raises:
    ConfigError, InputError: as `read_numbered`.
  """
  for number, row in numbered:
    if isinstance(row, BadRow):
      yield Examined(number, {}, str(row), row.remedy)
      continue
    try:
      yield Examined(number, row, '', value=read(row))
    except BadRow as error:
      yield Examined(number, row, str(error), error.remedy)


class Survey(NamedTuple):
  """The contents of a source, counted in one pass that keeps no rows."""

  rows: int
  bad: int  # of them
  fields: set[str]  # that any row has


def survey(numbered: Numbered, where: str, bad_rows: str, read: Callable[[Row], Any]) -> Survey:
  """Reads rows to their end, so that their errors are known before any work is done.

  Args:
    numbered: the rows.
    where: the name of their source, for messages.
    bad_rows: 'error' raises at the first bad row; 'skip' logs how many there are.
    read: as for `examined`.

  Raises:
    ConfigError, InputError: as `read_rows`.
  """
  total, bad, names = 0, 0, set[str]()
  shown: list[str] = []
  first_remedy = ''
  for number, row, problem, remedy, _ in examined(numbered, read):
    total += 1
    names.update(row)
    if problem:
      if bad_rows == 'error':
        # A field that the rows before have is not the wrong one.
        missing = remedy.startswith(('set --field', 'set --prompt_field')) and total > 1
        raise refusal(where, number, problem, USUAL_REMEDY if missing else remedy)
      bad += 1
      first_remedy = first_remedy or remedy
      if bad <= SHOWN:
        shown.append(f'row {number}: {problem}')
  if not total:
    raise InputError(f'{where}: has no rows')
  if bad == total:
    raise none_usable(where, total, shown[0], first_remedy)
  if bad:
    shown += ['...'] * (bad > SHOWN)
    logging.warning(
      '%s: %d of %s cannot be used, so the output has null there (%s)',
      where,
      bad,
      terminal.count(total, 'row'),
      '; '.join(shown),
    )
  return Survey(total, bad, names)


def refusal(where: str, number: int | str, problem: object, remedy: str) -> InputError:
  """Returns the error for a row that cannot be used."""
  return InputError(f'{where}, row {number}: {problem}; {remedy}')


def none_usable(where: str, total: int, first: str, remedy: str) -> InputError:
  """Returns the error for a source without a usable row."""
  other = '' if remedy == USUAL_REMEDY else f'; {remedy}'
  none = terminal.plural(total, 'its only row cannot', f'none of its {total} rows can')
  return InputError(f'{where}: {none} be used ({first}){other}')


def usable_rows(
  numbered: Numbered, where: str, convert: Callable[[Row], Converted], bad_rows: str
) -> tuple[list[Converted], dict[str, int]]:
  """Converts every row; if `convert` raises BadRow, the row also counts as bad.

  Args:
    numbered: rows with their numbers.
    where: name of the source, for messages.
    convert: from a row to what is returned.
    bad_rows: 'error' or 'skip', as in `read_rows`.

  Returns:
    The converted rows, and {'rows_read', 'bad_rows'}.

  Raises:
    InputError: a bad row, or no usable row.
  """
  rows, bad, remedies = [], [], []
  for number, row in numbered:
    try:
      if isinstance(row, BadRow):
        raise row
      rows.append(convert(row))
    except BadRow as problem:
      if bad_rows == 'error':
        remedy = USUAL_REMEDY if rows and isinstance(problem, MissingField) else problem.remedy
        raise refusal(where, number, problem, remedy) from None
      bad.append(f'row {number}: {problem}')
      remedies.append(problem.remedy)
  total = len(rows) + len(bad)
  if not total:
    raise InputError(f'{where}: has no rows')
  if not rows:
    raise none_usable(where, total, bad[0], remedies[0])
  if bad:
    shown = '; '.join(bad[:SHOWN] + ['...'] * (len(bad) > SHOWN))
    other = next((f'; {remedy}' for remedy in remedies if 'encoding' in remedy), '')
    of = terminal.count(total, 'row')
    logging.warning('%s: skipped %d of %s (%s)%s', where, len(bad), of, shown, other)
  return rows, {'rows_read': total, 'bad_rows': len(bad)}


class MissingField(BadRow):
  """The reason why a row is bad: it has none of the named fields.

  Args:
    wanted: the names.
    row: the row, whose fields the message lists.
    flag: the flag that names the field, for the remedy; '': there is none.
  """

  def __init__(self, wanted: Sequence[str], row: Mapping[str, Any], flag: str) -> None:
    texts = [field for field, value in row.items() if isinstance(value, str)]
    lower = {name.lower() for name in wanted}
    named = [field for field in texts if field.strip('\ufeff \t').lower() in lower] or texts
    choice = shlex.quote(named[0]) if len(named) == 1 else 'NAME'
    remedy = (f'set {flag}={choice}',) if flag and row else ()
    if tables := [field for field, value in row.items() if _is_table(value)]:
      apart = f'if the rows are those in {tables[0]!r}, save that list as a file of its own'
      remedy = (f'set {flag}=NAME, or {apart}' if remedy and texts else apart,)
    super().__init__(
      f'has no field {" or ".join(map(repr, wanted))}; its fields: '
      f'{", ".join(map(repr, row)) or "none"}',
      *remedy,
    )


def _is_table(value: Any) -> bool:
  return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def text_of(row: Mapping[str, Any], fields: Sequence[str], flag: str = '') -> str:
  """Returns the text in the first of `fields` that the row has.

  Raises:
    BadRow: the field is not a string, or the row has none of the fields; then the message names the
      `flag` that chooses the field.
  """
  field = first_field(row, fields, flag)
  if not isinstance(row[field], str):
    raise BadRow(f'field {field!r} must be a string, but is {kind_of(row[field])}')
  return row[field]


def first_field(row: Mapping[str, Any], fields: Sequence[str], flag: str = '') -> str:
  """Returns the first of `fields` that the row has.

  Raises:
    BadRow: the row has none of them; the message lists the fields that it has.
  """
  for field in fields:
    if field in row:
      return field
  raise MissingField(fields, row, flag)


def read_jsonl(path: str | os.PathLike) -> list[Row]:
  """Reads a JSON lines file that this package wrote; it may have no rows.

  Raises:
    ConfigError: as `read_numbered`.
    InputError: as `read_numbered`, or a bad row.
  """
  rows = []
  for number, row in read_numbered(path):
    if isinstance(row, BadRow):
      raise InputError(f'{path}, row {number}: {row}')
    rows.append(row)
  return rows


def write_jsonl(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
  r"""Writes rows as JSON lines in UTF-8, atomically; the folder is created if it is missing.

  A lone surrogate is written as \udXXX, which JSON reads back as it was.

  Raises:
    ConfigError: the file cannot be written.
    CheckpointError: the disk is full.
    ValueError: a value is NaN or infinite.
  """
  path = pathlib.Path(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path, 'wb') as file:
      file.writelines(map(json_line, rows))
  except OSError as error:
    raise unwritable(f'{path}: cannot be written', error) from error


def json_line(row: Mapping[str, Any]) -> bytes:
  r"""Returns a row as one line of JSON in UTF-8; a lone surrogate is written as \udXXX.

  Raises:
    ValueError: a value is NaN or infinite.
  """
  line = json.dumps(row, ensure_ascii=False, allow_nan=False) + '\n'
  return line.encode('utf-8', 'backslashreplace')
