"""Rewards that users pass: functions of texts [N] that must return one number for each.

Dims: N texts.
"""

from collections.abc import Callable
from collections.abc import Sequence
import decimal
import functools
import inspect
import numbers
from typing import Any

import numpy as np

from irl_jax import errors
from irl_jax.runtime import terminal

Reward = Callable[[Sequence[str]], np.ndarray]


def name_of(reward: Any) -> str:
  """Returns the name of a reward for messages: a function's qualified name, else its type's."""
  while isinstance(reward, functools.partial) or hasattr(reward, '__wrapped__'):
    reward = getattr(reward, '__wrapped__', None) or reward.func
  named = getattr(reward, '__qualname__', None) or type(reward).__qualname__
  return named.rpartition('<locals>.')[2]


def checked(reward: Reward, name: str = 'reward') -> Reward:
  """Returns the reward, with a check that it returns one number for each text.

  Its scores keep their type; [N, 1] and a list of one-element arrays become [N]. Non-finite scores
  pass: training names the step at which they appear. The reward gets its own copy of the list,
  which it may modify.

  Args:
    reward: any callable, texts [N] -> N numbers.
    name: its name in messages.

  Raises:
    ConfigError: it cannot be called.
    InputError (the returned function): it returns anything but N numbers.
  """
  if not callable(reward):
    raise errors.ConfigError(
      f'{name} = {reward!r:.60}: must be a function of texts that returns their scores; '
      'irl_jax.load_reward loads one from a folder'
    )

  @functools.wraps(reward, updated=())
  def score(texts: Sequence[str]) -> np.ndarray:
    return _scores(reward(list(texts)), len(texts), f'{name} {name_of(reward)}')

  return score


def _scores(given: Any, count: int, name: str) -> np.ndarray:
  """Converts a reward's result to an array [N], with its own type of number.

  Raises:
    InputError: the result is something else; the message says what.
  """
  scores, texts = (terminal.count(count, noun) for noun in ('number', 'text'))
  wanted = f'must return {scores} for {texts}, one for each'
  if inspect.iscoroutine(given):
    given.close()  # else Python warns that it was never awaited
    raise errors.InputError(f'{name}: returned a coroutine; {wanted}: use def, not async def')
  try:
    values = _array(given)
  except Exception as error:  # any error that another library's array raises
    reason = next(iter(str(error).splitlines()), '')
    raise errors.InputError(
      f'{name}: returned {type(given).__name__}, which NumPy cannot read ({reason:.100}); {wanted}'
    ) from error
  if values.shape not in ((count,), (count, 1)) or not _are_numbers(values):
    raise errors.InputError(f'{name}: returned {_described(given, values)}; {wanted}')
  if np.ma.is_masked(given):  # NumPy would read what is behind the mask
    hidden = terminal.count(int(np.ma.count_masked(given)), 'masked number')
    raise errors.InputError(f'{name}: returned MaskedArray with {hidden}; {wanted}')
  return values.reshape(count)


def _are_numbers(values: np.ndarray) -> bool:
  return values.dtype.kind in 'fiub' or values.dtype.name.startswith(('bfloat', 'float8'))


def _array(given: Any) -> np.ndarray:
  """Converts a reward's result to an array; decimals, fractions and long integers to float64."""
  try:
    values = np.asarray(given)
  except Exception:  # any error that another library's array raises
    values = np.asarray(_detached(given))
  if values.dtype == object and values.ndim and all(map(_is_number, values.flat)):
    return values.astype(np.float64)
  return values


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real | decimal.Decimal)


def _detached(given: Any) -> Any:
  """Converts torch tensors to float64 on the CPU without gradients, which NumPy can read."""
  if isinstance(given, list | tuple):
    return [_detached(one) for one in given]
  return given.detach().cpu().double() if hasattr(given, 'detach') else given


def _described(given: Any, values: np.ndarray) -> str:
  """Describes what a reward returned: its type, and its length, shape or first element."""
  kind = type(given).__name__
  if given is None:
    return 'None (is a return missing?)'
  if not values.ndim:
    return f'one {kind}' if _are_numbers(values) else kind
  if not _are_numbers(values) and values.size:
    elements = list(given) if isinstance(given, list | tuple) else list(values.flat)
    wrong = next((number for number, one in enumerate(elements) if not _is_number(one)), 0)
    if wrong:
      return f'{kind} with {elements[wrong]!r:.60} at [{wrong}]'
    return f'{kind} of {type(elements[0]).__name__} ({elements[0]!r:.60} first)'
  if values.ndim == 1:
    return f'{kind} of {terminal.count(len(values), "number")}'
  return f'{kind} of shape {list(values.shape)}'
