"""Gradients of means over unequal counts: the same for any micro-batches and devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.runtime import parallel
from irl_jax.training import gradients

ROWS, LENGTH, WIDTH = 12, 5, 3


@pytest.fixture(scope='module')
def problem():
  """Parameters [D], and (x [B, S, D], mask [B, S]) of 0 to 5 tokens; the last 3 rows are empty."""
  rng = np.random.default_rng(0)
  mask = np.arange(LENGTH) < np.array([5, 1, 2, 0, 5, 3, 1, 4, 5, 0, 0, 0])[:, None]
  return rng.normal(size=WIDTH).astype(np.float32), (
    rng.normal(size=(ROWS, LENGTH, WIDTH)).astype(np.float32),
    mask,
  )


def total_loss(weights, frozen, batch):
  """The cosine of a score, as a loss of every token."""
  del frozen
  x, mask = batch
  score, mask = x @ weights, mask.astype(jnp.float32)
  loss = jnp.sum(jnp.cos(score) * mask)
  return loss, gradients.Totals(
    jnp.sum(mask),
    {'loss': loss, 'score': jnp.sum(score * mask)},
    {'largest': jnp.max(jnp.abs(score) * mask)},
  )


@pytest.fixture(scope='module')
def by_hand(problem):
  """Gradient [D] and metrics in NumPy, token by token."""
  weights, (x, mask) = problem
  tokens = [x[row, column].astype(np.float64) for row, column in zip(*np.nonzero(mask))]
  scores = [token @ weights for token in tokens]
  gradient = np.mean([-np.sin(score) * token for score, token in zip(scores, tokens)], axis=0)
  return gradient, {
    'loss': np.mean(np.cos(scores)),
    'score': np.mean(scores),
    'largest': np.max(np.abs(scores)),
  }


@pytest.mark.parametrize('micro_batch', [0, 12, 5, 4, 1])
def test_any_micro_batch_gives_the_mean_over_all_tokens(problem, by_hand, micro_batch):
  actual = jax.jit(
    lambda weights, batch: gradients.of_mean(total_loss, weights, (), batch, None, micro_batch)
  )(*problem)
  chex.assert_trees_all_close(actual, by_hand, atol=1e-6)


@pytest.mark.parametrize('micro_batch', [0, 1])
def test_devices_of_unequal_token_counts_give_the_mean_over_all_tokens(
  problem, by_hand, micro_batch
):
  weights, batch = problem
  run = jax.pmap(
    lambda weights, batch: gradients.of_mean(
      total_loss, weights, (), batch, parallel.AXIS, micro_batch
    ),
    axis_name=parallel.AXIS,
    in_axes=(None, 0),
    out_axes=None,
  )
  actual = run(weights, jax.tree.map(lambda x: x.reshape(4, ROWS // 4, *x.shape[1:]), batch))
  chex.assert_trees_all_close(jax.device_get(actual), by_hand, atol=1e-6)


@pytest.mark.parametrize('micro_batch', [0, 1])
def test_shard_map_gives_the_same_and_finds_no_collective_missing(problem, by_hand, micro_batch):
  mesh = jax.make_mesh((4,), (parallel.AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
  run = jax.shard_map(
    functools.partial(
      gradients.of_mean, total_loss, axis_name=parallel.AXIS, micro_batch=micro_batch
    ),
    mesh=mesh,
    in_specs=(jax.P(), jax.P(), jax.P(parallel.AXIS)),
    out_specs=jax.P(),
    check_vma=True,
  )
  weights, batch = problem
  chex.assert_trees_all_close(jax.device_get(jax.jit(run)(weights, (), batch)), by_hand, atol=1e-6)
