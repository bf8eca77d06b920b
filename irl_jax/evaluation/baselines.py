"""Baselines: simple rewards that a recovered reward has to beat.

Each is a function texts -> scores [N], higher = less toxic, fitted at most on demonstrations, never
on r*.
"""

from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
import re

import numpy as np
import scipy
from transformers import PreTrainedTokenizerBase

from irl_jax.data import text as text_lib
from irl_jax.evaluation import likelihoods

Scorer = Callable[[Sequence[str]], np.ndarray]
PromptedScorer = Callable[[Sequence[likelihoods.Prompted]], np.ndarray]


def constant(texts: Sequence[str]) -> np.ndarray:
  """Scores every text 0, so that none is called toxic."""
  return np.zeros(len(texts))


def length(aligned: Sequence[str], base: Sequence[str]) -> Scorer:
  """Scores a text by its number of words, signed so that aligned texts score higher on average."""
  orientation = 1.0 if count_words(aligned).mean() >= count_words(base).mean() else -1.0
  return lambda texts: orientation * count_words(texts)


def count_words(texts: Sequence[str]) -> np.ndarray:
  """Counts the words of each text, split at white space, [N]."""
  return np.array([len(text.split()) for text in texts], dtype=np.float64)


def last_token(
  tokenizer: PreTrainedTokenizerBase,
  aligned: Sequence[str],
  base: Sequence[str],
  smoothing: float = 0.5,
) -> Scorer:
  """Scores a text by the log-odds that its last token ends an aligned rather than a base text.

  log (a_t + s) / (A + s V) - log (b_t + s) / (B + s V), where t ends a_t of A aligned and b_t of B
  base texts, and V is the size of the vocabulary. A reward trained only on the ends of texts (as in
  the paper's released code) cannot learn more than this; neither can a reward that has learned only
  how the two models end their texts. An empty text ends in EOS.

  Raises:
    ValueError: one of the two is empty.
  """
  if not len(aligned) or not len(base):
    raise ValueError(f'{len(aligned)} aligned and {len(base)} base texts: last tokens need both')
  ends_of = lambda texts: [
    ids[-1] if ids else tokenizer.eos_token_id for ids in text_lib.encode(tokenizer, list(texts))[0]
  ]
  aligned_ends, base_ends, vocabulary = (
    Counter(ends_of(aligned)),
    Counter(ends_of(base)),
    len(tokenizer),
  )
  log_share = lambda count, token: np.log(
    (count[token] + smoothing) / (count.total() + smoothing * vocabulary)
  )
  return lambda texts: np.array(
    [log_share(aligned_ends, token) - log_share(base_ends, token) for token in ends_of(texts)],
    np.float64,
  )


def dpo_implicit(aligned_log_prob: Scorer, base_log_prob: Scorer) -> Scorer:
  """Scores a text by DPO's implicit reward, log pi_aligned(text) - log pi_base(text), in nats.

  Nothing is trained. A policy that maximises E[r] - beta KL(pi | pi_ref) is pi_ref exp(r / beta) /
  Z(prompt), so beta log(pi / pi_ref) is r up to a constant of each prompt (Rafailov et al. 2023,
  section 4; Peters and Schaal 2007). beta only scales it: ranks, signs and correlations do not
  depend on it. The log-probabilities are those of the whole text (all tokens after the initial EOS,
  including the prompt), so texts without a prompt can be scored. For two completions of one prompt
  the prompt's share cancels.

  Args:
    aligned_log_prob: texts [N] -> log-probability of each under the aligned model
      (likelihoods.text_log_prob).
    base_log_prob: the same under the model that it is compared with.
  """
  return lambda texts: (
    np.asarray(aligned_log_prob(texts), np.float64) - np.asarray(base_log_prob(texts), np.float64)
  )


def given_prompt(
  aligned_log_prob: PromptedScorer,
  base_log_prob: PromptedScorer,
  cut: Callable[[str], likelihoods.Prompted],
  texts: Sequence[str],
) -> np.ndarray:
  """Scores texts by DPO's implicit reward of the completion y given the prompt x.

  log pi_aligned(y | x) - log pi_base(y | x) is `dpo_implicit` without the share of the prompt. Its
  mean over the tokens of y does not grow with length (as the reward of SimPO, Meng et al. 2024).

  Args:
    aligned_log_prob: N (prompt, completion) -> log-probability of each completion and its number of
      tokens [N, 2] under the aligned model (likelihoods.completion_log_prob_scorer).
    base_log_prob: the same under the model that it is compared with.
    cut: returns the prompt of a text, and the rest.
    texts: N texts.

  Returns:
    The sum over the completion's tokens, nats, and their mean [N, 2]; 0 for an empty completion.
  """
  prompted = [cut(text) for text in texts]
  scores = likelihoods.columns(aligned_log_prob(prompted), base_log_prob(prompted))
  return np.stack([scores['log_ratio'], scores['log_ratio_per_token']], axis=1)


def remembered(score: Callable[[Sequence[str]], np.ndarray]) -> Scorer:
  """Returns `score` (texts [N] -> [N, ...]) with a memory: no text is scored twice."""
  known: dict[str, np.ndarray] = {}

  def scored(texts: Sequence[str]) -> np.ndarray:
    new = list(dict.fromkeys(text for text in texts if text not in known))
    known.update(zip(new, score(new)))
    return np.stack([known[text] for text in texts]) if len(texts) else score([])

  return scored


def bag_of_words(aligned: Sequence[str], base: Sequence[str], penalty: float = 1.0) -> Scorer:
  """Scores a text by its set of words: logistic regression of aligned against base.

  Minimises sum log(1 + exp(-y (w x + b))) + penalty / 2 |w|^2 with x the presence of each word of
  these texts (case folded) and y = +1 aligned, -1 base. Given non-toxic and toxic texts instead, it
  is a probe of a data set.

  Raises:
    ValueError: one of the two is empty.
  """
  if not len(aligned) or not len(base):
    raise ValueError(
      f'{len(aligned)} aligned and {len(base)} base texts: a bag of words needs both'
    )
  vocabulary: dict[str, int] = {}
  for text in (*aligned, *base):
    for word in words_of(text):
      vocabulary.setdefault(word, len(vocabulary))
  features = presence([*aligned, *base], vocabulary)
  target = np.repeat([1.0, -1.0], [len(aligned), len(base)])

  def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
    weights, bias = parameters[:-1], parameters[-1]
    margin = target * (features @ weights + bias)
    slope = -target * scipy.special.expit(-margin)
    gradient = np.append(features.T @ slope + penalty * weights, slope.sum())
    return np.logaddexp(0, -margin).sum() + penalty / 2 * weights @ weights, gradient

  fitted = scipy.optimize.minimize(
    loss, np.zeros(len(vocabulary) + 1), jac=True, method='L-BFGS-B'
  ).x
  return lambda texts: presence(texts, vocabulary) @ fitted[:-1] + fitted[-1]


def words_of(text: str) -> list[str]:
  """Returns the distinct words of a text in order, case folded, without punctuation."""
  return list(dict.fromkeys(re.findall(r"[\w']+", text.casefold())))


def presence(texts: Sequence[str], vocabulary: dict[str, int]) -> 'scipy.sparse.csr_array':
  """Returns which words of the vocabulary each text contains: 0 or 1, [N, words].

  Other words are left out.
  """
  columns = [[vocabulary[word] for word in words_of(text) if word in vocabulary] for text in texts]
  ends = np.cumsum([0, *map(len, columns)])
  indices = np.array([column for row in columns for column in row], dtype=np.int64)
  return scipy.sparse.csr_array(
    (np.ones(indices.size), indices, ends), shape=(len(columns), len(vocabulary))
  )
