"""Confidence intervals by formula, which both the evaluation and the report need."""

import math
import statistics

Z = statistics.NormalDist().inv_cdf(0.975)  # the normal distribution has 95 % within ± Z


def wilson(successes: float, n: int) -> tuple[float, float]:
  """Returns the 95 % interval of a share (Wilson 1927), both ends in [0, 1].

  Args:
    successes: their number; a tie may count as half a success.
    n: the number of trials, at least 1.

  Raises:
    ValueError: not 0 <= successes <= n, or n is 0.
  """
  if not 0 <= successes <= n or n == 0:
    raise ValueError(f'{successes} successes of {n}: must be 0 <= successes <= n and n >= 1')
  share, scale = successes / n, 1 + Z**2 / n
  centre = (share + Z**2 / (2 * n)) / scale
  half = Z / scale * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
  # At both ends the formula gives 0 and 1, up to rounding.
  low = centre - half if successes else 0.0
  high = centre + half if successes < n else 1.0
  return low, high


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
