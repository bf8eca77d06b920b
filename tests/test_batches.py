"""Padding, bucketing and the order of data."""

import numpy as np
import pytest

from irl_jax import batches

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
  assert length <= batches.round_up(length) < length + 4 and batches.round_up(length) % 4 == 0


def test_there_are_few_buckets():
  assert len({batches.bucket(length) for length in range(1, 2049)}) <= 20


def test_batches_of_texts_and_prompts():
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


def test_every_epoch_is_a_permutation_and_steps_need_no_history():
  steps = [batches.shuffled_indices(10, 4, step, seed=3) for step in range(10)]
  order = np.concatenate(steps).reshape(4, 10)  # 4 epochs, which batches run across
  assert all(sorted(epoch) == list(range(10)) for epoch in order)
  assert len({tuple(epoch) for epoch in order}) == 4
  np.testing.assert_array_equal(batches.shuffled_indices(10, 4, 7, seed=3), steps[7])
  assert not np.array_equal(batches.shuffled_indices(10, 4, 0, seed=4), steps[0])


def test_more_rows_than_examples():
  rows = batches.shuffled_indices(3, 8, 0, seed=0)
  assert sorted(rows[:3]) == sorted(rows[3:6]) == [0, 1, 2] and len(rows) == 8
