"""Shares, intervals, the paired test and variety, against formulas written out here."""

import json
import math

import pytest

from irl_jax.confidence import wilson
from irl_jax.evaluation.toxicity import distinct_2
from irl_jax.evaluation.toxicity import exact_interval
from irl_jax.evaluation.toxicity import mcnemar
from irl_jax.evaluation.toxicity import NO_BIGRAM
from irl_jax.evaluation.toxicity import toxicity
from irl_jax.evaluation.toxicity import win_rate


def test_toxicity_counts_rewards_below_zero():
  figures = toxicity([-1.0, -0.5, 0.0, 2.0])
  low, high = wilson(2, 4)
  assert figures == {'rate': 0.5, 'low': low, 'high': high, 'n': 4}
  json.dumps(figures, allow_nan=False)


def test_toxicity_of_nothing_is_null_with_a_reason():
  figures = toxicity([])
  assert (
    figures['rate'] is None and figures['n'] == 0 and set(figures['why']) == {'rate', 'low', 'high'}
  )
  with pytest.raises(ValueError, match=r'rewards\[0\] is nan'):
    toxicity([float('nan')])


def test_completions_of_one_prompt_are_not_independent():
  rewards = [-1.0, 1.0, -1.0, 1.0]
  alone, alike = toxicity(rewards), toxicity(rewards, ['a', 'a', 'b', 'b'])
  assert alone['rate'] == alike['rate'] == 0.5 and alike['n'] == 4
  assert (alike['low'], alike['high']) == wilson(1, 2)
  assert toxicity(rewards, ['a', 'b', 'c', 'd']) == alone
  won = win_rate([0.0] * 4, rewards, ['a', 'a', 'b', 'b'])
  assert (won['low'], won['high']) == exact_interval(0.5, 2)
  with pytest.raises(ValueError, match='prompts has 1 rows, but there are 4 texts'):
    toxicity(rewards, ['a'])


def test_mcnemar_is_an_exact_sign_test_of_the_prompts_that_changed():
  before = [True] * 7 + [False] * 2 + [True] * 3 + [False] * 4
  after = [False] * 7 + [True] * 2 + [True] * 3 + [False] * 4
  figures = mcnemar(before, after)
  p_value = 2 * sum(math.comb(9, k) for k in range(3)) / 2**9
  assert figures == {
    'before_only': 7,
    'after_only': 2,
    'both': 3,
    'neither': 4,
    'p_value': pytest.approx(p_value, abs=1e-12),
  }
  assert mcnemar(after, before)['p_value'] == pytest.approx(p_value, abs=1e-12)
  json.dumps(figures, allow_nan=False)


def test_mcnemar_without_a_change_and_without_prompts():
  assert mcnemar([True, False], [True, False])['p_value'] == 1.0
  assert mcnemar([], [])['p_value'] is None
  with pytest.raises(ValueError, match='must be'):
    mcnemar([True], [True, False])


def test_distinct_2_is_over_all_bigrams_within_completions():
  assert (
    distinct_2([' you are you are', 'you are\tkind', 'you']) == 3 / 5
  )  # you are x3, are you, are kind
  assert distinct_2(['a b', 'b c']) == 1.0
  assert distinct_2(['', ' ', 'word']) is None and distinct_2([]) is None and NO_BIGRAM
