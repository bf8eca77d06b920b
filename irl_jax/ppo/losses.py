"""The mathematics of PPO on whole responses: pure functions of arrays.

Dims: B responses, T response tokens.
"""

import chex
import jax
import jax.numpy as jnp

from irl_jax.runtime import collectives


def token_rewards(
  score: jax.Array,
  log_probs: jax.Array,
  reference_log_probs: jax.Array,
  mask: jax.Array,
  kl_coefficient: jax.Array,
) -> jax.Array:
  """Returns the reward [B, T] of every token (Ziegler et al. 2019, equation 2).

  r_t = -beta (log pi(y_t) - log pi_ref(y_t)), plus the score at the last token.

  Args:
    score: the scores of whole responses [B].
    log_probs: the log-probs under the policy [B, T].
    reference_log_probs: the log-probs under the reference [B, T].
    mask: response tokens [B, T], at least one per row.
    kl_coefficient: beta [].
  """
  chex.assert_rank([score, log_probs, reference_log_probs, mask], [1, 2, 2, 2])
  last = jnp.sum(mask, axis=1) - 1
  is_last = jnp.arange(mask.shape[1])[None] == last[:, None]
  penalty = -kl_coefficient * (log_probs - reference_log_probs)
  return jnp.where(mask, penalty, 0.0) + jnp.where(is_last, score[:, None], 0.0)


def advantages_and_returns(
  rewards: jax.Array, values: jax.Array, mask: jax.Array, discount: float, gae_lambda: float
) -> tuple[jax.Array, jax.Array]:
  """Returns advantages and returns [B, T] by generalised advantage estimation.

  Schulman et al. 2016, equation 16:
  A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V_{t+1} - V_t; the value after the
  last token is 0.
  """
  chex.assert_equal_shape([rewards, values, mask])
  values = jnp.where(mask, values, 0.0)
  next_values = jnp.concatenate([values[:, 1:], jnp.zeros_like(values[:, :1])], axis=1)
  deltas = jnp.where(mask, rewards + discount * next_values - values, 0.0)

  def add(carry: jax.Array, delta: jax.Array) -> tuple[jax.Array, jax.Array]:
    carry = delta + discount * gae_lambda * carry
    return carry, carry

  _, advantages = jax.lax.scan(add, jnp.zeros_like(rewards[:, 0]), deltas.T, reverse=True)
  advantages = advantages.T
  return advantages, advantages + values


def whiten(values: jax.Array, mask: jax.Array, axis_name: str | None) -> jax.Array:
  """Scales values [B, T] to mean 0 and variance 1 over the masked tokens of all devices."""
  mean = collectives.global_mean(values, mask, axis_name)
  variance = collectives.global_mean((values - mean) ** 2, mask, axis_name)
  return (values - mean) * jax.lax.rsqrt(variance + 1e-8)


def policy_loss(
  log_probs: jax.Array, old_log_probs: jax.Array, advantages: jax.Array, clip: float
) -> tuple[jax.Array, jax.Array]:
  """Returns the clipped surrogate loss per token [B, T], and which tokens were clipped [B, T].

  Schulman et al. 2017, equation 7: -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A).
  """
  chex.assert_equal_shape([log_probs, old_log_probs, advantages])
  ratio = jnp.exp(log_probs - old_log_probs)
  free, clipped = -advantages * ratio, -advantages * jnp.clip(ratio, 1 - clip, 1 + clip)
  return jnp.maximum(free, clipped), clipped > free


def value_loss(
  values: jax.Array, old_values: jax.Array, returns: jax.Array, clip: float
) -> tuple[jax.Array, jax.Array]:
  """Returns half the clipped squared error per token [B, T], and which tokens were clipped [B, T].

  1/2 max((V - R)^2, (V_old + clip(V - V_old) - R)^2), as in OpenAI's PPO (baselines/ppo2).
  """
  chex.assert_equal_shape([values, old_values, returns])
  clipped_values = old_values + jnp.clip(values - old_values, -clip, clip)
  free, clipped = (values - returns) ** 2, (clipped_values - returns) ** 2
  return 0.5 * jnp.maximum(free, clipped), clipped > free
