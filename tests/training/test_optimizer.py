"""Schedules and the one optimiser step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax.runtime import parallel
from irl_jax.training import optimizer


@pytest.mark.parametrize(
  'schedule, warmup, expected',
  [
    ('constant', 0, {0: 1.0, 50: 1.0, 100: 1.0}),
    ('constant', 10, {0: 0.0, 5: 0.5, 10: 1.0, 100: 1.0}),
    ('cosine', 0, {0: 1.0, 50: 0.6, 100: 0.2}),
    ('cosine', 20, {0: 0.0, 10: 0.5, 20: 1.0, 60: 0.6, 100: 0.2}),
    ('cosine', 1000, {0: 0.0, 50: 1.0, 100: 0.2}),
  ],
)
def test_the_learning_rate_follows_its_schedule(schedule, warmup, expected):
  _, rate = optimizer.adamw(
    learning_rate=0.01, updates=100, schedule=schedule, final=0.2, warmup=warmup
  )
  for step, share in expected.items():
    np.testing.assert_allclose(rate(step), 0.01 * share, rtol=1e-5)


def adamw_by_hand(value, gradients, rate, b1, b2, decay, max_norm):
  """Loshchilov & Hutter 2019, algorithm 2, behind a clip of the gradient's norm."""
  first = second = np.zeros_like(value)
  for step, gradient in enumerate(gradients, start=1):
    gradient = gradient * min(1.0, max_norm / np.linalg.norm(gradient))
    first, second = b1 * first + (1 - b1) * gradient, b2 * second + (1 - b2) * gradient**2
    direction = first / (1 - b1**step) / (np.sqrt(second / (1 - b2**step)) + 1e-8)
    value = value - rate * (direction + decay * value)
  return value


def test_steps_are_those_of_adamw():
  rng = np.random.default_rng(0)
  start, gradients = rng.normal(size=4), 3 * rng.normal(size=(5, 4))
  tx, _ = optimizer.adamw(
    learning_rate=0.02,
    updates=9,
    schedule='constant',
    b1=0.8,
    b2=0.9,
    weight_decay=0.1,
    max_norm=1.5,
  )
  state = optimizer.new_state({'w': jnp.asarray(start, jnp.float32)}, tx)
  for gradient in gradients:
    state, metrics = optimizer.apply_gradients(state, {'w': jnp.asarray(gradient, jnp.float32)}, tx)
    np.testing.assert_allclose(metrics['gradient_norm'], np.linalg.norm(gradient), rtol=1e-5)
  expected = adamw_by_hand(start, gradients, 0.02, 0.8, 0.9, 0.1, 1.5)
  np.testing.assert_allclose(state.params['w'], expected, rtol=1e-4)
  assert int(state.step) == 5 and int(state.skipped) == 0


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_left_out(bad):
  tx, _ = optimizer.adamw(learning_rate=0.02, updates=9, weight_decay=0.1)
  state = optimizer.new_state({'w': jnp.ones(2), 'v': jnp.ones(3)}, tx)
  after, metrics = optimizer.apply_gradients(
    state, {'w': jnp.array([1.0, bad]), 'v': jnp.ones(3)}, tx
  )
  chex.assert_trees_all_equal((after.params, after.opt_state), (state.params, state.opt_state))
  assert int(after.step) == 1 and int(after.skipped) == int(metrics['skipped']) == 1
  assert int(after.skipped_in_row) == int(metrics['skipped_in_row']) == 1


def test_steps_are_bit_for_bit_those_of_optax():
  rng = np.random.default_rng(0)
  draw = lambda: {name: rng.normal(size=(5, 7)).astype(np.float32) for name in 'ab'}
  tx, rate = optimizer.adamw(learning_rate=0.02, updates=9, warmup=2, weight_decay=0.1)
  theirs = optax.chain(optimizer.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.1))
  step = lambda state, gradients, tx: optimizer.apply_gradients(state, gradients, tx)[0]
  params = draw()
  states = [optimizer.new_state(params, one) for one in (tx, theirs)]
  paths = [jax.tree_util.tree_leaves_with_path(state.opt_state) for state in states]
  assert [path for path, _ in paths[0]] == [path for path, _ in paths[1]]  # in checkpoints
  for _ in range(4):
    gradients = draw()
    states = [step(state, gradients, one) for state, one in zip(states, (tx, theirs))]
    chex.assert_trees_all_equal(*(jax.tree.leaves(state) for state in states))


def test_a_step_copies_no_parameters_and_no_moments():
  """By the compiler's account, it needs the gradients alone in addition to the state."""
  params = {str(number): jax.ShapeDtypeStruct((64, 1024), jnp.float32) for number in range(4)}
  size = 4 * 64 * 1024 * 4
  tx, _ = optimizer.adamw(learning_rate=0.02, updates=9, weight_decay=0.1)
  state = jax.eval_shape(lambda params: optimizer.new_state(params, tx), params)

  def update(state, rows):
    loss = lambda params: sum(jnp.sum(jnp.tanh(rows @ kernel)) for kernel in params.values())
    return optimizer.apply_gradients(state, jax.grad(loss)(state.params), tx)

  rows = jax.ShapeDtypeStruct((8, 64), jnp.float32)
  found = jax.jit(update, donate_argnums=0).lower(state, rows).compile().memory_analysis()
  assert size <= found.temp_size_in_bytes < 1.2 * size
  assert found.alias_size_in_bytes >= 3 * size


def test_updates_that_are_left_out_are_counted_in_all_and_in_a_row():
  tx, _ = optimizer.adamw(learning_rate=0.02, updates=9)
  state, counts = optimizer.new_state({'w': jnp.ones(2)}, tx), []
  for value in (np.nan, 1.0, np.inf, np.nan, 1.0):
    state, metrics = optimizer.apply_gradients(state, {'w': jnp.array([1.0, value])}, tx)
    counts.append((int(metrics['skipped']), int(metrics['skipped_in_row'])))
  assert counts == [(1, 1), (1, 0), (2, 1), (3, 2), (3, 0)]


def test_a_state_is_placed_as_it_would_be_made_and_only_its_parameters_are_transferred(monkeypatch):
  params = {'w': np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)}
  tx, _ = optimizer.adamw(learning_rate=0.02, updates=9, warmup=2)
  transferred, place = [], parallel._place
  monkeypatch.setattr(
    parallel, '_place', lambda x, *rest: transferred.append(x.shape) or place(x, *rest)
  )
  with jax.transfer_guard_device_to_host('disallow'):  # has no effect on a CPU
    placed = optimizer.placed_state(params, tx)
  assert transferred == [(3, 2)]
  chex.assert_trees_all_equal(
    jax.device_get(placed), jax.device_get(optimizer.new_state(params, tx))
  )
  leaves = jax.tree.leaves(placed)
  assert all(leaf.sharding.is_fully_replicated and len(leaf.devices()) == 4 for leaf in leaves)
  pointers = [leaf.addressable_shards[0].data.unsafe_buffer_pointer() for leaf in leaves]
  assert len(set(pointers)) == len(leaves)  # all of them can be donated
