"""Tables of separated columns (.csv, .tsv): the dialect of a file, and its rows.

A dialect is chosen only if the whole file is valid in it, so that a wrong guess cannot cut or merge
rows. If no dialect fits, the default is used, and errors name its bad rows.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import csv
import dataclasses
import io
import itertools
import re
from typing import Any
from typing import Literal

from irl_jax.data.encodings import BadFile
from irl_jax.data.row_values import filler
from irl_jax.runtime import terminal

DELIMITERS = (',', ';', '\t', '|')
NAMES = {',': 'commas', ';': 'semicolons', '\t': 'tabs', '|': 'bars'}
LOOKED_AT = 100  # number of rows used to find the header's delimiter
SWALLOWED = 9  # up to this many lines that look like rows may be one quoted text
NOT_SEPARATED = '\x1f'  # a delimiter that texts do not contain: each line is one cell

# How a quote inside a quoted cell is written: doubled, or after a backslash. PLAIN: cells are not
# quoted.
DOUBLED, BACKSLASH, PLAIN = 'doubled', 'backslash', 'plain'
_ESCAPED = re.compile(r'\\(["\\])')
_SEPARATOR_LINE = re.compile(r'sep=(.)\r?\n?')  # Excel's own first line

_Cells = list[str]


@dataclasses.dataclass(frozen=True)
class Dialect:
  """The delimiter, quoting and header of a table."""

  delimiter: str
  quoting: str
  header: _Cells
  skipped: int = 0  # lines before the header
  spaced: bool = False  # a space after a delimiter is not part of the cell
  trailing: bool = False  # every row but the header ends in a delimiter: the last name is ''
  notes: str = ''  # its unusual features, in words


@dataclasses.dataclass
class _Record:
  """A row as it is in the file: its lines, and its cells or the reason why it has none."""

  first_line: int
  lines: _Cells
  cells: _Cells
  problem: str = ''
  is_last: bool = False

  def where(self) -> str:
    last = self.first_line + len(self.lines) - 1
    if last == self.first_line:
      return f'line {last}'
    return f'lines {self.first_line} to {last}'


def dialect_of(text: io.TextIOWrapper, delimiter: str, usual: str) -> Dialect:
  """Returns the dialect of a table, and leaves the file at its beginning.

  Args:
    text: opened with newline=''.
    delimiter: the user's; '': what the header shows.
    usual: the delimiter that the file's name stands for.

  Raises:
    BadFile: the header cannot be read.
  """
  csv.field_size_limit(2**31 - 1)  # the default refuses long texts
  first = _SEPARATOR_LINE.fullmatch(text.readline())
  skipped = int(bool(first))
  shown = delimiter or (first[1] if first else _delimiter_of(text, usual))
  standard = _with_header(text, Dialect(shown, DOUBLED, [], skipped))
  if shown != usual and not delimiter:
    name = NAMES.get(shown, repr(shown))
    standard = dataclasses.replace(standard, notes=f'its columns are separated by {name}')
  if len(standard.header) > 1 and all(name.startswith(' ') for name in standard.header[1:]):
    standard = _changed(text, standard, 'a space follows each delimiter', spaced=True)
  if _is_sound(text, standard):
    return standard
  sound = [
    other
    for other in _others(text, standard)
    if len(other.header) - other.trailing == len(standard.header) and _is_sound(text, other)
  ]
  return sound[0] if len(sound) == 1 else standard


def _others(text: io.TextIOWrapper, standard: Dialect) -> Iterator[Dialect]:
  """Yields the dialects that a file may be in if it is not valid in the usual one."""
  columns = len(standard.header)
  notes = 'quotes within its cells come after a backslash'
  yield _changed(text, standard, notes, quoting=BACKSLASH)
  if standard.delimiter == '\t' and columns > 1 and not _may_be_quoted(text, standard):
    yield _changed(text, standard, 'its quotes are part of the texts', quoting=PLAIN)
  if columns > 1:
    yield _changed(text, standard, 'each row ends in a delimiter', trailing=True)
  if columns == 1 and _is_list(text, standard):
    notes = 'its only column is not quoted, so each line is one text'
    yield _changed(text, standard, notes, quoting=PLAIN, delimiter=NOT_SEPARATED)


def _changed(text: io.TextIOWrapper, dialect: Dialect, notes: str, **fields: Any) -> Dialect:
  """Returns a dialect with changed fields, its header read again, and a note added."""
  notes = '; '.join(filter(None, (dialect.notes, notes)))
  return _with_header(text, dataclasses.replace(dialect, notes=notes, **fields))


def _is_list(text: io.TextIOWrapper, dialect: Dialect) -> bool:
  """Returns True if the rows of a single column are unquoted texts, some of them with commas.

  If each row has several cells, the header may lack a name instead.
  """
  single = False
  for record in _after_header(text, dialect, checked=False):
    if record.problem or '"' in ''.join(record.lines):
      return False
    single = single or len(record.cells) == 1
  return single


def rows_of(text: io.TextIOWrapper, dialect: Dialect) -> Iterator[dict[str, str] | str]:
  """Yields each row by its columns, or the reason why it is bad; blank lines are skipped.

  If several columns have no name, they are ignored.

  Raises:
    BadFile: a quote is not closed, and it is not certain where the next row begins.
  """
  header = dialect.header
  several = dialect.trailing or header.count('') > 1
  unnamed = {index for index, name in enumerate(header) if not name and several}
  width = max((index + 1 for index in range(len(header)) if index not in unnamed), default=0)
  for record in _after_header(text, dialect):
    cells = record.cells
    if blank := filler(''.join(record.lines)):
      yield str(blank)
    elif record.problem:
      hint = (
        ' (write "" for a quote within a cell, not \\")' if '\\"' in ''.join(record.lines) else ''
      )
      yield f'{record.where()} {_are(record)} not quoted correctly: {record.problem}{hint}'
    elif not width <= len(cells) <= len(header):
      yield f'line {record.first_line} has {terminal.count(len(cells), "cell")}, ' + (
        f'but the header has {len(header)}'
      )
    elif len(header) > 1 and cells == header:
      yield f'line {record.first_line} repeats the header, as if several files were joined'
    elif any(cells[width:]):
      yield f'line {record.first_line} has a cell in a column that the header does not name'
    else:
      named = (index for index in range(width) if index not in unnamed)
      yield {header[index]: cells[index] for index in named}


def _delimiter_of(text: io.TextIOWrapper, usual: str) -> str:
  """Returns the usual delimiter, or if the header lacks it, the one that splits it into columns."""
  counts = {}
  for delimiter in DELIMITERS:
    reader = _records(text, Dialect(delimiter, DOUBLED, []))
    header = next(reader, None)
    if header is None or (delimiter == usual and len(header.cells) > 1):
      return usual
    if len(header.cells) > 1:
      some = itertools.islice(reader, LOOKED_AT)
      counts[delimiter] = sum(len(record.cells) == len(header.cells) for record in some)
  best = max(counts, key=counts.__getitem__, default=usual)
  return best if counts.get(best) else usual


def _with_header(text: io.TextIOWrapper, dialect: Dialect) -> Dialect:
  header = next(_records(text, dialect), None)
  if header and header.problem:
    raise BadFile(f'the header is not valid: {header.problem}')
  names = header.cells if header else []
  return dataclasses.replace(dialect, header=[*names, ''] if dialect.trailing else names)


def _is_sound(text: io.TextIOWrapper, dialect: Dialect) -> bool:
  """Returns True if every row has its cells in this dialect, and no quote swallows lines."""
  for record in _after_header(text, dialect, checked=False):
    if record.problem or len(record.cells) != len(dialect.header):
      return False
    if _swallows(record, dialect) or (dialect.trailing and record.cells[-1]):
      return False
    if dialect.quoting == BACKSLASH and '\\' in _ESCAPED.sub('', ''.join(record.lines)):
      return False  # it would escape what needs no escape
  return True


def _may_be_quoted(text: io.TextIOWrapper, dialect: Dialect) -> bool:
  """Returns True if the file is valid in this dialect, though short quoted texts look like rows.

  Without quoting it is valid too, so neither reading is certain, and the file is refused.
  """
  return all(
    not record.problem
    and len(record.cells) == len(dialect.header)
    and not (_swallows(record, dialect) and len(record.lines) > SWALLOWED)
    for record in _after_header(text, dialect, checked=False)
  )


def _after_header(
  text: io.TextIOWrapper, dialect: Dialect, checked: bool = True
) -> Iterator[_Record]:
  """Yields the rows; `checked`: raises BadFile where a quote may have swallowed others."""
  records = _records(text, dialect)
  next(records, None)
  for record in records:
    if checked and _swallows(record, dialect):
      raise BadFile(
        f'{record.where()} {_are(record)} not quoted correctly: '
        f'{record.problem or "they look like several rows, but form one quoted cell"}; from '
        f'line {record.first_line} on, a quote may be missing or superfluous. Inside a quoted '
        'cell, write each quote twice'
      )
    yield record


def _swallows(record: _Record, dialect: Dialect) -> bool:
  """Returns True if the lines of a row may be several rows, or may end elsewhere."""
  lines = record.lines
  if record.problem and not record.is_last and _is_open(lines, dialect):
    return True
  if record.problem or len(record.cells) != len(dialect.header):
    alike = [_looks_like_rows([line], dialect) for line in lines]
    return alike[0] and sum(alike) > 1
  most = 1 if dialect.delimiter == '\t' else SWALLOWED  # a tab within a text is rare
  return len(dialect.header) > 1 and len(lines) > most and _looks_like_rows(lines, dialect)


def _looks_like_rows(lines: Iterable[str], dialect: Dialect) -> bool:
  """Returns True if each line has the header's number of cells, however they are quoted."""
  cells = csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE)
  return all(len(row) == len(dialect.header) for row in cells)


def _is_open(lines: _Cells, dialect: Dialect) -> bool:
  """Returns True if a quoted cell is still open at the end of the last line."""
  reader = csv.reader([*lines, ''], delimiter=dialect.delimiter, skipinitialspace=dialect.spaced)
  next(reader, None)
  return reader.line_num > len(lines)


def _are(record: _Record) -> str:
  return terminal.plural(len(record.lines), 'is', 'are')


def _records(text: io.TextIOWrapper, dialect: Dialect) -> Iterator[_Record]:
  """Yields all rows from the beginning of the file, the header first; not the blank lines."""
  text.seek(0)
  for _ in range(dialect.skipped):
    text.readline()
  lines = _Lines(text, escaped=dialect.quoting == BACKSLASH)
  how: Literal[0, 3] = csv.QUOTE_NONE if dialect.quoting == PLAIN else csv.QUOTE_MINIMAL
  reader = csv.reader(
    lines, delimiter=dialect.delimiter, quoting=how, skipinitialspace=dialect.spaced, strict=True
  )
  number = dialect.skipped + 1
  while True:
    record = _Record(number, [], [])
    try:
      record.cells = next(reader)
    except StopIteration:
      return
    except csv.Error as error:
      record.problem = str(error)
    record.lines, record.is_last = lines.take(), lines.ended
    number += len(record.lines)
    if record.cells or record.problem:
      yield record


class _Lines:
  """The lines of a file, of which those that were read last are kept.

  If quotes are `escaped` by a backslash, the lines that come out double them instead.
  """

  def __init__(self, text: io.TextIOWrapper, escaped: bool) -> None:
    self._text, self._escaped = text, escaped
    self._kept: _Cells = []
    self.ended = False

  def __iter__(self) -> '_Lines':
    return self

  def __next__(self) -> str:
    line = self._text.readline()
    self.ended = not line
    if not line:
      raise StopIteration
    line = line.removeprefix('\ufeff')  # files with a byte order mark each may have been joined
    self._kept.append(line)
    return _ESCAPED.sub(_doubled, line) if self._escaped else line

  def take(self) -> _Cells:
    """Returns the kept lines, and forgets them."""
    kept, self._kept = self._kept, []
    return kept


def _doubled(escape: re.Match[str]) -> str:
  return '""' if escape[1] == '"' else escape[1]
