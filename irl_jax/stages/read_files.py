"""The files that a run reads: their sizes and sha256 sums, by stage, in the run's read_files.json.

A path tells where an input was, not what was in it. A stage that is finished, or has begun to
write, is bound to the files that it read: if they have changed, its results belong to other files.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import hashlib
import os
import pathlib
from typing import Any

from irl_jax import errors
from irl_jax.models.huggingface import weight_files
from irl_jax.runtime import workdir
from irl_jax.runtime.records import ReadFile
from irl_jax.stages import preflight
from irl_jax.stages.run import Run

NAME = 'read_files.json'
FIELDS = {'base': 'base', 'start': 'sft', 'aligned': 'aligned', 'classifier': 'classifier'}
SMALL = ('.json', '.txt', '.model')  # next to the weights: config, tokenizer
Files = dict[str, list[dict[str, Any]]]  # of each input, named after its config field


def update(run: Run, stages: Sequence[str], bound: Sequence[str]) -> None:
  """Records the files that the stages read, after comparing them with those of bound stages.

  Args:
    run: its config and folder are used.
    stages: the stages that are about to run.
    bound: the stages that are finished or have begun to write.

  Raises:
    ConfigError: an input has changed since a bound stage read it.
  """
  path = run.folder / NAME
  saved: dict[str, Files] = workdir.read_json(path) if path.exists() else {}
  known = {file['path']: file for files in saved.values() for file in flat(files)}
  now = {}
  for stage in {*saved, *stages}:
    now[stage] = {
      name: [described(file, known) for file in files]
      for name, files in inputs_of(run, stage).items()
    }
  for stage in bound:
    for name, files in saved.get(stage, {}).items():
      # An input that is gone cannot mislead: a stage that still needs it says so.
      if now.get(stage, {}).get(name) and (changed := difference(files, now[stage][name])):
        raise errors.ConfigError(
          f'--workdir={run.folder}: {name} has changed since the stage {stage} read it: '
          f'{"; ".join(changed)}. Restore it, or use a different --workdir'
        )
  for stage in stages:
    if stage not in bound:
      saved[stage] = now[stage]
  if saved := {stage: files for stage, files in saved.items() if files}:
    workdir.write_json(path, saved)


def summary(run: Run) -> dict[str, list[ReadFile]]:
  """Returns name, size and sha256 of the files of each input, without paths; {} if unknown."""
  path = run.folder / NAME
  saved: dict[str, Files] = workdir.read_json(path) if path.exists() else {}
  merged = {name: files for stage in saved.values() for name, files in stage.items()}
  return {
    name: [{'name': file['name'], 'size': file['size'], 'sha256': file['sha256']} for file in files]
    for name, files in sorted(merged.items())
  }


def flat(files: Files) -> Iterator[dict[str, Any]]:
  """Yields the files of all inputs."""
  for part in files.values():
    yield from part


def difference(there: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[str]:
  """Describes each file that differs, by its name."""
  before, after = ({file['name']: file for file in files} for files in (there, now))
  changes = []
  for name in sorted({*before, *after}):
    if name not in before or name not in after:
      changes.append(f'{name} is {"new" if name in after else "gone"}')
    elif before[name]['sha256'] != after[name]['sha256']:
      sizes = ' bytes there, '.join(str(files[name]['size']) for files in (before, after))
      changes.append(f'{name} ({sizes} bytes now, other sha256)')
  return changes


def described(path: pathlib.Path, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Returns a file's name, path, size, time and sha256; a known file of this time is not read."""
  stat = path.stat()
  found = known.get(str(path))
  if found and (found['size'], found['mtime_ns']) == (stat.st_size, stat.st_mtime_ns):
    return found
  with path.open('rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  return {
    'name': path.name,
    'path': str(path),
    'size': stat.st_size,
    'mtime_ns': stat.st_mtime_ns,
    'sha256': digest,
  }


def inputs_of(run: Run, stage: str) -> dict[str, list[pathlib.Path]]:
  """Returns the local files that a stage reads from outside the run's folder, by config field.

  Files on the hub are left out: a revision names them.
  """
  inputs = {}
  if stage == 'data':
    for name in ('source', 'unlabelled'):
      inputs[f'config.data.{name}'] = source_files(getattr(run.config.data, name))
  for role in preflight.roles(run, [stage]):
    field = FIELDS[role] if getattr(run.config.models, FIELDS[role]) else 'base'
    if role in ('base', 'start') or field != 'base':
      inputs[f'config.models.{field}'] = model_files(getattr(run.config.models, field))
  return {name: [path.absolute() for path in paths] for name, paths in inputs.items() if paths}


def source_files(source: str) -> list[pathlib.Path]:
  """Returns the files of a data source; [] if it is not a local file or folder."""
  for place in (source, source.partition(':')[2]):
    path = pathlib.Path(os.path.expanduser(place))
    if place and path.is_file():
      return [path]
    if place and path.is_dir():
      files = (file for file in path.rglob('*') if file.is_file())
      return sorted(
        file for file in files if not any(p.startswith('.') for p in file.relative_to(path).parts)
      )
  return []


def model_files(spec: str) -> list[pathlib.Path]:
  """Returns the weights of a model's folder, its config and its tokenizer; [] of a hub model."""
  folder = pathlib.Path(os.path.expanduser(spec))
  if not spec or not folder.is_dir():
    return []
  small = (path for path in folder.iterdir() if path.is_file() and path.suffix in SMALL)
  try:
    return sorted({*small, *weight_files.find_files(folder)})
  except errors.InputError:  # its stage says what is missing
    return []
