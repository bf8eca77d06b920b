"""`irl_jax.recover`: recovers, from Python, the reward that an aligned model was trained on.

It runs the audit of configs/audit.py: sample demonstrations from both models, recover a reward for
each seed, measure the rewards on held-out prompts, write the report.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
from typing import Any
from typing import cast

from irl_jax import config as config_lib
from irl_jax import rewards as rewards_lib
from irl_jax import settings
from irl_jax.command_line import config_files
from irl_jax.command_line import suggestions
from irl_jax.data import chat_rows
from irl_jax.data import rows as rows_lib
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.errors import unwritable
from irl_jax.models import pretrained
from irl_jax.models.huggingface import adapter
from irl_jax.runtime import records
from irl_jax.runtime import workdir as workdir_lib
from irl_jax.settings import Section
from irl_jax.training import arguments

INPUTS = 'inputs.jsonl'  # in the run's folder: the prompts or texts that were passed
MISSING = ('NAType', 'NaTType')  # the types of pandas' missing values
Model = arguments.Model
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Zero:
  """The zero of one seed's uncentred reward, chosen without labels."""

  value: float | None
  low: float | None  # 95 % interval
  high: float | None
  reliable: bool  # False: trust the order of texts, not the sign of their reward
  why: str | None  # the reason if it is not reliable


@dataclasses.dataclass(frozen=True)
class RecoveryResult:
  """Recovered rewards, and how far they can be trusted.

  A reward takes N texts and returns float32 [N], higher is better. Its zero has already been
  subtracted. Weights are read when a reward is first used.
  """

  workdir: pathlib.Path  # the folder of the run
  config: config_lib.Config = dataclasses.field(repr=False)
  summary: records.Summary = dataclasses.field(repr=False)  # summary.json

  @property
  def report(self) -> pathlib.Path:
    """The path of the report, an HTML page."""
    return self.workdir / 'report.html'

  @property
  def zeros(self) -> tuple[Zero, ...]:
    """Returns the zero of every seed's reward."""
    return tuple(_zero(seed['calibration']) for seed in self.summary['irl']['seeds'])

  @functools.cached_property
  def rewards(self) -> tuple[rewards_lib.Reward, ...]:
    """Returns the reward of every seed."""
    members = rewards_lib.members_of(self.workdir / 'irl')
    return tuple(rewards_lib.load(str(member)) for member in members)

  @functools.cached_property
  def reward(self) -> rewards_lib.Reward:
    """Returns the ensemble: the mean over the seeds."""
    return rewards_lib.ensemble(self.rewards)


def recover(
  base: Model,
  aligned: Model,
  prompts: Iterable[str | Sequence[Mapping[str, Any]]] | None = None,
  *,
  texts: Iterable[str | Sequence[Any] | Mapping[str, Any]] | None = None,
  workdir: str | os.PathLike[str] | None = None,
  **overrides: Any,
) -> RecoveryResult:
  """Recovers the reward that `aligned` was trained on, given `base`, the model it came from.

  Without prompts and texts, prompts are cut from texts that the base model writes.

  Args:
    base: the model before RLHF: a folder, a hub id, `id@revision`, a LoRA adapter, or a loaded
      model; its weights are read again from its source.
    aligned: the model after RLHF; both must have the same vocabulary.
    prompts: texts or conversations (lists of {'role', 'content'}) that both models answer. If the
      aligned model has a chat template, it renders them, and prompts longer than
      `max_prompt_tokens` (32) are left out. Without a template, longer prompts are cut on the left.
    texts: whole texts that prompts are cut from: strings, (text, label) pairs, or mappings with
      'text' and 'label'. Label 1 is toxic, 0 is not, None is unknown; rewards are compared with it.
    workdir: the folder of the run. By default runs/recover-<hash of the arguments>, so that the
      same call finds its results again.
    **overrides: fields of the config, by full name (`**{'irl.seeds': 3}` or `irl__seeds=3`), or by
      the last part if only one field has it (`seeds=3`). irl_jax/config.py lists them, and
      configs/audit.py contains the defaults.

  Returns:
    The rewards and their zeros, the summary, and the paths of the report and the run.

  Raises:
    ConfigError: an argument or a field is wrong, or workdir contains a run of other arguments.
    InputError: a model cannot be used, the two cannot be compared, or a text is not a string.
    DivergedError, CheckpointError, OutOfMemoryError, Interrupted: as `pipeline.run`; after an
      interruption the same call continues.
  """
  rows = _input_rows(prompts, texts)
  config = dataclasses.replace(
    config_files.load('audit'),
    name='recover',
    models=config_lib.Models(base=_place(base, 'base'), aligned=_place(aligned, 'aligned')),
  )
  config = override(config, _checked(overrides, rows))
  folder = pathlib.Path(
    settings.local_path(workdir or _default_workdir(config, rows), 'workdir')
  ).absolute()
  if rows is not None:
    _write_inputs(folder, rows)
    data = dataclasses.replace(config.data, source=str(folder / INPUTS), **_fields(rows))
    config = dataclasses.replace(config, data=data)
  from irl_jax import pipeline  # imported here: scoring and generating need none of it

  summary = pipeline.run(config, folder)
  return RecoveryResult(folder, config, cast(records.Summary, summary))


def override(config: config_lib.Config, overrides: Mapping[str, Any]) -> config_lib.Config:
  """Returns the config with some fields replaced, by full name or by an unambiguous last part.

  Raises:
    ConfigError: an unknown or ambiguous name, or a value that is not allowed.
  """
  known = list(_field_names(config))
  for name, value in overrides.items():
    section, _, field = _full_name(name.replace('__', '.'), known).rpartition('.')
    change: dict[str, Any] = {field: value}
    if section:
      change = {section: dataclasses.replace(getattr(config, section), **change)}
    config = dataclasses.replace(config, **change)
  return config


def _field_names(section: Section, prefix: str = '') -> Iterable[str]:
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if isinstance(value, Section):
      yield from _field_names(value, f'{prefix}{field.name}.')
    else:
      yield prefix + field.name


def _full_name(name: str, known: Sequence[str]) -> str:
  """Returns the full name of the field that `name` refers to."""
  ends = [field for field in known if field.endswith(f'.{name}')]
  if name in known or len(ends) == 1:
    return name if name in known else ends[0]
  within = [field for field in known if field.startswith(f'{name}.')]
  if within:
    raise ConfigError(f'{name!r} is a section: override one of its fields, such as {within[0]!r}')
  hint = suggestions.did_you_mean(
    [repr(field) for field in suggestions.closest(name, known)], 'irl_jax/config.py lists all'
  )
  problem = 'several config fields have this name' if ends else 'no such config field'
  raise ConfigError(f'{name!r}: {problem}; {hint}')


def _checked(overrides: Mapping[str, Any], rows: Sequence[Row] | None) -> Mapping[str, Any]:
  """Refuses overrides of fields that the arguments already set."""
  taken = {'models.base': 'base', 'models.aligned': 'aligned'}
  if rows is not None:
    taken |= dict.fromkeys(
      ('data.source', 'data.text_field', 'data.prompt_field', 'data.label_field'),
      'prompts or texts',
    )
  for name in overrides:
    full = name.replace('__', '.')
    for field, argument in taken.items():
      if full in (field, field.rpartition('.')[2]):
        raise ConfigError(f'{name!r}: is set by the argument {argument}; remove one of the two')
  return overrides


def _place(model: Model, name: str) -> str:
  """Returns a model's spec, with folders as absolute paths.

  A later call from another folder then finds the run.
  """
  if isinstance(model, pretrained.Pretrained):
    if not model.source:
      raise ConfigError(
        f'{name}: this model exists only in memory; save it first (irl_jax.models.pretrained.save) '
        'and pass the folder'
      )
    model = model.source
  arguments.check_model(model, name)
  spec = settings.local_path(model, name)
  return os.path.abspath(spec) if os.path.isdir(spec) else spec


def _input_rows(prompts: Any, texts: Any) -> list[Row] | None:
  """Returns the rows of the data source, or None if the base model is to write the texts."""
  if prompts is not None and texts is not None:
    raise ConfigError('prompts and texts: pass only one of the two; prompts are cut from texts')
  if prompts is not None:
    rows = [{'prompt': prompt} for prompt in chat_rows.check_prompts(prompts)]
  elif texts is not None:
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
      raise ConfigError(
        f'texts: must be a list of strings, (text, label) pairs or mappings, not '
        f'{type(texts).__name__}'
      )
    if hasattr(texts, 'columns'):  # iterating over a data frame gives the names of its columns
      raise ConfigError("texts: is a data frame; pass texts.to_dict('records')")
    if isinstance(texts, Set):
      raise ConfigError('texts: is a set, which has no order; pass sorted(texts)')
    rows = [_text_row(number, value) for number, value in enumerate(texts)]
  else:
    return None
  if not rows:
    raise ConfigError(
      f'{"texts" if prompts is None else "prompts"} is empty; leave it out to have the base model '
      'write the texts'
    )
  return rows


def _text_row(number: int, value: Any) -> Row:
  """Returns {'text', 'label'} of one of the texts."""
  if isinstance(value, Mapping):
    words, label = value.get('text'), value.get('label')
  elif isinstance(value, tuple | list) and len(value) == 2:
    words, label = value
  else:
    words, label = value, None
  if not isinstance(words, str):
    raise InputError(
      f'texts[{number}] is {value!r:.60}: must be a string, a (text, label) pair, or a mapping '
      "with 'text'"
    )
  return {'text': words, 'label': _label(label, f'texts[{number}]')}


def _label(value: Any, name: str) -> int | None:
  """Returns a label as 0, 1 or None; the missing values of NumPy and pandas are None.

  Raises:
    InputError: it is none of these.
  """
  if hasattr(value, 'item') and getattr(value, 'ndim', None) == 0:
    value = value.item()  # a NumPy number
  is_missing = isinstance(value, float) and math.isnan(value)
  if value is None or is_missing or type(value).__name__ in MISSING:
    return None
  if not isinstance(value, int | float) or value not in (0, 1):
    raise InputError(
      f'{name}: label {value!r:.60} must be 1 (toxic), 0 (not toxic) or None (unknown)'
    )
  return int(value)


def _fields(rows: Sequence[Row]) -> dict[str, Any]:
  """Returns the config's fields that describe the rows."""
  if 'prompt' in rows[0]:
    return {'prompt_field': 'prompt', 'text_field': '', 'label_field': ''}
  labelled = any(row['label'] is not None for row in rows)
  return {'prompt_field': '', 'text_field': 'text', 'label_field': 'label' if labelled else ''}


def _write_inputs(folder: pathlib.Path, rows: Sequence[Row]) -> None:
  """Writes the inputs into the run's folder, unless a run with the same inputs has started there.

  Different inputs replace them only if no stage has written anything (because the first stage
  failed).

  Raises:
    ConfigError: the folder cannot be written to, contains a run of other inputs, or is in use.
    CheckpointError: the disk is full.
  """
  path = folder / INPUTS
  try:
    if (folder / 'config.json').exists():
      if path.exists() and rows_lib.read_jsonl(path) == list(rows):
        return
      with workdir_lib.held(folder):
        if workdir_lib.has_results(folder):
          raise ConfigError(
            f'workdir {folder}: contains a run of other prompts or texts; use a different workdir'
          )
        rows_lib.write_jsonl(path, rows)
      return
    folder.mkdir(parents=True, exist_ok=True)
    rows_lib.write_jsonl(path, rows)
  except OSError as error:
    raise unwritable(f'workdir {folder}: cannot be written to', error) from error


def _default_workdir(config: config_lib.Config, rows: Sequence[Row] | None) -> str:
  """Returns runs/recover-<hash of the arguments and of the files in local model folders>."""
  models = [config.models.base, config.models.aligned]
  local = [spec for spec in models if os.path.isdir(adapter.split(spec)[0])]
  files = [one for spec in local for one in pretrained.fingerprint(spec)]
  content = json.dumps([dataclasses.asdict(config), rows, files], sort_keys=True)
  return f'runs/recover-{hashlib.sha256(content.encode()).hexdigest()[:8]}'


def _zero(calibration: records.Calibration) -> Zero:
  return Zero(
    value=calibration['zero'],
    low=calibration['zero_low'],
    high=calibration['zero_high'],
    reliable=calibration['reliable_zero'],
    why=calibration.get('why', {}).get('reliable_zero'),
  )
