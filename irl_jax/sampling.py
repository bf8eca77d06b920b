"""Sampling: prefill, then one compiled decode loop with a KV cache that ends when every row has ended.

Dims: B rows, P prompt, T new tokens, K = P + T cache slots, D width, V vocabulary.
"""

import functools
from typing import Callable, Sequence

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import batches
from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import parallel
from irl_jax import structs
from irl_jax import text
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained

BLOCK = 256  # tokens of one block of the vocabulary


@struct.dataclass
class DecodeState:
  """The carry of the decode loop."""

  step: jax.Array       # [] int32: tokens sampled so far
  ids: jax.Array        # [B, T] int32
  log_probs: jax.Array  # [B, T] float32
  length: jax.Array     # [B] int32: with EOS
  done: jax.Array       # [B] bool
  logits: jax.Array     # [B, V] float32: of the next token
  cache: gpt_neox.Cache


def keep_top_k(logits: jax.Array, k: int) -> jax.Array:
  """Logits [B, V] without those below the k-th largest."""
  threshold = jax.lax.top_k(logits, k)[0][:, -1:]
  return jnp.where(logits < threshold, distribution.FORBIDDEN, logits)


def keep_top_p(logits: jax.Array, p: float) -> jax.Array:
  """Logits [B, V] of the smallest set of most probable tokens whose probability reaches p (Holtzman et al. 2020)."""
  ordered = -jnp.sort(-logits, axis=-1)
  before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1) - jax.nn.softmax(ordered, axis=-1)
  threshold = jnp.min(jnp.where(before < p, ordered, jnp.inf), axis=-1, keepdims=True)
  return jnp.where(logits < threshold, distribution.FORBIDDEN, logits)


def categorical(key: jax.Array, logits: jax.Array) -> jax.Array:
  """One token from logits [V]: first a block of the vocabulary, then a token of it.

  The distribution is that of jax.random.categorical; noise is drawn for V / BLOCK + BLOCK entries in place of V, which
  took most of the time of a decode step with 50,000 tokens.
  """
  blocks = jnp.pad(logits, (0, -logits.shape[0] % BLOCK), constant_values=distribution.FORBIDDEN).reshape(-1, BLOCK)
  block_key, token_key = jax.random.split(key)
  block = jax.random.categorical(block_key, jax.nn.logsumexp(blocks, axis=1))
  return block * BLOCK + jax.random.categorical(token_key, blocks[block])


def draw(keys: jax.Array, logits: jax.Array, top_k: int, top_p: float, greedy: bool) -> jax.Array:
  """One token per row [B] from logits [B, V]; keys [B]. With top_k, random bits are drawn for k tokens only."""
  if greedy:
    return jnp.argmax(logits, axis=-1)
  if top_k:
    logits, ids = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))
  if top_p < 1:
    logits = keep_top_p(logits, top_p)
  drawn = jax.vmap(categorical)(keys, logits)
  return jnp.take_along_axis(ids, drawn[:, None], axis=1)[:, 0] if top_k else drawn


def sample(frozen, batch: structs.PromptBatch, *, config: gpt_neox.GPTNeoXConfig, dtype, max_new_tokens: int,
           min_new_tokens: int, top_k: int, top_p: float, greedy: bool) -> structs.Responses:
  """Samples a response to every prompt.

  Args:
    frozen: (params, allowed, key): the model, `distribution.Allowed`, and the key that row indices are folded into.
    batch: left-padded prompts [B, P].
    config: the model's shape.
    dtype: of computation.
    max_new_tokens: T.
    min_new_tokens: EOS is forbidden before this many.
    top_k: 0 is off.
    top_p: 1 is off.
    greedy: take the most probable token instead.

  Returns:
    Responses [B, T]; log-probs are those of the untruncated distribution.
  """
  params, allowed, key = frozen
  params = jax.tree.map(lambda x: x.astype(dtype), params)
  rows, prompt = batch.ids.shape
  slots = prompt + max_new_tokens
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(batch.index)
  visible = jnp.concatenate([batch.valid, jnp.ones((rows, max_new_tokens), bool)], axis=1)  # [B, K]
  prompt_length = jnp.sum(batch.valid, axis=1)

  embedded = gpt_neox.embed(params, batch.ids, dtype)
  hidden, cache = gpt_neox.prefill(params['blocks'], embedded, batch.valid, config, slots)
  next_logits = lambda hidden: gpt_neox.logits(params, gpt_neox.final_norm(params, hidden[:, -1], config))

  def body(state: DecodeState) -> DecodeState:
    too_early = jnp.full(rows, state.step < min_new_tokens)
    logits = distribution.constrain(state.logits, too_early, allowed)
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, state.step)
    token = jnp.where(state.done, config.eos_token_id, draw(step_keys, logits, top_k, top_p, greedy).astype(jnp.int32))
    log_prob = jnp.take_along_axis(logits, token[:, None], axis=1)[:, 0] - jax.nn.logsumexp(logits, axis=1)
    slot = prompt + state.step
    hidden, cache = gpt_neox.decode_blocks(
        params['blocks'], gpt_neox.embed(params, token[:, None], dtype), prompt_length + state.step, slot,
        visible & (jnp.arange(slots) <= slot)[None], state.cache, config)
    return DecodeState(
        step=state.step + 1, ids=state.ids.at[:, state.step].set(token),
        log_probs=state.log_probs.at[:, state.step].set(jnp.where(state.done, 0.0, log_prob)),
        length=state.length + ~state.done, done=state.done | (token == config.eos_token_id),
        logits=next_logits(hidden), cache=cache)

  start = DecodeState(
      step=jnp.int32(0), ids=jnp.full((rows, max_new_tokens), config.eos_token_id, jnp.int32),
      log_probs=jnp.zeros((rows, max_new_tokens)), length=jnp.zeros(rows, jnp.int32), done=jnp.zeros(rows, bool),
      logits=next_logits(hidden), cache=cache)
  unfinished = lambda state: (state.step < max_new_tokens) & ~jnp.all(state.done)
  state = jax.lax.while_loop(unfinished, body, start)
  return structs.Responses(state.ids, state.length, state.log_probs)


def sampler(config: gpt_neox.GPTNeoXConfig, sampling: config_lib.Sampling, dtype) -> Callable:
  """`sample` with its statics bound, mapped over the devices: (frozen, sharded PromptBatch) -> sharded Responses."""
  return parallel.map_forward(
      sample, config=config, dtype=dtype, max_new_tokens=sampling.max_new_tokens,
      min_new_tokens=sampling.min_new_tokens, top_k=sampling.top_k, top_p=sampling.top_p,
      greedy=sampling.temperature == 0)


def prompt_ids(tokenizer, prompts: Sequence[str], max_tokens: int | None) -> tuple[list[list[int]], int]:
  """Token ids of prompts, and how many were cut on the left, which is logged; an empty prompt is EOS alone."""
  ids, cut = text.encode(tokenizer, prompts, max_tokens=max_tokens)
  text.report_cut(cut, len(prompts), 'prompts', max_tokens)
  return [row or [tokenizer.eos_token_id] for row in ids], cut


def complete_ids(model: pretrained.Pretrained, prompts: Sequence[Sequence[int]], sampling: config_lib.Sampling,
                 seed: int, dtype=jnp.float32, progress: Callable = iter) -> tuple[list[list[int]], np.ndarray]:
  """Samples a response to each of N tokenised prompts.

  Args:
    model: a causal language model.
    prompts: token ids; batched by length.
    sampling: how.
    seed: example i uses the key fold_in(key(seed), i), whatever the batches are.
    dtype: of computation.
    progress: wraps the iterable of batches.

  Returns:
    Response ids (EOS included where it came), and each response's length [N].
  """
  allowed = distribution.allowed_for(model.tokenizer, model.config, sampling.temperature or 1.0)
  frozen = parallel.replicate((model.params, allowed)) + (jax.random.key(seed),)
  run = sampler(model.config, sampling, dtype)
  count = parallel.device_count()
  batch_size = -(-min(sampling.batch_size, len(prompts)) // count) * count
  responses = [[]] * len(prompts)
  lengths = np.zeros(len(prompts), np.int32)
  for rows in progress(list(batches.by_length(prompts, batch_size))):
    batch = batches.prompt_batch([prompts[row] for row in rows], rows, model.config.eos_token_id)
    out = parallel.gather(run(frozen, parallel.shard(batch)))
    for row, ids, length in zip(rows, out.ids, out.length):
      responses[row], lengths[row] = ids[:length].tolist(), length
  return responses, lengths


def complete(model: pretrained.Pretrained, prompts: Sequence[str], sampling: config_lib.Sampling, seed: int = 0,
             dtype=jnp.float32, progress: Callable = iter) -> list[str]:
  """Samples a completion of every prompt text; its leading space is kept, EOS is not.

  Raises:
    ValueError: max_new_tokens leaves no room for a prompt.
  """
  limit = model.config.max_position_embeddings - sampling.max_new_tokens
  ids, _ = prompt_ids(model.tokenizer, prompts, limit)
  responses, _ = complete_ids(model, ids, sampling, seed, dtype, progress)
  return [text.decode(model.tokenizer, response) for response in responses]
