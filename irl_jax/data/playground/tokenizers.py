"""Tokenizers for models that are trained from scratch: a GPT-NeoX-like one and a RoBERTa-like one.

Both are byte-level BPE, so every text can be encoded and decode(encode(text)) == text. They are
trained on the run's texts. The same texts give the same ids.
"""

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import processors
from tokenizers import trainers
import transformers

MAX_VOCABULARY = 4096  # far more than the playground needs, so that each word is one token
MIN_FREQUENCY = 2  # rarer pairs are not merged


def language_model_tokenizer(texts: Iterable[str]) -> transformers.PreTrainedTokenizerFast:
  """Trains a tokenizer like Pythia's.

  Id 0 is '<|endoftext|>' (bos, eos, unk) and id 1 is '<|padding|>' (pad).

  Args:
    texts: to train on.

  Returns:
    A fast tokenizer that adds nothing before or after a text.
  """
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=byte_level_bpe(texts, ['<|endoftext|>', '<|padding|>']),
    bos_token='<|endoftext|>',
    eos_token='<|endoftext|>',
    unk_token='<|endoftext|>',
    pad_token='<|padding|>',
    clean_up_tokenization_spaces=False,
  )


def classifier_tokenizer(texts: Iterable[str]) -> transformers.PreTrainedTokenizerFast:
  """Trains a tokenizer like RoBERTa's, which encodes a text as <s> text </s>.

  The special ids are <s> 0, <pad> 1, </s> 2, <unk> 3 and <mask> 4.

  Args:
    texts: to train on.

  Returns:
    A fast tokenizer that adds <s> and </s> if special tokens are requested.
  """
  tokenizer = byte_level_bpe(texts, ['<s>', '<pad>', '</s>', '<unk>', '<mask>'])
  tokenizer.post_processor = processors.RobertaProcessing(
    ('</s>', 2), ('<s>', 0), add_prefix_space=False
  )
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    bos_token='<s>',
    cls_token='<s>',
    eos_token='</s>',
    sep_token='</s>',
    unk_token='<unk>',
    pad_token='<pad>',
    mask_token='<mask>',
    clean_up_tokenization_spaces=False,
  )


def byte_level_bpe(texts: Iterable[str], specials: list[str]) -> tokenizers.Tokenizer:
  """Trains a byte-level BPE over all bytes; the specials take the first ids, in their order."""
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.train_from_iterator(
    texts,
    trainers.BpeTrainer(
      vocab_size=MAX_VOCABULARY,
      min_frequency=MIN_FREQUENCY,
      special_tokens=specials,
      show_progress=False,
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    ),
  )
  return tokenizer


def padded_size(tokenizer: transformers.PreTrainedTokenizerFast) -> int:
  """Returns a model's vocabulary size: the tokenizer's, rounded up to a multiple of 128."""
  return -(-len(tokenizer) // 128) * 128
