"""Tokenizers of Hugging Face folders, always from local files and never with their own code."""

from collections.abc import Sequence
import functools
import pathlib
from typing import Any

import transformers

from irl_jax.data import backends
from irl_jax.data import text
from irl_jax.errors import InputError
from irl_jax.models.encoder import EncoderConfig
from irl_jax.models.huggingface import sentence_piece
from irl_jax.models.huggingface import weight_files
from irl_jax.models.huggingface.config import ModelConfig

VOCABULARIES = ('vocab.json', 'vocab.txt')
WORD_PIECES = ('bert', 'distilbert')  # families whose texts end in [SEP], which is no EOS
PADDING = '<|padding|>'  # Pythia's, id 1: in its vocabulary, but not declared


def load(folder: pathlib.Path, config: ModelConfig) -> Any:
  """Loads a fast tokenizer of transformers that knows EOS and padding, which differ.

  An unchanged folder is read once per process: the checks at the start and the stages share the
  tokenizer.

  Args:
    folder: a Hugging Face folder.
    config: the config of the folder's model.

  Raises:
    InputError: there is no tokenizer, it needs its own code, or it does not fit the model.
  """
  return _read(folder, config, _versions(folder))


def _versions(folder: pathlib.Path) -> tuple[tuple[str, int, int], ...]:
  """Returns name, time and size of every file that a tokenizer may be read from."""
  suffixes = ('.json', '.txt', '.model', '.jinja')
  files = [file for file in folder.glob('*') if file.suffix in suffixes and file.exists()]
  stats = [(file.name, file.stat()) for file in sorted(files)]
  return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


@functools.lru_cache(maxsize=8)
def _read(
  folder: pathlib.Path, config: ModelConfig, versions: tuple[tuple[str, int, int], ...]
) -> Any:
  """Reads and checks a tokenizer; `versions` is only a part of the cache's key."""
  del versions
  if 'auto_map' in _optional_json(folder / 'tokenizer_config.json'):
    raise InputError(
      f'{folder}: tokenizer_config.json requires its own code (auto_map), which irl_jax '
      'never runs; use a model without it'
    )
  try:
    tokenizer = _of_files(folder)
    _check_vocabulary(tokenizer, folder, config)
    if not isinstance(config, EncoderConfig) or config.family not in WORD_PIECES:
      _set_eos(tokenizer, folder, config)
    _set_padding(tokenizer, folder, config)
    if isinstance(config, EncoderConfig) and config.family != 'roberta':
      text.check_reads(tokenizer, str(folder))
    else:
      text.check(tokenizer, str(folder))
  except InputError:
    raise
  except Exception as error:  # a damaged file raises many types, some only at the first use
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise InputError(f'{folder}: its tokenizer cannot be read: {reason}') from error
  return tokenizer


def _of_files(folder: pathlib.Path) -> Any:
  """Returns the tokenizer that the folder's files describe, unchecked."""
  if file := sentence_piece.only_file(folder):
    return sentence_piece.load(file)
  if not any((folder / name).exists() for name in ('tokenizer.json', *VOCABULARIES)):
    raise InputError(
      f'{folder}: has no tokenizer; copy the files of the model that it was trained from: '
      'tokenizer.json (or vocab.json and merges.txt, or vocab.txt), tokenizer_config.json'
    )
  return transformers.AutoTokenizer.from_pretrained(
    folder, local_files_only=True, trust_remote_code=False
  )


def _optional_json(path: pathlib.Path) -> dict[str, Any]:
  return weight_files.read_json(path) if path.exists() else {}


def _check_vocabulary(tokenizer: Any, folder: pathlib.Path, config: ModelConfig) -> None:
  # A vocabulary may skip ids, so the check uses the largest id as well as the length.
  ids = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values()))
  if ids > config.vocab_size:
    raise InputError(
      f'{folder}: its tokenizer has {ids} ids, but its model has embeddings for {config.vocab_size}'
    )
  # Some versions of transformers silently ignore vocab.json, and make every word <unk>.
  if not (folder / 'tokenizer.json').exists() and len(tokenizer) < len(
    _optional_json(folder / 'vocab.json')
  ):
    raise InputError(
      f'{folder}: vocab.json was not read by this version of transformers; save the tokenizer as '
      'tokenizer.json'
    )


def _set_eos(tokenizer: Any, folder: pathlib.Path, config: ModelConfig) -> None:
  """Takes the EOS of config.json if the tokenizer has none; the two must agree."""
  ends = _ends(config)
  if tokenizer.eos_token_id is None and ends:
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
  if tokenizer.eos_token_id is None:
    raise InputError(
      f'{folder}: neither its tokenizer nor config.json has an EOS; add eos_token_id'
    )
  if ends and tokenizer.eos_token_id not in ends:
    raise InputError(
      f'{folder}: EOS is {tokenizer.eos_token_id} for its tokenizer, but '
      f'{" or ".join(map(str, ends))} in config.json (eos_token_id); correct the one that is wrong'
    )


def _ends(config: ModelConfig) -> tuple[int, ...]:
  """Returns the EOS ids of a model."""
  return (config.eos_token_id,) if isinstance(config, EncoderConfig) else config.eos_token_ids


def _set_padding(tokenizer: Any, folder: pathlib.Path, config: ModelConfig) -> None:
  # Padding that is an EOS would hide real EOS tokens.
  if tokenizer.pad_token_id in (None, *_ends(config)):
    padding = _padding(tokenizer, _ends(config))
    if not padding:
      raise InputError(
        f'{folder}: its tokenizer has no padding token apart from EOS, and no {PADDING}'
      )
    tokenizer.pad_token = padding


def _padding(tokenizer: Any, ends: Sequence[int]) -> str:
  """Returns a token that no text contains and that no model says, or '' if there is none.

  It is Pythia's, or one that is made for padding ("<|finetune_right_pad_id|>"), or one that is
  reserved for later; else the last special token without a role.
  """
  if PADDING in tokenizer.get_vocab():
    return PADDING
  roles = ('bos_token_id', 'eos_token_id', 'unk_token_id')
  taken = {*ends, *(getattr(tokenizer, role) for role in roles)}
  template = str(tokenizer.chat_template)
  free = [
    token
    for token, number in sorted(
      backends.special_tokens(tokenizer).items(), key=lambda item: item[1]
    )
    if number not in taken and token not in template
  ]
  for word in ('pad', 'reserved', 'unused', ''):
    if matching := [token for token in free if word in token.lower()]:
      return matching[0] if word == 'pad' else matching[-1]
  return ''
