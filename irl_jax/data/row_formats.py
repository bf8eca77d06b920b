"""Readers of file formats, one per format: an open binary file becomes numbered rows.

A malformed row (not JSON, a cell too many) becomes a BadRow in its place. A single unusable value
becomes an Unusable, which matters only if the field is needed.
"""

from collections.abc import Callable

from irl_jax.data import contents
from irl_jax.data import json_rows
from irl_jax.data import parquet_rows
from irl_jax.data import separated
from irl_jax.data.encodings import BadFile
from irl_jax.data.encodings import Binary
from irl_jax.data.encodings import UNDECODED
from irl_jax.data.row_values import BadRow
from irl_jax.data.row_values import CARRIAGE_RETURNS
from irl_jax.data.row_values import decoded
from irl_jax.data.row_values import filler
from irl_jax.data.row_values import Layout
from irl_jax.data.row_values import not_decoded
from irl_jax.data.row_values import Numbered
from irl_jax.data.row_values import opened
from irl_jax.data.row_values import Unusable


def comma_separated(file: Binary, layout: Layout) -> Numbered:
  """Reads CSV with a header."""
  yield from _separated(file, layout, ',')


def tab_separated(file: Binary, layout: Layout) -> Numbered:
  """Reads TSV with a header."""
  yield from _separated(file, layout, '\t')


def _separated(file: Binary, layout: Layout, usual: str) -> Numbered:
  """Reads a table with a header, in the dialect that `separated.dialect_of` finds."""
  text = opened(file, layout, '')
  contents.refuse_json(text, file)
  dialect = separated.dialect_of(text, layout.delimiter, usual)
  if dialect.notes:
    layout.log(dialect.notes)
  if UNDECODED.search(''.join(dialect.header)):
    problem = not_decoded(''.join(dialect.header), layout)
    raise BadFile(f'the header {problem.reason}; {problem.remedy}')
  twice = {
    name: Unusable('occurs twice in the header', 'rename one of the two columns')
    for name in dialect.header
    if name and dialect.header.count(name) > 1
  }
  for number, cells in enumerate(separated.rows_of(text, dialect), 1):
    if isinstance(cells, str):
      yield number, BadRow(cells)
    else:
      yield number, decoded(cells | twice, layout)


def text_lines(file: Binary, layout: Layout) -> Numbered:
  """Reads one text per line as {'text': line}; a blank line is an empty text."""
  lines = opened(file, layout, '\n')
  contents.refuse_json(lines, file)
  for number, line in enumerate(lines, 1):
    text = line.removesuffix('\n').removesuffix('\r').removeprefix('\ufeff')
    if number == 1 and '\r' in text and not line.endswith('\n'):
      raise BadFile(CARRIAGE_RETURNS)
    yield number, filler(text) or decoded({'text': text}, layout)


Reader = Callable[[Binary, Layout], Numbered]
READERS: dict[str, Reader] = {
  '.jsonl': json_rows.json_lines,
  '.json': json_rows.json_file,
  '.csv': comma_separated,
  '.tsv': tab_separated,
  '.parquet': parquet_rows.parquet,
  '.txt': text_lines,
}
