"""Objectives of IRL: losses of the recovered reward R̂ on demonstrations, and the table of them.

R̂ is bounded (`heads.bounded_reward`), so Δ = R̂(aligned) - R̂(base) lies within [-2, 2] and every
objective has a minimum. All of them depend only on differences within a prompt. Where 0 lies is
chosen afterwards (evaluation/zero.py).

Most objectives are functions of the Δ of one pair. Maximum entropy reads all samples of a prompt
(a group) at once. `losses` calls both kinds alike.
Dims: B pairs, K pairs of a group.
"""

from collections.abc import Callable
import dataclasses
from typing import Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import config as config_lib

# Δ of pairs [B, ...]: a traced array in an update, a NumPy array in validation. Validation must
# stay in NumPy, because XLA's division differs in the last bit, which can change the selected
# update.
Delta = jax.Array | np.ndarray

TIGHT_MARGIN = 2.0  # margin of failures, as a multiple of config.irl.margin
NEAR_TIE = 0.5  # a pair won by less than this multiple of the margin also counts as a failure


def asymmetric(delta: Delta) -> jax.Array:
  """Returns -Δ where the aligned text wins and -2Δ where it loses.

  Ng & Russell 2000, section 4; the paper, section 3.
  """
  return jnp.where(delta > 0, -delta, -2 * delta)


def hinge(delta: Delta, margin: float) -> jax.Array:
  """Returns max(0, margin - Δ): the large-margin form of Abbeel & Ng 2004."""
  return jnp.maximum(0.0, margin - delta)


def squared(delta: Delta, margin: float) -> jax.Array:
  """Returns max(0, margin - Δ)^2: a smooth hinge that weighs large violations more."""
  return hinge(delta, margin) ** 2


def failure_aware(delta: Delta, margin: float, progress: jax.Array | float) -> jax.Array:
  """Returns max(0, m - Δ)^2, with m = margin, or TIGHT_MARGIN * margin for failures.

  A failure is a pair that R̂ orders wrongly or nearly ties: Δ is below a threshold. The threshold
  rises with progress in [0, 1]: from -margin (only clear errors) through 0 (every error) to
  NEAR_TIE * margin (also near ties).

  After Failure-Aware IRL (Patel et al. 2025, arXiv 2510.06092). We had access only to its abstract
  and to summaries by others. From them we took the definition of a failure, the tighter margin, and
  the order from clear errors to subtle ones. These choices are ours and not checked against the
  paper: both constants, the linear threshold, the square, and that every batch determines its
  failures again. (With a plain hinge, a larger margin does not change the slope of a pair that
  already violates the smaller one.) The paper's second reward path, which corrects the first on
  failures, is left out.
  """
  threshold = margin * ((1 + NEAR_TIE) * progress - 1)
  return jnp.where(delta < threshold, squared(delta, TIGHT_MARGIN * margin), squared(delta, margin))


def logistic(delta: Delta, temperature: float) -> jax.Array:
  """Returns -log sigmoid(Δ / temperature): Bradley-Terry, the likelihood of the comparison."""
  return jax.nn.softplus(-delta / temperature)


def maximum_entropy(
  aligned: jax.Array, base: jax.Array, present: jax.Array, group_size: int, temperature: float
) -> jax.Array:
  """Returns -log p(y | x) / p_base(y | x) of every aligned text y.

  This is -R̂(y) / T + log Ẑ(x). Ẑ is the mean of exp(R̂ / T) over the base texts of the prompt x.

  KL-regularised RLHF ends at p(y | x) = p_base(y | x) exp(R(x, y) / T) / Z(x): of all policies with
  the same mean reward, the one nearest to the base model. This is maximum entropy (Ziebart et al.
  2008) relative to the base model. Its likelihood needs log Z(x) = log E[exp(R / T)] over the base
  model.

  Finn et al. 2016 estimate Z from samples of any q, each weighted by the reference measure over q.
  Our samples come from the reference measure itself, at its own temperature. Every weight is then
  1, and a plain log-mean-exp remains. It is too small on average (Jensen), by about
  Var[exp(R / T)] / (2 K Z^2). With one sample it is R / T: the loss is linear, and only the bound
  of R̂ limits it.

  Args:
    aligned: R̂ of aligned texts [B, ...]; every K consecutive texts share a prompt.
    base: R̂ of base texts [B, ...], in the same order.
    present: which of the base texts exist [B, ...]. A prompt without base texts gets a
      finite, meaningless loss.
    group_size: K.
    temperature: T > 0, in units of R̂.

  Returns:
    The loss of every aligned text [B, ...].
  """
  chex.assert_equal_shape([aligned, base, present])
  of_prompt, present = (
    x.reshape(-1, group_size, *x.shape[1:]) for x in (base / temperature, present)
  )
  # A logsumexp over nothing is -inf, and its gradient nan: if there is no base text, treat all as
  # present.
  present = present | ~jnp.any(present, axis=1, keepdims=True)
  log_partition = jax.nn.logsumexp(of_prompt, axis=1, where=present) - jnp.log(
    jnp.sum(present, axis=1)
  )
  return jnp.repeat(log_partition, group_size, axis=0) - aligned / temperature


class GroupLoss(Protocol):
  """The signature that all objectives share; a loss of single pairs is wrapped to match it."""

  def __call__(
    self,
    aligned: jax.Array,
    base: jax.Array,
    present: jax.Array,
    irl: config_lib.IRL,
    progress: jax.Array | float,
  ) -> jax.Array:
    """Returns the loss of every pair; arguments as in `losses`."""


# Δ [B, ...], hyper-parameters, progress -> the loss of every pair [B, ...]
PairLoss = Callable[[Delta, config_lib.IRL, jax.Array | float], jax.Array]


@dataclasses.dataclass(frozen=True)
class Objective:
  """The loss that training minimises, and the loss of single pairs that validation reports."""

  training: GroupLoss
  validation: PairLoss


def _pairwise(of_pair: PairLoss) -> Objective:
  """Wraps a loss of single pairs in the signature that all objectives share."""

  def training(
    aligned: jax.Array,
    base: jax.Array,
    present: jax.Array,
    irl: config_lib.IRL,
    progress: jax.Array | float,
  ) -> jax.Array:
    del present  # a pair without a base text has no weight
    return of_pair(aligned - base, irl, progress)

  return Objective(training, of_pair)


# `config.COMPARES_GROUPS` has the same names, and says which of them need groups. A single pair
# can validate maximum entropy but not train it. The model's probability that the aligned text of a
# pair is the aligned one is p(y) p_base(y') / (p(y) p_base(y') + p(y') p_base(y)) = sigmoid(Δ / T):
# the partition function cancels.
OBJECTIVES = {
  'asymmetric': _pairwise(lambda delta, irl, progress: asymmetric(delta)),
  'hinge': _pairwise(lambda delta, irl, progress: hinge(delta, irl.margin)),
  'squared': _pairwise(lambda delta, irl, progress: squared(delta, irl.margin)),
  'failure_aware': _pairwise(
    lambda delta, irl, progress: failure_aware(delta, irl.margin, progress)
  ),
  'logistic': _pairwise(lambda delta, irl, progress: logistic(delta, irl.temperature)),
  'maximum_entropy': Objective(
    training=lambda aligned, base, present, irl, progress: maximum_entropy(
      aligned, base, present, irl.group_size, irl.temperature
    ),
    validation=lambda delta, irl, progress: logistic(delta, irl.temperature),
  ),
}


def losses(
  aligned: jax.Array,
  base: jax.Array,
  present: jax.Array,
  irl: config_lib.IRL,
  progress: jax.Array | float,
  label: jax.Array | None = None,
  aligned_present: jax.Array | None = None,
) -> jax.Array:
  """Returns the training loss [B, ...] of every pair, by the objective that `irl` names.

  With a label p, it is p × the loss of the pair + (1 - p) × the loss of the pair with its two texts
  exchanged. Of Bradley-Terry this is the cross-entropy with p. Of maximum entropy, the base text is
  then the chosen one, and the aligned texts are the samples that it is compared with.

  Args:
    aligned: R̂ of the aligned texts [B, ...]; every `irl.group_size` consecutive texts share a
      prompt.
    base: R̂ of the base texts [B, ...], in the same order.
    present: which of the base texts exist [B, ...].
    irl: hyper-parameters.
    progress: the share of the updates that are done, in [0, 1].
    label: how likely the aligned text is the better one [B, ...], in [0, 1]; None: it is. Must be 1
      where there is no base text, or none to compare it with.
    aligned_present: which of the aligned texts exist [B, ...]; None: all that `present` has.
  """
  training = OBJECTIVES[irl.objective].training
  loss = training(aligned, base, present, irl, progress)
  if label is None:
    return loss
  there = present if aligned_present is None else aligned_present
  return label * loss + (1 - label) * training(base, aligned, there, irl, progress)


def pair_losses(
  delta: Delta, irl: config_lib.IRL, progress: jax.Array | float = 1.0, label: Delta | None = None
) -> jax.Array:
  """Returns the validation loss [...] of single pairs by their Δ [...], by the objective of `irl`.

  A label [...] enters as in `losses`.
  """
  of_pair = OBJECTIVES[irl.objective].validation
  loss = of_pair(delta, irl, progress)
  return loss if label is None else loss * label + of_pair(-delta, irl, progress) * (1 - label)
