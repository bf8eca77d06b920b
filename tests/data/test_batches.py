"""Padding, bucketing and the order of data."""

import numpy as np
import pytest

from irl_jax.data import batches

SEQUENCES = [[5, 6, 7], [8], [9, 10]]


def test_padding_stands_on_the_side_that_it_should():
  ids, valid = batches.pad_right(SEQUENCES, 4, 1)
  np.testing.assert_array_equal(ids, [[5, 6, 7, 1], [8, 1, 1, 1], [9, 10, 1, 1]])
  np.testing.assert_array_equal(valid, [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]])
  ids, valid = batches.pad_left(SEQUENCES, 4, 1)
  np.testing.assert_array_equal(ids, [[1, 5, 6, 7], [1, 1, 1, 8], [1, 1, 9, 10]])
  np.testing.assert_array_equal(valid, [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1]])
  assert ids.dtype == np.int32 and valid.dtype == bool and ids.flags.c_contiguous


@pytest.mark.parametrize('length', [1, 8, 9, 100, 2048, 5000])
def test_a_bucket_holds_its_length(length):
  found = batches.bucket(length)
  assert length <= found <= max(8, 2 * length)
  assert batches.bucket(found) == found
  assert length <= batches.bucket(length, batches.TEXT_BUCKETS) <= max(8, 1.25 * length, length + 8)
  assert length <= batches.round_up(length) < length + 4 and batches.round_up(length) % 4 == 0


def test_there_are_few_buckets():
  assert len({batches.bucket(length) for length in range(1, 2049)}) <= 20
  assert len(batches.TEXT_BUCKETS) == len(set(batches.TEXT_BUCKETS)) <= 40


def test_texts_and_prompts_become_padded_batches():
  assert batches.text_batch(SEQUENCES, 0).ids.shape == (3, 8)
  assert batches.text_batch(SEQUENCES, 0, 3).ids.shape == (3, 3)
  prompts = batches.prompt_batch(SEQUENCES, np.array([7, 0, 2]), 0)
  assert prompts.ids[0, -1] == 7 and prompts.index.dtype == np.uint32
  np.testing.assert_array_equal(prompts.index, [7, 0, 2])


@pytest.mark.parametrize('count, batch_size', [(10, 4), (8, 4), (3, 4), (1, 1)])
def test_batches_by_length_hold_every_text_and_are_all_of_one_size(count, batch_size):
  sequences = [[0] * length for length in np.random.default_rng(count).integers(1, 20, count)]
  found = list(batches.by_length(sequences, batch_size))
  assert {len(rows) for rows in found} == {batch_size}
  assert len(found) == -(-count // batch_size)
  rows = np.concatenate(found)
  assert sorted(rows[:count]) == list(range(count)) and set(rows[count:]) <= {rows[count - 1]}
  lengths = [len(sequences[row]) for row in rows]
  assert lengths == sorted(lengths)


def test_texts_of_equal_length_keep_their_order():
  np.testing.assert_array_equal(next(batches.by_length([[0]] * 5, 5)), np.arange(5))


@pytest.mark.parametrize('count, chunk', [(100, 30), (100, 100), (3, 2), (1, 1)])
def test_batches_by_tokens_hold_every_text_once_and_only_the_last_is_short(count, chunk):
  lengths = np.random.default_rng(count).integers(0, 40, count)
  order = np.argsort(
    -lengths + np.random.default_rng(0).integers(0, 5, count)
  )  # only roughly the longest first
  texts = [(int(row), [7] * lengths[row]) for row in order]
  chunks = [texts[start : start + chunk] for start in range(0, count, chunk)]
  found = list(batches.by_tokens(chunks, lambda length: 64 // length))
  assert len(found) == len(chunks) + 1  # what is left comes behind
  flat = [batch for part in found for batch in part]
  assert sorted(row for rows, *_ in flat for row in rows) == list(range(count))
  for rows, sequences, length, size in flat:
    assert [len(sequence) for sequence in sequences] == [lengths[row] for row in rows]
    assert max(map(len, sequences)) <= length and size == 64 // length and len(rows) <= size
  assert all(len(rows) == size for rows, _, _, size in flat[:-1])


def test_batches_by_tokens_are_ready_before_the_next_chunk_is_read():
  read = []

  def chunks():
    for chunk in range(3):
      read.append(chunk)
      yield [(4 * chunk + row, [7] * 8) for row in range(4)]

  for number, ready in enumerate(batches.by_tokens(chunks(), lambda length: 4)):
    assert read == list(range(min(number + 1, 3))) and len(ready) == (number < 3)


def test_every_epoch_is_a_permutation_and_steps_need_no_history():
  steps = [batches.shuffled_indices(10, 4, step, seed=3) for step in range(10)]
  order = np.concatenate(steps).reshape(4, 10)  # 4 epochs, which batches run across
  assert all(sorted(epoch) == list(range(10)) for epoch in order)
  assert len({tuple(epoch) for epoch in order}) == 4
  np.testing.assert_array_equal(batches.shuffled_indices(10, 4, 7, seed=3), steps[7])
  assert not np.array_equal(batches.shuffled_indices(10, 4, 0, seed=4), steps[0])


def test_more_rows_than_examples_repeat_them():
  rows = batches.shuffled_indices(3, 8, 0, seed=0)
  assert sorted(rows[:3]) == sorted(rows[3:6]) == [0, 1, 2] and len(rows) == 8


@pytest.mark.parametrize(
  ['lengths', 'limit', 'updates', 'expected'],
  [
    ([3, 99], 512, 199, (100,)),
    ([3, 99], 512, 200, (100,)),
    ([10] * 9 + [90], 512, 200, (12, 92)),
    ([2] * 60 + [20] * 6 + [120], 512, 400, (4, 20, 120)),
    ([27, 30], 30, 0, (30,)),
    ([2], 1, 900, (1,)),
    ([], 512, 900, (4,)),
    (range(1, 601), 512, 10**6, (248, 348, 428, 492, 512)),
  ],
)
def test_padded_lengths_of_training_fit_the_texts(lengths, limit, updates, expected):
  assert batches.training_buckets(list(lengths), limit, updates) == expected


@pytest.fixture
def padded():
  """Returns the bucket of each of 1,003 texts."""
  return np.random.default_rng(0).choice([16, 24, 48], 1003, p=[0.5, 0.3, 0.2])


def test_most_batches_are_of_one_bucket_and_they_come_in_any_order(padded):
  rows = batches.order_by_bucket(padded, 8, seed=3)
  buckets = [padded[rows(step)] for step in range(125)]
  mixed = [len(set(bucket)) > 1 for bucket in buckets]
  assert sum(mixed) <= 2 * 4  # two borders in each of four windows
  means = np.array([bucket.mean() for bucket in buckets])
  assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.3


@pytest.mark.parametrize(['count', 'batch_size'], [(1000, 8), (1003, 8), (64, 64), (5, 2)])
def test_every_epoch_is_another_permutation_of_texts_and_steps_need_no_history(
  padded, count, batch_size
):
  padded = padded[:count]
  rows, per_epoch = batches.order_by_bucket(padded, batch_size, seed=3), count // batch_size
  epochs = [
    np.concatenate([rows(epoch * per_epoch + step) for step in range(per_epoch)])
    for epoch in range(3)
  ]
  for epoch in epochs:
    assert len(set(epoch)) == len(epoch) == per_epoch * batch_size
  assert len({tuple(epoch) for epoch in epochs}) == 3
  afresh = batches.order_by_bucket(padded, batch_size, seed=3)
  np.testing.assert_array_equal(afresh(2 * per_epoch), epochs[2][:batch_size])
  assert not np.array_equal(batches.order_by_bucket(padded, batch_size, seed=4)(0), rows(0))


def test_fewer_texts_than_a_batch_come_more_than_once():
  rows = batches.order_by_bucket([16, 24, 16], 8, seed=0)(0)
  assert len(rows) == 8 and set(rows) == {0, 1, 2}
