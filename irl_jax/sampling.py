"""Sampling: prefill, then one compiled decode loop with a KV cache, until every row has ended.

Dims: B rows, P prompt, T new tokens, K = P + T cache slots, D width, V vocabulary, N blocks of the
vocabulary with C tokens each.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.runtime import parallel

BLOCK = 128  # tokens of one block of the vocabulary; Pythia's is a multiple of it


@struct.dataclass
class DecodeState:
  """The carry of the decode loop."""

  step: jax.Array  # [] int32: tokens sampled so far
  token: jax.Array  # [B] int32: the last sampled token
  ids: jax.Array  # [B, T] int32
  log_probs: jax.Array  # [B, T] float32
  length: jax.Array  # [B] int32: with EOS
  done: jax.Array  # [B] bool
  caches: list[trunk.Cache]


@struct.dataclass
class Blocks:
  """Logits in blocks of the vocabulary, with each block's maximum and logsumexp.

  They show which blocks contain the largest logits, and how likely a sample falls in each block.

  Tokens are the leading axis: with this layout, XLA on CPU reads the matmul's rows at memory
  bandwidth, and its sums over tokens fill the vector registers.
  """

  logits: jax.Array  # [N, C, B] float32
  largest: jax.Array  # [N, B]
  total: jax.Array  # [N, B]: logsumexp

  def of_each_row(self, best: jax.Array) -> jax.Array:
    """Returns the blocks [B, n, C] whose numbers are `best` [B, n]."""
    return jax.vmap(lambda blocks, numbers: blocks[numbers], in_axes=(2, 0))(self.logits, best)


def in_blocks(logits: jax.Array) -> Blocks:
  """Returns logits [V, B] in blocks; the padding of the last block is forbidden."""
  padding = (0, -logits.shape[0] % BLOCK), (0, 0)
  filled = jnp.pad(logits, padding, constant_values=distribution.FORBIDDEN)
  blocks = filled.reshape(-1, BLOCK, logits.shape[1])
  largest = jnp.max(blocks, axis=1)
  total = jnp.log(jnp.sum(jnp.exp(blocks - largest[:, None]), axis=1))
  return Blocks(blocks, largest, largest + total)


def largest_logits(blocks: Blocks, k: int) -> tuple[jax.Array, jax.Array]:
  """Returns the k largest logits [B, k] and their ids [B, k].

  They lie in the k blocks with the largest maxima, so only these are searched.
  """
  _, numbers = jax.lax.top_k(blocks.largest.T, min(k, blocks.largest.shape[0]))
  logits, place = jax.lax.top_k(blocks.of_each_row(numbers).reshape(len(numbers), -1), k)
  return logits, jnp.take_along_axis(numbers, place // BLOCK, axis=1) * BLOCK + place % BLOCK


def keep_top_p(logits: jax.Array, p: float) -> jax.Array:
  """Forbids all but the smallest set of most probable tokens whose probability reaches p.

  Nucleus sampling, Holtzman et al. 2020, section 3.1.

  Args:
    logits: [B, V].
    p: in (0, 1].
  """
  ordered = -jnp.sort(-logits, axis=-1)
  probabilities = jax.nn.softmax(ordered, axis=-1)
  before = jnp.cumsum(probabilities, axis=-1) - probabilities
  threshold = jnp.min(jnp.where(before < p, ordered, jnp.inf), axis=-1, keepdims=True)
  return jnp.where(logits < threshold, distribution.FORBIDDEN, logits)


def by_blocks(keys: jax.Array, blocks: Blocks) -> jax.Array:
  """Samples one token per row [B]: first a block of the vocabulary, then a token of the block.

  The distribution is that of `jax.random.categorical`. That function draws noise for all V entries,
  which takes most of a decode step if V is 50,000. This function draws noise for N + C entries.

  Args:
    keys: random keys [B].
    blocks: the blocks of the logits.
  """
  keys = jax.vmap(jax.random.split)(keys)
  number = jax.vmap(jax.random.categorical)(keys[:, 0], blocks.total.T)
  logits = blocks.of_each_row(number[:, None])[:, 0]
  return number * BLOCK + jax.vmap(jax.random.categorical)(keys[:, 1], logits)


def draw(keys: jax.Array, blocks: Blocks, k: int, top_p: float, greedy: bool) -> jax.Array:
  """Samples one token per row [B].

  Args:
    keys: random keys [B].
    blocks: the blocks of the logits.
    k: sample only from the k largest logits, so that only these need random bits; 0: off.
    top_p: see `keep_top_p`; 1 is off.
    greedy: whether to take the largest logit instead.
  """
  if greedy:
    return largest_logits(blocks, 1)[1][:, 0]
  if not k:
    if top_p < 1:
      rows = blocks.logits.reshape(-1, blocks.logits.shape[2]).T
      blocks = in_blocks(keep_top_p(rows, top_p).T)
    return by_blocks(keys, blocks)
  logits, ids = largest_logits(blocks, k)
  if top_p < 1:
    logits = keep_top_p(logits, top_p)
  drawn = jax.vmap(jax.random.categorical)(keys, logits)
  return jnp.take_along_axis(ids, drawn[:, None], axis=1)[:, 0]


@dataclasses.dataclass(frozen=True)
class DecodeLoop:
  """The inputs of every step of the decode loop."""

  params: trunk.Params
  layers: list[trunk.Params]  # of each block, from `trunk.decode_layers`
  allowed: distribution.Allowed
  keys: jax.Array  # [B], one of each row
  visible: jax.Array  # [B, K] bool: the prompt's tokens, and all later slots
  prompt_length: jax.Array  # [B] tokens of each prompt
  prompt_slots: int  # P
  config: trunk.Config
  dtype: DTypeLike
  min_new_tokens: int
  draw: Callable[[jax.Array, Blocks], jax.Array]  # keys [B], logits -> tokens [B]

  def append(self, state: DecodeState, hidden: jax.Array) -> DecodeState:
    """Adds the token that follows hidden states [B, D]."""
    too_early = jnp.full(len(self.keys), state.step < self.min_new_tokens)
    last = trunk.final_norm(self.params, hidden, self.config)
    logits = distribution.next_logits(self.params, last, too_early, self.allowed, self.config)
    blocks = in_blocks(logits)
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(self.keys, state.step)
    drawn = self.draw(step_keys, blocks).astype(jnp.int32)
    token = jnp.where(state.done, self.config.eos_token_id, drawn)
    chosen = jnp.take_along_axis(logits, token[None], axis=0)[0]
    log_prob = chosen - jax.nn.logsumexp(blocks.total, axis=0)
    return dataclasses.replace(
      state,
      step=state.step + 1,
      token=token,
      ids=state.ids.at[:, state.step].set(token),
      log_probs=state.log_probs.at[:, state.step].set(jnp.where(state.done, 0.0, log_prob)),
      length=state.length + ~state.done,
      done=state.done | self.allowed.ends[token],
    )

  def decode(self, state: DecodeState) -> DecodeState:
    """Runs the model on the last token, and adds the next one."""
    last = state.step - 1
    slot = self.prompt_slots + last
    hidden, caches = trunk.decode_blocks(
      self.layers,
      trunk.embed(self.params, state.token[:, None], self.config, self.dtype),
      self.prompt_length + last,
      slot,
      self.visible & (jnp.arange(self.visible.shape[1]) <= slot)[None],
      state.caches,
      self.config,
    )
    return self.append(dataclasses.replace(state, caches=caches), hidden[:, 0])


def sample(
  inputs: tuple[trunk.Params, distribution.Allowed, jax.Array],
  batch: structs.PromptBatch,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  max_new_tokens: int,
  min_new_tokens: int,
  top_k: int,
  top_p: float,
  greedy: bool,
) -> structs.Responses:
  """Samples a response to every prompt.

  Args:
    inputs: (params, allowed, key); the indices of the rows are folded into the key.
    batch: left-padded prompts [B, P].
    config: the model's shape.
    dtype: the compute type.
    max_new_tokens: T.
    min_new_tokens: EOS may not come before this many tokens.
    top_k: sample from the k most probable tokens; 0 is off.
    top_p: sample from the most probable tokens that together have this probability; 1 is off.
    greedy: whether to take the most probable token instead of sampling.

  Returns:
    Responses [B, T]; log-probs are those of the untruncated distribution.
  """
  params, allowed, key = inputs
  params = jax.tree.map(lambda x: x.astype(dtype), params)
  rows, prompt_slots = batch.ids.shape
  loop = DecodeLoop(
    params=params,
    layers=trunk.decode_layers(params['blocks']),
    allowed=allowed,
    keys=jax.vmap(functools.partial(jax.random.fold_in, key))(batch.index),
    visible=jnp.concatenate([batch.valid, jnp.ones((rows, max_new_tokens), bool)], axis=1),
    prompt_length=jnp.sum(batch.valid, axis=1),
    prompt_slots=prompt_slots,
    config=config,
    dtype=dtype,
    min_new_tokens=min_new_tokens,
    draw=functools.partial(draw, k=min(top_k, config.vocab_size), top_p=top_p, greedy=greedy),
  )
  embedded = trunk.embed(params, batch.ids, config, dtype)
  slots = prompt_slots + max_new_tokens
  hidden, caches = trunk.prefill(params['blocks'], embedded, batch.valid, config, slots)
  empty = DecodeState(
    step=jnp.int32(0),
    token=jnp.zeros(rows, jnp.int32),
    ids=jnp.full((rows, max_new_tokens), config.eos_token_id, jnp.int32),
    log_probs=jnp.zeros((rows, max_new_tokens)),
    length=jnp.zeros(rows, jnp.int32),
    done=jnp.zeros(rows, bool),
    caches=caches,
  )
  unfinished = lambda state: (state.step < max_new_tokens) & ~jnp.all(state.done)
  state = jax.lax.while_loop(unfinished, loop.decode, loop.append(empty, hidden[:, -1]))
  return structs.Responses(state.ids, state.length, state.log_probs)


def sampler(
  config: trunk.Config, sampling: config_lib.Sampling, dtype: DTypeLike
) -> Callable[[Any, structs.PromptBatch], structs.Responses]:
  """Maps `sample` over the devices: (inputs, sharded PromptBatch) -> sharded Responses."""
  statics: dict[str, Any] = {'config': config, 'dtype': dtype}
  return parallel.map_decode(
    sample,
    **statics,
    max_new_tokens=sampling.max_new_tokens,
    min_new_tokens=sampling.min_new_tokens,
    top_k=sampling.top_k,
    top_p=sampling.top_p,
    greedy=sampling.temperature == 0,
  )


def complete_ids(
  model: pretrained.Decoder,
  prompts: Sequence[Sequence[int]],
  sampling: config_lib.Sampling,
  seed: int,
  dtype: DTypeLike = jnp.float32,
  progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
  first: int = 0,
) -> tuple[list[list[int]], np.ndarray]:
  """Samples a response to each of N tokenised prompts.

  Args:
    model: a causal language model.
    prompts: token ids; prompts of similar length share a batch.
    sampling: temperature, length limits, and truncation.
    seed: prompt i uses the key fold_in(key(seed), first + i), regardless of the batches.
    dtype: the compute type.
    progress: wraps the iterable of batches.
    first: the number of earlier prompts sampled with the same seed.

  Returns:
    The ids of each response (with EOS if it was sampled), and their number [N].
  """
  allowed = distribution.allowed_for(
    model.tokenizer, model.config, sampling.temperature or 1.0, model.never_sampled
  )
  params = parallel.replicated(cut_lib.stored(model.params, dtype))
  inputs = (params, parallel.replicate(allowed), jax.random.key(seed))
  run = sampler(model.config, sampling, dtype)
  count = parallel.device_count()
  batch_size = -(-min(sampling.batch_size, len(prompts)) // count) * count
  responses: list[list[int]] = [[]] * len(prompts)
  lengths = np.zeros(len(prompts), np.int32)
  for rows in progress(list(batches.by_length(prompts, batch_size))):
    batch = batches.prompt_batch(
      [prompts[row] for row in rows], first + rows, model.config.eos_token_id
    )
    out = parallel.gather(run(inputs, parallel.shard(batch)))
    for row, ids, length in zip(rows, out.ids, out.length, strict=True):
      responses[row], lengths[row] = ids[:length].tolist(), length
  return responses, lengths


def complete(
  model: pretrained.Decoder,
  prompts: Sequence[str],
  sampling: config_lib.Sampling,
  seed: int = 0,
  dtype: DTypeLike = jnp.float32,
  progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
  first: int = 0,
) -> list[str]:
  """Samples a completion of every prompt text, with its leading space and without EOS.

  The arguments are those of `complete_ids`.

  Raises:
    ValueError: max_new_tokens leaves no room for a prompt.
  """
  limit = model.config.max_position_embeddings - sampling.max_new_tokens
  ids = text.prompt_ids(model.tokenizer, prompts, limit)
  responses, _ = complete_ids(model, ids, sampling, seed, dtype, progress, first)
  ends, skips = model.config.eos_token_ids, sampling.skip_special_tokens
  return [
    text.decode(model.tokenizer, response, ends, skips, begins=not prompt)
    for prompt, response in zip(prompts, responses)
  ]
