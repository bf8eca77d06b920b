"""A posterior over rounds of evidence, and its control: the same pairs in random order.

A posterior narrows on any pairs (posterior.py): its width shows how many there were. A reward
differs from noise in how well it orders unseen pairs, and in its evidence against a reward of 0.
Dims: N training pairs, M unseen pairs, T texts, D width, C coins.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from bayesian import posterior as posterior_lib
from irl_jax import confidence
from irl_jax.evaluation import agreement
from irl_jax.evaluation import calibration
from irl_jax.evaluation import metrics
from irl_jax.evaluation.confounds import NO_TRUE_REWARD

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)


@dataclasses.dataclass(frozen=True)
class Unseen:
  """The data that a posterior is evaluated on; features are standardised."""

  pairs: np.ndarray  # [M, D]: features of the aligned text minus those of the base text
  texts: np.ndarray  # [T, D]
  true_reward: np.ndarray | None  # [T]: r* of texts, for reporting only; None: not known


def describe(
  posterior: posterior_lib.Gaussian, prior: posterior_lib.Gaussian, seen: np.ndarray, unseen: Unseen
) -> dict[str, Any]:
  """Measures the posterior after the pairs seen [N, D].

  Returns:
    pairs: N.
    trace, log_determinant: trace and log-determinant of the covariance.
    log_evidence: nats per seen pair; a reward of 0 has log 1/2 = -.693.
    accuracy: share of the unseen pairs whose aligned text has the higher mean reward, with its
      Wilson 95 % interval accuracy_low to accuracy_high.
    log_likelihood: log-likelihood of the unseen pairs, nats per pair, averaged over the posterior.
    log_likelihood_mode: the same at the posterior's mode.
    aleatoric, epistemic: mean over the unseen pairs, nats (`posterior.preference`).
    auroc: AUROC of the mean reward of the texts against r*; None with a 'why' if r* is not known.
  """
  mean, variance = posterior_lib.reward(posterior, unseen.pairs)
  predicted = posterior_lib.preference(mean, variance)
  low, high = confidence.wilson(int(np.sum(mean > 0)), mean.size)
  return metrics.collect(
    {
      'pairs': len(seen),
      'trace': np.trace(posterior.covariance),
      'log_determinant': posterior.log_determinant,
      'log_evidence': posterior_lib.log_evidence(seen, prior, posterior) / len(seen),
      'accuracy': np.mean((mean > 0) + 0.5 * (mean == 0)),
      'accuracy_low': low,
      'accuracy_high': high,
      'log_likelihood': np.mean(np.log(predicted.probability)),
      'log_likelihood_mode': posterior_lib.log_likelihood(posterior.mean, unseen.pairs) / mean.size,
      'aleatoric': predicted.aleatoric.mean(),
      'epistemic': predicted.epistemic.mean(),
      'auroc': NO_TRUE_REWARD
      if unseen.true_reward is None
      else agreement.auroc(unseen.texts @ posterior.mean, unseen.true_reward < 0),
    }
  )


def ends(count: int, shares: Sequence[float] = SHARES) -> list[int]:
  """Returns how many of `count` pairs have been seen after each round."""
  return [max(int(share * count), 1) for share in shares]


def rounds(
  pairs: np.ndarray, prior: posterior_lib.Gaussian, unseen: Unseen, shares: Sequence[float] = SHARES
) -> tuple[list[dict[str, Any]], posterior_lib.Gaussian]:
  """Returns the results after each round of the pairs [N, D], and the last posterior.

  Every round starts from the prior and sees all pairs so far. In exact inference this equals making
  the posterior of a round the prior of the next. Under Laplace it is one approximation, at the mode
  of all pairs. `chain` adds up the errors of all rounds and depends on the order of the pairs.
  """
  posteriors = [posterior_lib.laplace(pairs[:end], prior) for end in ends(len(pairs), shares)]
  return [
    describe(posterior, prior, pairs[:end], unseen)
    for end, posterior in zip(ends(len(pairs), shares), posteriors)
  ], posteriors[-1]


def chain(
  pairs: np.ndarray, prior: posterior_lib.Gaussian, shares: Sequence[float] = SHARES
) -> posterior_lib.Gaussian:
  """Returns the posterior of pairs [N, D] if that of every round is the prior of the next."""
  stops = ends(len(pairs), shares)
  for first, last in zip([0, *stops], stops):
    prior = posterior_lib.laplace(pairs[first:last], prior)
  return prior


def apart(first: posterior_lib.Gaussian, second: posterior_lib.Gaussian) -> float:
  """Returns how far the first mean lies from the second, in standard deviations of the second.

  It is the root mean square over D.
  """
  gap = first.mean - second.mean
  return float(np.sqrt(gap @ second.precision @ gap / gap.size))


def over_coins(runs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
  """Averages the results of every round over C coins; 'range' is [lowest, highest]."""
  result = []
  for rows in zip(*runs):
    known = {
      name: [row[name] for row in rows]
      for name in rows[0]
      if name not in ('why', 'pairs', 'accuracy_low', 'accuracy_high') and rows[0][name] is not None
    }
    result.append(
      {
        'pairs': rows[0]['pairs'],
        **{name: float(np.mean(values)) for name, values in known.items()},
        'range': {name: [min(values), max(values)] for name, values in known.items()},
      }
    )
  return result


def trust(posterior: posterior_lib.Gaussian, pairs: np.ndarray, seed: int) -> dict[str, Any]:
  """Measures how reliable the posterior's predictions of unseen pairs [M, D] are.

  Returns:
    calibration: `calibration.calibration_errors` of the probability that the first text is the
      aligned one; a coin decides which text comes first.
    accuracy_by_epistemic, accuracy_by_aleatoric: accuracy on the half of the pairs with less
      uncertainty, and on the half with more.
  """
  mean, variance = posterior_lib.reward(posterior, pairs)
  predicted = posterior_lib.preference(mean, variance)
  first = np.random.default_rng(seed).random(mean.size) < 0.5
  right = (mean > 0) + 0.5 * (mean == 0)
  halves = lambda uncertainty: [
    float(np.mean(right[half])) for half in np.array_split(np.argsort(uncertainty), 2)
  ]
  return {
    'calibration': calibration.calibration_errors(
      np.where(first, predicted.probability, 1 - predicted.probability), first, seed
    ),
    'accuracy_by_epistemic': halves(predicted.epistemic),
    'accuracy_by_aleatoric': halves(predicted.aleatoric),
  }


def compare(
  pairs: np.ndarray, prior: posterior_lib.Gaussian, unseen: Unseen, coins: int, seed: int
) -> tuple[dict[str, Any], posterior_lib.Gaussian]:
  """Measures the pairs [N, D], in the order given, and C controls.

  Returns:
    Results, and the posterior of all pairs. The results are: prior (trace, log_determinant);
    rounds ('true' and 'shuffled' results of each); chained (results of `chain` after all pairs, and
    how far apart it lies); trust (of the posterior of all pairs, and of the first control's).
  """
  rows, posterior = rounds(pairs, prior, unseen)
  controls = [
    rounds(posterior_lib.flipped(pairs, seed + coin), prior, unseen) for coin in range(coins)
  ]
  chained = chain(pairs, prior)
  return {
    'prior': {'trace': float(np.trace(prior.covariance)), 'log_determinant': prior.log_determinant},
    'rounds': [
      {'true': row, 'shuffled': control}
      for row, control in zip(rows, over_coins([control for control, _ in controls]))
    ],
    'chained': describe(chained, prior, pairs, unseen) | {'apart': apart(chained, posterior)},
    'trust': {
      'true': trust(posterior, unseen.pairs, seed),
      'shuffled': trust(controls[0][1], unseen.pairs, seed),
    },
  }, posterior
