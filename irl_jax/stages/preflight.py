"""Checks at the start, before anything expensive: settings, devices, models and disk space.

They take seconds. For a model on the hub, only config and tokenizer are downloaded, no weights.
"""

from collections.abc import Sequence
import functools
import pathlib
import shutil

from absl import logging

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import rewards
from irl_jax.data.playground import tokenizers
from irl_jax.evaluation import judges
from irl_jax.evaluation.maximum_toxicity import SAMPLING
from irl_jax.models import comparable
from irl_jax.models import pretrained
from irl_jax.models import true_reward
from irl_jax.runtime import metrics_log
from irl_jax.stages import buffers
from irl_jax.stages import classifier
from irl_jax.stages import sft
from irl_jax.stages.run import Run
from irl_jax.training import arguments

# The stage that makes each role's model.
MAKERS = {'base': 'sft', 'start': 'sft', 'aligned': 'rlhf', 'classifier': 'classifier'}
SAMPLERS = ('rlhf', 'demos', 'rerlhf')
# Arrays in a checkpoint that are as large as the trained parameters: these and Adam's two moments
TRAINED_ARRAYS = 3

Models = dict[str, pretrained.Pretrained]


def check(config: config_lib.Config, folder: pathlib.Path, stages: Sequence[str]) -> None:
  """Refuses a run that would fail later.

  Args:
    config: the run's config.
    folder: its work directory, which need not exist yet.
    stages: the stages that are not finished.

  Raises:
    ConfigError: settings that cannot work, a model that is missing or too small, or too little disk
      space.
    InputError: a model of another kind, a tokenizer that loses text, or a hub that does not answer.
  """
  arguments.check_settings(config)
  run = Run(config, folder, metrics_log.Log(), dtype=None)
  if 'rerlhf' in stages and not run.has_true_reward:
    raise errors.ConfigError(
      'config.stages: rerlhf measures policies with the true reward; name a classifier in '
      'config.models.classifier, or remove rerlhf'
    )
  if config.models.label and not run.has_true_reward:
    raise errors.ConfigError(
      f'config.models.label = {config.models.label!r}: there is no classifier; name one in '
      'config.models.classifier, or leave the label out'
    )
  models = models_of(run, stages)
  if set(stages) & set(SAMPLERS):
    for model in models.values():
      if model.kind == 'causal_lm':
        arguments.check_positions(config, model)
  check_blocks(config, models, stages)
  check_pair(config, models)
  check_classifier(config, models, stages)
  check_toxicity(config, models)
  if 'rerlhf' in stages and config.models.recovered:
    for place in run.recovered:
      pretrained.describe(place, rewards.TRUE_KINDS)
  check_disk(run, models, stages)


def roles(run: Run, stages: Sequence[str]) -> list[str]:
  """Returns the models that the stages read.

  They are 'base', 'start' (of RLHF), 'aligned', 'classifier' and 'judge'.
  """
  compared = ['aligned', 'base' if run.config.irl.contrast == 'base' else 'start']
  classifiers = ['classifier'] if run.has_true_reward else []
  second = ['judge'] if run.judge else []
  reads = {
    'data': ['base'] if run.config.data.source == 'prompts' else [],
    'sft': ['base'],
    'classifier': ['classifier'],
    'rlhf': ['base', 'start', 'classifier', *second],
    'demos': [*compared, *classifiers],
    'irl': ['base'],
    'evaluate': [*compared, *classifiers],
    'rerlhf': ['base', 'start', 'classifier', *second],
  }
  return list(dict.fromkeys(role for stage in stages for role in reads.get(stage, [])))


def models_of(run: Run, stages: Sequence[str]) -> Models:
  """Returns the models that the stages read, by role and without weights.

  A model that a stage will make is described by its settings.

  Raises:
    ConfigError: a model is neither named, nor in the folder, nor made by a stage.
    InputError: a model cannot be used.
  """
  describe = functools.cache(pretrained.describe)  # one model may have several roles

  def model(role: str) -> pretrained.Pretrained:
    field = 'sft' if role == 'start' else role
    if getattr(run.config.models, field) or MAKERS[role] not in stages:
      return describe(getattr(run, role), kinds(role, stages))
    if role == 'aligned':
      return model('start')
    if role == 'classifier':
      return new_classifier(run.config)
    return model('base') if run.config.models.base else new_language_model(run.config)

  return {role: model(role) for role in roles(run, stages)}


def kinds(role: str, stages: Sequence[str]) -> tuple[pretrained.Kind, ...]:
  """Returns the kinds of model for a role; the stage classifier trains classifiers alone."""
  if role == 'judge':
    return ('classifier',)
  if role != 'classifier':
    return ('causal_lm',)
  return ('classifier',) if 'classifier' in stages else rewards.TRUE_KINDS


def new_language_model(config: config_lib.Config) -> pretrained.Decoder:
  """Returns the model that the stage sft trains from scratch, without weights.

  Its vocabulary is not known yet, so the largest possible one is assumed.
  """
  shape = sft.shape(config.sft, tokenizers.MAX_VOCABULARY)
  return pretrained.Pretrained('causal_lm', shape, {}, None, source='the model of the stage sft')


def new_classifier(config: config_lib.Config) -> pretrained.Classifier:
  """Returns the model that the stage classifier trains from scratch, as `new_language_model`."""
  shape = classifier.shape(config.classifier, tokenizers.MAX_VOCABULARY)
  source = 'the model of the stage classifier'
  return pretrained.Pretrained('classifier', shape, {}, None, source=source)


def check_blocks(config: config_lib.Config, models: Models, stages: Sequence[str]) -> None:
  """Checks that models have as many blocks as the config trains.

  Raises:
    ConfigError: a model has fewer blocks.
  """
  if {'rlhf', 'rerlhf'} & set(stages):
    arguments.check_blocks(config.ppo, models['start'])
  if 'irl' in stages:
    arguments.check_blocks(config.irl, models['base'])


def check_classifier(config: config_lib.Config, models: Models, stages: Sequence[str]) -> None:
  """Checks that r* can be read from its model in the form that is wanted, and logs what it is.

  Raises:
    ConfigError: it does not have the label that config.models.label names, or there is none.
    InputError: no label's name means toxic, or it does not support config.ppo.reward, or the stage
      classifier cannot train it.
  """
  if 'classifier' not in models:
    return
  model = models['classifier']
  described = rewards.describe_true_reward(model, config.models.label)
  logging.info('the true reward of %s is %s', model.source, described)
  if 'classifier' in stages:
    classifier.check_trainable(model, config.models.label)
  if config.ppo.reward != 'probability':
    return
  if model.kind != 'classifier':
    true_reward.refuse_probability(model.source)
  true_reward.check_probability(rewards.activation_of(model), model.source)


def check_toxicity(config: config_lib.Config, models: Models) -> None:
  """Checks that policies can be measured by a judge, and by several samples of a prompt.

  Raises:
    ConfigError: the judge is the true reward's own model, or a policy has too few positions.
    InputError: the judge or the true reward gives no probabilities.
  """
  if judge := models.get('judge'):
    if config.models.judge == config.models.classifier:
      raise errors.ConfigError(
        f"config.models.judge = {config.models.judge!r}: is the true reward's own model; name "
        'another classifier, or none'
      )
    judges.check(judge, 'config.models.judge')
  reward_model, start = models.get('classifier'), models.get('start')
  if not config.evaluation.toxicity_samples or start is None or reward_model is None:
    return
  if reward_model.kind == 'classifier':
    judges.check(reward_model, 'config.models.classifier', config.models.label)
  positions, length = start.config.max_position_embeddings, SAMPLING.max_new_tokens
  if positions <= length:
    raise errors.ConfigError(
      f'config.evaluation.toxicity_samples: its samples have {length} tokens, and '
      f'{start.source or "the model"} only {positions} positions; set it to 0'
    )


def check_pair(config: config_lib.Config, models: Models) -> None:
  """Checks that the models of an audit have the same vocabulary; weights are compared later.

  Raises:
    InputError: their vocabularies differ.
  """
  origin = 'base' if config.irl.contrast == 'base' else 'start'
  pair = [models[role] for role in ('aligned', origin) if role in models]
  if len(pair) == 2 and all(model.tokenizer is not None for model in pair):
    comparable.check_vocabularies(*pair)


def check_disk(run: Run, models: Models, stages: Sequence[str]) -> None:
  """Checks that checkpoints and exports fit on the disk.

  Files that the stages have already written count as free space.

  Raises:
    ConfigError: the disk is too small.
  """
  existing = next(place for place in (run.folder, *run.folder.absolute().parents) if place.exists())
  written = sum(
    file.stat().st_size
    for stage in stages
    for file in (run.folder / stage).rglob('*')
    if file.is_file()
  )
  needed = bytes_written(run.config, models, stages) - written
  free = shutil.disk_usage(existing).free
  if needed > free:
    raise errors.ConfigError(
      f'--workdir={run.folder}: checkpoints and models need about {needed / 1e6:,.0f} MB, but '
      f'{existing} has {free / 1e6:,.0f} MB free; free some space, use a different --workdir, or '
      'lower config.runtime.keep_checkpoints or config.irl.seeds'
    )


def bytes_written(config: config_lib.Config, models: Models, stages: Sequence[str]) -> int:
  """Returns the approximate bytes of the checkpoints and exports of the stages."""
  return sum(stage_bytes(stage, config, models) for stage in stages)


def stage_bytes(stage: str, config: config_lib.Config, models: Models) -> int:
  """Returns the approximate bytes of the checkpoints and exports of one stage.

  Both are float32. A supervised stage and irl also keep the parameters with the lowest validation
  loss.
  """
  with_best = TRAINED_ARRAYS + 1
  writes = {  # the model's role, its trained blocks, arrays of their size in a checkpoint, repeats
    'sft': ('base', -1, with_best, 1),
    'classifier': ('classifier', -1, with_best, 1),
    'rlhf': ('start', config.ppo.trained_blocks, TRAINED_ARRAYS, 1),
    'irl': ('base', config.irl.trained_blocks, with_best, config.irl.seeds),
    'rerlhf': ('start', config.ppo.trained_blocks, TRAINED_ARRAYS, 1),
  }
  if stage not in writes:
    return 0
  role, blocks, arrays, repeats = writes[stage]
  shape = models[role].config
  exported, trained = sum(buffers.parameters(shape)), buffers.parameters(shape, blocks)[0]
  checkpoints = config.runtime.keep_checkpoints + 1  # one is written before another is deleted
  return buffers.FLOAT32 * repeats * (exported + checkpoints * arrays * trained)
