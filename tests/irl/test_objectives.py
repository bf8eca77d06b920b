"""Objectives of max-margin IRL against loops over pairs."""

import math

import jax
import numpy as np
import pytest

from irl_jax.irl import objectives

DELTA = np.array([-2.0, -0.5, -1e-3, 0.0, 1e-3, 0.09, 0.1, 0.4, 2.0], np.float32)


def by_hand(name, delta, margin, temperature):
  """One pair's loss, as the papers write it."""
  if name == 'asymmetric':
    return -delta if delta > 0 else -2 * delta
  if name == 'logistic':
    return -math.log(1 / (1 + math.exp(-delta / temperature)))
  violation = margin - delta if delta < margin else 0.0
  return violation if name == 'hinge' else violation * violation


@pytest.mark.parametrize('name', ['asymmetric', 'hinge', 'squared', 'logistic'])
def test_values(name):
  found = objectives.objective(name, margin=0.1, temperature=0.25)(DELTA)
  np.testing.assert_allclose(found, [by_hand(name, float(delta), 0.1, 0.25) for delta in DELTA], atol=1e-6)


@pytest.mark.parametrize('name', ['asymmetric', 'hinge', 'squared', 'logistic'])
def test_gradients_are_the_slopes(name):
  points = np.array([-1.5, -0.3, 0.05, 0.3, 1.5])
  slopes = [(by_hand(name, x + 1e-4, 0.1, 0.25) - by_hand(name, x - 1e-4, 0.1, 0.25)) / 2e-4 for x in points]
  gradient = jax.vmap(jax.grad(objectives.objective(name, 0.1, 0.25)))(points.astype(np.float32))
  np.testing.assert_allclose(gradient, slopes, atol=1e-3)
  assert (np.asarray(gradient) <= 0).all()


def test_a_loss_weighs_twice_as_much_as_a_win():
  assert objectives.asymmetric(np.float32(-0.5)) == 2 * -objectives.asymmetric(np.float32(0.5))


@pytest.mark.parametrize('name', ['hinge', 'squared'])
def test_pairs_beyond_the_margin_are_left_alone(name):
  assert jax.grad(objectives.objective(name, 0.1, 1.0))(np.float32(0.2)) == 0


def test_logistic_is_finite_at_the_bounds_of_the_reward():
  assert np.isfinite(objectives.logistic(np.array([-2.0, 2.0], np.float32), 1e-3)).all()
