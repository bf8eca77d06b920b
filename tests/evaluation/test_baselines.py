"""Baselines learn from demonstrations what they claim to, and nothing else."""

import numpy as np
import pytest

from irl_jax.evaluation.baselines import bag_of_words, constant, length


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
      ['Kind!', 'rude', 'kind kind, KIND', 'rude not kind', 'zebra', ''])
  assert kind > 0 > rude and kind == again
  assert turned == score(['kind not rude'])[0] and unknown == empty
  assert score([]).shape == (0,)


def test_bag_of_words_needs_both_sides():
  with pytest.raises(ValueError, match='0 aligned and 1 base'):
    bag_of_words([], ['a'])
