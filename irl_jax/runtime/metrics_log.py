"""The log of metrics by stage and step: WORKDIR/log.jsonl, TensorBoard, and Weights & Biases."""

from collections.abc import Iterable
from collections.abc import Mapping
import importlib
import json
import math
import os
import pathlib
from typing import Any
from typing import SupportsInt

from irl_jax.errors import ConfigError
from irl_jax.runtime import atomic


class Log:
  """A log that writes nothing, for all processes but the first."""

  def __enter__(self) -> 'Log':
    return self

  def __exit__(self, *unused_exception: object) -> None:
    self.close()

  def log(self, stage: str, step: SupportsInt, metrics: Mapping[str, Any]) -> None:
    """Logs the metrics of a step."""

  def truncate(self, stage: str, step: int) -> None:
    """Drops what the stage logged for this step and later ones."""

  def close(self) -> None:
    """Flushes and closes the log."""


class MetricsLog(Log):
  """A log in WORKDIR/log.jsonl, one JSON object per line, flushed at once.

  A resumed stage first calls `truncate`, so that each step is in the log once. A truncated last
  line (after `kill -9`) is dropped when the log is opened.
  """

  def __init__(self, workdir: str | os.PathLike[str], wandb_project: str = '') -> None:
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
    self._writers: dict[str, Any] = {}  # TensorBoard writers by stage; None if it is not installed
    self._opened = 0
    self._rewrite(self._records())
    self._file = self._path.open('a', encoding='utf-8')

  def log(self, stage: str, step: SupportsInt, metrics: Mapping[str, Any]) -> None:
    """Writes one line: {"stage", "step", ...metrics}.

    Arrays of one element become numbers, and non-finite numbers null.
    """
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
    """Drops the stage's lines of this step and later ones, which will run again."""
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
    """Returns the records of all whole lines; a line without a newline was cut short by a kill."""
    if not self._path.exists():
      return []
    lines = self._path.read_text(encoding='utf-8', errors='replace').split('\n')[:-1]
    return [record for record in map(_parse, lines) if record is not None]

  def _rewrite(self, records: Iterable[dict[str, Any]]) -> None:
    """Replaces the log by these records, in one step."""
    with atomic.file(self._path) as file:
      file.writelines(json.dumps(record, ensure_ascii=False) + '\n' for record in records)

  def _writer(self, stage: str, purge_step: int | None = None) -> Any:
    """Returns the stage's TensorBoard writer, or None if tensorboardX is not installed.

    Args:
      stage: the stage whose writer is made if there is none.
      purge_step: TensorBoard hides earlier events from this step on.
    """
    if stage not in self._writers:
      try:
        tensorboard = importlib.import_module('tensorboardX')
      except ImportError:
        self._writers[stage] = None
      else:
        self._opened += 1
        # The suffix is needed, because file names contain only seconds: a second file of the same
        # name would overwrite the first.
        self._writers[stage] = tensorboard.SummaryWriter(
          str(self._workdir / 'tensorboard' / stage),
          purge_step=purge_step,
          filename_suffix=f'.{os.getpid()}.{self._opened}',
        )
    return self._writers[stage]


def _plain(value: Any) -> Any:
  """Returns a JSON value: a number for an array of one element, None if not finite."""
  if hasattr(value, 'item'):
    value = value.item()
  return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(line: str) -> dict[str, Any] | None:
  try:
    record = json.loads(line)
  except json.JSONDecodeError:
    return None
  return record if isinstance(record, dict) and {'stage', 'step'} <= record.keys() else None


def _start_wandb(project: str, workdir: pathlib.Path) -> Any:
  try:
    wandb = importlib.import_module('wandb')
  except ImportError:
    raise ConfigError(
      f'config.runtime.wandb_project = {project!r}: wandb is not installed; run '
      '`pip install wandb`, or leave the field empty'
    ) from None
  return wandb.init(project=project, name=workdir.resolve().name, dir=str(workdir))
