"""Rows of parquet files, as JSON values; only one batch is in memory at a time."""

from collections.abc import Iterator
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
  number = 0
  with _seekable(file) as plain:
    source = pyarrow.parquet.ParquetFile(plain, buffer_size=BUFFER)
    names = source.schema_arrow.names
    for batch in source.iter_batches(batch_size=ROWS_OF_A_BATCH):
      for cells in zip(*map(_cells, batch.columns)):
        number += 1
        values = map(_plain, cells)
        usable = [first_unusable(value) or value for value in values]
        yield number, by_name(list(zip(names, usable)))


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
