"""The report stage: the figures of all stages in one file, and in one page that a person can read."""

import pathlib
from typing import Any

from irl_jax.records import SCHEMA
from irl_jax.report import page
from irl_jax.runtime import processes
from irl_jax.runtime import workdir
from irl_jax.stages.run import Run


def report(run: Run) -> None:
  """Collects every stage's figures -> summary.json; and shows them -> report.html, figures/."""
  run.write_json('summary.json', summarise(run))
  write_page(run.folder)


@processes.on_first
def write_page(folder: pathlib.Path) -> None:
  """The page that a person can read."""
  page.write(folder)


def summarise(run: Run) -> dict[str, Any]:
  """Returns the results of the stages that have run.

  They hold no times and no paths, so that two runs of one config write the same bytes.
  """
  summary: dict[str, Any] = {}
  for stage in ('rlhf', 'irl', 'rerlhf'):
    path = run.folder / stage / 'figures.json'
    if path.exists():
      figures = workdir.read_json(path)
      summary |= figures if stage == 'irl' else {stage: figures}
  order = ('true_reward', 'rlhf', 'irl', 'rerlhf')
  return {'schema': SCHEMA} | {name: summary[name] for name in order if name in summary}
