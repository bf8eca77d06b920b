"""Checks that two language models can be compared: same tokenizer and shape, other weights.

If two models have the same vocabulary, they give every text the same ids. Special tokens that only
one of them has, such as padding that a trainer added, and rows of the embedding that no token has
do not matter.
"""

from collections.abc import Callable
import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from irl_jax.data import text
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.runtime import notices
from irl_jax.runtime import terminal
from irl_jax.runtime import unread

EXPECTED = 'pass an aligned model and the model that it was trained from'
MOST_NAMED = 5  # tokens that a message names
# Texts whose tokens differ if two tokenizers with the same vocabulary have different merges
PROBES = (
  'Hello world, how are you?',
  '  Two  spaces,\ttabs\r\n\nand new lines \n',
  "I'm SHOUTING: don't! #hash @name",
  '3.14159 + 2,718 = 1e-6',
  'naïve façade, Привет, 你好, مرحبا, 🤖',
  'def f(x):\n    return x ** 2\n',
  'unbelievably antidisestablishmentarian',
  '<|endoftext|> <s>',
)


# Settings that show in the shapes of weights, or do not change what a model computes from a text.
NO_SETTINGS = {
  'vocab_size',
  'hidden_size',
  'num_hidden_layers',
  'head_dim',
  'intermediate_size',
  'max_position_embeddings',
  'attention_bias',
  'qkv_bias',
  'o_bias',
  'mlp_bias',
  'tie_word_embeddings',
  'initializer_range',
  'bos_token_id',
  'eos_token_ids',
  'pad_token_id',
  'model_type',
}
NOT_ONLY_TRAINING = 'so they may differ in more than a reward'


def check(aligned: pretrained.Decoder, base: pretrained.Decoder) -> None:
  """Refuses two causal language models that an audit cannot compare.

  Models of different shapes or settings pass with a warning. Such models differ in more than
  training. Models that differ only by rounding pass with a warning too.

  Raises:
    InputError: different vocabularies or tokenizers, or the same weights.
  """
  check_vocabularies(aligned, base)
  names = f'{aligned.source} and {base.source}'
  if same_weights(aligned, base):
    raise InputError(f'{names} have the same weights, so there is nothing to recover; {EXPECTED}')
  if dtype := rounding(aligned, base):
    notices.warn_once(
      f'{names} have the same weights except for rounding to {dtype}, so there is hardly '
      f'anything to recover; {EXPECTED}'
    )
  rows = _shared_rows(aligned, base)
  if shapes(aligned, rows) != shapes(base, rows):
    notices.warn_once(
      f'{names} have different shapes: the aligned model was not trained from that base model, '
      f'{NOT_ONLY_TRAINING}'
    )
  if different := different_settings(aligned, base):
    notices.warn_once(
      f'{names} have different settings in config.json ({different}), {NOT_ONLY_TRAINING}; '
      'correct the one that is wrong'
    )


def check_vocabularies(aligned: pretrained.Decoder, base: pretrained.Decoder) -> None:
  """Refuses two models that give one text different ids; weights are not needed.

  Raises:
    InputError: different vocabularies or tokenizers.
  """
  if reason := different_vocabulary(aligned, base):
    raise InputError(
      f'{aligned.source} and {base.source} have different vocabularies ({reason}); {EXPECTED}'
    )


def different_vocabulary(first: pretrained.Decoder, second: pretrained.Decoder) -> str:
  """Returns a short description of the first difference between two tokenizers, or ''.

  A special token never comes from text, so those that only one tokenizer has are no difference. Nor
  is an EOS that is a special token wherever it is: a chat model ends its turn at another one.
  """
  ends = [_ends(model) for model in (first, second)]
  if any(_is_text(model, end) for end in ends[0] ^ ends[1] for model in (first, second)):
    of = lambda model: model.tokenizer.eos_token_id
    return f'EOS is {of(first)} and {of(second)}'
  left, right = (model.tokenizer.get_vocab() for model in (first, second))
  if differing := sorted(_unshared_tokens(first, second, special=False)):
    of = lambda vocabulary: vocabulary.get(differing[0], 'missing')
    differ = terminal.plural(len(differing), 'differs', 'differ')
    return (
      f'{terminal.count(len(differing), "token")} {differ}, such as {differing[0]!r}: '
      f'{of(left)} and {of(right)}'
    )
  # One vocabulary with other merges splits texts differently.
  encoded = (text.encode(model.tokenizer, PROBES)[0] for model in (first, second))
  differences = (
    f'{probe!r} becomes {one} and {other}'
    for probe, one, other in zip(PROBES, *encoded)
    if one != other
  )
  return next(differences, '')


def _ends(model: pretrained.Decoder) -> set[int]:
  """Returns the ids that end a response of a model."""
  return {*model.config.eos_token_ids, model.tokenizer.eos_token_id}


def _is_text(model: pretrained.Decoder, token: int) -> bool:
  """Returns whether a tokenizer has this id, and not as a special token."""
  in_vocabulary = token in model.tokenizer.get_vocab().values()
  return in_vocabulary and token not in pretrained.special_tokens(model.tokenizer).values()


def _unshared_tokens(first: pretrained.Decoder, second: pretrained.Decoder, special: bool) -> set:
  """Returns the tokens without a common id: those that are special in each tokenizer, or others."""
  vocabularies = [model.tokenizer.get_vocab() for model in (first, second)]
  specials = [pretrained.special_tokens(model.tokenizer) for model in (first, second)]
  left, right = vocabularies
  return {
    token
    for token in {*left, *right}
    if left.get(token) != right.get(token)
    and special == all(token in known for known, own in zip(specials, vocabularies) if token in own)
  }


def different_settings(first: pretrained.Decoder, second: pretrained.Decoder) -> str:
  """Returns the settings without weights that differ, with both values, or ''.

  Models of two families have different shapes and no settings in common.
  """
  settings = lambda model: {
    name: value
    for name, value in dataclasses.asdict(model.config).items()
    if name not in NO_SETTINGS
  }
  left, right = settings(first), settings(second)
  return ', '.join(
    f'{name} is {left[name]} and {right[name]}'
    for name in left
    if left[name] != right.get(name, left[name])
  )


def without_unshared_tokens(
  aligned: pretrained.Decoder, base: pretrained.Decoder
) -> tuple[pretrained.Decoder, pretrained.Decoder]:
  """Returns both models; neither samples a special token that only one of them has.

  Each model's padding is excluded from the other's sampling, too. A response of either ends at any
  EOS of both. Excluded tokens and further ends are logged.
  """
  unshared = _unshared_tokens(aligned, base, special=True)
  paddings = {aligned.tokenizer.pad_token, base.tokenizer.pad_token}
  if dropped := sorted(unshared - paddings):
    named = ', '.join(dropped[:MOST_NAMED]) + (' …' if len(dropped) > MOST_NAMED else '')
    notices.warn_once(
      f'only one of {aligned.source} and {base.source} has the special tokens {named}; they are '
      'never sampled, because otherwise the models could not be compared'
    )
  aligned, base = _with_shared_ends(aligned, base)
  return _without(aligned, unshared | paddings), _without(base, unshared | paddings)


def _with_shared_ends(
  aligned: pretrained.Decoder, base: pretrained.Decoder
) -> tuple[pretrained.Decoder, pretrained.Decoder]:
  """Returns both models so that their responses end at the same tokens, where both have them."""
  ends = [tuple(model.config.eos_token_ids) for model in (aligned, base)]
  if {*ends[0]} == {*ends[1]}:
    return aligned, base
  listed = [', '.join(map(str, own)) for own in ends]
  notices.warn_once(
    f'{aligned.source} ends a response at {listed[0]}, {base.source} at {listed[1]}: here both end '
    'at any of these'
  )
  with_all = lambda model: dataclasses.replace(
    model, config=dataclasses.replace(model.config, eos_token_ids=_all_ends(model, *ends))
  )
  return with_all(aligned), with_all(base)


def _all_ends(model: pretrained.Decoder, *ends: tuple[int, ...]) -> tuple[int, ...]:
  """Returns a model's EOS ids, then those of another one that it has."""
  known = {*model.config.eos_token_ids, *pretrained.special_tokens(model.tokenizer).values()}
  others = (end for own in ends for end in own if end in known)
  return tuple(dict.fromkeys([*model.config.eos_token_ids, *others]))


def _without(model: pretrained.Decoder, tokens: set[str]) -> pretrained.Decoder:
  """Returns the model with these tokens excluded from sampling; its EOS stays."""
  vocabulary = model.tokenizer.get_vocab()
  ids = {vocabulary[token] for token in tokens if token in vocabulary}
  return dataclasses.replace(
    model, never_sampled=tuple(sorted(ids - set(model.config.eos_token_ids)))
  )


def shapes(model: pretrained.Decoder, rows: int | None = None) -> list[tuple[str, tuple[int, ...]]]:
  """Returns the name and the shape of every parameter, with at most `rows` rows of embeddings."""
  return [
    (jax.tree_util.keystr(path), leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(_with_rows(model, rows))
  ]


def same_weights(first: pretrained.Decoder, second: pretrained.Decoder) -> bool:
  """Returns whether two models have the same parameters, value by value.

  Rows of the embeddings count only up to the last token that both models have.
  """
  return _equal(first, second, lambda leaf: leaf)


def rounding(first: pretrained.Decoder, second: pretrained.Decoder) -> str:
  """Returns the type in which two models have the same parameters, or '' if in none.

  Such pairs result from merging an adapter or saving in another type. Training moves weights
  further.
  """
  as_type = lambda leaf, dtype: unread.as_array(leaf, jnp.dtype(dtype))
  types = ('bfloat16', 'float16')
  equal = (dtype for dtype in types if _equal(first, second, partial(as_type, dtype=dtype)))
  return next(equal, '')


def _equal(
  first: pretrained.Decoder, second: pretrained.Decoder, prepare: Callable[[Any], Any]
) -> bool:
  """Returns whether all parameters are equal after `prepare`, up to the last shared token."""
  rows = _shared_rows(first, second)
  return shapes(first, rows) == shapes(second, rows) and all(
    unread.equal(prepare(one), prepare(other))
    for one, other in zip(*(jax.tree.leaves(_with_rows(model, rows)) for model in (first, second)))
  )


def shared(
  aligned: pretrained.Decoder, base: pretrained.Decoder
) -> tuple[pretrained.Decoder, pretrained.Decoder]:
  """Returns both models so that each array that they have in common is in memory once.

  What a LoRA adapter, or training of the top blocks, leaves alone is equal in both.
  """

  def choose(path: Any, own: Any) -> Any:
    other = of_base.get(jax.tree_util.keystr(path))
    if other is None or (own.dtype, own.shape) != (other.dtype, other.shape):
      return own
    return other if unread.equal(own, other) else own

  of_base = {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(base.params)
  }
  params = jax.tree_util.tree_map_with_path(choose, aligned.params)
  return dataclasses.replace(aligned, params=params), base


def _shared_rows(first: pretrained.Decoder, second: pretrained.Decoder) -> int:
  """Returns how many rows the embeddings need for the tokens that both tokenizers have."""
  left, right = (model.tokenizer.get_vocab() for model in (first, second))
  shared = (number for token, number in left.items() if right.get(token) == number)
  return 1 + max(shared, default=-1)


def _with_rows(model: pretrained.Decoder, rows: int | None) -> dict[str, Any]:
  """Returns the parameters with the first `rows` rows of the embeddings; None: all."""
  cut = {
    name: {'embedding': model.params[name]['embedding'][:rows]}
    for name in ('embed_in', 'embed_out')
    if name in model.params
  }
  return model.params | cut
