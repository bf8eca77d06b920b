"""The one distribution over next tokens that is sampled from, trained, and that KL is measured with.

Dims: N positions, D width, V vocabulary.
"""

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from irl_jax.models import gpt_neox

FORBIDDEN = -1e9
CHUNK_BYTES = 2 ** 24  # of float32 logits held at once: a chunk that stays in a last-level cache


@struct.dataclass
class Allowed:
  """Which tokens may come, and how sharply."""

  forbidden: jax.Array    # [V] bool: ids beyond the tokenizer, and its padding
  eos: jax.Array          # [] int32
  temperature: jax.Array  # [] float32 > 0


def allowed_for(tokenizer, config: gpt_neox.GPTNeoXConfig, temperature: float) -> Allowed:
  """The constraints of a tokenizer: never an id that it cannot decode, never its padding."""
  ids = np.arange(config.vocab_size)
  forbidden = ~np.isin(ids, list(tokenizer.get_vocab().values()))  # ids may leave some numbers out
  pad = tokenizer.pad_token_id
  if pad is not None and pad != config.eos_token_id:
    forbidden = forbidden | (ids == pad)
  return Allowed(forbidden, np.int32(config.eos_token_id), np.float32(temperature))


def constrain(logits: jax.Array, too_early: jax.Array, allowed: Allowed) -> jax.Array:
  """Logits [N, V] of the allowed distribution; EOS is forbidden where too_early [N]."""
  is_eos = jnp.arange(logits.shape[-1]) == allowed.eos
  blocked = allowed.forbidden[None] | (is_eos[None] & too_early[:, None])
  return jnp.where(blocked, FORBIDDEN, logits / allowed.temperature)


def log_probs(params: gpt_neox.Params, hidden: jax.Array, targets: jax.Array, too_early: jax.Array,
              allowed: Allowed) -> jax.Array:
  """Log-probability [N] of targets [N] given normalised hidden states [N, D].

  The logit is gathered and the logsumexp subtracted, in rematerialised chunks of positions, so that no [N, V] array
  exists, forward or backward.
  """
  count = hidden.shape[0]
  chunks_needed = -(-4 * count * allowed.forbidden.shape[0] // CHUNK_BYTES)
  chunk = -(-count // chunks_needed)
  padding = -count % chunk
  pad = lambda x: jnp.pad(x, ((0, padding),) + ((0, 0),) * (x.ndim - 1))
  chunks = jax.tree.map(lambda x: pad(x).reshape(-1, chunk, *x.shape[1:]), (hidden, targets, too_early))

  @jax.checkpoint
  def of_chunk(inputs):
    hidden, targets, too_early = inputs
    logits = constrain(gpt_neox.logits(params, hidden), too_early, allowed)
    picked = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    return picked - jax.nn.logsumexp(logits, axis=1)

  return jax.lax.map(of_chunk, chunks).reshape(-1)[:count]
