"""Results in the form of summary.json: plain values, None with a reason if not computable."""

from collections.abc import Mapping
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Outcome = float | str  # a result, or the reason why there is none
NO_CLASSES = 'the true reward is a score: it has no toxic class and no zero'


def collect(results: Mapping[str, Any]) -> dict[str, Any]:
  """Makes results plain JSON: one that cannot be computed becomes None; 'why' gives the reason.

  Args:
    results: by name a number (Python's or NumPy's), a nested dict or list, None, or a str: the
      reason why there is no result. A number that is not finite is its own reason.

  Returns:
    The same names in the same order, then 'why': {name: reason} if there is a reason.
  """
  plain, why = {}, {}
  for name, value in results.items():
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
      value = f'the result is not finite ({value})'
    if isinstance(value, str):
      why[name], value = value, None
    plain[name] = value
  return plain | ({'why': why} if why else {})


def annotate(results: Mapping[str, Any], notes: Mapping[str, str]) -> dict[str, Any]:
  """Adds notes to the 'why' of results; the reasons already there stay."""
  why = {**notes, **results.get('why', {})}
  return {**results, 'why': why} if why else dict(results)


def finite_vector(values: ArrayLike, name: str) -> np.ndarray:
  """Returns values as float64 [N].

  Raises:
    ValueError: values is not one-dimensional, or a value is not finite; the message names it.
  """
  values = np.asarray(values, dtype=np.float64)
  if values.ndim != 1:
    raise ValueError(f'{name} has shape {values.shape}: must be one-dimensional')
  bad = np.flatnonzero(~np.isfinite(values))
  if bad.size:
    raise ValueError(
      f'{name}[{bad[0]}] is {values[bad[0]]}: must be finite ({bad.size} of {values.size} are not)'
    )
  return values


def is_constant(values: np.ndarray) -> bool:
  """Returns True if all values [N] are equal, or if there are none."""
  return values.size == 0 or bool(values.min() == values.max())
