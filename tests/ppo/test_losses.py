"""The mathematics of PPO against loops over rows and tokens, written from the papers' equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.ppo import losses

ROWS, LENGTH = 4, 6


@pytest.fixture(scope='module')
def arrays():
  """Random arrays [B, T] by name, a mask of responses of 6, 1, 3 and 4 tokens, scores [B]."""
  rng = np.random.default_rng(0)
  draw = lambda: rng.normal(size=(ROWS, LENGTH)).astype(np.float32)
  mask = np.arange(LENGTH) < np.array([6, 1, 3, 4])[:, None]
  return {
    name: draw() for name in ('new', 'old', 'reference', 'values', 'advantages', 'returns')
  } | {'mask': mask, 'score': rng.normal(size=ROWS).astype(np.float32)}


def test_token_rewards_equal_a_loop(arrays):
  expected = np.zeros((ROWS, LENGTH))
  for row in range(ROWS):
    length = int(arrays['mask'][row].sum())
    for token in range(length):
      expected[row, token] = -0.3 * (arrays['new'][row, token] - arrays['reference'][row, token])
    expected[row, length - 1] += arrays['score'][row]
  actual = losses.token_rewards(
    arrays['score'], arrays['new'], arrays['reference'], arrays['mask'], 0.3
  )
  np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize('discount, gae_lambda', [(1.0, 0.95), (0.9, 0.5), (0.97, 1.0), (1.0, 0.0)])
def test_advantages_are_the_weighted_sum_of_all_later_errors(arrays, discount, gae_lambda):
  rewards, values, mask = arrays['new'], arrays['values'], arrays['mask']
  advantages, returns = losses.advantages_and_returns(rewards, values, mask, discount, gae_lambda)
  for row in range(ROWS):
    length = int(mask[row].sum())
    for token in range(length):
      expected = 0.0
      for later in range(token, length):
        following = values[row, later + 1] if later + 1 < length else 0.0
        error = rewards[row, later] + discount * following - values[row, later]
        expected += (discount * gae_lambda) ** (later - token) * error
      np.testing.assert_allclose(advantages[row, token], expected, atol=1e-5)
      np.testing.assert_allclose(returns[row, token], expected + values[row, token], atol=1e-5)
    assert not np.asarray(advantages)[row, length:].any()


def test_with_lambda_1_a_return_is_the_discounted_sum_of_rewards(arrays):
  _, returns = losses.advantages_and_returns(
    arrays['new'], arrays['values'], arrays['mask'], 0.9, 1.0
  )
  for row in range(ROWS):
    length = int(arrays['mask'][row].sum())
    expected = sum(0.9**token * arrays['new'][row, token] for token in range(length))
    np.testing.assert_allclose(returns[row, 0], expected, atol=1e-5)


def test_what_stands_outside_the_mask_changes_nothing(arrays):
  mask = arrays['mask']
  corrupted = lambda name: np.where(mask, arrays[name], 99.0).astype(np.float32)
  for actual, other in zip(
    losses.advantages_and_returns(arrays['new'], arrays['values'], mask, 0.9, 0.9),
    losses.advantages_and_returns(corrupted('new'), corrupted('values'), mask, 0.9, 0.9),
  ):
    np.testing.assert_array_equal(np.asarray(actual)[mask], np.asarray(other)[mask])
  actual = losses.whiten(arrays['advantages'], mask, None)
  np.testing.assert_array_equal(
    actual[mask], losses.whiten(corrupted('advantages'), mask, None)[mask]
  )


@pytest.mark.parametrize('devices', [1, 4])
def test_whitening_is_over_the_mask_of_all_devices(arrays, devices):
  mask = arrays['mask']
  chosen = [
    arrays['advantages'][row, token]
    for row in range(ROWS)
    for token in range(LENGTH)
    if mask[row, token]
  ]
  mean = sum(chosen) / len(chosen)
  deviation = np.sqrt(sum((value - mean) ** 2 for value in chosen) / len(chosen))
  split = lambda x: x.reshape(devices, ROWS // devices, LENGTH)
  whiten = jax.pmap(lambda x, m: losses.whiten(x, m, 'data'), axis_name='data')
  actual = np.asarray(whiten(split(arrays['advantages']), split(mask))).reshape(ROWS, LENGTH)
  np.testing.assert_allclose(actual[mask], (np.array(chosen) - mean) / deviation, atol=1e-5)


def test_the_policy_loss_equals_a_loop(arrays):
  actual, clipped = losses.policy_loss(arrays['new'], arrays['old'], arrays['advantages'], 0.2)
  for row in range(ROWS):
    for token in range(LENGTH):
      ratio = np.exp(arrays['new'][row, token] - arrays['old'][row, token])
      advantage = arrays['advantages'][row, token]
      expected = -min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
      np.testing.assert_allclose(actual[row, token], expected, rtol=1e-5)
      assert clipped[row, token] == (
        (advantage > 0 and ratio > 1.2) or (advantage < 0 and ratio < 0.8)
      )
  assert 0 < np.mean(clipped) < 1


def test_the_value_loss_equals_a_loop(arrays):
  actual, clipped = losses.value_loss(arrays['values'], arrays['old'], arrays['returns'], 0.2)
  for row in range(ROWS):
    for token in range(LENGTH):
      value, old, target = (arrays[name][row, token] for name in ('values', 'old', 'returns'))
      near = min(max(value, old - 0.2), old + 0.2)
      np.testing.assert_allclose(
        actual[row, token], max((value - target) ** 2, (near - target) ** 2) / 2, rtol=1e-5
      )
      assert clipped[row, token] == (abs(near - target) > abs(value - target))
  assert 0 < np.mean(clipped) < 1


def test_a_clipped_loss_has_no_gradient():
  ratio = lambda x: losses.policy_loss(
    jnp.array([[x]]), jnp.zeros((1, 1)), jnp.array([[2.0]]), 0.2
  )[0].sum()
  assert jax.grad(ratio)(0.3) == 0 and jax.grad(ratio)(0.0) == -2 and jax.grad(ratio)(-0.3) < 0
  value = lambda x: losses.value_loss(jnp.array([[x]]), jnp.zeros((1, 1)), jnp.ones((1, 1)), 0.2)[
    0
  ].sum()
  assert jax.grad(value)(0.5) == 0 and jax.grad(value)(0.1) < 0


def test_shapes_that_would_broadcast_are_refused(arrays):
  with pytest.raises(AssertionError):
    losses.policy_loss(arrays['new'], arrays['old'][:1], arrays['advantages'], 0.2)
  with pytest.raises(AssertionError):
    losses.token_rewards(
      arrays['score'][:, None], arrays['new'], arrays['old'], arrays['mask'], 0.1
    )
