"""The size of a micro-batch, and the number that a minibatch is split into."""

import functools

import jax.numpy as jnp
import pytest

from irl_jax.models import gpt_neox
from irl_jax.training import micro_batch

SMALL = gpt_neox.GPTNeoXConfig(
  vocab_size=512, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256
)
PYTHIA_410M = gpt_neox.GPTNeoXConfig(
  vocab_size=50304,
  hidden_size=1024,
  num_hidden_layers=24,
  num_attention_heads=16,
  intermediate_size=4096,
)


def test_a_cpu_takes_as_many_as_fit_in_its_cache():
  fitting = functools.partial(micro_batch.size_on, 'cpu', 0, PYTHIA_410M, 2, width=4)
  assert (fitting(100), fitting(600)) == (5, 1)  # at least 1,024 tokens, at least one pair
  small = micro_batch.size_on('cpu', 0, SMALL, 1, 64, width=4)
  sizes = [micro_batch.block_bytes(SMALL, rows, 64, 4) for rows in (small, small + 1)]
  assert sizes[0] <= micro_batch.CACHE_BYTES < sizes[1]


def test_an_accelerator_takes_all_and_a_requested_size_is_used_anywhere():
  assert micro_batch.size_on('gpu', 0, PYTHIA_410M, 2, 100, width=2) == 0
  assert micro_batch.size_on('cpu', 7, PYTHIA_410M, 2, 100, width=4) == 7


@pytest.mark.parametrize('dtype, width', [(jnp.float32, 4), (jnp.bfloat16, 2)])
def test_the_width_is_that_of_the_compute_type(dtype, width):
  expected = micro_batch.size_on('cpu', 0, PYTHIA_410M, 2, 100, width)
  assert micro_batch.size(0, PYTHIA_410M, 2, 100, dtype) == expected


def test_micro_batches_are_equal_and_as_few_as_possible():
  limits = (0, 12, 100, 11, 6, 5, 1)
  assert [micro_batch.count(12, limit) for limit in limits] == [1, 1, 1, 2, 2, 3, 12]
  assert micro_batch.count(7, 3) == 7


def test_a_group_is_not_split():
  assert [micro_batch.count(12, size, group_size=4) for size in (12, 11, 4, 1)] == [1, 3, 3, 3]
