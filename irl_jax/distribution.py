"""The one distribution over next tokens that is sampled from, trained, and that KL is measured with.

Dims: N positions, D width, V vocabulary, C tokens of a chunk of it.
"""

import functools

import chex
from flax import struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import structs
from irl_jax.models import gpt_neox

FORBIDDEN = -1e9
# Of float32 logits held at once: few enough to stay in a CPU's cache, elsewhere enough to fill the device.
CHUNK_BYTES = {'cpu': 2**22, 'gpu': 2**28, 'tpu': 2**28}
# Of logits that the backward pass is left, where they are no more than that: on a CPU they are sooner read again than
# computed again. Not tried on accelerators, whose products are faster and whose memory is scarcer.
KEPT_BYTES = {'cpu': 2**28, 'gpu': 0, 'tpu': 0}
UNROLLED = 8  # chunks at most that are compiled one after the other: a loop first fills with zeros what it puts out


@struct.dataclass
class Allowed:
  """Which tokens may come, and how sharply."""

  forbidden: jax.Array  # [V] bool: ids beyond the tokenizer, and its padding
  eos: jax.Array  # [] int32
  temperature: jax.Array  # [] float32 > 0


def allowed_for(tokenizer, config: gpt_neox.GPTNeoXConfig, temperature: float) -> Allowed:
  """The constraints of a tokenizer: never an id that it cannot decode, never its padding."""
  ids = np.arange(config.vocab_size)
  forbidden = ~np.isin(ids, list(tokenizer.get_vocab().values()))  # ids may leave some numbers out
  pad = tokenizer.pad_token_id
  if pad is not None and pad != config.eos_token_id:
    forbidden = forbidden | (ids == pad)
  return Allowed(forbidden, np.int32(config.eos_token_id), np.float32(temperature))


def constrain(
  logits: jax.Array, too_early: jax.Array, allowed: Allowed, first: jax.Array | int = 0
) -> jax.Array:
  """Logits [C, N] of the allowed distribution, of C tokens in a row from `first` on; EOS is forbidden where too_early
  [N].
  """
  tokens = first + jnp.arange(logits.shape[0])
  forbidden = jax.lax.dynamic_slice_in_dim(allowed.forbidden, first, logits.shape[0])
  blocked = forbidden[:, None] | ((tokens == allowed.eos)[:, None] & too_early[None])
  return jnp.where(blocked, FORBIDDEN, logits / allowed.temperature)


def next_logits(
  params: gpt_neox.Params, hidden: jax.Array, too_early: jax.Array, allowed: Allowed
) -> jax.Array:
  """Logits [V, N], float32, of the allowed distribution, given normalised hidden states [N, D]."""
  rows = gpt_neox.output_embedding(params).astype(hidden.dtype)
  return constrain(
    jnp.einsum('vd,nd->vn', rows, hidden, preferred_element_type=jnp.float32), too_early, allowed
  )


def log_probs(
  params: gpt_neox.Params,
  hidden: jax.Array,
  targets: jax.Array,
  too_early: jax.Array,
  allowed: Allowed,
) -> jax.Array:
  """Returns the log-probability [...] of each target [...], nats, given normalised hidden states [..., D].

  No array of positions by vocabulary need exist: forward and backward process the vocabulary in chunks. The forward
  pass keeps the logsumexp of every position, and the logits if they are no more than KEPT_BYTES. Otherwise the backward
  pass computes each chunk's logits again.

  Args:
    params: of the model; its output embedding is read.
    hidden: states that predict the targets, after the final norm.
    targets: token ids.
    too_early: [...] bool, where EOS may not come.
    allowed: the constraints and the temperature.
  """
  chex.assert_equal_shape([targets, too_early])
  chex.assert_shape(hidden, (*targets.shape, None))
  flat = _log_probs(
    hidden.reshape(-1, hidden.shape[-1]),
    gpt_neox.output_embedding(params),
    targets.reshape(-1),
    too_early.reshape(-1),
    allowed,
  )
  return flat.reshape(targets.shape)


def text_log_probs(
  params: gpt_neox.Params,
  batch: structs.TextBatch,
  config: gpt_neox.GPTNeoXConfig,
  dtype: DTypeLike,
  rematerialise: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Returns the log-probability [B, S - 1], nats, of every token after the first, and which of them are valid.

  Nothing is forbidden and the temperature is 1.
  """
  hidden = gpt_neox.hidden_states(params, batch.ids, batch.valid, config, dtype, rematerialise)
  targets = batch.ids[:, 1:]
  anything = Allowed(
    jnp.zeros(config.vocab_size, bool), jnp.int32(config.eos_token_id), jnp.float32(1)
  )
  too_early = jnp.zeros(targets.shape, bool)
  return log_probs(params, hidden[:, :-1], targets, too_early, anything), batch.valid[:, 1:]


def response_log_probs(
  params: gpt_neox.Params,
  hidden: jax.Array,
  ids: jax.Array,
  response_length: int,
  min_new_tokens: int,
  allowed: Allowed,
) -> tuple[jax.Array, jax.Array]:
  """Returns the log-probabilities [B, T] of response tokens, nats, and the states [B, T, D] that predict them.

  Args:
    params: of the model; its output embedding is read.
    hidden: states [B, S, D] of prompts and responses, after the final norm.
    ids: token ids [B, S] of left-padded prompts and their responses.
    response_length: T.
    min_new_tokens: EOS may not come before this many response tokens.
    allowed: the constraints and the temperature that the responses were sampled with.
  """
  hidden = hidden[:, -response_length - 1 : -1]
  targets = ids[:, -response_length:]
  too_early = jnp.broadcast_to(jnp.arange(response_length) < min_new_tokens, targets.shape)
  return log_probs(params, hidden, targets, too_early, allowed), hidden


@jax.custom_vjp
def _log_probs(hidden, embedding, targets, too_early, allowed):
  return _forward(hidden, embedding, targets, too_early, allowed, keep=False)[0]


def _chunks(hidden: jax.Array, vocabulary: int) -> tuple[int, jax.Array]:
  """C, and the numbers of the chunks."""
  chunk = min(max(CHUNK_BYTES[jax.default_backend()] // (4 * hidden.shape[0]), 1), vocabulary)
  return chunk, jnp.arange(-(-vocabulary // chunk))


def _rows_of_chunk(number, chunk, embedding):
  """The tokens [C] of a chunk, and their rows of the embedding [C, D].

  Where C does not divide V, the last chunk reaches back over the one before it.
  """
  first = jnp.minimum(number * chunk, embedding.shape[0] - chunk)
  return first + jnp.arange(chunk), jax.lax.dynamic_slice_in_dim(embedding, first, chunk)


def _chunk_logits(number, chunk, hidden, embedding, too_early, allowed):
  """Logits [C, N] of a chunk; what it shares with the one before it is forbidden in it."""
  tokens, rows = _rows_of_chunk(number, chunk, embedding)
  logits = jnp.einsum('cd,nd->cn', rows, hidden, preferred_element_type=jnp.float32)
  logits = constrain(logits, too_early, allowed, tokens[0])
  return jnp.where((tokens < number * chunk)[:, None], FORBIDDEN, logits)


def _forward_for_backward(hidden, embedding, targets, too_early, allowed):
  size = 4 * hidden.shape[0] * embedding.shape[0]
  return _forward(
    hidden, embedding, targets, too_early, allowed, size <= KEPT_BYTES[jax.default_backend()]
  )


def _forward(hidden, embedding, targets, too_early, allowed, keep: bool):
  """The log-probs, and what `_backward` needs, the logits of every chunk among it where they are to be kept."""
  rows = embedding.astype(hidden.dtype)
  chunk, numbers = _chunks(hidden, rows.shape[0])

  def add(carry, number):
    largest, total = carry
    logits = _chunk_logits(number, chunk, hidden, rows, too_early, allowed)
    larger = jnp.maximum(largest, jnp.max(logits, axis=0))
    total = total * jnp.exp(largest - larger) + jnp.sum(jnp.exp(logits - larger[None]), axis=0)
    return (larger, total), logits if keep else None

  picked = (
    jnp.einsum('nd,nd->n', hidden, rows[targets], preferred_element_type=jnp.float32)
    / allowed.temperature
  )
  blocked = allowed.forbidden[targets] | (too_early & (targets == allowed.eos))
  (largest, total), kept = jax.lax.scan(
    add,
    (picked, jnp.zeros_like(picked)),
    numbers,
    unroll=len(numbers) if len(numbers) <= UNROLLED else 1,
  )
  normaliser = largest + jnp.log(total)
  return (
    jnp.where(blocked, FORBIDDEN, picked) - normaliser,
    (hidden, embedding, targets, too_early, allowed, normaliser, kept),
  )


def _backward(residuals, cotangent):
  """Gradients of hidden [N, D] and embedding [V, D], added up in float32."""
  hidden, embedding, targets, too_early, allowed, normaliser, kept = residuals
  rows = embedding.astype(hidden.dtype)
  chunk, numbers = _chunks(hidden, rows.shape[0])
  scale = (cotangent / allowed.temperature)[None]
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

  def add(carry, of_chunk):
    of_hidden, of_embedding = carry
    number, logits = of_chunk
    tokens, chunk_rows = _rows_of_chunk(number, chunk, rows)
    if logits is None:
      logits = _chunk_logits(number, chunk, hidden, rows, too_early, allowed)
    is_target = (tokens[:, None] == targets[None]) & (logits > FORBIDDEN)
    of_logits = (scale * (is_target - jnp.exp(logits - normaliser[None]))).astype(hidden.dtype)
    of_rows = jax.lax.dynamic_slice_in_dim(of_embedding, tokens[0], chunk) + product(
      'cn,nd->cd', of_logits, hidden
    )
    return (
      of_hidden + product('cn,cd->nd', of_logits, chunk_rows),
      jax.lax.dynamic_update_slice_in_dim(of_embedding, of_rows, tokens[0], 0),
    ), None

  zeros = jnp.zeros_like(hidden, jnp.float32)
  gradients = zeros, jnp.broadcast_to(zeros[:1, :1], embedding.shape)
  (of_hidden, of_embedding), _ = jax.lax.scan(add, gradients, (numbers, kept))
  return of_hidden.astype(hidden.dtype), of_embedding.astype(embedding.dtype), None, None, None


_log_probs.defvjp(_forward_for_backward, _backward)
