"""Tokenizers and texts of the benchmark, the same for all contestants; without JAX and torch."""

from collections.abc import Sequence
import gzip
import hashlib
import json
import os
import pathlib

import numpy as np
import tokenizers
import transformers

MODELS = 'BENCHMARK_MODELS'  # environment: folder of tokenizers and neox_14m; missing: made up
DATA = 'BENCHMARK_DATA'  # environment: folder of jigsaw_train.jsonl.gz; missing: made up
GENERATED = {
  'pythia_tokenizer': dict(bos='<|endoftext|>', eos='<|endoftext|>', pad='<|padding|>'),
  'roberta_tokenizer': dict(bos='<s>', cls='<s>', pad='<pad>', eos='</s>', sep='</s>', unk='<unk>'),
}


def place(variable: str, name: str) -> pathlib.Path:
  """Returns the path where an input would be."""
  return pathlib.Path(os.environ.get(variable, ''), name)


def tokenizer(name: str) -> transformers.PreTrainedTokenizerFast:
  """Pythia's or RoBERTa's ('pythia_tokenizer', 'roberta_tokenizer'); if missing, one of bytes."""
  roles = {f'{role}_token': token for role, token in GENERATED[name].items()}
  file = place(MODELS, name) / 'tokenizer.json'
  if file.is_file():
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **roles)
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  specials = list(dict.fromkeys(roles.values()))
  vocabulary = {token: number for number, token in enumerate([*specials, *alphabet])}
  backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  if 'cls_token' in roles:
    ends = [(token, vocabulary[token]) for token in ('<s>', '</s>')]
    template = tokenizers.processors.TemplateProcessing(single='<s> $A </s>', special_tokens=ends)
    backend.post_processor = template
  return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **roles)


def texts_of(tokenizer: transformers.PreTrainedTokenizerFast, count: int, tokens: int) -> list[str]:
  """Texts of random words, each read as exactly that many tokens.

  Raises:
    ValueError: this tokenizer reads its own words as more tokens.
  """
  decoded = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
  words = [word for word in decoded if word.isascii() and word.strip().isalpha()]
  spaced = [word for word in words if word.startswith(' ')]
  words = spaced or [word for word in words if len(word) == 1]
  rng = np.random.default_rng(0)
  texts = [''.join(rng.choice(words, tokens)) for _ in range(count)]
  if any(len(ids) != tokens for ids in tokenizer(texts, add_special_tokens=False)['input_ids']):
    raise ValueError('the tokenizer does not read its own words as one token each')
  return texts


def comments(count: int) -> list[str]:
  """`count` Jigsaw comments, shortest first: those whose id has the smallest sha256.

  If the file is missing they are made up, between 20 and 600 characters long.
  """
  path = place(DATA, 'jigsaw_train.jsonl.gz')
  if not path.is_file():
    sizes = np.random.default_rng(0).integers(20, 600, count)
    return sorted((' '.join(['comment'] * (size // 8 + 1))[:size] for size in sizes), key=len)
  with gzip.open(path, 'rt', encoding='utf-8') as file:
    rows = [json.loads(line) for line in file]
  rows.sort(key=lambda row: hashlib.sha256(str(row['id']).encode()).digest())
  return sorted((row['text'] for row in rows[:count]), key=len)


def sample_of(texts: Sequence[str], count: int) -> tuple[str, ...]:
  """`count` of texts that are sorted by length; their lengths are like those of all."""
  return tuple(texts[int((number + 0.5) * len(texts) / count)] for number in range(count))


def random_ids(count: int, tokens: int, vocabulary: int) -> list[list[int]]:
  """Token ids of `count` texts, all different."""
  return np.random.default_rng(0).integers(2, min(vocabulary, 50000), (count, tokens)).tolist()
