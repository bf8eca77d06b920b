"""The report stage: the results of all stages in one file, and in one page for readers."""

import pathlib
from typing import Any

from irl_jax.report import page
from irl_jax.runtime import processes
from irl_jax.runtime import workdir
from irl_jax.runtime.records import SCHEMA
from irl_jax.stages import read_files
from irl_jax.stages.run import Run


def report(run: Run) -> None:
  """Collects the results of all stages -> summary.json, report.html, figures/."""
  run.write_json('summary.json', summarise(run))
  write_page(run.folder)


@processes.on_first
def write_page(folder: pathlib.Path) -> None:
  """Writes report.html and its figures."""
  page.write(folder)


def summarise(run: Run) -> dict[str, Any]:
  """Returns the results of the stages that have run: `records.Summary`.

  They contain no times and no paths, so that two runs of one config write the same bytes.
  """
  summary: dict[str, Any] = {}
  for stage in ('rlhf', 'irl', 'rerlhf'):
    path = run.folder / stage / 'figures.json'
    if path.exists():
      results = workdir.read_json(path)
      # The evaluate stage writes into irl/, and its file already has one entry per section.
      summary |= results if stage == 'irl' else {stage: results}
  if inputs := read_files.summary(run):
    summary['inputs'] = inputs
  order = ('inputs', 'true_reward', 'rlhf', 'irl', 'rerlhf')
  return {'schema': SCHEMA} | {name: summary[name] for name in order if name in summary}
