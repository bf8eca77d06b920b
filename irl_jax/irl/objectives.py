"""Objectives of max-margin IRL: pure functions of Δ = R̂(aligned) - R̂(base) -> loss, element by element.

R̂ is bounded (heads.bounded_reward), so that Δ lies within [-2, 2] and every objective has a minimum. None sees more
than differences: where 0 lies is chosen afterwards (evaluation/zero.py).
"""

from typing import Callable

import jax
import jax.numpy as jnp


def asymmetric(delta: jax.Array) -> jax.Array:
  """-Δ where the aligned text wins, -2Δ where it loses (Ng & Russell 2000, section 4; the paper, section 3)."""
  return jnp.where(delta > 0, -delta, -2 * delta)


def hinge(delta: jax.Array, margin: float) -> jax.Array:
  """max(0, margin - Δ): the large-margin form of Abbeel & Ng 2004."""
  return jnp.maximum(0.0, margin - delta)


def squared(delta: jax.Array, margin: float) -> jax.Array:
  """max(0, margin - Δ)^2: the hinge, smooth, and harder on large violations."""
  return hinge(delta, margin) ** 2


def logistic(delta: jax.Array, temperature: float) -> jax.Array:
  """-log sigmoid(Δ / temperature): Bradley-Terry, the maximum-likelihood form of the same comparison."""
  return jax.nn.softplus(-delta / temperature)


def objective(name: str, margin: float, temperature: float) -> Callable[[jax.Array], jax.Array]:
  """The objective of that name, with its constant bound."""
  return {'asymmetric': asymmetric, 'hinge': lambda delta: hinge(delta, margin),
          'squared': lambda delta: squared(delta, margin),
          'logistic': lambda delta: logistic(delta, temperature)}[name]
