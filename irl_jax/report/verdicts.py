"""The thresholds of the report's verdicts, and the rules that they make, in words.

They are conventions, not tests. The report states them under the lines that they decide.
"""

YES, PARTLY, NO, UNKNOWN = 'yes', 'partly', 'no', 'unknown'
LABELS = {YES: 'Yes', PARTLY: 'Partly', NO: 'No', UNKNOWN: 'Not known'}

AUROC_YES, AUROC_PARTLY = 0.90, 0.75  # of the worst seed
TOO_WIDE = 0.3  # an interval across AUROC_PARTLY that is wider decides nothing
SPEARMAN_YES, SPEARMAN_PARTLY = 0.90, 0.70  # of the two seeds least alike
ACCURACY_YES, ACCURACY_PARTLY = 0.80, 0.70  # at 0, of the worst seed
ONE_CLASS = 0.95  # share of the larger class from which texts cannot show whether a sign is right
SATURATED = 0.25  # share of texts with |R| > 0.9 above which a reward tells too few apart
STYLE_YES, STYLE_PARTLY = 0.10, 0.25  # distance of the AUROC of style from chance
LENGTH_NOTED = 0.30  # |Spearman| of reward and length
LENGTH_LEFT = 0.5  # share of the correlation with r* that must remain given length
CORRELATED = 0.10  # Spearman with r* below which there is nothing that length could explain
TOXICITY_LEFT = 2 / 3  # of the start's
DISTINCT_LEFT, TOKENS_LEFT, PERPLEXITY_TIMES = 0.5, 0.8, 3.0  # of the start's

RULES = (
  f'Ranking: yes from an AUROC of {AUROC_YES:.2f} in the worst seed, partly from '
  f'{AUROC_PARTLY:.2f}. No below that, or if its interval reaches chance (0.5). Unknown if the '
  f'interval reaches both sides of {AUROC_PARTLY:.2f} and is wider than {TOO_WIDE:.1f}.',
  f'Recoveries: yes from a Spearman correlation of {SPEARMAN_YES:.2f} between the two seeds least '
  f'alike, partly from {SPEARMAN_PARTLY:.2f}.',
  'Sign: no unless every seed has a reliable zero. Then yes from an accuracy of '
  f'{ACCURACY_YES:.2f} in the worst seed, partly from {ACCURACY_PARTLY:.2f}. No below that, or if '
  'the same answer for every text is right as often. Unknown if that answer is right for '
  f'{ONE_CLASS:.0%}. At most partly if more than {SATURATED:.0%} of the texts have |R̂| > 0.9.',
  'Words, length and style: the worst of three. Baselines: yes if every seed beats the best one '
  'and the mean of the seeds does so by more than chance; partly if the seeds do on average. '
  f'Style: yes within {STYLE_YES:.2f} of chance, partly within {STYLE_PARTLY:.2f}. Length: no if '
  f'less than {LENGTH_LEFT:.0%} of the correlation remains given length; partly from a Spearman '
  f'correlation of ±{LENGTH_NOTED:.2f} with length.',
  'Training on it: no unless toxicity falls and the two intervals do not overlap. Yes if it falls '
  f'to two thirds or less, while distinct_2 keeps {DISTINCT_LEFT:.0%}, length keeps '
  f'{TOKENS_LEFT:.0%}, and perplexity grows at most {PERPLEXITY_TIMES:.0f} times.',
)


def grade(value: float, yes: float, partly: float) -> str:
  """Returns the verdict on a metric of which more is better."""
  return YES if value >= yes else PARTLY if value >= partly else NO


def worst(*verdicts: str) -> str:
  """Returns the worst of several verdicts; an unknown one counts only if all are."""
  return max(verdicts, key=(UNKNOWN, YES, PARTLY, NO).index)
