"""Rewards: one signature, texts -> scores [N] float32; the true reward r*, a recovered R̂, an ensemble of R̂.

Any callable of that signature can stand in for them. Dims: B texts of a batch, S padded length, N texts.
"""

import json
import pathlib
from typing import Any, Callable, Sequence

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import batches
from irl_jax import distribution
from irl_jax import errors
from irl_jax import parallel
from irl_jax import structs
from irl_jax import text
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.models import roberta

Reward = Callable[[Sequence[str]], np.ndarray]
BATCH_SIZE = 64


def class_logits_of(params, batch: structs.TextBatch, *, config: roberta.RobertaConfig, dtype) -> jax.Array:
  """Logits [B, labels] of a classifier."""
  return roberta.classify(params, batch.ids, batch.valid, config, dtype)


def recovered_reward_of(params, batch: structs.TextBatch, *, config: gpt_neox.GPTNeoXConfig, dtype) -> jax.Array:
  """R̂ [B] at the last token; centre and scale are folded into the final layer norm (irl/export.py)."""
  hidden = gpt_neox.run_blocks(params['blocks'], gpt_neox.embed(params, batch.ids, dtype), batch.valid, config)
  last = heads.last_token(hidden, batch.valid).astype(jnp.float32)
  return (gpt_neox.final_norm(params, last, config) @ params['score']['kernel'])[:, 0]


def text_log_prob_of(params, batch: structs.TextBatch, *, config: gpt_neox.GPTNeoXConfig, dtype) -> jax.Array:
  """Log-probability [B] of all tokens after the first, under the whole vocabulary."""
  hidden = gpt_neox.hidden_states(params, batch.ids, batch.valid, config, dtype)[:, :-1]
  targets, mask = batch.ids[:, 1:], batch.valid[:, 1:]
  everything = distribution.Allowed(jnp.zeros(config.vocab_size, bool), jnp.int32(config.eos_token_id), jnp.float32(1))
  flat = distribution.log_probs(params, hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1),
                                jnp.zeros(targets.size, bool), everything)
  return jnp.sum(flat.reshape(targets.shape) * mask, axis=1)


def batched(forward: Callable, model: pretrained.Pretrained, limit: int, pad_id: int, batch_size: int, dtype,
            **statics) -> Callable:
  """`forward` over any number of token lists: sorted by length, padded to buckets (of `limit` at most), mapped over
  the devices.

  Returns:
    A function: token lists [N] -> np.float32 [N, ...].
  """
  run = parallel.map_forward(forward, config=model.config, dtype=dtype, **statics)
  params = parallel.replicate(model.params)
  devices = parallel.device_count()

  def batch_of(sequences: Sequence[Sequence[int]]) -> structs.TextBatch:
    length = min(batches.bucket(max(map(len, sequences))), limit)
    return parallel.shard(batches.text_batch(sequences, pad_id, length))

  def apply(sequences: Sequence[Sequence[int]]) -> np.ndarray:
    rows_in_batch = min(batch_size, 1 << max(len(sequences) - 1, 0).bit_length())
    rows_in_batch = -(-rows_in_batch // devices) * devices
    pending = [(rows, run(params, batch_of([sequences[row] for row in rows])))
               for rows in batches.by_length(sequences, rows_in_batch)]
    results = [(rows, parallel.gather(result)) for rows, result in pending]
    out = np.zeros((len(sequences), *results[0][1].shape[1:]), np.float32)
    for rows, result in results:
      out[rows] = result
    return out

  return apply


def _encode(model: pretrained.Pretrained, texts: Sequence[str], limit: int, specials: bool) -> list[list[int]]:
  sequences, cut = text.encode(model.tokenizer, texts, max_tokens=limit, specials=specials)
  if cut:
    logging.warning('%d of %d texts are longer than the %d tokens that %s reads: cut on the left', cut, len(texts),
                    limit, model.source)
  return sequences


def _over_texts(forward: Callable, model: pretrained.Pretrained, limit: int, pad_id: int, batch_size: int, dtype,
                specials: bool = False, prefix: Sequence[int] = (), instead_of_empty: Sequence[int] = (),
                **statics) -> Callable:
  apply = batched(forward, model, limit, pad_id, batch_size, dtype, **statics)

  def score(texts: Sequence[str]) -> np.ndarray:
    if not len(texts):
      return np.zeros(0, np.float32)
    sequences = _encode(model, texts, limit - len(prefix), specials)
    return apply([[*prefix, *sequence] or list(instead_of_empty) for sequence in sequences])

  return score


def class_scorer(model: pretrained.Pretrained, batch_size: int = BATCH_SIZE, dtype=jnp.float32) -> Callable:
  """texts [N] -> logits [N, labels] of a classifier."""
  limit = model.config.max_position_embeddings - model.config.pad_token_id - 1
  return _over_texts(class_logits_of, model, limit, model.config.pad_token_id, batch_size, dtype, specials=True)


def true_reward(model: pretrained.Pretrained, kind: str = 'logit', batch_size: int = BATCH_SIZE,
                dtype=jnp.float32) -> Reward:
  """The true reward r* = -logit[toxic] ('logit'), or -p(toxic) ('probability'), of a toxicity classifier.

  Raises:
    InputError: the classifier has no toxic label.
  """
  toxic = pretrained.toxic_label(model.hf_config)
  logits = class_scorer(model, batch_size, dtype)
  if kind == 'logit':
    return lambda texts: -logits(texts)[:, toxic] if len(texts) else np.zeros(0, np.float32)
  softmax = lambda x: np.exp(x - x.max(1, keepdims=True)) / np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)
  return lambda texts: -softmax(logits(texts))[:, toxic] if len(texts) else np.zeros(0, np.float32)


def trunk_scorer(forward: Callable, model: pretrained.Pretrained, batch_size: int = BATCH_SIZE, dtype=jnp.float32,
                 **statics) -> Reward:
  """`forward(params, batch, *, config, dtype, <statics>)` over whole texts; an empty text is read at EOS alone."""
  config = model.config
  return _over_texts(forward, model, config.max_position_embeddings, config.eos_token_id, batch_size, dtype,
                     instead_of_empty=[config.eos_token_id], **statics)


def recovered_reward(model: pretrained.Pretrained, batch_size: int = BATCH_SIZE, dtype=jnp.float32) -> Reward:
  """A recovered reward R̂, read at the last token of the text; an empty text is read at EOS alone."""
  return trunk_scorer(recovered_reward_of, model, batch_size, dtype)


def text_log_prob(model: pretrained.Pretrained, batch_size: int = BATCH_SIZE, dtype=jnp.float32) -> Reward:
  """texts [N] -> log-probability of each text, nats, EOS given first."""
  config = model.config
  return _over_texts(text_log_prob_of, model, config.max_position_embeddings, config.eos_token_id, batch_size, dtype,
                     prefix=[config.eos_token_id])


def token_counts(model: pretrained.Pretrained, texts: Sequence[str]) -> np.ndarray:
  """How many tokens of each text `text_log_prob` sums over [N] int."""
  sequences = _encode(model, texts, model.config.max_position_embeddings - 1, False)
  return np.array([len(sequence) for sequence in sequences], int)


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
  config: dict[str, Any] = json.loads(config_file.read_text()) if config_file.is_file() else {}
  if config.get('model_type') != 'irl_jax_ensemble':
    return [folder]
  members = [folder / name for name in config['members']]
  for member in members:
    if folder.resolve() not in member.resolve().parents:
      raise errors.InputError(f'{config_file}: member {member} lies outside {folder}; refused')
  return members


def load(spec: str, batch_size: int = BATCH_SIZE, dtype=jnp.float32) -> Reward:
  """A reward by hub id or folder: a recovered one, an ensemble's mean, or r* of a toxicity classifier.

  Raises:
    InputError: there is no such model, or it is neither.
  """
  if pathlib.Path(spec).is_dir() and len(members := members_of(spec)) > 1:
    return ensemble([load(str(member), batch_size, dtype) for member in members])
  model = pretrained.load(str(members_of(spec)[0]) if pathlib.Path(spec).is_dir() else spec, ('reward', 'classifier'))
  build = recovered_reward if model.kind == 'reward' else true_reward
  return build(model, batch_size=batch_size, dtype=dtype)
