"""Rows of .jsonl, .json, .csv, .tsv, .parquet and .txt files, gzipped or not, as dicts.

A row that cannot be used is named by file and number. It is refused, or skipped and counted, but
never repaired silently.
"""

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import gzip
import json
import os
import pathlib
from typing import Any
from typing import NamedTuple
from typing import TypeVar
import zlib

from absl import logging
import pyarrow as pa

from irl_jax.data import downloads
from irl_jax.data.encodings import Binary
from irl_jax.data.row_formats import BadRow
from irl_jax.data.row_formats import kind_of
from irl_jax.data.row_formats import Layout
from irl_jax.data.row_formats import Numbered
from irl_jax.data.row_formats import READERS
from irl_jax.data.row_formats import Unusable
from irl_jax.data.row_formats import USUAL_REMEDY
from irl_jax.errors import ConfigError
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

  number: int
  row: Row  # {}: its fields could not be read
  problem: str  # why the row cannot be used; '': it can
  remedy: str = ''  # what to do about it


def examined(
  path: str | os.PathLike, fields: Sequence[str], quiet: bool = True
) -> Iterator[Examined]:
  """Yields every row of a file; in a usable one, the first of `fields` that it has is a string.

  An unusable value of another field is None; unless `quiet`, a warning counts them.

  Raises:
    ConfigError, InputError: as `read_numbered`.
  """
  for number, row in read_numbered(path, fields, quiet=quiet):
    if isinstance(row, BadRow):
      yield Examined(number, {}, str(row), row.remedy)
      continue
    problem = remedy = ''
    try:
      text_of(row, fields, '--field')
    except BadRow as error:
      problem, remedy = str(error), error.remedy
    yield Examined(number, row, problem, remedy)


class Survey(NamedTuple):
  """The contents of a file, counted in one pass that keeps no rows."""

  rows: int
  bad: int  # of them
  fields: set[str]  # that any row has


def survey(path: str | os.PathLike, fields: Sequence[str], bad_rows: str) -> Survey:
  """Reads a file to its end, so that its errors are known before any work is done.

  Args:
    path: as for `read_rows`.
    fields: as for `examined`.
    bad_rows: 'error' raises at the first bad row; 'skip' logs how many there are.

  Raises:
    ConfigError, InputError: as `read_rows`.
  """
  total, bad, names = 0, 0, set[str]()
  shown: list[str] = []
  first_remedy = ''
  for number, row, problem, remedy in examined(path, fields, quiet=False):
    total += 1
    names.update(row)
    if problem:
      if bad_rows == 'error':
        missing = remedy.startswith('set --field') and total > 1  # but the rows before have it
        raise refusal(str(path), number, problem, USUAL_REMEDY if missing else remedy)
      bad += 1
      first_remedy = first_remedy or remedy
      if bad <= SHOWN:
        shown.append(f'row {number}: {problem}')
  if not total:
    raise InputError(f'{path}: has no rows')
  if bad == total:
    raise none_usable(str(path), total, shown[0], first_remedy)
  if bad:
    shown += ['...'] * (bad > SHOWN)
    logging.warning(
      '%s: %d of %s cannot be used and %s null (%s)',
      path,
      bad,
      terminal.count(total, 'row'),
      terminal.plural(bad, 'gets', 'get'),
      '; '.join(shown),
    )
  return Survey(total, bad, names)


def refusal(where: str, number: int, problem: object, remedy: str) -> InputError:
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
  """Converts every row; one for which `convert` raises BadRow is a bad row too.

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
  """A row has none of the fields that were named.

  Args:
    wanted: the names.
    row: the row, whose fields the message lists.
    flag: the flag that names the field, for the remedy; '': there is none.
  """

  def __init__(self, wanted: Sequence[str], row: Mapping[str, Any], flag: str) -> None:
    texts = [field for field, value in row.items() if isinstance(value, str)]
    lower = {name.lower() for name in wanted}
    named = [field for field in texts if field.strip().lower() in lower] or texts
    choice = named[0] if len(named) == 1 else 'NAME'
    remedy = (f'set {flag}={choice}',) if flag and row else ()
    tables = [field for field, value in row.items() if _is_table(value)]
    if tables and not texts:
      remedy = (f'if the rows are those in {tables[0]!r}, save that list as a file of its own',)
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


def read_numbered(
  path: str | os.PathLike,
  used: Collection[str] | None = None,
  *,
  encoding: str = '',
  delimiter: str = '',
  quiet: bool = False,
) -> Numbered:
  """Yields each row, or the reason why it is bad, with its number from 1.

  Args:
    path: the file.
    used: the fields that are needed; an unusable value of another field becomes None, and a warning
      counts them. None: all.
    encoding: of a text file; '': that of its byte order mark, or UTF-8.
    delimiter: of a .csv or .tsv file; '': what its header shows.
    quiet: whether to log nothing about the detected layout and about values that become None.

  Raises:
    ConfigError: no such file, not readable, or an unknown format.
    InputError: the file as a whole is not of its format.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    raise ConfigError(f'{path}: is a folder; name one file of rows')
  if not path.is_file():
    raise ConfigError(f'{path}: no such file')
  ending = pathlib.PurePath(path.name.lower().removesuffix('.gz')).suffix
  if ending not in READERS:
    raise ConfigError(f'{path}: unknown format; use {", ".join(READERS)}, also with .gz appended')
  tell = lambda told: None if quiet else logging.info('%s: %s', path, told)
  layout = Layout(encoding, delimiter, tell)
  with _open(path) as file:
    try:
      yield from _needed(READERS[ending](file, layout), used, path, quiet)
    except (ValueError, OSError, EOFError, zlib.error, pa.ArrowException) as error:
      reason = (str(error).splitlines() or [type(error).__name__])[0]
      cut = isinstance(error, EOFError | zlib.error | UnicodeError)
      again = '. Download it again' if cut else ''
      raise InputError(f'{path}: is not a readable {ending} file: {reason}{again}') from error


def _needed(
  numbered: Numbered, used: Collection[str] | None, path: pathlib.Path, quiet: bool
) -> Numbered:
  """Turns unusable values into bad rows, or into None if they are not needed."""
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
    where = terminal.count(count, 'row')
    logging.warning('%s: in %s %s; it is not needed, and null there', path, where, reason)


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
  r"""Writes rows as JSON lines in UTF-8, whole or not at all; the folder is made if it is missing.

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
