"""Comparison of a reward with words, length and style: baselines, confounds and a ceiling."""

import statistics

from irl_jax.report import verdicts as v
from irl_jax.report.summary import Interval
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import Reward
from irl_jax.report.summary import SetName
from irl_jax.report.wording import BASELINES
from irl_jax.report.wording import join
from irl_jax.report.wording import name
from irl_jax.report.wording import number
from irl_jax.report.wording import numbers

Line = tuple[str, str]  # (verdict, text)


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
