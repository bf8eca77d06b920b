"""The state that R̂ reads: bounded, blind to padding, and the same from features."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import structs
from irl_jax.data import batches
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import reward as reward_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads
from irl_jax.models import trunk as trunk_lib

TEXTS = ['a', 'hello there', '', ' what a bad cat', 'ab' * 8]


@pytest.fixture(scope='module')
def params(policy):
  trunk = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  return trunk | {
    'reward_head': heads.init_reward_head(jax.random.key(2), policy.config.hidden_size)
  }


@pytest.fixture(scope='module')
def sequences(policy):
  return [ids for ids, _ in pairs_lib.encode_pairs(policy, TEXTS, TEXTS, 16)]


@pytest.fixture(scope='module')
def score(policy):
  """(params, sequences) -> R̂ [N], padded to a length with an id."""

  bound = functools.partial(reward_lib.reward, config=policy.config, dtype=jnp.float32)
  compiled = jax.jit(bound, static_argnames='pooling')

  def run(params, sequences, pooling='last', length=16, pad=0):
    texts = batches.text_batch(sequences, pad, length)
    return np.asarray(compiled(params, {}, texts, pooling=pooling))

  return run


@pytest.mark.parametrize('pooling', ['last', 'mean'])
def test_the_reward_is_bounded_whatever_the_weights(policy, params, sequences, score, pooling):
  rng = np.random.default_rng(3)
  wild = jax.tree.map(lambda x: (100 * rng.normal(size=x.shape)).astype(np.float32), params)
  found = score(wild, sequences, pooling)
  assert (np.abs(found) <= 1).all() and found.std() > 0.01
  last = trunk_lib.normalise(rng.normal(size=(1, 16)).astype(np.float32), policy.config)
  aimed = heads.bounded_reward({'direction': 7 * last[0]}, last, policy.config)
  np.testing.assert_allclose(aimed, 1, atol=1e-4)  # the bound is reached


@pytest.mark.parametrize('pooling', ['last', 'mean'])
def test_neither_padding_nor_the_heads_norm_changes_a_reward(params, sequences, score, pooling):
  found = score(params, sequences, pooling)
  np.testing.assert_allclose(score(params, sequences, pooling, 24, 9), found, atol=1e-5)
  longer = params | {'reward_head': {'direction': 30 * params['reward_head']['direction']}}
  np.testing.assert_allclose(score(longer, sequences, pooling), found, atol=1e-5)


@pytest.mark.slow
def test_mean_pooling_is_the_mean_over_the_tokens_of_a_text(policy, params, sequences, score):
  direction = np.asarray(params['reward_head']['direction'], np.float64)
  expected = []
  for ids in sequences:
    states = trunk_lib.run_blocks(
      params['blocks'],
      trunk_lib.embed(params, np.array([ids]), policy.config),
      jnp.ones((1, len(ids)), bool),
      policy.config,
    )
    mean = np.asarray(states, np.float64)[0].mean(0)
    normalised = (mean - mean.mean()) / np.sqrt(mean.var() + policy.config.layer_norm_eps)
    expected.append(normalised @ direction / np.linalg.norm(direction) / np.sqrt(len(mean)))
  np.testing.assert_allclose(score(params, sequences, 'mean'), expected, atol=1e-5)
  assert np.abs(np.array(expected) - score(params, sequences)).max() > 0.01


@pytest.mark.parametrize('pooling', ['last', 'mean'])
def test_a_head_needs_no_more_than_features(policy, params, sequences, score, pooling):
  parts = cut_lib.split(params, 0)
  statics = dict(config=policy.config, dtype=jnp.float32, pooling=pooling)
  features = structs.Features(
    reward_lib.features(parts, batches.text_batch(sequences, 0, 16), **statics)
  )
  chex.assert_shape(features.pooled, (len(TEXTS), policy.config.hidden_size))
  np.testing.assert_allclose(
    reward_lib.reward(*parts, features, **statics), score(params, sequences, pooling), atol=1e-5
  )


def test_a_reward_in_parts_scores_texts(policy, params, sequences, score):
  found = reward_lib.scorer(policy, cut_lib.split(params, 1), 'mean')(TEXTS)
  np.testing.assert_allclose(found, score(params, sequences, 'mean'), atol=1e-5)
