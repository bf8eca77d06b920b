"""Fields of an encoder's config.json, whose names and defaults depend on its family."""

from typing import Any

from irl_jax.errors import InputError
from irl_jax.models.encoder import EncoderConfig

_DISTILBERT = {  # DistilBERT's names of fields, by ours
  'hidden_size': 'dim',
  'num_hidden_layers': 'n_layers',
  'num_attention_heads': 'n_heads',
  'intermediate_size': 'hidden_dim',
  'hidden_act': 'activation',
}
# What transformers' classes compute without a field for it.
_FIXED = {'distilbert': {'layer_norm_eps': 1e-12, 'type_vocab_size': 0}}
_DEFAULTS = {'bert': {'pad_token_id': 0}, 'distilbert': {'pad_token_id': 0}}


def spelled(raw: dict[str, Any]) -> dict[str, Any]:
  """Returns an encoder's config.json with the names of EncoderConfig's fields; others stay."""
  family = raw['model_type']
  ours = {theirs: name for name, theirs in _names(family).items()}
  fields = {ours.get(name, name): value for name, value in raw.items()}
  known = {name: value for name, value in fields.items() if value is not None}
  return {
    **fields,
    **_DEFAULTS.get(family, {}),
    **known,
    **_FIXED.get(family, {}),
    'family': family,
  }


def check(config: EncoderConfig, where: str) -> None:
  """Refuses fields that are valid alone and contradict each other.

  Raises:
    InputError: names the field.
  """
  if config.max_tokens < 3:
    raise InputError(
      f'{where}: config.json: max_position_embeddings = {config.max_position_embeddings}: no text '
      'fits between its special tokens'
    )
  if not config.type_vocab_size and 'type_vocab_size' not in _FIXED.get(config.family, {}):
    raise InputError(f'{where}: config.json: type_vocab_size = 0: must be > 0')


def written(fields: dict[str, Any]) -> dict[str, Any]:
  """Returns the fields of an EncoderConfig as its family's config.json has them."""
  family = fields['family']
  left_out = {'family', 'labels', *_FIXED.get(family, {})}
  names = _names(family)
  return {names.get(name, name): v for name, v in fields.items() if name not in left_out}


def _names(family: str) -> dict[str, str]:
  return _DISTILBERT if family == 'distilbert' else {}
