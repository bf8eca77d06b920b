"""The work of the commands `score` and `generate`: scores or completes the rows of a source."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from irl_jax import api
from irl_jax.api import inference
from irl_jax.api import loaded
from irl_jax.command_line import compared_answers
from irl_jax.command_line import output_rows
from irl_jax.command_line import parts
from irl_jax.command_line.output_rows import Columns
from irl_jax.command_line.output_rows import Row
from irl_jax.command_line.parts import Progress
from irl_jax.command_line.parts import Results
from irl_jax.config import Sampling
from irl_jax.data import chat_texts
from irl_jax.data import sources
from irl_jax.data.row_values import BadRow
from irl_jax.data.row_values import Layout
from irl_jax.errors import ConfigError
from irl_jax.evaluation import run_scores

SCORED = 4096  # rows of a part; texts of similar length are batched within it
# Completions per part: fewer than for scoring, because completing takes longer, but at least
# BATCHES batches
COMPLETED = 1024
BATCHES = 8
# Fields to score or to complete by default: the first that a row has
TEXTS = ('text', 'messages', 'conversations', 'conversation')
PROMPTS = ('prompt', 'messages', 'conversations', 'text')
COMMAND_LINE = Layout(flags='--')


@dataclasses.dataclass(frozen=True)
class Scored:
  """The settings by which `score` reads a row."""

  reader: chat_texts.Reader
  fields: Sequence[str]  # those that the user named; (): the default
  prompt_field: str = ''
  known: sources.KnownDataSet | None = None  # the form of a known data set
  as_pairs: bool = False  # whether to return (prompt, text), for log-ratios

  @property
  def used(self) -> list[str]:
    """The fields that a row may be read from."""
    alternatives = self.fields or TEXTS
    if self.known and not self.fields:
      alternatives = [name for part in self.known.text for name in part]
    prompts = [self.prompt_field] * bool(self.prompt_field)
    if set(self.fields) & set(chat_texts.PREFERENCE):
      prompts.append(chat_texts.PROMPT)
    return [*alternatives, *prompts]

  def __call__(self, row: Row) -> Any:
    """Returns a row's cells, one for each field; or a pair of prompt and text.

    A cell is a text, or a list of texts.

    Raises:
      BadRow: a field is missing, or has neither texts nor a conversation.
    """
    if len(self.fields) > 1:
      return [self.reader.texts(row, (field,)) for field in self.fields]
    if self.known and not self.fields and not self.prompt_field:
      return self._of_known(self.known, row)
    # A row that has none of them is told of the first.
    first = next((field for field in TEXTS if field in row), TEXTS[0])
    if not self.fields and first not in row and all(map(row.__contains__, chat_texts.PREFERENCE)):
      both = ','.join(chat_texts.PREFERENCE)
      raise BadRow(f'has no field {first!r}, but both of {both}', f'set --field={both}')
    fields = self.fields or (first,)
    if self.as_pairs:
      return self.reader.pair(row, fields, self.prompt_field)
    return [self.reader.texts(row, fields)]

  def _of_known(self, known: sources.KnownDataSet, row: Row) -> Any:
    first, *rest = known.text
    if not rest:
      pair = ('', self.reader.text(row, first, ''))
    else:
      following = dataclasses.replace(self.reader, strings_too=False).text(row, rest[0], '')
      pair = (self.reader.prompt(row, first, ''), known.joiner + following)
    return pair if self.as_pairs else [''.join(pair)]


def score(
  model: str,
  source: str,
  output: str,
  field: str = '',
  batch_size: int = 32,
  bad_rows: str = 'error',
  label: str = '',
  layout: Layout = COMMAND_LINE,
  reference: str = '',
  prompt_field: str = '',
  split: str = 'train',
  chat: bool = False,
) -> None:
  """Writes the rows of a source, each followed by a model's scores.

  They are those of `api.load_scorer`, or, with a reference, those of `api.load_log_ratio`. Two
  fields are compared at the end (`compared_answers.report`).

  Args:
    model: a hub id, `id@revision`, a folder, or a LoRA adapter.
    source: a file, a folder, a hub data set or a known one, as `sources.find` takes it.
    output: the .jsonl file to write.
    field: the field to score: a text, a conversation, or a list of texts; or several fields, by
      commas, such as chosen,rejected; '': that of a known data set, or the first of text, messages,
      conversations and conversation that a row has.
    batch_size: texts of 64 tokens to score at once, over all devices; more if they are shorter.
    bad_rows: what to do with an unreadable row: 'error' refuses the source; 'skip' writes the row
      with null in place of its scores, and why.
    label: the name or number of a classifier's toxic label; '': found by the labels' names.
    layout: encoding and delimiter of the files to read.
    reference: the language model that the model is compared with; '': none.
    prompt_field: with a reference, the field of the prompt that the text follows; '': none.
    split: of a folder or a hub data set.
    chat: whether each text is a user's message (with a prompt field: each prompt), which the
      model's chat template renders; conversations always are.

  Raises:
    ConfigError: flags that do not go together, or as `parts.write`; or the model has no such label.
    InputError, CheckpointError, Interrupted: as `parts.write`.
  """
  fields = tuple(field.split(',')) if field else ()
  _check_flags(field, fields, reference, prompt_field, label, chat)
  reader = chat_texts.Reader(functools.cache(lambda: loaded.chat_model(model)), chat)
  read = Scored(reader, fields, prompt_field, sources.known_data_set(source), bool(reference))
  job = parts.Job('score', source, output, read, read.used, SCORED, layout, split, bad_rows)
  settings: dict[str, Any] = {'--field': field, '--label': label, '--chat': chat}
  if reference:
    settings |= {'--reference': loaded.fingerprint(reference), '--prompt_field': prompt_field}
    load = functools.partial(_load_log_ratio, model, reference, batch_size)
  else:
    load = functools.partial(_load_scorer, model, batch_size, label, fields, source)
    if known := run_scores.fingerprint(model):
      settings['run of --model'] = known
  parts.write(job, model, settings, load)
  if len(fields) == 2 and not reference:
    compared_answers.report(output, fields)


def _check_flags(
  field: str, fields: Sequence[str], reference: str, prompt_field: str, label: str, chat: bool
) -> None:
  """Refuses flags of `score` that do not go together.

  Raises:
    ConfigError: names one of them.
  """
  if reference and len(fields) > 1:
    raise ConfigError(f'--field={field}: must be one field with --reference')
  if '' in fields or len(set(fields)) < len(fields):
    raise ConfigError(f'--field={field}: must be different names, separated by commas')
  if prompt_field and not reference:
    raise ConfigError('--prompt_field: needs --reference, the model to compare with; name both')
  if label and reference:
    raise ConfigError('--label: is of a classifier; leave it out, or leave out --reference')
  if chat and reference and not prompt_field:
    raise ConfigError(
      '--chat: with --reference, it is the prompt that is a message; name its field with '
      '--prompt_field, or leave --chat out'
    )


def _load_scorer(
  model: str, batch_size: int, label: str, fields: Sequence[str], source: str, progress: Progress
) -> tuple[Results, Columns]:
  """Returns a function of rows of cells, and the names of the columns that it adds."""
  scorer = api.load_scorer(model, batch_size, progress=progress, label=label)
  suffixes = [f'_{field}' for field in fields] if len(fields) > 1 else ['']
  results = functools.partial(_of_cells, scorer, suffixes, source)
  return lambda rows, _: results(rows), results([])


def _load_log_ratio(
  model: str, reference: str, batch_size: int, progress: Progress
) -> tuple[Results, Columns]:
  """Returns a function of pairs of prompt and text, and the names of the columns that it adds."""
  compare = api.load_log_ratio(model, reference, batch_size, progress)
  results = lambda pairs: compare([text for _, text in pairs], [prompt for prompt, _ in pairs])
  return lambda pairs, _: results(pairs), results([])


def _of_cells(
  scorer: inference.Scorer,
  suffixes: Sequence[str],
  source: str,
  rows: Sequence[Sequence[str | list[str]]],
) -> dict[str, list[Any]]:
  """Scores the cells of every row; each field has columns of its own, such as reward_chosen.

  A cell that is a list of texts gets a list of scores.
  """
  flat = [text for row in rows for cell in row for text in _listed(cell)]
  scores = {
    name: output_rows.as_json(values, name, source) for name, values in scorer(flat).items()
  }
  columns: dict[str, list[Any]] = {name + suffix: [] for suffix in suffixes for name in scores}
  start = 0
  for row in rows:
    for suffix, cell in zip(suffixes, row):
      end = start + len(_listed(cell))
      for name, values in scores.items():
        several = isinstance(cell, list)
        columns[name + suffix].append(values[start:end] if several else values[start])
      start = end
  return columns


def _listed(cell: str | list[str]) -> list[str]:
  return cell if isinstance(cell, list) else [cell]


def generate(
  model: str,
  source: str,
  output: str,
  field: str,
  sampling: Sampling,
  seed: int = 0,
  bad_rows: str = 'error',
  layout: Layout = COMMAND_LINE,
  chat: bool = False,
  split: str = 'train',
  samples: int = 1,
) -> None:
  """Writes the rows of a source, each followed by a language model's completions of its prompt.

  A row gets `completion`; with several samples, it gets the list `completions` instead, so that
  there is still one row for each row of the source.

  Args:
    model: a hub id, `id@revision`, a folder, or a LoRA adapter.
    source: as for `score`.
    output: the .jsonl file to write.
    field: the field to complete, a text or a conversation; '': that of a known data set, or the
      first of prompt, messages, conversations and text that a row has.
    sampling: length, truncation, temperature and batch size.
    seed: the same seed gives the same completions.
    bad_rows: as for `score`.
    layout: as for `score`.
    chat: whether each text is a user's message, which the model's chat template renders.
    split: as for `score`.
    samples: completions of each prompt. They differ from prompt to prompt, even if two are equal,
      and depend neither on the batches nor on interruptions.

  Raises:
    ConfigError: as `parts.write`, or several samples at temperature 0, or max_new_tokens leaves no
      room for a prompt.
    InputError, CheckpointError, Interrupted: as `parts.write`.
  """
  job = completion_job(
    'generate', model, source, output, field, sampling, samples, bad_rows, layout, split, chat
  )
  settings = completion_settings(field, sampling, samples, seed, chat)
  parts.write(job, model, settings, functools.partial(_load, model, sampling, seed, samples))


def completion_job(
  command: str,
  model: str,
  source: str,
  output: str,
  field: str,
  sampling: Sampling,
  samples: int,
  bad_rows: str,
  layout: Layout,
  split: str,
  chat: bool,
) -> parts.Job:
  """Returns the job of a command that completes prompts; the arguments are those of `generate`.

  Raises:
    ConfigError: several samples at temperature 0.
  """
  if samples > 1 and sampling.temperature == 0:
    raise ConfigError(
      f'--samples={samples}: with --temperature=0, all samples of a prompt are the same; set a '
      'temperature above 0, or leave --samples out'
    )
  known = sources.known_data_set(source)
  fields = (field,) if field else known.prompt if known else PROMPTS
  reader = chat_texts.Reader(functools.cache(lambda: loaded.chat_model(model)), chat)
  read = functools.partial(reader.prompt, fields=fields, flag='' if known else '--field')
  part = max(max(COMPLETED, BATCHES * sampling.batch_size) // samples, 1)
  return parts.Job(command, source, output, read, fields, part, layout, split, bad_rows)


def completion_settings(
  field: str, sampling: Sampling, samples: int, seed: int, chat: bool
) -> dict[str, Any]:
  """Returns the settings that completions depend on, by flag name: all but the batch size."""
  flags = {f'--{name}': value for name, value in dataclasses.asdict(sampling).items()}
  del flags['--batch_size']
  return {'--field': field, '--seed': seed, '--chat': chat, '--samples': samples, **flags}


def completer(
  model: str, sampling: Sampling, seed: int, samples: int, progress: Progress
) -> Callable[[list[str], int], list[list[str]]]:
  """Returns a function of rendered prompts, and the number before them -> samples of each."""
  complete = functools.partial(
    api.generate, model, sampling=sampling, seed=seed, chat=False, progress=progress
  )

  def samples_of(prompts: list[str], first: int) -> list[list[str]]:
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    flat = complete(repeated, first=first * samples)
    return [flat[start : start + samples] for start in range(0, len(flat), samples)]

  return samples_of


def _load(
  model: str, sampling: Sampling, seed: int, samples: int, progress: Progress
) -> tuple[Results, Columns]:
  """Returns a function of rendered prompts, and the name of the column that it adds."""
  samples_of = completer(model, sampling, seed, samples, progress)
  if samples > 1:
    return lambda prompts, first: {'completions': samples_of(prompts, first)}, {'completions': []}
  single = lambda prompts, first: [one for (one,) in samples_of(prompts, first)]
  return lambda prompts, first: {'completion': single(prompts, first)}, {'completion': []}
