"""The rows of docs/faults.md: the message and the exit code of each fault.

A test that produces a fault compares what was printed with its row. So the page quotes what the
code prints. If a message changes, the test fails and shows the row that the page should have.
"""

import pathlib
import re
from typing import NamedTuple

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'faults.md'
HEADER = ('what is printed', 'exit code')  # the last columns of a table of faults
RUN = 'RUN'  # the page's word for the folder of the run


class Row(NamedTuple):
  """One fault of the page."""

  printed: str  # the first code span of its cell; '' if nothing is printed
  codes: set[int]


def cells_of(line: str) -> list[str]:
  """Splits a line of a Markdown table."""
  cells = re.split(r'(?<!\\)\|', line.strip().strip('|'))
  return [cell.strip().replace('\\|', '|') for cell in cells]


def rows() -> dict[str, Row]:
  """Returns the rows of the page's tables of faults, by the fault."""
  found: dict[str, Row] = {}
  inside = False
  for line in PAGE.read_text(encoding='utf-8').splitlines():
    if not line.startswith('|'):
      inside = False
    elif tuple(cells_of(line)[-2:]) == HEADER:
      inside = True
    elif inside and not line.startswith('|---'):
      fault, *_, printed, codes = cells_of(line)
      assert fault not in found, f'docs/faults.md names two faults {fault!r}'
      spans = re.findall(r'`(.*?)`', printed)
      found[fault] = Row(spans[0] if spans else '', set(map(int, re.findall(r'\d+', codes))))
  return found


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
