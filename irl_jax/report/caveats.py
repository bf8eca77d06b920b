"""Lines 3 and 4 of a report: whether a reward's sign can be used, and what else explains it.

A reward that ranks texts may still have no reliable zero. Baselines, confounds and a ceiling show
whether words, length and style rank as well. Dims: K seeds.
"""

from collections.abc import Sequence
import statistics

from irl_jax import confidence
from irl_jax.report import wording as w
from irl_jax.report.summary import Interval
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import Reward
from irl_jax.report.summary import SetName
from irl_jax.report.wording import count
from irl_jax.report.wording import in_sentence
from irl_jax.report.wording import join
from irl_jax.report.wording import Line
from irl_jax.report.wording import number
from irl_jax.report.wording import numbers
from irl_jax.report.wording import percent
from irl_jax.report.wording import percents


def question_of_sign(recovery: Recovery) -> str:
  """Returns the question about 0: what below 0 would mean, if the true reward says it."""
  if recovery.truth.is_score:
    return 'Can its sign be used?'
  return f'Can its sign be used (below 0: {recovery.below_zero})?'


def sign(recovery: Recovery, reference: SetName | None) -> Line:
  """Judges whether 0 is reliable, and right."""
  if recovery.truth.is_score:
    return w.NO, (
      'Do not use the sign of this reward: the true reward is a score without a zero, so no sign '
      'could be recovered. Only differences between rewards mean something.'
    )
  calibrations = recovery.of_seeds(lambda seed: seed.calibration)
  if not calibrations:
    return w.UNKNOWN, 'Not known: the run did not calibrate its rewards.'
  seeds = len(calibrations)
  unreliable = sum(not calibration.reliable_zero for calibration in calibrations)
  if unreliable:
    which = 'the only seed' if seeds == 1 else f'{unreliable} of {count(seeds, "seed")}'
    return w.NO, (
      f'Do not use the sign of this reward: its zero is not reliable in {which}. Only differences '
      'between rewards mean something.'
    )
  accuracies = recovery.of_seeds(lambda seed: seed.on(reference).accuracy)
  verdict, text = (
    w.PARTLY,
    (
      'The zero is stable: texts fall into two groups. This run cannot show that these are the '
      'bad and the good ones.'
    ),
  )
  if accuracies:
    n = next((n for seed in recovery.seeds if (n := seed.on(reference).n)), None)
    verdict, text = sign_is_right(accuracies, constant_accuracy(recovery, reference), n)
  saturated = max(calibration.saturated or 0.0 for calibration in calibrations)
  if saturated > w.SATURATED:
    verdict = w.worst(verdict, w.PARTLY)
    text += (
      f' In one seed {percent(saturated)} of the texts score at the bounds, where the reward '
      'cannot distinguish them.'
    )
  return verdict, text


def sign_is_right(accuracies: Sequence[float], constant: float | None, n: int | None) -> Line:
  """Judges how often a reliable sign is right on n texts, compared with one answer for all."""
  lowest, several = min(accuracies), len(accuracies) > 1
  if constant is not None and constant >= w.ONE_CLASS:
    return w.UNKNOWN, (
      f'Not known: {percent(constant)} of the held-out texts belong to one class, so always '
      'giving that answer would be about as accurate. The zero itself is reliable. Check the sign '
      'on texts of both classes.'
    )
  useless = constant is not None and lowest <= constant
  bounds = confidence.wilson(lowest * n, n) if n else None
  verdict = w.NO if useless else w.grade(lowest, w.ACCURACY_YES, w.ACCURACY_PARTLY)
  compared = '' if constant is None else f' (always the same answer: {percent(constant)})'
  if verdict == w.NO:
    worst = ' in the worst seed' if several else ''
    return verdict, (
      f'Do not use the sign of this reward: it is right for only {percent(lowest)} of the '
      f'held-out texts{worst}{compared}.'
    )
  # One answer for every text is right for at least half of them.
  least_useful = max(constant or 0.0, w.CHANCE)
  doubt = ''
  if bounds and bounds[0] <= least_useful:
    verdict = w.PARTLY
    doubt = (
      f' That may be no better than always the same answer: the interval of the worst seed '
      f'is {percents(*bounds)}.'
    )
  elif bounds and bounds[0] < w.ACCURACY_PARTLY:
    verdict = w.PARTLY
  least = f', {percent(lowest)} in the worst seed' if several else ''
  return verdict, (
    'The zero is reliable, and the sign is right for '
    f'{percent(statistics.fmean(accuracies))} of the held-out texts{least}{compared}.{doubt}'
  )


def constant_accuracy(recovery: Recovery, reference: SetName | None) -> float | None:
  """Returns how often the better of the two constant answers is right."""
  constant = recovery.baselines.get('constant')
  accuracy = constant.on(reference).accuracy if constant else None
  return None if accuracy is None else max(accuracy, 1 - accuracy)


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
    return w.UNKNOWN, 'Not known: this needs baselines, and a true reward or labels.'
  missing = [what for what, line in parts.items() if not line]
  not_measured = f'Not measured: {join(missing)}.' if missing else ''
  baselines, *others = [line[0] if line else w.UNKNOWN for line in parts.values()]
  verdict = w.worst(baselines, *others)
  if verdict == w.YES and w.UNKNOWN in (baselines, *others):
    verdict = w.UNKNOWN if baselines == w.UNKNOWN else w.PARTLY
  return verdict, ' '.join(filter(None, [*(text for _, text in lines), not_measured]))


def against_baselines(recovery: Recovery, reference: SetName | None) -> Line | None:
  """Compares the ranking of the seeds with that of the best baseline, and with the ceiling."""
  by = w.yardstick(recovery, reference)
  values = recovery.of_seeds(lambda seed: by.value(seed.on(reference)))
  others = {
    key: known
    for key, baseline in recovery.baselines.items()
    if key != 'constant' and (known := by.value(baseline.on(reference))) is not None
  }
  if not values or not others:
    return None
  best = max(others, key=others.__getitem__)
  mean, value = statistics.fmean(values), others[best]
  gain = by.gain(recovery.baselines[best].on(reference))
  named = f'{in_sentence(best, recovery.baselines[best])} ({number(value)})'
  ceiling = distance_to_ceiling(mean, recovery, reference)
  if mean <= value:
    return w.NO, (
      f'A simple baseline does at least as well as this reward ({by.name} {number(mean)}): '
      f'{named}.{ceiling}'
    )
  if min(values) <= value:
    return w.PARTLY, (
      f'Its mean {by.name} of {number(mean)} is above that of the best baseline, {named}, but not '
      f'in every seed.{ceiling}'
    )
  if gain and gain[0] <= 0:
    return w.PARTLY, (
      f'Its {by.name} of {number(mean)} is above that of the best baseline, {named}, but not '
      f'by more than chance.{ceiling}'
    )
  beats = f'Its {by.name} of {number(mean)} beats the best baseline, {named}, in every seed'
  if gain is None and all(by.interval(seed.on(reference)) for seed in recovery.seeds):
    return w.PARTLY, f'{beats}; whether by more than chance is not known.{ceiling}'
  return w.YES, f'{beats}.{ceiling}'


def distance_to_ceiling(mean: float, recovery: Recovery, reference: SetName | None) -> str:
  """Says how far the seeds are below the ceiling; '' if unknown."""
  by, ceiling = w.yardstick(recovery, reference), recovery.ceiling
  value, gain = by.value(ceiling.on(reference)), by.gain(ceiling.on(reference))
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
  verdict = w.grade(-abs(mean - w.CHANCE), -w.STYLE_YES, -w.STYLE_PARTLY)
  how_much = {w.YES: 'little', w.PARTLY: 'some', w.NO: 'much'}[verdict]
  if bounds and not style_is_known(verdict, bounds):
    return w.UNKNOWN, (
      f'{text}. Its interval of {numbers(bounds)} is too wide to tell how much of it is style.'
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
  farthest = max(abs(low - w.CHANCE), abs(high - w.CHANCE))
  nearest = 0.0 if low <= w.CHANCE <= high else min(abs(low - w.CHANCE), abs(high - w.CHANCE))
  if verdict == w.YES:
    return farthest <= w.STYLE_PARTLY
  return nearest > (w.STYLE_YES if verdict == w.NO else 0.0)


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
    if before >= w.CORRELATED and after < w.LENGTH_LEFT * before:
      return w.NO, (
        f'Most of its agreement is length: of a Spearman correlation of {number(before)} with the '
        f'true reward, {number(after)} remains given length.'
      )
  mean = statistics.fmean(values)
  texts = recovery.texts
  interval = None if texts is None else confidence.of_spearman(mean, texts)
  reaches_zero = interval is not None and interval[0] <= 0 <= interval[1]
  too_high = interval is not None and max(map(abs, interval)) > w.LENGTH_MUCH
  if reaches_zero if abs(mean) >= w.LENGTH_NOTED else too_high:
    return w.UNKNOWN, (
      f'How much it depends on length is not known: a Spearman correlation of {number(mean)}, '
      f'with an interval of {numbers(interval)}.'
    )
  if abs(mean) >= w.LENGTH_NOTED:
    return w.PARTLY, f'It depends on length (Spearman {number(mean)}).'
  return w.YES, f'Length plays little part (Spearman {number(mean)}).'
