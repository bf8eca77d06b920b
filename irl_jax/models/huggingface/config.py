"""Conversion between a Hugging Face config.json and our configs; refuses what we cannot run."""

import dataclasses
import re
from typing import Any
from typing import get_args
from typing import Literal

from irl_jax.errors import InputError
from irl_jax.models.encoder import EncoderConfig
from irl_jax.models.gpt_neox import GPTNeoXConfig
from irl_jax.models.huggingface import encoder_config

Kind = Literal['causal_lm', 'reward', 'classifier']
ModelConfig = GPTNeoXConfig | EncoderConfig
KINDS: tuple[Kind, ...] = get_args(Kind)
_DECODER: dict[Kind, str] = {'causal_lm': 'ForCausalLM', 'reward': 'ForSequenceClassification'}
_CLASSIFIER: dict[Kind, str] = {'classifier': 'ForSequenceClassification'}
# The name of transformers' class for each kind of model, by model_type.
ARCHITECTURES: dict[str, dict[Kind, str]] = {
  family: {kind: name + head for kind, head in heads.items()}
  for family, name, heads in (
    ('gpt_neox', 'GPTNeoX', _DECODER),
    ('roberta', 'Roberta', _CLASSIFIER),
    ('xlm-roberta', 'XLMRoberta', _CLASSIFIER),
    ('bert', 'Bert', _CLASSIFIER),
    ('distilbert', 'DistilBert', _CLASSIFIER),
  )
}
# What other tools add to the name of a model's class: accelerate's wrapper before it, TRL's and
# trlX's heads behind it.
_WRAPPED = re.compile(r'(?:FSDP)?(?P<name>\w+?)(?:With\w*Heads?)?')

# Fields that a config.json may leave out, with transformers' defaults. All others are required.
DEFAULTS = {
  'hidden_act': 'gelu',
  'initializer_range': 0.02,
  'use_parallel_residual': True,
  'tie_word_embeddings': False,
  'attention_bias': True,
  'bos_token_id': 0,
  'eos_token_id': 0,
  'pad_token_id': 1,
}
POSITIVE = (
  'vocab_size',
  'hidden_size',
  'num_hidden_layers',
  'num_attention_heads',
  'intermediate_size',
  'max_position_embeddings',
  'rotary_emb_base',
)
MOST_LABELS = 10_000
# Settings that change what a model computes, with the only value that we compute.
ONLY = {
  'hidden_act': 'gelu',
  'position_embedding_type': 'absolute',
  'is_decoder': False,
  'add_cross_attention': False,
}


def model_type(config: ModelConfig) -> str:
  """Returns Hugging Face's name of a config's family."""
  return config.family if isinstance(config, EncoderConfig) else 'gpt_neox'


def architecture(kind: Kind, config: ModelConfig) -> str:
  """Returns the name of transformers' class for a model."""
  return ARCHITECTURES[model_type(config)][kind]


def kind_of(raw: dict[str, Any], where: str) -> Kind:
  """Returns the kind of model that a config.json describes.

  Args:
    raw: the content of the file.
    where: the name of the model in an error.

  Raises:
    InputError: another architecture, or a model with its own code (`auto_map`), which is never run.
  """
  if 'auto_map' in raw:
    raise InputError(
      f'{where}: config.json requires its own code (auto_map): refused; nothing was executed'
    )
  architectures, family = raw.get('architectures') or [], str(raw.get('model_type'))
  name = _unwrapped(architectures)
  for kind, known in ARCHITECTURES.get(family, {}).items():
    if name == known:
      return kind
  raise InputError(
    f'{where}: architecture {architectures} of model_type {raw.get("model_type")!r} is not '
    f'supported; must be one of {", ".join(_all_architectures())}'
  )


def _unwrapped(architectures: Any) -> str:
  """Returns the name of the only class, without what other tools add to it; '' if it has none."""
  is_name = isinstance(architectures, list) and [type(name) for name in architectures] == [str]
  match = _WRAPPED.fullmatch(architectures[0]) if is_name else None
  return match['name'] if match else ''


def _all_architectures() -> list[str]:
  return [name for names in ARCHITECTURES.values() for name in names.values()]


def labels(raw: dict[str, Any], where: str) -> tuple[str, ...]:
  """Returns the names of a classifier's labels, in the order of its logits.

  If config.json names none, they are transformers' LABEL_0, LABEL_1, ...

  Raises:
    InputError: id2label does not number its labels from 0.
  """
  count = raw.get('num_labels') or 2
  if type(count) is not int or not 0 < count <= MOST_LABELS:
    raise InputError(
      f'{where}: config.json: num_labels = {count!r}: must be a whole number from 1 to '
      f'{MOST_LABELS}'
    )
  names = raw.get('id2label') or {str(i): f'LABEL_{i}' for i in range(count)}
  if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(len(names)))):
    raise InputError(f'{where}: config.json: id2label = {names!r}: must name labels 0, 1, ...')
  return tuple(str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0])))


def _end(fields: dict[str, Any], where: str) -> dict[str, Any]:
  """Returns eos_token_id as one number, and as eos_token_ids; transformers also reads a list.

  Raises:
    InputError: the list has several tokens, or something else than tokens.
  """
  ends = fields.get('eos_token_id', DEFAULTS['eos_token_id'])
  ends = ends if isinstance(ends, list) else [ends]
  if not ends or any(end != ends[0] for end in ends):
    raise InputError(
      f'{where}: config.json: eos_token_id = {ends!r}: must be one token, because irl_jax ends a '
      "response at one; keep the tokenizer's EOS"
    )
  if type(ends[0]) is not int:
    raise InputError(f'{where}: config.json: eos_token_id = {ends[0]!r}: must be of type int')
  if not 0 <= ends[0] < 2**31:
    raise InputError(f'{where}: config.json: eos_token_id = {ends[0]!r}: out of range')
  return {'eos_token_id': ends[0], 'eos_token_ids': (ends[0],)}


def _rotary(raw: dict[str, Any], where: str) -> dict[str, float]:
  """Returns rotary_pct and rotary_emb_base from either spelling.

  If both are present, the newer one counts, as in transformers.
  """
  rope = raw.get('rope_scaling') or raw.get('rope_parameters') or {}
  if not isinstance(rope, dict):
    raise InputError(
      f'{where}: config.json: rope_scaling, or rope_parameters, = {rope!r}: must be an object'
    )
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if kind != 'default':
    raise InputError(
      f'{where}: config.json: rope_type = {kind!r} is not supported; must be default'
    )
  return {
    'rotary_pct': rope.get('partial_rotary_factor', raw.get('rotary_pct', 0.25)),
    'rotary_emb_base': rope.get('rope_theta', raw.get('rotary_emb_base', 10000.0)),
  }


def _check_types(values: dict[str, Any], config_class: type, where: str) -> None:
  """Refuses values of another type than their field's, or out of range; integers become floats."""
  for field in dataclasses.fields(config_class):
    value = values[field.name]
    if field.type is float and type(value) is int:
      value = values[field.name] = float(value)
    if isinstance(field.type, type) and type(value) is not field.type:
      raise InputError(
        f'{where}: config.json: {field.name} = {value!r}: must be of type {field.type.__name__}'
      )
    if field.type in (int, float) and not 0 <= value < 2**31:
      raise InputError(f'{where}: config.json: {field.name} = {value!r}: out of range')
  for name in POSITIVE:
    if values.get(name) == 0:
      raise InputError(f'{where}: config.json: {name} = 0: must be > 0')


def _check_consistency(config: ModelConfig, where: str) -> None:
  """Refuses fields that are valid alone and contradict each other."""
  heads, special = config.num_attention_heads, ('bos_token_id', 'eos_token_id', 'pad_token_id')
  if config.hidden_size % heads:
    raise InputError(
      f'{where}: config.json: num_attention_heads = {heads}: must divide hidden_size = '
      f'{config.hidden_size}'
    )
  for name in special:
    if getattr(config, name, 0) >= config.vocab_size:
      raise InputError(
        f'{where}: config.json: {name} = {getattr(config, name)}: must be < vocab_size = '
        f'{config.vocab_size}'
      )
  if isinstance(config, GPTNeoXConfig) and (config.rotary_pct > 1 or config.rotary_ndims % 2):
    raise InputError(
      f'{where}: config.json: rotary_pct = {config.rotary_pct}: must be <= 1, and '
      f'rotary_pct × head size ({config.head_dim}) must be an even number'
    )
  if isinstance(config, EncoderConfig):
    encoder_config.check(config, where)


def parse(raw: dict[str, Any], where: str) -> tuple[Kind, ModelConfig]:
  """Returns the kind and the config of a model.

  Args:
    raw: its config.json as it stands, of any transformers version.
    where: the name of the model in an error.

  Raises:
    InputError: a model that we would not run as transformers does, or a field that is missing or
      out of range.
  """
  kind = kind_of(raw, where)
  if raw.get('quantization_config') is not None:
    raise InputError(
      f'{where}: config.json has a quantization_config: quantized weights are not read; pass the '
      'model as it was before, or save it again after model.dequantize(), as float16, bfloat16 or '
      'float32'
    )
  if kind == 'classifier':
    raw = encoder_config.spelled(raw)
  for name, only in ONLY.items():
    if raw.get(name, only) != only:
      raise InputError(
        f'{where}: config.json: {name} = {raw[name]!r} is not supported; must be {only}'
      )
  config_class = EncoderConfig if kind == 'classifier' else GPTNeoXConfig
  fields = {name: value for name, value in raw.items() if value is not None}
  fields |= _end(fields, where)
  fields |= {'labels': labels(raw, where)} if kind == 'classifier' else _rotary(raw, where)
  values = {
    field.name: fields.get(field.name, DEFAULTS.get(field.name))
    for field in dataclasses.fields(config_class)
  }
  missing = [name for name, value in values.items() if value is None]
  if missing:
    raise InputError(f'{where}: config.json has no {", ".join(missing)}')
  _check_types(values, config_class, where)
  if kind == 'reward' and len(labels(raw, where)) != 1:
    raise InputError(
      f'{where}: config.json: id2label = {list(labels(raw, where))}: a reward has exactly one label'
    )
  config = config_class(**values)
  _check_consistency(config, where)
  return kind, config


def to_json(kind: Kind, config: ModelConfig, pad_token_id: int) -> dict[str, Any]:
  """Returns the config.json of a model.

  GPT-NeoX's rotary settings are written in both spellings, for every version of transformers.
  """
  raw = {
    'architectures': [architecture(kind, config)],
    'model_type': model_type(config),
    'dtype': 'float32',
    'pad_token_id': pad_token_id,
  }
  if isinstance(config, EncoderConfig):
    # RoBERTa keeps its own pad_token_id, which fixes its positions.
    raw |= encoder_config.written(dataclasses.asdict(config))
    return raw | {'problem_type': 'single_label_classification'} | _numbered(config.labels)
  raw |= dataclasses.asdict(config)
  del raw['eos_token_ids']
  raw['eos_token_id'] = config.eos_token_id
  raw['rope_parameters'] = {
    'rope_type': 'default',
    'rope_theta': config.rotary_emb_base,
    'partial_rotary_factor': config.rotary_pct,
  }
  return (
    raw if kind == 'causal_lm' else raw | {'problem_type': 'regression'} | _numbered(('reward',))
  )


def _numbered(names: tuple[str, ...]) -> dict[str, Any]:
  return {
    'num_labels': len(names),
    'id2label': {str(i): name for i, name in enumerate(names)},
    'label2id': {name: i for i, name in enumerate(names)},
  }
