"""Confidence intervals by formula, which both the evaluation and the report need."""

from collections import Counter
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Sequence
import math
import statistics

import numpy as np
from numpy.typing import ArrayLike

Z = statistics.NormalDist().inv_cdf(0.975)  # the normal distribution has 95 % within ± Z
FEWEST_UNITS = 30  # with fewer, the correlation within them is not determined


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


def alike_size(units: Iterable[Hashable]) -> int:
  """Returns the effective number of observations if those of one unit are all alike, at least 1.

  With w observations of each unit, this is (sum w)^2 / sum w^2 (Kish 1965): their number if each
  has a unit of its own.

  Args:
    units: the unit of each observation, such as the prompt of a completion.
  """
  uses = Counter(units).values()
  return max(round(sum(uses) ** 2 / sum(use**2 for use in uses)), 1) if uses else 1


def effective_size(outcomes: ArrayLike, units: Sequence[Hashable]) -> int:
  """Returns the effective number of independent observations, from `alike_size` to N.

  It is N over the design effect: the variance of the mean, with whole units as its independent
  parts, over that of N independent observations (Korn and Graubard 1998). With fewer than
  FEWEST_UNITS units, or if all outcomes are equal, the observations of a unit count as alike.

  Args:
    outcomes: [N], such as 1 for a success and 0 for a failure.
    units: [N], the unit of each.
  """
  outcomes, alike = np.asarray(outcomes, np.float64), alike_size(units)
  numbers = np.unique(np.asarray(units, object).astype(str), return_inverse=True)[1]
  count = int(numbers.max(initial=-1)) + 1
  if count < FEWEST_UNITS or np.ptp(outcomes) == 0:
    return alike
  centred = outcomes - outcomes.mean()
  variance = count / (count - 1) * np.sum(np.bincount(numbers, centred) ** 2) / outcomes.size**2
  independent = round(np.mean(centred**2) / variance) if variance else outcomes.size
  return int(np.clip(independent, alike, outcomes.size))


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
