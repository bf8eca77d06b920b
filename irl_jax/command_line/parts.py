"""A job of a command: the rows of a source, written with a model's results in parts.

The input is read twice: first to find its errors, then to work, in parts of a fixed number of rows.
Each finished part is written, so that an interrupted call continues. Parts begin at the same rows
whether a call was interrupted or not, so the output is the same.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import itertools
import pathlib
from typing import Any

from irl_jax.api import loaded
from irl_jax.command_line import output_rows
from irl_jax.command_line import partial_output
from irl_jax.data import rows as rows_lib
from irl_jax.data import sources
from irl_jax.data.row_values import Layout
from irl_jax.data.row_values import RowSource
from irl_jax.errors import InputError
from irl_jax.runtime import compilation_cache
from irl_jax.runtime import exhaustion
from irl_jax.runtime import interruption
from irl_jax.runtime import terminal
from irl_jax.version import __version__

Row = output_rows.Row
Columns = output_rows.Columns
Progress = Callable[[Iterable[Any]], Iterable[Any]]
# (what was read from some rows; the number of such rows before these) -> their results
Results = Callable[[list[Any], int], Columns]


@dataclasses.dataclass(frozen=True)
class Job:
  """The input, the output, and the number of rows per part."""

  command: str
  source: str  # as `sources.find` takes it
  output: str
  read: Callable[[Row], Any]  # what the model needs of a row; raises BadRow
  used: Collection[str]  # the fields that it may read
  part: int
  layout: Layout
  split: str
  bad_rows: str


def write(
  job: Job,
  model: str,
  settings: Mapping[str, Any],
  load: Callable[[Progress], tuple[Results, Columns]],
) -> None:
  """Writes the rows of a source with a model's results, from where an earlier call stopped.

  Args:
    job: the source and the output.
    model: the model that gives the results.
    settings: the settings that the results depend on, by flag name.
    load: returns the function that computes results, and its result for an empty list.

  Raises:
    ConfigError: a path cannot be read or written, or another call's rows are in the way.
    InputError: the rows are bad, or the model cannot be loaded.
    CheckpointError: the disk is full.
    Interrupted: SIGTERM or SIGINT came; the finished parts, if any, are kept.
  """
  output_rows.check_output(job.output, job.source)
  output = pathlib.Path(job.output)
  if output.is_symlink():  # the file behind a link is written, and the link stays
    output = output.resolve()
    output_rows.check_output(output, job.source)
  partial: partial_output.PartialOutput | None = None
  are_kept = partial_output.path_of(output).exists  # rows of this call or of an earlier one
  with interruption.handled(), exhaustion.disk_explained(output, are_kept):
    try:
      source = sources.find(job.source, job.split, job.used, job.layout)
      survey = rows_lib.survey(source.read(False), job.source, job.bad_rows, job.read)
      call = {
        'command': job.command,
        'irl_jax': __version__,
        '--model': loaded.fingerprint(model),
        job.layout.named('source'): source.fingerprint(),
        '--split': job.split,
        '--encoding': job.layout.encoding,
        '--delimiter': job.layout.delimiter,
        **settings,
      }
      with partial_output.opened(output, call, job.part) as partial:
        compilation_cache.use()
        _append_parts(job, source, survey, partial, load)
        partial.finish()
    except interruption.Interrupted as error:
      saved = 'progress is saved' if are_kept() else ''
      if partial and partial.kept:
        saved = f'{partial.kept} of {terminal.count(survey.rows, "row")} are kept in {partial.path}'
      raise interruption.Interrupted(error.signum, saved) from None
  print(terminal.printable(f'{job.output}: {terminal.count(survey.rows, "row")}'))


def _append_parts(
  job: Job,
  source: RowSource,
  survey: rows_lib.Survey,
  partial: partial_output.PartialOutput,
  load: Callable[[Progress], tuple[Results, Columns]],
) -> None:
  """Appends the parts that are not there yet."""
  bar = functools.partial(terminal.bar, label=job.command)
  one_part = survey.rows <= job.part
  results, names = load(functools.partial(bar, unit='chunk') if one_part else iter)
  output_rows.check_names(survey, names, job.source)
  rows = rows_lib.examined(source.read(True), job.read)
  done = sum(not row.problem for row in itertools.islice(rows, partial.kept))
  parts: Iterable[list[rows_lib.Examined]] = _parts(rows, job.part)
  if not one_part:
    left = -(-(survey.rows - partial.kept) // job.part)
    parts = bar(parts, unit=f'{job.part} rows', total=left)
  for part in parts:
    texts = [row.value for row in part if not row.problem]
    partial.append(
      output_rows.with_columns(part, results(texts, done) if texts else names, job.source)
    )
    done += len(texts)
  if (partial.kept, partial.kept - done) != (survey.rows, survey.bad):
    partial.discard()
    raise InputError(
      f'{job.source}: changed while it was being read, so nothing is kept; run the same command '
      'again when it is complete'
    )


def _parts(rows: Iterator[rows_lib.Examined], size: int) -> Iterator[list[rows_lib.Examined]]:
  """Yields lists of `size` rows; the last may be shorter."""
  while part := list(itertools.islice(rows, size)):
    yield part
