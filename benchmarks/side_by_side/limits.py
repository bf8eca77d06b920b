"""The least that a piece of work costs: FLOPs of its matrix products, and bytes that have to pass through memory.

A product of [M, K] and [K, N] is 2 M K N FLOPs. Attention counts every pair of positions of a text, as other FLOP
counters do; a look-up in an embedding, a norm and a softmax count nothing. What the backward pass computes again to
save memory counts once, padding never. Dims: D width, F feed-forward, V vocabulary.
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
    """Weights of the vocabulary, which the output head has too."""
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
class Cost:
  """What has to be computed and moved."""

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
  """FLOPs of the logits of so many positions."""
  return 2.0 * positions * shape.embedding


def value_head(shape: Shape, positions: int) -> float:
  """FLOPs of two dense layers, D to 2D to 1."""
  return 2.0 * positions * (2 * shape.width**2 + 2 * shape.width)


def decode(shape: Shape, batch: int, prompt: int, new: int, item: int) -> Cost:
  """Sampling: the prompt in one pass, then a pass for every new token but the last; `item` bytes a number.

  Each pass reads all blocks and the output head; each but the first also the keys and values so far.
  """
  flops = blocks(shape, shape.blocks, batch, prompt) + head(shape, batch)
  moved = new * (shape.blocks * shape.block_weights + shape.embedding)
  for visible in range(prompt + 1, prompt + new):
    flops += shape.blocks * batch * (2 * shape.block_weights + 4 * visible * shape.width) + head(
      shape, batch
    )
    moved += 2 * shape.blocks * batch * visible * shape.width
  return Cost(flops, item * moved)


def update(weights: int, flops: float) -> Cost:
  """Forward and backward of a forward pass of so many FLOPs, then AdamW on float32 weights.

  Each weight is read by both passes, its gradient written; AdamW reads four numbers of each weight and writes three.
  """
  return Cost(3 * flops, 4 * weights * (3 + 7))


def trained_weights(shape: Shape, trained_blocks: int) -> int:
  """Weights of everything (-1), or of the top blocks and the output head."""
  if trained_blocks == -1:
    return shape.blocks * shape.block_weights + 2 * shape.embedding
  return trained_blocks * shape.block_weights + shape.embedding


def train(shape: Shape, batch: int, tokens: int) -> Cost:
  """One step of language modelling, everything trained; the last token predicts nothing."""
  flops = blocks(shape, shape.blocks, batch, tokens) + head(shape, batch * (tokens - 1))
  return update(trained_weights(shape, -1), flops)


def score(shape: Shape, lengths: Sequence[int], item: int) -> Cost:
  """A RoBERTa classifier of two labels over texts of those lengths; its weights are read once."""
  top = 2 * len(lengths) * (shape.width**2 + 2 * shape.width)
  return Cost(
    top + sum(blocks(shape, shape.blocks, 1, length) for length in lengths),
    item * shape.blocks * shape.block_weights,
  )


def ppo(
  shape: Shape,
  scorer: Shape,
  batch: int,
  prompt: int,
  new: int,
  epochs: int,
  trained_blocks: int,
  item: int,
) -> dict[str, Cost]:
  """`rollout`, `score`, and `update`: log-probabilities of policy and reference, and the epochs on the whole rollout.

  What lies below the cut is computed once. (The gradient stops at the norms of the lowest trained block: none of its
  products is spared.)
  """
  tokens, above = prompt + new, shape.blocks if trained_blocks == -1 else trained_blocks
  below = blocks(shape, shape.blocks - above, batch, tokens)
  reference = blocks(shape, above, batch, tokens) + head(shape, batch * new)
  policy = reference + value_head(shape, batch * new)
  one = update(trained_weights(shape, trained_blocks), policy)
  return {
    'rollout': decode(shape, batch, prompt, new, item),
    'score': score(scorer, [tokens] * batch, item),
    'update': Cost(below + reference + policy) + one * epochs,
  }


def irl(shape: Shape, pairs: int, tokens: int, updates: int) -> Cost:
  """An epoch over pairs, everything trained, and one look at as many pairs."""
  forward = blocks(shape, shape.blocks, 2 * pairs, tokens)
  weights = shape.blocks * shape.block_weights + shape.embedding
  return update(0, forward) + Cost(0, 4 * weights * (3 + 7)) * updates + Cost(forward)


def irl_frozen(shape: Shape, pairs: int, tokens: int) -> Cost:
  """The states of a frozen trunk for as many pairs to train on as to look at, once for all epochs."""
  return Cost(
    2 * blocks(shape, shape.blocks, 2 * pairs, tokens), 4 * shape.blocks * shape.block_weights
  )
