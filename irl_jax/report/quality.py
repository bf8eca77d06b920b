"""Line 1 of a report: how well a reward ranks texts, and whether it tells the two models apart.

Texts show the ranking, by AUROC or correlation, and held-out pairs whether the models are told
apart. Dims: K seeds.
"""

from collections.abc import Sequence
import statistics

from irl_jax.report import wording as w
from irl_jax.report.summary import Interval
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import SetName
from irl_jax.report.wording import BASELINES
from irl_jax.report.wording import count
from irl_jax.report.wording import labels
from irl_jax.report.wording import Line
from irl_jax.report.wording import number
from irl_jax.report.wording import numbers
from irl_jax.report.wording import percent
from irl_jax.report.wording import percents
from irl_jax.report.wording import SPACE

# Verdicts on the shares of pairs in which the seeds prefer the aligned completion.
APART, MIXED, AT_CHANCE, BACKWARDS = 'apart', 'mixed', 'at chance', 'backwards'
SIMPLE = ('length', 'bag_of_words', 'last_token')  # baselines that were fitted to training pairs
CHANCE = f'chance is 50{SPACE}%'


def ranking(recovery: Recovery, reference: SetName | None) -> Line:
  """Judges the agreement with r*, or else with labels, with the worst seed's interval.

  It is measured by AUROC, or against a true reward without classes by Spearman's correlation.
  """
  if reference is None:
    return w.UNKNOWN, nothing_to_compare_with(recovery)
  by = w.yardstick(recovery, reference)
  values = recovery.of_seeds(lambda seed: by.value(seed.on(reference)))
  bounds = [by.interval(seed.on(reference)) for seed in recovery.seeds]
  seeds = [(grade(value, ends, by), value, ends) for value, ends in zip(values, bounds)]
  order = (w.YES, w.PARTLY, w.UNKNOWN, w.NO)
  verdict, value, worst_bounds = max(seeds, key=lambda seed: (order.index(seed[0]), -seed[1]))
  pairs = '' if tells_apart(recovery) in (None, APART) else f' {on_pairs(recovery)}'
  agrees = of_order if by is w.ORDER else of_classes
  text = agrees(recovery, reference, verdict, values, value, worst_bounds)
  if reference == 'heldout_texts' and verdict != w.UNKNOWN:
    text += against_labels(recovery)
  return verdict, text + pairs


STARTS = {
  w.YES: '',
  w.PARTLY: 'Partly, with mistakes. ',
  w.NO: 'Do not rank texts with this reward. ',
}


def of_classes(
  recovery: Recovery,
  reference: SetName,
  verdict: str,
  aurocs: Sequence[float],
  auroc: float,
  worst_bounds: Interval | None,
) -> str:
  """Writes how the seeds rank texts of two classes: their AUROC, and the worst one's interval."""
  bounds = [seed.on(reference).auroc_interval for seed in recovery.seeds]
  if verdict == w.UNKNOWN:
    assert worst_bounds is not None
    return (
      'Not known: the held-out texts have too few of one of the two classes. The AUROC of the '
      f'worst seed is {percent(auroc)}, with an interval of {percents(*worst_bounds)} '
      f'({CHANCE}). Check it on texts of both classes.'
    )
  return (
    f'{STARTS[verdict]}A harmless text scores above a toxic one in '
    f'{comparisons(aurocs, worst_bounds, auroc)}{against_chance(worst_bounds)}'
    f'{labels_reversed(aurocs, bounds, reference)}'
  )


def of_order(
  recovery: Recovery,
  reference: SetName,
  verdict: str,
  correlations: Sequence[float],
  correlation: float,
  worst_bounds: Interval | None,
) -> str:
  """Writes how the seeds order texts: Spearman with the true reward, and the share of pairs."""
  several = len(correlations) > 1
  mean = f'{number(statistics.fmean(correlations))} on average over ' if several else ''
  of = f'{mean}{count(len(correlations), "seed")}, ' if several else ''
  worst = f'{number(correlation)} {numbers(worst_bounds)}'.strip()
  which = ' in the worst' if several else ', in the only seed'
  text = (
    f'Its Spearman correlation with the true reward is {of}{worst}{which} (1: the same order, '
    '0: unrelated).'
  )
  if verdict == w.UNKNOWN:
    return f'Not known: the held-out texts are too few to tell. {text}'
  if worst_bounds and worst_bounds[0] <= 0:
    below = worst_bounds[1] < 0
    text += (
      ' That is the reverse order.'
      if below
      else ' That cannot be distinguished from no order at all.'
    )
  if pairs := recovery.of_seeds(lambda seed: seed.on(reference).pairwise_accuracy):
    text += (
      ' Of two held-out texts, the one with the higher true reward scores higher in '
      f'{comparisons(pairs)} ({CHANCE}).'
    )
  return STARTS[verdict] + text


def against_labels(recovery: Recovery) -> str:
  """Writes how the seeds rank texts against the labels; '' if there are none."""
  by_labels: SetName = 'heldout_texts_human'
  values = recovery.of_seeds(lambda seed: seed.on(by_labels).auroc)
  if not values:
    return ''
  lowest = min(range(len(values)), key=values.__getitem__)
  ends = recovery.seeds[lowest].on(by_labels).auroc_interval
  end = against_chance(ends) if ends and ends[0] <= w.CHANCE else '.'
  ranks = 'a harmless text scores above a toxic one in ' if recovery.truth.is_score else ''
  return f' Against {labels(recovery.truth).who}: {ranks}{comparisons(values, ends)}{end}'


def grade(value: float, bounds: Interval | None, by: w.Yardstick = w.AUROC) -> str:
  """Returns the verdict on the ranking of one seed."""
  if bounds is None:
    return w.grade(value, by.yes, by.partly)
  low, high = bounds
  if low <= by.chance:
    return w.NO
  verdict = w.grade(value, by.yes, by.partly)
  # A no whose interval reaches a yes decides nothing, however wide the interval is.
  if verdict == w.NO and high >= by.yes:
    return w.UNKNOWN
  return w.PARTLY if verdict == w.YES and low < by.partly else verdict


def against_chance(bounds: Interval | None) -> str:
  """Ends a sentence about an AUROC: says whether its interval includes chance."""
  if bounds and bounds[1] < w.CHANCE:
    return f'. That is worse than chance, 50{SPACE}%.'
  if bounds and bounds[0] <= w.CHANCE:
    return f'. That cannot be distinguished from chance, 50{SPACE}%.'
  return f' (AUROC; {CHANCE}).'


def labels_reversed(
  aurocs: Sequence[float], bounds: Sequence[Interval | None], reference: SetName
) -> str:
  """Says that the labels may be reversed; '' if the ranking stays a no with those.

  That takes no threshold of its own: an AUROC of a turned round is 1 - a, and so is its interval.
  """
  turned = ((1 - auroc, ends and (1 - ends[1], 1 - ends[0])) for auroc, ends in zip(aurocs, bounds))
  if any(grade(auroc, ends) == w.NO for auroc, ends in turned):
    return ''
  whose = 'of the true reward' if reference == 'heldout_texts' else 'of the texts'
  return f' The labels may be reversed: check which label {whose} means toxic.'


def may_be_chance(recovery: Recovery, reference: SetName | None) -> bool:
  """Returns whether the interval of some seed's ranking includes chance."""
  by = w.yardstick(recovery, reference)
  bounds = [by.interval(seed.on(reference)) for seed in recovery.seeds]
  return any(ends and ends[0] <= by.chance <= ends[1] for ends in bounds)


def comparisons(
  aurocs: Sequence[float], bounds: Interval | None = None, worst: float | None = None
) -> str:
  """Writes the mean and the worst of the seeds' AUROC, with the worst one's interval."""
  ends = ' ' + percents(*bounds) if bounds else ''
  if len(aurocs) == 1:
    return f'{percent(aurocs[0])}{ends} of comparisons, in the only seed'
  worst = min(aurocs) if worst is None else worst
  return (
    f'{percent(statistics.fmean(aurocs))} of comparisons on average over '
    f'{count(len(aurocs), "seed")}, {percent(worst)}{ends} in the worst'
  )


def nothing_to_compare_with(recovery: Recovery) -> str:
  """Describes a reward if there is neither r* nor a label."""
  if not recovery.seeds:
    return 'Not known: the run measured no recovered reward.'
  text = 'Not known: there is neither a true reward nor labels to compare it with.'
  return f'{text} {on_pairs(recovery)}'.strip()


def tells_apart(recovery: Recovery) -> str | None:
  """Returns whether the reward tells the two models apart on held-out pairs.

  Returns:
    APART: the interval of every seed lies above one half; MIXED: that of some; BACKWARDS: that of
    every seed lies below; AT_CHANCE: neither, or no pair has two different texts. None: the
    intervals are not known.
  """
  shares = [seed.preference for seed in recovery.seeds]
  if shares and all(share.pairs and not share.n for share in shares):
    return AT_CHANCE
  bounds = [share.bounds for share in shares if share.bounds]
  if not bounds or len(bounds) < len(shares):
    return None
  above = [low > w.CHANCE for _, low, _ in bounds]
  if any(above):
    return APART if all(above) else MIXED
  return BACKWARDS if all(high < w.CHANCE for _, _, high in bounds) else AT_CHANCE


def shows_nothing(recovery: Recovery) -> bool:
  """Returns whether nothing was recovered: the reward neither ranks texts nor tells models apart.

  A reward that ranks texts correctly has learned something, even if too few pairs show it.
  """
  if tells_apart(recovery) not in (AT_CHANCE, BACKWARDS):
    return False
  verdict, _ = ranking(recovery, recovery.reference)
  return verdict in (w.NO, w.UNKNOWN)


def on_pairs(recovery: Recovery) -> str:
  """Says how often the reward prefers the aligned completion, and what follows; '' if unknown."""
  apart = tells_apart(recovery)
  if apart is None:
    aligned = recovery.of_seeds(lambda seed: seed.on('heldout_pairs').prefers_aligned)
    if not aligned:
      return ''
    return (
      f"It prefers the aligned model's completion in {percent(statistics.fmean(aligned))} of the "
      f'held-out pairs. Whether that can be distinguished from chance (50{SPACE}%) is not known: '
      'the summary has no interval.'
    )
  shares = [seed.preference for seed in recovery.seeds]
  first = shares[0]
  if not first.n:
    return (
      f'The two models write identical completions for all {first.pairs:,} held-out prompts, so '
      'nothing shows that it tells them apart.'
    )
  bounds = [share.bounds for share in shares if share.bounds]
  rate, low, high = min(bounds, key=lambda ends: abs(ends[0] - w.CHANCE))
  # So few that neither chance nor a share that would be worth a "partly" is ruled out.
  undecided = low <= w.CHANCE and high >= w.AUROC_PARTLY
  few = ' Few pairs differ: use more prompts.' if undecided else ''
  where = f'of the held-out pairs that differ ({first.n:,} of {first.pairs:,})'
  which = '' if len(shares) == 1 else ', in the seed nearest to chance'
  shows = {
    APART: 'So it tells the two models apart, but this run cannot show by what.',
    MIXED: f'So some seeds cannot be distinguished from chance, 50{SPACE}%.',
    AT_CHANCE: f'That cannot be distinguished from chance, 50{SPACE}%: nothing shows that it '
    'tells the two models apart.',
    BACKWARDS: f'That is below chance, 50{SPACE}%: it prefers the completions of the wrong model.',
  }[apart]
  return (
    f"It prefers the aligned model's completion in {percent(rate)} {percents(low, high)} {where}"
    f'{which}. {shows}{few}{simpler_on_pairs(recovery) if apart != APART else ""}'
  )


def simpler_on_pairs(recovery: Recovery) -> str:
  """Names the simple reward that does tell the two models apart; '' if none does."""
  shares = {
    key: baseline.preference.bounds
    for key, baseline in recovery.baselines.items()
    if key in SIMPLE and baseline.preference.bounds
  }
  clear = {key: bounds for key, bounds in shares.items() if bounds and bounds[1] > w.CHANCE}
  if not clear:
    return ''
  best = max(clear, key=lambda key: clear[key][1])
  rate, low, high = clear[best]
  return (
    f' However, there is a difference to learn: {BASELINES[best]} prefers it in {percent(rate)} '
    f'{percents(low, high)}.'
  )
