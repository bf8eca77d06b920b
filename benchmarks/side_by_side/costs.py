"""The minimum cost of a piece of work: FLOPs of its matmuls, bytes through memory.

A matmul of [M, K] and [K, N] is 2 M K N FLOPs. Attention counts every pair of positions of a text,
as other FLOP counters do; look-ups in an embedding, norms and softmax count nothing. Recomputation
in the backward pass and padding count nothing.

Dims: D width, F feed-forward, V vocabulary.
"""

from collections.abc import Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class Shape:
  """A stack of transformer blocks, of Pythia or of RoBERTa."""

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
  '160m': Shape(768, 12, 12, 3072),
  '410m': Shape(1024, 24, 16, 4096),
  '1b': Shape(2048, 16, 8, 8192),
}
ROBERTA = {'tiny': Shape(16, 2, 2, 32, 264), 'base': Shape(768, 12, 12, 3072, 50265)}


@dataclasses.dataclass(frozen=True)
class Work:
  """The work of a contestant; fields that its kind of work does not have stay 0."""

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
  """The amount of computation and of memory traffic."""

  flops: float = 0.0
  bytes: float = 0.0

  def __add__(self, other: 'Cost') -> 'Cost':
    return Cost(self.flops + other.flops, self.bytes + other.bytes)

  def __mul__(self, times: float) -> 'Cost':
    return Cost(self.flops * times, self.bytes * times)


def blocks(shape: Shape, count: int, texts: int, tokens: int) -> float:
  """FLOPs of `count` blocks over texts of that many tokens each."""
  return count * texts * tokens * (2 * shape.block_weights + 4 * tokens * shape.width)


def head(shape: Shape, positions: int) -> float:
  """FLOPs of the logits of this many positions."""
  return 2.0 * positions * shape.embedding


def value_head(shape: Shape, positions: int) -> float:
  """FLOPs of two dense layers, D to 2D to 1."""
  return 2.0 * positions * (2 * shape.width**2 + 2 * shape.width)


def decode(work: Work, item: int) -> Cost:
  """Sampling: the prompt in one pass, then one pass per new token but the last.

  Each pass reads all blocks and the output head; each but the first also reads the keys and values
  so far. `item` is the bytes of a number.
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
  """Forward and backward of a forward pass of this many FLOPs, then AdamW on float32 weights.

  Both passes read each weight, its gradient is written; AdamW reads four numbers and writes three.
  """
  return Cost(3 * flops, 4 * weights * (3 + 7))


def trained_weights(shape: Shape, trained_blocks: int) -> int:
  """Weights of everything (-1), or of the top blocks and the output head."""
  if trained_blocks == -1:
    return shape.blocks * shape.block_weights + 2 * shape.embedding
  return trained_blocks * shape.block_weights + shape.embedding


def train(work: Work) -> Cost:
  """One step of language modelling, everything trained; the last token predicts nothing."""
  shape = work.shape
  flops = blocks(shape, shape.blocks, work.batch, work.tokens)
  flops += head(shape, work.batch * (work.tokens - 1))
  return update(trained_weights(shape, -1), flops)


def score(shape: Shape, lengths: Sequence[int], item: int) -> Cost:
  """A RoBERTa classifier of two labels over texts of those lengths; its weights are read once."""
  top = 2 * len(lengths) * (shape.width**2 + 2 * shape.width)
  body = sum(blocks(shape, shape.blocks, 1, length) for length in lengths)
  return Cost(top + body, item * shape.blocks * shape.block_weights)


def ppo(work: Work, item: int) -> dict[str, Cost]:
  """`rollout`, `score`, and `update`: log-probs of policy and reference, and all epochs.

  What lies below the cut is computed once. (The gradient stops at the norms of the lowest trained
  block, so none of its matmuls is saved.)
  """
  shape, positions = work.shape, work.batch * work.new
  tokens = work.prompt + work.new
  above = shape.blocks if work.trained_blocks == -1 else work.trained_blocks
  below = blocks(shape, shape.blocks - above, work.batch, tokens)
  reference = blocks(shape, above, work.batch, tokens) + head(shape, positions)
  policy = reference + value_head(shape, positions)
  one = update(trained_weights(shape, work.trained_blocks), policy)
  return {
    'rollout': decode(work, item),
    'score': score(work.scorer, [tokens] * work.batch, item),
    'update': Cost(below + reference + policy) + one * work.epochs,
  }


def irl(work: Work, updates: int) -> Cost:
  """An epoch over pairs, everything trained, and a validation on as many pairs."""
  shape = work.shape
  forward = blocks(shape, shape.blocks, 2 * work.pairs, work.tokens)
  weights = shape.blocks * shape.block_weights + shape.embedding
  return update(0, forward) + update(weights, 0) * updates + Cost(forward)


def irl_frozen(work: Work) -> Cost:
  """The states of a frozen trunk for training and validation pairs, once for all epochs."""
  shape = work.shape
  flops = 2 * blocks(shape, shape.blocks, 2 * work.pairs, work.tokens)
  return Cost(flops, 4 * shape.blocks * shape.block_weights)
