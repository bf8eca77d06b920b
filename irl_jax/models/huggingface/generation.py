"""generation_config.json of a language model: the tokens at which a response ends."""

import dataclasses
import pathlib
from typing import Any

from irl_jax.errors import InputError
from irl_jax.models import trunk
from irl_jax.models.huggingface import weight_files
from irl_jax.models.llama_config import LlamaConfig
from irl_jax.runtime import notices

FILE = 'generation_config.json'


def with_ends(config: trunk.Config, folder: pathlib.Path, where: str) -> trunk.Config:
  """Returns a language model's config with the ends of generation_config.json among its EOS ids.

  Transformers' `generate` ends a response at any of them.

  Args:
    config: as config.json describes it.
    folder: of the model's files.
    where: the name of the model in a message.
  """
  ends = dict.fromkeys([*config.eos_token_ids, *_ends(folder, config.vocab_size, where)])
  return dataclasses.replace(config, eos_token_ids=tuple(ends))


def with_tokens_of(config: trunk.Config, tokenizer: Any) -> trunk.Config:
  """Returns the config with its tokenizer's EOS first, which starts texts, and with its padding."""
  ends = tuple(dict.fromkeys([tokenizer.eos_token_id, *config.eos_token_ids]))
  if isinstance(config, LlamaConfig):
    return dataclasses.replace(config, eos_token_ids=ends, pad_token_id=int(tokenizer.pad_token_id))
  return dataclasses.replace(config, eos_token_ids=ends)


def to_json(config: trunk.Config, pad_token_id: int) -> dict[str, Any]:
  """Returns the generation_config.json of a language model."""
  ends = config.eos_token_ids
  return {
    'bos_token_id': config.bos_token_id,
    'eos_token_id': list(ends) if len(ends) > 1 else ends[0],
    'pad_token_id': pad_token_id,
  }


def _ends(folder: pathlib.Path, vocab_size: int, where: str) -> list[int]:
  """Returns the EOS ids of generation_config.json that the model has embeddings for."""
  if not (folder / FILE).is_file():
    return []
  try:
    ends = weight_files.read_json(folder / FILE).get('eos_token_id')
  except InputError as error:  # it is not needed
    notices.warn_once(f'{error}; {where} is used without it')
    return []
  listed = ends if isinstance(ends, list) else [ends]
  return [end for end in listed if type(end) is int and 0 <= end < vocab_size]
