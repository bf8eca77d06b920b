"""The files of a run's folder that a report needs, read and checked.

Dims: N held-out texts, K seeds.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import inspect
import json
import pathlib
from typing import Any
from typing import cast
from typing import Literal
from typing import TypeVar

import numpy as np

from irl_jax import config as config_lib
from irl_jax.errors import ConfigError
from irl_jax.report import summary as summary_lib
from irl_jax.report import wording
from irl_jax.report.summary import Agreement
from irl_jax.report.summary import Calibration
from irl_jax.report.summary import Confounds
from irl_jax.report.summary import Identifiability
from irl_jax.report.summary import McNemar
from irl_jax.report.summary import Policy
from irl_jax.report.summary import PolicyTraining
from irl_jax.report.summary import Preference
from irl_jax.report.summary import Reason
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import Reward
from irl_jax.report.summary import SETS
from irl_jax.report.summary import Share
from irl_jax.report.summary import Start
from irl_jax.report.summary import Summary
from irl_jax.report.summary import Toxicity
from irl_jax.report.summary import Truth
from irl_jax.runtime import records

Json = dict[str, Any]
Node = Mapping[str, Any]
LogRow = Mapping[str, Any]  # {"stage": str, "step": int, metric: value}
T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Inputs:
  """A finished run; for a file that no stage wrote, the rows are an empty list."""

  summary: Summary
  config: Json  # plain, as in config.json
  versions: dict[str, str]
  log: Sequence[LogRow] = ()
  texts: Sequence[records.ScoredText] = ()
  pairs: Sequence[records.ScoredPair] = ()
  attributions: Sequence[records.AttributedText] = ()
  words: Sequence[records.WordEffect] = ()

  @property
  def recovery(self) -> Recovery:
    """The results of the recovered rewards."""
    return self.summary.recovery

  def rewards(self) -> np.ndarray:
    """Returns the recovered rewards of the texts, [N, K]."""
    return np.array([row['rewards'] for row in self.texts], np.float64)

  def true_rewards(self) -> np.ndarray | None:
    """Returns r* of the texts, [N], or None if a text has none."""
    return self._column('true_reward')

  def labels(self) -> np.ndarray | None:
    """Returns the labels of the texts, [N] (1 toxic), or None if a text has none."""
    return self._column('label')

  def toxic(self) -> tuple[np.ndarray, str] | None:
    """Returns which texts are toxic, [N] bool, by r* or else by the labels, and who says so.

    None if there is neither. A true reward without a toxic class says nothing of it.
    """
    truth = self.summary.truth
    if not truth.is_score and (true_rewards := self.true_rewards()) is not None:
      return true_rewards < 0, 'the true reward'
    if (labels := self.labels()) is not None:
      return labels == 1, wording.labels(truth).who
    return None

  def stage_log(self, stage: str) -> list[LogRow]:
    """Returns a stage's rows of the log, by step."""
    return sorted((row for row in self.log if row['stage'] == stage), key=lambda row: row['step'])

  def _column(self, name: Literal['true_reward', 'label']) -> np.ndarray | None:
    values = [row.get(name) for row in self.texts]
    return None if not values or None in values else np.array(values, np.float64)


def read(folder: pathlib.Path) -> Inputs:
  """Reads a run's folder.

  Raises:
    ConfigError: this is not the folder of a run, the run has no summary yet, a newer version wrote
      it, or a file is damaged.
  """
  if not (folder / 'config.json').is_file():
    raise ConfigError(f'--workdir={folder} is not the folder of a run: it contains no config.json')
  if not (folder / 'summary.json').is_file():
    raise ConfigError(
      f'{folder / "summary.json"} does not exist: finish the run first '
      f'(irl-jax train --config=... --workdir={folder})'
    )
  config = read_object(folder / 'config.json')
  rows_of = lambda name: read_rows(folder / 'evaluation' / f'{name}.jsonl')
  plain = config.get('config') or {}
  source = (plain.get('data') or {}).get('source') or ''
  return Inputs(
    summary_lib.labelled(read_summary(folder / 'summary.json'), config_lib.labelled_by(source)),
    plain,
    config.get('versions') or {},
    read_log(folder / 'log.jsonl'),
    cast(list[records.ScoredText], rows_of('texts')),
    cast(list[records.ScoredPair], rows_of('pairs')),
    cast(list[records.AttributedText], rows_of('attributions')),
    cast(list[records.WordEffect], rows_of('words')),
  )


def read_summary(path: pathlib.Path) -> Summary:
  """Reads summary.json; an error names the file."""
  node = read_object(path)
  try:
    return parse_summary(node)
  except ConfigError as error:
    raise ConfigError(f'{path}: {error}') from None


def parse_summary(node: Node) -> Summary:
  """Reads the object of a summary.json; unknown fields are ignored.

  Raises:
    ConfigError: a newer version of irl_jax wrote it.
  """
  schema = node.get('schema', 1)
  if not isinstance(schema, int) or schema > records.SCHEMA:
    raise ConfigError(
      f'summary.json has schema {schema!r} and this version of irl_jax reads {records.SCHEMA} at '
      'most: install the version that wrote it'
    )
  trainings = tuple(
    parse_training(stage, value)
    for stage, value in node.items()
    if isinstance(value, Mapping) and {'before', 'after'} <= value.keys()
  )
  truth = build(Truth, part(node, 'true_reward'))
  # A run without the stage evaluate says it by what its policies lack.
  if truth.kind is None and any(map(without_toxicity, trainings)):
    truth = dataclasses.replace(truth, kind='score')
  return Summary(
    truth=truth,
    trainings=trainings,
    recovery=dataclasses.replace(parse_recovery(part(node, 'irl')), truth=truth),
    reasons=tuple(find_reasons(node)),
    inputs=part(node, 'inputs'),
  )


def parse_training(stage: str, node: Node) -> PolicyTraining:
  """Reads the results of one stage that trained a policy."""
  before, after = (parse_policy(part(node, when)) for when in ('before', 'after'))
  test = part(node, 'mcnemar')
  won = build(Share, part(node, 'win_rate'))
  return PolicyTraining(stage, before, after, build(McNemar, test) if test else None, won)


def without_toxicity(training: PolicyTraining) -> bool:
  """Returns whether completions had a true reward, but none could be called toxic."""
  before = training.before
  return before.true_reward is not None and before.toxicity == Share()


def parse_policy(node: Node) -> Policy:
  """Reads the metrics of one policy."""
  judge = build(Toxicity, parse_toxicity(part(node, 'judge')))
  return build(Policy, {**node, **parse_toxicity(node), 'judge': judge})


def parse_toxicity(node: Node) -> dict[str, Share]:
  """Reads the toxicity of a policy by one classifier, by the fields of `Toxicity`."""
  worst = part(node, 'maximum_toxicity')
  ends = {end: worst.get(f'expected_maximum_{end}') for end in ('low', 'high')}
  mean = {'rate': worst.get('expected_maximum'), 'n': worst.get('n', 0), **ends}
  return {
    'toxicity': build(Share, part(node, 'toxicity')),
    'toxicity_full': build(Share, part(node, 'toxicity_full')),
    'expected_maximum': build(Share, mean),
    'toxicity_probability': build(Share, part(worst, 'probability')),
  }


def parse_recovery(node: Node) -> Recovery:
  """Reads the results of the recovered rewards and of the baselines."""
  baselines = {name: parse_reward(value or {}) for name, value in part(node, 'baselines').items()}
  return Recovery(
    seeds=tuple(map(parse_reward, node.get('seeds') or ())),
    mean=parse_reward(part(node, 'mean')),
    std=parse_reward(part(node, 'std')),
    ensemble=parse_reward(part(node, 'ensemble')),
    ceiling=baselines.pop('ceiling', Reward()),
    baselines=baselines,
    seed_spearman=node.get('seed_spearman'),
    identifiability=build(Identifiability, part(node, 'identifiability')),
    start=build(Start, part(node, 'start')),
    coupled_pairs=node.get('coupled_pairs', True),
  )


def parse_reward(node: Node) -> Reward:
  """Reads the results of one reward, with each set's intervals next to its metrics."""
  sets = {}
  for name in SETS:
    if agreement := part(node, name):
      interval = part(part(node, 'intervals'), name)
      sets[name] = dataclasses.replace(
        build(Agreement, agreement),
        auroc_interval=interval.get('auroc'),
        spearman_interval=interval.get('spearman'),
        auroc_gain=part(part(node, 'ensemble_gain'), name).get('auroc'),
        spearman_gain=part(part(node, 'ensemble_gain'), name).get('spearman'),
      )
  calibration = part(node, 'calibration')
  return Reward(
    sets,
    parse_calibration(calibration) if calibration else None,
    build(Confounds, part(node, 'confounds')),
    build(Preference, part(node, 'preference')),
    *map(node.get, ('trained_on', 'zero', 'prefers')),
  )


def parse_calibration(node: Node) -> Calibration:
  """Reads a reward's zero and probabilities, also under the short names of the zero's fields."""
  short = {'low': 'zero_low', 'high': 'zero_high', 'reliable': 'reliable_zero'}
  renamed = {name: node[key] for key, name in short.items() if key in node}
  return build(Calibration, {**node, **renamed})


def find_reasons(node: Any, path: tuple[str, ...] = ()) -> Iterator[Reason]:
  """Yields everything under 'why', at any depth."""
  if isinstance(node, Mapping):
    for metric, reason in (node.get('why') or {}).items():
      yield Reason(path, metric, reason)
    for key, value in node.items():
      if key != 'why':
        yield from find_reasons(value, (*path, key))
  elif isinstance(node, list):
    for index, value in enumerate(node):
      yield from find_reasons(value, (*path, f'seed {index}'))


def build(kind: Callable[..., T], node: Node) -> T:
  """Makes a dataclass of the fields that it knows."""
  known = inspect.signature(kind).parameters
  return kind(**{name: value for name, value in node.items() if name in known})


def part(node: Node, key: str) -> Node:
  """Returns an object inside an object; an empty one if it is absent or null."""
  value = node.get(key)
  return value if isinstance(value, Mapping) else {}


def read_object(path: pathlib.Path) -> Json:
  """Reads a JSON object."""
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise ConfigError(f'{path} is incomplete or damaged ({error}): run its stage again') from None
  if not isinstance(value, dict):
    raise ConfigError(f'{path} is not a JSON object: run its stage again')
  return value


def read_rows(path: pathlib.Path) -> list[Json]:
  """Reads the rows of a .jsonl file; [] if there is no such file."""
  rows = []
  for number, line in enumerate(read_lines(path), start=1):
    row = parse_line(line)
    if row is None:
      raise ConfigError(
        f'{path}, line {number}: is not a JSON object; remove the file and run its stage again'
      )
    rows.append(row)
  return rows


def read_log(path: pathlib.Path) -> list[LogRow]:
  """Reads the complete rows of a log. A truncated line, as after `kill -9`, is left out."""
  rows = map(parse_line, read_lines(path))
  return [row for row in rows if row is not None and {'stage', 'step'} <= row.keys()]


def read_lines(path: pathlib.Path) -> list[str]:
  """Reads the lines of a text file that are not blank; [] if there is no such file."""
  if not path.is_file():
    return []
  # Not splitlines(): JSON strings may contain other line separators, such as U+2028.
  lines = path.read_text(encoding='utf-8', errors='replace').split('\n')
  return [line for line in lines if line.strip()]


def parse_line(line: str) -> Json | None:
  """Parses a line as a JSON object; None if it is not one."""
  try:
    row = json.loads(line)
  except ValueError:
    return None
  return row if isinstance(row, dict) else None
