"""Atomic writes: files and folders appear completely or not at all, even if a process is killed.

Both are written under a temporary name in the same folder and renamed once they are complete.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
from typing import Any
from typing import IO


@contextlib.contextmanager
def file(path: str | os.PathLike, mode: str = 'w', **options: Any) -> Iterator[IO[Any]]:
  """Opens a temporary file, and renames it to `path` when the block ends without an error.

  The content is on the disk before the rename, so that no crash leaves an empty file of that name.

  Args:
    path: the file to write or replace.
    mode: 'w' or 'wb'.
    **options: options of `open`; text is UTF-8 by default.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  if 'b' not in mode:
    options = {'encoding': 'utf-8'} | options
  try:
    with open(temporary, mode, **options) as opened:
      yield opened
      opened.flush()
      os.fsync(opened.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file of these bytes, as `file` does."""
  with file(path, 'wb') as opened:
    opened.write(content)


@contextlib.contextmanager
def folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a new folder PATH.partial; renames it to `path` when the block ends without an error.

  A folder cannot be replaced in one step. An older one is first renamed to PATH.replaced, and
  deleted last.
  """
  path = pathlib.Path(path)
  partial, replaced = (path.with_name(f'{path.name}.{end}') for end in ('partial', 'replaced'))
  for leftover in (partial, replaced):
    shutil.rmtree(leftover, ignore_errors=True)
  partial.mkdir(parents=True)
  yield partial
  if path.exists():
    path.rename(replaced)
  partial.rename(path)
  shutil.rmtree(replaced, ignore_errors=True)
