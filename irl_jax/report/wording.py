"""Shared wording of the report: verdicts, names and formatted numbers.

Verdicts follow from thresholds, which are conventions, not tests. The report states them under the
lines that they decide. A verdict also needs its interval: it claims no more than that supports.
"""

from collections.abc import Sequence
from typing import Literal
from typing import NamedTuple
import unicodedata

from irl_jax.report.summary import Agreement
from irl_jax.report.summary import Interval
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import Reward
from irl_jax.report.summary import SetName
from irl_jax.report.summary import Share
from irl_jax.report.summary import Truth

Line = tuple[str, str]  # (verdict, why)
YES, PARTLY, NO, UNKNOWN = 'yes', 'partly', 'no', 'unknown'
VERDICTS = {YES: 'Yes', PARTLY: 'Partly', NO: 'No', UNKNOWN: 'Not known'}

AUROC_YES, AUROC_PARTLY = 0.90, 0.75  # AUROC of the worst seed
ORDER_YES, ORDER_PARTLY = 0.80, 0.50  # Spearman of the worst seed with a score
CHANCE = 0.5  # AUROC, and share of pairs, of an uninformative reward
SPEARMAN_YES, SPEARMAN_PARTLY = 0.90, 0.70  # Spearman of the two seeds least alike
ACCURACY_YES, ACCURACY_PARTLY = 0.80, 0.70  # at 0, of the worst seed
ONE_CLASS = 0.95  # share of the larger class from which texts cannot show whether a sign is right
SATURATED = 0.25  # share of texts with |R| > 0.9 above which a reward tells too few apart
STYLE_YES, STYLE_PARTLY = 0.10, 0.25  # distance of the AUROC of style from chance
LENGTH_NOTED = 0.30  # |Spearman| of reward and length
# |Spearman| with length that the interval must not reach, for the verdict that length plays little
# part
LENGTH_MUCH = 0.50
LENGTH_LEFT = 0.5  # share of the correlation with r* that must remain given length
CORRELATED = 0.10  # Spearman with r* below which there is no correlation for length to explain
WON = 2 / 3  # share of the prompts whose true reward rose
TOXICITY_LEFT = 2 / 3  # share of the start's toxicity
DISTINCT_LEFT, TOKENS_LEFT, PERPLEXITY_TIMES = 0.5, 0.8, 3.0  # relative to the start


class Yardstick(NamedTuple):
  """The metric that a ranking is judged by, and its thresholds."""

  metric: Literal['auroc', 'spearman']
  name: str
  yes: float
  partly: float
  chance: float  # the value of a reward that knows nothing
  against: str  # on an axis, before the reference
  meaning: str
  ticks: int  # tenths between two ticks of an axis

  def value(self, row: Agreement) -> float | None:
    """Returns the metric of a reward."""
    return row.auroc if self.metric == 'auroc' else row.spearman

  def interval(self, row: Agreement) -> Interval | None:
    """Returns its interval."""
    return row.auroc_interval if self.metric == 'auroc' else row.spearman_interval

  def gain(self, row: Agreement) -> Interval | None:
    """Returns the interval of the ensemble's metric minus that of the reward."""
    return row.auroc_gain if self.metric == 'auroc' else row.spearman_gain


AUROC = Yardstick(
  'auroc',
  'AUROC',
  AUROC_YES,
  AUROC_PARTLY,
  CHANCE,
  'AUROC against',
  'How often a harmless text scores above a toxic one.',
  ticks=1,
)
# Against a true reward without a toxic class, where there are no two classes to rank.
ORDER = Yardstick(
  'spearman',
  'Spearman correlation',
  ORDER_YES,
  ORDER_PARTLY,
  0.0,
  'Spearman correlation with',
  'How alike they order the texts (1: the same order).',
  ticks=2,
)


def yardstick(recovery: Recovery, name: SetName | None) -> Yardstick:
  """Returns what a ranking of a set is judged by."""
  return ORDER if recovery.is_score(name) else AUROC


def rules(is_score: bool) -> tuple[str, ...]:
  """Returns the rules of the verdicts, in words, for a true reward with or without classes."""
  return tuple(OF_SCORES.get(rule.partition(':')[0], rule) if is_score else rule for rule in RULES)


RULES = (
  f'Ranking: "yes" if the worst seed has an AUROC of at least {AUROC_YES:.2f}; "partly" if at '
  f'least {AUROC_PARTLY:.2f}. "No" below that, or if its interval includes chance ({CHANCE}). '
  f'At most "partly" if the interval extends below {AUROC_PARTLY:.2f}; "not known" instead of "no" '
  f'if it reaches {AUROC_YES:.2f} but not chance. The labels may be reversed if that '
  'would turn the "no" of every seed into another verdict.',
  'Nothing was recovered: if the ranking is neither "yes" nor "partly", and in no seed the '
  'interval of the share of held-out pairs in which it prefers the aligned completion lies above '
  'one half. '
  'Only pairs of two different texts count. Then no other line about the reward is "yes".',
  'Recoveries: "yes" if the two least similar seeds have a Spearman correlation of at least '
  f'{SPEARMAN_YES:.2f}; "partly" if at least {SPEARMAN_PARTLY:.2f}. "Not known" if its interval is '
  'too wide. Also "not known" if seeds that share no more than their start would agree as much: if '
  'the correlation of their starts, times that of each seed with its own start, reaches the '
  'verdict or the interval.',
  'Sign: "no" unless every seed has a reliable zero. Then "yes" if the worst seed has an accuracy '
  f'of at least {ACCURACY_YES:.2f}; "partly" if at least {ACCURACY_PARTLY:.2f}. "No" below that, '
  'or if always giving the same answer is at least as accurate. At most "partly" if the interval '
  'includes the accuracy of that answer. "Not known" if that answer is right for '
  f'{ONE_CLASS:.0%}. At most "partly" if more than {SATURATED:.0%} of the texts have |R̂| > 0.9.',
  'Words, length and style: the worst of three verdicts. Baselines: "yes" if every seed beats the '
  'best baseline, and the mean of the seeds does so by more than chance; "partly" if the seeds '
  f'beat it on average. Style: "yes" within {STYLE_YES:.2f} of chance, "partly" within '
  f'{STYLE_PARTLY:.2f}. Length: "no" if less than {LENGTH_LEFT:.0%} of the correlation remains '
  'given length; "partly" from a Spearman correlation of '
  f'±{LENGTH_NOTED:.2f} with length. Each is "not known" if its interval is too wide. At most '
  '"partly" if one of them is not known; "not known" if the reward was compared with no baseline.',
  'Training on it: "no" unless toxicity falls and the two intervals do not overlap. "Yes" if it '
  f'falls to two thirds or less, while distinct_2 keeps {DISTINCT_LEFT:.0%}, length keeps '
  f'{TOKENS_LEFT:.0%}, and perplexity grows at most {PERPLEXITY_TIMES:.0f} times.',
)
OF_SCORES = {  # where the true reward has no toxic class, by the rule's first words
  'Ranking': 'Ranking: "yes" if the worst seed has a Spearman correlation of at least '
  f'{ORDER_YES:.2f} with the true reward; "partly" if at least {ORDER_PARTLY:.2f}. "No" below '
  'that, or if its interval includes 0. At most "partly" if the interval extends below '
  f'{ORDER_PARTLY:.2f}; "not known" instead of "no" if it reaches {ORDER_YES:.2f} but not 0.',
  'Sign': 'Sign: "no", because the true reward is a score without a zero.',
  'Training on it': 'Training on it: "no" unless the interval of the share of prompts whose true '
  f'reward rose lies above one half. "Yes" if the share is at least {WON:.0%}, while distinct_2 '
  f'keeps {DISTINCT_LEFT:.0%}, length keeps {TOKENS_LEFT:.0%}, and perplexity grows at most '
  f'{PERPLEXITY_TIMES:.0f} times.',
}


def grade(value: float, yes: float, partly: float) -> str:
  """Returns the verdict for a metric where higher is better."""
  return YES if value >= yes else PARTLY if value >= partly else NO


def grade_within(
  value: float, bounds: Interval | None, yes: float, partly: float, chance: float
) -> str:
  """Returns the verdict that a metric's interval supports, if a higher metric is better.

  Yes needs an interval above `partly`, and partly one above `chance`. An interval that extends from
  `chance` or below (or from below `partly`) up to `yes` decides nothing.

  Args:
    value: the value of the metric.
    bounds: its interval; None: the value alone decides.
    yes: threshold.
    partly: threshold.
    chance: the value of an uninformed reward.
  """
  verdict = grade(value, yes, partly)
  if bounds is None:
    return verdict
  low, high = bounds
  if (low <= chance and verdict != NO) or (high >= yes and verdict == NO):
    return UNKNOWN
  return PARTLY if verdict == YES and low < partly else verdict


def worst(*verdicts: str) -> str:
  """Returns the worst of several verdicts; an unknown one counts only if all are."""
  return max(verdicts, key=(UNKNOWN, YES, PARTLY, NO).index)


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
DIRECTIONS = dict(  # characters that reorder the text after them, and their names in Unicode
  zip(
    '\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069',
    ('LRM', 'RLM', 'ALM', 'LRE', 'RLE', 'PDF', 'LRO', 'RLO', 'LRI', 'RLI', 'FSI', 'PDI'),
  )
)
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
