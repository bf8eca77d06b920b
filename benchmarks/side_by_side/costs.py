"""The minimum cost of a lap of ours: FLOPs of its matmuls, bytes moved through memory.

A matmul of [M, K] and [K, N] is 2 M K N FLOPs. Attention counts every pair of positions of a text,
as other FLOP counters do. Embedding look-ups, norms, softmax, padding and recomputation in the
backward pass count nothing.
"""

import dataclasses
import math
from typing import NamedTuple

IRL_BATCH = 32  # pairs of an update


class Shape(NamedTuple):
  """The shape of a Pythia, a RoBERTa, or a Llama with tied embeddings."""

  vocabulary: int
  width: int
  blocks: int
  heads: int
  feed_forward: int
  key_value_heads: int = 0  # of a Llama; 0: a Pythia or a RoBERTa

  @property
  def key_value_width(self) -> int:
    """Numbers of a token's keys in one block, and of its values."""
    return self.width * (self.key_value_heads or self.heads) // self.heads

  @property
  def block_weights(self) -> int:
    """Weights of one block's matrices."""
    feed_forward = (3 if self.key_value_heads else 2) * self.width * self.feed_forward
    return 2 * self.width * (self.width + self.key_value_width) + feed_forward

  @property
  def embedding(self) -> int:
    """Weights of the embedding; the output head has as many."""
    return self.vocabulary * self.width

  @property
  def weights(self) -> int:
    """Weights of all matrices."""
    return self.blocks * self.block_weights + self.embedding * (1 if self.key_value_heads else 2)


DECODERS = {
  'tiny': Shape(264, 16, 2, 2, 32),
  'tiny_llama': Shape(264, 16, 2, 4, 24, 2),
  '14m': Shape(50304, 128, 6, 4, 512),
  '70m': Shape(50304, 512, 6, 8, 2048),
  '410m': Shape(50304, 1024, 24, 16, 4096),
  '1b': Shape(50304, 2048, 16, 8, 8192),
  'smollm2': Shape(50304, 576, 30, 9, 1536, 3),  # SmolLM2-135M with Pythia's vocabulary
}
TOP_K = 30  # of all sampling
ROBERTA = {'tiny': Shape(264, 16, 2, 2, 32), 'base': Shape(50265, 768, 12, 12, 3072)}


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
  lengths: tuple[int, ...] = ()  # tokens of each of the texts
  item: int = 4  # bytes per number in computation


class Cost(NamedTuple):
  """An amount of computation and of memory traffic."""

  flops: float
  bytes: float


def blocks(shape: Shape, count: int, texts: int, tokens: int) -> float:
  """Returns the FLOPs of `count` blocks over texts of that many tokens each."""
  return count * texts * tokens * (2 * shape.block_weights + 4 * tokens * shape.width)


def head(shape: Shape, positions: int) -> float:
  """Returns the FLOPs of the logits at this many positions."""
  return 2 * positions * shape.embedding


def update(weights: int) -> int:
  """Returns the bytes of an update in float32: 2 passes, a gradient, AdamW's 4 reads, 3 writes."""
  return 4 * weights * (3 + 7)


def decode(work: Work) -> Cost:
  """Returns the cost of sampling: one pass over the prompt, then one per new token but the last.

  Each pass reads all blocks and the output head; each but the first also reads the keys and values
  so far.
  """
  shape, batch = work.shape, work.batch
  body = shape.blocks * shape.block_weights
  visible = range(work.prompt + 1, work.prompt + work.new)  # tokens that a later pass attends to
  flops = blocks(shape, shape.blocks, batch, work.prompt) + work.new * head(shape, batch)
  flops += batch * (2 * len(visible) * body + 4 * sum(visible) * shape.blocks * shape.width)
  cache = 2 * shape.blocks * batch * sum(visible) * shape.key_value_width
  return Cost(flops, work.item * (work.new * (body + shape.embedding) + cache))


def train(work: Work) -> Cost:
  """Returns the cost of `epochs` steps of language modelling; the last token predicts nothing."""
  shape, positions = work.shape, work.batch * (work.tokens - 1)
  flops = blocks(shape, shape.blocks, work.batch, work.tokens) + head(shape, positions)
  return Cost(3 * work.epochs * flops, work.epochs * update(shape.weights))


def score(work: Work) -> Cost:
  """Returns the cost of a classifier of two labels over texts; its weights are read once."""
  shape = work.scorer
  top = 2 * len(work.lengths) * (shape.width**2 + 2 * shape.width)
  body = sum(blocks(shape, shape.blocks, 1, length) for length in work.lengths)
  return Cost(top + body, work.item * shape.blocks * shape.block_weights)


def ppo(work: Work) -> dict[str, Cost]:
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
  flops = below + reference + policy * (1 + 3 * work.epochs)
  return {
    'rollout': decode(work),
    'score': score(dataclasses.replace(work, lengths=(tokens,) * work.batch)),
    'update': Cost(flops, work.epochs * update(weights)),
  }


def irl(work: Work) -> Cost:
  """Returns the cost of an epoch with everything trained, and a validation on as many pairs."""
  shape, updates = work.shape, math.ceil(work.pairs / IRL_BATCH)
  forward = blocks(shape, shape.blocks, 2 * work.pairs, work.tokens)
  return Cost(4 * forward, updates * update(shape.blocks * shape.block_weights + shape.embedding))


def irl_frozen(work: Work) -> Cost:
  """Returns the cost of a frozen trunk's states for all pairs, computed once for all epochs."""
  shape = work.shape
  return Cost(
    2 * blocks(shape, shape.blocks, 2 * work.pairs, work.tokens),
    4 * shape.blocks * shape.block_weights,
  )


WHOLE = {f'ours.{one.__name__}': one for one in (decode, train, score, irl, irl_frozen)}


def parts(function: str, work: Work, item: int) -> dict[str, Cost]:
  """Returns the costs of a lap, by part ('' is all of it), at `item` bytes per computed number."""
  work = dataclasses.replace(work, item=item)
  return ppo(work) if function == 'ours.ppo' else {'': WHOLE[function](work)}
