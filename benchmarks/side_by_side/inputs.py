"""Tokenizers and texts of the benchmark, the same for all contestants; without JAX and without torch."""

from collections.abc import Sequence
import gzip
import hashlib
import json
import pathlib

import numpy as np
import tokenizers
import transformers


def pythia_tokenizer(models: str) -> transformers.PreTrainedTokenizerFast:
  """Pythia's from `models`/pythia_tokenizer; where that is missing, one of bytes."""
  roles = dict(bos_token='<|endoftext|>', eos_token='<|endoftext|>', pad_token='<|padding|>')
  return _tokenizer(
    pathlib.Path(models) / 'pythia_tokenizer', ['<|endoftext|>', '<|padding|>'], roles
  )


def roberta_tokenizer(models: str) -> transformers.PreTrainedTokenizerFast:
  """RoBERTa's from `models`/roberta_tokenizer; where that is missing, one of bytes."""
  roles = dict(
    bos_token='<s>',
    cls_token='<s>',
    eos_token='</s>',
    sep_token='</s>',
    pad_token='<pad>',
    unk_token='<unk>',
  )
  return _tokenizer(
    pathlib.Path(models) / 'roberta_tokenizer', ['<s>', '<pad>', '</s>', '<unk>'], roles
  )


def _tokenizer(folder: pathlib.Path, specials: Sequence[str], roles: dict[str, str]):
  if (folder / 'tokenizer.json').is_file():
    return transformers.PreTrainedTokenizerFast(
      tokenizer_file=str(folder / 'tokenizer.json'), **roles
    )
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  vocabulary = {token: number for number, token in enumerate([*specials, *alphabet])}
  backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  if 'cls_token' in roles:
    ends = [(token, vocabulary[token]) for token in ('<s>', '</s>')]
    backend.post_processor = tokenizers.processors.TemplateProcessing(
      single='<s> $A </s>', special_tokens=ends
    )
  return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **roles)


def texts_of(tokenizer: transformers.PreTrainedTokenizerFast, count: int, tokens: int) -> list[str]:
  """Random words; every text is read as exactly that many tokens.

  Raises:
    ValueError: this tokenizer reads them otherwise.
  """
  words = [
    word
    for word in tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    if word.isascii() and word.strip().isalpha()
  ]
  words = [word for word in words if word.startswith(' ')] or [
    word for word in words if len(word) == 1
  ]
  rng = np.random.default_rng(0)
  texts = [''.join(rng.choice(words, tokens)) for _ in range(count)]
  if any(len(ids) != tokens for ids in tokenizer(texts, add_special_tokens=False)['input_ids']):
    raise ValueError('the tokenizer does not read its own words as one token each')
  return texts


def comments(data: str, count: int) -> list[str]:
  """`count` Jigsaw comments, those whose id has the smallest sha256, shortest first; where the file is missing, made-up
  ones of lengths between 20 and 600 characters.
  """
  path = pathlib.Path(data) / 'jigsaw_train.jsonl.gz'
  if not path.is_file():
    rng = np.random.default_rng(0)
    return sorted(
      (' '.join(['comment'] * (size // 8 + 1))[:size] for size in rng.integers(20, 600, count)),
      key=len,
    )
  with gzip.open(path, 'rt', encoding='utf-8') as file:
    rows = [json.loads(line) for line in file]
  rows.sort(key=lambda row: hashlib.sha256(str(row['id']).encode()).digest())
  return sorted((row['text'] for row in rows[:count]), key=len)


def sample_of(texts: Sequence[str], count: int) -> list[str]:
  """`count` of texts that are sorted by length: their lengths are like those of all."""
  return [texts[int((number + 0.5) * len(texts) / count)] for number in range(count)]


def random_ids(count: int, tokens: int, vocabulary: int) -> list[list[int]]:
  """Token ids of `count` texts, all different."""
  return np.random.default_rng(0).integers(2, min(vocabulary, 50000), (count, tokens)).tolist()
