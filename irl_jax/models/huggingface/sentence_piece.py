"""Folders whose only tokenizer is SentencePiece's, as older tools wrote Llama, Mistral and Gemma.

Transformers converts the file. The result is compared with SentencePiece itself, because a
conversion that differs would be noticed by nobody.
"""

import pathlib
from typing import Any

import transformers

from irl_jax.data import backends
from irl_jax.errors import InputError
from irl_jax.models.huggingface import weight_files

# File, and what is added to its ids: XLM-RoBERTa's begin with four special tokens for three.
OFFSETS = {'tokenizer.model': 0, 'sentencepiece.bpe.model': 1}
# Without a space at the beginning: transformers reads it as the one that SentencePiece puts there.
PROBES = (
  'Hello world, how are you?',
  "I'm SHOUTING: don't! #hash @name",
  '3.14159 + 2,718 = 1e-6',
  'naïve façade, Привет, 你好, مرحبا, 🤖',
  'unbelievably antidisestablishmentarian',
  'a </s> b<s> <unk> <bos>',
)
WITH_SPACES = ('  Two  spaces,\ttabs\r\n\nand new lines \n', 'def f(x):\n    return x ** 2\n', ' a')


def only_file(folder: pathlib.Path) -> pathlib.Path | None:
  """Returns the file of SentencePiece if the folder has no other tokenizer, else None."""
  if any((folder / name).exists() for name in ('tokenizer.json', 'vocab.json', 'vocab.txt')):
    return None
  return next((folder / name for name in OFFSETS if (folder / name).exists()), None)


def load(file: pathlib.Path) -> Any:
  """Loads a fast tokenizer from the file of SentencePiece, and the settings next to it.

  Raises:
    InputError: the package sentencepiece is not installed, or transformers reads the file
      differently.
  """
  try:
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
  except ImportError as error:
    raise InputError(
      f'{file.parent}: has {file.name} of SentencePiece, but no tokenizer.json; install what reads '
      "it (pip install 'irl_jax[sentencepiece]'), or copy tokenizer.json of the model that it was "
      'trained from'
    ) from error
  weight_files.check_file(file)
  messages: Any = sentencepiece_model_pb2  # its classes are made when it is imported
  model = messages.ModelProto.FromString(file.read_bytes())
  tokenizer = transformers.AutoTokenizer.from_pretrained(
    file.parent, local_files_only=True, trust_remote_code=False, **_first_token(file)
  )
  for continues in (False, True):
    if continues:
      model.normalizer_spec.add_dummy_prefix = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    _check(tokenizer, processor, file, continues)
  return tokenizer


def _first_token(file: pathlib.Path) -> dict[str, bool]:
  """Returns whether BOS comes before a text: yes if nothing is said, as in transformers 4."""
  if OFFSETS[file.name]:
    return {}
  settings = file.parent / 'tokenizer_config.json'
  saved = weight_files.read_json(settings) if settings.exists() else {}
  return {'add_bos_token': saved.get('add_bos_token', True) is not False}


def _check(tokenizer: Any, processor: Any, file: pathlib.Path, continues: bool) -> None:
  """Refuses a tokenizer that gives a text other ids than SentencePiece does."""
  offset, unknown = OFFSETS[file.name], processor.unk_id()
  for probe in PROBES + WITH_SPACES * continues:
    ids = [
      tokenizer.unk_token_id if one == unknown else one + offset for one in processor.encode(probe)
    ]
    if backends.ids(tokenizer, [probe], continues=continues)[0] != ids:
      raise InputError(
        f'{file}: transformers reads {probe!r} as other tokens than SentencePiece does; copy '
        'tokenizer.json of the model that it was trained from'
      )
