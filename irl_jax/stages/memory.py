"""What a run holds in memory, buffer by buffer, from the shapes of its models alone: no device, no weights.

Dims: B sequences, P prompt, T response, S = P + T, D width, F feed-forward, H heads, L layers, V vocabulary. Sizes are
bytes of one device, which holds every parameter and its share of a batch.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import Any

import jax

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax.data import batches
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import roberta
from irl_jax.models.huggingface import weights as huggingface_weights
from irl_jax.training import micro_batch

Shape = gpt_neox.GPTNeoXConfig | roberta.RobertaConfig
MASTER = micro_batch.FLOAT32  # bytes of a float32: parameters, moments, gradients, scores, logits
INSTEAD = 'instead'


@dataclasses.dataclass(frozen=True)
class Buffer:
  """One thing that is held."""

  name: str
  size: int  # bytes
  phase: str = ''  # the part of a step that holds it; '': all of them; INSTEAD: none as configured


@dataclasses.dataclass(frozen=True)
class Stage:
  """What one stage holds."""

  name: str
  trained: int  # parameters
  frozen: int
  tokens: str  # of one step
  buffers: Sequence[Buffer]

  def of(self, phase: str) -> int:
    """Bytes of one phase's own buffers."""
    return sum(buffer.size for buffer in self.buffers if buffer.phase == phase)

  @property
  def largest(self) -> str:
    """The phase that holds most."""
    return max(
      (buffer.phase for buffer in self.buffers if buffer.phase not in ('', INSTEAD)),
      key=self.of,
      default='',
    )

  @property
  def peak(self) -> int:
    """Bytes of what is always held and of the largest phase."""
    return self.of('') + (self.of(self.largest) if self.largest else 0)


def count(tree: Any) -> int:
  """How many numbers a tree of arrays or shapes holds."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def parameters(shape: Shape, trained_blocks: int = -1) -> tuple[int, int]:
  """Parameters of a language model that are trained and that are frozen; of a classifier all are trained."""
  kind = 'classifier' if isinstance(shape, roberta.RobertaConfig) else 'causal_lm'
  shapes = huggingface_weights.shapes(kind, shape)
  if kind == 'classifier':
    return count(shapes), 0
  blocks = min(trained_blocks, shape.num_hidden_layers)
  parts = jax.eval_shape(functools.partial(cut_lib.split, trained_blocks=blocks), shapes)
  return count(parts[0]), count(parts[1])


def trained_layers(shape: Shape, trained_blocks: int) -> int:
  """Blocks that gradients run through."""
  return (
    shape.num_hidden_layers
    if trained_blocks == -1
    else min(trained_blocks, shape.num_hidden_layers)
  )


def activations(shape: Shape, layers: int, rows: int, length: int, width: int) -> int:
  """Bytes of what `layers` blocks keep, and as much again of the one whose gradient is being computed; of half of them
  where each layer is compiled by itself, for they overlap (the compiler's own figures, tests/stages/test_memory.py).
  """
  again = max(1, layers / 2) if layers <= gpt_neox.SHALLOW else 1
  return round((layers + again) * micro_batch.block_bytes(shape, rows, length, width))


def rematerialised(shape: Shape, layers: int, rows: int, length: int, width: int) -> int:
  """The same where each block is computed again for its gradient: what it was given, and all of a single one."""
  return layers * rows * length * shape.hidden_size * width + micro_batch.block_bytes(
    shape, rows, length, width
  )


def update(
  shape: Shape,
  layers: int,
  examples: int,
  length: int,
  width: int,
  trained: int,
  runtime: config_lib.Runtime,
  texts: int = 1,
  together: int = 1,
) -> list[Buffer]:
  """What an update holds beside parameters and optimiser state: gradients, and the activations of a micro-batch.

  Args:
    shape: of the model.
    layers: how many are trained.
    examples: of a minibatch, on one device.
    length: tokens of a text.
    width: bytes of a number of the compute type.
    trained: parameters.
    runtime: its micro_batch and rematerialise are read.
    texts: of one example.
    together: examples that are not parted.
  """
  fitting = micro_batch.size_on(backend_of(width), runtime.micro_batch, shape, texts, length, width)
  parts = micro_batch.count(examples, fitting, together)
  kept = (shape, layers, texts * examples // parts, length, width)
  either = [
    ('activations', activations(*kept)),
    ('activations, rematerialised', rematerialised(*kept)),
  ]
  (name, size), (other, unused) = reversed(either) if runtime.rematerialise else either
  sums = 2 if parts > 1 else 1  # those of a micro-batch are added to the others'
  return [
    Buffer('gradients', sums * MASTER * trained, 'update'),
    Buffer(name, size, 'update'),
    Buffer(f'({other}, instead)', unused, INSTEAD),
  ]


def backend_of(width: int) -> str:
  """The kind of device that is taken to compute in numbers of so many bytes."""
  return 'cpu' if width == MASTER else 'gpu'


def logits(shape: Shape, positions: int, width: int) -> int:
  """Bytes of the logits that are held at once, with their gradient, and of those kept for the backward pass."""
  backend, size = backend_of(width), MASTER * positions * shape.vocab_size
  return 2 * min(distribution.CHUNK_BYTES[backend], size) + (
    size if size <= distribution.KEPT_BYTES[backend] else 0
  )


def cache(shape: Shape, rows: int, slots: int, width: int) -> int:
  """Bytes of keys and values while `rows` sequences are sampled."""
  return 2 * shape.num_hidden_layers * rows * slots * shape.hidden_size * width


def decoding(shape: Shape, rows: int, prompt: int, response: int, width: int) -> list[Buffer]:
  """What sampling holds beside its parameters: those of the blocks once more, turned by `gpt_neox.decode_layers`."""
  blocks = count(huggingface_weights.shapes('causal_lm', shape)['blocks'])
  return [
    Buffer('blocks, turned for decoding', width * blocks, 'sampling'),
    Buffer('key-value cache', cache(shape, rows, prompt + response, width), 'sampling'),
    Buffer('logits of one token', 3 * MASTER * rows * shape.vocab_size, 'sampling'),
  ]


def training(trained: int, frozen: int) -> list[Buffer]:
  """What training always holds: parameters, and Adam's moments of those that are trained."""
  return [
    Buffer('trained parameters', MASTER * trained),
    Buffer('frozen parameters', MASTER * frozen),
    Buffer('optimiser state', 2 * MASTER * trained),
  ]


def ppo(
  name: str,
  policy: Shape,
  judges: Sequence[Shape],
  config: config_lib.Config,
  width: int,
  devices: int,
) -> Stage:
  """PPO on the reward of one model, or of several that are held together."""
  trained, frozen = parameters(policy, config.ppo.trained_blocks)
  prompt = batches.bucket(config.data.max_prompt_tokens)
  response, length = config.sampling.max_new_tokens, prompt + config.sampling.max_new_tokens
  rows, minibatch = (
    getattr(config.ppo, field) // devices for field in ('rollouts_per_step', 'minibatch_size')
  )
  layers = trained_layers(policy, config.ppo.trained_blocks)
  cut = rows * length * policy.hidden_size * width if frozen else 0
  buffers = [
    *training(trained, frozen),
    Buffer('reference: the trained part as it was', MASTER * trained),
    Buffer('reward models', MASTER * sum(parameters(judge)[0] for judge in judges)),
    Buffer('parameters joined for sampling', width * (trained + frozen), 'sampling'),
    *decoding(policy, rows, prompt, response, width),
    Buffer('rollout: activations at the cut', cut, 'update'),
    Buffer('logits chunk', logits(policy, minibatch * response, width), 'update'),
    *update(policy, layers, minibatch, length, width, trained, config.runtime),
  ]
  tokens = (
    f'{rows * devices} x {response} sampled after {prompt}; an update of {minibatch * devices} x {length}, '
    f'{config.ppo.epochs * config.ppo.rollouts_per_step // config.ppo.minibatch_size} a rollout'
  )
  return Stage(name, trained, frozen, tokens, buffers)


def irl(base: Shape, config: config_lib.Config, width: int, devices: int) -> Stage:
  """One reward at a time, on pairs of whole texts."""
  settings = config.irl
  trained, frozen = parameters(base, settings.trained_blocks)
  unused = (
    0 if base.tie_word_embeddings else base.vocab_size * base.hidden_size
  )  # a reward has no output head
  length, pairs = (
    min(settings.max_tokens, base.max_position_embeddings),
    max(settings.batch_size // devices, 1),
  )
  buffers = [
    *training(trained - unused, frozen),
    Buffer('the best parameters so far', MASTER * (trained - unused)),
    *update(
      base,
      trained_layers(base, settings.trained_blocks),
      pairs,
      length,
      width,
      trained - unused,
      config.runtime,
      texts=2,
      together=settings.group_size,
    ),
  ]
  return Stage(
    'irl', trained - unused, frozen, f'{2 * pairs * devices} x {length} at most', buffers
  )


def supervised(
  name: str,
  shape: Shape,
  settings: config_lib.Supervised,
  runtime: config_lib.Runtime,
  width: int,
  devices: int,
) -> Stage:
  """Training of a whole language model or classifier."""
  trained, _ = parameters(shape)
  rows = max(settings.batch_size // devices, 1)
  positions = rows * settings.max_tokens if isinstance(shape, gpt_neox.GPTNeoXConfig) else 0
  buffers = [
    *training(trained, 0),
    Buffer('logits chunk', logits(shape, positions, width), 'update'),
    *update(shape, shape.num_hidden_layers, rows, settings.max_tokens, width, trained, runtime),
  ]
  return Stage(name, trained, 0, f'{rows * devices} x {settings.max_tokens} at most', buffers)


def sampling(
  name: str, models: Sequence[Shape], config: config_lib.Config, width: int, devices: int
) -> Stage:
  """Completions of some models, one after the other: what the largest needs."""
  model = max(models, key=lambda shape: sum(parameters(shape)))
  prompt, response = batches.bucket(config.data.max_prompt_tokens), config.sampling.max_new_tokens
  rows = max(config.sampling.batch_size // devices, 1)
  buffers = [
    Buffer('parameters', MASTER * parameters(model)[0]),
    *decoding(model, rows, prompt, response, width),
  ]
  return Stage(
    name, 0, parameters(model)[0], f'{rows * devices} x {response} sampled after {prompt}', buffers
  )


def stages(
  config: config_lib.Config,
  shapes: dict[str, Shape | None],
  names: Sequence[str],
  width: int,
  devices: int = 1,
) -> list[Stage]:
  """What the named stages hold, of those whose models are known.

  Args:
    config: of the run.
    shapes: of 'base', 'start' (of RLHF), 'aligned' and 'classifier'; None: not known, or there is none.
    names: of stages; data and report hold no model.
    width: bytes of a number of the compute type.
    devices: that share a batch.
  """
  sizes = dict(config=config, width=width, devices=devices)
  base, start, classifier = (shapes[role] for role in ('base', 'start', 'classifier'))
  train = functools.partial(supervised, runtime=config.runtime, width=width, devices=devices)
  of = {
    'sft': ([base], lambda: train('sft', base, config.sft)),
    'classifier': ([classifier], lambda: train('classifier', classifier, config.classifier)),
    'rlhf': ([start, classifier], lambda: ppo('rlhf', start, [classifier], **sizes)),
    'demos': (
      [base, shapes['aligned']],
      lambda: sampling('demos', [base, shapes['aligned']], **sizes),
    ),
    'irl': ([base], lambda: irl(base, **sizes)),
    'rerlhf': (
      [start, base, classifier],
      lambda: ppo('rerlhf', start, [classifier, *[base] * config.irl.seeds], **sizes),
    ),
  }
  return [of[name][1]() for name in names if name in of and None not in of[name][0]]
