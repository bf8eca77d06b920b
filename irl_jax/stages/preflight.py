"""What is checked at the start, in seconds, before anything expensive: settings, devices, models, and the disk.

Of a model on the hub only its config and tokenizer are downloaded for it; its weights are not read.
"""

from collections.abc import Sequence
import functools
import pathlib
import shutil

import jax

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax.data.playground import tokenizers
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.models.huggingface import weights as huggingface_weights
from irl_jax.runtime import metrics_log
from irl_jax.runtime import parallel
from irl_jax.stages import classifier
from irl_jax.stages import sft
from irl_jax.stages.run import Run

MAKERS = {
  'base': 'sft',
  'start': 'sft',
  'aligned': 'rlhf',
  'classifier': 'classifier',
}  # which stage makes a model
SAMPLERS = ('rlhf', 'demos', 'rerlhf')
BYTES = 4  # of a float32, as checkpoints and exports hold them
MOMENTS = 3  # a parameter and Adam's two moments

Models = dict[str, pretrained.Pretrained]


def check(config: config_lib.Config, folder: pathlib.Path, stages: Sequence[str]) -> None:
  """Refuses what would fail later.

  Args:
    config: of the run.
    folder: its work directory, which need not exist yet.
    stages: those that are still to be run.

  Raises:
    ConfigError: settings that cannot work, a model that is missing or too small, or too little space on the disk.
    InputError: a model of another kind, a tokenizer that loses text, or a hub that does not answer.
  """
  check_settings(config)
  run = Run(config, folder, metrics_log.Log(), dtype=None)
  if 'rerlhf' in stages and not run.has_true_reward:
    raise errors.ConfigError(
      'config.stages: rerlhf measures the policies by the true reward; name a classifier in '
      'config.models.classifier, or leave rerlhf out'
    )
  models = models_of(run, stages)
  if set(stages) & set(SAMPLERS):
    check_positions(config, models)
  check_blocks(config, models, stages)
  if 'classifier' in models:
    pretrained.toxic_label(models['classifier'].hf_config, models['classifier'].source)
  check_disk(run, models, stages)


def check_settings(config: config_lib.Config) -> None:
  """What a run needs beyond a valid config.

  Raises:
    ConfigError: sampling is greedy, or the devices do not divide what is sharded over them.
  """
  if config.sampling.temperature == 0:
    raise errors.ConfigError(
      'config.sampling.temperature = 0.0: must be > 0; a run trains on what it samples'
    )
  devices = parallel.device_count()
  for name in ('rollouts_per_step', 'minibatch_size'):
    if getattr(config.ppo, name) % devices:
      raise errors.ConfigError(
        f'config.ppo.{name} = {getattr(config.ppo, name)}: must be a multiple of {devices}, the '
        'number of devices'
      )


def roles(run: Run, stages: Sequence[str]) -> list[str]:
  """Which models the stages read: 'base', 'start' (of RLHF), 'aligned', 'classifier'."""
  contrasted = 'base' if run.config.irl.contrast == 'base' else 'start'
  judge = ['classifier'] if run.has_true_reward else []
  reads = {
    'data': ['base'] if run.config.data.source == 'prompts' else [],
    'sft': ['base'],
    'classifier': ['classifier'],
    'rlhf': ['base', 'start', 'classifier'],
    'demos': ['aligned', contrasted, *judge],
    'irl': ['base'],
    'evaluate': ['aligned', contrasted, *judge],
    'rerlhf': ['base', 'start', 'classifier'],
  }
  return list(dict.fromkeys(role for stage in stages for role in reads.get(stage, [])))


def models_of(run: Run, stages: Sequence[str]) -> Models:
  """The models that the stages read, by role and without weights; of one that a stage will make, what it will be.

  Raises:
    ConfigError: a model is neither named, nor there, nor made by a stage.
    InputError: it cannot be used.
  """
  describe = functools.cache(pretrained.describe)  # one model may have several roles

  def model(role: str) -> pretrained.Pretrained:
    field = 'sft' if role == 'start' else role
    if getattr(run.config.models, field) or MAKERS[role] not in stages:
      return describe(
        getattr(run, role), ('classifier',) if role == 'classifier' else ('causal_lm',)
      )
    if role == 'aligned':
      return model('start')
    if role == 'classifier':
      return new_classifier(run.config)
    return model('base') if run.config.models.base else new_language_model(run.config)

  return {role: model(role) for role in roles(run, stages)}


def new_language_model(config: config_lib.Config) -> pretrained.Decoder:
  """Returns the shape of the model that the stage sft trains from scratch, with the largest vocabulary."""
  shape = sft.shape(config.sft, tokenizers.MAX_VOCABULARY)
  return pretrained.Pretrained('causal_lm', shape, {}, None, source='the model of the stage sft')


def new_classifier(config: config_lib.Config) -> pretrained.Classifier:
  """Returns the shape of the model that the stage classifier trains from scratch, likewise."""
  shape = classifier.shape(config.classifier, tokenizers.MAX_VOCABULARY)
  source = 'the model of the stage classifier'
  return pretrained.Pretrained('classifier', shape, {}, None, source=source)


def check_positions(config: config_lib.Config, models: Models) -> None:
  """Prompt and response must fit every language model.

  Raises:
    ConfigError: they do not.
  """
  needed = config.data.max_prompt_tokens + config.sampling.max_new_tokens
  for model in models.values():
    if model.kind == 'causal_lm' and needed > model.config.max_position_embeddings:
      raise errors.ConfigError(
        f'config.data.max_prompt_tokens + config.sampling.max_new_tokens = {needed}: must be <= '
        f'{model.config.max_position_embeddings}, the positions of {model.source}'
      )


def check_blocks(config: config_lib.Config, models: Models, stages: Sequence[str]) -> None:
  """A model must have the blocks that are to be trained.

  Raises:
    ConfigError: it has fewer.
  """
  for key, blocks, role, of in (
    ('ppo', config.ppo.trained_blocks, 'start', ('rlhf', 'rerlhf')),
    ('irl', config.irl.trained_blocks, 'base', ('irl',)),
  ):
    if set(of) & set(stages) and blocks > models[role].config.num_hidden_layers:
      raise errors.ConfigError(
        f'config.{key}.trained_blocks = {blocks}: must be <= '
        f'{models[role].config.num_hidden_layers}, the blocks of {models[role].source}'
      )


def check_disk(run: Run, models: Models, stages: Sequence[str]) -> None:
  """Checkpoints and exports must fit on the disk; what the stages have already written counts as space.

  Raises:
    ConfigError: they do not.
  """
  existing = next(place for place in (run.folder, *run.folder.absolute().parents) if place.exists())
  written = sum(
    file.stat().st_size
    for stage in stages
    for file in (run.folder / stage).rglob('*')
    if file.is_file()
  )
  needed, free = (
    bytes_written(run.config, models, stages) - written,
    shutil.disk_usage(existing).free,
  )
  if needed > free:
    raise errors.ConfigError(
      f'--workdir={run.folder}: checkpoints and models need about {needed / 1e6:,.0f} MB, and {existing} has '
      f'{free / 1e6:,.0f} MB free: free some, give another --workdir, or lower config.runtime.keep_checkpoints or '
      'config.irl.seeds'
    )


def bytes_written(config: config_lib.Config, models: Models, stages: Sequence[str]) -> int:
  """What checkpoints and exports of the stages will take on the disk, about."""
  copies = config.runtime.keep_checkpoints + 1  # one is written before another is deleted
  best = MOMENTS + 1  # the parameters of least validation loss stand beside the latest
  written = {  # by stage: the model, its trained blocks, arrays of their size in a checkpoint, how many times
    'sft': ('base', -1, best, 1),
    'classifier': ('classifier', -1, best, 1),
    'rlhf': ('start', config.ppo.trained_blocks, MOMENTS, 1),
    'irl': ('base', config.irl.trained_blocks, best, config.irl.seeds),
    'rerlhf': ('start', config.ppo.trained_blocks, MOMENTS, 1),
  }
  return BYTES * sum(
    times * (parameters(models[role], -1) + copies * arrays * parameters(models[role], blocks))
    for role, blocks, arrays, times in (written[stage] for stage in stages if stage in written)
  )


def parameters(model: pretrained.Pretrained, trained_blocks: int) -> int:
  """How many parameters of a model are trained."""
  shapes = huggingface_weights.shapes(model.kind, model.config)
  if model.kind == 'causal_lm':
    shapes, _ = jax.eval_shape(
      functools.partial(cut_lib.split, trained_blocks=trained_blocks), shapes
    )
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))
