"""The files of a run's folder that later stages read, recorded in read_files.json and compared.

A stage records what it reads before it starts, and what it wrote for later stages once it has
finished. If such a file is changed by hand, or written again with another content, the results of
the stages that read it no longer belong to it. Folders of older versions lack these records, and
are not compared.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import pathlib
from typing import Any

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import rewards
from irl_jax.runtime import workdir
from irl_jax.stages import preflight
from irl_jax.stages import read_files
from irl_jax.stages.run import Run

# What later stages read, by the stage that writes it, in the order of the stages.
WRITTEN = {
  'data': 'data',
  'sft': 'sft/policy',
  'classifier': 'classifier/classifier',
  'rlhf': 'rlhf/policy',
  'demos': 'demos',
  'irl': 'irl',
}
ROWS = ('data', 'demos')
# The stages that write the rows and rewards that each stage reads; of models, preflight knows.
READS = {
  'sft': ('data',),
  'classifier': ('data',),
  'rlhf': ('data',),
  'demos': ('data',),
  'irl': ('data', 'demos'),
  'evaluate': ('data', 'demos', 'irl'),
  'rerlhf': ('data', 'irl'),
}


def check(run: Run, stages: Sequence[str]) -> None:
  """Compares the files that finished or resumed stages read and wrote with those that are there.

  Raises:
    ConfigError: one has changed. Those that are gone are not compared: their stage writes them
      again, and a stage that needs them says that they are missing.
  """
  saved = _saved(run)
  for stage in stages:
    for writer, group in WRITTEN.items():
      there = saved.get(stage, {}).get(group, [])
      now = described(run, writer, there) if there else []
      there = [file for file in there if file['name'] in {file['name'] for file in now}]
      if there and (changed := read_files.difference(there, now)):
        did = 'wrote' if writer == stage else 'read'
        raise errors.ConfigError(
          f'--workdir={run.folder}: {run.folder / group} has changed since the stage {stage} {did} '
          f'it: {"; ".join(changed)}. Restore it, or use a different --workdir'
        )


def record_read(run: Run, stage: str) -> None:
  """Records the files of the folder that a stage is about to read.

  What it wrote in an earlier attempt counts no more: it is about to write it again.
  """
  _record(run, stage, [writer for writer in WRITTEN if writer in writers(run, stage)])


def record_written(run: Run, stage: str) -> None:
  """Records the files that a finished stage has written for later ones."""
  _record(run, stage, [stage] if stage in WRITTEN else [])


def _record(run: Run, stage: str, of: Sequence[str]) -> None:
  saved = _saved(run)
  known = [file for files in saved.values() for file in read_files.flat(files)]
  groups = {WRITTEN[writer]: described(run, writer, known) for writer in of}
  before = saved.get(stage, {})
  after = before | {group: files for group, files in groups.items() if files}
  if stage not in of:
    after.pop(WRITTEN.get(stage, ''), None)
  if after != before:
    workdir.write_json(run.folder / read_files.NAME, saved | {stage: after})


def _saved(run: Run) -> dict[str, read_files.Files]:
  path = run.folder / read_files.NAME
  return workdir.read_json(path) if path.exists() else {}


def writers(run: Run, stage: str) -> set[str]:
  """Returns the stages whose output a stage reads; a model that the config names replaces one."""
  earlier = config_lib.STAGES[: config_lib.STAGES.index(stage)]
  makers = {
    preflight.MAKERS[role]
    for role in preflight.roles(run, [stage])
    if not getattr(run.config.models, 'sft' if role == 'start' else role)
  }
  reads = READS.get(stage, ())
  if stage == 'rerlhf' and run.config.models.recovered:
    reads = ('data',)
  return {*reads, *makers} & {*earlier}


def described(run: Run, writer: str, known: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns name, path, size, time and sha256 of what a stage has written; [] if there is nothing.

  Paths are relative to the run's folder, which may be moved. A known file with the same time is not
  read again.
  """
  by_path = {file['path']: file for file in known}
  files = []
  for path in paths(run.folder, writer):
    place = path.relative_to(run.folder).as_posix()
    before = {str(path): by_path[place]} if place in by_path else {}
    name = path.relative_to(run.folder / WRITTEN[writer]).as_posix()
    files.append(read_files.described(path, before) | {'name': name, 'path': place})
  return files


def paths(folder: pathlib.Path, writer: str) -> Iterator[pathlib.Path]:
  """Yields the files that a stage writes for later ones, and that exist."""
  place = folder / WRITTEN[writer]
  if writer in ROWS:
    yield from sorted(place.glob('*.jsonl'))
  elif writer == 'irl':
    for member in rewards.members_of(place) if (place / 'config.json').is_file() else []:
      yield from read_files.model_files(str(member))
  else:
    yield from read_files.model_files(str(place))
