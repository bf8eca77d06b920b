"""The rows of docs/faults.md: the message and the exit code of each fault.

A test that produces a fault compares what was printed with its row. So the page quotes what the
code prints. If a message changes, the test fails and shows the row that the page should have.
"""

from collections.abc import Iterator
import pathlib
import re
from typing import NamedTuple

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'faults.md'
HEADER = ('what is printed', 'exit code')  # the last columns of a table of faults
PROBLEMS = (
  'problem',
  'outcome',
  'exit code',
  'tests',
)  # the columns of the table of users' problems
RUN = 'RUN'  # the page's word for the folder of the run


class Row(NamedTuple):
  """One fault of the page."""

  printed: str  # the first code span of its cell; '' if nothing is printed
  codes: set[int]


class Problem(NamedTuple):
  """One problem of a user."""

  what: str
  messages: list[str]  # code spans that are errors or warnings
  codes: set[int]
  tests: list[str]  # path::name


def cells_of(line: str) -> list[str]:
  """Splits a line of a Markdown table."""
  cells = re.split(r'(?<!\\)\|', line.strip().strip('|'))
  return [cell.strip().replace('\\|', '|') for cell in cells]


def tables(header: tuple[str, ...]) -> Iterator[list[str]]:
  """Yields the cells of each row in the page's tables whose last columns are these."""
  inside = False
  for line in PAGE.read_text(encoding='utf-8').splitlines():
    if not line.startswith('|'):
      inside = False
    elif tuple(cells_of(line)[-len(header) :]) == header:
      inside = True
    elif inside and not line.startswith('|---'):
      yield cells_of(line)


def rows() -> dict[str, Row]:
  """Returns the rows of the page's tables of faults, by the fault."""
  found: dict[str, Row] = {}
  for fault, *_, printed, codes in tables(HEADER):
    assert fault not in found, f'docs/faults.md names two faults {fault!r}'
    spans = spans_of(printed)
    found[fault] = Row(spans[0] if spans else '', numbers_of(codes))
  return found


def problems() -> list[Problem]:
  """Returns the rows of the table of users' problems."""
  return [
    Problem(
      what,
      [span for span in spans_of(outcome) if span.startswith(('error: ', 'warning: '))],
      numbers_of(codes),
      spans_of(tests),
    )
    for what, outcome, codes, tests in tables(PROBLEMS)
  ]


def spans_of(cell: str) -> list[str]:
  return re.findall(r'`(.*?)`', cell)


def numbers_of(cell: str) -> set[int]:
  return set(map(int, re.findall(r'\d+', cell)))


def pattern(printed: str) -> str:
  """Returns a regular expression: numbers are examples, and … stands for any text."""
  return re.sub(r'\d+', r'\\d+', re.escape(printed)).replace('…', '.*')


def check(fault: str, message: str, code: int, folder: pathlib.Path) -> None:
  """Asserts that the page has this message and exit code.

  Args:
    fault: the first cell of a row.
    message: what was printed; '' for nothing.
    code: the exit code.
    folder: the folder of the run, which the page calls RUN.
  """
  shown = message.replace(str(folder), RUN).replace('`', "'")
  row = rows().get(fault)
  same = row and code in row.codes and re.fullmatch(pattern(row.printed), shown, re.DOTALL)
  escaped = shown.replace('|', '\\|')
  assert same, f'docs/faults.md should say: | {fault} | `{escaped}` | {code} |, but has {row}'
