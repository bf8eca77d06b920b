"""Every metric with its stage and step: WORKDIR/log.jsonl always, TensorBoard and Weights & Biases where wanted."""

from collections.abc import Mapping
import importlib
import json
import math
import os
import pathlib
from typing import Any

from irl_jax.errors import ConfigError
from irl_jax.runtime import atomic


class Log:
  """Keeps nothing: of several processes, all but the first are given this one."""

  def __enter__(self) -> 'Log':
    return self

  def __exit__(self, *unused_exception):
    self.close()

  def log(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
    """Takes the metrics of a step."""

  def truncate(self, stage: str, step: int) -> None:
    """Says that the stage continues at this step."""

  def close(self) -> None:
    """Ends the log."""


class MetricsLog(Log):
  """Appends metrics to WORKDIR/log.jsonl, a JSON object a line, flushed at once.

  A resumed stage first calls `truncate`, so that each step is there once. A line cut short by a kill is dropped when
  the log is opened.
  """

  def __init__(self, workdir: str | os.PathLike, wandb_project: str = ''):
    """Opens the log.

    Args:
      workdir: the run's folder; made if missing.
      wandb_project: '' turns Weights & Biases off.

    Raises:
      ConfigError: a wandb_project is given and wandb is not installed.
    """
    self._workdir = pathlib.Path(workdir)
    self._path = self._workdir / 'log.jsonl'
    self._workdir.mkdir(parents=True, exist_ok=True)
    self._wandb = _start_wandb(wandb_project, self._workdir) if wandb_project else None
    self._writers = {}  # TensorBoard, by stage
    self._opened = 0
    self._rewrite(self._records())
    self._file = self._path.open('a', encoding='utf-8')

  def log(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
    """Writes one line: {"stage", "step", ...metrics}; arrays of one element become numbers, non-finite ones null."""
    metrics = {name: _plain(value) for name, value in metrics.items()}
    line = json.dumps(
      {'stage': stage, 'step': int(step), **metrics}, ensure_ascii=False, allow_nan=False
    )
    self._file.write(line + '\n')
    self._file.flush()
    numbers = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
    writer = self._writer(stage)
    for name, value in numbers.items() if writer else ():
      writer.add_scalar(name, value, int(step))
    if self._wandb:
      self._wandb.log(
        {
          f'{stage}/step': int(step),
          **{f'{stage}/{name}': value for name, value in numbers.items()},
        }
      )

  def truncate(self, stage: str, step: int) -> None:
    """Drops the stage's lines of this step and later ones: the step is about to be run (again)."""
    self._file.close()
    self._rewrite(
      record for record in self._records() if record['stage'] != stage or record['step'] < step
    )
    self._file = self._path.open('a', encoding='utf-8')
    if writer := self._writers.pop(stage, None):
      writer.close()
    self._writer(stage, purge_step=step)

  def close(self) -> None:
    """Flushes and closes everything."""
    self._file.close()
    for writer in filter(None, self._writers.values()):
      writer.close()
    if self._wandb:
      self._wandb.finish()

  def _records(self) -> list[dict[str, Any]]:
    """The whole lines of the log; a line without its end was cut short by a kill."""
    if not self._path.exists():
      return []
    lines = self._path.read_text(encoding='utf-8', errors='replace').split('\n')[:-1]
    return [record for record in map(_parse, lines) if record is not None]

  def _rewrite(self, records) -> None:
    """Replaces the log by these records, in one step."""
    with atomic.file(self._path) as file:
      file.writelines(json.dumps(record, ensure_ascii=False) + '\n' for record in records)

  def _writer(self, stage: str, purge_step: int | None = None):
    """The stage's TensorBoard writer, or None; TensorBoard hides what it held from purge_step on."""
    if stage not in self._writers:
      try:
        tensorboard = importlib.import_module('tensorboardX')
      except ImportError:
        self._writers[stage] = None
      else:
        self._opened += 1
        self._writers[stage] = tensorboard.SummaryWriter(
          str(self._workdir / 'tensorboard' / stage),
          purge_step=purge_step,
          filename_suffix=f'.{os.getpid()}.{self._opened}',
        )  # its names hold seconds only, and it overwrites
    return self._writers[stage]


def _plain(value: Any) -> Any:
  """A JSON value: a number for arrays of one element, None for what is not finite."""
  if hasattr(value, 'item'):
    value = value.item()
  return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(line: str) -> dict[str, Any] | None:
  try:
    record = json.loads(line)
  except json.JSONDecodeError:
    return None
  return record if isinstance(record, dict) and {'stage', 'step'} <= record.keys() else None


def _start_wandb(project: str, workdir: pathlib.Path):
  try:
    wandb = importlib.import_module('wandb')
  except ImportError:
    raise ConfigError(
      f'config.runtime.wandb_project = {project!r}: wandb is not installed; run `pip install wandb`, '
      "or leave the field ''"
    ) from None
  return wandb.init(project=project, name=workdir.resolve().name, dir=str(workdir))
