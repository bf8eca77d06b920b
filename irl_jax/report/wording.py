"""Formats of numbers and names in the report, shared by sentences, tables and drawings."""

from collections.abc import Sequence
from typing import NamedTuple
import unicodedata

from irl_jax.report.summary import Interval
from irl_jax.report.summary import Reward
from irl_jax.report.summary import SetName
from irl_jax.report.summary import Share
from irl_jax.report.summary import Truth

SPACE = '\u00a0'  # a number and its unit stay on one line
MISSING = '–'  # in place of a number that could not be computed


class Reference(NamedTuple):
  """The references that a recovered reward is compared with."""

  who: str
  does: str  # who, with a verb


TRUE_REWARD = Reference('the true reward', 'the true reward does')
LABELS = {  # by who made them
  'people': Reference("people's labels", 'people do'),
  'program': Reference("the playground's labels", "the playground's labels do"),
  'Perspective': Reference("Perspective's labels", 'Perspective does'),
}
UNKNOWN_LABELS = Reference('the labels', 'the labels do')  # of an older run
ENSEMBLE = 'mean of seeds, as one reward'
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
  'dpo_given_prompt': "DPO's, given the prompt",
  'dpo_given_prompt_per_token': "DPO's, given the prompt, per token",
  'last_token': 'last token',
  'ceiling': 'ceiling',
  'kl': 'KL',
  'distinct_2': 'distinct_2',
  'ece': 'ECE',
  'brier': 'Brier',
  'epic_distance': 'EPIC distance',
  'human_accuracy': 'agreement with the labels',
  'mcnemar': "McNemar's test",
}
BASELINES = {  # inside a sentence
  'length': 'text length',
  'bag_of_words': 'a bag of words',
  'dpo_implicit': "DPO's implicit reward",
  'dpo_given_prompt': "DPO's implicit reward given the prompt",
  'dpo_given_prompt_per_token': "DPO's implicit reward given the prompt, per token",
  'last_token': 'the last token alone',
}
POLICIES = {'rlhf': 'RLHF on the true reward', 'rerlhf': 'RLHF on the recovered reward'}
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
LABEL = 40  # maximum number of characters of a name


def labels(truth: Truth) -> Reference:
  """Names the labels of the texts, by who made them."""
  return LABELS.get(truth.labelled_by or '', UNKNOWN_LABELS)


def reference(name: SetName | None, truth: Truth) -> Reference:
  """Names what the rewards are compared with on a set."""
  return labels(truth) if name == 'heldout_texts_human' else TRUE_REWARD


def set_title(name: SetName, truth: Truth) -> str:
  """Returns the title of a set's table."""
  what = 'Held-out pairs' if name == 'heldout_pairs' else 'Held-out texts'
  return f'{what}, against {reference(name, truth).who}'


def how_drawn(coupled: bool) -> str:
  """Says how the two texts of a held-out pair were drawn."""
  if coupled:
    return (
      'Both models drew these pairs with the same random numbers, as older versions of irl_jax had '
      'them do. That makes the aligned text easier to tell than in independent pairs.'
    )
  return 'Each model drew its texts of these pairs independently of the other.'


def percent(share: float) -> str:
  """Writes a share as a percentage with one decimal."""
  return f'{100 * share:.1f}{SPACE}%'


def percents(low: float, high: float) -> str:
  """Writes an interval of shares in percent."""
  return f'[{100 * low:.1f}, {100 * high:.1f}]'


def number(value: float | bool | None, digits: int = 3) -> str:
  """Writes a number with a true minus sign; '–' if it could not be computed."""
  if value is None:
    return MISSING
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, int) or (value.is_integer() and digits == 0):
    return f'{value:,.0f}'.replace('-', '−')
  text = f'{value:.{digits}f}' if abs(value) < 1e5 else f'{value:.2e}'
  return text.replace('-', '−')


def numbers(interval: Interval | None, digits: int = 3) -> str:
  """Writes an interval; '' if there is none."""
  return f'[{number(interval[0], digits)}, {number(interval[1], digits)}]' if interval else ''


def share(toxicity: Share) -> str:
  """Writes a share with its interval."""
  if toxicity.bounds is None:
    return MISSING
  rate, low, high = toxicity.bounds
  return f'{percent(rate)} {percents(low, high)}'


def name(key: str) -> str:
  """Returns the display name of a metric, baseline or seed."""
  return NAMES.get(key) or visible(key.replace('_', ' '))[:LABEL]


def baseline(key: str, reward: Reward) -> str:
  """Returns the display name of a baseline; that of length says which texts it prefers."""
  return f'{reward.prefers} is better' if reward.prefers else name(key)


def in_sentence(key: str, reward: Reward) -> str:
  """Returns the name of a baseline inside a sentence."""
  rule = f'the rule "{reward.prefers} is better"' if reward.prefers else ''
  return rule or BASELINES.get(key) or name(key)


def policy_name(stage: str) -> str:
  """Returns the readers' name of the policy that a stage trained."""
  return POLICIES.get(stage) or name(stage)


def count(n: int, noun: str) -> str:
  """Writes '1 seed' or '1,488 texts'."""
  return f'{n:,}{SPACE}{noun}{"" if n == 1 else "s"}'


def spread(values: Sequence[float], digits: int = 3) -> str:
  """Writes the range of a metric over seeds: '0.940 to 0.952', or the value of the only seed."""
  if len(values) == 1:
    return number(values[0], digits)
  return f'{number(min(values), digits)} to {number(max(values), digits)}'


def join(items: Sequence[str]) -> str:
  """Joins items: 'a', 'a and b', 'a, b and c'."""
  return ' and '.join(filter(None, [', '.join(items[:-1]), *items[-1:]]))


def visible(text: str) -> str:
  """Replaces every character that is invisible, or reorders its neighbours, by a visible sign."""
  return ''.join(map(visible_character, text))


def visible_character(char: str) -> str:
  """Returns a character, or the sign that stands for it."""
  if char in '\n\t ':
    return char
  if char in DIRECTIONS:
    return f'‹{DIRECTIONS[char]}›'
  if char in '\u2028\u2029\r':
    return '\n'
  if char < '\x20' or char == '\x7f':
    return chr(0x2421 if char == '\x7f' else 0x2400 + ord(char))
  # XML allows no U+xxFFFE or U+xxFFFF.
  unwritable = unicodedata.category(char) in ('Cc', 'Cs') or ord(char) & 0xFFFE == 0xFFFE
  return '\ufffd' if unwritable else char
