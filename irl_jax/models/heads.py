"""What stands on top of a trunk: the value of PPO, and the bounded reward that IRL recovers.

Dims: B examples, D width.
"""

import functools

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp


class ValueHead(nn.Module):
  """trlX's two-layer value head: hidden states [..., D] -> values [...], float32."""

  @nn.compact
  def __call__(self, hidden):
    uniform = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')  # torch.nn.Linear's
    inner = nn.relu(
      nn.Dense(2 * hidden.shape[-1], kernel_init=uniform, name='inner')(hidden.astype(jnp.float32))
    )
    return nn.Dense(1, kernel_init=uniform, name='value')(inner)[..., 0]


@functools.partial(jax.jit, static_argnums=1)
def init_value_head(key: jax.Array, width: int) -> dict:
  """Random parameters of a value head."""
  return ValueHead().init(key, jnp.zeros((1, width)))['params']


def values(head: dict, hidden: jax.Array) -> jax.Array:
  """Values [...], float32, of hidden states [..., D]."""
  return ValueHead().apply({'params': head}, hidden)


def init_reward_head(key: jax.Array, width: int) -> dict:
  """A random direction."""
  return reward_head_along(jax.random.normal(key, (width,)))


def reward_head_along(direction: jax.Array) -> dict:
  """A head of that direction [D].

  Its length does not change the reward, but how fast Adam turns it: each weight moves by about the learning rate, so
  the head is made as small as the trunk's weights are (GPT-NeoX's initializer_range).
  """
  return {'direction': 0.02 * unit(jnp.asarray(direction, jnp.float32)) * direction.shape[0] ** 0.5}


def normalise(hidden: jax.Array, epsilon: float) -> jax.Array:
  """Parameter-free layer norm of hidden states [..., D], float32: mean 0 and variance 1 over the width."""
  hidden = hidden.astype(jnp.float32)
  centred = hidden - jnp.mean(hidden, -1, keepdims=True)
  return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + epsilon)


def unit(direction: jax.Array) -> jax.Array:
  """Direction [D] scaled to Euclidean norm 1."""
  return direction * jax.lax.rsqrt(jnp.sum(direction**2) + 1e-12)


def bounded_reward(head: dict, hidden: jax.Array, epsilon: float) -> jax.Array:
  """R̂ = <w / |w|, normalise(h)> / sqrt(D) of states h [..., D] -> [...], within [-1, 1].

  The bound is part of the objective: without it max-margin IRL has no maximum (Ng & Russell 2000; Abbeel & Ng 2004
  ask for |w| <= 1), and rewards of the paper's released code ran to +-15,000. A normalised state has norm at most
  sqrt(D), so that a unit-norm head cannot leave [-1, 1].
  """
  chex.assert_equal_shape_suffix([hidden, head['direction']], 1)
  return normalise(hidden, epsilon) @ unit(head['direction']) / hidden.shape[-1] ** 0.5


def last_token(hidden: jax.Array, valid: jax.Array) -> jax.Array:
  """State [B, D] of the last valid token of right-padded hidden states [B, S, D]."""
  last = jnp.maximum(jnp.sum(valid, axis=1) - 1, 0)
  return jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]


def mean_token(hidden: jax.Array, valid: jax.Array) -> jax.Array:
  """Mean state [B, D] over the valid tokens of hidden states [B, S, D]."""
  weights = valid.astype(jnp.float32)[..., None]
  return jnp.sum(hidden.astype(jnp.float32) * weights, axis=1) / jnp.maximum(
    jnp.sum(weights, axis=1), 1
  )
