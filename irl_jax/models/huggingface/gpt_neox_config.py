"""Fields of a GPT-NeoX's config.json that have two spellings: its rotary positions."""

import dataclasses
from typing import Any

from irl_jax.errors import InputError
from irl_jax.models.gpt_neox import GPTNeoXConfig


def rotary(raw: dict[str, Any], where: str) -> dict[str, float]:
  """Returns rotary_pct and rotary_emb_base from either spelling.

  If both are present, the newer one counts, as in transformers.

  Raises:
    InputError: the positions are stretched, which no Pythia does.
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


def check(config: GPTNeoXConfig, where: str) -> None:
  """Refuses fields that are valid alone and contradict each other.

  Raises:
    InputError: names the field.
  """
  if config.rotary_pct > 1 or config.rotary_ndims % 2:
    raise InputError(
      f'{where}: config.json: rotary_pct = {config.rotary_pct}: must be <= 1, and '
      f'rotary_pct × head size ({config.head_dim}) must be an even number'
    )


def written(config: GPTNeoXConfig) -> dict[str, Any]:
  """Returns the fields of a config.json.

  The rotary settings are written in both spellings, for every version of transformers.
  """
  raw = dataclasses.asdict(config)
  del raw['eos_token_ids']
  raw['rope_parameters'] = {
    'rope_type': 'default',
    'rope_theta': config.rotary_emb_base,
    'partial_rotary_factor': config.rotary_pct,
  }
  return raw
