"""The streams of random numbers that a run draws samples from: one for each purpose.

Runs with neighbouring seeds share none.
"""

SPACING = 1000  # streams of one run, at most; the seeds of IRL's rewards have the same spacing
# Named after what is sampled. The place in this list is the number of the stream, so new ones go to
# the end.
STREAMS = (
  'rollouts',
  'evaluation',
  'train',  # demonstrations: of both models, or of the aligned one alone
  'validation',
  'heldout',
  'prompts',
  'base train',  # demonstrations of the base model that are independent of the aligned one's
  'base validation',
  'base heldout',
)


def seed_of(seed: int, stream: str) -> int:
  """Returns the seed of a stream, below 2^31: 1000 times the run's seed plus the stream's number.

  Args:
    seed: config.seed.
    stream: one of STREAMS.
  """
  return (SPACING * seed + STREAMS.index(stream)) % 2**31  # a 32-bit integer, as JAX's keys take
