"""Scores or completes the rows of a file: what the commands `score` and `generate` do."""

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
  """Writes the rows of a file, each followed by a model's scores (`api.load_scorer`).

  Args:
    model: a hub id, `id@revision`, or a folder.
    source: the file to read.
    output: the .jsonl file to write.
    field: the field to score.
    batch_size: texts of 64 tokens to score at once, over all devices; more if they are shorter.
    bad_rows: what to do with an unreadable row: 'error' or 'skip' (they are counted).

  Raises:
    ConfigError: a path cannot be read or written.
    InputError: the rows are bad, or the model cannot be loaded.
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
  """Writes the rows of a file, each followed by a language model's `completion`.

  Args:
    model: a hub id, `id@revision`, or a folder.
    source: the file to read.
    output: the .jsonl file to write.
    field: the field to complete; '': prompt, or text in a row that has no prompt.
    sampling: length, truncation, temperature and batch size.
    seed: the same seed gives the same completions.
    bad_rows: what to do with an unreadable row: 'error' or 'skip' (they are counted).

  Raises:
    ConfigError: a path cannot be read or written, or max_new_tokens leaves no room for a prompt.
    InputError: the rows are bad, or the model cannot be loaded.
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


def check_output(output: str | os.PathLike[str], source: str | os.PathLike[str]) -> None:
  """Creates the output's folder and tries to write there, before any work is done.

  Raises:
    ConfigError: the output is no .jsonl file, is the input itself, or cannot be written.
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
  """Refuses rows that already have a field of one of these names, before any work is done.

  Raises:
    InputError: names the field, which would be overwritten.
  """
  for name in names:
    if any(name in row for row in rows):
      raise InputError(
        f'{source}: has a field {name!r} already, which would be overwritten; rename it'
      )


def with_columns(
  rows: Sequence[Row], columns: Mapping[str, Sequence[Any] | np.ndarray], source: str
) -> list[Row]:
  """Returns new rows: the fields of each, followed by its value of every column, as JSON types.

  Raises:
    InputError: a score is not finite.
  """
  for name, values in columns.items():
    if isinstance(values, np.ndarray) and not np.isfinite(values).all():
      raise InputError(f'{source}: the model gives a non-finite {name}; its weights are damaged')
  plain = {
    name: values.tolist() if isinstance(values, np.ndarray) else values
    for name, values in columns.items()
  }
  return [
    row | {name: values[index] for name, values in plain.items()} for index, row in enumerate(rows)
  ]


def _write(output: str, rows: Sequence[Row]) -> None:
  rows_lib.write_jsonl(output, rows)
  print(terminal.printable(f'{output}: {len(rows)} rows'))
