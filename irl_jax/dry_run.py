"""What a run would do, without doing it: its config, and its models by their config.json alone."""

import dataclasses
import math
import os
from typing import Any, Iterator, Sequence

import jax

from irl_jax.config import Config
from irl_jax.errors import InputError
from irl_jax.models import gpt_neox
from irl_jax.models import huggingface_config
from irl_jax.models import pretrained
from irl_jax.models import roberta
from irl_jax.terminal import printable


def describe(config: Config, workdir: str, stages: Sequence[str]) -> str:
  """Every field as --config would name it, and the shape of every model.

  No weights are read and no accelerator is touched. A hub that does not answer is only reported.

  Raises:
    ConfigError: a model is a path that does not exist.
    InputError: a model's folder holds no config that can be run.
  """
  jax.config.update('jax_platforms', 'cpu')
  lines = [f'{name} = {value!r}' for name, value in _fields(config, 'config.')]
  lines += ['', f'workdir: {workdir}', f'stages: {", ".join(stages)}']
  for role, stage, shape in (('base', 'sft', config.sft), ('classifier', 'classifier', config.classifier)):
    if not getattr(config.models, role) and stage in stages:
      lines += ['', f'models.{role}: trained from scratch by the {stage} stage, its vocabulary made from the data',
                f'  {shape.layers} layers, width {shape.hidden_size}, {shape.heads} heads']
  for role, spec in dataclasses.asdict(config.models).items():
    lines += ['', f'models.{role}: {spec}', *_describe_model(spec)] if spec else []
  return '\n'.join(lines)


def _fields(section: Any, prefix: str) -> Iterator[tuple[str, Any]]:
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      yield from _fields(value, f'{prefix}{field.name}.')
    else:
      yield prefix + field.name, value


def _describe_model(spec: str) -> list[str]:
  try:
    raw = pretrained.read_config(spec)
  except InputError as error:
    if os.path.exists(spec):
      raise
    return [f'  not known here: {printable(str(error))}']
  kind, model_config = huggingface_config.parse(raw, spec)
  init = roberta.init if kind == 'classifier' else gpt_neox.init
  shapes = jax.eval_shape(lambda: init(jax.random.key(0), model_config))
  leaves = [('/'.join(str(key.key) for key in path), leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)]
  count = sum(math.prod(shape) for _, shape in leaves)
  return [f'  {kind}, {count:,} parameters'] + [f'  {name} {list(shape)}' for name, shape in leaves]
