"""Tokenizers and texts of the benchmark, the same for all contestants; without JAX and torch."""

import gzip
import hashlib
import json
import os
import pathlib

import numpy as np
import transformers

from irl_jax.data.playground import tokenizers

FOLDER = 'BENCHMARK_INPUTS'  # environment variable; files that this folder lacks are made up
ROLES = {
  'pythia_tokenizer': dict(bos='<|endoftext|>', eos='<|endoftext|>', pad='<|padding|>'),
  'roberta_tokenizer': dict(bos='<s>', cls='<s>', pad='<pad>', eos='</s>', sep='</s>', unk='<unk>'),
}


def place(name: str) -> pathlib.Path:
  """Returns the path where an input would be."""
  return pathlib.Path(os.environ.get(FOLDER, ''), name)


def tokenizer(name: str) -> transformers.PreTrainedTokenizerFast:
  """Returns 'pythia_tokenizer' or 'roberta_tokenizer'; a byte-level one if its file is missing."""
  if (file := place(f'models/{name}/tokenizer.json')).is_file():
    roles = {f'{role}_token': token for role, token in ROLES[name].items()}
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **roles)
  if name == 'pythia_tokenizer':
    return tokenizers.language_model_tokenizer([])
  return tokenizers.classifier_tokenizer([])


def texts_of(tokenizer: transformers.PreTrainedTokenizerFast, count: int, tokens: int) -> list[str]:
  """Returns texts of random words, each of exactly that many tokens."""
  decoded = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
  words = [word for word in decoded if word.isascii() and word.strip().isalpha()]
  spaced = [word for word in words if word.startswith(' ')]
  words = spaced or [word for word in words if len(word) == 1]
  rng = np.random.default_rng(0)
  return [''.join(rng.choice(words, tokens)) for _ in range(count)]


def comments(count: int) -> list[str]:
  """Returns `count` Jigsaw comments, shortest first: those whose id has the smallest sha256.

  If the file is missing, they are made up, with 20 to 600 characters each.
  """
  path = place('data/jigsaw_train.jsonl.gz')
  if not path.is_file():
    sizes = np.random.default_rng(0).integers(20, 600, count)
    return sorted((('comment ' * size)[:size] for size in sizes), key=len)
  with gzip.open(path, 'rt', encoding='utf-8') as file:
    rows = [json.loads(line) for line in file]
  rows.sort(key=lambda row: hashlib.sha256(str(row['id']).encode()).digest())
  return sorted((row['text'] for row in rows[:count]), key=len)


def sample_of(texts: list, count: int) -> tuple:
  """Returns `count` of the texts (or lengths), which are sorted by length: a sample of all."""
  return tuple(texts[int((number + 0.5) * len(texts) / count)] for number in range(count))


def random_ids(count: int, tokens: int, vocabulary: int) -> list[list[int]]:
  """Returns different random token ids [count, tokens]."""
  return np.random.default_rng(0).integers(2, min(vocabulary, 50000), (count, tokens)).tolist()
