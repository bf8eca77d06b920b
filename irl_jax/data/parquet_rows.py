"""Rows of parquet and Arrow files, as JSON values; only one batch is in memory at a time."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import gzip
import math
import shutil
import tempfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from irl_jax.data.encodings import Binary
from irl_jax.data.row_values import by_name
from irl_jax.data.row_values import first_unusable
from irl_jax.data.row_values import Layout
from irl_jax.data.row_values import Numbered
from irl_jax.data.row_values import Unusable

ROWS_OF_A_BATCH = 1024  # in memory at once
BUFFER = 2**20  # bytes of a column to read at once; by default, a row group's whole column is read


def parquet(file: Binary, layout: Layout) -> Numbered:
  """Reads parquet as JSON values: dates and decimals become strings, NaN becomes null."""
  del layout  # parquet states its own encoding
  with _seekable(file) as plain:
    source = pyarrow.parquet.ParquetFile(plain, buffer_size=BUFFER)
    yield from enumerate(_rows(source.iter_batches(batch_size=ROWS_OF_A_BATCH)), 1)


def arrow_stream(path: str) -> Iterator[dict[str, Any]]:
  """Yields the rows of an Arrow stream, as `datasets` saves them; values as of parquet.

  Raises:
    ArrowException, OSError: the file cannot be read, or is not an Arrow stream.
  """
  with pa.memory_map(path) as file, pa.ipc.open_stream(file) as stream:
    yield from _rows(part for batch in stream for part in _cut(batch))


def json_values(row: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a row of Python objects as JSON values, some of which may be Unusable."""
  plain = {str(field): _plain(value) for field, value in row.items()}
  return {field: first_unusable(value) or value for field, value in plain.items()}


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
  for batch in batches:
    names = batch.schema.names
    for cells in zip(*map(_cells, batch.columns)):
      values = map(_plain, cells)
      usable = [first_unusable(value) or value for value in values]
      yield by_name(list(zip(names, usable)))


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
  """Yields a batch in parts of ROWS_OF_A_BATCH; a writer may have put all rows in one."""
  for start in range(0, batch.num_rows, ROWS_OF_A_BATCH):
    yield batch.slice(start, ROWS_OF_A_BATCH)


@contextlib.contextmanager
def _seekable(file: Binary) -> Iterator[Any]:
  """Unpacks a gzipped file to the disk, because parquet is read from its end."""
  if not isinstance(file, gzip.GzipFile):
    yield file
    return
  with tempfile.TemporaryFile() as unpacked:
    shutil.copyfileobj(file, unpacked, BUFFER)
    unpacked.seek(0)
    yield unpacked


def _cells(column: pa.Array) -> list[Any]:
  try:
    return column.to_pylist()
  except (ValueError, OverflowError):
    # One bad value must not hide the others. A text that is not UTF-8 stays bytes, for `_plain`.
    return list(map(_cell, column))


def _cell(scalar: pa.Scalar) -> Any:
  try:
    return scalar.as_py()
  except UnicodeDecodeError:
    is_text = hasattr(scalar, 'as_buffer')
    return (
      scalar.as_buffer().to_pybytes() if is_text else Unusable('holds a text that is not UTF-8')
    )
  except (ValueError, OverflowError):
    return Unusable(f'has a value of type {scalar.type} that Python cannot represent')


def _text(value: bytes) -> str | Unusable:
  try:
    return value.decode()
  except UnicodeDecodeError:
    return Unusable('is not UTF-8', 'rewrite its texts in UTF-8')


def _plain(value: Any) -> Any:
  """Returns the nearest value that JSON can express."""
  if isinstance(value, dict):
    return {str(key): _plain(inner) for key, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(inner) for inner in value]
  if isinstance(value, bytes):
    return _text(value)
  if isinstance(value, float) and not math.isfinite(value):
    return None
  kept = value is None or isinstance(value, (str, int, float, Unusable))
  return value if kept else str(value)
