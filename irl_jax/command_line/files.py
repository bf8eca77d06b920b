"""The work of the commands `score` and `generate`: scores or completes the rows of a file.

The input is read twice: first to find its errors, then to work, in parts of a fixed number of rows.
Each finished part is written, so that an interrupted call continues. Parts begin at the same rows
whether a call was interrupted or not, so the output is the same.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import itertools
import pathlib
from typing import Any

import numpy as np

from irl_jax import api
from irl_jax import loaded
from irl_jax.command_line import output_rows
from irl_jax.command_line import partial_output
from irl_jax.config import Sampling
from irl_jax.data import chat_rows
from irl_jax.data import rows as rows_lib
from irl_jax.data.row_values import Layout
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.evaluation import toxicity
from irl_jax.runtime import compilation_cache
from irl_jax.runtime import exhaustion
from irl_jax.runtime import interruption
from irl_jax.runtime import terminal
from irl_jax.version import __version__

Row = output_rows.Row
Columns = output_rows.Columns
Progress = Callable[[Iterable[Any]], Iterable[Any]]
# (texts, or pairs of prompt and text; their number before these) -> their results
Results = Callable[[list[Any], int], Columns]

SCORED = 4096  # rows of a part; texts of similar length are batched within it
# Prompts per part: fewer than for scoring, because completing takes longer, but at least BATCHES
# batches
COMPLETED = 1024
BATCHES = 8
PROMPTS = ('prompt', 'messages', 'conversations', 'text')  # fields to complete by default


@dataclasses.dataclass(frozen=True)
class Job:
  """The input, the output, and the number of rows per part."""

  source: str
  output: str
  fields: Sequence[str]
  bad_rows: str
  label: str  # of the progress bar
  part: int
  layout: Layout
  prompt_field: str = ''
  conversations: bool = False  # whether a field may have one, in place of a text
  all_fields: bool = False  # whether a row needs a text in each field, or in one of them

  def read(self, row: Row) -> Any:
    """Returns a row's text or conversation, its texts, or with a prompt field (prompt, text).

    Raises:
      BadRow: a field is missing, or has neither.
    """
    if self.conversations:
      return chat_rows.prompt_of(row, self.fields, '--field')
    if self.all_fields:
      return [rows_lib.text_of(row, (field,), '--field') for field in self.fields]
    text = rows_lib.text_of(row, self.fields, '--field')
    if not self.prompt_field:
      return text
    return rows_lib.text_of(row, (self.prompt_field,), '--prompt_field'), text


def score(
  model: str,
  source: str,
  output: str,
  field: str = 'text',
  batch_size: int = 32,
  bad_rows: str = 'error',
  label: str = '',
  layout: Layout = Layout(),
  reference: str = '',
  prompt_field: str = '',
) -> None:
  """Writes the rows of a file, each followed by a model's scores.

  They are those of `api.load_scorer`, or, with a reference, those of `api.load_log_ratio`.

  Args:
    model: a hub id, `id@revision`, or a folder.
    source: the file to read.
    output: the .jsonl file to write.
    field: the field to score; or several, by commas, such as chosen,rejected.
    batch_size: texts of 64 tokens to score at once, over all devices; more if they are shorter.
    bad_rows: what to do with an unreadable row: 'error' refuses the file; 'skip' writes the row
      with null in place of its scores, and why.
    label: the name or number of a classifier's toxic label; '': found by the labels' names.
    layout: encoding and delimiter of the file to read.
    reference: the language model that the model is compared with; '': none.
    prompt_field: with a reference, the field of the prompt that the text follows; '': none.

  Raises:
    ConfigError: a path cannot be read or written, another call's rows are in the way, or the model
      has no such label.
    InputError: the rows are bad, or the model cannot be loaded.
    CheckpointError: the disk is full.
    Interrupted: SIGTERM or SIGINT came; the finished parts, if any, are kept.
  """
  fields = _checked_fields(field, label, reference, prompt_field)
  several = len(fields) > 1
  job = Job(
    source, output, fields, bad_rows, 'score', SCORED, layout, prompt_field, all_fields=several
  )
  settings: dict[str, Any] = {'--field': field, '--label': label}
  if reference:
    settings |= {'--reference': loaded.fingerprint(reference), '--prompt_field': prompt_field}

  def load(progress: Progress) -> tuple[Results, Columns]:
    if reference:
      results = _compared(model, reference, batch_size, bool(prompt_field), progress)
    else:
      scorer = api.load_scorer(model, batch_size, progress=progress, label=label)
      results = functools.partial(_of_fields, scorer, fields) if several else scorer
    return lambda texts, _: results(texts), results([])

  _write(job, model, settings, load)
  if len(fields) == 2 and not reference:
    print(terminal.printable(_in_order(output, fields)))


def _checked_fields(field: str, label: str, reference: str, prompt_field: str) -> list[str]:
  """Returns the names of the fields to score.

  Raises:
    ConfigError: a flag does not go with another.
  """
  fields = field.split(',')
  if reference and len(fields) > 1:
    raise ConfigError(f'--field={field}: must be one field with --reference')
  if '' in fields or len(set(fields)) < len(fields):
    raise ConfigError(f'--field={field}: must be different names, separated by commas')
  if prompt_field and not reference:
    raise ConfigError('--prompt_field: needs --reference, the model to compare with; name both')
  if label and reference:
    raise ConfigError('--label: is of a classifier; leave it out, or leave out --reference')
  return fields


def _compared(
  model: str, reference: str, batch_size: int, with_prompts: bool, progress: Progress
) -> Callable[[list[Any]], Columns]:
  """Returns a function of texts, or of pairs of prompt and text, that compares two models."""
  compare = api.load_log_ratio(model, reference, batch_size, progress)
  if not with_prompts:
    return lambda texts: compare(texts, None)
  return lambda pairs: compare([text for _, text in pairs], [prompt for prompt, _ in pairs])


def _of_fields(
  scorer: api.Scorer, fields: Sequence[str], rows: Sequence[Sequence[str]]
) -> dict[str, np.ndarray]:
  """Scores every row's texts; each field has columns of its own, such as reward_chosen."""
  columns = scorer([text for row in rows for text in row])
  return {
    f'{name}_{field}': values[number :: len(fields)]
    for number, field in enumerate(fields)
    for name, values in columns.items()
  }


def _in_order(output: str, fields: Sequence[str]) -> str:
  """Says how often the first of two fields has the higher reward, among rows where they differ."""
  first, second = (f'reward_{field}' for field in fields)
  rows = (row for _, row in rows_lib.read_numbered(output, ()) if isinstance(row, dict))
  gaps = [row[first] - row[second] for row in rows if row.get(first) is not None]
  different = [gap for gap in gaps if gap]
  if not different:
    return f'{output}: no two rewards differ'
  higher = sum(gap > 0 for gap in different)
  low, high = toxicity.wilson(higher, len(different))
  return (
    f'{fields[0]} has the higher reward in {higher} of {terminal.count(len(different), "row")} '
    f'({higher / len(different):.1%}, 95 % interval {low:.1%} to {high:.1%}); '
    f'{len(gaps) - len(different)} more have equal rewards'
  )


def generate(
  model: str,
  source: str,
  output: str,
  field: str,
  sampling: Sampling,
  seed: int = 0,
  bad_rows: str = 'error',
  layout: Layout = Layout(),
  chat: bool = False,
) -> None:
  """Writes the rows of a file, each followed by a language model's `completion`.

  Args:
    model: a hub id, `id@revision`, or a folder.
    source: the file to read.
    output: the .jsonl file to write.
    field: the field to complete, a text or a conversation; '': the first of prompt, messages,
      conversations and text that a row has.
    sampling: length, truncation, temperature and batch size.
    seed: the same seed gives the same completions.
    bad_rows: as for `score`.
    layout: as for `score`.
    chat: whether each text is a user's message, which the model's chat template renders.

  Raises:
    ConfigError: a path cannot be read or written, another call's rows are in the way, or
      max_new_tokens leaves no room for a prompt.
    InputError, CheckpointError, Interrupted: as `score`.
  """

  def load(progress: Progress) -> tuple[Results, Columns]:
    complete = functools.partial(api.generate, model, sampling=sampling, seed=seed, chat=chat)
    results = lambda texts, first: {'completion': complete(texts, progress=progress, first=first)}
    return results, {'completion': []}

  fields = (field,) if field else PROMPTS
  settings = {f'--{name}': value for name, value in dataclasses.asdict(sampling).items()}
  del settings['--batch_size']  # completions do not depend on it
  part = max(COMPLETED, BATCHES * sampling.batch_size)
  job = Job(source, output, fields, bad_rows, 'generate', part, layout, conversations=True)
  _write(job, model, {'--field': field, '--seed': seed, '--chat': chat, **settings}, load)


def _write(
  job: Job,
  model: str,
  settings: Mapping[str, Any],
  load: Callable[[Progress], tuple[Results, Columns]],
) -> None:
  """Writes the rows of a file with a model's results, from where an earlier call stopped.

  Args:
    job: the files.
    model: the model that gives the results.
    settings: the settings that the results depend on, by flag name.
    load: returns the function that computes results, and its result for an empty list.
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
      survey = rows_lib.survey(job.source, job.fields, job.bad_rows, job.layout, job.read)
      call = {
        'command': job.label,
        'irl_jax': __version__,
        '--model': loaded.fingerprint(model),
        '--input': _sha256(job.source),
        '--encoding': job.layout.encoding,
        '--delimiter': job.layout.delimiter,
        **settings,
      }
      with partial_output.opened(output, call, job.part) as partial:
        compilation_cache.use()
        _append_parts(job, survey, partial, load)
        partial.finish()
    except interruption.Interrupted as error:
      saved = 'progress is saved' if are_kept() else ''
      if partial and partial.kept:
        saved = f'{partial.kept} of {terminal.count(survey.rows, "row")} are kept in {partial.path}'
      raise interruption.Interrupted(error.signum, saved) from None
  print(terminal.printable(f'{job.output}: {terminal.count(survey.rows, "row")}'))


def _append_parts(
  job: Job,
  survey: rows_lib.Survey,
  partial: partial_output.PartialOutput,
  load: Callable[[Progress], tuple[Results, Columns]],
) -> None:
  """Appends the parts that are not there yet."""
  bar = functools.partial(terminal.bar, label=job.label)
  one_part = survey.rows <= job.part
  results, names = load(functools.partial(bar, unit='chunk') if one_part else iter)
  output_rows.check_names(survey, names, job.source)
  layout = dataclasses.replace(job.layout, quiet=True)
  rows = rows_lib.examined(job.source, job.fields, layout, job.read)
  done = sum(not row.problem for row in itertools.islice(rows, partial.kept))
  parts: Iterable[list[rows_lib.Examined]] = _parts(rows, job.part)
  if not one_part:
    left = -(-(survey.rows - partial.kept) // job.part)
    parts = bar(parts, unit=f'{job.part} rows', total=left)
  for part in parts:
    texts = [job.read(row) for _, row, problem, _ in part if not problem]
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


def _sha256(path: str) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
