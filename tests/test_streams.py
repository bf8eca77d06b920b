"""Streams of random numbers: each purpose of each run has its own."""

from irl_jax import streams


def test_no_two_streams_of_neighbouring_seeds_are_the_same():
  seeds = [streams.seed_of(seed, name) for seed in range(50) for name in streams.STREAMS]
  assert len(set(seeds)) == 50 * len(streams.STREAMS)
  assert len(streams.STREAMS) < streams.SPACING


def test_seed_0_draws_what_it_drew_before_streams_had_names():
  names = ('rollouts', 'evaluation', 'train', 'validation', 'heldout', 'prompts')
  assert [streams.seed_of(0, name) for name in names] == list(range(6))


def test_the_seed_of_a_stream_fits_into_a_key():
  assert 0 <= streams.seed_of(2**31 - 1, 'base heldout') < 2**31
