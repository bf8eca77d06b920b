"""Log-probabilities of texts, and the log-ratio of two language models.

The ratio says how much likelier one model makes a text than the other. It is the implicit reward of
DPO (Rafailov et al. 2023, section 4), which needs no training.

Dims: B texts of a batch, S padded length, N texts.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import distribution
from irl_jax import rewards
from irl_jax import scoring
from irl_jax import structs
from irl_jax.data import text
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.runtime import terminal

Prompted = tuple[str, str]  # (prompt, completion)


def text_log_prob_of(
  params: trunk.Params, batch: structs.TextBatch, *, config: trunk.Config, dtype: DTypeLike
) -> jax.Array:
  """Returns the log-probability of all tokens after the first, and their number [B, 2]."""
  log_probs, valid = distribution.text_log_probs(params, batch, config, dtype)
  return jnp.stack([jnp.sum(log_probs * valid, axis=1), jnp.sum(valid, axis=1)], axis=1)


def log_prob_scorer(
  model: pretrained.Decoder,
  batch_size: int = rewards.BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
  progress: scoring.Progress = iter,
) -> Callable[[Sequence[str]], np.ndarray]:
  """Returns a function of texts [N] -> [N, 2]: log-probability given EOS, nats, and tokens.

  If the tokenizer puts BOS before a text, that one is given instead of EOS.
  """
  given = [] if text.front(model.tokenizer) else [model.config.eos_token_id]
  return rewards.trunk_scorer(
    text_log_prob_of, model, batch_size, dtype, progress, prefix=given, shape=(2,)
  )


def text_log_prob(
  model: pretrained.Decoder, batch_size: int = rewards.BATCH_SIZE, dtype: DTypeLike = jnp.float32
) -> rewards.Reward:
  """Returns the log-probabilities of `log_prob_scorer` [N] as a reward."""
  both = log_prob_scorer(model, batch_size, dtype)
  return lambda texts: both(texts)[:, 0]


def completion_log_prob_of(
  params: trunk.Params, batch: structs.TextBatch, *, config: trunk.Config, dtype: DTypeLike
) -> jax.Array:
  """Returns the log-probability of the tokens after the prompt, nats, and their number [B, 2].

  The batch's ids of a prompt are complements (~id, below 0), which tells them from a completion's.
  """
  ids = jnp.where(batch.ids < 0, ~batch.ids, batch.ids)
  log_probs, valid = distribution.text_log_probs(
    params, structs.TextBatch(ids=ids, valid=batch.valid), config, dtype
  )
  counted = valid & (batch.ids[:, 1:] >= 0)
  return jnp.stack([jnp.sum(log_probs * counted, axis=1), jnp.sum(counted, axis=1)], axis=1)


def completion_log_prob_scorer(
  model: pretrained.Decoder,
  batch_size: int,
  dtype: DTypeLike = jnp.float32,
  progress: scoring.Progress = iter,
) -> Callable[[Sequence[Prompted]], np.ndarray]:
  """Returns a function of N pairs (prompt, completion) -> [N, 2], as `completion_log_prob_of`.

  Both are tokenised apart, as completions are sampled. An empty prompt is EOS. A pair that is
  longer than the model's positions is cut on the left.
  """
  limit = model.config.max_position_embeddings
  apply = scoring.over_tokens(
    completion_log_prob_of, model, limit, model.config.eos_token_id, batch_size, dtype, progress
  )

  def score(pairs: Sequence[Prompted]) -> np.ndarray:
    if not pairs:
      return np.zeros((0, 2), np.float32)
    joined = _joined(model.tokenizer, pairs)
    if cut := sum(len(ids) > limit for ids in joined):
      logging.warning(
        '%d of %s %s longer than the %d tokens that %s reads: cut on the left',
        cut,
        terminal.count(len(joined), 'text'),
        terminal.plural(cut, 'is', 'are'),
        limit,
        model.source,
      )
    return apply([ids[-limit:] for ids in joined])

  return score


def _joined(tokenizer: Any, pairs: Sequence[Prompted]) -> list[list[int]]:
  """Returns the ids of each prompt, complemented, and of its completion.

  What follows an empty prompt is read as a text from its beginning.
  """
  prompts, completions = ([*side] for side in zip(*pairs))
  before = text.prompt_ids(tokenizer, prompts, None)
  after, _ = text.encode(tokenizer, completions, continues=True)
  begin = len(text.front(tokenizer))  # BOS is the prompt's alone
  whole = after if all(prompts) else text.encode(tokenizer, completions)[0]
  return [
    [*(~token for token in given), *(own if prompt else from_start[begin:])]
    for prompt, given, own, from_start in zip(prompts, before, after, whole)
  ]


def token_log_probs_of(
  params: trunk.Params, batch: structs.TextBatch, *, config: trunk.Config, dtype: DTypeLike
) -> jax.Array:
  """Returns the log-probability of every token given those before it [B, S]; 0 of the first."""
  log_probs, valid = distribution.text_log_probs(params, batch, config, dtype)
  return jnp.pad(log_probs * valid, ((0, 0), (1, 0)))


def cumulative_log_ratios(
  aligned: pretrained.Decoder,
  base: pretrained.Decoder,
  texts: Sequence[Sequence[int]],
  batch_size: int = rewards.BATCH_SIZE,
  dtype: DTypeLike = jnp.float32,
) -> list[np.ndarray]:
  """Returns log π_aligned - log π_base of every prefix of N texts, nats: N arrays [tokens].

  EOS is given, unless the tokenizer puts BOS before a text, or a text has as many tokens as the
  models have positions. The log-ratio of a first token with nothing before it is 0.

  Args:
    aligned: one language model.
    base: another, with the same tokens; only one of them is on the devices at a time.
    texts: token ids, at most as many as the models have positions.
    batch_size: texts of 64 tokens scored at once.
    dtype: the compute type.
  """
  room = min(model.config.max_position_embeddings for model in (aligned, base)) - 1
  given = [] if text.front(base.tokenizer) else [base.config.eos_token_id]
  sequences = [[*given, *ids] if len(ids) <= room else list(ids) for ids in texts]
  of_aligned, of_base = (
    scoring.token_values(token_log_probs_of, model, sequences, batch_size, dtype)
    for model in (aligned, base)
  )
  return [
    np.cumsum(np.subtract(one, other, dtype=np.float64))[-len(ids) :]
    for one, other, ids in zip(of_aligned, of_base, texts)
  ]


def columns(of_model: np.ndarray, of_reference: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the scores of N texts by name, from `completion_log_prob_scorer` of both models.

  Returns:
    log_prob and reference_log_prob (nats, summed over the tokens), their difference log_ratio,
    log_ratio_per_token (0 without a token), and tokens; all [N].
  """
  log_prob, tokens = of_model.astype(np.float64).T
  reference = of_reference[:, 0].astype(np.float64)
  ratio = log_prob - reference
  return {
    'log_prob': log_prob,
    'reference_log_prob': reference,
    'log_ratio': ratio,
    'log_ratio_per_token': ratio / np.maximum(tokens, 1),
    'tokens': tokens.astype(int),
  }
