"""The work of the command `toxicity`: samples of every prompt, judged by a classifier."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import numpy as np

from irl_jax import rewards
from irl_jax.api import loaded
from irl_jax.command_line import files
from irl_jax.command_line import output_rows
from irl_jax.command_line import parts
from irl_jax.command_line.output_rows import Columns
from irl_jax.command_line.output_rows import Row
from irl_jax.command_line.parts import Progress
from irl_jax.command_line.parts import Results
from irl_jax.config import Sampling
from irl_jax.data import labels
from irl_jax.data import rows as rows_lib
from irl_jax.data.row_values import Layout
from irl_jax.errors import InputError
from irl_jax.evaluation import judges
from irl_jax.evaluation import maximum_toxicity
from irl_jax.runtime import records
from irl_jax.runtime import terminal
from irl_jax.runtime import terminal_tables
from irl_jax.version import __version__

CHALLENGING = 'challenging'  # a row's field: whether its prompt is marked as challenging
LARGEST = 'max_toxicity'
JUDGED = 128  # samples of 64 tokens that the judge reads at once


def measure(
  model: str,
  judge: str,
  prompts: str,
  output: str,
  sampling: Sampling,
  samples: int,
  bootstrap_samples: int = 1000,
  seed: int = 0,
  field: str = '',
  label: str = '',
  bad_rows: str = 'error',
  layout: Layout = dataclasses.replace(files.COMMAND_LINE, source='prompts'),
  split: str = 'train',
  chat: bool = False,
) -> None:
  """Writes samples of every prompt with their toxicity, then the results over all prompts.

  The results are printed, and written to the output's name with .summary.json.

  Args:
    model: a language model.
    judge: a classifier with a toxic label; it reads a sample without its prompt.
    prompts: as `source` of `files.generate`. A row's field `challenging` marks its group.
    output: the .jsonl file to write.
    sampling: length, truncation, temperature and batch size of the samples.
    samples: their number for each prompt.
    bootstrap_samples: resamples of the prompts.
    seed: random seed of samples and resamples.
    field: the field of the prompt; '': as for `files.generate`.
    label: the name or number of the judge's toxic label; '': found by the labels' names.
    bad_rows: as for `files.score`.
    layout: as for `files.score`.
    split: of a folder or a hub data set.
    chat: whether each prompt is a user's message.

  Raises:
    ConfigError: as `files.generate`, or the judge has no such label.
    InputError: as `files.generate`, or the judge is not a toxicity classifier.
    CheckpointError, Interrupted: as `files.generate`.
  """
  job = files.completion_job(
    'toxicity', model, prompts, output, field, sampling, samples, bad_rows, layout, split, chat
  )
  read = functools.partial(_prompt, job.read)
  job = dataclasses.replace(job, read=read, used=[*job.used, CHALLENGING])
  settings = files.completion_settings(field, sampling, samples, seed, chat)
  identified = {'--judge': loaded.fingerprint(judge), '--label': label, **settings}
  load = functools.partial(_load, model, judge, label, sampling, seed, samples)
  parts.write(job, model, identified, load)
  groups = summarise(output, bootstrap_samples, seed)
  named = {'model': model, 'judge': judge, 'prompts': prompts, 'irl_jax': __version__}
  settings = {name.removeprefix('--'): value for name, value in settings.items()}
  terminal_tables.show(table(groups, samples, judge))
  output_rows.write_summary(output, {**named, 'settings': settings, 'results': groups})


def _prompt(read: Any, row: Row) -> str:
  """Returns a row's prompt; a mark that cannot be read makes the row bad, before any work."""
  labels.share_to_label(row.get(CHALLENGING), CHALLENGING)
  return read(row)


def _load(
  model: str,
  judge: str,
  label: str,
  sampling: Sampling,
  seed: int,
  samples: int,
  progress: Progress,
) -> tuple[Results, Columns]:
  """Returns a function of rendered prompts, and the names of the columns that it adds."""
  probability_of = load_judge(judge, label)  # first: a wrong judge is refused before any work
  samples_of = files.completer(model, sampling, seed, samples, progress)

  def results(prompts: list[str], first: int) -> Columns:
    drawn = samples_of(prompts, first)
    flat = probability_of([text for texts in drawn for text in texts])
    toxicity = flat.reshape(len(drawn), samples)
    return {
      'completions': drawn,
      'toxicity': toxicity.tolist(),
      LARGEST: toxicity.max(axis=1).tolist(),
    }

  return results, {'completions': [], 'toxicity': [], LARGEST: []}


def load_judge(judge: str, label: str) -> rewards.Reward:
  """Returns a function of texts [N] -> p(toxic) [N], in [0, 1]; errors as `judges.load`."""
  classifier = judges.load(judge, '--judge', JUDGED, label=label)

  def probability(texts: Sequence[str]) -> np.ndarray:
    values = -classifier.probability(texts)
    if not np.isfinite(values).all():
      raise InputError(f'--judge={judge}: gives a non-finite probability; its weights are damaged')
    return values

  return probability


def summarise(output: str, bootstrap_samples: int, seed: int) -> maximum_toxicity.Groups:
  """Measures the written rows; those without samples are left out."""
  largest, challenging = [], []
  for _, row in rows_lib.read_numbered(output, ()):
    if isinstance(row, dict) and row.get(LARGEST) is not None:
      largest.append(row[LARGEST])
      mark = labels.share_to_label(row.get(CHALLENGING), CHALLENGING)
      challenging.append(None if mark is None else bool(mark))
  return maximum_toxicity.by_group(largest, challenging, bootstrap_samples, seed)


def table(groups: maximum_toxicity.Groups, samples: int, judge: str) -> terminal_tables.Grid:
  """Tabulates the results; a group without a prompt is left out."""
  number = terminal_tables.number
  rows = []
  for name in ('all', 'challenging', 'others'):
    group: maximum_toxicity.MaximumToxicity | None = groups[name]
    if not group or not group['n']:
      continue
    low, high = group['expected_maximum_low'], group['expected_maximum_high']
    rows.append(
      (
        f'{name} prompts' if name == 'all' else name,
        str(group['n']),
        f'{number(group["expected_maximum"])} [{number(low)}, {number(high)}]',
        number(group['deviation']),
        _percent(group['probability']),
      )
    )
  return terminal_tables.Grid(
    f'toxicity of the worst of {terminal.count(samples, "sample")} by {judge}',
    ('', 'n', 'expected maximum', '±', 'at least one toxic'),
    rows,
  )


def _percent(share: records.Share) -> str:
  rate, low, high = share['rate'] or 0.0, share['low'] or 0.0, share['high'] or 0.0
  return f'{rate:.1%} [{100 * low:.1f}, {100 * high:.1f}]'
