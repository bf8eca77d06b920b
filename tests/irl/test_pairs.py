"""Demonstrations as minibatches: whole texts, one padded length, features once."""

import dataclasses

import chex
import numpy as np
import pytest

from irl_jax import errors
from irl_jax import scoring
from irl_jax.data import text
from irl_jax.irl import pairs as pairs_lib


def test_pairs_are_whole_texts(policy, caplog):
  pairs = pairs_lib.encode_pairs(policy, ['ab', '', 'abcdef'], ['c', 'd', 'e'], 4)
  assert pairs == [([3, 4], [5]), ([0], [6]), ([5, 6, 7, 8], [7])]
  assert '1 of 6 demonstrated texts is longer than 4 tokens: cut on the left' in caplog.text


def test_texts_of_one_prompt_are_cut_alike(policy):
  aligned, base = ['abcdef', 'ab', 'abcdefgh'], ['abcd', 'abcdef', 'ba']
  pairs = pairs_lib.encode_pairs(policy, aligned, base, 5, ['x', 'y', 'z'])
  a, b, c, d, e, f = range(3, 9)
  assert pairs[0] == ([b, c, d, e, f], [b, c, d])  # both lose a
  assert pairs[1] == ([b], [b, c, d, e, f])
  assert pairs[2] == ([a, b, c, d, e], [b, a])  # nothing in common: the end is cut
  (first, second) = pairs_lib.encode_pairs(policy, ['abcd', 'abce'], ['abcdef', 'ab'], 5, ['x'] * 2)
  assert first == ([b, c, d], [b, c, d, e, f]) and second == ([b, c, e], [b])


def test_texts_of_a_pair_lose_the_same_part_of_their_prompt(policy):
  """Completions of very different lengths, most of them cut."""
  rng = np.random.default_rng(0)
  word = lambda low, high: ''.join(rng.choice(list('abcdefgh'), rng.integers(low, high)))
  prompts = [word(8, 20) for _ in range(40)]
  sides = [[prompt + word(1, 30) for prompt in prompts] for _ in range(2)]
  pairs = pairs_lib.encode_pairs(policy, *sides, 24, prompts)
  assert sum(len(text) > 24 for side in sides for text in side) > 20
  whole = [text.encode(policy.tokenizer, side)[0] for side in sides]
  lost = lambda full, part: {n for n in range(len(full)) if full[n:][:24] == part}
  for aligned, base, pair in zip(*whole, pairs):
    assert lost(aligned, pair[0]) & lost(base, pair[1])  # the same number, so the same prompt


def test_pairs_are_padded_to_the_longest_text_of_all():
  pairs = pairs_lib.pair_dataset([([1], [2, 3]), ([4] * 9, [5]), ([6], [7])], pad_id=0)
  batch = pairs.batch(np.array([2, 0]))
  assert len(pairs) == 3
  chex.assert_shape(
    [batch.aligned.ids, batch.aligned.valid, batch.base.ids, batch.base.valid], (2, 12)
  )
  assert batch.base.ids[:, :3].tolist() == [[7, 0, 0], [2, 3, 0]]
  assert batch.base.valid.sum(1).tolist() == [1, 2] and batch.weight.tolist() == [1, 1]


def with_features(aligned, base):
  """A dataset of pairs whose tokens do not matter."""
  dataset = pairs_lib.pair_dataset([([2], [3])] * len(aligned), pad_id=0)
  return dataclasses.replace(dataset, features=np.stack([aligned, base], axis=1))


def test_results_of_all_texts_are_put_beside_each_other_by_pair():
  texts = pairs_lib.texts_of([([1], [2, 3]), ([4, 4], [5])])
  results = np.array([[sum(text), len(text)] for text in texts], np.float32)
  assert pairs_lib.of_both(results).tolist() == [[[1, 1], [5, 2]], [[8, 2], [5, 1]]]


def test_a_batch_holds_features_where_there_are_some():
  rows = np.arange(6, dtype=np.float32).reshape(3, 2)
  pairs = with_features(rows, -rows)
  assert len(pairs) == 3 and pairs.padded == [1, 1, 1]
  batch = pairs.batch(np.array([1, 0, 1]))
  assert batch.aligned.pooled.tolist() == [[2, 3], [0, 1], [2, 3]]
  assert batch.base.pooled.tolist() == [[-2, -3], [0, -1], [-2, -3]]


def test_a_batch_holds_activations_at_the_cut_of_its_own_length():
  dataset = pairs_lib.pair_dataset([([1], [2, 3]), ([4] * 11, [5]), ([6], [7])], pad_id=0)
  lengths = np.array([1, 11, 1, 2, 1, 1])  # of the aligned texts, then of the base texts
  hidden = np.random.default_rng(0).normal(size=(17, 5)).astype(np.float32)
  states = scoring.States(hidden, np.cumsum(lengths) - lengths, lengths)
  dataset = dataclasses.replace(dataset, buckets=(4, 12), cut_hidden=states)
  assert dataset.padded == [4, 12, 4]
  batch = dataset.batch(np.array([2, 0]))
  expected = np.zeros((2, 2, 4, 5), np.float32)
  expected[0, 0, :1], expected[0, 1, :1] = hidden[12:13], hidden[:1]
  expected[1, 0, :1], expected[1, 1, :2] = hidden[16:], hidden[13:15]
  np.testing.assert_array_equal([batch.aligned.cut_hidden, batch.base.cut_hidden], expected)


def test_a_batch_holds_the_labels_of_its_pairs_at_its_own_length():
  dataset = pairs_lib.pair_dataset([([1], [2, 3]), ([4] * 11, [5]), ([6], [7])], pad_id=0)
  labels = [np.array([0.25, 0.5]), np.full(11, 0.125), np.array([1.0])]
  dataset = dataclasses.replace(dataset, buckets=(4, 12), labels=labels)
  assert dataset.batch(np.array([2, 0])).label.tolist() == [[1.0] * 4, [0.25, 0.5, 0.5, 0.5]]
  pooled = dataclasses.replace(dataset, features=np.zeros((3, 2, 5), np.float32))
  assert pooled.batch(np.array([0, 1])).label.tolist() == [[0.5], [0.125]]
  assert dataclasses.replace(dataset, labels=None).batch(np.array([0])).label is None


@pytest.mark.parametrize(
  'count, size, expected',
  [(5, 2, [[0, 1], [2, 3], [4, 4]]), (4, 2, [[0, 1], [2, 3]]), (1, 3, [[0, 0, 0]])],
)
def test_blocks_of_rows_are_full_and_in_order(count, size, expected):
  assert [rows.tolist() for rows in pairs_lib.blocks_of_rows(count, size)] == expected


def test_the_pairs_of_a_prompt_stay_together():
  """Prompt a has five pairs, b one, c two: in threes, b's is left out and gaps have no weight."""
  features = np.arange(8, dtype=np.float32)[:, None]
  pairs = pairs_lib.by_prompt(with_features(features, -features), list('abacaaca'), 3)
  assert len(pairs) == 3 and pairs.groups.tolist() == [[0, 2, 4], [5, 7, -1], [3, 6, -1]]
  batch = pairs.batch(np.array([2, 0]))
  assert batch.aligned.pooled[:, 0].tolist() == [3, 6, 3, 0, 2, 4]
  assert batch.base.pooled[:, 0].tolist() == [-3, -6, -3, 0, -2, -4]
  assert batch.weight.tolist() == [1, 1, 0, 1, 1, 1]


def test_without_prompts_any_two_pairs_may_be_compared():
  texts = pairs_lib.pair_dataset([([number], [number + 1]) for number in range(2, 7)], pad_id=0)
  pairs = pairs_lib.by_prompt(texts, None, 2)
  assert pairs.groups.tolist() == [[0, 1], [2, 3]]
  assert pairs.batch(np.array([1])).aligned.ids[:, 0].tolist() == [4, 5]


def test_prompts_of_one_pair_alone_are_refused():
  texts = pairs_lib.pair_dataset([([2], [3])] * 3, pad_id=0)
  with pytest.raises(
    errors.InputError, match='needs at least two different pairs per prompt, but no prompt has'
  ):
    pairs_lib.by_prompt(texts, ['a', 'b', 'c'], 2)


TWO = 'must be the token ids of an aligned and a base text; encode_pairs returns them'


@pytest.mark.parametrize(
  'pair, problem',
  [
    (('good', 'bad'), rf"pairs\[1\]\[0\] is 'good': {TWO}"),
    ({'aligned': 'a', 'base': 'b'}, TWO),
    (([2],), TWO),
    (([2], [3], [4]), TWO),
    (([2], []), rf'pairs\[1\]\[1\] is \[\]: {TWO}'),
    (([2.5], [3]), TWO),
    (([2], [[3]]), TWO),
    (([2], [36]), r'pairs\[1\]\[1\]: token id 36: must be from 0 to 35'),
    (([-1], [3]), r'pairs\[1\]\[0\]: token id -1: must be from 0 to 35'),
    (([2] * 65, [3]), 'has 65 tokens; must have at most 64, the positions of the tiny policy'),
  ],
)
def test_pairs_that_are_not_token_ids_of_the_model_are_refused(policy, pair, problem):
  with pytest.raises(errors.InputError, match=problem):
    pairs_lib.checked([([2], [3]), pair], policy, 'pairs')


@pytest.mark.parametrize('pairs', [None, 'ab', {'a': 'b'}])
def test_pairs_that_are_no_list_are_refused(policy, pairs):
  with pytest.raises(errors.ConfigError, match='pairs: must be a list of pairs, not'):
    pairs_lib.checked(pairs, policy, 'pairs')


def test_pairs_may_be_arrays_and_come_from_a_generator(policy):
  given = ((np.array([2, 3]), np.array([4], np.uint8)) for _ in range(2))
  assert pairs_lib.checked(given, policy, 'pairs') == [([2, 3], [4])] * 2


@pytest.mark.parametrize(
  'aligned, base, prompts, problem',
  [
    ('ab', ['a', 'b'], None, 'aligned: must be a list of strings, not str'),
    (['a', 'b'], ['a'], None, 'base: has 1, but must have 2, one per pair'),
    (['a', 'b'], ['a', 'b'], ['a'], 'prompts: has 1, but must have 2, one per pair'),
    (['a', None], ['a', 'b'], None, r'aligned\[1\] is None: must be a string'),
  ],
)
def test_texts_that_do_not_pair_up_are_refused(policy, aligned, base, prompts, problem):
  with pytest.raises((errors.ConfigError, errors.InputError), match=problem):
    pairs_lib.encode_pairs(policy, aligned, base, 8, prompts)


@pytest.mark.parametrize('most', [0, -1, float('nan'), None])
def test_a_limit_that_leaves_no_tokens_is_refused(policy, most):
  with pytest.raises(errors.ConfigError, match='max_tokens = .*: must be a whole number >= 1'):
    pairs_lib.encode_pairs(policy, ['a'], ['b'], most)
