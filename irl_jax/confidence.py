"""Confidence intervals by formula, which both the evaluation and the report need."""

import math

Z = 1.959964  # the normal distribution has 95 % within ± Z


def of_spearman(value: float, texts: int) -> tuple[float, float]:
  """Returns the 95 % interval of a Spearman correlation (Bonett and Wright 2000).

  All of [-1, 1] if there are at most 3 texts. A perfect order counts as halfway to the next one,
  two neighbours of which are exchanged: otherwise its interval would have no width, however few
  the texts are.

  Args:
    value: the correlation; rounding may have moved it a little beyond ±1.
    texts: their number.
  """
  if texts <= 3:
    return -1.0, 1.0
  most = min(1 - 6 / (texts**3 - texts), math.nextafter(1.0, 0.0))  # 1 - 6e-18 rounds to 1
  value = min(max(value, -most), most)
  centre = math.atanh(value)
  half = Z * math.sqrt((1 + value**2 / 2) / (texts - 3))
  return math.tanh(centre - half), math.tanh(centre + half)
