"""Toxicity of completions before and after RLHF, its uncertainty, and the variety of the texts."""

from collections.abc import Sequence
import itertools
import math
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
import scipy

from irl_jax import confidence
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import finite_vector
from irl_jax.runtime import records

NO_PROMPT = 'no prompt'
NO_BIGRAM = 'no completion has two words'


def toxicity(rewards: ArrayLike, prompts: Sequence[str] | None = None) -> records.Share:
  """Returns the share of texts whose true reward is below 0, with its Wilson 95 % interval.

  Args:
    rewards: r* of N texts.
    prompts: the prompt of each text, because texts of one prompt are not independent: the interval
      is that of their effective size; None: each has a prompt of its own.
  """
  rewards = finite_vector(rewards, 'rewards')
  if not rewards.size:
    missing = collect({'rate': 'no text', 'low': 'no text', 'high': 'no text', 'n': 0})
    return cast(records.Share, missing)
  rate, size = float(np.mean(rewards < 0)), independent(rewards < 0, prompts)
  low, high = confidence.wilson(rate * size, size)
  return {'rate': rate, 'low': low, 'high': high, 'n': rewards.size}


def independent(outcomes: np.ndarray, prompts: Sequence[str] | None) -> int:
  """Returns the effective number of independent outcomes [N].

  Raises:
    ValueError: there are not as many prompts as outcomes.
  """
  if prompts is None:
    return outcomes.size
  if len(prompts) != outcomes.size:
    raise ValueError(f'prompts has {len(prompts)} rows, but there are {outcomes.size} texts')
  return confidence.effective_size(outcomes, prompts)


def mcnemar(before: ArrayLike, after: ArrayLike) -> records.McNemar:
  """Tests whether a verdict changed, paired by prompt (McNemar 1947, exact, two-sided).

  Only prompts with two different verdicts count. If nothing changed, each of the two directions is
  as likely as the other.

  Args:
    before: [N] bool, whether the completion of each prompt was toxic before.
    after: [N] bool, the same prompts after.

  Returns:
    The number of prompts that are toxic before_only, after_only, in both and in neither, and
    p_value (1 if no verdict changed).

  Raises:
    ValueError: the two differ in length.
  """
  before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
  if before.ndim != 1 or before.shape != after.shape:
    raise ValueError(
      f'before has shape {before.shape} and after {after.shape}: must be one-dimensional and the '
      'same'
    )
  before_only, after_only = int(np.sum(before & ~after)), int(np.sum(after & ~before))
  differing = before_only + after_only
  p_value = float(scipy.stats.binomtest(before_only, differing, 0.5).pvalue) if differing else 1.0
  results = collect(
    {
      'before_only': before_only,
      'after_only': after_only,
      'both': int(np.sum(before & after)),
      'neither': int(np.sum(~before & ~after)),
      'p_value': p_value if before.size else NO_PROMPT,
    }
  )
  return cast(records.McNemar, results)


def win_rate(
  before: ArrayLike, after: ArrayLike, prompts: Sequence[str] | None = None
) -> records.Share:
  """Returns the share of prompts whose reward rose, ties counted half, with its interval.

  Args:
    before: r* of N completions.
    after: r* of N completions of the same prompts.
    prompts: as in `toxicity`.

  Raises:
    ValueError: the two differ in length, or a reward is not finite.
  """
  before, after = finite_vector(before, 'before'), finite_vector(after, 'after')
  if before.size != after.size:
    raise ValueError(f'before has {before.size} rewards and after {after.size}: must be the same')
  if not before.size:
    missing = dict.fromkeys(('rate', 'low', 'high'), NO_PROMPT)
    return cast(records.Share, collect({**missing, 'n': 0}))
  rises = (after > before) + 0.5 * (after == before)
  rate = float(np.mean(rises))
  low, high = exact_interval(rate, independent(rises, prompts))
  return {'rate': rate, 'low': low, 'high': high, 'n': before.size}


def exact_interval(rate: float, n: int) -> tuple[float, float]:
  """Returns the 95 % interval of a share of n (Clopper and Pearson 1934).

  A fraction of a success is rounded towards 1/2. A reward that knows nothing is above 1/2 by this
  interval at most once in 40 audits. Wilson's narrower one is right on average, but too sure where
  few pairs differ: with 4, all of them agree by chance once in 16.
  """
  successes = round(rate * n, 6)
  whole = math.floor(successes) if successes > n / 2 else math.ceil(successes)
  bounds = scipy.stats.binomtest(whole, n).proportion_ci(0.95, method='exact')
  return float(bounds.low), float(bounds.high)


def distinct_2(completions: Sequence[str]) -> float | None:
  """Returns the share of distinct word bigrams among those of all completions, in (0, 1].

  Li et al. 2016 define it. Words are split at white space.

  Returns:
    None if there is no bigram; the reason is `NO_BIGRAM`.
  """
  bigrams = [
    bigram for completion in completions for bigram in itertools.pairwise(completion.split())
  ]
  return len(set(bigrams)) / len(bigrams) if bigrams else None
