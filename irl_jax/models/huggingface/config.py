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
from irl_jax.models.huggingface import gpt_neox_config
from irl_jax.models.huggingface import llama_families
from irl_jax.models.llama_config import LlamaConfig

Kind = Literal['causal_lm', 'reward', 'classifier']
ModelConfig = GPTNeoXConfig | LlamaConfig | EncoderConfig
KINDS: tuple[Kind, ...] = get_args(Kind)
_SEQUENCES = 'ForSequenceClassification'
_DECODER: dict[Kind, str] = {
  'causal_lm': 'ForCausalLM',
  **dict.fromkeys(('reward', 'classifier'), _SEQUENCES),
}
_CLASSIFIER: dict[Kind, str] = {'classifier': _SEQUENCES}
_GEMMA3: dict[Kind, str] = {
  'causal_lm': 'ForCausalLM',
  **dict.fromkeys(('reward', 'classifier'), f'Text{_SEQUENCES}'),
}
# The name of transformers' class for each kind of model, by model_type. A decoder with one label
# is a reward, one with several a classifier.
ARCHITECTURES: dict[str, dict[Kind, str]] = {
  family: {kind: name + head for kind, head in heads.items()}
  for family, name, heads in (
    ('gpt_neox', 'GPTNeoX', _DECODER),
    ('llama', 'Llama', _DECODER),
    ('mistral', 'Mistral', _DECODER),
    ('qwen2', 'Qwen2', _DECODER),
    ('qwen3', 'Qwen3', _DECODER),
    ('olmo2', 'Olmo2', _DECODER),
    ('gemma2', 'Gemma2', _DECODER),
    ('gemma3_text', 'Gemma3', _GEMMA3),
    ('roberta', 'Roberta', _CLASSIFIER),
    ('xlm-roberta', 'XLMRoberta', _CLASSIFIER),
    ('bert', 'Bert', _CLASSIFIER),
    ('distilbert', 'DistilBert', _CLASSIFIER),
  )
}
# Prefixes and suffixes that other tools add to a model's class name: accelerate's wrapper, TRL's
# and trlX's heads.
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
  'num_key_value_heads',
  'head_dim',
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
  if isinstance(config, LlamaConfig):
    return config.model_type
  return config.family if isinstance(config, EncoderConfig) else 'gpt_neox'


def architecture(kind: Kind, config: ModelConfig) -> str:
  """Returns the name of transformers' class for a model."""
  return ARCHITECTURES[model_type(config)][kind]


def text_part(raw: dict[str, Any]) -> dict[str, Any]:
  """Returns the config.json of the language model within a Gemma 3 that also sees images.

  Without images the two compute the same. Any other config.json is returned as it is.
  """
  text, whole = raw.get('text_config'), raw.get('architectures')
  if not isinstance(text, dict) or _unwrapped(whole) != 'Gemma3ForConditionalGeneration':
    return raw
  shared = ('auto_map', 'quantization_config', 'eos_token_id', 'tie_word_embeddings')
  return (
    text
    | {name: raw[name] for name in shared if name in raw}
    | {'model_type': 'gemma3_text', 'architectures': ['Gemma3ForCausalLM']}
  )


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
  kinds: list[Kind] = [
    kind for kind, known in ARCHITECTURES.get(family, {}).items() if name == known
  ]
  if len(kinds) == 2:
    return 'reward' if len(labels(raw, where)) == 1 else 'classifier'
  if kinds:
    return kinds[0]
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
  names = (name for names in ARCHITECTURES.values() for name in names.values())
  return list(dict.fromkeys(names))


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


def reward_zero(raw: dict[str, Any], where: str) -> float:
  """Returns what transformers' score of a reward gives for a reward of 0: 0 if it is not told.

  An RMS norm has no bias that the zero of a recovered reward could be folded into.

  Raises:
    InputError: it is no finite number.
  """
  zero = raw.get('reward_zero', 0.0)
  if type(zero) not in (int, float) or not abs(zero) < float('inf'):
    raise InputError(f'{where}: config.json: reward_zero = {zero!r}: must be a finite number')
  return float(zero)


def _ends(raw: dict[str, Any], where: str) -> tuple[int, ...]:
  """Returns the EOS ids of config.json, one or a list; () if it has none.

  Raises:
    InputError: they are something else than token ids.
  """
  ends = raw.get('eos_token_id')
  listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
  if any(type(end) is not int or not 0 <= end < 2**31 for end in listed):
    raise InputError(
      f'{where}: config.json: eos_token_id = {ends!r}: must be a token id, or a list of them'
    )
  return tuple(dict.fromkeys(listed))


def _check_types(values: dict[str, Any], config_class: type, where: str) -> None:
  """Refuses values of another type than their field's, or out of range; integers become floats."""
  for field in dataclasses.fields(config_class):
    if field.name not in values:  # what no file tells; the default is right
      continue
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
  """Refuses fields that are valid on their own but contradict each other."""
  _check_heads(config, where)
  tokens = {name: getattr(config, name, None) or 0 for name in ('bos_token_id', 'pad_token_id')}
  tokens['eos_token_id'] = max(getattr(config, 'eos_token_ids', ()), default=0)
  for name, token in tokens.items():
    if token >= config.vocab_size:
      raise InputError(
        f'{where}: config.json: {name} = {token}: must be < vocab_size = {config.vocab_size}'
      )
  if isinstance(config, GPTNeoXConfig):
    gpt_neox_config.check(config, where)
  if isinstance(config, EncoderConfig):
    encoder_config.check(config, where)


def _check_heads(config: ModelConfig, where: str) -> None:
  """Refuses heads that do not divide the width, or groups of them that are not equal."""
  heads, width = config.num_attention_heads, config.hidden_size
  refusal = lambda name, value, why: InputError(f'{where}: config.json: {name} = {value}: {why}')
  own_size = isinstance(config, LlamaConfig) and config.head_dim != width // heads
  if width % heads and not own_size:
    raise refusal('num_attention_heads', heads, f'must divide hidden_size = {width}')
  if isinstance(config, LlamaConfig):
    groups = config.num_key_value_heads
    if heads % groups:
      raise refusal('num_key_value_heads', groups, f'must divide num_attention_heads = {heads}')
    if config.head_dim % 2:
      raise refusal('head_dim', config.head_dim, 'must be an even number')


def parse(raw: dict[str, Any], where: str) -> tuple[Kind, ModelConfig]:
  """Returns the kind and the config of a model.

  Args:
    raw: its config.json as it stands, of any transformers version.
    where: the name of the model in an error.

  Raises:
    InputError: a model that we cannot run in the same way as transformers, or a field that is
      missing or out of range.
  """
  raw = text_part(raw)
  kind = kind_of(raw, where)
  if raw.get('quantization_config') is not None:
    raise InputError(
      f'{where}: config.json has a quantization_config: quantized weights are not read; pass the '
      'model as it was before, or save it again after model.dequantize(), as float16, bfloat16 or '
      'float32'
    )
  config_class: type
  if raw['model_type'] in llama_families.MODEL_TYPES:
    config_class, values = LlamaConfig, llama_families.read(raw, _ends(raw, where), where)
  else:
    config_class = GPTNeoXConfig if raw['model_type'] == 'gpt_neox' else EncoderConfig
    values = _read(config_class, raw, where)
  _check_types(values, config_class, where)
  config = config_class(**values)
  _check_consistency(config, where)
  return kind, config


def _read(config_class: type, raw: dict[str, Any], where: str) -> dict[str, Any]:
  """Returns the fields of a GPTNeoXConfig or EncoderConfig; their types are not checked."""
  is_encoder = config_class is EncoderConfig
  if is_encoder:
    raw = encoder_config.spelled(raw)
  for name, only in ONLY.items():
    if raw.get(name, only) != only:
      raise InputError(
        f'{where}: config.json: {name} = {raw[name]!r} is not supported; must be {only}'
      )
  fields = {name: value for name, value in raw.items() if value is not None}
  fields |= {'labels': labels(raw, where)} if is_encoder else gpt_neox_config.rotary(raw, where)
  fields['eos_token_ids'] = _ends(raw, where) or (DEFAULTS['eos_token_id'],)
  fields['eos_token_id'] = fields['eos_token_ids'][0]
  values = {
    field.name: fields.get(field.name, DEFAULTS.get(field.name))
    for field in dataclasses.fields(config_class)
  }
  missing = [name for name, value in values.items() if value is None]
  if missing:
    raise InputError(f'{where}: config.json has no {", ".join(missing)}')
  return values


def to_json(kind: Kind, config: ModelConfig, pad_token_id: int) -> dict[str, Any]:
  """Returns the config.json of a model."""
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
  if isinstance(config, LlamaConfig):
    written = llama_families.write(config)
  else:
    written = gpt_neox_config.written(config)
  ends = config.eos_token_ids
  raw |= written | {'eos_token_id': list(ends) if len(ends) > 1 else ends[0]}
  return (
    raw if kind == 'causal_lm' else raw | {'problem_type': 'regression'} | _numbered(('reward',))
  )


def _numbered(names: tuple[str, ...]) -> dict[str, Any]:
  return {
    'num_labels': len(names),
    'id2label': {str(i): name for i, name in enumerate(names)},
    'label2id': {name: i for i, name in enumerate(names)},
  }
