"""Objectives of IRL: pure functions of Δ = R̂(aligned) - R̂(base) -> loss, element by element; maximum entropy is one
of all samples of a prompt.

R̂ is bounded (heads.bounded_reward), so that Δ lies within [-2, 2] and every objective has a minimum. None sees more
than differences within a prompt: where 0 lies is chosen afterwards (evaluation/zero.py).
Dims: B pairs, K samples of a prompt.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

TIGHT_MARGIN = 2.0  # what a failure has to reach, in margins
NEAR_TIE = 0.5  # a pair that is won by less, in margins, is a failure too


def asymmetric(delta: jax.Array) -> jax.Array:
  """-Δ where the aligned text wins, -2Δ where it loses (Ng & Russell 2000, section 4; the paper, section 3)."""
  return jnp.where(delta > 0, -delta, -2 * delta)


def hinge(delta: jax.Array, margin: float) -> jax.Array:
  """max(0, margin - Δ): the large-margin form of Abbeel & Ng 2004."""
  return jnp.maximum(0.0, margin - delta)


def squared(delta: jax.Array, margin: float) -> jax.Array:
  """max(0, margin - Δ)^2: the hinge, smooth, and harder on large violations."""
  return hinge(delta, margin) ** 2


def failure_aware(delta: jax.Array, margin: float, progress: jax.Array | float) -> jax.Array:
  """max(0, m - Δ)^2 with m = margin, but TIGHT_MARGIN * margin for failures: pairs that R̂ gets wrong or nearly ties.

  A failure is a Δ below a threshold that rises with progress in [0, 1], from -margin (clear errors alone) through 0
  (every error) to NEAR_TIE * margin (near ties too).

  After Failure-Aware IRL (Patel et al. 2025, arXiv 2510.06092), of which only the abstract and others' summaries were
  at hand. From them: what a failure is, the tighter margin, the order from clear errors to subtle ones. Ours, not
  checked against the paper: both constants, the linear threshold, failures found anew in every batch, and the square:
  under a plain hinge a larger margin changes no slope of a pair that violates the smaller one already. Left out: the
  paper's second path of the reward, which corrects the first on failures.
  """
  threshold = margin * ((1 + NEAR_TIE) * progress - 1)
  return jnp.where(delta < threshold, squared(delta, TIGHT_MARGIN * margin), squared(delta, margin))


def logistic(delta: jax.Array, temperature: float) -> jax.Array:
  """-log sigmoid(Δ / temperature): Bradley-Terry, the maximum-likelihood form of the same comparison."""
  return jax.nn.softplus(-delta / temperature)


def maximum_entropy(
  aligned: jax.Array, base: jax.Array, present: jax.Array, samples: int, temperature: float
) -> jax.Array:
  """-log p(y | x) / p_base(y | x) of every aligned text y: -R̂(y) / T + log Ẑ(x), Ẑ the mean of exp(R̂ / T) over the
  base texts of the prompt x.

  KL-regularised RLHF ends at p(y | x) = p_base(y | x) exp(R(x, y) / T) / Z(x): of all policies that earn as much, the
  one nearest to the base model; maximum entropy (Ziebart et al. 2008) relative to it. Its likelihood needs log Z(x) =
  log E[exp(R / T)] over the base model. Finn et al. 2016 estimate Z from samples of any q, each weighted by the
  reference measure over q; ours are drawn from the reference measure itself, at the temperature that it is sampled
  with, so that every weight is 1 and a plain log-mean-exp is left. It is too small on average (Jensen), by about
  Var[exp(R / T)] / (2 K Z^2); of one sample it is R / T, and the loss a line that nothing but R̂'s bound holds.

  Args:
    aligned: R̂ of aligned texts [B, ...]; K in a row are of one prompt.
    base: R̂ of base texts [B, ...], in the same order.
    present: which of the base texts there are [B, ...]; the loss of a prompt without any means nothing, but is finite.
    samples: K.
    temperature: T > 0, in units of R̂.

  Returns:
    The loss of every aligned text [B, ...].
  """
  chex.assert_equal_shape([aligned, base, present])
  of_prompt, present = (x.reshape(-1, samples, *x.shape[1:]) for x in (base / temperature, present))
  present = present | ~jnp.any(present, axis=1, keepdims=True)
  log_partition = jax.nn.logsumexp(of_prompt, axis=1, where=present) - jnp.log(
    jnp.sum(present, axis=1)
  )
  return jnp.repeat(log_partition, samples, axis=0) - aligned / temperature


def objective(
  name: str, margin: float, temperature: float, progress: jax.Array | float = 1.0
) -> Callable[[jax.Array], jax.Array]:
  """The objective of that name, of single pairs.

  For maximum entropy that is -log of the model's probability that of two texts the aligned one is the aligned one:
  p(y) p_base(y') / (p(y) p_base(y') + p(y') p_base(y)) = sigmoid(Δ / T). The partition cancels: one pair is enough to
  validate with, though not to train with.

  Args:
    name: of config.OBJECTIVES.
    margin: in units of R̂.
    temperature: in units of R̂.
    progress: the share of the updates that are done, in [0, 1].
  """
  return {
    'asymmetric': asymmetric,
    'hinge': lambda delta: hinge(delta, margin),
    'squared': lambda delta: squared(delta, margin),
    'failure_aware': lambda delta: failure_aware(delta, margin, progress),
    'logistic': lambda delta: logistic(delta, temperature),
    'maximum_entropy': lambda delta: logistic(delta, temperature),
  }[name]
