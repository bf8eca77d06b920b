"""The thresholds of the report's verdicts, and the rules that they make, in words.

They are conventions, not tests; the report states them beside the lines that they decide.
"""

YES, PARTLY, NO, UNKNOWN = 'yes', 'partly', 'no', 'unknown'
AUROC_YES, AUROC_PARTLY = 0.90, 0.75  # of the worst seed
TOO_WIDE = (
  0.3  # width of its interval beyond which it says too little, where it reaches AUROC_PARTLY
)
SPEARMAN_YES, SPEARMAN_PARTLY = 0.90, 0.70  # of the two seeds that are least alike
ACCURACY_YES, ACCURACY_PARTLY = 0.80, 0.70  # at 0, of the worst seed
ONE_CLASS = 0.95  # share of the larger class above which texts cannot tell whether a sign is right
SATURATED = 0.25  # share of texts with |R| > .9 above which a reward grades too little
STYLE_YES, STYLE_PARTLY = 0.10, 0.25  # distance of the AUROC of style from chance
LENGTH_NOTED, LENGTH_LEFT = (
  0.30,
  0.5,
)  # |Spearman| of reward and length; correlation left given length, as a share
CORRELATED = 0.10  # Spearman with r* below which there is nothing that length could explain
TOXICITY_LEFT = 2 / 3  # of the start's
DISTINCT_LEFT, TOKENS_LEFT, PERPLEXITY_TIMES = 0.5, 0.8, 3.0  # of the start's

RULES = (
  f'Ranking: yes from an AUROC of {AUROC_YES:.2f} in the worst seed, partly from {AUROC_PARTLY:.2f}; no below, and '
  'where its interval reaches chance (0.5); unknown where the interval reaches both sides of '
  f'{AUROC_PARTLY:.2f} and is wider than {TOO_WIDE:.1f}.',
  f'Recoveries: yes from a Spearman correlation of {SPEARMAN_YES:.2f} of the two seeds least alike, partly from '
  f'{SPEARMAN_PARTLY:.2f}.',
  f'Sign: no without a reliable zero in every seed; then yes from an accuracy of {ACCURACY_YES:.2f} in the worst '
  f'seed, partly from {ACCURACY_PARTLY:.2f}; no below, and where one answer for every text is right as often; '
  f'unknown where that answer is right for {ONE_CLASS:.0%}. At most partly where more than {SATURATED:.0%} of the '
  'texts have |R̂| > 0.9.',
  'Words, length and style: the worst of three. Baselines: yes if every seed beats the best one, and the mean of the '
  'seeds by more than chance; partly if the seeds do on average. '
  f'Style: yes within {STYLE_YES:.2f} of chance, partly within {STYLE_PARTLY:.2f}. Length: no if less than '
  f'{LENGTH_LEFT:.0%} of the correlation is left given length, partly from a Spearman correlation of '
  f'±{LENGTH_NOTED:.2f} with length.',
  'Training on it: no unless toxicity falls, intervals apart; yes if it falls to two thirds or less while distinct_2 '
  f'keeps {DISTINCT_LEFT:.0%}, length {TOKENS_LEFT:.0%}, and perplexity stays within {PERPLEXITY_TIMES:.0f} times.',
)


def graded(value: float, yes: float, partly: float) -> str:
  """The verdict on a figure of which more is better."""
  return YES if value >= yes else PARTLY if value >= partly else NO


def worst(*verdicts: str) -> str:
  """The worst of several verdicts; one that is unknown does not count beside others."""
  return max(verdicts, key=(UNKNOWN, YES, PARTLY, NO).index)
