"""The scores that each kind of model gives texts, by name; what the Python API returns.

Dims: N texts.
"""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from irl_jax import rewards
from irl_jax import scoring
from irl_jax.errors import InputError
from irl_jax.evaluation import likelihoods
from irl_jax.models import pretrained
from irl_jax.models.huggingface import labels
from irl_jax.runtime import notices

Scorer = Callable[[Sequence[str]], dict[str, np.ndarray]]


def of_model(
  model: pretrained.Pretrained, batch_size: int, progress: scoring.Progress, label: labels.Label
) -> Scorer:
  """Returns a function of N texts -> the scores of a single model, [N] or [N, labels].

  Args:
    model: of any kind.
    batch_size: texts of 64 tokens to score at once, over all devices.
    progress: wraps the iterable of chunks of texts.
    label: the name or number of a classifier's toxic label; '': found by the labels' names.

  Raises:
    ConfigError: a label is named, but the model is not a classifier, or does not have it.
  """
  if model.kind != 'classifier':
    rewards.refuse_label(label, model.source or 'the model')
  if model.kind == 'causal_lm':
    return _log_prob_scorer(likelihoods.log_prob_scorer(model, batch_size, progress=progress))
  if model.kind == 'reward':
    reward = rewards.recovered_reward(model, batch_size, progress=progress)
    return lambda texts: {'reward': reward(texts)}
  logits_of = rewards.class_scorer(model, batch_size, progress=progress)
  return _class_scorer(model, rewards.without_template(logits_of), label)


def of_ensemble(
  members: Sequence[pretrained.Pretrained], batch_size: int, progress: scoring.Progress
) -> Scorer:
  """Returns a function of N texts -> the mean and deviation [N] of several rewards.

  Raises:
    InputError: a member is not a reward.
  """
  scored = [_reward(member, batch_size, progress) for member in members]

  def scorer(texts: Sequence[str]) -> dict[str, np.ndarray]:
    scores = np.stack([reward(texts) for reward in scored])  # [members, N]
    return {'reward': scores.mean(axis=0), 'reward_std': scores.std(axis=0)}

  return scorer


def _reward(
  model: pretrained.Pretrained, batch_size: int, progress: scoring.Progress
) -> rewards.Reward:
  """Returns the reward of an ensemble's member."""
  if model.kind == 'causal_lm':
    raise InputError(f'{model.source}: is a causal_lm; a member of an ensemble must be a reward')
  build = rewards.recovered_reward if model.kind == 'reward' else rewards.true_reward
  return build(model, batch_size=batch_size, progress=progress)


def _log_prob_scorer(both_of: rewards.Reward) -> Scorer:
  def scorer(texts: Sequence[str]) -> dict[str, np.ndarray]:
    both = both_of(texts)  # [N, 2]
    return {'log_prob': both[:, 0], 'tokens': both[:, 1].astype(int)}

  return scorer


def _class_scorer(
  model: pretrained.Classifier, logits_of: rewards.Reward, label: labels.Label
) -> Scorer:
  try:
    toxic = pretrained.toxic_label(model, label)
  except InputError as error:  # a classifier of something other than toxicity
    notices.warn_once(f'{error}. Only logits are returned, without a reward')
    return lambda texts: {'logits': logits_of(texts)}

  def scorer(texts: Sequence[str]) -> dict[str, np.ndarray]:
    logits = logits_of(texts)  # [N, labels]
    return {'logits': logits, 'reward': -logits[:, toxic]}

  return scorer
