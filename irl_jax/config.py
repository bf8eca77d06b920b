"""What every field of a run means, its unit and its range.

Frozen dataclasses, checked when they are built: a `Config` that exists is one that can run. `configs/*.py` return
one from `get_config()`; the command line overrides single fields (`--config.ppo.learning_rate=1e-6`).
"""

import dataclasses
import math
import re
from typing import Any
from typing import ClassVar

from irl_jax.errors import ConfigError

STAGES = ('data', 'sft', 'classifier', 'rlhf', 'demos', 'irl', 'evaluate', 'rerlhf', 'report')
_SURROGATE = re.compile('[\ud800-\udfff]')  # what no UTF-8 file takes
# The objectives of IRL, and whether each compares all samples of a prompt at once (a group) or single pairs.
OBJECTIVES = {
  'asymmetric': False,
  'hinge': False,
  'logistic': False,
  'squared': False,
  'failure_aware': False,
  'maximum_entropy': True,
}


def setting(
  default: Any,
  *,
  low: float | None = None,
  above: float | None = None,
  high: float | None = None,
  choices: tuple[Any, ...] | None = None,
) -> Any:
  """A field with its allowed values: low <= value <= high, value > above, or one of choices."""
  return dataclasses.field(
    default=default, metadata=dict(low=low, above=above, high=high, choices=choices)
  )


def describe_range(low, above, high, choices) -> str:
  """Says which values are allowed, for an error message."""
  if choices is not None:
    return 'must be one of ' + ', '.join(map(str, choices))
  bounds = [
    f'{sign} {bound}'
    for sign, bound in (('>=', low), ('>', above), ('<=', high))
    if bound is not None
  ]
  return 'must be ' + (' and '.join(bounds) or 'finite')


def in_range(value, low, above, high, choices) -> bool:
  """Whether value is allowed; a float must be finite."""
  if choices is not None:
    return value in choices
  if isinstance(value, float) and not math.isfinite(value):
    return False
  return (
    (low is None or value >= low)
    and (above is None or value > above)
    and (high is None or value <= high)
  )


@dataclasses.dataclass(frozen=True)
class Section:
  """A group of fields whose types and ranges are checked when it is built.

  Raises:
    ConfigError: a value has the wrong type or lies outside its range; the message names the key and the range.
  """

  key: ClassVar[str] = ''

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type is float and type(value) is int:
        value = float(value)
        object.__setattr__(self, field.name, value)
      name = f'config.{self.key}{field.name}'
      if isinstance(field.type, type) and type(value) is not field.type:
        raise ConfigError(f'{name} = {value!r}: must be of type {field.type.__name__}')
      if field.type is int and abs(value) >= 2**31:
        raise ConfigError(f'{name} = {value!r}: must fit into 32 bits')
      if field.type is str and _SURROGATE.search(value):
        raise ConfigError(f'{name} = {value!r}: must be text that UTF-8 can hold')
      if field.metadata and not in_range(value, **field.metadata):
        raise ConfigError(f'{name} = {value!r}: {describe_range(**field.metadata)}')


@dataclasses.dataclass(frozen=True)
class Models(Section):
  """Where the models come from: a hub id, `id@revision`, or a Hugging Face folder; '' means: made by this run."""

  key: ClassVar[str] = 'models.'
  base: str = ''  # the base language model; '': the sft stage trains one from scratch
  sft: str = ''  # where RLHF starts; '': what the sft stage wrote, else the base
  aligned: str = ''  # an existing RLHF'd model (an audit); '': what the rlhf stage wrote
  classifier: str = (
    ''  # the toxicity classifier of the true reward; '': the classifier stage trains one
  )


@dataclasses.dataclass(frozen=True)
class Data(Section):
  """Which texts, and how a prompt is cut from each."""

  key: ClassVar[str] = 'data.'
  source: str = 'playground'  # 'playground', a ready-made source (irl_jax/data/sources.py), a file, a hub id, or
  # 'prompts': texts sampled from the base model at EOS
  text_field: str = (
    'text'  # the field that holds the whole text (or, with prompt_field, what follows it)
  )
  prompt_field: str = ''  # the field that holds the prompt; '': the prompt is cut from the text
  label_field: str = ''  # 1 or true = toxic by human label; '': no labels
  prompt_fraction: float = setting(
    0.25, above=0, high=1
  )  # share of the words that become the prompt
  unlabelled: str = (
    ''  # a source of more texts to choose the zero by, beside the validation originals
  )
  split: str = 'train'  # which split of a hub dataset
  max_rows: int = setting(0, low=0)  # keep the rows with this many smallest hashes; 0: all
  bad_rows: str = setting('error', choices=('error', 'skip'))  # what an unreadable row does
  max_evaluated: int = setting(
    0, low=0
  )  # of validation texts, and of held-out ones; the others are left out. 0: all
  playground_comments: int = setting(12000, low=200)  # comments generated by the playground
  sampled_prompts: int = setting(
    5000, low=100
  )  # texts sampled from the base model by the source 'prompts'
  max_prompt_tokens: int = setting(64, low=1)  # longer prompts are cut on the left and counted


@dataclasses.dataclass(frozen=True)
class Supervised(Section):
  """Training of a language model or of a classifier on the training split."""

  key: ClassVar[str] = 'sft.'
  learning_rate: float = setting(1e-3, above=0)
  epochs: int = setting(3, low=1)  # passes over the training texts
  batch_size: int = setting(64, low=1)  # texts in one update, over all devices
  weight_decay: float = setting(0.01, low=0)
  warmup_steps: int = setting(50, low=0)
  max_tokens: int = setting(64, low=4)  # longer texts are cut on the right
  hidden_size: int = setting(128, low=8)  # the shape of a model trained from scratch, else unused
  layers: int = setting(3, low=1)
  heads: int = setting(4, low=1)
  checkpoint_every: int = setting(500, low=1)  # updates between two checkpoints


@dataclasses.dataclass(frozen=True)
class ClassifierTraining(Supervised):
  """Training of the toxicity classifier."""

  key: ClassVar[str] = 'classifier.'


@dataclasses.dataclass(frozen=True)
class Sampling(Section):
  """How completions are sampled, in rollouts, demonstrations and evaluation alike."""

  key: ClassVar[str] = 'sampling.'
  max_new_tokens: int = setting(16, low=1)
  min_new_tokens: int = setting(0, low=0)  # EOS is forbidden before this many tokens
  top_k: int = setting(0, low=0)  # 0: off
  top_p: float = setting(1.0, above=0, high=1)  # 1: off
  temperature: float = setting(1.0, low=0)  # 0: greedy (generate.py only)
  batch_size: int = setting(128, low=1)  # prompts in one decode batch, over all devices


@dataclasses.dataclass(frozen=True)
class PPO(Section):
  """Proximal policy optimisation (Schulman et al. 2017; Ziegler et al. 2019), after the paper and trlX."""

  key: ClassVar[str] = 'ppo.'
  learning_rate: float = setting(3e-6, above=0)
  schedule: str = setting('cosine', choices=('cosine', 'constant'))  # over all updates
  final_learning_rate: float = setting(
    0.1, low=0, high=1
  )  # where cosine ends, as a share of learning_rate
  warmup_steps: int = setting(0, low=0)  # updates
  steps: int = setting(600, low=1)  # rollouts
  rollouts_per_step: int = setting(32, low=1)  # prompts in one rollout, over all devices
  minibatch_size: int = setting(16, low=1)  # samples in one update, over all devices
  epochs: int = setting(4, low=1)  # passes over one rollout
  kl_coefficient: float = setting(0.035, low=0)  # per nat and token
  kl_target: float = setting(
    0.0, low=0
  )  # nats a response that an adaptive coefficient aims at; 0: fixed coefficient
  kl_horizon: int = setting(10000, low=1)  # samples over which an adaptive coefficient reacts
  discount: float = setting(1.0, above=0, high=1)  # gamma
  gae_lambda: float = setting(0.95, low=0, high=1)
  clip_ratio: float = setting(0.2, above=0)
  clip_value: float = setting(0.2, above=0)
  value_coefficient: float = setting(1.0, low=0)
  scale_reward: str = setting(
    'running', choices=('running', 'none')
  )  # divide scores by their running deviation
  clip_reward: float = setting(10.0, above=0)  # scores are clipped to +- this after scaling
  max_gradient_norm: float = setting(1.0, above=0)
  weight_decay: float = setting(1e-6, low=0)
  adam_b1: float = setting(0.9, low=0, high=1)
  adam_b2: float = setting(0.95, low=0, high=1)
  trained_blocks: int = setting(
    -1, low=-1
  )  # -1 everything; 0 the head alone; k the top k blocks and what follows
  reward: str = setting(
    'logit', choices=('logit', 'probability')
  )  # r* = -logit[toxic], or -p(toxic)
  score_text: str = setting('full', choices=('full', 'completion'))  # what the reward reads
  subtract_original: bool = True  # minus the same reward of the prompt's original text
  pessimism: float = setting(
    0.0, low=0
  )  # rerlhf: standard deviations over the seeds, taken off their mean
  checkpoint_every: int = setting(50, low=1)  # rollouts
  samples_every: int = setting(50, low=1)  # rollouts between two printed sample tables


@dataclasses.dataclass(frozen=True)
class IRL(Section):
  """Inverse reinforcement learning: max-margin (Ng & Russell 2000; Abbeel & Ng 2004; the paper, section 3), or maximum
  entropy (Ziebart et al. 2008).

  Raises:
    ConfigError: the objective needs more samples of a prompt than there are.
  """

  key: ClassVar[str] = 'irl.'
  # asymmetric is the paper's; its rewards end at their bounds and cannot grade texts (docs/recovery.md)
  objective: str = setting('logistic', choices=tuple(OBJECTIVES))
  margin: float = setting(
    0.1, above=0
  )  # of hinge, squared, failure_aware; in units of the bounded reward (|R| <= 1)
  temperature: float = setting(
    0.05, above=0
  )  # of logistic, -log sigmoid(delta / temperature), and maximum_entropy
  learning_rate: float = setting(1e-4, above=0)
  schedule: str = setting('cosine', choices=('cosine', 'constant'))
  warmup_steps: int = setting(20, low=0)
  weight_decay: float = setting(0.01, low=0)
  epochs: int = setting(3, low=1)
  batch_size: int = setting(32, low=1)  # pairs in one update, over all devices
  seeds: int = setting(3, low=1)  # how many rewards are recovered
  trained_blocks: int = setting(-1, low=-1)  # -1 everything; 0 the head alone; k the top k blocks
  pooling: str = setting(
    'last', choices=('last', 'mean')
  )  # the state that is scored: last token's, or their mean
  initial_head: str = setting(
    'difference', choices=('difference', 'random')
  )  # of feature means, or any direction
  prefix_weight: float = setting(
    0.0, low=0, high=1
  )  # share of the loss on a pair's prefixes, else on whole texts
  evaluate_every: int = setting(
    0, low=0
  )  # updates between two looks at the validation pairs; 0: an epoch
  checkpoint_every: int = setting(500, low=1)  # updates between two checkpoints
  contrast: str = setting(
    'base', choices=('base', 'sft')
  )  # which model the aligned one is held against
  samples_per_prompt: int = setting(
    1, low=1
  )  # pairs demonstrated for one prompt; maximum_entropy: at least 2
  max_prompts: int = setting(0, low=0)  # training prompts that are demonstrated; 0: all
  max_tokens: int = setting(512, low=2)  # longer texts are cut on the left and counted

  def __post_init__(self):
    super().__post_init__()
    if OBJECTIVES[self.objective] and self.samples_per_prompt < 2:
      raise ConfigError(
        f'config.irl.samples_per_prompt = {self.samples_per_prompt}: must be >= 2 where '
        f'config.irl.objective = {self.objective}, which compares the samples of a prompt'
      )

  @property
  def group_size(self) -> int:
    """K, how many pairs of one prompt the objective compares at once."""
    return self.samples_per_prompt if OBJECTIVES[self.objective] else 1


@dataclasses.dataclass(frozen=True)
class Evaluation(Section):
  """What is measured on held-out prompts."""

  key: ClassVar[str] = 'evaluation.'
  bootstrap_samples: int = setting(1000, low=10)  # of every bootstrap interval
  batch_size: int = setting(64, low=1)  # texts of 64 tokens scored at once, over all devices
  # Also train the reward model on pairs that r*, or labels, put in order: what recovery could reach at best.
  ceiling: str = setting('true_reward', choices=('true_reward', 'labels', 'none'))


@dataclasses.dataclass(frozen=True)
class Runtime(Section):
  """The machine, not the method: no figure depends on it beyond rounding."""

  key: ClassVar[str] = 'runtime.'
  dtype: str = setting(
    'auto', choices=('auto', 'float32', 'bfloat16')
  )  # of computation; auto: float32 on CPU
  keep_checkpoints: int = setting(
    2, low=1
  )  # the latest ones that stay; the one before is used where one is damaged
  max_skipped_in_row: int = setting(
    10, low=1
  )  # this many updates in a row without a finite gradient end the run
  micro_batch: int = setting(
    0, low=0
  )  # examples, or pairs, of one forward and backward pass of a device; 0: all, on
  # CPU as many as its cache is near to
  rematerialise: bool = (
    False  # compute a block's activations again in the backward pass: slower, less memory
  )
  activation_cache: float = setting(
    2.0, low=0
  )  # GiB on the host, for what irl's frozen blocks make of all pairs, once
  wandb_project: str = ''  # '': Weights & Biases is off


@dataclasses.dataclass(frozen=True)
class Config(Section):
  """One run. See each section for units and ranges.

  Raises:
    ConfigError: a field, or two fields together, cannot work.
  """

  name: str = 'run'  # the default work directory is runs/<name>
  seed: int = setting(0, low=0, high=2**31 - 1)  # every random choice derives from it
  stages: tuple = STAGES  # in this order; a finished stage is skipped
  models: Models = Models()
  data: Data = Data()
  sft: Supervised = Supervised()
  classifier: ClassifierTraining = ClassifierTraining()
  sampling: Sampling = Sampling()
  ppo: PPO = PPO()
  irl: IRL = IRL()
  evaluation: Evaluation = Evaluation()
  runtime: Runtime = Runtime()

  def __post_init__(self):
    super().__post_init__()
    for stage in self.stages:
      if stage not in STAGES:
        raise ConfigError(f'config.stages: unknown stage {stage!r}; must be of {", ".join(STAGES)}')
    if self.models.aligned and 'rlhf' in self.stages:
      raise ConfigError(
        f'config.models.aligned = {self.models.aligned!r}: is what the stage rlhf of config.stages '
        'would make; leave one of the two out (an audit of two models has no rlhf: configs/audit.py)'
      )
    if self.sampling.min_new_tokens > self.sampling.max_new_tokens:
      raise ConfigError(
        f'config.sampling.min_new_tokens = {self.sampling.min_new_tokens}: must be <= '
        f'config.sampling.max_new_tokens = {self.sampling.max_new_tokens}'
      )
    if self.irl.prefix_weight and self.irl.pooling != 'last':
      raise ConfigError(
        f'config.irl.prefix_weight = {self.irl.prefix_weight}: must be 0 where config.irl.pooling = '
        f'{self.irl.pooling}'
      )
    if self.ppo.rollouts_per_step % self.ppo.minibatch_size:
      raise ConfigError(
        f'config.ppo.minibatch_size = {self.ppo.minibatch_size}: must divide '
        f'config.ppo.rollouts_per_step = {self.ppo.rollouts_per_step}'
      )
    for section in (self.sft, self.classifier):
      if section.hidden_size % section.heads:
        raise ConfigError(
          f'config.{section.key}heads = {section.heads}: must divide '
          f'config.{section.key}hidden_size = {section.hidden_size}'
        )
