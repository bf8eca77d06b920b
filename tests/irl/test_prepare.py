"""The start of IRL training: the first head, and the outputs of a frozen trunk."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import config as c
from irl_jax.data import batches
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import prepare
from irl_jax.irl import reward as reward_lib
from irl_jax.runtime import parallel

IRL = c.IRL(objective='logistic')


@pytest.fixture(scope='module')
def pairs():
  """A hundred pairs of texts of 4 to 8 tokens."""
  rng = np.random.default_rng(1)
  draw = lambda: rng.integers(2, 26, rng.integers(4, 9)).tolist()
  return [(draw(), draw()) for _ in range(100)]


def test_scores_come_back_in_order(policy, pairs):
  params = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')} | {
    'reward_head': {'direction': np.arange(16, dtype=np.float32)}
  }
  bound = dict(config=policy.config, dtype=jnp.float32, pooling='last')
  pairs = pairs[:100]  # between one and two batches
  found = prepare.over_pairs(
    parallel.map_forward(reward_lib.score_pairs, **bound),
    (params, {}),
    pairs_lib.pair_dataset(pairs, 0),
    64,
  )
  reward = jax.jit(functools.partial(reward_lib.score_texts, **bound))
  expected = [reward((params, {}), batches.text_batch(side, 0)) for side in zip(*pairs)]
  np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-5)


@pytest.mark.slow
def test_the_first_head_points_from_base_texts_to_aligned_ones(policy, pairs):
  base, pairs = policy, pairs[:40]
  statics = dict(config=base.config, dtype=jnp.float32, pooling='last')
  trunk = {name: base.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  expected = np.zeros(16)
  for aligned, other in pairs:
    for sign, ids in ((1, aligned), (-1, other)):
      state = np.asarray(
        reward_lib.features((trunk, {}), batches.text_batch([ids], 0), **statics), np.float64
      )[0]
      expected += (
        sign
        * (state - state.mean())
        / np.sqrt(state.var() + base.config.layer_norm_eps)
        / len(pairs)
      )
  trained, frozen = prepare.initial_parts(base, pairs, IRL, 0, jnp.float32)
  found = trained['reward_head']['direction']
  np.testing.assert_allclose(found, 0.02 * expected / np.sqrt(np.mean(expected**2)), atol=1e-5)
  assert frozen == {}
  drawn = [
    prepare.initial_parts(
      base, pairs, dataclasses.replace(IRL, initial_head='random'), seed, jnp.float32
    )[0]['reward_head']['direction']
    for seed in (0, 1)
  ]
  assert np.corrcoef(*drawn)[0, 1] < 0.9


def test_a_pair_counts_for_the_first_head_as_its_label_says(policy):
  rng = np.random.default_rng(2)
  states, label = rng.normal(size=(5, 2, 16)), np.array([1.0, 0.5, 0.0, 0.75, 0.1])
  expected = np.zeros(16)
  for (aligned, other), p in zip(states, label):
    for sign, state in ((1, aligned), (-1, other)):
      scaled = (state - state.mean()) / np.sqrt(state.var() + policy.config.layer_norm_eps)
      expected += sign * (2 * p - 1) * scaled
  found = prepare.difference_head(states, policy.config, label)['direction']
  np.testing.assert_allclose(found, 0.02 * expected / np.sqrt(np.mean(expected**2)), atol=1e-5)
