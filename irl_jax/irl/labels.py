"""Labels of pairs: how likely the aligned text of a pair is the better one, prefix by prefix.

The source of a text is one label: the aligned text is better, with probability 1. An audit has both
models, and so a second one: the log-ratio log π_aligned - log π_base of a text. At the optimum of
KL-regularised RLHF it is the reward over the KL coefficient, up to a constant of each prompt
(Rafailov et al. 2023, section 4). A policy is not at that optimum, so its log-ratio also has what
else it learned.

Dims: N pairs, L tokens of the longer text of a pair, B pairs of a minibatch, S padded length.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
import scipy

Labels = Sequence[np.ndarray]  # N arrays [L], each within [0, 1]

STEEPNESS = 4.0  # of the sigmoid, per standard deviation of the differences


def differences(aligned: Sequence[ArrayLike], base: Sequence[ArrayLike]) -> list[np.ndarray]:
  """Returns how much higher the log-ratio of the aligned text is, for every prefix: N arrays [L].

  A text that has ended keeps the log-ratio of its whole, so the last entry is that of both whole
  texts.

  Args:
    aligned: cumulative log-ratios of N aligned texts, nats, one per token.
    base: the same of the base texts.
  """
  result = []
  for of_aligned, of_base in zip(aligned, base, strict=True):
    length = max(np.size(of_aligned), np.size(of_base))
    both = (np.pad(x, (0, length - np.size(x)), mode='edge') for x in (of_aligned, of_base))
    result.append(np.subtract(*both))
  return result


def deviation(of_pairs: Sequence[np.ndarray]) -> float:
  """Returns the standard deviation of the whole texts' differences; 1 if none differs."""
  wholes = [difference[-1] for difference in of_pairs]
  return (float(np.std(wholes)) if wholes else 0.0) or 1.0


def from_differences(of_pairs: Sequence[np.ndarray], label: str, scale: float) -> Labels:
  """Returns the labels sigmoid(STEEPNESS · difference / scale), or the mean of that and 1.

  Args:
    of_pairs: the differences of N pairs.
    label: 'likelihood', or 'mixed': half from the likelihood and half from the source.
    scale: the deviation of the training pairs' differences, nats.
  """
  soft = [scipy.special.expit(STEEPNESS * difference / scale) for difference in of_pairs]
  mixed = label == 'mixed'
  return [((1 + one) / 2 if mixed else one).astype(np.float32) for one in soft]


def padded(labels: Labels, length: int) -> np.ndarray:
  """Returns labels [B, S], of every prefix; the last column is that of the whole texts."""
  short = [one[-1:] if length == 1 else one for one in labels]
  return np.stack([np.pad(one, (0, length - len(one)), mode='edge') for one in short])


def of_whole_texts(labels: Labels) -> np.ndarray:
  """Returns the labels [N] of the whole texts."""
  return np.array([one[-1] for one in labels], np.float32)
