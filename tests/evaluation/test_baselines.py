"""Baselines learn only what they claim to learn from demonstrations."""

import numpy as np
import pytest

from irl_jax.evaluation.baselines import bag_of_words
from irl_jax.evaluation.baselines import constant
from irl_jax.evaluation.baselines import dpo_implicit
from irl_jax.evaluation.baselines import given_prompt
from irl_jax.evaluation.baselines import last_token
from irl_jax.evaluation.baselines import length
from irl_jax.evaluation.baselines import remembered


def test_constant_calls_nothing_toxic():
  assert constant(['a', 'b']).tolist() == [0, 0]


def test_length_is_oriented_by_the_demonstrations():
  texts = ['one', 'one two three', '']
  assert length(['a b c'], ['a'])(texts).tolist() == [1, 3, 0]
  assert length(['a'], ['a b c'])(texts).tolist() == [-1, -3, 0]


def test_bag_of_words_is_at_the_minimum_of_its_loss():
  aligned, base = ['kind day', 'kind you', 'day off'], ['rude day', 'rude you', 'kind rude']
  words = ['kind', 'day', 'you', 'off', 'rude']
  score = bag_of_words(aligned, base, penalty=0.5)
  bias = score([''])[0]
  weights = score(words) - bias
  gradient, bias_gradient = 0.5 * weights, 0.0
  for text, target in [(text, 1) for text in aligned] + [(text, -1) for text in base]:
    present = np.array([word in text.split() for word in words], dtype=float)
    slope = -target / (1 + np.exp(target * (present @ weights + bias)))
    gradient, bias_gradient = gradient + slope * present, bias_gradient + slope
  assert np.abs(np.append(gradient, bias_gradient)).max() < 1e-3


def test_bag_of_words_reads_presence_and_no_order():
  score = bag_of_words(['a kind word'] * 5, ['a rude word'] * 5)
  kind, rude, again, turned, unknown, empty = score(
    ['Kind!', 'rude', 'kind kind, KIND', 'rude not kind', 'zebra', '']
  )
  assert kind > 0 > rude and kind == again
  assert turned == score(['kind not rude'])[0] and unknown == empty
  assert score([]).shape == (0,)


def test_bag_of_words_needs_both_sides():
  with pytest.raises(ValueError, match='0 aligned and 1 base'):
    bag_of_words([], ['a'])


def test_last_token_is_the_smoothed_log_odds_of_how_texts_end(letters):
  aligned, base = ['xa', 'a', 'bba', 'b'], ['ab', 'b']
  found = last_token(letters, aligned, base)(['ca', 'cccb', 'c', '', 'a'])
  odds = lambda a, b: np.log((a + 0.5) / (4 + 0.5 * 32)) - np.log((b + 0.5) / (2 + 0.5 * 32))
  np.testing.assert_allclose(found, [odds(3, 0), odds(1, 2), odds(0, 0), odds(0, 0), odds(3, 0)])
  np.testing.assert_allclose(
    last_token(letters, ['', ''], ['a', 'b'])(['', 'a']), np.log([2.5 / 0.5, 0.5 / 1.5])
  )
  with pytest.raises(ValueError, match='1 aligned and 0 base'):
    last_token(letters, ['a'], [])


def test_dpo_implicit_is_the_reward_of_the_policy_that_is_best_for_it():
  texts, reference, reward, beta = (
    ['a', 'b', 'c'],
    np.array([0.5, 0.3, 0.2]),
    np.array([1.0, -1.0, 0.3]),
    0.7,
  )
  tilted = reference * np.exp(reward / beta)
  policy = tilted / tilted.sum()
  log_prob_of = lambda shares: lambda asked: np.log([shares[texts.index(text)] for text in asked])
  found = beta * dpo_implicit(log_prob_of(policy), log_prob_of(reference))(['c', 'a', 'b'])
  np.testing.assert_allclose(np.diff(found), np.diff(reward[[2, 0, 1]]), atol=1e-12)


def test_a_completion_given_its_prompt_has_the_sum_and_the_mean_of_its_tokens_log_ratios():
  rng = np.random.default_rng(0)
  ratios = {token: rng.normal(size=2) for token in 'abcdef'}  # log-probs under each model
  texts = ['abcd', 'fe', 'a', 'cab']

  def of_model(side):
    return lambda pairs: np.array(
      [
        [sum(ratios[token][side] for token in completion), len(completion)]
        for _, completion in pairs
      ]
    )

  cut = lambda text: (text[:1], text[1:])
  found = given_prompt(of_model(0), of_model(1), cut, texts)
  for row, text in zip(found, texts):
    by_token = [ratios[token][0] - ratios[token][1] for token in text[1:]]
    expected = (sum(by_token), sum(by_token) / len(by_token)) if by_token else (0.0, 0.0)
    np.testing.assert_allclose(row, expected, atol=1e-12)


def test_no_text_is_scored_twice():
  asked = []

  def score(texts):
    asked.extend(texts)
    return np.array([[len(text), -len(text)] for text in texts], float).reshape(-1, 2)

  scored = remembered(score)
  assert scored(['a', 'bb', 'a']).tolist() == [[1, -1], [2, -2], [1, -1]]
  assert scored(['ccc', 'bb']).tolist() == [[3, -3], [2, -2]] and asked == ['a', 'bb', 'ccc']
  assert scored([]).shape == (0, 2)
