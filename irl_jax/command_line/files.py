"""A file of rows in, the same rows with what a model says about them out: the work of score.py and generate.py."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from irl_jax import api
from irl_jax.config import Sampling
from irl_jax.data import rows as rows_lib
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.runtime import compilation_cache
from irl_jax.runtime import terminal

Row = dict[str, Any]


def score(
  model: str,
  source: str,
  output: str,
  field: str = 'text',
  batch_size: int = 32,
  bad_rows: str = 'error',
) -> None:
  """Writes the rows of a file with a model's scores (`api.load_scorer`) behind their fields.

  Args:
    model: a hub id, `id@revision`, or a folder.
    source: the file to read.
    output: the .jsonl file to write.
    field: the field that is scored.
    batch_size: texts of 64 tokens scored at once, over all devices; more of shorter ones.
    bad_rows: what an unreadable row does: 'error' or 'skip' (counted).

  Raises:
    ConfigError: a path that cannot be read or written.
    InputError: bad rows, or a model that cannot be loaded.
  """
  check_output(output, source)
  rows, _ = rows_lib.read_rows(source, fields=(field,), bad_rows=bad_rows)
  compilation_cache.use()
  scorer = api.load_scorer(
    model, batch_size, progress=functools.partial(terminal.bar, label='score', unit='chunk')
  )
  check_names(rows, scorer([]), source)
  _write(output, with_columns(rows, scorer([row[field] for row in rows]), source))


def generate(
  model: str,
  source: str,
  output: str,
  field: str,
  sampling: Sampling,
  seed: int = 0,
  bad_rows: str = 'error',
) -> None:
  """Writes the rows of a file with a language model's `completion` behind their fields.

  Args:
    model: a hub id, `id@revision`, or a folder.
    source: the file to read.
    output: the .jsonl file to write.
    field: the field that is completed; '': prompt, or text in a row that has no prompt.
    sampling: how.
    seed: the same seed gives the same completions.
    bad_rows: what an unreadable row does: 'error' or 'skip' (counted).

  Raises:
    ConfigError: a path that cannot be read or written, or no room for a prompt.
    InputError: bad rows, or a model that cannot be loaded.
  """
  check_output(output, source)
  fields = (field,) if field else ('prompt', 'text')
  rows, _ = rows_lib.read_rows(source, fields=fields, bad_rows=bad_rows)
  check_names(rows, ['completion'], source)
  compilation_cache.use()
  completions = api.generate(
    model,
    [rows_lib.text_of(row, fields) for row in rows],
    sampling,
    seed,
    progress=functools.partial(terminal.bar, label='generate'),
  )
  _write(output, with_columns(rows, {'completion': completions}, source))


def check_output(output: str | os.PathLike, source: str | os.PathLike) -> None:
  """Makes the output's folder and tries to write there, before any work is done.

  Raises:
    ConfigError: not a .jsonl file, the input itself, or not writable.
  """
  path = pathlib.Path(output)
  if path.suffix != '.jsonl' or path.is_dir():
    raise ConfigError(f'--output={output}: must be the name of a .jsonl file')
  if path.exists() and os.path.exists(source) and path.samefile(source):
    raise ConfigError(f'--output={output}: is the input itself; give another name')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()
  except OSError as error:
    raise ConfigError(
      f'--output={output}: {path.parent} cannot be written: {error.strerror}'
    ) from error


def check_names(rows: Sequence[Row], names: Iterable[str], source: str) -> None:
  """Finds a clash of names before it costs the work.

  Raises:
    InputError: a row already has a field of one of these names, which would be lost.
  """
  for name in names:
    if any(name in row for row in rows):
      raise InputError(
        f'{source}: has a field {name!r} already, which would be overwritten; rename it'
      )


def with_columns(
  rows: Sequence[Row], columns: Mapping[str, Sequence[Any]], source: str
) -> list[Row]:
  """New rows: the fields of each, and behind them its value of every column, as JSON holds them.

  Raises:
    InputError: a score is not finite.
  """
  for name, values in columns.items():
    if len(values) and not np.all(np.isfinite(values) if isinstance(values, np.ndarray) else True):
      raise InputError(
        f'{source}: the model gives a {name} that is not finite; its weights are damaged'
      )
  columns = {
    name: values.tolist() if isinstance(values, np.ndarray) else values
    for name, values in columns.items()
  }
  return [
    row | {name: values[index] for name, values in columns.items()}
    for index, row in enumerate(rows)
  ]


def _write(output: str, rows: Sequence[Row]) -> None:
  rows_lib.write_jsonl(output, rows)
  print(terminal.printable(f'{output}: {len(rows)} rows'))
