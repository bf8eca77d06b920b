"""The rows that commands write, the results next to them, and the checks of file and fields."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import errno
import json
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from irl_jax.command_line import partial_output
from irl_jax.data import rows as rows_lib
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.errors import unwritable
from irl_jax.runtime import atomic
from irl_jax.runtime import terminal

Row = dict[str, Any]
Columns = Mapping[str, Sequence[Any] | np.ndarray]

WHY = 'why'  # the field that says why a row has no results


def check_output(output: str | os.PathLike[str], source: str | os.PathLike[str]) -> None:
  """Creates the output's folder and tries to write there, before any work is done.

  Raises:
    ConfigError: the output is not a .jsonl file, is the input itself or in its folder, or cannot be
      written.
    CheckpointError: the disk is full.
  """
  path = pathlib.Path(output)
  if path.suffix != '.jsonl' or os.path.isdir(path):
    raise ConfigError(f'--output={output}: must be the name of a .jsonl file')
  if os.path.exists(path) and not os.path.isfile(path):
    raise ConfigError(f'--output={output}: is a pipe or device, not a file; give another name')
  _check_length(path)
  given = pathlib.Path(os.fspath(source).partition(':')[2] or source)
  for place in (pathlib.Path(source), given):
    if path.exists() and place.exists() and path.samefile(place):
      raise ConfigError(f'--output={output}: is the input itself; give another name')
    if place.is_dir() and place.resolve() in path.resolve().parents:
      raise ConfigError(f'--output={output}: is in the folder of the input; give another folder')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()
  except OSError as error:
    raise unwritable(f'--output={output}: {path.parent} cannot be written', error) from error


def _check_length(output: pathlib.Path) -> None:
  """Refuses a name that is too long with the endings of temporary files, the longest of all."""
  longest = f'.{partial_output.described(output).name}.9999999.tmp'
  try:
    os.lstat(output.with_name(longest))
  except OSError as error:
    if error.errno == errno.ENAMETOOLONG:
      raise unwritable(f'--output={output}: cannot be written', error) from error


def check_names(survey: rows_lib.Survey, names: Iterable[str], source: str) -> None:
  """Refuses rows that already have a field of one of these names, before any work is done.

  Raises:
    InputError: names the field, which would be overwritten.
  """
  for name in [*names, *[WHY] * bool(survey.bad)]:
    if name in survey.fields:
      raise InputError(
        f'{source}: already has a field {name!r}, which would be overwritten; rename the field'
      )


def with_columns(rows: Sequence[rows_lib.Examined], columns: Columns, source: str) -> list[Row]:
  """Returns new rows: each row's fields, followed by its value in every column, as JSON types.

  Args:
    rows: usable and unusable rows. An unusable row gets null in every column, and the reason in
      WHY.
    columns: one value for each usable row.
    source: its name in messages.

  Raises:
    InputError: a score is not finite.
  """
  values_of = [iter(as_json(values, name, source)) for name, values in columns.items()]
  return [
    one.row | dict.fromkeys(columns) | {WHY: one.problem}
    if one.problem
    else one.row | {name: next(values) for name, values in zip(columns, values_of)}
    for one in rows
  ]


def as_json(values: Sequence[Any] | np.ndarray, name: str, source: str) -> Sequence[Any]:
  """Returns the values of a column as JSON types.

  Raises:
    InputError: a score is not finite.
  """
  if not isinstance(values, np.ndarray):
    return values
  if not np.isfinite(values).all():
    raise InputError(f'{source}: the model gives a non-finite {name}; its weights are damaged')
  return values.tolist()


def write_summary(output: str, results: Mapping[str, Any]) -> None:
  """Writes results over all rows next to the file of rows, as NAME.summary.json, and says so.

  Raises:
    ConfigError: the file cannot be written.
    CheckpointError: the disk is full.
  """
  path = pathlib.Path(output).with_suffix('.summary.json')
  try:
    atomic.write(path, json.dumps(results, indent=2, allow_nan=False).encode())
  except OSError as error:
    raise unwritable(f'{path}: cannot be written', error) from error
  print(terminal.printable(f'{path}: the results'))
