"""Warnings about a language model that is being loaded; each is logged once."""

from collections.abc import Sequence
import pathlib
from typing import Any

from irl_jax.data import text
from irl_jax.errors import InputError
from irl_jax.models.huggingface import tokenizer as tokenizer_lib
from irl_jax.models.huggingface import weight_files
from irl_jax.models.huggingface.config import ModelConfig
from irl_jax.runtime import notices

GENERATION = 'generation_config.json'
ROLES = ('bos', 'eos', 'unk', 'pad', 'sep', 'cls', 'mask')
MOST_NAMED = 5  # tokens that a message names


def report(folder: pathlib.Path, tokenizer: Any, config: ModelConfig, where: str) -> None:
  """Logs what transformers would do with a language model and we do not.

  Args:
    folder: of the model's files.
    tokenizer: of the model.
    config: of the model.
    where: the name of the model in a message.
  """
  if own := own_specials(tokenizer):
    notices.warn_once(
      f'{where}: has special tokens of its own ({len(own)}: {_listed(own)}): in texts they are '
      'plain text, and completions omit them, although they can be sampled (generate '
      'keeps them with --skip_special_tokens=false)'
    )
  if ends := other_ends(folder, config.eos_token_id, where):
    notices.warn_once(
      f'{where}: {GENERATION} also ends a response at {_listed(ends)}, but irl_jax only at '
      f'{config.eos_token_id}, the eos_token_id of config.json: responses may go on after the '
      'model has ended its turn; lower max_new_tokens, or correct eos_token_id'
    )


def own_specials(tokenizer: Any) -> list[str]:
  """Returns the special tokens of a tokenizer without those that every model has."""
  usual = {getattr(tokenizer, f'{role}_token') for role in ROLES} | {tokenizer_lib.PADDING}
  return [token for token in text.special_tokens(tokenizer) if token not in usual]


def other_ends(folder: pathlib.Path, eos: int, where: str) -> list[int]:
  """Returns the tokens at which generation_config.json ends a response, without EOS itself."""
  if not (folder / GENERATION).is_file():
    return []
  try:
    ends = weight_files.read_json(folder / GENERATION).get('eos_token_id')
  except InputError as error:  # it is not needed
    notices.warn_once(f'{error}; {where} is used without it')
    return []
  listed = ends if isinstance(ends, list) else [ends]
  return [end for end in listed if type(end) is int and end != eos]


def _listed(values: Sequence[Any]) -> str:
  """Returns the first values, for a message of one line."""
  return ', '.join(map(str, values[:MOST_NAMED])) + (' …' if len(values) > MOST_NAMED else '')
