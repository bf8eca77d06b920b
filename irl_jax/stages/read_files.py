"""The files that a run reads: their sizes and sha256 sums, by stage, in the run's read_files.json.

A path or repository name says where an input was, not what it contained. A stage that has finished
or begun to write is bound to the files that it read: if they change, its results no longer belong
to the inputs. A hub repository is identified by its commit and by the files that the cache
contains.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import hashlib
import os
import pathlib
from typing import Any

from irl_jax import errors
from irl_jax.data import sources
from irl_jax.models import pretrained
from irl_jax.models.huggingface import adapter
from irl_jax.models.huggingface import hub
from irl_jax.models.huggingface import weight_files
from irl_jax.runtime import workdir
from irl_jax.runtime.records import ReadFile
from irl_jax.stages import preflight
from irl_jax.stages.run import Run

NAME = 'read_files.json'
FIELDS = {role: role for role in ('base', 'aligned', 'classifier', 'judge')} | {'start': 'sft'}
SHOWN = 12  # characters of a commit
SMALL = ('.json', '.txt', '.model')  # next to the weights: config, tokenizer
Files = dict[str, list[dict[str, Any]]]  # of each input, named after its config field
HUB = ('repository', 'commit')  # fields that only files from the hub have


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
      name: [described(file, known) | marks for file, marks in files]
      for name, files in inputs_of(run, stage).items()
    }
    # Several stages read one model, whose files are then read once.
    known |= {file['path']: file for files in now[stage].values() for file in files}
  for stage in bound:
    for name, files in saved.get(stage, {}).items():
      # A deleted input does no harm: a stage that still needs it reports that.
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


def record(run: Run, stage: str) -> None:
  """Adds the files that a stage downloaded; the cache may lack them when the stage starts."""
  path = run.folder / NAME
  saved: dict[str, Files] = workdir.read_json(path) if path.exists() else {}
  known = {file['path']: file for files in saved.values() for file in flat(files)}
  for name, files in inputs_of(run, stage).items():
    now = [described(file, known) | marks for file, marks in files if 'commit' in marks]
    before = saved.get(stage, {}).get(name, [])
    if now and commits(before) in ({None}, set(), commits(now)):
      saved.setdefault(stage, {})[name] = now
  if saved:
    workdir.write_json(path, saved)


def summary(run: Run) -> dict[str, list[ReadFile]]:
  """Returns name, size and sha256 of the files of each input, without paths; {} if unknown.

  Files of the hub have their repository and its commit, too.
  """
  path = run.folder / NAME
  saved: dict[str, Files] = workdir.read_json(path) if path.exists() else {}
  merged = {
    name: files
    for stage in saved.values()
    for name, files in stage.items()
    if 'config.' in name  # not a folder of the run itself
  }
  return {name: [_without_path(file) for file in files] for name, files in sorted(merged.items())}


def _without_path(file: dict[str, Any]) -> ReadFile:
  read = ReadFile(name=file['name'], size=file['size'], sha256=file['sha256'])
  if 'commit' in file:
    read['repository'], read['commit'] = file['repository'], file['commit']
  return read


def commits(files: Sequence[dict[str, Any]]) -> set[str | None]:
  """Returns the commits of files of the hub; {None} for local ones."""
  return {file.get('commit') for file in files}


def flat(files: Files) -> Iterator[dict[str, Any]]:
  """Yields the files of all inputs."""
  for part in files.values():
    yield from part


def difference(there: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[str]:
  """Describes each file that differs, by its name, or the commits of a repository."""
  before, after = ({file['name']: file for file in files} for files in (there, now))
  changes = []
  if commits(there) != commits(now):
    old, new = (files[0].get('commit', 'none')[:SHOWN] for files in (there, now))
    return [f'{now[0].get("repository", "it")} (commit {old} there, {new} now)']
  if commits(now) != {None}:  # the cache may hold more or fewer files of the same commit
    before, after = (
      {name: part[name] for name in {*before} & {*after}} for part in (before, after)
    )
  for name in sorted({*before, *after}):
    if name not in before or name not in after:
      changes.append(f'{name} is {"new" if name in after else "gone"}')
    elif before[name]['sha256'] != after[name]['sha256']:
      sizes = ' bytes there, '.join(str(files[name]['size']) for files in (before, after))
      changes.append(f'{name} ({sizes} bytes now, other sha256)')
  return changes


def described(path: pathlib.Path, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Returns a file's name, path, size, time and sha256; a file known with this time is not read."""
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


def inputs_of(run: Run, stage: str) -> dict[str, list[tuple[pathlib.Path, dict[str, str]]]]:
  """Returns the files that a stage reads from outside the run's folder, by config field.

  Each comes with its name, and those of the hub with HUB. Of a repository of the hub, the files are
  those that the cache holds.
  """
  inputs = {}
  if stage == 'data':
    for name in ('source', 'unlabelled'):
      source = getattr(run.config.data, name)
      inputs[f'config.data.{name}'] = _marked(source_files(source), sources.cached(source))
  for role in preflight.roles(run, [stage]):
    field = FIELDS[role] if getattr(run.config.models, FIELDS[role]) else 'base'
    if role in ('base', 'start') or field != 'base':
      spec = getattr(run.config.models, field)
      for name, part in (('', adapter.split(spec)[0]), ('base of ', adapters_base(spec))):
        inputs[f'{name}config.models.{field}'] = _marked(model_files(part), hub.cached(part))
  if stage == 'rerlhf' and run.config.models.recovered:
    paths = [path for place in run.recovered for path in model_files(place)]
    inputs['config.models.recovered'] = _marked(paths, hub.cached(run.config.models.recovered))
  return {name: files for name, files in inputs.items() if files}


def _marked(
  paths: Sequence[pathlib.Path], snapshot: pathlib.Path | None
) -> list[tuple[pathlib.Path, dict[str, str]]]:
  """Returns absolute paths, each with its name, and repository and commit if it is of the hub."""
  marks: dict[str, str] = {}
  if snapshot:
    repository = snapshot.parents[1].name.partition('--')[2].replace('--', '/')
    marks = dict(zip(HUB, (repository, snapshot.name)))
  folder = os.path.commonpath([path.parent for path in paths]) if paths else ''
  return [
    (path.absolute(), {'name': path.relative_to(folder).as_posix(), **marks}) for path in paths
  ]


def source_files(source: str) -> list[pathlib.Path]:
  """Returns the files of a data source; [] if it is neither local nor in the hub's cache."""
  if snapshot := sources.cached(source):
    return sorted(path for path in snapshot.rglob('*') if path.is_file())
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
  """Returns the weights of a model or adapter, its config and tokenizer; [] without its files."""
  snapshot = hub.cached(spec)
  folder = snapshot or pathlib.Path(os.path.expanduser(spec))
  if not spec or not folder.is_dir():
    return []
  small = {path for path in folder.iterdir() if path.is_file() and path.suffix in SMALL}
  try:
    if (folder / weight_files.ADAPTER).is_file():
      return sorted({*small, weight_files.adapter_file(folder)})
    return sorted({*small, *weight_files.find_files(folder)})
  except errors.InputError:  # its stage says what is missing, or downloads it
    return sorted(small) if snapshot else []


def adapters_base(spec: str) -> str:
  """Returns the base of an adapter whose files are here; '' of a whole model."""
  place, base = adapter.split(spec)
  folder = hub.cached(place) or pathlib.Path(os.path.expanduser(place))
  if base or not place or not folder.is_dir():
    return base
  try:
    return pretrained.base_of(str(folder))
  except (errors.ConfigError, errors.InputError):  # its stage says what is wrong
    return ''
