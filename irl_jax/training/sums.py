"""sha256 sums of a folder's files: written into it when it is whole, and held against it before it is read.

A flipped bit raises no error in Orbax, and a folder that was cut short can look like a whole one.
"""

import hashlib
import pathlib

from irl_jax.runtime import workdir

NAME = 'sums.json'
# What Orbax writes after it has called us; nothing is restored from these.
BOOKKEEPING = ('_CHECKPOINT_METADATA', 'commit_success.txt')


def write(folder: pathlib.Path) -> None:
  """Writes sums.json: the sum of every file below the folder, by its name there."""
  names = sorted(
    path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()
  )
  workdir.write_json(
    folder / NAME, {name: of_file(folder / name) for name in names if name not in BOOKKEEPING}
  )


def of_file(path: pathlib.Path) -> str:
  """The sha256 sum of a file's bytes, in hexadecimal."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def fault(folder: pathlib.Path) -> str:
  """What is wrong with the folder, in a few words; '' where every file is as it was when the sums were written."""
  try:
    expected = dict(workdir.read_json(folder / NAME))
  except FileNotFoundError:
    return f'it has no {NAME}, so it was never whole'
  except (OSError, ValueError, TypeError):
    return f'its {NAME} is damaged'
  for name, digest in expected.items():
    try:
      found = of_file(folder / name)
    except OSError as error:
      return f'{name}: {error.strerror}'
    if found != digest:
      return f'the sha256 sum of {name} is not the one that was written'
  return ''
