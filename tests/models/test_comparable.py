"""Pairs of models that an audit refuses: other vocabularies, other merges, the same weights."""

import dataclasses

import jax
import pytest
import tokenizers
import transformers

from irl_jax.errors import InputError
from irl_jax.models import comparable


def tokenizer(vocabulary, merges=(), **specials):
  """Returns a byte-level BPE tokenizer."""
  backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=list(merges)))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  names = (
    dict.fromkeys(('bos_token', 'eos_token'), '<|endoftext|>')
    | {'pad_token': '<|padding|>'}
    | specials
  )
  return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def resized(model, size):
  """Returns the model with a vocabulary of another size."""
  return dataclasses.replace(model, config=dataclasses.replace(model.config, vocab_size=size))


@pytest.fixture
def aligned(policy):
  """The policy with other weights."""
  return dataclasses.replace(
    policy, params=jax.tree.map(lambda leaf: leaf * 1.001, policy.params), source='aligned'
  )


@pytest.fixture
def vocabulary(letters):
  return letters.get_vocab() | {'ll': 32, 'ow': 33}


def test_models_that_differ_in_their_weights_alone_pass(policy, aligned):
  comparable.check(aligned, policy)


def test_equal_weights_are_refused(policy):
  copy = dataclasses.replace(
    policy, params=jax.tree.map(lambda leaf: leaf.copy(), policy.params), source='copy'
  )
  with pytest.raises(
    InputError,
    match='copy and the tiny policy have the same weights, so there is nothing to recover',
  ):
    comparable.check(copy, policy)


def test_one_changed_weight_is_a_difference(policy):
  params = jax.tree.map(lambda leaf: leaf.copy(), policy.params)
  jax.tree.leaves(params)[-1].flat[-1] += 1e-3
  assert not comparable.same_weights(dataclasses.replace(policy, params=params), policy)


def test_another_size_is_refused(policy, aligned):
  with pytest.raises(
    InputError, match='aligned and the tiny policy have different vocabularies .40 and 36 ids.'
  ):
    comparable.check(resized(aligned, 40), policy)


def test_swapped_ids_are_refused(policy, aligned, letters):
  swapped = letters.get_vocab() | {'a': letters.get_vocab()['b'], 'b': letters.get_vocab()['a']}
  with pytest.raises(
    InputError, match=r"different vocabularies \(2 tokens differ, such as 'a': 4 and 3\)"
  ):
    comparable.check(dataclasses.replace(aligned, tokenizer=tokenizer(swapped)), policy)


def test_a_token_more_is_refused(policy, aligned, vocabulary):
  with pytest.raises(InputError, match=r"2 tokens differ, such as 'll': 32 and missing"):
    comparable.check(dataclasses.replace(aligned, tokenizer=tokenizer(vocabulary)), policy)


def test_other_merges_of_one_vocabulary_are_refused(policy, aligned, vocabulary):
  one, other = (tokenizer(vocabulary, [merge]) for merge in (('l', 'l'), ('o', 'w')))
  assert one.get_vocab() == other.get_vocab()
  with pytest.raises(InputError, match="'Hello world, how are you.' becomes .* and "):
    comparable.check(
      dataclasses.replace(aligned, tokenizer=one), dataclasses.replace(policy, tokenizer=other)
    )


def test_another_eos_is_refused(policy, aligned, letters):
  other = tokenizer(letters.get_vocab(), eos_token='a')
  with pytest.raises(InputError, match='EOS is 3 and 0'):
    comparable.check(dataclasses.replace(aligned, tokenizer=other), policy)


def test_another_shape_is_only_told(policy, aligned, caplog):
  shallower = aligned.params | {
    'blocks': jax.tree.map(lambda leaf: leaf[:2], aligned.params['blocks'])
  }
  comparable.check(dataclasses.replace(aligned, params=shallower), policy)
  assert 'different shapes' in caplog.text
