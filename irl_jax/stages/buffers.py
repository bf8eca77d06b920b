"""Sizes of the arrays that training and sampling keep in memory, from a model's shape alone.

Sizes are bytes on one device. The width of a number is that of the compute type, 4 or 2 bytes, in
which frozen parameters are stored as well; trained parameters, moments, gradients, attention scores
and logits are always float32.

With `runtime.sharding=fsdp`, large parameters, their moments and their gradients are divided by the
number of devices, and the matrices of a layer are whole while it runs.

Dims: B sequences, P prompt, T response, S = P + T, D width, F feed-forward, H heads, L layers,
V vocabulary.
"""

import dataclasses
import functools
import math
from typing import Any
from typing import NamedTuple

import jax

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax.models import cpu
from irl_jax.models import cut as cut_lib
from irl_jax.models import encoder
from irl_jax.models import trunk
from irl_jax.models.huggingface import weights as huggingface_weights
from irl_jax.runtime import sharding
from irl_jax.training import micro_batch

Shape = trunk.Config | encoder.EncoderConfig
FLOAT32 = micro_batch.FLOAT32

ALWAYS = ''  # the phase of a buffer that stays in memory during the whole step
UNUSED = 'unused'  # the phase of a buffer that only another setting needs
# Float32 numbers for each trained parameter that XLA on CPU needs in the optimiser's step: its
# gradient as it was computed, and as it is read. The step changes parameters and moments in place.
# Measured on models of 1 to 12 billion parameters (docs/speed.md).
STEP = 2


@dataclasses.dataclass(frozen=True)
class Buffer:
  """One array, or group of arrays, in memory."""

  name: str
  size: int  # bytes
  phase: str = ALWAYS  # the part of a step that needs it, or UNUSED


def count(tree: Any) -> int:
  """Returns how many numbers a tree of arrays or shapes has."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def parameters(shape: Shape, trained_blocks: int = -1) -> tuple[int, int]:
  """Returns how many parameters are trained and how many are frozen.

  Args:
    shape: the shape of a language model, or of a classifier, which is always trained as a whole.
    trained_blocks: for a language model: -1 everything, 0 only the head, k the top k blocks.
  """
  trained, frozen = _trees(shape, trained_blocks)
  return count(trained), count(frozen)


def _trees(shape: Shape, trained_blocks: int) -> tuple[Any, Any]:
  """Returns the shapes of all trained and of all frozen parameters."""
  if isinstance(shape, encoder.EncoderConfig):
    return huggingface_weights.shapes('classifier', shape), {}
  split = functools.partial(
    cut_lib.split, trained_blocks=min(trained_blocks, shape.num_hidden_layers)
  )
  return jax.eval_shape(split, huggingface_weights.shapes('causal_lm', shape))


class Held(NamedTuple):
  """The numbers that one device holds of a model's parameters."""

  trained: int
  frozen: int


def held(
  shape: Shape,
  width: int,
  devices: int,
  runtime: config_lib.Runtime,
  trained_blocks: int = -1,
  output_head: bool = True,
) -> Held:
  """Returns how many of the trained and of the frozen parameters one device holds.

  Args:
    shape: the model's shape.
    width: bytes of a number of the compute type, which frozen parameters are stored in.
    devices: the number of devices.
    runtime: its sharding is read.
    trained_blocks: as for `parameters`.
    output_head: whether the output head is there; a reward has none.
  """

  def share(leaf: Any, itemsize: int) -> int:
    smallest = sharding.SMALLEST
    whole = not splits(runtime, devices) or (
      sharding.split_axis(leaf.shape, itemsize, devices, smallest) is None
    )
    return math.prod(leaf.shape) // (1 if whole else devices)

  trained, frozen = _trees(shape, trained_blocks)
  if not output_head:
    trained = {name: tree for name, tree in trained.items() if name != 'embed_out'}
  total = lambda tree, itemsize: sum(share(leaf, itemsize) for leaf in jax.tree.leaves(tree))
  return Held(total(trained, FLOAT32), total(frozen, width))


def splits(runtime: config_lib.Runtime, devices: int) -> bool:
  """Returns True if parameters are split over the devices."""
  return runtime.sharding == 'fsdp' and devices > 1


def gathered(
  shape: Shape, width: int, devices: int, runtime: config_lib.Runtime, phase: str
) -> list[Buffer]:
  """Returns what a pass over split layers adds: the matrices of one layer, and their gradient."""
  if not splits(runtime, devices):
    return []
  blocks = count(_trees(shape, -1)[0]['blocks'])
  size = 2 * width * blocks // shape.num_hidden_layers
  return [Buffer('one layer, gathered', size, phase)]


def gathered_whole(
  parameters: int, width: int, devices: int, runtime: config_lib.Runtime
) -> list[Buffer]:
  """Returns the copy of split parameters that sampling reads."""
  if not splits(runtime, devices):
    return []
  return [Buffer('parameters gathered for sampling', width * parameters, 'sampling')]


def trained_layers(shape: Shape, trained_blocks: int) -> int:
  """Returns the number of blocks that gradients pass through."""
  layers = shape.num_hidden_layers
  return layers if trained_blocks == -1 else min(trained_blocks, layers)


def training(trained: int, frozen: int, width: int) -> list[Buffer]:
  """Returns the buffers that training always needs: parameters, and Adam's moments.

  The two moments are those of the trained parameters. Frozen parameters are stored in the compute
  type (`cut.stored`).
  """
  return [
    Buffer('trained parameters', FLOAT32 * trained),
    Buffer('frozen parameters', width * frozen),
    Buffer('optimiser state', 2 * FLOAT32 * trained),
  ]


def activations(shape: Shape, layers: int, rows: int, length: int, width: int) -> int:
  """Returns bytes of activations kept by `layers` blocks, plus those of the gradient in progress.

  The gradient in progress needs one more block. If layers are unrolled, it needs half of all
  blocks, because they overlap. tests/stages/test_memory.py compares the sum with the compiler's.
  """
  in_progress = max(1, layers / 2) if cpu.unroll(layers) else 1
  return round((layers + in_progress) * micro_batch.block_bytes(shape, rows, length, width))


def rematerialised(shape: Shape, layers: int, rows: int, length: int, width: int) -> int:
  """Returns bytes of activations if each block is computed again for its gradient.

  Only the inputs of all blocks are kept, plus everything of a single block.
  """
  inputs = layers * rows * length * shape.hidden_size * width
  return inputs + micro_batch.block_bytes(shape, rows, length, width)


def matmuls(shape: Shape, layers: int, rows: int, length: int, width: int) -> int:
  """Returns bytes of activations if blocks keep the results of their matmuls alone.

  This is what a pass over split layers keeps (`sharding.scan_layers`), plus everything of the
  block whose gradient is in progress.
  """
  scores = rows * shape.num_attention_heads * length**2 * FLOAT32
  kept = rows * length * shape.matmul_states * width + scores
  return layers * kept + micro_batch.block_bytes(shape, rows, length, width)


def update(
  shape: Shape,
  layers: int,
  examples: int,
  length: int,
  width: int,
  trained: int,
  runtime: config_lib.Runtime,
  devices: int,
  texts: int = 1,
  group_size: int = 1,
) -> list[Buffer]:
  """Returns what an update adds to `training`: gradients, and the activations of a micro-batch.

  The optimiser's step follows, when the activations are no longer needed (`STEP`).

  Args:
    shape: the model's shape.
    layers: number of trained blocks.
    examples: the number of examples of a minibatch on one device.
    length: tokens of a text.
    width: bytes of a number of the compute type.
    trained: number of trained parameters that the device holds.
    runtime: its micro_batch, rematerialise and sharding are read.
    devices: the number of devices.
    texts: the number of texts of one example.
    group_size: consecutive examples that stay in one micro-batch.
  """
  largest = micro_batch.size_on(backend_of(width), runtime.micro_batch, shape, texts, length, width)
  parts = micro_batch.count(examples, largest, group_size)
  rows = texts * examples // parts
  split = splits(runtime, devices)
  plain = matmuls if split else activations
  choices = [
    ('activations', plain(shape, layers, rows, length, width)),
    ('activations, rematerialised', rematerialised(shape, layers, rows, length, width)),
  ]
  (name, size), (other_name, other_size) = reversed(choices) if runtime.rematerialise else choices
  copies = 2 if parts > 1 else 1  # a micro-batch's gradients are added to the sum of the others
  return [
    Buffer('gradients', copies * FLOAT32 * trained, 'update'),
    Buffer(name, size, 'update'),
    Buffer(f'({other_name}, instead)', other_size, UNUSED),
    Buffer('gradients, before and after their sum', STEP * FLOAT32 * trained, 'step'),
  ]


def backend_of(width: int) -> str:
  """Returns the kind of device that is assumed for a compute type: float32 means a CPU."""
  return 'cpu' if width == FLOAT32 else 'gpu'


def logits(shape: Shape, positions: int, width: int) -> int:
  """Returns bytes of a chunk of logits and its gradient, plus logits kept for the backward pass."""
  backend, size = backend_of(width), FLOAT32 * positions * shape.vocab_size
  kept = size if size <= distribution.KEPT_BYTES[backend] else 0
  return 2 * min(distribution.CHUNK_BYTES[backend], size) + kept


def key_value_cache(shape: trunk.Config, rows: int, slots: int, width: int) -> int:
  """Returns bytes of the keys and values of `slots` tokens, in all layers."""
  return 2 * shape.num_hidden_layers * rows * slots * shape.key_value_size * width


def decoding(
  shape: trunk.Config, rows: int, prompt: int, response: int, width: int
) -> list[Buffer]:
  """Returns what sampling adds to the parameters.

  `trunk.decode_layers` makes a transposed copy of all blocks' weights.
  """
  blocks = count(huggingface_weights.shapes('causal_lm', shape)['blocks'])
  cache = key_value_cache(shape, rows, prompt + response, width)
  return [
    Buffer('blocks, transposed for decoding', width * blocks, 'sampling'),
    Buffer('key-value cache', cache, 'sampling'),
    Buffer('logits of one token', 3 * FLOAT32 * rows * shape.vocab_size, 'sampling'),
  ]
