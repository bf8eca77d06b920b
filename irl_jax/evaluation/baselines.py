"""What a reward that understands nothing would score: the figures that a recovered reward has to beat.

Each baseline is a function texts -> scores [N], higher = less toxic, fitted on demonstrations at most: never on r*.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, sparse, special

Scorer = Callable[[Sequence[str]], np.ndarray]


def constant(texts: Sequence[str]) -> np.ndarray:
  """Scores every text 0: none is called toxic."""
  return np.zeros(len(texts))


def length(aligned: Sequence[str], base: Sequence[str]) -> Scorer:
  """Scores a text by its number of words, oriented as the demonstrations are: aligned texts score higher on average."""
  orientation = 1.0 if count_words(aligned).mean() >= count_words(base).mean() else -1.0
  return lambda texts: orientation * count_words(texts)


def count_words(texts: Sequence[str]) -> np.ndarray:
  """Words by white space, [N]."""
  return np.array([len(text.split()) for text in texts], dtype=np.float64)


def bag_of_words(aligned: Sequence[str], base: Sequence[str], penalty: float = 1.0) -> Scorer:
  """Scores a text by the words that it holds, whatever their order: a logistic regression of aligned against base.

  Minimises sum log(1 + exp(-y (w x + b))) + penalty / 2 |w|^2 with x the presence of each word of these texts (case
  folded) and y = +1 aligned, -1 base. With non-toxic and toxic texts in their place it is a probe of a data set.

  Raises:
    ValueError: one of the two is empty.
  """
  if not len(aligned) or not len(base):
    raise ValueError(f'{len(aligned)} aligned and {len(base)} base texts: a bag of words needs both')
  vocabulary = {}
  for text in (*aligned, *base):
    for word in words_of(text):
      vocabulary.setdefault(word, len(vocabulary))
  features = presence([*aligned, *base], vocabulary)
  target = np.repeat([1.0, -1.0], [len(aligned), len(base)])

  def loss(parameters):
    weights, bias = parameters[:-1], parameters[-1]
    margin = target * (features @ weights + bias)
    slope = -target * special.expit(-margin)
    gradient = np.append(features.T @ slope + penalty * weights, slope.sum())
    return np.logaddexp(0, -margin).sum() + penalty / 2 * weights @ weights, gradient

  fitted = optimize.minimize(loss, np.zeros(len(vocabulary) + 1), jac=True, method='L-BFGS-B').x
  return lambda texts: presence(texts, vocabulary) @ fitted[:-1] + fitted[-1]


def words_of(text: str) -> list[str]:
  """The distinct words of a text in the order of their first occurrence, case folded, without punctuation."""
  return list(dict.fromkeys(re.findall(r"[\w']+", text.casefold())))


def presence(texts: Sequence[str], vocabulary: dict[str, int]) -> sparse.csr_array:
  """Which words of the vocabulary each text holds: 0 or 1, [N, words]; other words are left out."""
  columns = [[vocabulary[word] for word in words_of(text) if word in vocabulary] for text in texts]
  ends = np.cumsum([0, *map(len, columns)])
  indices = np.array([column for row in columns for column in row], dtype=np.int64)
  return sparse.csr_array((np.ones(indices.size), indices, ends), shape=(len(columns), len(vocabulary)))
