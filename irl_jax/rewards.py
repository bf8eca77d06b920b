"""Rewards: functions from texts [N] to scores [N], float32.

The true reward r*, a recovered reward R̂, and an ensemble of recovered rewards have this signature;
any other callable with this signature can take their place (data/user_rewards.py checks it). The
functions that build rewards share two arguments: `batch_size`, the number of texts of 64 tokens
that the devices can hold at once (`scoring.tokens_at_once`), and `progress`, which wraps the
iterable of chunks of texts.

Dims: B texts of a batch, S padded length, N texts.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import numbers
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import errors
from irl_jax import scoring
from irl_jax import settings
from irl_jax import structs
from irl_jax.data import chat
from irl_jax.data import text
from irl_jax.data import user_rewards
from irl_jax.models import encoder
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.models import true_reward as true_reward_lib
from irl_jax.models import trunk
from irl_jax.models.huggingface import labels
from irl_jax.models.huggingface import weight_files
from irl_jax.models.huggingface.labels import Activation

Reward = user_rewards.Reward
TrueReward = true_reward_lib.TrueReward
ScalarReward = true_reward_lib.ScalarReward
BATCH_SIZE = 64
TRUE_KINDS: tuple[pretrained.Kind, ...] = ('classifier', 'reward')  # of a true reward's model


def class_logits_of(
  params: encoder.Params,
  batch: structs.TextBatch,
  *,
  config: encoder.EncoderConfig | trunk.Config,
  dtype: DTypeLike,
) -> jax.Array:
  """Returns the logits [B, labels] of a classifier; a decoder reads them from the last token."""
  if isinstance(config, encoder.EncoderConfig):
    return encoder.classify(params, batch.ids, batch.valid, config, dtype)
  last = trunk.final_norm(params, _last_state(params, batch, config, dtype), config)
  return last @ params['score']['kernel']


def recovered_reward_of(
  params: trunk.Params, batch: structs.TextBatch, *, config: trunk.Config, dtype: DTypeLike
) -> jax.Array:
  """Returns R̂ [B] at the last token.

  Its zero and scale are part of the final norm and the score (irl/export.py).
  """
  return trunk.score(params, _last_state(params, batch, config, dtype), config)


def _last_state(
  params: trunk.Params, batch: structs.TextBatch, config: trunk.Config, dtype: DTypeLike
) -> jax.Array:
  """Returns the state [B, D] of the last token, float32, before the final norm."""
  hidden = trunk.run_blocks(
    params['blocks'], trunk.embed(params, batch.ids, config, dtype), batch.valid, config
  )
  return heads.last_token(hidden, batch.valid).astype(jnp.float32)


def class_scorer(
  model: pretrained.Pretrained,
  batch_size: int = BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
  progress: scoring.Progress = iter,
) -> Callable[[Sequence[str]], np.ndarray]:
  """Returns a function of texts [N] -> logits [N, labels] of a classifier."""
  config = model.config
  if not isinstance(config, encoder.EncoderConfig):
    shape = (len(pretrained.label_names(model)),)
    return trunk_scorer(class_logits_of, model, batch_size, dtype, progress, shape=shape)
  return scoring.over_texts(
    class_logits_of,
    model,
    config.max_tokens,
    config.pad_token_id,
    batch_size,
    dtype,
    specials=True,
    shape=(config.num_labels,),
    progress=progress,
  )


def activation_of(model: pretrained.Pretrained) -> Activation:
  """Returns the function that turns a classifier's logits into probabilities."""
  return labels.activation(model.hf_config, len(pretrained.label_names(model)))


def true_reward(
  model: pretrained.Pretrained,
  batch_size: int = BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
  progress: scoring.Progress = iter,
  label: labels.Label = '',
) -> TrueReward:
  """Returns the true reward of a toxicity classifier, whose weights it places on the devices.

  Args:
    model: the classifier.
    batch_size: texts of 64 tokens that the devices can hold at once.
    dtype: the compute type.
    progress: wraps the iterable of chunks of texts.
    label: name or number of the toxic label; '': it is found by the names of the labels.

  Raises:
    ConfigError: the classifier has no such label.
    InputError: the classifier has no toxic label.
  """
  toxic = pretrained.toxic_label(model, label)
  scorer = class_scorer(model, batch_size, dtype, progress)
  name = pretrained.label_names(model)[toxic]
  return TrueReward(without_template(scorer), toxic, activation_of(model), name)


def without_template(
  scorer: Callable[[Sequence[str]], np.ndarray],
) -> Callable[[Sequence[str]], np.ndarray]:
  """Returns a scorer that reads only the messages, without the chat template's text."""
  return lambda texts: scorer([chat.plain(one) for one in text.check_texts(texts, 'texts')])


def load_true_reward(
  spec: str,
  batch_size: int = BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
  progress: scoring.Progress = iter,
  label: labels.Label = '',
) -> TrueReward | ScalarReward:
  """Loads r*, from a classifier or from a reward model with one score.

  Args:
    spec: a hub id, `id@revision`, a folder, or a LoRA adapter.
    batch_size: texts of 64 tokens that the devices can hold at once.
    dtype: the compute type.
    progress: wraps the iterable of chunks of texts.
    label: of a classifier, name or number of the toxic label; '': found by the labels' names.

  Raises:
    ConfigError: a label is named, but the model is not a classifier, or does not have it.
    InputError: there is no such model, or it is neither.
  """
  return _load_one(spec, batch_size, dtype, progress, label)


def _load_one(
  spec: str, batch_size: int, dtype: DTypeLike, progress: scoring.Progress, label: labels.Label
) -> TrueReward | ScalarReward:
  """Loads the reward of one model: -logit[toxic] of a classifier, or a reward model's score.

  A recovered reward is saved as a reward model.
  """
  model = pretrained.load(spec, TRUE_KINDS)
  if model.kind == 'classifier':
    return true_reward(model, batch_size, dtype, progress, label)
  refuse_label(label, spec)
  return ScalarReward(recovered_reward(model, batch_size, dtype, progress))


def describe_true_reward(model: pretrained.Pretrained, label: labels.Label = '') -> str:
  """Says in a line what the true reward of a model is.

  Args:
    model: a classifier or a reward model; its weights are not read.
    label: as for `load_true_reward`.

  Raises:
    ConfigError, InputError: as `load_true_reward`.
  """
  if model.kind != 'classifier':
    refuse_label(label, model.source)
    return 'its score: higher is better, without a toxic class and without a zero'
  toxic, names = pretrained.toxic_label(model, label), pretrained.label_names(model)
  several = ', one of several that a text can have' if _several(model) else ''
  return f'minus the logit of label {toxic}, {names[toxic]!r}{several}'


def _several(model: pretrained.Pretrained) -> bool:
  return model.hf_config.get('problem_type') == 'multi_label_classification'


def trunk_scorer(
  forward: scoring.Forward,
  model: pretrained.Decoder,
  batch_size: int = BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
  progress: scoring.Progress = iter,
  **more: Any,
) -> Reward:
  """Returns a function of whole texts [N] -> `forward(params, batch, *, config, dtype, <statics>)`.

  An empty text is read as a single EOS. Other arguments are those of `scoring.over_texts`.
  """
  config = model.config
  return scoring.over_texts(
    forward,
    model,
    config.max_position_embeddings,
    config.eos_token_id,
    batch_size,
    dtype,
    instead_of_empty=[config.eos_token_id],
    progress=progress,
    **more,
  )


def recovered_reward(
  model: pretrained.Decoder,
  batch_size: int = BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
  progress: scoring.Progress = iter,
) -> Reward:
  """Returns a recovered reward R̂, which reads the last token of a text (EOS of an empty one)."""
  return trunk_scorer(recovered_reward_of, model, batch_size, dtype, progress)


def ensemble(members: Iterable[Reward], pessimism: float = 0.0) -> Reward:
  """Returns the mean of several rewards minus `pessimism` times their standard deviation.

  With pessimism, texts on which the members disagree score lower. Coste et al. 2024
  (uncertainty-weighted optimisation) subtract the variance instead.

  Raises:
    ConfigError: members is not a list of rewards, or is empty, or one cannot be called; or
      pessimism is not a number from 0.
    InputError (the returned function): a member returns anything but one number for each text.
  """
  if callable(members) or isinstance(members, str | Mapping) or not isinstance(members, Iterable):
    raise errors.ConfigError(f'members: must be a list of rewards, not {type(members).__name__}')
  members = [
    user_rewards.checked(member, f'member {number}') for number, member in enumerate(members)
  ]
  if not members:
    raise errors.ConfigError('members: is empty; an ensemble needs at least one reward')
  if not isinstance(pessimism, numbers.Real) or not 0 <= pessimism < float('inf'):
    raise errors.ConfigError(f'pessimism = {pessimism!r:.60}: must be a number >= 0')

  def score(texts: Sequence[str]) -> np.ndarray:
    scores = [member(texts) for member in members]
    # The squares of float16 scores would overflow.
    stacked = np.array(scores, np.result_type(np.float32, *scores))
    return np.mean(stacked, axis=0) - float(pessimism) * np.std(stacked, axis=0)

  return score


def members_of(folder: str | pathlib.Path) -> list[pathlib.Path]:
  """Returns the folders of the rewards in an ensemble; for a single reward, its own folder.

  Raises:
    InputError: config.json is damaged, or a member lies outside the folder.
  """
  folder = pathlib.Path(folder)
  config_file = folder / 'config.json'
  config: dict[str, Any] = weight_files.read_json(config_file) if config_file.is_file() else {}
  if config.get('model_type') != 'irl_jax_ensemble':
    return [folder]
  names = config.get('members')
  if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
    raise errors.InputError(f'{config_file}: members = {names!r}: must list the folders of rewards')
  members = [folder / name for name in names]
  for member in members:
    if folder.resolve() not in member.resolve().parents:
      raise errors.InputError(
        f'{config_file}: member {member} lies outside {folder}; list only folders inside it'
      )
  return members


def load(
  spec: str,
  batch_size: int = BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
  progress: scoring.Progress = iter,
  label: labels.Label = '',
) -> Reward:
  """Loads a reward: a recovered one, an ensemble's mean, or r* of a toxicity classifier.

  Args:
    spec: a hub id, `id@revision`, a folder, or a LoRA adapter.
    batch_size: texts of 64 tokens that the devices can hold at once.
    dtype: the compute type.
    progress: wraps the iterable of chunks of texts.
    label: the name or number of a classifier's toxic label; '': found by the labels' names.

  Raises:
    ConfigError: a label is named, but the model is not a classifier, or does not have it.
    InputError: there is no such model, or it is not a reward.
  """
  spec = settings.local_path(spec, 'model')
  members = members_of(spec) if pathlib.Path(spec).is_dir() else []
  if len(members) > 1:
    refuse_label(label, spec)
    return ensemble([load(str(member), batch_size, dtype, progress) for member in members])
  place = str(members[0]) if members else spec
  return _load_one(place, batch_size, dtype, progress, label)


def refuse_label(label: labels.Label, spec: str) -> None:
  """Refuses the name of a toxic label for a model that is not a classifier.

  Raises:
    ConfigError: a label is named.
  """
  if label := labels.written(label):
    raise errors.ConfigError(
      f'{spec}: is not a classifier, so it has no label {label!r}; leave the label out'
    )
