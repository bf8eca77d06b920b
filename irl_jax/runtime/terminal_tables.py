"""Tables for the terminal, such as samples while PPO runs.

Generated text is never trusted: terminal escapes are stripped, and nothing in it is read as markup.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import sys
from typing import TextIO

from rich import box
from rich.console import Console
from rich.console import ConsoleOptions
from rich.console import RenderableType
from rich.console import RenderResult
from rich.table import Table
from rich.text import Text

from irl_jax.runtime.terminal import printable

MISSING = '–'  # in place of a number that could not be computed
FILE_WIDTH = 120  # columns if the output is not a terminal


def number(value: float | None, digits: int = 3) -> str:
  """Writes a number; '–' if it could not be computed."""
  if value is None:
    return MISSING
  if isinstance(value, float):
    return f'{value:.{digits}f}' if abs(value) < 1e5 else f'{value:.2e}'
  return str(value)


@dataclasses.dataclass(frozen=True)
class Grid:
  """Rows of a name and cells: a table, or a line per cell if the terminal is too narrow for one."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]

  def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
    grid = table(self.title, self.columns, self.rows)
    if grid.__rich_measure__(console, options.update(width=10_000)).maximum <= options.max_width:
      yield grid
      return
    yield Text(self.title, style='italic')
    for name, *cells in self.rows:
      yield Text(printable(name), style='bold')
      for column, text in zip(self.columns[1:], cells):
        yield Text(printable(f'  {column}: {text}'))
    yield Text()


def table(
  title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: bool = True
) -> Table:
  """Makes a table of plain text; all columns but the first, or only the last, align right."""
  result = Table(
    title=Text(printable(title)), title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False
  )
  for index, column in enumerate(columns):
    to_right = (right and index) or index == len(columns) - 1
    result.add_column(Text(column), overflow='fold', justify='right' if to_right else 'left')
  for row in rows:
    result.add_row(*(Text(printable(cell)) for cell in row))
  return result


def sample_table(
  rows: Iterable[tuple[str, str, float]], title: str = 'samples', characters: int = 200
) -> Table:
  """Tabulates samples of a policy.

  Args:
    rows: (prompt, completion, score) each.
    title: above the table.
    characters: longer texts are cut there and end in '…'.
  """

  def cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= characters else text[:characters] + '…'

  return table(
    title,
    ('prompt', 'completion', 'score'),
    right=False,
    rows=[
      (cut(prompt), cut(completion), number(float(score), 2)) for prompt, completion, score in rows
    ],
  )


def show(renderable: RenderableType, file: TextIO | None = None) -> None:
  """Prints to a file (default: standard output), replacing characters that it cannot encode."""
  file = file or sys.stdout
  console = Console(file=file, highlight=False, width=None if file.isatty() else FILE_WIDTH)
  with console.capture() as capture:
    console.print(renderable)
  encoding = getattr(file, 'encoding', None) or 'utf-8'
  file.write(capture.get().encode(encoding, 'replace').decode(encoding))
  file.flush()
