"""Pairs of models that an audit refuses: other vocabularies, other merges, the same weights."""

import copy
import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
import transformers

from irl_jax import config as config_lib
from irl_jax import sampling
from irl_jax.errors import InputError
from irl_jax.models import comparable

LIMITS = config_lib.Sampling(max_new_tokens=8)


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


def test_what_two_models_have_in_common_is_one_array(policy):
  params = jax.tree.map(np.copy, policy.params)
  params['blocks']['mlp']['dense_h_to_4h']['kernel'][1] += 0.5
  tuned, base = comparable.shared(dataclasses.replace(policy, params=params), policy)
  same = jax.tree.map(lambda one, other: one is other, tuned.params, base.params)
  assert not same['blocks']['mlp']['dense_h_to_4h'].pop('kernel')
  assert all(jax.tree.leaves(same)) and base is policy
  chex.assert_trees_all_equal(tuned.params, params)


def test_equal_weights_are_refused(policy):
  copy = dataclasses.replace(
    policy, params=jax.tree.map(lambda leaf: leaf.copy(), policy.params), source='copy'
  )
  with pytest.raises(
    InputError,
    match='copy and the tiny policy have the same weights, so there is nothing to recover',
  ):
    comparable.check(copy, policy)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_weights_that_differ_by_rounding_alone_are_logged(policy, dtype, caplog):
  rounded = jax.tree.map(
    lambda leaf: np.asarray(leaf).astype(jnp.dtype(dtype)).astype(np.float32), policy.params
  )
  aligned = dataclasses.replace(policy, params=rounded, source='the rounded one')
  assert not comparable.same_weights(aligned, policy)
  comparable.check(aligned, policy)
  assert f'the same weights except for rounding to {dtype}' in caplog.text


def test_weights_that_were_trained_are_no_rounding(policy, aligned, caplog):
  assert comparable.rounding(aligned, policy) == ''
  comparable.check(aligned, policy)
  assert 'rounding' not in caplog.text


def test_one_changed_weight_is_a_difference(policy):
  params = jax.tree.map(lambda leaf: leaf.copy(), policy.params)
  jax.tree.leaves(params)[-1].flat[-1] += 1e-3
  assert not comparable.same_weights(dataclasses.replace(policy, params=params), policy)


def with_tokens(model, *tokens, rows, **roles):
  """Returns the model with special tokens added, and embeddings of so many rows."""
  words = copy.deepcopy(model.tokenizer)
  words.add_tokens([tokenizers.AddedToken(token, special=True) for token in tokens])
  for role, token in roles.items():
    setattr(words, role, token)
  resize = lambda leaf: np.concatenate([leaf, leaf])[:rows]
  embeddings = {
    name: jax.tree.map(resize, model.params[name]) for name in ('embed_in', 'embed_out')
  }
  changed = dataclasses.replace(resized(model, rows), params=model.params | embeddings)
  return dataclasses.replace(changed, tokenizer=words)


@pytest.mark.parametrize(
  'tokens, rows, roles',
  [
    ((), 32, {}),
    ((), 40, {}),
    (('[PAD]',), 36, {'pad_token': '[PAD]'}),
    (('[PAD]',), 33, {'pad_token': '[PAD]'}),
    (('<|user|>', '<|assistant|>'), 34, {}),
  ],
)
def test_special_tokens_and_rows_that_text_never_becomes_pass(
  policy, aligned, tokens, rows, roles, caplog
):
  comparable.check(with_tokens(aligned, *tokens, rows=rows, **roles), policy)
  comparable.check(policy, with_tokens(aligned, *tokens, rows=rows, **roles))
  assert 'shapes' not in caplog.text
  with pytest.raises(InputError, match='same weights'):
    comparable.check(with_tokens(policy, *tokens, rows=rows, **roles), policy)


@pytest.mark.slow
def test_neither_model_samples_a_token_that_only_one_has(policy, aligned, caplog):
  changed = with_tokens(aligned, '<|user|>', '<|ai|>', '[PAD]', rows=36, pad_token='[PAD]')
  one, other = comparable.without_unshared_tokens(changed, policy)
  assert (one.never_sampled, other.never_sampled) == ((1, 32, 33, 34), (1,))
  assert (
    'only one of aligned and the tiny policy has the special tokens <|ai|>, <|user|>; they'
    in (caplog.text)
  )
  prompts = [[4], [5]] * 50
  free, bound = (
    {token for ids in sampling.complete_ids(model, prompts, LIMITS, 0)[0] for token in ids}
    for model in (changed, one)
  )
  assert {32, 33} <= free
  assert not {1, 32, 33, 34} & bound


def test_nothing_is_left_out_of_one_vocabulary(policy, aligned, caplog):
  one, _ = comparable.without_unshared_tokens(aligned, policy)
  assert one.never_sampled == (1,) and not caplog.text  # the padding, which never came


@pytest.mark.parametrize(
  'setting, value',
  [
    ('rotary_pct', 1.0),
    ('rotary_emb_base', 500000.0),
    ('layer_norm_eps', 1e-2),
    ('use_parallel_residual', False),
    ('num_attention_heads', 4),
  ],
)
def test_another_setting_is_only_logged(policy, aligned, setting, value, caplog):
  changed = dataclasses.replace(aligned.config, **{setting: value})
  comparable.check(dataclasses.replace(aligned, config=changed), policy)
  was = getattr(policy.config, setting)
  assert f'have different settings in config.json ({setting} is {value} and {was})' in caplog.text


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


@pytest.mark.parametrize('known', [True, False])
def test_another_special_eos_is_told_and_ends_both(policy, aligned, known, caplog):
  """A chat model ends its turn at a token that its base has, or that was added to it."""
  chat = with_tokens(aligned, '<|im_end|>', rows=36, eos_token='<|im_end|>')
  chat = dataclasses.replace(chat, config=dataclasses.replace(chat.config, eos_token_ids=(32,)))
  base = with_tokens(policy, '<|im_end|>', rows=36) if known else policy
  comparable.check(chat, base)
  one, other = comparable.without_unshared_tokens(chat, base)
  assert one.config.eos_token_ids == (32, 0)
  assert other.config.eos_token_ids == ((0, 32) if known else (0,))
  assert 'aligned ends a response at 32, the tiny policy at 0: here both end at any' in caplog.text


def test_another_shape_is_only_logged(policy, aligned, caplog):
  shallower = aligned.params | {
    'blocks': jax.tree.map(lambda leaf: leaf[:2], aligned.params['blocks'])
  }
  comparable.check(dataclasses.replace(aligned, params=shallower), policy)
  assert 'different shapes' in caplog.text
