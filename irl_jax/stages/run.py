"""A run as its stages see it: its config, folder and log, and where its models and rows are.

With several processes each of them runs the stages. Only the first one writes to the folder and
shows progress.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any
from typing import TypedDict

from irl_jax import rewards
from irl_jax.config import Config
from irl_jax.data import rows as rows_lib
from irl_jax.errors import ConfigError
from irl_jax.evaluation import judges
from irl_jax.models import huggingface
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.models.huggingface import card
from irl_jax.runtime import processes
from irl_jax.runtime import terminal
from irl_jax.runtime import workdir
from irl_jax.runtime.metrics_log import Log
from irl_jax.runtime.records import DemonstrationRow
from irl_jax.runtime.records import PromptRow

SPLITS = ('train', 'validation', 'heldout')


class Logging(TypedDict):
  """The functions that a training loop reports with."""

  log: Callable[[int, dict[str, float]], None]  # a step's number and metrics
  truncate_log: Callable[[int], None]  # the first step that this run will do
  progress: Callable[[Iterable[Any]], Iterable[Any]]  # wraps the iterable of steps


@dataclasses.dataclass(frozen=True)
class Run:
  """One run: its config, folder, log and compute type, and the places of its models and rows."""

  config: Config
  folder: pathlib.Path
  log: Log
  dtype: Any

  def model_place(self, field: str, written: str, otherwise: str = '') -> str:
    """Returns config.models.<field>, else the folder that a stage has written, else `otherwise`.

    Args:
      field: a field of config.models.
      written: the folder that a stage exports this model to, in the run's folder.
      otherwise: a hub id or folder; '': none.

    Raises:
      ConfigError: none of the three exists.
    """
    place = getattr(self.config.models, field, '')
    if not place and (self.folder / written).is_dir():
      place = str(self.folder / written)
    if not place and not otherwise:
      raise ConfigError(
        f'config.models.{field} is empty and {self.folder / written} does not exist: name a model, '
        'or run the stage that makes it'
      )
    return place or otherwise

  @property
  def base(self) -> str:
    """The hub id or folder of the base model."""
    return self.model_place('base', 'sft/policy', otherwise=named_base(self.config))

  @property
  def start(self) -> str:
    """The hub id or folder of the model that RLHF starts from."""
    return self.model_place('sft', 'sft/policy', otherwise=named_base(self.config))

  @property
  def aligned(self) -> str:
    """The hub id or folder of the aligned model."""
    return self.model_place('aligned', 'rlhf/policy')

  @property
  def classifier(self) -> str:
    """The hub id or folder of the true reward's model: a classifier, or a reward model."""
    return self.model_place('classifier', 'classifier/classifier')

  @property
  def has_true_reward(self) -> bool:
    """True if a classifier is named, or made by this run; an audit need not have one."""
    return (
      bool(self.config.models.classifier)
      or 'classifier' in self.config.stages
      or (self.folder / 'classifier' / 'classifier').is_dir()
    )

  def rows(self, split: str) -> list[PromptRow]:
    """Reads a split that the data stage wrote, or its 'unlabelled' texts.

    Raises:
      ConfigError: the stage has not run.
    """
    return self._read('data', split)

  def demonstrations(self, split: str) -> list[DemonstrationRow]:
    """Reads a split that the demos stage wrote.

    Raises:
      ConfigError: the stage has not run.
    """
    return self._read('demos', split)

  def _read(self, stage: str, split: str) -> list[Any]:
    path = self.folder / stage / f'{split}.jsonl'
    if not path.exists():
      raise ConfigError(f'{path} does not exist: run the stage {stage} first')
    return rows_lib.read_jsonl(path)

  @property
  def has_classes(self) -> bool:
    """True if the true reward is a classifier's, so that a text below 0 is toxic."""
    return self.has_true_reward and pretrained.kind_of(self.classifier) == 'classifier'

  def true_reward(self) -> rewards.TrueReward | rewards.ScalarReward:
    """Loads the model of the true reward and places it on the devices: a stage does so once."""
    return rewards.load_true_reward(
      self.classifier, self.config.evaluation.batch_size, self.dtype, label=self.config.models.label
    )

  @property
  def judge(self) -> str:
    """The hub id or folder of the classifier that measures policies next to r*; '': none."""
    return self.config.models.judge

  def load_judge(self) -> rewards.TrueReward | None:
    """Loads the judge and places it on the devices; None if there is none."""
    if not self.judge:
      return None
    batch_size = self.config.evaluation.batch_size
    return judges.load(self.judge, 'config.models.judge', batch_size, self.dtype)

  @property
  def recovered(self) -> list[str]:
    """The rewards of stage rerlhf: those that config.models.recovered names, else the run's own."""
    named = self.config.models.recovered
    if named and not pathlib.Path(named).is_dir():
      return [named]  # of the hub
    return list(map(str, rewards.members_of(named or self.folder / 'irl')))

  def recovered_rewards(self) -> list[rewards.Reward]:
    """Loads the rewards that `recovered` names."""
    return [
      rewards.load(place, self.config.evaluation.batch_size, self.dtype) for place in self.recovered
    ]

  @processes.on_first
  def write_json(self, name: str, value: Any) -> None:
    """Writes a JSON file of the folder."""
    workdir.write_json(self.folder / name, value)

  @processes.on_first
  def write_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a file of JSON lines of the folder."""
    rows_lib.write_jsonl(self.folder / name, rows)

  @processes.on_first
  def save(
    self,
    stage: card.Stage,
    name: str,
    model: pretrained.Pretrained,
    base: str,
    results: Mapping[str, Any] | None = None,
    true_reward: str = '',
  ) -> None:
    """Exports the model of a stage to the stage's folder, with a card that names the stage."""
    objective = self.config.irl.objective if stage == 'irl' else ''
    data = f'`{self.config.data.source}`'
    text = card.model_card(
      stage,
      base,
      data,
      results,
      architecture=huggingface.config.architecture(model.kind, model.config),
      zero=trunk.reward_zero(model.params),
      objective=objective,
      true_reward=true_reward,
    )
    pretrained.save(self.folder / stage / name, model, text)

  def logging(self, stage: str) -> Logging:
    """Returns what a training loop reports with."""
    return Logging(
      log=functools.partial(self.log.log, stage),
      truncate_log=functools.partial(self.log.truncate, stage),
      progress=self.progress(stage),
    )

  def progress(self, what: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """Returns an iterable with a progress bar, which only the first process shows."""
    return functools.partial(terminal.bar, label=what) if processes.is_first() else iter


def named_base(config: Config) -> str:
  """Returns config.models.base, or if it is empty, the base that an aligned adapter names, or ''.

  Raises:
    ConfigError, InputError: the aligned model is an adapter that cannot be merged.
  """
  models = config.models
  return models.base or (pretrained.base_of(models.aligned) if models.aligned else '')


def full_texts(rows: Sequence[Mapping[str, Any]], field: str = 'original') -> list[str]:
  """Returns each prompt with the field that follows it, without a separator."""
  return [row['prompt'] + row[field] for row in rows]
