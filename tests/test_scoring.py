"""Scoring: few shapes, texts read once, the host ahead of the devices, rows in order."""

import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import errors
from irl_jax import scoring
from irl_jax.runtime import parallel


def length_and_sum(params, batch, *, config, dtype):
  """Returns the number and the sum of the tokens of each text [B, 2]."""
  del params, config, dtype
  return jnp.stack([jnp.sum(batch.valid, axis=1), jnp.sum(batch.ids * batch.valid, axis=1)], axis=1)


def test_every_text_keeps_its_row_in_batches_of_few_shapes(policy, monkeypatch):
  monkeypatch.setattr(scoring, 'CHUNK', 16)
  shapes, shard = [], parallel.shard
  monkeypatch.setattr(
    parallel, 'shard', lambda batch: shapes.append(batch.ids.shape) or shard(batch)
  )
  rng = np.random.default_rng(0)
  texts = [rng.integers(1, 20, length).tolist() for length in rng.integers(1, 60, 100)]
  actual = scoring.over_tokens(length_and_sum, policy, 56, 0, 64, np.float32)(
    [text[:56] for text in texts]
  )
  np.testing.assert_array_equal(actual, [[len(text[:56]), sum(text[:56])] for text in texts])
  rows = dict.fromkeys(shapes)
  assert (
    len({length for _, length in rows}) == len(rows) <= 7
  )  # one size of batch for each padded length
  assert all(size % parallel.device_count() == 0 for size, _ in rows)
  assert max(length for _, length in rows) == 56
  assert sum(size * length for size, length in shapes) < 2 * actual[:, 0].sum()


def test_a_text_that_comes_twice_is_read_once(policy, monkeypatch):
  sizes, shard = [], parallel.shard
  monkeypatch.setattr(parallel, 'shard', lambda batch: sizes.append(len(batch.ids)) or shard(batch))
  score = scoring.over_texts(length_and_sum, policy, 64, 0, 64, np.float32, shape=(2,))
  once = score(['a cat', 'bad', ''])
  assert score([]).shape == (0, 2)
  before = sum(sizes)
  np.testing.assert_array_equal(
    score(['bad', 'a cat', '', 'bad', 'bad', 'a cat'] * 50), once[[1, 0, 2, 1, 1, 0] * 50]
  )
  assert sum(sizes) == 2 * before


def test_the_next_chunk_is_read_before_the_last_one_is_waited_for(policy, monkeypatch):
  monkeypatch.setattr(scoring, 'CHUNK', 8)
  events, gather = [], parallel.gather
  monkeypatch.setattr(parallel, 'gather', lambda tree: events.append('wait') or gather(tree))
  texts = [[7] * 8] * 24
  read = lambda rows: events.append('read') or [texts[row] for row in rows]
  scoring.batched(length_and_sum, policy, 64, 0, 1, np.float32)([8] * 24, read)
  assert (
    events[:3] == ['read', 'read', 'wait'] and events.count('read') == 3 and events[-1] == 'wait'
  )


@pytest.mark.parametrize(
  'count, batch_size, tokens',
  [
    (1, 64, 512),
    (1, 2, 128),
    (128, 64, 1024),
    (100, 64, 1024),
    (10**6, 64, 4096),
    (10**6, 16, 1024),
  ],
)
def test_a_batch_is_as_many_tokens_as_the_devices_and_the_call_are_large(count, batch_size, tokens):
  assert parallel.device_count() == 4  # of which each has a cache of its own
  assert scoring.tokens_at_once(count, batch_size) == tokens


def test_short_texts_come_in_larger_batches():
  assert [scoring.rows_at_once(length, 1024, 10**6) for length in (8, 64, 500, 2048)] == [
    128,
    16,
    4,
    4,
  ]
  assert scoring.rows_at_once(8, 1024, 5) == 8


@pytest.mark.parametrize('batch_size', ['probability', 0, -1, 8.0, None])
def test_a_batch_size_that_is_no_whole_number_from_1_is_refused(batch_size):
  with pytest.raises(errors.ConfigError, match='batch_size = .*: must be a whole number >= 1'):
    scoring.tokens_at_once(8, batch_size)
