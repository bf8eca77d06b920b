"""What a run would do, without doing it: its config, its models by their config.json alone, and what they need."""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import os
from typing import Any

import jax

from irl_jax.config import Config
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.models.huggingface import config as huggingface_config
from irl_jax.models.huggingface import weights as huggingface_weights
from irl_jax.runtime.terminal import printable
from irl_jax.stages import memory
from irl_jax.stages import preflight

DTYPES = {'float32': 4, 'bfloat16': 2}  # bytes of a number


def describe(config: Config, workdir: str, stages: Sequence[str]) -> str:
  """Every field as --config would name it, the shape of every model, and the memory that every stage needs.

  No weights are read and no accelerator is touched. A hub that does not answer is only reported.

  Raises:
    ConfigError: a model is a path that does not exist.
    InputError: a model's folder holds no config that can be run.
  """
  jax.config.update('jax_platforms', 'cpu')
  lines = [f'{name} = {value!r}' for name, value in _fields(config, 'config.')]
  lines += ['', f'workdir: {workdir}', f'stages: {", ".join(stages)}']
  for role, stage, shape in (
    ('base', 'sft', config.sft),
    ('classifier', 'classifier', config.classifier),
  ):
    if not getattr(config.models, role) and stage in stages:
      lines += [
        '',
        f'models.{role}: trained from scratch by the {stage} stage, its vocabulary made from the data',
        f'  {shape.layers} layers, width {shape.hidden_size}, {shape.heads} heads',
      ]
  known = {}
  for role, spec in dataclasses.asdict(config.models).items():
    if spec:
      known[role], described = _describe_model(spec)
      lines += ['', f'models.{role}: {spec}', *described]
  return '\n'.join([*lines, *_memory(config, _shapes(config, known), stages)])


def _shapes(config: Config, known: dict[str, Any]) -> dict[str, Any]:
  """Of every role's model: of one that the config names what is known of it, else of the one that a stage makes; sft
  and aligned models have the base's shape where the hub does not answer.
  """
  new = lambda role: preflight.new_model(role, config).config
  base = known['base'] if 'base' in known else new('base')
  start = known.get('sft') or base
  return {
    'base': base,
    'start': start,
    'aligned': known.get('aligned') or start,
    'classifier': known['classifier'] if 'classifier' in known else new('classifier'),
  }


def _memory(config: Config, shapes: dict[str, Any], stages: Sequence[str]) -> list[str]:
  """A table for every stage: its buffers, and its peak, for each type of computation that may come."""
  kinds = (
    DTYPES
    if config.runtime.dtype == 'auto'
    else {config.runtime.dtype: DTYPES[config.runtime.dtype]}
  )
  lines = [
    '',
    f'memory of one device that has a whole batch, predicted, MB by type of computation: {", ".join(kinds)}',
  ]
  of_kinds = [memory.stages(config, shapes, stages, width) for width in kinds.values()]
  for same in zip(*of_kinds):
    stage = same[0]
    lines += [
      '',
      f'  {stage.name}: {stage.trained:,} parameters trained, {stage.frozen:,} frozen',
      f'    tokens of a step: {stage.tokens}',
    ]
    lines += [
      _row(alike[0].name, [buffer.size for buffer in alike])
      for alike in zip(*(of.buffers for of in same))
    ]
    lines.append(_row('peak, during ' + stage.largest, [of.peak for of in same]))
  return lines


def _row(name: str, sizes: Sequence[int]) -> str:
  return f'    {name:<42}' + ''.join(f'{size / 1e6:>12,.1f}' for size in sizes)


def _fields(section: Any, prefix: str) -> Iterator[tuple[str, Any]]:
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      yield from _fields(value, f'{prefix}{field.name}.')
    else:
      yield prefix + field.name, value


def _describe_model(spec: str) -> tuple[Any, list[str]]:
  """Its shape, None where the hub does not answer; and lines that say it."""
  try:
    raw = pretrained.read_config(spec)
  except InputError as error:
    if os.path.exists(spec):
      raise
    return None, [f'  not known here: {printable(str(error))}']
  kind, model_config = huggingface_config.parse(raw, spec)
  shapes = huggingface_weights.shapes(kind, model_config)
  leaves = [
    ('/'.join(str(key.key) for key in path), leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
  ]
  return model_config, [f'  {kind}, {memory.count(shapes):,} parameters'] + [
    f'  {name} {list(shape)}' for name, shape in leaves
  ]
