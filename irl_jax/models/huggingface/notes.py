"""Warnings about a language model that is being loaded; each is logged once."""

from collections.abc import Sequence
from typing import Any

from irl_jax.data import backends
from irl_jax.models.huggingface import tokenizer as tokenizer_lib
from irl_jax.runtime import notices

ROLES = ('bos', 'eos', 'unk', 'pad', 'sep', 'cls', 'mask')
MOST_NAMED = 5  # tokens that a message names


def report(tokenizer: Any, where: str) -> None:
  """Logs what transformers would do differently with a language model.

  Args:
    tokenizer: of the model.
    where: the name of the model in a message.
  """
  if own := own_specials(tokenizer):
    notices.warn_once(
      f'{where}: has special tokens of its own ({len(own)}: {_listed(own)}): in texts they are '
      'plain text, and completions omit them, although they can be sampled (generate '
      'keeps them with --skip_special_tokens=false)'
    )


def own_specials(tokenizer: Any) -> list[str]:
  """Returns the special tokens of a tokenizer without those that every model has."""
  usual = {getattr(tokenizer, f'{role}_token') for role in ROLES} | {tokenizer_lib.PADDING}
  return [token for token in backends.special_tokens(tokenizer) if token not in usual]


def _listed(values: Sequence[Any]) -> str:
  """Returns the first values, for a message of one line."""
  return ', '.join(map(str, values[:MOST_NAMED])) + (' …' if len(values) > MOST_NAMED else '')
