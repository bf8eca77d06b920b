"""The commands that the tests of bad input run, and the small models that they run on."""

from collections.abc import Sequence
import pathlib
from typing import Any

import jax
import numpy as np

from irl_jax.data.playground import tokenizers
from irl_jax.models import encoder
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import trunk

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = ['a text of some words', 'and another one, with others'] * 10
SHAPE: dict[str, Any] = dict(
  hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)
ROW = '{"text": "some words"}\n'


def make_models(folder: pathlib.Path) -> None:
  """Writes model/, a language model of 64 positions, and classifier/, which reads 32 tokens."""
  words = tokenizers.language_model_tokenizer(TEXTS)
  config = gpt_neox.GPTNeoXConfig(
    vocab_size=tokenizers.padded_size(words), max_position_embeddings=64, **SHAPE
  )
  save(folder / 'model', 'causal_lm', trunk, config, words)
  words = tokenizers.classifier_tokenizer(TEXTS)
  reader = encoder.EncoderConfig(
    vocab_size=tokenizers.padded_size(words),
    max_position_embeddings=34,
    labels=('neutral', 'toxic'),
    **SHAPE,
  )
  save(folder / 'classifier', 'classifier', encoder, reader, words)


def save(folder: pathlib.Path, kind, module, config, tokenizer) -> None:
  """Writes a model of random parameters."""
  params = jax.tree.map(
    np.asarray, jax.jit(module.init, static_argnames='config')(jax.random.key(0), config)
  )
  pretrained.save(folder, pretrained.Pretrained(kind, config, params, tokenizer), '')


def score(
  folder: pathlib.Path,
  rows: str | bytes = ROW,
  name: str = 'rows.jsonl',
  model: str | pathlib.Path = '',
  flags: Sequence[str] = (),
) -> list[str]:
  """Returns the arguments that score these rows, by default with folder/model."""
  (folder / name).write_bytes(rows if isinstance(rows, bytes) else rows.encode())
  return [
    f'--model={model or folder / "model"}',
    f'--input={folder / name}',
    f'--output={folder / "out.jsonl"}',
    *flags,
  ]


def train(folder: pathlib.Path, *flags: str) -> list[str]:
  """Returns the arguments of a run with both models of the folder."""
  return [
    f'--config={ROOT / "configs" / "smoke.py"}',
    f'--workdir={folder / "run"}',
    '--config.stages=data,rlhf,demos,irl,evaluate,report',
    f'--config.models.base={folder / "model"}',
    f'--config.models.classifier={folder / "classifier"}',
    *flags,
  ]
