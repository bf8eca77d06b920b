"""Heads on top of a trunk: PPO's value head, and the bounded reward that IRL recovers.

Dims: B examples, S positions, D width.
"""

import functools

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp

from irl_jax.models import layers
from irl_jax.models import trunk
from irl_jax.runtime import sharding

Params = layers.Params


class ValueHead(nn.Module):
  """trlX's two-layer value head."""

  @nn.compact
  def __call__(self, hidden: jax.Array) -> jax.Array:
    """Returns values [...], float32, of hidden states [..., D]."""
    uniform = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')  # torch.nn.Linear's
    width = hidden.shape[-1]
    inner = nn.Dense(2 * width, kernel_init=uniform, name='inner')(hidden.astype(jnp.float32))
    return nn.Dense(1, kernel_init=uniform, name='value')(nn.relu(inner))[..., 0]


@functools.partial(jax.jit, static_argnums=1)
def init_value_head(key: jax.Array, width: int) -> Params:
  """Draws random parameters of a value head for states of width D."""
  return layers.init(ValueHead(), key, jnp.zeros((1, width)))


def values(head: Params, hidden: jax.Array) -> jax.Array:
  """Returns values [...], float32, of hidden states [..., D]."""
  return sharding.over_rows(functools.partial(layers.apply, ValueHead()), head, hidden)


def init_reward_head(key: jax.Array, width: int) -> Params:
  """Draws a reward head with a random direction."""
  return reward_head_along(jax.random.normal(key, (width,)))


def reward_head_along(direction: jax.Array) -> Params:
  """Returns a reward head with this direction [D].

  The reward does not depend on the norm of the direction, but the speed at which Adam rotates it
  does: each weight moves by about the learning rate. So the head gets weights as small as the
  trunk's (GPT-NeoX's initializer_range, 0.02).
  """
  return {'direction': 0.02 * unit(jnp.asarray(direction, jnp.float32)) * direction.shape[0] ** 0.5}


def unit(direction: jax.Array) -> jax.Array:
  """Scales a direction [D] to Euclidean norm 1."""
  return direction * jax.lax.rsqrt(jnp.sum(direction**2) + 1e-12)


def bounded_reward(head: Params, hidden: jax.Array, config: trunk.Config) -> jax.Array:
  """Returns R̂(h) = <w / |w|, z> / sqrt(D) of the normalised state z (`trunk.normalise`).

  The bound is part of the objective. Without it, the objective of max-margin IRL is unbounded (Ng &
  Russell 2000; Abbeel & Ng 2004 ask for |w| <= 1), and the rewards in the paper's released code
  reached ±15,000. A normalised state has norm at most sqrt(D), so a head of unit norm cannot leave
  [-1, 1].

  Args:
    head: a reward head.
    hidden: states h [..., D].
    config: the trunk's shape.

  Returns:
    rewards [...], float32, within [-1, 1].
  """
  chex.assert_equal_shape_suffix([hidden, head['direction']], 1)
  return trunk.normalise(hidden, config) @ unit(head['direction']) / hidden.shape[-1] ** 0.5


def last_token(hidden: jax.Array, valid: jax.Array) -> jax.Array:
  """Returns the state [B, D] of the last valid token, from right-padded states [B, S, D]."""
  last = jnp.maximum(jnp.sum(valid, axis=1) - 1, 0)
  return jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]


def mean_token(hidden: jax.Array, valid: jax.Array) -> jax.Array:
  """Returns the mean state [B, D] over the valid tokens of hidden states [B, S, D]."""
  weights = valid.astype(jnp.float32)[..., None]
  total = jnp.sum(hidden.astype(jnp.float32) * weights, axis=1)
  return total / jnp.maximum(jnp.sum(weights, axis=1), 1)
