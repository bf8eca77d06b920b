"""The Python API: load a model or a reward, score texts, generate completions.

A model is named by a Hugging Face folder, a hub id, or `id@revision`; what it is, is read from its config.json.
"""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from irl_jax import rewards
from irl_jax import sampling as sampling_lib
from irl_jax.config import Sampling
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import pretrained

Scorer = Callable[[Sequence[str]], dict[str, np.ndarray]]


def load_model(path: str) -> pretrained.Pretrained:
  """Loads a language model, classifier or recovered reward.

  Raises:
    ConfigError: path is a folder that does not exist.
    InputError: the hub does not answer, or the folder holds no such model.
  """
  return pretrained.load(path)


def load_reward(path: str) -> rewards.Reward:
  """Loads a reward: N texts -> float32 [N], higher is better.

  A classifier gives the true reward -logit[toxic], a recovered reward its score, an ensemble its members' mean.

  Raises:
    ConfigError: path is a folder that does not exist.
    InputError: the hub does not answer, or the model is not a reward.
  """
  return rewards.load(path)


def load_scorer(path: str, batch_size: int = 32, progress: Callable = iter) -> Scorer:
  """Loads whatever can be said about a text: N texts -> arrays [N] or [N, labels] by name.

  A causal language model gives `log_prob` (nats, the sum over the text's tokens, EOS given first) and `tokens`; a
  classifier `logits` and, where a label is toxic, `reward` = -logit[toxic]; a recovered reward `reward`; an ensemble
  `reward` (mean over its members) and `reward_std` (their standard deviation, divided by their number).

  Args:
    path: the model.
    batch_size: texts of 64 tokens scored at once, over all devices; more of shorter ones.
    progress: wraps the iterable of chunks of texts.

  Raises:
    ConfigError: path is a folder that does not exist.
    InputError: the hub does not answer, or the folder holds no such model.
  """
  if pretrained.read_config(path).get('model_type') == 'irl_jax_ensemble':
    return _ensemble_scorer(
      [
        rewards.load(str(member), batch_size, progress=progress)
        for member in rewards.members_of(path)
      ]
    )
  model = pretrained.load(path)
  if model.kind == 'causal_lm':
    return _log_prob_scorer(rewards.log_prob_scorer(model, batch_size, progress=progress))
  if model.kind == 'reward':
    reward = rewards.recovered_reward(model, batch_size, progress=progress)
    return lambda texts: {'reward': reward(texts)}
  return _class_scorer(model, rewards.class_scorer(model, batch_size, progress=progress))


def score(path: str, texts: Sequence[str], batch_size: int = 32) -> dict[str, np.ndarray]:
  """Scores N texts with a model: see `load_scorer` for what it gives and raises."""
  return load_scorer(path, batch_size)(texts)


def generate(
  path: str,
  prompts: Sequence[str],
  sampling: Sampling = Sampling(max_new_tokens=64),
  seed: int = 0,
  progress: Callable = iter,
) -> list[str]:
  """Completes N prompts with a causal language model; a completion keeps its leading space and ends before EOS.

  Args:
    path: the model.
    prompts: N texts; an empty one is completed from EOS, a long one is cut on the left.
    sampling: length, truncation, temperature (0: greedy) and batch size.
    seed: the same seed gives the same completions, whatever the batches are.
    progress: wraps the iterable of batches.

  Raises:
    ConfigError: path is a folder that does not exist, or max_new_tokens leaves no room for a prompt.
    InputError: the hub does not answer, or the model is no causal language model.
  """
  positions = pretrained.read_config(path).get('max_position_embeddings')
  if isinstance(positions, int) and sampling.max_new_tokens >= positions:
    raise ConfigError(
      f'max_new_tokens = {sampling.max_new_tokens}: must be < {positions}, the positions of {path}, so '
      'that a prompt fits'
    )
  model = pretrained.load_language_model(path)
  return sampling_lib.complete(model, prompts, sampling, seed=seed, progress=progress)


def _ensemble_scorer(members: Sequence[rewards.Reward]) -> Scorer:
  def scorer(texts):
    scores = np.stack([member(texts) for member in members])  # [members, N]
    return {'reward': scores.mean(axis=0), 'reward_std': scores.std(axis=0)}

  return scorer


def _log_prob_scorer(both_of: Callable) -> Scorer:
  def scorer(texts):
    both = both_of(texts)  # [N, 2]
    return {'log_prob': both[:, 0], 'tokens': both[:, 1].astype(int)}

  return scorer


def _class_scorer(model: pretrained.Pretrained, logits_of: Callable) -> Scorer:
  try:
    toxic = pretrained.toxic_label(model.hf_config)
  except InputError:  # a classifier of something else
    return lambda texts: {'logits': logits_of(texts)}

  def scorer(texts):
    logits = logits_of(texts)  # [N, labels]
    return {'logits': logits, 'reward': -logits[:, toxic]}

  return scorer
