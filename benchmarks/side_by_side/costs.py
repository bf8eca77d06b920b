"""The minimum cost of a piece of work: FLOPs of its matmuls, bytes moved through memory.

A matmul of [M, K] and [K, N] is 2 M K N FLOPs. Attention counts every pair of positions of a text,
as other FLOP counters do. Embedding look-ups, norms, softmax, padding and recomputation in the
backward pass count nothing.
"""

from collections.abc import Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class Shape:
  """The shape of a Pythia or of a RoBERTa."""

  width: int
  blocks: int
  heads: int
  feed_forward: int
  vocabulary: int = 50304

  @property
  def block_weights(self) -> int:
    """Weights of one block's matrices."""
    return 4 * self.width**2 + 2 * self.width * self.feed_forward

  @property
  def embedding(self) -> int:
    """Weights of the embedding; the output head has as many."""
    return self.vocabulary * self.width


PYTHIA = {
  'tiny': Shape(16, 2, 2, 32, 264),
  '14m': Shape(128, 6, 4, 512),
  '70m': Shape(512, 6, 8, 2048),
  '410m': Shape(1024, 24, 16, 4096),
  '1b': Shape(2048, 16, 8, 8192),
}
TOP_K = 30  # of all sampling
ROBERTA = {'tiny': Shape(16, 2, 2, 32, 264), 'base': Shape(768, 12, 12, 3072, 50265)}


@dataclasses.dataclass(frozen=True)
class Work:
  """A contestant's work; fields that its kind of work does not have stay 0."""

  shape: Shape
  scorer: Shape = ROBERTA['base']
  batch: int = 0
  prompt: int = 0  # tokens
  new: int = 0  # sampled tokens
  tokens: int = 0  # tokens of a text
  pairs: int = 0
  epochs: int = 0
  trained_blocks: int = -1  # -1: everything
  texts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Cost:
  """An amount of computation and of memory traffic."""

  flops: float = 0.0
  bytes: float = 0.0

  def __add__(self, other: 'Cost') -> 'Cost':
    return Cost(self.flops + other.flops, self.bytes + other.bytes)

  def __mul__(self, times: float) -> 'Cost':
    return Cost(self.flops * times, self.bytes * times)


def blocks(shape: Shape, count: int, texts: int, tokens: int) -> float:
  """Returns the FLOPs of `count` blocks over texts of that many tokens each."""
  return count * texts * tokens * (2 * shape.block_weights + 4 * tokens * shape.width)


def head(shape: Shape, positions: int) -> float:
  """Returns the FLOPs of the logits at this many positions."""
  return 2.0 * positions * shape.embedding


def decode(work: Work, item: int) -> Cost:
  """Returns the cost of sampling: one pass over the prompt, then one per new token but the last.

  Each pass reads all blocks and the output head; each but the first also reads the keys and values
  so far. `item` is the bytes per number.
  """
  shape, batch = work.shape, work.batch
  flops = blocks(shape, shape.blocks, batch, work.prompt) + head(shape, batch)
  moved = work.new * (shape.blocks * shape.block_weights + shape.embedding)
  for visible in range(work.prompt + 1, work.prompt + work.new):
    block = 2 * shape.block_weights + 4 * visible * shape.width
    flops += shape.blocks * batch * block + head(shape, batch)
    moved += 2 * shape.blocks * batch * visible * shape.width
  return Cost(flops, item * moved)


def update(weights: int, flops: float) -> Cost:
  """Returns the cost of forward, backward and AdamW for a forward pass of this many FLOPs.

  Weights are float32. Both passes read each weight, and its gradient is written; AdamW reads four
  numbers and writes three.
  """
  return Cost(3 * flops, 4 * weights * (3 + 7))


def train(work: Work) -> Cost:
  """Returns the cost of a step of language modelling; the last token predicts nothing."""
  shape, positions = work.shape, work.batch * (work.tokens - 1)
  flops = blocks(shape, shape.blocks, work.batch, work.tokens) + head(shape, positions)
  return update(shape.blocks * shape.block_weights + 2 * shape.embedding, flops)


def score(shape: Shape, lengths: Sequence[int], item: int) -> Cost:
  """Returns the cost of a classifier of two labels over texts; its weights are read once."""
  top = 2 * len(lengths) * (shape.width**2 + 2 * shape.width)
  body = sum(blocks(shape, shape.blocks, 1, length) for length in lengths)
  return Cost(top + body, item * shape.blocks * shape.block_weights)


def ppo(work: Work, item: int) -> dict[str, Cost]:
  """Returns the costs of `rollout`, `score` and `update` (log-probs, values and all epochs).

  Blocks below the cut are computed once. (The gradient stops at the norms of the lowest trained
  block, so none of its matmuls is saved.) The value head is two dense layers, D to 2D to 1.
  """
  shape, positions, tokens = work.shape, work.batch * work.new, work.prompt + work.new
  everything = work.trained_blocks == -1
  above = shape.blocks if everything else work.trained_blocks
  weights = above * shape.block_weights + shape.embedding * (2 if everything else 1)
  below = blocks(shape, shape.blocks - above, work.batch, tokens)
  reference = blocks(shape, above, work.batch, tokens) + head(shape, positions)
  policy = reference + 2.0 * positions * (2 * shape.width**2 + 2 * shape.width)
  return {
    'rollout': decode(work, item),
    'score': score(work.scorer, [tokens] * work.batch, item),
    'update': Cost(below + reference + policy) + update(weights, policy) * work.epochs,
  }


def irl(work: Work, updates: int) -> Cost:
  """Returns the cost of an epoch with everything trained, and a validation on as many pairs."""
  shape = work.shape
  forward = blocks(shape, shape.blocks, 2 * work.pairs, work.tokens)
  weights = shape.blocks * shape.block_weights + shape.embedding
  return update(0, forward) + update(weights, 0) * updates + Cost(forward)


def irl_frozen(work: Work) -> Cost:
  """Returns the cost of a frozen trunk's states for all pairs, computed once for all epochs."""
  shape = work.shape
  flops = 2 * blocks(shape, shape.blocks, 2 * work.pairs, work.tokens)
  return Cost(flops, 4 * shape.blocks * shape.block_weights)
