"""Tiny models with a tokenizer, made without torch; every parameter is random."""

import jax
import numpy as np
import pytest
import tokenizers
import transformers

from irl_jax.models import encoder
from irl_jax.models import gpt_neox
from irl_jax.models import huggingface
from irl_jax.models import pretrained


def byte_tokenizer(specials: list[str], **roles: str) -> transformers.PreTrainedTokenizerFast:
  """Returns a tokenizer with a token for every byte, after the special tokens."""
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  vocabulary = {token: i for i, token in enumerate([*specials, *alphabet])}
  backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  if 'cls_token' in roles:
    ends = [(token, vocabulary[token]) for token in ('<s>', '</s>')]
    backend.post_processor = tokenizers.processors.TemplateProcessing(
      single='<s> $A </s>', special_tokens=ends
    )
  return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **roles)


@pytest.fixture
def random_params():
  """A function from kind and config to random parameters."""

  def build(kind, config, seed=0):
    rng = np.random.default_rng(seed)
    centre = lambda path: 1.0 if path[-1].key == 'scale' else 0.0
    draw = lambda path, leaf: (centre(path) + rng.normal(0, 0.3, leaf.shape)).astype(np.float32)
    return jax.tree_util.tree_map_with_path(draw, huggingface.weights.shapes(kind, config))

  return build


@pytest.fixture
def language_model(random_params):
  """A GPT-NeoX language model of 2 layers; EOS is 0, padding 1."""
  config = gpt_neox.GPTNeoXConfig(
    vocab_size=264,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=64,
  )
  tokenizer = byte_tokenizer(
    ['<|endoftext|>', '<|padding|>'],
    bos_token='<|endoftext|>',
    eos_token='<|endoftext|>',
    unk_token='<|endoftext|>',
    pad_token='<|padding|>',
  )
  return pretrained.Pretrained('causal_lm', config, random_params('causal_lm', config), tokenizer)


@pytest.fixture
def reward(language_model, random_params):
  """The language model with a score instead of its output head."""
  config = language_model.config
  return pretrained.Pretrained(
    'reward', config, random_params('reward', config), language_model.tokenizer
  )


@pytest.fixture
def classifier(random_params):
  """A RoBERTa classifier of 2 layers, with RoBERTa's special ids."""
  config = encoder.EncoderConfig(
    vocab_size=264,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=66,
    labels=('neutral', 'toxic'),
  )
  tokenizer = byte_tokenizer(
    ['<s>', '<pad>', '</s>', '<unk>'],
    bos_token='<s>',
    eos_token='</s>',
    cls_token='<s>',
    sep_token='</s>',
    pad_token='<pad>',
    unk_token='<unk>',
  )
  return pretrained.Pretrained('classifier', config, random_params('classifier', config), tokenizer)
