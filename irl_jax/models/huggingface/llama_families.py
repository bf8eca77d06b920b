"""config.json of the Llama family: Llama, Mistral, Qwen 2 and 3, OLMo 2, Gemma 2 and 3 (text).

Every setting of these families is either computed as transformers computes it, or refused by name.
Where a file leaves a setting out, transformers' own default for the family holds.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from irl_jax.errors import InputError
from irl_jax.models.llama_config import LlamaConfig
from irl_jax.models.llama_config import Rope

FULL, SLIDING = 'full_attention', 'sliding_attention'  # the names of layer_types
_SHAPE = (  # fields that every family has, under the same name in a file
  'vocab_size',
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'head_dim',
  'max_position_embeddings',
  'rms_norm_eps',
  'initializer_range',
  'tie_word_embeddings',
)
_DEFAULTS = {'initializer_range': 0.02, 'tie_word_embeddings': False, 'rms_norm_eps': 1e-6}
# Settings that change what some family computes, with the values that change nothing (null is
# always one). A family that has no such setting is refused if a file gives it another value.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
  'attention_bias': (False,),
  'mlp_bias': (False,),
  'use_sliding_window': (False,),
  'sliding_window': (),
  'layer_types': (),
  'sliding_window_pattern': (),
  'attn_logit_softcapping': (),
  'final_logit_softcapping': (),
  'query_pre_attn_scalar': (),
  'rope_local_base_freq': (),
  'partial_rotary_factor': (1,),
  'rope_interleaved': (False,),
  'use_bidirectional_attention': (False,),
  'add_cross_attention': (False,),
  'per_layer_config': ({},),
  'attention_multiplier': (),
  'embedding_multiplier': (1,),
  'residual_multiplier': (1,),
  'logits_scaling': (1,),
  'clip_qkv': (),
  'num_experts': (0,),
  'num_local_experts': (0,),
}
_ROPE_KEYS = {  # of rope_parameters, by their type
  'default': (),
  'linear': ('factor',),
  'llama3': ('factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'),
}


@dataclasses.dataclass(frozen=True)
class _Family:
  """One model_type: what it computes, which settings it has, and transformers' defaults."""

  switches: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fields of LlamaConfig
  settings: frozenset[str] = frozenset()  # the settings of _NEUTRAL that it has
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  activation: str = 'silu'
  activation_name: str = 'hidden_act'


_WINDOWED = frozenset({'use_sliding_window', 'sliding_window', 'layer_types'})
_GEMMA = frozenset({'attention_bias', 'sliding_window', 'layer_types', 'query_pre_attn_scalar'})
_GEMMA_SWITCHES = {'norm_placement': 'sandwich', 'norm_weight': 'one_plus', 'scale_embedding': True}
_GEMMA_DEFAULTS = {
  'head_dim': 256,
  'num_key_value_heads': 4,
  'tie_word_embeddings': True,
  'query_pre_attn_scalar': 256,
  'sliding_window': 4096,
}
_FAMILIES = {
  'llama': _Family(settings=frozenset({'attention_bias', 'mlp_bias'})),
  'mistral': _Family(
    settings=frozenset({'sliding_window'}),
    defaults={'num_key_value_heads': 8, 'sliding_window': 4096},
  ),
  'qwen2': _Family(
    {'qkv_bias': True},
    settings=_WINDOWED,
    defaults={'num_key_value_heads': 32, 'sliding_window': 4096, 'max_window_layers': 28},
  ),
  'qwen3': _Family(
    {'qk_norm': 'head'},
    settings=_WINDOWED | {'attention_bias'},
    defaults={
      'num_key_value_heads': 32,
      'head_dim': 128,
      'sliding_window': 4096,
      'max_window_layers': 28,
    },
  ),
  'olmo2': _Family(
    {'norm_placement': 'post', 'norm_weight': 'float32', 'qk_norm': 'projection'},
    settings=frozenset({'attention_bias'}),
    defaults={'rms_norm_eps': 1e-5},
  ),
  'gemma2': _Family(
    _GEMMA_SWITCHES,
    settings=_GEMMA | {'attn_logit_softcapping', 'final_logit_softcapping'},
    defaults=_GEMMA_DEFAULTS | {'attn_logit_softcapping': 50.0, 'final_logit_softcapping': 30.0},
    activation='gelu_pytorch_tanh',
    activation_name='hidden_activation',
  ),
  'gemma3_text': _Family(
    _GEMMA_SWITCHES | {'qk_norm': 'head'},
    settings=_GEMMA | {'final_logit_softcapping', 'sliding_window_pattern', 'rope_local_base_freq'},
    defaults=_GEMMA_DEFAULTS
    | {'vocab_size': 262_208, 'num_attention_heads': 8, 'max_position_embeddings': 131_072},
    activation='gelu_pytorch_tanh',
    activation_name='hidden_activation',
  ),
}
MODEL_TYPES = tuple(_FAMILIES)


def read(raw: Mapping[str, Any], ends: tuple[int, ...], where: str) -> dict[str, Any]:
  """Returns the fields of LlamaConfig that a config.json describes; their types are not checked.

  Args:
    raw: the file as it stands; its model_type is one of MODEL_TYPES.
    ends: its EOS ids.
    where: the name of the model in an error.

  Raises:
    InputError: a setting that is missing, contradicts another one, or is not computed here.
  """
  family = _FAMILIES[raw['model_type']]
  _check_settings(raw, family, where)
  fields = _with_defaults(raw, family)
  if missing := [name for name in _SHAPE if fields.get(name) is None]:
    raise InputError(f'{where}: config.json has no {", ".join(missing)}')
  biased = bool(fields.get('attention_bias'))
  window, slides = _window(fields, where)
  rope, local_rope = _ropes(raw, where)
  values = {name: fields[name] for name in _SHAPE}
  values |= {'qkv_bias': biased, 'o_bias': biased, 'mlp_bias': bool(fields.get('mlp_bias'))}
  values |= {'model_type': raw['model_type'], 'hidden_act': family.activation, **family.switches}
  values |= {'rope': rope, 'local_rope': local_rope}
  values |= {'sliding_window': window, 'sliding_layers': slides, 'eos_token_ids': ends}
  for name in ('query_pre_attn_scalar', 'attn_logit_softcapping', 'final_logit_softcapping'):
    values[name] = None if fields.get(name) is None else _positive(fields[name], name, where)
  for name in ('bos_token_id', 'pad_token_id'):  # some files have -1 for none
    token = raw.get(name)
    values[name] = token if type(token) is int and token >= 0 else None
  return values


def write(config: LlamaConfig) -> dict[str, Any]:
  """Returns the settings of a config.json, in the spellings of transformers 4 and 5."""
  family = _FAMILIES[config.model_type]
  scalar = config.query_pre_attn_scalar
  settings = {
    'attention_bias': config.o_bias,
    'mlp_bias': config.mlp_bias,
    # Transformers makes a mask of Gemma's window even if no layer slides.
    'sliding_window': config.sliding_window or family.defaults.get('sliding_window'),
    'use_sliding_window': config.sliding_window is not None,
    'layer_types': [
      SLIDING if slides else FULL
      for slides in config.sliding_layers or (False,) * config.num_hidden_layers
    ],
    'query_pre_attn_scalar': int(scalar) if scalar and scalar.is_integer() else scalar,
    'attn_logit_softcapping': config.attn_logit_softcapping,
    'final_logit_softcapping': config.final_logit_softcapping,
  }
  if config.model_type == 'mistral':  # all its layers slide, or none
    settings['sliding_window'] = config.sliding_window
  return {
    **{name: getattr(config, name) for name in _SHAPE},
    **{name: value for name, value in settings.items() if name in family.settings},
    family.activation_name: config.hidden_act,
    'bos_token_id': config.bos_token_id,
    **_written_ropes(config),
  }


def _check_settings(raw: Mapping[str, Any], family: _Family, where: str) -> None:
  """Refuses settings that change what a model computes and that its family does not have."""
  for name, neutral in _NEUTRAL.items():
    value = raw.get(name)
    only_full = name == 'layer_types' and isinstance(value, list) and set(map(str, value)) == {FULL}
    if name not in family.settings and value is not None and value not in neutral and not only_full:
      raise _refusal(where, name, value, f'{raw["model_type"]} has no such setting; remove it')
  for name in ('attention_bias', 'mlp_bias', 'use_sliding_window'):
    if raw.get(name) is not None and type(raw[name]) is not bool:
      raise _refusal(where, name, raw[name], 'must be true or false')
  activation = raw.get(family.activation_name) or family.activation
  if activation != family.activation:
    raise _refusal(where, family.activation_name, activation, f'must be {family.activation}')


def _with_defaults(raw: Mapping[str, Any], family: _Family) -> dict[str, Any]:
  """Returns the settings of a file, and those that it leaves out as transformers sets them."""
  fields = {**_DEFAULTS, **family.defaults}
  # A null of a window or a cap is a value; any other null is as good as nothing.
  fields |= {
    name: value for name, value in raw.items() if value is not None or name in family.settings
  }
  if raw.get('num_key_value_heads', 0) is None or 'num_key_value_heads' not in fields:
    fields['num_key_value_heads'] = fields.get('num_attention_heads')
  width, heads = fields.get('hidden_size'), fields.get('num_attention_heads')
  if 'head_dim' not in fields and type(width) is type(heads) is int and heads > 0:
    fields['head_dim'] = width // heads
  return fields


def _window(fields: Mapping[str, Any], where: str) -> tuple[int | None, tuple[bool, ...]]:
  """Returns the window, and which layers slide: (None, ()) if none does."""
  name, layers = fields['model_type'], fields['num_hidden_layers']
  window = fields.get('sliding_window')
  if 'use_sliding_window' in _FAMILIES[name].settings and not fields.get('use_sliding_window'):
    window = None
  slides = _sliding_layers(fields, window, layers, where)
  if not any(slides):
    return None, ()
  if type(window) is not int or not 0 < window < 2**31:
    raise _refusal(where, 'sliding_window', window, 'must be a whole number > 0')
  return window, slides


def _sliding_layers(
  fields: Mapping[str, Any], window: Any, layers: Any, where: str
) -> tuple[bool, ...]:
  """Returns which layers slide, [L]."""
  name = fields['model_type']
  types = fields.get('layer_types') if 'layer_types' in _FAMILIES[name].settings else None
  if type(layers) is not int or layers > 10_000:
    raise _refusal(where, 'num_hidden_layers', layers, 'must be a whole number below 10,000')
  if types is not None:
    if (
      not isinstance(types, list) or len(types) != layers or set(map(str, types)) - {FULL, SLIDING}
    ):
      raise _refusal(
        where, 'layer_types', types, f'must name {FULL} or {SLIDING} for each of {layers} layers'
      )
    return tuple(one == SLIDING for one in types)
  if name.startswith('gemma'):
    pattern = fields.get('sliding_window_pattern') if name == 'gemma3_text' else 2
    pattern = 6 if pattern is None else pattern
    if type(pattern) is not int or pattern < 1:
      raise _refusal(where, 'sliding_window_pattern', pattern, 'must be a whole number > 0')
    return tuple((layer + 1) % pattern > 0 for layer in range(layers))
  if window is None:
    return (False,) * layers
  first = 0 if name == 'mistral' else fields['max_window_layers']
  if type(first) is not int:
    raise _refusal(where, 'max_window_layers', first, 'must be a whole number')
  return tuple(layer >= first for layer in range(layers))


def _ropes(raw: Mapping[str, Any], where: str) -> tuple[Rope, Rope | None]:
  """Returns the rotary positions of a model, and those of its sliding layers if they differ.

  Both spellings are read: rope_theta and rope_scaling of transformers 4, and rope_parameters of
  transformers 5, which has one object per type of layer for Gemma 3.
  """
  scaling, parameters = (_object(raw, name, where) for name in ('rope_scaling', 'rope_parameters'))
  theta = raw.get('rope_theta')
  if raw['model_type'] != 'gemma3_text':
    return _rope(scaling or parameters, 10000.0 if theta is None else theta, raw, where), None
  if set(parameters) - {FULL, SLIDING}:
    raise _refusal(where, 'rope_parameters', parameters, f'must have {FULL} and {SLIDING} alone')
  local_theta = raw.get('rope_local_base_freq')
  full, sliding = (_object(parameters, name, where) for name in (FULL, SLIDING))
  return (
    _rope(full | scaling, 1_000_000.0 if theta is None else theta, raw, where),
    _rope(sliding, 10000.0 if local_theta is None else local_theta, raw, where),
  )


def _rope(rope: Mapping[str, Any], theta: Any, raw: Mapping[str, Any], where: str) -> Rope:
  """Returns the rotary positions that an object of rope_parameters, or rope_scaling, describes."""
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if not isinstance(kind, str) or kind not in _ROPE_KEYS:
    raise InputError(
      f'{where}: config.json: rope_type = {kind!r} is not supported; must be default, linear or '
      'llama3'
    )
  values = {'original_max_position_embeddings': raw.get('max_position_embeddings')} | {
    name: value for name, value in rope.items() if value is not None
  }
  outer = raw.get('original_max_position_embeddings')  # transformers prefers it
  values |= {} if outer is None else {'original_max_position_embeddings': outer}
  known = {'rope_type', 'type', 'rope_theta', *_ROPE_KEYS['llama3']}
  if unknown := {name: value for name, value in values.items() if name not in known and value != 1}:
    raise _refusal(where, 'rope_parameters', unknown, 'is not computed')
  numbers: dict[str, Any] = {}
  for name in _ROPE_KEYS[kind]:
    if name not in values:
      raise InputError(f'{where}: config.json: rope_type = {kind!r} without {name}; add it')
    numbers[name] = _positive(values[name], name, where)
  if numbers.get('low_freq_factor', 0) >= numbers.get('high_freq_factor', 1):
    raise _refusal(
      where, 'low_freq_factor', values['low_freq_factor'], 'must be < high_freq_factor'
    )
  if 'original_max_position_embeddings' in numbers:
    numbers['original_max_position_embeddings'] = int(numbers['original_max_position_embeddings'])
  theta = _positive(values.get('rope_theta', theta), 'rope_theta', where)
  return Rope(theta=theta, kind=kind, **numbers)


def _written_ropes(config: LlamaConfig) -> dict[str, Any]:
  """Returns the rotary positions in both spellings."""
  scaled = lambda rope: {
    'rope_type': rope.kind,
    **{name: getattr(rope, name) for name in _ROPE_KEYS[rope.kind]},
  }
  new = lambda rope: {'rope_theta': rope.theta, **scaled(rope)}
  old = {
    'rope_theta': config.rope.theta,
    'rope_scaling': None if config.rope.kind == 'default' else scaled(config.rope),
  }
  if config.local_rope is None:
    return old | {'rope_parameters': new(config.rope)}
  return old | {
    'rope_local_base_freq': config.local_rope.theta,
    'rope_parameters': {FULL: new(config.rope), SLIDING: new(config.local_rope)},
  }


def _object(raw: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
  """Returns an object of a file, {} if it is null or not there."""
  value = raw.get(name)
  if value is not None and not isinstance(value, dict):
    raise _refusal(where, name, value, 'must be an object')
  return dict(value or {})


def _positive(value: Any, name: str, where: str) -> float:
  if type(value) not in (int, float) or not 0 < value < 2**31:
    raise _refusal(where, name, value, 'must be a number > 0')
  return float(value)


def _refusal(where: str, name: str, value: Any, why: str) -> InputError:
  """Returns the error of a setting of config.json."""
  return InputError(f'{where}: config.json: {name} = {value!r}: {why}')
