"""The number of examples of a minibatch that go forward and backward at once.

It affects only memory and speed: the gradient is always that of the whole minibatch
(`gradients.of_mean`).
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

FLOAT32 = 4  # bytes

# Besides its states (`block_states`), a block keeps float32 arrays [B, H, S, S] of attention scores
# for its gradient, as XLA stores them on a CPU.
ATTENTION_SCORES = 2.5

CACHE_BYTES = 48 * 2**20  # bytes of activations that still fit in a CPU's cache (docs/speed.md)
LEAST_TOKENS = 1024  # smaller matmuls are not faster


class BlockShape(Protocol):
  """The dimensions of a transformer block."""

  @property
  def block_states(self) -> int:
    """The numbers of each token that a block keeps for its gradient, without attention scores."""

  @property
  def matmul_states(self) -> int:
    """The numbers of each token that a block's input and the results of its matmuls take."""

  @property
  def num_attention_heads(self) -> int:
    """H, the number of attention heads."""


def block_bytes(shape: BlockShape, rows: int, length: int, width: int) -> int:
  """Returns the bytes that the gradient of one block needs on one device.

  Args:
    shape: the block's dimensions.
    rows: the number of sequences.
    length: the number of tokens of each sequence.
    width: bytes of one number of the compute type; attention scores are float32 anyway.
  """
  attention = ATTENTION_SCORES * rows * shape.num_attention_heads * length**2 * FLOAT32
  return round(rows * length * shape.block_states * width + attention)


def size(requested: int, shape: BlockShape, texts: int, length: int, dtype: DTypeLike) -> int:
  """Returns `size_on` for the devices of this process.

  Args:
    requested: `runtime.micro_batch`; 0 leaves the choice to this function.
    shape: the model's dimensions.
    texts: the number of texts of one example, such as 2 for a pair.
    length: the number of tokens of each text.
    dtype: the compute type.
  """
  return size_on(
    jax.default_backend(), requested, shape, texts, length, width=jnp.dtype(dtype).itemsize
  )


def size_on(
  backend: str, requested: int, shape: BlockShape, texts: int, length: int, width: int
) -> int:
  """Returns the maximum number of examples that go forward and backward at once; 0 means all.

  A CPU is a fifth faster if the activations of a block stay in its cache. Accelerators prefer large
  matmuls.

  Args:
    backend: 'cpu', 'gpu' or 'tpu'.
    requested: the size that the user set; 0 leaves the choice to this function.
    shape: the model's dimensions.
    texts: the number of texts of one example.
    length: the number of tokens of each text.
    width: bytes of one number of the compute type.
  """
  if requested or backend != 'cpu':
    return requested
  fitting = CACHE_BYTES // block_bytes(shape, texts, length, width)
  return max(fitting, LEAST_TOKENS // (texts * length), 1)


def count(examples: int, largest: int, group_size: int = 1) -> int:
  """Returns the smallest number of equal micro-batches of at most `largest` examples each.

  Args:
    examples: the number of examples of a minibatch on one device.
    largest: the maximum size of a micro-batch; 0 means no limit.
    group_size: consecutive examples that must stay in one micro-batch, even if they are more than
      `largest`.
  """
  groups = examples // group_size
  fits = lambda parts: groups % parts == 0 and examples // parts <= largest
  return next(filter(fits, range(1, groups + 1)), groups) if largest else 1
