"""The memory that each stage of a run will need, predicted only from the shapes of its models.

No device is used and no weights are read. Sizes are bytes on one device, which holds its share of a
batch and all parameters, or with `runtime.sharding=fsdp` its share of them. Dims: T response, S
padded length.
"""

from collections.abc import Sequence
import dataclasses

from irl_jax import config as config_lib
from irl_jax import scoring
from irl_jax.data import batches
from irl_jax.models import trunk
from irl_jax.stages import buffers as buffers_lib
from irl_jax.stages.buffers import ALWAYS
from irl_jax.stages.buffers import Buffer
from irl_jax.stages.buffers import FLOAT32
from irl_jax.stages.buffers import held
from irl_jax.stages.buffers import parameters
from irl_jax.stages.buffers import Shape
from irl_jax.stages.buffers import UNUSED


@dataclasses.dataclass(frozen=True)
class Shapes:
  """The shapes of a run's models; None if a shape is not known, or if there is no such model."""

  base: trunk.Config | None
  start: trunk.Config | None  # where RLHF starts
  aligned: trunk.Config | None
  classifier: Shape | None  # the model of the true reward


@dataclasses.dataclass(frozen=True)
class Stage:
  """The memory that one stage needs."""

  name: str
  trained: int  # parameters
  frozen: int  # parameters
  tokens: str  # the tokens of one step, in words
  buffers: Sequence[Buffer]

  def phase_size(self, phase: str) -> int:
    """Returns bytes of the buffers of one phase alone."""
    return sum(buffer.size for buffer in self.buffers if buffer.phase == phase)

  @property
  def largest_phase(self) -> str:
    """The phase that needs most memory, or ALWAYS if the stage has no phases."""
    phases = [buffer.phase for buffer in self.buffers if buffer.phase not in (ALWAYS, UNUSED)]
    return max(phases, key=self.phase_size, default=ALWAYS)

  @property
  def peak(self) -> int:
    """Bytes of the permanent buffers plus the largest phase."""
    largest = self.phase_size(self.largest_phase) if self.largest_phase != ALWAYS else 0
    return self.phase_size(ALWAYS) + largest


def stages(
  config: config_lib.Config, shapes: Shapes, names: Sequence[str], width: int, devices: int = 1
) -> list[Stage]:
  """Predicts the named stages whose models are known.

  Args:
    config: the run's config.
    shapes: the shapes of its models.
    names: the names of stages; data and report are left out.
    width: bytes of a number of the compute type.
    devices: number of devices that share a batch.
  """
  predicted = [stage(name, config, shapes, width, devices) for name in names]
  return [one for one in predicted if one]


def stage(
  name: str, config: config_lib.Config, shapes: Shapes, width: int, devices: int = 1
) -> Stage | None:
  """Predicts one stage; None if a model is not known, or if nothing is predicted for the stage."""
  base, start, classifier = shapes.base, shapes.start, shapes.classifier
  if name == 'sft' and base:
    return supervised(name, base, config.sft, config.runtime, width, devices)
  if name == 'classifier' and classifier:
    return supervised(name, classifier, config.classifier, config.runtime, width, devices)
  if name == 'rlhf' and start and classifier:
    return ppo(name, start, [classifier], config, width, devices)
  if name == 'demos' and base and shapes.aligned:
    return sampling(name, [base, shapes.aligned], config, width, devices)
  if name == 'irl' and base:
    return irl(base, config, width, devices)
  if name == 'evaluate' and base and shapes.aligned:
    return evaluation([base, shapes.aligned], config, width, devices)
  if name == 'rerlhf' and start and base and classifier:
    return ppo(name, start, [classifier, *[base] * config.irl.seeds], config, width, devices)
  return None


def ppo(
  name: str,
  policy: trunk.Config,
  reward_models: Sequence[Shape],
  config: config_lib.Config,
  width: int,
  devices: int,
) -> Stage:
  """Predicts PPO, which keeps all reward models in memory."""
  trained, frozen = parameters(policy, config.ppo.trained_blocks)
  prompt, response = prompt_and_response(config)
  length = prompt + response
  rows = config.ppo.rollouts_per_step // devices
  minibatch = config.ppo.minibatch_size // devices
  layers = buffers_lib.trained_layers(policy, config.ppo.trained_blocks)
  # Without frozen blocks no activations are kept for later epochs.
  at_cut = rows * length * policy.hidden_size * width if frozen else 0
  logits = buffers_lib.logits(policy, minibatch * response, width)
  own = held(policy, width, devices, config.runtime, config.ppo.trained_blocks)
  reward_parameters = sum(
    sum(held(model, width, devices, config.runtime)) for model in reward_models
  )
  buffers = [
    *buffers_lib.training(*own, width),
    Buffer('reference: the trained part as it was', width * own.trained),
    Buffer('reward models', width * reward_parameters),
    Buffer('parameters joined for sampling', width * (trained + frozen), 'sampling'),
    *buffers_lib.decoding(policy, rows, prompt, response, width),
    Buffer('rollout: activations at the cut', at_cut, 'update'),
    Buffer('logits chunk', logits, 'update'),
    *buffers_lib.gathered(policy, width, devices, config.runtime, 'update'),
    *buffers_lib.update(
      policy, layers, minibatch, length, width, own.trained, config.runtime, devices
    ),
  ]
  updates = config.ppo.epochs * config.ppo.rollouts_per_step // config.ppo.minibatch_size
  tokens = (
    f'{rows * devices} x {response} sampled after {prompt}; '
    f'an update of {minibatch * devices} x {length}, {updates} a rollout'
  )
  return Stage(name, trained, frozen, tokens, buffers)


def irl(base: trunk.Config, config: config_lib.Config, width: int, devices: int) -> Stage:
  """Predicts the recovery of one reward, on pairs of whole texts; seeds follow one another."""
  settings = config.irl
  trained, frozen = parameters(base, settings.trained_blocks)
  if not base.tie_word_embeddings:
    trained -= base.vocab_size * base.hidden_size  # a reward has no output head
  length = min(settings.max_tokens, base.max_position_embeddings)
  pairs = max(settings.batch_size // devices, 1)
  own = held(base, width, devices, config.runtime, settings.trained_blocks, output_head=False)
  buffers = [
    *buffers_lib.training(*own, width),
    Buffer('the best parameters so far', FLOAT32 * own.trained),
    *buffers_lib.gathered(base, width, devices, config.runtime, 'update'),
    *buffers_lib.update(
      base,
      buffers_lib.trained_layers(base, settings.trained_blocks),
      pairs,
      length,
      width,
      own.trained,
      config.runtime,
      devices,
      texts=2,
      group_size=settings.group_size,
    ),
  ]
  return Stage('irl', trained, frozen, f'{2 * pairs * devices} x {length} at most', buffers)


def supervised(
  name: str,
  shape: Shape,
  settings: config_lib.Supervised,
  runtime: config_lib.Runtime,
  width: int,
  devices: int,
) -> Stage:
  """Predicts the training of a whole language model or classifier."""
  trained, _ = parameters(shape)
  rows, length = max(settings.batch_size // devices, 1), settings.max_tokens
  positions = rows * length if isinstance(shape, trunk.Config) else 0
  layers = shape.num_hidden_layers
  own = held(shape, width, devices, runtime)
  buffers = [
    *buffers_lib.training(*own, width),
    Buffer('logits chunk', buffers_lib.logits(shape, positions, width), 'update'),
    *buffers_lib.gathered(shape, width, devices, runtime, 'update'),
    *buffers_lib.update(shape, layers, rows, length, width, own.trained, runtime, devices),
  ]
  return Stage(name, trained, 0, f'{rows * devices} x {length} at most', buffers)


def sampling(
  name: str, models: Sequence[trunk.Config], config: config_lib.Config, width: int, devices: int
) -> Stage:
  """Predicts completions of several models in turn, so the largest one determines the peak."""
  model = max(models, key=lambda shape: sum(parameters(shape)))
  prompt, response = prompt_and_response(config)
  rows = max(config.sampling.batch_size // devices, 1)
  total, _ = parameters(model)
  own = held(model, width, devices, config.runtime)
  buffers = [
    Buffer('parameters of one model at a time', width * own.trained),
    *buffers_lib.gathered_whole(total, width, devices, config.runtime),
    *buffers_lib.decoding(model, rows, prompt, response, width),
  ]
  tokens = f'{rows * devices} x {response} sampled after {prompt}'
  return Stage(name, 0, total, tokens, buffers)


def evaluation(
  models: Sequence[trunk.Config], config: config_lib.Config, width: int, devices: int
) -> Stage:
  """Predicts the log-ratio of two models, which are held at the same time.

  Weights that the two share, such as those that an adapter leaves alone, are counted twice: shapes
  do not tell them apart.
  """
  model = max(models, key=lambda shape: sum(parameters(shape)))
  total = sum(sum(parameters(shape)) for shape in models)
  own = sum(sum(held(shape, width, devices, config.runtime)) for shape in models)
  tokens = scoring.TOKENS_OF_A_TEXT * config.evaluation.batch_size // devices
  length = min(config.irl.max_tokens, model.max_position_embeddings)
  rows = max(tokens // length, 1)
  buffers = [
    Buffer('parameters of both models', width * own),
    *buffers_lib.gathered(model, width, devices, config.runtime, 'scoring'),
    Buffer('logits chunk', buffers_lib.logits(model, rows * length, width), 'scoring'),
    Buffer('activations', buffers_lib.activations(model, 1, rows, length, width), 'scoring'),
  ]
  return Stage('evaluate', 0, total, f'{rows * devices} x {length}', buffers)


def prompt_and_response(config: config_lib.Config) -> tuple[int, int]:
  """Returns the longest padded prompt and the longest response, in tokens."""
  return batches.bucket(config.data.max_prompt_tokens), config.sampling.max_new_tokens
