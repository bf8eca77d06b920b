"""A file of JSON lines that is written part by part, and continued after an interruption.

OUTPUT.partial has the rows of the finished parts, and OUTPUT.partial.json describes the call that
wrote them. OUTPUT itself appears once it is complete.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import fcntl
import json
import os
import pathlib
from typing import Any
from typing import BinaryIO

from irl_jax.data import rows as rows_lib
from irl_jax.errors import ConfigError
from irl_jax.runtime import atomic

BLOCK = 2**20  # bytes that are read at once


class PartialOutput:
  """The rows of the finished parts, in a file that is open and locked."""

  def __init__(self, output: pathlib.Path, call: Mapping[str, Any], file: BinaryIO) -> None:
    self.path = path_of(output)
    self.kept = 0  # rows that are on the disk
    self._output = output
    self._file = file
    self._call = json.loads(json.dumps(call))

  def resume(self, part: int) -> None:
    """Keeps the rows of the whole parts, of `part` rows each, and drops what follows them.

    Raises:
      ConfigError: the rows are those of another call.
    """
    self.kept, size = _whole_parts(self._file, part)
    description = described(self._output)
    if self.kept and (other := _differing(description, self._call)):
      raise ConfigError(
        f'--output={self._output}: {self.path.name} contains the first {self.kept} rows of {other}'
      )
    self._file.truncate(size)
    atomic.write(description, json.dumps(self._call, indent=2).encode())

  def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes the rows of one part to the disk.

    Raises:
      ValueError: a value is NaN or infinite.
    """
    lines = list(map(rows_lib.json_line, rows))
    self._file.write(b''.join(lines))
    self._file.flush()
    os.fsync(self._file.fileno())
    self.kept += len(lines)

  def discard(self) -> None:
    """Drops all rows, because they do not belong to the input."""
    self._file.truncate(0)
    self.kept = 0

  def finish(self) -> None:
    """Renames the complete file to its final name."""
    os.replace(self.path, self._output)
    described(self._output).unlink(missing_ok=True)


@contextlib.contextmanager
def opened(
  output: str | os.PathLike[str], call: Mapping[str, Any], part: int
) -> Iterator[PartialOutput]:
  """Opens the partial file of an output; if no row is kept at the end, it is removed.

  Args:
    output: the file that appears in the end.
    call: everything that the rows depend on, in JSON's types. Other calls' rows are not continued.
    part: the number of rows per part. Whole parts are kept, and the rest is dropped.

  Raises:
    ConfigError: another process writes the same output, or there are rows of another call.
  """
  output = pathlib.Path(output)
  if path_of(output).exists() and not path_of(output).is_file():
    raise ConfigError(
      f'--output={output}: {path_of(output).name} exists but is not a regular file; remove it, or '
      'give another name'
    )
  with path_of(output).open('a+b') as file:
    _lock(file, output)
    partial = PartialOutput(output, call, file)
    partial.resume(part)
    try:
      yield partial
    finally:
      if not partial.kept:
        path_of(output).unlink(missing_ok=True)
        described(output).unlink(missing_ok=True)


def path_of(output: pathlib.Path) -> pathlib.Path:
  """Returns the partial file of an output; between calls it exists if rows are kept."""
  return output.with_name(f'{output.name}.partial')


def described(output: pathlib.Path) -> pathlib.Path:
  """Returns the file that describes the call that wrote an output's partial file."""
  return output.with_name(f'{output.name}.partial.json')


def _lock(file: BinaryIO, output: pathlib.Path) -> None:
  """Keeps other processes out; the lock is the kernel's and ends with the process."""
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    raise ConfigError(
      f'--output={output}: another process is writing it. Wait until it ends, or give another name'
    ) from None


def _differing(description: pathlib.Path, call: Mapping[str, Any]) -> str:
  """Says which call wrote the rows, and what to do, if it is another one than this; else ''."""
  try:
    saved = dict(json.loads(description.read_text(encoding='utf-8')))
  except (OSError, ValueError, TypeError):
    state = 'damaged' if description.exists() else 'missing'
    return (
      f'an unknown call ({description.name}, which describes it, is {state}). Delete '
      f'{description.stem} to start over, or give another --output'
    )
  other = [name for name in {**saved, **call} if saved.get(name) != call.get(name)]
  if not other:
    return ''
  return (
    f'another call (another {", ".join(other)}). Give that call again to continue it, delete the '
    'file to start over, or give another --output'
  )


def _whole_parts(file: BinaryIO, part: int) -> tuple[int, int]:
  """Returns the rows and the bytes of a file's whole parts."""
  rows, size, whole, start = 0, 0, 0, 0
  file.seek(0)
  while block := file.read(BLOCK):
    for line in block.splitlines(keepends=True):
      start += len(line)
      if line.endswith(b'\n'):
        rows += 1
        if rows % part == 0:
          whole, size = rows, start
  return whole, size
