"""How figures and names are written in the report: one way for sentences, tables and figures."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
import unicodedata

SPACE = '\u00a0'  # a number and its unit stay on one line
NAMES = {
  'accuracy': f'accuracy at{SPACE}0',
  'f1': 'F1',
  'auroc': 'AUROC',
  'pearson': 'Pearson',
  'spearman': 'Spearman',
  'kendall': 'Kendall',
  'pairwise_accuracy': 'pairs in order',
  'prefers_aligned': 'prefers aligned',
  'n': 'n',
  'ties': 'tied pairs',
  'bag_of_words': 'bag of words',
  'dpo_implicit': "DPO's implicit reward",
  'last_token': 'last token',
  'ceiling': 'ceiling',
  'kl': 'KL',
  'distinct_2': 'distinct_2',
  'ece': 'ECE',
  'brier': 'Brier',
  'epic_distance': 'EPIC distance',
}
POLICIES = {'rlhf': 'RLHF on the true reward', 'rerlhf': 'RLHF on the recovered reward'}
READINGS = {
  'kl': 'KL to the start, nats a response',
  'kl_per_token': 'KL to the start, nats a token',
  'perplexity_under_base': 'perplexity under the base model',
  'response_tokens': 'length, tokens',
  'distinct_2': 'variety: distinct_2',
  'true_reward': 'true reward, logits',
  'toxicity': 'toxic completions',
  'toxicity_full': 'toxic, prompt and completion',
}
DIRECTIONS = {
  '\u200e': 'LRM',
  '\u200f': 'RLM',
  '\u061c': 'ALM',
  '\u202a': 'LRE',
  '\u202b': 'RLE',
  '\u202c': 'PDF',
  '\u202d': 'LRO',
  '\u202e': 'RLO',
  '\u2066': 'LRI',
  '\u2067': 'RLI',
  '\u2068': 'FSI',
  '\u2069': 'PDI',
}
LABEL = 40  # characters of a name at most


def percent(share: float) -> str:
  """A share as a percentage with one decimal."""
  return f'{100 * share:.1f}{SPACE}%'


def percents(low: float, high: float) -> str:
  """An interval of shares, in percent."""
  return f'[{100 * low:.1f}, {100 * high:.1f}]'


def number(value: Any, digits: int = 3) -> str:
  """A figure with a true minus sign; '–' where it could not be computed."""
  if value is None:
    return '–'
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and digits == 0):
    return f'{value:,.0f}'.replace('-', '−')
  if not isinstance(value, float):
    return str(value)
  text = f'{value:.{digits}f}' if abs(value) < 1e5 else f'{value:.2e}'
  return text.replace('-', '−')


def numbers(interval: Sequence[float] | None, digits: int = 3) -> str:
  """An interval of figures; '' without one."""
  return f'[{number(interval[0], digits)}, {number(interval[1], digits)}]' if interval else ''


def share(toxicity: Mapping[str, Any] | None) -> str:
  """A share with its interval, as `toxicity` of summary.json holds it."""
  if not toxicity or toxicity.get('rate') is None:
    return '–'
  return f'{percent(toxicity["rate"])} {percents(toxicity["low"], toxicity["high"])}'


def name(key: str) -> str:
  """A figure, baseline or seed as readers know it."""
  return NAMES.get(key) or visible(key.replace('_', ' '))[:LABEL]


def count(n: int, noun: str) -> str:
  """'1 seed', '1,488 texts'."""
  return f'{n:,}{SPACE}{noun}{"" if n == 1 else "s"}'


def listed(items: Sequence[str]) -> str:
  """'a', 'a and b', 'a, b and c'."""
  return ' and '.join(filter(None, [', '.join(items[:-1]), *items[-1:]]))


def visible(text: str) -> str:
  """The text with a sign for every character that is not seen, or that would reorder what stands beside it."""

  def sign(char):
    if char in '\n\t ':
      return char
    if char in DIRECTIONS:
      return f'‹{DIRECTIONS[char]}›'
    if char in '\u2028\u2029\r':
      return '\n'
    if char < '\x20' or char == '\x7f':
      return chr(0x2421 if char == '\x7f' else 0x2400 + ord(char))
    unwritable = (
      unicodedata.category(char) in ('Cc', 'Cs') or ord(char) & 0xFFFE == 0xFFFE
    )  # the latter in XML
    return '\ufffd' if unwritable else char

  return ''.join(map(sign, text))
