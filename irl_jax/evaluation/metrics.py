"""Figures as summary.json holds them: plain Python numbers; what cannot be computed is None beside a reason."""

from collections.abc import Mapping
import math
from typing import Any

import numpy as np


def collect(figures: Mapping[str, Any]) -> dict[str, Any]:
  """Makes figures plain JSON: a figure that cannot be computed becomes None, its reason goes under 'why'.

  Args:
    figures: by name a number (Python's or NumPy's), a nested dict or list, None, or a str: the reason why there is
      no figure.

  Returns:
    The same names in the same order; 'why': {name: reason} behind them where there is a reason.
  """
  plain, why = {}, {}
  for name, value in figures.items():
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
      value = f'the result is not finite ({value})'
    if isinstance(value, str):
      why[name], value = value, None
    plain[name] = value
  return plain | ({'why': why} if why else {})


def annotate(figures: dict[str, Any], notes: dict[str, str]) -> dict[str, Any]:
  """Adds notes to a dict's 'why'; its own reasons stay."""
  why = notes | figures.get('why', {})
  return figures | ({'why': why} if why else {})


def finite_vector(values, name: str) -> np.ndarray:
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
  """Whether values [N] holds one value, or none at all."""
  return values.size == 0 or bool(values.min() == values.max())
