"""The output of --dry_run: the config, the models and the memory that every stage will need.

Models are described only by their config.json.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import os
from typing import Any

import jax

from irl_jax.config import Config
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.models.huggingface import config as huggingface_config
from irl_jax.models.huggingface import weights as huggingface_weights
from irl_jax.runtime import terminal
from irl_jax.runtime.terminal import printable
from irl_jax.stages import buffers
from irl_jax.stages import memory
from irl_jax.stages import preflight
from irl_jax.stages import run as run_lib

ROLES = ('base', 'sft', 'aligned', 'classifier', 'judge')  # fields of config.models: a model
WIDTHS = {'float32': 4, 'bfloat16': 2}  # bytes of a number, by compute type
WAYS = ('replicated', 'fsdp')  # of runtime.sharding, first the one that transfers less
COUNTS = (1, 2, 4, 8, 16, 32, 64)  # numbers of devices that are compared
CAPACITY = 80 * 10**9  # bytes of memory of the devices that are counted


def describe(config: Config, workdir: str, stages: Sequence[str]) -> str:
  """Returns every field as --config names it, every model's shape, and every stage's memory.

  No weights are read and no accelerator is used. A hub that does not answer is only reported.

  Raises:
    ConfigError: a model is a path that does not exist.
    InputError: a model's folder has no config that irl_jax can run.
  """
  jax.config.update('jax_platforms', 'cpu')
  lines = [f'{name} = {value!r}' for name, value in _fields(config, 'config.')]
  lines += ['', f'workdir: {workdir}', f'stages: {", ".join(stages)}']
  lines += _new_models(config, stages)
  known = {}
  for role, spec in _specs(config).items():
    if spec:
      known[role], described = _describe_model(spec)
      lines += ['', f'models.{role}: {spec}', *described]
  return '\n'.join([*lines, *_memory(config, _shapes(config, known), stages)])


def _fields(section: Any, prefix: str) -> Iterator[tuple[str, Any]]:
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      yield from _fields(value, f'{prefix}{field.name}.')
    else:
      yield prefix + field.name, value


def _new_models(config: Config, stages: Sequence[str]) -> list[str]:
  """Describes the models that a stage trains from scratch."""
  lines = []
  for role, stage, settings in (
    ('base', 'sft', config.sft),
    ('classifier', 'classifier', config.classifier),
  ):
    if not getattr(config.models, role) and stage in stages:
      lines += [
        '',
        f'models.{role}: trained from scratch by the {stage} stage, its vocabulary made from the '
        'data',
        f'  {settings.layers} layers, width {settings.hidden_size}, {settings.heads} heads',
      ]
  return lines


def _specs(config: Config) -> dict[str, str]:
  """Returns the model that the config names for each role, or ''; an adapter names its base."""
  specs = {role: getattr(config.models, role) for role in ROLES}
  try:
    return specs | {'base': run_lib.named_base(config)}
  except InputError:  # the description of the aligned model says why
    return specs


def _describe_model(spec: str) -> tuple[Any, list[str]]:
  """Returns a model's shape, None if the hub does not answer, and the lines that describe it."""
  try:
    raw = pretrained.read_config(spec)
  except InputError as error:
    if os.path.exists(spec):
      raise
    return None, [f'  unknown: {printable(str(error))}']
  kind, model_config = huggingface_config.parse(raw, spec)
  labels = len(huggingface_config.labels(raw, spec)) if kind == 'classifier' else 1
  shapes = huggingface_weights.shapes(kind, model_config, labels)
  lines = [f'  {kind}, {buffers.count(shapes):,} parameters']
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    name = '/'.join(str(key.key) for key in path)
    lines.append(f'  {name} {list(leaf.shape)}')
  return model_config, lines


def _shapes(config: Config, known: Mapping[str, Any]) -> memory.Shapes:
  """Returns each role's model shape.

  It is read from the model the config names, or planned if a stage will create it. SFT and aligned
  models whose config cannot be read have the base model's shape.
  """
  base = known['base'] if 'base' in known else preflight.new_language_model(config).config
  start = known.get('sft') or base
  return memory.Shapes(
    base=base,
    start=start,
    aligned=known.get('aligned') or start,
    classifier=(
      known['classifier'] if 'classifier' in known else preflight.new_classifier(config).config
    ),
  )


def _memory(config: Config, shapes: memory.Shapes, stages: Sequence[str]) -> list[str]:
  """Returns a table for each stage, with a column for each compute type that the run may use."""
  auto = config.runtime.dtype == 'auto'
  dtypes = list(WIDTHS) if auto else [config.runtime.dtype]
  lines = [
    '',
    'predicted memory in MB, by compute type, of one device with a whole batch: '
    f'{", ".join(dtypes)}',
  ]
  predictions = [memory.stages(config, shapes, stages, WIDTHS[dtype]) for dtype in dtypes]
  for by_dtype in zip(*predictions):
    lines += _table(by_dtype)
  return lines + (several_devices(config, shapes, stages) if predictions[0] else [])


def several_devices(config: Config, shapes: memory.Shapes, stages: Sequence[str]) -> list[str]:
  """Returns the largest peak on each of several devices, in both ways to place parameters.

  PPO's batches are divided among the devices without a remainder, so other numbers are left out.
  """
  dtype = 'bfloat16' if config.runtime.dtype == 'auto' else config.runtime.dtype
  ppo = config.ppo if {'rlhf', 'rerlhf'} & {*stages} else None
  counts = [
    n for n in COUNTS if not ppo or not (ppo.rollouts_per_step % n or ppo.minibatch_size % n)
  ]
  peak = functools.partial(_peak, config, shapes, stages, WIDTHS[dtype])
  peaks = {(n, way): peak(n, way) for n in counts for way in WAYS}
  lines = [
    '',
    f'predicted peak of a device in GB, with {dtype}, by config.runtime.sharding: '
    f'{", ".join(WAYS)}',
    '',
  ]
  for n in counts:
    row = [peaks[n, way] for way in WAYS]
    lines.append(_row(terminal.count(n, 'device'), row, unit=1e9))
  enough = [choice for choice, size in peaks.items() if size <= CAPACITY]
  least = f'more than {counts[-1]}'
  if enough:
    least = f'{enough[0][0]}, with config.runtime.sharding={enough[0][1]}'
  return [*lines, f'    smallest number of devices of {CAPACITY / 1e9:.0f} GB: {least}']


def _peak(
  config: Config, shapes: memory.Shapes, stages: Sequence[str], width: int, devices: int, way: str
) -> int:
  """Returns bytes of the largest stage's peak on each device."""
  runtime = dataclasses.replace(config.runtime, sharding=way)
  config = dataclasses.replace(config, runtime=runtime)
  return max(stage.peak for stage in memory.stages(config, shapes, stages, width, devices))


def _table(by_dtype: Sequence[memory.Stage]) -> list[str]:
  """Returns the buffers of one stage and their peak, from its prediction for each compute type."""
  stage = by_dtype[0]
  lines = [
    '',
    f'  {stage.name}: {stage.trained:,} parameters trained, {stage.frozen:,} frozen',
    f'    tokens of a step: {stage.tokens}',
  ]
  for same in zip(*(one.buffers for one in by_dtype)):
    lines.append(_row(same[0].name, [buffer.size for buffer in same]))
  peaks = [one.peak for one in by_dtype]
  return [*lines, _row(f'peak, during {stage.largest_phase}', peaks)]


def _row(name: str, sizes: Sequence[int], unit: float = 1e6) -> str:
  return f'    {name:<42}' + ''.join(f'{size / unit:>12,.1f}' for size in sizes)
