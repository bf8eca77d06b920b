"""Rewards that users pass: what counts as one number for each text, and what is said otherwise."""

import decimal
import fractions

import documented
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import errors
from irl_jax.data import user_rewards


def test_a_checked_reward_keeps_its_numbers_and_takes_one_element_arrays():
  numbers = np.array([0.5, -1.0], np.float64)
  for given in (numbers, numbers[:, None], [numbers[:1], numbers[1:]], jnp.asarray(numbers)):
    scores = user_rewards.checked(lambda texts, given=given: given)(['a', 'b'])
    assert scores.shape == (2,) and scores.tolist() == [0.5, -1.0]
  assert user_rewards.checked(lambda texts: numbers)(['a', 'b']) is not None
  assert user_rewards.checked(lambda texts: [1, 2])(['a', 'b']).dtype == int


def test_a_checked_reward_cannot_change_the_callers_texts():
  texts = ['a', 'b']
  user_rewards.checked(lambda some: [some.pop() and 1.0, 2.0])(texts)
  assert texts == ['a', 'b']


def test_a_coroutine_is_no_score(recwarn):
  async def judge(texts):
    return [1.0]

  with pytest.raises(errors.InputError, match='reward judge: returned a coroutine; must return 1'):
    user_rewards.checked(judge)(['a'])
  assert not recwarn.list


@pytest.mark.parametrize(
  'fault, scores',
  [
    ('a reward that returns one number for all texts', 1.5),
    ('a reward that returns too few numbers', [1.0]),
    ('a reward that returns no numbers', [{'score': 1.0}] * 8),
  ],
)
def test_what_is_said_of_a_wrong_reward_is_documented(tmp_path, fault, scores):
  def mean_length(texts):
    return scores

  with pytest.raises(errors.InputError) as caught:
    user_rewards.checked(mean_length)(['a'] * 8)
  documented.check(fault, f'error: {caught.value}', caught.value.exit_code, tmp_path)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32', 'float64'])
@pytest.mark.parametrize('as_list', [False, True])
def test_torch_tensors_with_gradients_are_scores(dtype, as_list):
  torch = pytest.importorskip('torch')
  given = torch.tensor([0.5, -2.0], dtype=getattr(torch, dtype), requires_grad=True)
  reward = user_rewards.checked(lambda texts: list(given) if as_list else given)
  np.testing.assert_array_equal(reward(['a', 'b']), [0.5, -2.0])


@pytest.mark.parametrize(
  'given, described',
  [
    (np.ma.masked_array([1.0, 2.0], [0, 1]), 'MaskedArray with 1 masked number'),
    ([1.0, None], r'list with None at \[1\]'),
    ([1.0, '2'], r"list with '2' at \[1\]"),
    (np.array([1j, 2]), r'ndarray of complex128 \(.*1j.* first\)'),
    (np.array(['2026', '2027'], 'datetime64[Y]'), r'ndarray of datetime64 .* first\)'),
    (np.array([1, 2], 'timedelta64[s]'), r'ndarray of timedelta64 .* first\)'),
  ],
)
def test_what_is_wrong_with_scores_is_named(given, described):
  with pytest.raises(errors.InputError, match=f'returned {described}; must return 2 numbers'):
    user_rewards.checked(lambda texts: given)(['a', 'b'])


@pytest.mark.parametrize(
  'given',
  [
    np.ma.masked_array([0.5, -2.0]),
    [decimal.Decimal('0.5'), fractions.Fraction(-2)],
    np.array([0.5, -2.0], object),
  ],
)
def test_numbers_of_any_type_are_scores(given):
  reward = user_rewards.checked(lambda texts: given)
  np.testing.assert_array_equal(reward(['a', 'b']), np.array([0.5, -2.0]))
