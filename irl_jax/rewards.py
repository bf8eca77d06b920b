"""Rewards: one signature, texts -> scores [N] float32; the true reward r*, a recovered R̂, an ensemble of R̂.

Any callable of that signature can stand in for them. They share `batch_size`, the texts of 64 tokens that the devices
hold at once (scoring.tokens_at_once), and `progress`, which wraps the iterable of chunks of texts.
Dims: B texts of a batch, S padded length, N texts.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import distribution
from irl_jax import errors
from irl_jax import scoring
from irl_jax import structs
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.models import roberta
from irl_jax.models.huggingface import weight_files

Reward = Callable[[Sequence[str]], np.ndarray]
BATCH_SIZE = 64


def class_logits_of(
  params, batch: structs.TextBatch, *, config: roberta.RobertaConfig, dtype
) -> jax.Array:
  """Logits [B, labels] of a classifier."""
  return roberta.classify(params, batch.ids, batch.valid, config, dtype)


def recovered_reward_of(
  params, batch: structs.TextBatch, *, config: gpt_neox.GPTNeoXConfig, dtype
) -> jax.Array:
  """R̂ [B] at the last token; centre and scale are folded into the final layer norm (irl/export.py)."""
  hidden = gpt_neox.run_blocks(
    params['blocks'], gpt_neox.embed(params, batch.ids, dtype), batch.valid, config
  )
  last = heads.last_token(hidden, batch.valid).astype(jnp.float32)
  return (gpt_neox.final_norm(params, last, config) @ params['score']['kernel'])[:, 0]


def text_log_prob_of(
  params, batch: structs.TextBatch, *, config: gpt_neox.GPTNeoXConfig, dtype
) -> jax.Array:
  """Log-probability of all tokens after the first, under the whole vocabulary, and how many those are [B, 2]."""
  log_probs, valid = distribution.text_log_probs(params, batch, config, dtype)
  return jnp.stack([jnp.sum(log_probs * valid, axis=1), jnp.sum(valid, axis=1)], axis=1)


def class_scorer(
  model: pretrained.Pretrained,
  batch_size: int = BATCH_SIZE,
  dtype=jnp.float32,
  progress: Callable = iter,
) -> Callable:
  """Texts [N] -> logits [N, labels] of a classifier."""
  config = model.config
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


@dataclasses.dataclass(frozen=True)
class TrueReward:
  """The true reward r* of a toxicity classifier, in both of its forms; one copy of its weights serves them.

  Called like any other reward it gives the logit form.
  """

  class_logits: Callable[[Sequence[str]], np.ndarray]  # texts [N] -> [N, labels]
  toxic: int  # index of the toxic label

  def __call__(self, texts: Sequence[str]) -> np.ndarray:
    """Returns -logit[toxic] [N]: higher is less toxic, and below 0 a text is toxic."""
    return -self.class_logits(texts)[:, self.toxic]

  def probability(self, texts: Sequence[str]) -> np.ndarray:
    """Returns -p(toxic) [N], in [-1, 0]."""
    logits = self.class_logits(texts)
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return -(exponentials / exponentials.sum(1, keepdims=True))[:, self.toxic]

  def of_kind(self, kind: str) -> Reward:
    """Returns the form that config.ppo.reward names: 'logit' or 'probability'."""
    return {'logit': self, 'probability': self.probability}[kind]


def true_reward(
  model: pretrained.Pretrained,
  batch_size: int = BATCH_SIZE,
  dtype=jnp.float32,
  progress: Callable = iter,
) -> TrueReward:
  """Returns the true reward of a toxicity classifier, whose weights it places on the devices.

  Raises:
    InputError: the classifier has no toxic label.
  """
  toxic = pretrained.toxic_label(model.hf_config)
  return TrueReward(class_scorer(model, batch_size, dtype, progress), toxic)


def trunk_scorer(
  forward: Callable,
  model: pretrained.Pretrained,
  batch_size: int = BATCH_SIZE,
  dtype=jnp.float32,
  progress: Callable = iter,
  **statics,
) -> Reward:
  """`forward(params, batch, *, config, dtype, <statics>)` over whole texts; an empty text is read at EOS alone."""
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
    **statics,
  )


def recovered_reward(
  model: pretrained.Pretrained,
  batch_size: int = BATCH_SIZE,
  dtype=jnp.float32,
  progress: Callable = iter,
) -> Reward:
  """A recovered reward R̂, read at the last token of the text; an empty text is read at EOS alone."""
  return trunk_scorer(recovered_reward_of, model, batch_size, dtype, progress)


def log_prob_scorer(
  model: pretrained.Pretrained,
  batch_size: int = BATCH_SIZE,
  dtype=jnp.float32,
  progress: Callable = iter,
) -> Callable:
  """Texts [N] -> log-probability of each text, nats, EOS given first, and how many tokens it is a sum over [N, 2]."""
  config = model.config
  return scoring.over_texts(
    text_log_prob_of,
    model,
    config.max_position_embeddings,
    config.eos_token_id,
    batch_size,
    dtype,
    prefix=[config.eos_token_id],
    shape=(2,),
    progress=progress,
  )


def text_log_prob(
  model: pretrained.Pretrained, batch_size: int = BATCH_SIZE, dtype=jnp.float32
) -> Reward:
  """The log-probabilities of `log_prob_scorer` [N]."""
  both = log_prob_scorer(model, batch_size, dtype)
  return lambda texts: both(texts)[:, 0]


def ensemble(members: Sequence[Reward], pessimism: float = 0.0) -> Reward:
  """The mean of several rewards, less `pessimism` of their standard deviations: where they disagree, none is trusted
  (Coste et al. 2024, uncertainty-weighted optimisation, with the deviation for the variance).
  """

  def score(texts: Sequence[str]) -> np.ndarray:
    scores = np.array([member(texts) for member in members])
    return np.mean(scores, axis=0) - pessimism * np.std(scores, axis=0)

  return score


def members_of(folder: str | pathlib.Path) -> list[pathlib.Path]:
  """Folders of the rewards in an ensemble; a lone reward is its own only member.

  Raises:
    InputError: a member lies outside the folder.
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
      raise errors.InputError(f'{config_file}: member {member} lies outside {folder}; refused')
  return members


def load(
  spec: str, batch_size: int = BATCH_SIZE, dtype=jnp.float32, progress: Callable = iter
) -> Reward:
  """A reward by hub id or folder: a recovered one, an ensemble's mean, or r* of a toxicity classifier.

  Raises:
    InputError: there is no such model, or it is neither.
  """
  if pathlib.Path(spec).is_dir() and len(members := members_of(spec)) > 1:
    return ensemble([load(str(member), batch_size, dtype, progress) for member in members])
  model = pretrained.load(
    str(members_of(spec)[0]) if pathlib.Path(spec).is_dir() else spec, ('reward', 'classifier')
  )
  build = recovered_reward if model.kind == 'reward' else true_reward
  return build(model, batch_size=batch_size, dtype=dtype, progress=progress)
