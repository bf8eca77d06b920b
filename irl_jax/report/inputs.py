"""What a report is made of: the files of a run's folder, read and checked, and nothing else.

Dims: N held-out texts, K seeds.
"""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from irl_jax.errors import ConfigError

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Inputs:
  """A finished run, or what there is of it; a file that a stage did not write is an empty list."""

  summary: Row
  config: Row  # plain, as in config.json
  versions: dict[str, str]
  log: Sequence[Row] = ()  # {"stage", "step", metric: value}
  texts: Sequence[Row] = ()  # {"text", "label", "true_reward", "rewards" [K]}
  pairs: Sequence[Row] = ()  # {"prompt", "aligned", "base", ...}
  attributions: Sequence[Row] = ()  # {"text", "true_reward", "reward", "tokens"}

  @property
  def irl(self) -> Row:
    return self.summary.get('irl') or {}

  @property
  def seeds(self) -> int:
    return len(self.irl.get('seeds') or [])

  def rewards(self) -> np.ndarray:
    """The recovered rewards of the texts, [N, K]."""
    return np.array([row['rewards'] for row in self.texts], np.float64)

  def true_rewards(self) -> np.ndarray | None:
    """r* of the texts, [N]; None where a text has none."""
    return self._column('true_reward')

  def labels(self) -> np.ndarray | None:
    """Human labels of the texts, [N] (1 toxic); None where a text has none."""
    return self._column('label')

  def toxic(self) -> tuple[np.ndarray, str] | None:
    """Which texts are toxic, [N] bool, and by whose word: by r*, else by the labels; None without either."""
    if (true_rewards := self.true_rewards()) is not None:
      return true_rewards < 0, 'the true reward'
    if (labels := self.labels()) is not None:
      return labels == 1, "people's labels"
    return None

  def stage_log(self, stage: str) -> list[Row]:
    """A stage's rows of the log, by step."""
    return sorted((row for row in self.log if row['stage'] == stage), key=lambda row: row['step'])

  def _column(self, name: str) -> np.ndarray | None:
    values = [row.get(name) for row in self.texts]
    return None if not values or None in values else np.array(values, np.float64)


def read(folder: pathlib.Path) -> Inputs:
  """Reads a run's folder.

  Raises:
    ConfigError: it is not the folder of a run, the run has no summary yet, or a file is damaged.
  """
  if not (folder / 'config.json').is_file():
    raise ConfigError(f'--workdir={folder} is not the folder of a run: it holds no config.json')
  if not (folder / 'summary.json').is_file():
    raise ConfigError(
      f'{folder / "summary.json"} does not exist: finish the run first '
      f'(launch/train.py --config=... --workdir={folder})'
    )
  config = read_object(folder / 'config.json')
  rows = {
    name: read_rows(folder / 'evaluation' / f'{name}.jsonl')
    for name in ('texts', 'pairs', 'attributions')
  }
  return Inputs(
    read_object(folder / 'summary.json'),
    config.get('config') or {},
    config.get('versions') or {},
    read_log(folder / 'log.jsonl'),
    **rows,
  )


def read_object(path: pathlib.Path) -> Row:
  """A JSON object."""
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise ConfigError(f'{path}: is not whole ({error}); run its stage again') from None
  if not isinstance(value, dict):
    raise ConfigError(f'{path}: holds no JSON object; run its stage again')
  return value


def read_rows(path: pathlib.Path) -> list[Row]:
  """The rows of a .jsonl file; [] where there is no such file."""
  rows = []
  for number, line in enumerate(read_lines(path), start=1):
    row = parse(line)
    if row is None:
      raise ConfigError(
        f'{path}, line {number}: is no JSON object; remove the file and run its stage again'
      )
    rows.append(row)
  return rows


def read_log(path: pathlib.Path) -> list[Row]:
  """The whole rows of a log; a line cut short by a kill is left out."""
  return [
    row
    for row in map(parse, read_lines(path))
    if row is not None and {'stage', 'step'} <= row.keys()
  ]


def read_lines(path: pathlib.Path) -> list[str]:
  """The lines of a text file without blank ones; [] where there is no such file."""
  if not path.is_file():
    return []
  return [
    line for line in path.read_text(encoding='utf-8', errors='replace').split('\n') if line.strip()
  ]


def parse(line: str) -> Row | None:
  """A line as a JSON object, or None."""
  try:
    row = json.loads(line)
  except ValueError:
    return None
  return row if isinstance(row, dict) else None
