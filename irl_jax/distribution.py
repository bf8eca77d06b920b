"""The next-token distribution that sampling, training and the KL share.

Dims: N positions, D width, V vocabulary, C tokens of a chunk of it, B texts, S length, T response.
"""

from collections.abc import Sequence
import functools
from typing import Any

import chex
from flax import struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np
from transformers import PreTrainedTokenizerBase

from irl_jax import structs
from irl_jax.models import trunk
from irl_jax.models.layers import soft_cap
from irl_jax.runtime import sharding

FORBIDDEN = -1e9  # the logit of a forbidden token
# Bytes of float32 logits in one chunk: small enough to stay in a CPU's cache, and large enough to
# keep accelerators busy.
CHUNK_BYTES = {'cpu': 2**22, 'gpu': 2**28, 'tpu': 2**28}
# Logits up to this size are kept for the backward pass; on a CPU, re-reading them is faster than
# recomputing. Not tried on accelerators, whose matmuls are faster and whose memory is scarcer.
KEPT_BYTES = {'cpu': 2**28, 'gpu': 0, 'tpu': 0}
UNROLLED = 8  # maximum number of chunks to unroll; a loop would zero-fill its outputs first


@struct.dataclass
class Allowed:
  """The tokens that may come next, and the temperature."""

  forbidden: structs.Array  # [V] bool: ids that the tokenizer does not have, and its padding
  ends: structs.Array  # [V] bool: EOS, of which a model may have several
  temperature: structs.Array  # [] float32 > 0


def allowed_for(
  tokenizer: PreTrainedTokenizerBase,
  config: trunk.Config,
  temperature: float,
  never_sampled: Sequence[int] = (),
) -> Allowed:
  """Returns the constraints of a tokenizer: no id that it cannot decode, and no padding.

  Args:
    tokenizer: the model's tokenizer.
    config: the model's shape.
    temperature: the number that logits are divided by.
    never_sampled: additional ids to forbid.
  """
  ids = np.arange(config.vocab_size)
  forbidden = ~np.isin(ids, list(tokenizer.get_vocab().values()))  # its ids may have gaps
  pad, ends = tokenizer.pad_token_id, np.isin(ids, config.eos_token_ids)
  if pad is not None:
    forbidden = forbidden | ((ids == pad) & ~ends)
  forbidden[list(never_sampled)] = True
  return Allowed(forbidden, ends, np.float32(temperature))


def constrain(
  logits: jax.Array, too_early: jax.Array, allowed: Allowed, first: jax.Array | int = 0
) -> jax.Array:
  """Returns logits [C, N] of the allowed distribution, divided by the temperature.

  Args:
    logits: the logits of C consecutive tokens of the vocabulary [C, N].
    too_early: [N] bool, positions where EOS may not come.
    allowed: the constraints and the temperature.
    first: the id of the first of the C tokens.
  """
  of_tokens = lambda x: jax.lax.dynamic_slice_in_dim(x, first, logits.shape[0])[:, None]
  blocked = of_tokens(allowed.forbidden) | (of_tokens(allowed.ends) & too_early[None])
  return jnp.where(blocked, FORBIDDEN, logits / allowed.temperature)


def next_logits(
  params: trunk.Params,
  hidden: jax.Array,
  too_early: jax.Array,
  allowed: Allowed,
  config: trunk.Config,
) -> jax.Array:
  """Returns float32 logits [V, N] of the allowed distribution.

  Args:
    params: the model's parameters; only the output embedding is read.
    hidden: normalised hidden states [N, D].
    too_early: [N] bool, positions where EOS may not come.
    allowed: the constraints and the temperature.
    config: the model's shape.
  """
  rows = trunk.output_embedding(params).astype(hidden.dtype)
  logits = jnp.einsum('vd,nd->vn', rows, hidden, preferred_element_type=jnp.float32)
  return constrain(soft_cap(logits, config.final_logit_softcapping), too_early, allowed)


def log_probs(
  params: trunk.Params,
  hidden: jax.Array,
  targets: jax.Array,
  too_early: jax.Array,
  allowed: Allowed,
  config: trunk.Config,
) -> jax.Array:
  """Returns the log-probability [...] of each target [...], nats, given states [..., D].

  No array of positions by vocabulary is needed: forward and backward process the vocabulary in
  chunks. The forward pass keeps the logsumexp of every position, and the logits if they take at
  most KEPT_BYTES. Otherwise the backward pass recomputes each chunk's logits.

  Args:
    params: the model's parameters; only the output embedding is read.
    hidden: states that predict the targets, after the final norm.
    targets: token ids.
    too_early: [...] bool, where EOS may not come.
    allowed: the constraints and the temperature.
    config: the model's shape.
  """
  chex.assert_equal_shape([targets, too_early])
  chex.assert_shape(hidden, (*targets.shape, None))
  flat = _log_probs(
    config.final_logit_softcapping,
    hidden.reshape(-1, hidden.shape[-1]),
    trunk.output_embedding(params),
    targets.reshape(-1),
    too_early.reshape(-1),
    allowed,
  )
  return flat.reshape(targets.shape)


def text_log_probs(
  params: trunk.Params,
  batch: structs.TextBatch,
  config: trunk.Config,
  dtype: DTypeLike,
  rematerialise: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Returns the log-probability of every token after the first, nats, and which are valid.

  Both are [B, S - 1]. Nothing is forbidden and the temperature is 1.
  """
  hidden = trunk.hidden_states(params, batch.ids, batch.valid, config, dtype, rematerialise)
  targets = batch.ids[:, 1:]
  nothing = jnp.zeros(config.vocab_size, bool)
  anything = Allowed(nothing, nothing, jnp.float32(1))
  too_early = jnp.zeros(targets.shape, bool)
  return log_probs(params, hidden[:, :-1], targets, too_early, anything, config), batch.valid[:, 1:]


def response_log_probs(
  params: trunk.Params,
  hidden: jax.Array,
  ids: jax.Array,
  response_length: int,
  min_new_tokens: int,
  allowed: Allowed,
  config: trunk.Config,
) -> tuple[jax.Array, jax.Array]:
  """Returns the log-probabilities of response tokens, nats, and the states that predict them.

  They are [B, T] and [B, T, D].

  Args:
    params: the model's parameters; only the output embedding is read.
    hidden: states [B, S, D] of prompts and responses, after the final norm.
    ids: token ids [B, S] of left-padded prompts and their responses.
    response_length: T.
    min_new_tokens: EOS may not come before this many response tokens.
    allowed: the constraints and the temperature that the responses were sampled with.
    config: the model's shape.
  """
  hidden = hidden[:, -response_length - 1 : -1]
  targets = ids[:, -response_length:]
  too_early = jnp.broadcast_to(jnp.arange(response_length) < min_new_tokens, targets.shape)
  return log_probs(params, hidden, targets, too_early, allowed, config), hidden


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _log_probs(
  cap: float | None,
  hidden: jax.Array,
  embedding: jax.Array,
  targets: jax.Array,
  too_early: jax.Array,
  allowed: Allowed,
) -> jax.Array:
  """Returns log-probs [N] of targets [N] given hidden [N, D] and the output embedding [V, D]."""
  return _forward(cap, hidden, embedding, targets, too_early, allowed, keep=False)[0]


def _chunks(hidden: jax.Array, vocabulary: int) -> tuple[int, jax.Array]:
  """Returns C, and the numbers of the chunks."""
  rows = hidden.shape[0] // sharding.shares()  # on one device
  chunk = min(max(CHUNK_BYTES[jax.default_backend()] // (4 * rows), 1), vocabulary)
  return chunk, jnp.arange(-(-vocabulary // chunk))


def _rows_of_chunk(
  number: jax.Array, chunk: int, embedding: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the tokens [C] of a chunk, and their rows of the embedding [C, D].

  If C does not divide V, the last chunk overlaps the one before it.
  """
  first = jnp.minimum(number * chunk, embedding.shape[0] - chunk)
  rows = jax.lax.dynamic_slice_in_dim(embedding, first, chunk)
  return first + jnp.arange(chunk), sharding.whole(rows)


def _chunk_logits(
  number: jax.Array,
  chunk: int,
  cap: float | None,
  hidden: jax.Array,
  embedding: jax.Array,
  too_early: jax.Array,
  allowed: Allowed,
) -> jax.Array:
  """Returns the logits [C, N] of a chunk; tokens already in the previous chunk are forbidden."""
  tokens, rows = _rows_of_chunk(number, chunk, embedding)
  logits = jnp.einsum('cd,nd->cn', rows, hidden, preferred_element_type=jnp.float32)
  logits = constrain(soft_cap(logits, cap), too_early, allowed, tokens[0])
  return jnp.where((tokens < number * chunk)[:, None], FORBIDDEN, logits)


def _forward_for_backward(
  cap: float | None,
  hidden: jax.Array,
  embedding: jax.Array,
  targets: jax.Array,
  too_early: jax.Array,
  allowed: Allowed,
) -> tuple[jax.Array, tuple[Any, ...]]:
  """Returns the log-probs and residuals; the logits are among them if KEPT_BYTES allows."""
  size = 4 * hidden.shape[0] * embedding.shape[0] // sharding.shares()
  return _forward(
    cap, hidden, embedding, targets, too_early, allowed, size <= KEPT_BYTES[jax.default_backend()]
  )


def _forward(
  cap: float | None,
  hidden: jax.Array,
  embedding: jax.Array,
  targets: jax.Array,
  too_early: jax.Array,
  allowed: Allowed,
  keep: bool,
) -> tuple[jax.Array, tuple[Any, ...]]:
  """Returns the log-probs [N] and the residuals of `_backward`, with all logits if `keep`."""
  rows = embedding.astype(hidden.dtype)
  chunk, numbers = _chunks(hidden, rows.shape[0])

  # The streaming logsumexp: the sum is rescaled whenever a chunk has a larger maximum.
  def add(
    carry: tuple[jax.Array, jax.Array], number: jax.Array
  ) -> tuple[tuple[jax.Array, jax.Array], jax.Array | None]:
    largest, total = carry
    logits = _chunk_logits(number, chunk, cap, hidden, rows, too_early, allowed)
    larger = jnp.maximum(largest, jnp.max(logits, axis=0))
    total = total * jnp.exp(largest - larger) + jnp.sum(jnp.exp(logits - larger[None]), axis=0)
    return (larger, total), logits if keep else None

  picked_rows = sharding.rows_of(rows, targets, embedding)
  picked = jnp.einsum('nd,nd->n', hidden, picked_rows, preferred_element_type=jnp.float32)
  picked = soft_cap(picked, cap) / allowed.temperature
  blocked = allowed.forbidden[targets] | (too_early & allowed.ends[targets])
  # The target's own logit is a safe first maximum: it is finite, and its sum starts at 0.
  (largest, total), logits = jax.lax.scan(
    add,
    (picked, jnp.zeros_like(picked)),
    numbers,
    unroll=len(numbers) if len(numbers) <= UNROLLED else 1,
  )
  normaliser = largest + jnp.log(total)
  return (
    jnp.where(blocked, FORBIDDEN, picked) - normaliser,
    (hidden, embedding, targets, too_early, allowed, normaliser, logits),
  )


def _backward(
  cap: float | None, residuals: tuple[Any, ...], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, None, None, None]:
  """Returns the gradients of hidden [N, D] and embedding [V, D], summed in float32."""
  hidden, embedding, targets, too_early, allowed, normaliser, kept_logits = residuals
  rows = embedding.astype(hidden.dtype)
  chunk, numbers = _chunks(hidden, rows.shape[0])
  scale = (cotangent / allowed.temperature)[None]
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

  # The gradient of a log-softmax: one at the target, minus the probabilities. Each chunk's rows of
  # the embedding's gradient are added in place, and so written once.
  def add(
    carry: tuple[jax.Array, jax.Array], chunk_inputs: tuple[jax.Array, jax.Array | None]
  ) -> tuple[tuple[jax.Array, jax.Array], None]:
    d_hidden, d_embedding = carry
    number, logits = chunk_inputs
    tokens, chunk_rows = _rows_of_chunk(number, chunk, rows)
    if logits is None:
      logits = _chunk_logits(number, chunk, cap, hidden, rows, too_early, allowed)
    is_target = (tokens[:, None] == targets[None]) & (logits > FORBIDDEN)
    d_logits = scale * (is_target - jnp.exp(logits - normaliser[None]))
    if cap is not None:  # the derivative of c tanh(x / c) is 1 - tanh(x / c)^2
      d_logits *= 1 - jnp.square(logits * (allowed.temperature / cap))
    d_logits = d_logits.astype(hidden.dtype)
    d_rows = jax.lax.dynamic_slice_in_dim(d_embedding, tokens[0], chunk) + product(
      'cn,nd->cd', d_logits, hidden
    )
    d_hidden += product('cn,cd->nd', d_logits, chunk_rows)
    d_embedding = jax.lax.dynamic_update_slice_in_dim(d_embedding, d_rows, tokens[0], 0)
    return (d_hidden, sharding.as_placed(d_embedding)), None

  zeros = jnp.zeros_like(hidden, jnp.float32)
  start = zeros, jnp.broadcast_to(zeros[:1, :1], embedding.shape)
  (d_hidden, d_embedding), _ = jax.lax.scan(add, start, (numbers, kept_logits))
  return d_hidden.astype(hidden.dtype), d_embedding.astype(embedding.dtype), None, None, None


_log_probs.defvjp(_forward_for_backward, _backward)
