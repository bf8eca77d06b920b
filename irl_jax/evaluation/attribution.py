"""Which tokens a reward likes and dislikes: what it loses when they are left out of the text, for any reward.

A token's attribution is the mean of R(text) - R(text without a span that holds the token), over spans of 1, 2, 4 and 8
tokens: above 0, R likes it. Single tokens alone miss what two of them say twice ("dumb idiot"), and leave a sentence
that nobody writes. Measured on R̂ of the playground, 80 comments in which one of two or three sentences is an attack:
the token of the lowest attribution lies in the attack in 86 % (single tokens 72 %, gradient x input 75 %, integrated
gradients 81 %, chance 47 %), and the attack's insulting words are told from all others with an AUROC of .97 (.93, .85,
.92). Where R is a sum over tokens (tests/evaluation/test_attribution.py) all but gradient x input find what it is.
Spans overlap, so the attributions of a text do not add up to its reward.
"""

from collections.abc import Sequence
import hashlib
from typing import Any

import numpy as np
import scipy

from irl_jax.data import text as text_lib

SPANS = (1, 2, 4, 8)  # tokens left out at a time
MAX_PIECES = 64  # of one text: the tokens of a longer one are joined


def pieces(tokenizer: Any, text: str) -> list[str]:
  """A text's tokens as they stand in it, each with the white space before it; they concatenate to the text.

  Tokens of one character (a byte each) are one piece, and neighbours are joined where there are more than 64.
  """
  encoded = tokenizer(
    text_lib.clean(text),
    add_special_tokens=False,
    split_special_tokens=True,
    return_offsets_mapping=True,
    verbose=False,
  )
  # Tokenizers do not count the white space before a token as its own: only where it ends is certain.
  ends = np.unique([end for start, end in encoded['offset_mapping'] if end > start]).astype(int)
  if len(text) and (not ends.size or ends[-1] < len(text)):
    ends = np.append(ends[:-1], len(text))
  kept = [
    group[-1] for group in np.array_split(ends, min(MAX_PIECES, ends.size) or 1) if group.size
  ]
  return [text[start:end] for start, end in zip([0, *kept], kept)]


def spans(count: int) -> list[tuple[int, int, int]]:
  """(start, end, size) of every span that holds one of `count` pieces; those at the ends are cut off there."""
  return [
    (max(first, 0), min(first + size, count), size)
    for size in SPANS
    for first in range(1 - size, count)
  ]


def shortened(parts: Sequence[str]) -> list[str]:
  """The text of these pieces without each of its spans."""
  return [''.join([*parts[:start], *parts[end:]]) for start, end, _ in spans(len(parts))]


def asked(texts: Sequence[Sequence[str]]) -> list[str]:
  """Every text, given by its pieces, and what is left of it without each of its spans: no text twice."""
  return list(
    dict.fromkeys(text for parts in texts for text in (''.join(parts), *shortened(parts)))
  )


def attributions(texts: Sequence[Sequence[str]], scores: np.ndarray) -> list[list[dict[str, Any]]]:
  """[{'piece', 'attribution'}] of every text, given by its pieces, from the scores of `asked(texts)`."""
  score = dict(zip(asked(texts), np.asarray(scores, np.float64).tolist()))
  rows = []
  for parts in texts:
    of_pieces = np.zeros(len(parts))
    for (start, end, size), rest in zip(spans(len(parts)), shortened(parts)):
      of_pieces[start:end] += (score[''.join(parts)] - score[rest]) / (size * len(SPANS))
    rows.append(
      [{'piece': piece, 'attribution': float(value)} for piece, value in zip(parts, of_pieces)]
    )
  return rows


def choose(texts: Sequence[str], reward, true_reward, count: int = 40) -> list[tuple[int, str]]:
  """Which texts a reader is shown, and why: a quarter each of four kinds, none twice.

  Args:
    texts: N texts.
    reward: [N], R̂ of them.
    true_reward: [N], r*; None where there is none: more are then chosen by hash.
    count: how many, at most.

  Returns:
    (index, 'highest' | 'lowest' | 'disagreement' | 'by hash'): the highest and lowest R̂, the largest difference
    between the ranks of R̂ and r*, and the smallest hashes of the text, which pick without looking.
  """
  reward = np.asarray(reward, np.float64)
  orders = {
    'highest': np.argsort(-reward, kind='stable'),
    'lowest': np.argsort(reward, kind='stable'),
  }
  if true_reward is not None:
    gap = np.abs(scipy.stats.rankdata(reward) - scipy.stats.rankdata(true_reward))
    orders['disagreement'] = np.argsort(-gap, kind='stable')
  digests = [hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest() for text in texts]
  orders['by hash'] = np.argsort(digests, kind='stable')
  chosen = {}
  for kind, order in orders.items():
    wanted = count - len(chosen) if kind == 'by hash' else count // 4
    fresh = [index for index in order.tolist() if index not in chosen]
    chosen |= dict.fromkeys(fresh[:wanted], kind)
  return list(chosen.items())
