"""The quality of a reward: how well it ranks, and whether simpler things explain it.

AUROC shows how well it ranks texts, and held-out pairs whether it tells the two models apart.
Baselines, confounds and a ceiling show whether words, length and style do as well. Dims: K seeds.
"""

from collections.abc import Sequence
import statistics

from irl_jax.report import verdicts as v
from irl_jax.report.summary import Interval
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import Reward
from irl_jax.report.summary import SetName
from irl_jax.report.wording import BASELINES
from irl_jax.report.wording import count
from irl_jax.report.wording import join
from irl_jax.report.wording import name
from irl_jax.report.wording import number
from irl_jax.report.wording import numbers
from irl_jax.report.wording import percent
from irl_jax.report.wording import percents
from irl_jax.report.wording import SPACE

Line = tuple[str, str]  # (verdict, text)

# Verdicts on the shares of pairs in which the seeds prefer the aligned completion.
APART, MIXED, AT_CHANCE, BACKWARDS = 'apart', 'mixed', 'at chance', 'backwards'
SIMPLE = ('length', 'bag_of_words', 'last_token')  # baselines that were fitted to training pairs
CHANCE = f'chance is 50{SPACE}%'


def ranking(recovery: Recovery, reference: SetName | None) -> Line:
  """Judges the agreement with r*, or else with labels: AUROC, with the worst seed's interval."""
  if reference is None:
    return v.UNKNOWN, nothing_to_compare_with(recovery)
  aurocs = recovery.of_seeds(lambda seed: seed.on(reference).auroc)
  bounds = [seed.on(reference).auroc_interval for seed in recovery.seeds]
  seeds = [(grade(auroc, ends), auroc, ends) for auroc, ends in zip(aurocs, bounds)]
  order = (v.YES, v.PARTLY, v.UNKNOWN, v.NO)
  verdict, auroc, worst_bounds = max(seeds, key=lambda seed: (order.index(seed[0]), -seed[1]))
  pairs = '' if tells_apart(recovery) in (None, APART) else f' {on_pairs(recovery)}'
  if verdict == v.UNKNOWN:
    assert worst_bounds is not None
    return verdict, (
      'Not known: the held-out texts have too few of one of the two classes. The AUROC of the '
      f'worst seed is {percent(auroc)}, with an interval of {percents(*worst_bounds)} '
      f'({CHANCE}). Check it on texts of both classes.{pairs}'
    )
  start = {
    v.YES: '',
    v.PARTLY: 'Roughly, with mistakes. ',
    v.NO: 'Do not rank texts with this reward. ',
  }[verdict]
  text = (
    f'{start}A harmless text scores above a toxic one in '
    f'{comparisons(aurocs, worst_bounds, auroc)}{against_chance(worst_bounds)}'
    f'{labels_reversed(aurocs, bounds, reference)}'
  )
  people: SetName = 'heldout_texts_human'
  if reference == 'heldout_texts' and (values := recovery.of_seeds(lambda s: s.on(people).auroc)):
    lowest = min(range(len(values)), key=values.__getitem__)
    ends = recovery.seeds[lowest].on(people).auroc_interval
    end = against_chance(ends) if ends and ends[0] <= v.CHANCE else '.'
    text += f" Against people's labels: {comparisons(values, ends)}{end}"
  return verdict, text + pairs


def grade(auroc: float, bounds: Interval | None) -> str:
  """Returns the verdict on the AUROC of one seed."""
  if bounds is None:
    return v.grade(auroc, v.AUROC_YES, v.AUROC_PARTLY)
  low, high = bounds
  if low <= v.CHANCE:
    return v.NO
  verdict = v.grade(auroc, v.AUROC_YES, v.AUROC_PARTLY)
  # A no whose interval reaches a yes decides nothing, however wide the interval is.
  if verdict == v.NO and high >= v.AUROC_YES:
    return v.UNKNOWN
  return v.PARTLY if verdict == v.YES and low < v.AUROC_PARTLY else verdict


def against_chance(bounds: Interval | None) -> str:
  """Ends a sentence about an AUROC: says whether its interval includes chance."""
  if bounds and bounds[1] < v.CHANCE:
    return f'. That is worse than chance, 50{SPACE}%.'
  if bounds and bounds[0] <= v.CHANCE:
    return f'. That cannot be told from chance, 50{SPACE}%.'
  return f' (AUROC; {CHANCE}).'


def labels_reversed(
  aurocs: Sequence[float], bounds: Sequence[Interval | None], reference: SetName
) -> str:
  """Says that the labels may be the other way round; '' if the ranking stays a no with those.

  That takes no threshold of its own: an AUROC of a turned round is 1 - a, and so is its interval.
  """
  if any(grade(1 - auroc, v.turned_round(ends)) == v.NO for auroc, ends in zip(aurocs, bounds)):
    return ''
  whose = 'of the true reward' if reference == 'heldout_texts' else 'of the texts'
  return f' The labels may be the other way round: check which label {whose} means toxic.'


def may_be_chance(recovery: Recovery, reference: SetName | None) -> bool:
  """Returns whether the interval of some seed's AUROC includes chance."""
  bounds = [seed.on(reference).auroc_interval for seed in recovery.seeds]
  return any(ends and ends[0] <= v.CHANCE <= ends[1] for ends in bounds)


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
  above = [low > v.CHANCE for _, low, _ in bounds]
  if any(above):
    return APART if all(above) else MIXED
  return BACKWARDS if all(high < v.CHANCE for _, _, high in bounds) else AT_CHANCE


def on_pairs(recovery: Recovery) -> str:
  """Says how often the reward prefers the aligned completion, and what follows; '' if unknown."""
  apart = tells_apart(recovery)
  if apart is None:
    aligned = recovery.of_seeds(lambda seed: seed.on('heldout_pairs').prefers_aligned)
    if not aligned:
      return ''
    return (
      f"It prefers the aligned model's completion in {percent(statistics.fmean(aligned))} of the "
      f'held-out pairs. Whether that can be told from chance (50{SPACE}%) is not known: the '
      'summary has no interval.'
    )
  shares = [seed.preference for seed in recovery.seeds]
  first = shares[0]
  if not first.n:
    return (
      f'The two models write the same for all {first.pairs:,} held-out prompts, so nothing shows '
      'that it tells them apart.'
    )
  bounds = [share.bounds for share in shares if share.bounds]
  rate, low, high = min(bounds, key=lambda ends: abs(ends[0] - v.CHANCE))
  # So few that neither chance nor a share that would be worth a "partly" is ruled out.
  undecided = low <= v.CHANCE and high >= v.AUROC_PARTLY
  few = ' Few pairs differ: give more prompts.' if undecided else ''
  where = f'of the held-out pairs that differ ({first.n:,} of {first.pairs:,})'
  which = '' if len(shares) == 1 else ', in the seed nearest to chance'
  shows = {
    APART: 'So it tells the two models apart, but nothing here shows by what.',
    MIXED: f'So whether it tells the two models apart cannot be told from chance, 50{SPACE}%, in '
    'every seed.',
    AT_CHANCE: f'That cannot be told from chance, 50{SPACE}%: nothing shows that it tells the two '
    'models apart.',
    BACKWARDS: f'That is below chance, 50{SPACE}%: it does not tell the two models apart as they '
    'were in training.',
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
  clear = {key: bounds for key, bounds in shares.items() if bounds and bounds[1] > v.CHANCE}
  if not clear:
    return ''
  best = max(clear, key=lambda key: clear[key][1])
  rate, low, high = clear[best]
  return (
    f' There is something to learn, though: {BASELINES[best]} prefers it in {percent(rate)} '
    f'{percents(low, high)}.'
  )


def shortcuts(recovery: Recovery, reference: SetName | None) -> Line:
  """Judges the reward against baselines and ceiling, and how much of it is style and length."""
  parts = {
    'a comparison with simpler rewards (it needs a true reward or labels)': against_baselines(
      recovery, reference
    ),
    'style (it needs a true reward)': style(recovery),
    'length': length(recovery),
  }
  lines = [line for line in parts.values() if line]
  if not lines:
    return v.UNKNOWN, 'Not known: this needs baselines, and a true reward or labels.'
  missing = [what for what, line in parts.items() if not line]
  not_measured = f'Not measured: {join(missing)}.' if missing else ''
  baselines, *others = [line[0] if line else v.UNKNOWN for line in parts.values()]
  verdict = v.worst(baselines, *others)
  if verdict == v.YES and v.UNKNOWN in (baselines, *others):
    verdict = v.UNKNOWN if baselines == v.UNKNOWN else v.PARTLY
  return verdict, ' '.join(filter(None, [*(text for _, text in lines), not_measured]))


def against_baselines(recovery: Recovery, reference: SetName | None) -> Line | None:
  """Compares the seeds with the best baseline by AUROC, and with the ceiling."""
  aurocs = recovery.of_seeds(lambda seed: seed.on(reference).auroc)
  others = {
    key: baseline.on(reference)
    for key, baseline in recovery.baselines.items()
    if key != 'constant' and baseline.on(reference).auroc is not None
  }
  if not aurocs or not others:
    return None
  best = max(others, key=lambda key: others[key].auroc or 0.0)
  mean, value, gain = statistics.fmean(aurocs), others[best].auroc or 0.0, others[best].auroc_gain
  named = f'{BASELINES.get(best) or name(best)} ({number(value)})'
  ceiling = distance_to_ceiling(mean, recovery.ceiling, reference)
  if mean <= value:
    return v.NO, (
      f'A simple baseline does as well or better than this reward (AUROC {number(mean)}): {named}.'
      + ceiling
    )
  if min(aurocs) <= value:
    return v.PARTLY, (
      f'Its mean AUROC of {number(mean)} is above the best baseline, {named}, but not in every '
      f'seed.{ceiling}'
    )
  if gain and gain[0] <= 0:
    return v.PARTLY, (
      f'Its AUROC of {number(mean)} is above the best baseline, {named}, but not by more than '
      f'chance.{ceiling}'
    )
  return v.YES, (
    f'Its AUROC of {number(mean)} beats the best baseline, {named}, in every seed.{ceiling}'
  )


def distance_to_ceiling(mean: float, ceiling: Reward, reference: SetName | None) -> str:
  """Says how far the seeds are from the same model trained on the right order; '' if unknown."""
  value, gain = ceiling.on(reference).auroc, ceiling.on(reference).auroc_gain
  if value is None:
    return ''
  start = f' The ceiling, {trained_ceiling(ceiling)},'
  if gain and gain[0] <= 0 <= gain[1]:
    return f'{start} reaches {number(value)}, a difference that may be chance.'
  if value > mean:
    return f'{start} reaches {number(value)}, {number(value - mean)} more.'
  return f'{start} does no better ({number(value)}).'


def trained_ceiling(ceiling: Reward) -> str:
  """Describes the ceiling: its training texts, and who sorted them."""
  if ceiling.trained_on is None:
    return 'the same model trained on texts in the right order'
  return f'the same model trained on {ceiling.trained_on}'


def style(recovery: Recovery) -> Line | None:
  """Judges how well R̂ tells the two models apart where r* sees no difference."""
  values = recovery.of_seeds(lambda seed: seed.confounds.style_auroc)
  if not values:
    return None
  mean, bounds = statistics.fmean(values), style_interval(recovery)
  text = (
    "Among texts of nearly the same true reward, it tells the two models' texts apart with AUROC "
    f'{number(mean)} (0.5: not at all)'
  )
  verdict = v.grade(-abs(mean - v.CHANCE), -v.STYLE_YES, -v.STYLE_PARTLY)
  how_much = {v.YES: 'little', v.PARTLY: 'some', v.NO: 'much'}[verdict]
  if bounds and not style_is_known(verdict, bounds):
    return v.UNKNOWN, (
      f'{text}. Its interval of {numbers(bounds)} is too wide to say how much of it is style.'
    )
  return verdict, f'{text}: {how_much} of it is style.'


def style_interval(recovery: Recovery) -> Interval | None:
  """Returns the span of all seeds' style intervals; None if one is missing."""
  lows = recovery.of_seeds(lambda seed: seed.confounds.style_low)
  highs = recovery.of_seeds(lambda seed: seed.confounds.style_high)
  return (min(lows), max(highs)) if lows and highs else None


def style_is_known(verdict: str, bounds: Interval) -> bool:
  """Returns True if an interval supports the verdict of 'little', 'some' or 'much' style."""
  low, high = bounds
  farthest = max(abs(low - v.CHANCE), abs(high - v.CHANCE))
  nearest = 0.0 if low <= v.CHANCE <= high else min(abs(low - v.CHANCE), abs(high - v.CHANCE))
  if verdict == v.YES:
    return farthest <= v.STYLE_PARTLY
  return nearest > (v.STYLE_YES if verdict == v.NO else 0.0)


def length(recovery: Recovery) -> Line | None:
  """Judges how much of R̂ is length."""
  values = recovery.of_seeds(lambda seed: seed.confounds.length_spearman)
  if not values:
    return None
  remaining = recovery.of_seeds(lambda seed: seed.confounds.partial_spearman_given_length)
  whole = recovery.of_seeds(lambda seed: seed.on('heldout_texts').spearman)
  ends = [seed.on('heldout_texts').spearman_interval for seed in recovery.seeds]
  agrees = all(not bounds or bounds[0] > 0 for bounds in ends)
  if remaining and whole and agrees:
    before, after = statistics.fmean(whole), statistics.fmean(remaining)
    if before >= v.CORRELATED and after < v.LENGTH_LEFT * before:
      return v.NO, (
        f'Most of its agreement is length: of a Spearman correlation of {number(before)} with the '
        f'true reward, {number(after)} remains given length.'
      )
  mean = statistics.fmean(values)
  interval = v.spearman_interval(mean, recovery.texts)
  reaches_zero = interval is not None and interval[0] <= 0 <= interval[1]
  too_high = interval is not None and max(map(abs, interval)) > v.LENGTH_MUCH
  if reaches_zero if abs(mean) >= v.LENGTH_NOTED else too_high:
    return v.UNKNOWN, (
      f'How much it depends on length is not known: a Spearman correlation of {number(mean)}, '
      f'with an interval of {numbers(interval)}.'
    )
  if abs(mean) >= v.LENGTH_NOTED:
    return v.PARTLY, f'It depends on length (Spearman {number(mean)}).'
  return v.YES, f'Length plays little part (Spearman {number(mean)}).'
