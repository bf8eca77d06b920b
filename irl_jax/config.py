"""Every setting of a run, with its meaning, unit and range.

The settings are frozen dataclasses that are checked when they are built (by settings.py), so an
existing `Config` is valid. `configs/*.py` return one from `get_config()`. The command line
overrides single fields (`--config.ppo.learning_rate=1e-6`), and so does `irl_jax.recover`.
"""

import dataclasses
from typing import ClassVar

from irl_jax import settings
from irl_jax.errors import ConfigError
from irl_jax.settings import Section
from irl_jax.settings import setting

STAGES = ('data', 'sft', 'classifier', 'rlhf', 'demos', 'irl', 'evaluate', 'rerlhf', 'report')
# The objectives of IRL, and whether each compares all samples of a prompt at once (a group) or
# single pairs.
COMPARES_GROUPS = {
  **dict.fromkeys(('asymmetric', 'hinge', 'logistic', 'squared', 'failure_aware'), False),
  'maximum_entropy': True,
}


@dataclasses.dataclass(frozen=True)
class Models(Section):
  """Where the models are: each is a hub id, `id@revision`, a Hugging Face folder or a LoRA adapter.

  An empty field means that a stage of this run makes the model, unless its comment says otherwise.
  """

  key: ClassVar[str] = 'models.'
  base: str = ''  # the base model; '': the base of an aligned adapter, else stage sft trains one
  sft: str = ''  # the model that RLHF starts from; '': the model of stage sft, else the base
  aligned: str = ''  # an existing RLHF'd model, for an audit; '': the model of stage rlhf
  classifier: str = ''  # the model of the true reward; '': stage classifier trains one
  label: str = ''  # the classifier's toxic label, by name or number; '': found by its name
  judge: str = ''  # a toxicity classifier that measures policies next to the true reward; '': none
  recovered: str = ''  # the reward, or ensemble, of stage rerlhf; '': what stage irl recovered

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in ('base', 'sft', 'aligned', 'classifier', 'judge', 'recovered'):
      path = settings.local_path(getattr(self, name), f'config.models.{name}')
      object.__setattr__(self, name, path)


@dataclasses.dataclass(frozen=True)
class Data(Section):
  """The texts to use, and how to cut a prompt from each."""

  key: ClassVar[str] = 'data.'
  # 'playground', 'prompts' (texts that the base model writes after EOS), a file, a folder, a hub
  # id, or a known data set (irl_jax/data/sources.py lists them)
  source: str = 'playground'
  split: str = 'train'  # the split to read, of a hub data set or a folder
  text_field: str = 'text'  # field of the text; with a prompt_field, of the text after the prompt
  prompt_field: str = ''  # field of the prompt; '': the prompt is cut from the text
  # When to render prompts with the aligned model's chat template; auto: if it has one and the
  # source has conversations or a prompt field
  chat: str = setting('auto', choices=('auto', 'always', 'never'))
  joiner: str = ''  # put between prompt and continuation, such as ' '; \n is a new line
  label_field: str = ''  # field of the human label: 1 or true is toxic; '': no labels
  # The labels that mean toxic, separated by commas (OFF,UNT) or as a bound ('>=4'); '': true, and
  # 0.5 to 1
  positive: str = ''
  negative: str = ''  # the labels that mean not toxic; others are ignored; '': all others
  # Encoding of a text file, such as cp1252; '': that of its byte order mark, else UTF-8
  encoding: str = ''
  # The character between the columns of a .csv or .tsv file; '': detected from its header
  delimiter: str = ''
  prompt_fraction: float = setting(0.25, above=0, high=1)  # share of a text's words in the prompt
  # Longer prompts are cut on the left, or left out with a chat template; the log says how many
  max_prompt_tokens: int = setting(64, low=1)
  unlabelled: str = ''  # another source, whose texts are also used to choose the zero
  bad_rows: str = setting('error', choices=('error', 'skip'))  # what to do with an unreadable row
  max_rows: int = setting(0, low=0)  # rows to use, those with the smallest hashes; 0: all
  max_evaluated: int = setting(0, low=0)  # validation texts to use, and held-out ones; 0: all
  playground_comments: int = setting(12000, low=200)  # comments to generate for 'playground'
  sampled_prompts: int = setting(5000, low=100)  # texts to sample for 'prompts'

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in ('source', 'unlabelled'):
      place = settings.local_source(getattr(self, name), f'config.data.{name}')
      object.__setattr__(self, name, place)
    for name, needed in (('positive', 'label_field'), ('negative', 'positive')):
      if getattr(self, name) and not getattr(self, needed):
        raise ConfigError(
          f'config.data.{name} = {getattr(self, name)!r}: needs config.data.{needed} too'
        )
    if len(self.column_delimiter) > 1 or self.delimiter in ('"', '\n', '\r'):
      raise ConfigError(f'config.data.delimiter = {self.delimiter!r}: must be one character')
    settings.check_encoding(self.encoding, 'config.data.encoding')

  @property
  def column_delimiter(self) -> str:
    """The delimiter, with a tab written as a tab."""
    return self.delimiter.replace(r'\t', '\t')


def labelled_by(source: str) -> str:
  """Returns who made the labels of a source's texts: 'program', 'Perspective' or 'people'."""
  name = source.partition(':')[0]
  return {'playground': 'program', 'real-toxicity-prompts': 'Perspective'}.get(name, 'people')


@dataclasses.dataclass(frozen=True)
class Supervised(Section):
  """Training of a language model or a classifier on the training split."""

  key: ClassVar[str] = 'sft.'
  learning_rate: float = setting(1e-3, above=0)
  epochs: int = setting(3, low=1)  # passes over the training texts
  batch_size: int = setting(64, low=1)  # texts in one update, over all devices
  weight_decay: float = setting(0.01, low=0)
  warmup_steps: int = setting(50, low=0)  # updates
  max_tokens: int = setting(64, low=4)  # longer texts are cut on the right
  # The shape of a model trained from scratch; an existing model keeps its own
  hidden_size: int = setting(128, low=8)
  layers: int = setting(3, low=1)
  heads: int = setting(4, low=1)
  checkpoint_every: int = setting(500, low=1)  # updates between two checkpoints


@dataclasses.dataclass(frozen=True)
class ClassifierTraining(Supervised):
  """Training of the toxicity classifier."""

  key: ClassVar[str] = 'classifier.'


@dataclasses.dataclass(frozen=True)
class Sampling(Section):
  """The sampling of completions, in rollouts, demonstrations and evaluation alike."""

  key: ClassVar[str] = 'sampling.'
  max_new_tokens: int = setting(16, low=1)
  min_new_tokens: int = setting(0, low=0)  # EOS is forbidden before this many tokens
  top_k: int = setting(0, low=0)  # 0: off
  top_p: float = setting(1.0, above=0, high=1)  # 1: off
  temperature: float = setting(1.0, low=0)  # 0: greedy, for `generate` only
  batch_size: int = setting(128, low=1)  # prompts in one decode batch, over all devices
  # Omit a model's special tokens from completions, as EOS always is. False: for `generate` only
  skip_special_tokens: bool = True


@dataclasses.dataclass(frozen=True)
class PPO(Section):
  """Proximal policy optimisation (Schulman et al. 2017; Ziegler et al. 2019).

  The learning rate, rollout and minibatch sizes and KL coefficient are the paper's for Pythia-70M;
  epochs, horizon, discount, lambda, clipping, value_coefficient, betas and weight decay are trlX's.
  """

  key: ClassVar[str] = 'ppo.'
  learning_rate: float = setting(3e-6, above=0)
  schedule: str = setting('cosine', choices=('cosine', 'constant'))  # over all updates
  final_learning_rate: float = setting(0.1, low=0, high=1)  # of a cosine schedule, as a share
  warmup_steps: int = setting(0, low=0)  # updates
  steps: int = setting(600, low=1)  # PPO steps, one rollout each
  rollouts_per_step: int = setting(32, low=1)  # samples in one rollout, over all devices
  minibatch_size: int = setting(16, low=1)  # samples in one update, over all devices
  epochs: int = setting(4, low=1)  # passes over one rollout
  kl_coefficient: float = setting(0.035, low=0)  # penalty per nat of KL, at each token
  kl_target: float = setting(0.0, low=0)  # nats per response that it adapts to; 0: it is fixed
  kl_horizon: int = setting(10000, low=1)  # samples over which the coefficient adapts to kl_target
  discount: float = setting(1.0, above=0, high=1)  # gamma
  gae_lambda: float = setting(0.95, low=0, high=1)
  clip_ratio: float = setting(0.2, above=0)
  clip_value: float = setting(0.2, above=0)
  value_coefficient: float = setting(1.0, low=0)  # weight of the value loss
  # running: divide scores by their running standard deviation; centred: subtract their running mean
  # first, so that a constant added to the reward changes nothing; none: do not scale them
  scale_reward: str = setting('running', choices=('running', 'centred', 'none'))
  clip_reward: float = setting(10.0, above=0)  # scores are clipped to +- this after scaling
  max_gradient_norm: float = setting(1.0, above=0)
  weight_decay: float = setting(1e-6, low=0)
  adam_b1: float = setting(0.9, low=0, high=1)
  adam_b2: float = setting(0.95, low=0, high=1)
  # -1: everything; 0: only the value head; k: the top k blocks, final layer norm and output head
  trained_blocks: int = setting(-1, low=-1)
  reward: str = setting('logit', choices=('logit', 'probability'))  # -logit[toxic] or -p(toxic)
  score_text: str = setting('full', choices=('full', 'completion'))  # what the reward scores
  subtract_original: bool = True  # subtract the reward of the prompt's original text
  pessimism: float = setting(0.0, low=0)  # of rerlhf: deviations over seeds below the mean reward
  checkpoint_every: int = setting(50, low=1)  # PPO steps between two checkpoints
  samples_every: int = setting(50, low=1)  # PPO steps between two printed tables of samples

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.kl_target and not self.kl_coefficient:
      raise ConfigError(
        f'config.ppo.kl_coefficient = 0.0: must be > 0 if config.ppo.kl_target = '
        f'{self.kl_target}, because the target scales it'
      )


@dataclasses.dataclass(frozen=True)
class IRL(Section):
  """Inverse reinforcement learning: the recovery of a reward from the demonstrations.

  Max-margin (Ng & Russell 2000; Abbeel & Ng 2004; the paper, section 3) or maximum entropy
  (Ziebart et al. 2008).
  """

  key: ClassVar[str] = 'irl.'
  # asymmetric is the paper's; its rewards end at their bounds and cannot grade texts
  # (docs/recovery.md)
  objective: str = setting('logistic', choices=tuple(COMPARES_GROUPS))
  # Margin of hinge, squared and failure_aware, in units of the bounded reward (|R| <= 1)
  margin: float = setting(0.1, above=0)
  # Temperature of logistic, whose loss is -log sigmoid(delta / temperature), and maximum_entropy
  temperature: float = setting(0.05, above=0)
  learning_rate: float = setting(1e-4, above=0)
  schedule: str = setting('cosine', choices=('cosine', 'constant'))  # over all updates
  warmup_steps: int = setting(20, low=0)  # updates
  weight_decay: float = setting(0.01, low=0)
  epochs: int = setting(3, low=1)  # passes over the demonstrations
  batch_size: int = setting(32, low=1)  # pairs in one update, over all devices
  seeds: int = setting(3, low=1)  # the number of rewards to recover
  trained_blocks: int = setting(-1, low=-1)  # -1: everything; 0: only the head; k: the top k blocks
  # The state that is scored: that of the last token, or the mean over the tokens
  pooling: str = setting('last', choices=('last', 'mean'))
  # The initial head: the difference of the models' mean features, or a random direction
  initial_head: str = setting('difference', choices=('difference', 'random'))
  # Share of the loss computed on a pair's prefixes; the rest is computed on whole texts
  prefix_weight: float = setting(0.0, low=0, high=1)
  # The better text of a pair: the aligned one, the one of the higher log-ratio, or half of each
  pair_label: str = setting('source', choices=('source', 'likelihood', 'mixed'))
  evaluate_every: int = setting(0, low=0)  # updates between two validations; 0: one epoch
  checkpoint_every: int = setting(500, low=1)  # updates between two checkpoints
  # The model whose completions are compared with those of the aligned model
  contrast: str = setting('base', choices=('base', 'sft'))
  # Whether both models draw pairs to train on with the same random numbers; held-out pairs never
  coupled: bool = True
  samples_per_prompt: int = setting(1, low=1)  # pairs per prompt; maximum_entropy: at least 2
  max_prompts: int = setting(0, low=0)  # the number of training prompts to complete; 0: all
  # Longer texts are cut: the prompt on the left, then the rest on the right; the log says how many
  max_tokens: int = setting(512, low=2)

  def __post_init__(self) -> None:
    super().__post_init__()
    if COMPARES_GROUPS[self.objective] and self.samples_per_prompt < 2:
      raise ConfigError(
        f'config.irl.samples_per_prompt = {self.samples_per_prompt}: must be >= 2 with '
        f'config.irl.objective = {self.objective}, which compares the samples of a prompt'
      )

  @property
  def group_size(self) -> int:
    """K, the number of pairs of one prompt that the objective compares at once."""
    return self.samples_per_prompt if COMPARES_GROUPS[self.objective] else 1


@dataclasses.dataclass(frozen=True)
class Evaluation(Section):
  """The measurements on held-out prompts."""

  key: ClassVar[str] = 'evaluation.'
  bootstrap_samples: int = setting(1000, low=10)  # resamples of every bootstrap interval
  batch_size: int = setting(64, low=1)  # texts of 64 tokens scored at once, over all devices
  attributed_texts: int = setting(40, low=0)  # each is scored about 4 times per token by every seed
  # Also train the reward model on pairs ordered by this; gives an upper bound for recovery
  ceiling: str = setting('true_reward', choices=('true_reward', 'labels', 'none'))
  # Samples of a prompt whose worst is judged in rlhf and rerlhf (Gehman et al. 2020: 25); 0: off
  toxicity_samples: int = setting(0, low=0)


@dataclasses.dataclass(frozen=True)
class Runtime(Section):
  """Settings of the machine; they change results by no more than rounding."""

  key: ClassVar[str] = 'runtime.'
  # Compute type; auto: float32 on CPU, bfloat16 elsewhere
  dtype: str = setting('auto', choices=('auto', 'float32', 'bfloat16'))
  # Number of latest checkpoints to keep; if one is damaged, the one before it is used
  keep_checkpoints: int = setting(2, low=1)
  max_skipped_in_row: int = setting(10, low=1)  # end after so many non-finite gradients in a row
  # Examples (or pairs) in one forward and backward pass on a device; 0: all (on a CPU, as many as
  # fit in its cache)
  micro_batch: int = setting(0, low=0)
  rematerialise: bool = False  # recompute activations in the backward pass: slower, less memory
  # GiB of host memory for the outputs of IRL's frozen blocks, computed once for all seeds
  activation_cache: float = setting(2.0, low=0)
  # fsdp: each device holds a share of the parameters, for models that do not fit one device
  sharding: str = setting('replicated', choices=('replicated', 'fsdp'))
  wandb_project: str = ''  # '': Weights & Biases is off


@dataclasses.dataclass(frozen=True)
class Config(Section):
  """One run. Each section states its units and ranges.

  Raises:
    ConfigError: a field, or two fields together, are not allowed.
  """

  name: str = 'run'  # the default work directory is runs/<name>
  seed: int = setting(0, low=0, high=2**31 - 1)  # the seed of every random choice
  stages: tuple = STAGES  # the stages to run, in the order of STAGES; finished ones are skipped
  models: Models = Models()
  data: Data = Data()
  sft: Supervised = Supervised()
  classifier: ClassifierTraining = ClassifierTraining()
  sampling: Sampling = Sampling()
  ppo: PPO = PPO()
  irl: IRL = IRL()
  evaluation: Evaluation = Evaluation()
  runtime: Runtime = Runtime()

  def __post_init__(self) -> None:
    super().__post_init__()
    self._check_stages()
    self._check_fields()

  def _check_stages(self) -> None:
    for stage in self.stages:
      if stage not in STAGES:
        raise ConfigError(
          f'config.stages: unknown stage {stage!r}; must be one of {", ".join(STAGES)}'
        )
    if self.models.aligned and 'rlhf' in self.stages:
      raise ConfigError(
        f'config.models.aligned = {self.models.aligned!r} is set, but stage rlhf of config.stages '
        'would also create it; remove one of the two (an audit has no stage rlhf: configs/audit.py)'
      )

  def _check_fields(self) -> None:
    if self.sampling.min_new_tokens > self.sampling.max_new_tokens:
      raise ConfigError(
        f'config.sampling.min_new_tokens = {self.sampling.min_new_tokens}: must be <= '
        f'config.sampling.max_new_tokens = {self.sampling.max_new_tokens}'
      )
    if self.irl.prefix_weight and self.irl.pooling != 'last':
      raise ConfigError(
        f'config.irl.prefix_weight = {self.irl.prefix_weight}: must be 0 with config.irl.pooling = '
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
