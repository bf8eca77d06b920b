"""The value head against torch's layers, and the last token of a text."""

import jax
import numpy as np
import pytest

from irl_jax.models import heads


def test_values_are_those_of_two_layers_of_torch():
  torch = pytest.importorskip('torch')
  head = heads.init_value_head(jax.random.key(0), 8)
  tensor = lambda layer, name: torch.tensor(np.array(head[layer][name]))
  hidden = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
  inner = torch.relu(torch.tensor(hidden) @ tensor('inner', 'kernel') + tensor('inner', 'bias'))
  expected = (inner @ tensor('value', 'kernel') + tensor('value', 'bias'))[..., 0]
  np.testing.assert_allclose(heads.values(head, hidden), expected, atol=1e-5)
  assert inner.shape[-1] == 16  # trlX's head is twice as wide as the model


def test_a_new_value_head_is_drawn_as_torch_draws_it():
  head = heads.init_value_head(jax.random.key(0), 64)
  for layer, inputs in (('inner', 64), ('value', 128)):
    kernel = np.asarray(head[layer]['kernel'])
    bound = inputs**-0.5
    assert np.abs(kernel).max() <= bound and np.abs(kernel.std() - bound / 3**0.5) < 0.1 * bound


def test_the_last_token_is_the_last_valid_one():
  hidden = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
  valid = np.arange(4) < np.array([[4], [1], [2]])
  np.testing.assert_array_equal(
    heads.last_token(hidden, valid), [hidden[0, 3], hidden[1, 0], hidden[2, 1]]
  )
