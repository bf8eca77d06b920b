"""Checks that two language models can be compared: one vocabulary, one tokenizer, other weights."""

from absl import logging
import jax
import numpy as np

from irl_jax.data import text
from irl_jax.errors import InputError
from irl_jax.models import pretrained

EXPECTED = 'pass an aligned model and the model that it was trained from'
PROBES = (  # texts on which tokenizers of one vocabulary differ if their merges do
  'Hello world, how are you?',
  '  Two  spaces,\ttabs\r\n\nand new lines \n',
  "I'm SHOUTING: don't! #hash @name",
  '3.14159 + 2,718 = 1e-6',
  'naïve façade, Привет, 你好, مرحبا, 🤖',
  'def f(x):\n    return x ** 2\n',
  'unbelievably antidisestablishmentarian',
  '<|endoftext|> <s>',
)


def check(aligned: pretrained.Decoder, base: pretrained.Decoder) -> None:
  """Refuses two causal language models that an audit cannot compare.

  Models of different shapes pass with a warning. They differ, but not only by training.

  Raises:
    InputError: different vocabularies or tokenizers, or the same weights.
  """
  names = f'{aligned.source} and {base.source}'
  if reason := different_vocabulary(aligned, base):
    raise InputError(f'{names} have different vocabularies ({reason}); {EXPECTED}')
  if same_weights(aligned, base):
    raise InputError(f'{names} have the same weights, so there is nothing to recover; {EXPECTED}')
  if shapes(aligned) != shapes(base):
    logging.warning(
      '%s have different shapes: the aligned model was not trained from that base model, so they '
      'may differ in more than a reward',
      names,
    )


def different_vocabulary(first: pretrained.Decoder, second: pretrained.Decoder) -> str:
  """Returns a short description of the first difference between two tokenizers, or ''."""
  sizes = [model.config.vocab_size for model in (first, second)]
  if sizes[0] != sizes[1]:
    return f'{sizes[0]} and {sizes[1]} ids'
  ends = [model.tokenizer.eos_token_id for model in (first, second)]
  if ends[0] != ends[1]:
    return f'EOS is {ends[0]} and {ends[1]}'
  left, right = (model.tokenizer.get_vocab() for model in (first, second))
  if differing := sorted(token for token in {*left, *right} if left.get(token) != right.get(token)):
    of = lambda vocabulary: vocabulary.get(differing[0], 'missing')
    return f'{len(differing)} tokens differ, such as {differing[0]!r}: {of(left)} and {of(right)}'
  # One vocabulary with other merges splits texts differently.
  encoded = (text.encode(model.tokenizer, PROBES)[0] for model in (first, second))
  differences = (
    f'{probe!r} becomes {one} and {other}'
    for probe, one, other in zip(PROBES, *encoded)
    if one != other
  )
  return next(differences, '')


def shapes(model: pretrained.Pretrained) -> list[tuple[str, tuple[int, ...]]]:
  """Returns the name and the shape of every parameter."""
  return [
    (jax.tree_util.keystr(path), leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.params)
  ]


def same_weights(first: pretrained.Pretrained, second: pretrained.Pretrained) -> bool:
  """Returns whether two models have the same parameters, value by value."""
  return shapes(first) == shapes(second) and all(
    np.array_equal(one, other)
    for one, other in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params))
  )
