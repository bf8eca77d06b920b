"""The headline and the five lines at the top of a report: the result, and how far to trust it.

Each line answers one question with 'yes', 'partly', 'no' or 'unknown', by the thresholds of
verdicts.py, and gives the reason in words that need no background knowledge.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import statistics

from irl_jax.report import training
from irl_jax.report import verdicts as v
from irl_jax.report.quality import AT_CHANCE
from irl_jax.report.quality import BACKWARDS
from irl_jax.report.quality import Line
from irl_jax.report.quality import may_be_chance
from irl_jax.report.quality import ranking
from irl_jax.report.quality import shortcuts
from irl_jax.report.quality import tells_apart
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import SetName
from irl_jax.report.summary import Start
from irl_jax.report.summary import Summary
from irl_jax.report.wording import count
from irl_jax.report.wording import number
from irl_jax.report.wording import numbers
from irl_jax.report.wording import percent
from irl_jax.report.wording import percents
from irl_jax.report.wording import reference as named

PARTLY_AGREE = 'Partly. '
NOTHING = {
  AT_CHANCE: 'Nothing was recovered: this reward cannot be distinguished from chance on held-out '
  'pairs.',
  BACKWARDS: "Nothing was recovered: on held-out pairs this reward prefers the base model's "
  'completions.',
}


@dataclasses.dataclass(frozen=True)
class Finding:
  """One line: a question, its verdict ('yes', 'partly', 'no' or 'unknown'), and why."""

  question: str
  verdict: str
  text: str


@dataclasses.dataclass(frozen=True)
class Findings:
  """The headline and five lines."""

  headline: str
  lines: tuple[Finding, ...]


def find(summary: Summary) -> Findings:
  """Says what was recovered and how far to trust it."""
  recovery = summary.recovery
  reference = recovery.reference
  does = named(reference, recovery.truth).does
  ranks = ranking(recovery, reference)
  apart = tells_apart(recovery)
  # A reward that ranks texts correctly has learned something, even if too few pairs show it.
  nothing = ranks[0] in (v.NO, v.UNKNOWN) and apart in (AT_CHANCE, BACKWARDS)
  doubt = of_nothing if nothing else unchanged
  lines = (
    Finding(f'Does it rank texts as {does}?', *ranks),
    Finding('Do independent recoveries agree?', *doubt(recoveries(recovery), v.UNKNOWN)),
    Finding(question_of_sign(recovery), *doubt(sign(recovery, reference), v.NO)),
    Finding(
      'Is it more than words, length and style?', *doubt(shortcuts(recovery, reference), v.UNKNOWN)
    ),
    Finding('Does training on it work?', *training.verdict(summary)),
  )
  verdicts = [line.verdict for line in lines]
  if not recovery.seeds:
    return Findings('No reward was recovered in this run.', lines)
  if nothing and apart:
    return Findings(NOTHING[apart], lines)
  return Findings(headline(verdicts, does, may_be_chance(recovery, reference)), lines)


def of_nothing(line: Line, at_best: str) -> Line:
  """Returns the line to show if there is no evidence that the reward learned anything."""
  verdict, text = line
  if verdict not in (v.YES, v.PARTLY):
    return line
  why = {
    v.UNKNOWN: 'Not known: there is no evidence that a reward was recovered, so this '
    'line proves nothing.',
    v.NO: 'Do not use the sign of this reward: there is no evidence that a reward was recovered.',
  }[at_best]
  return at_best, f'{why} {text.removeprefix(PARTLY_AGREE)}'


def unchanged(line: Line, at_best: str) -> Line:
  """Returns a line as it is."""
  return line


def headline(verdicts: Sequence[str], does: str, chance: bool) -> str:
  """Sums up the five verdicts on a recovered reward in a sentence.

  Args:
    verdicts: of the five lines.
    does: such as 'the true reward does' or 'people do'.
    chance: whether the ranking may be that of chance.
  """
  ranks, alike, zero, more, _ = verdicts
  if ranks == v.UNKNOWN:
    no_sign = ' Do not use its sign.' if zero == v.NO else ''
    return (
      'Not verified: the run has no independent reference (or too few texts) to check this reward '
      'against.' + no_sign
    )
  if ranks == v.NO and chance:
    return f'Do not use this reward: there is no evidence that it ranks texts as {does}.'
  if ranks == v.NO:
    return f'Do not use this reward: it does not rank texts as {does}.'
  if alike == v.NO:
    return 'Do not trust this reward: independent recoveries disagree.'
  if more == v.NO:
    return 'Be careful: the reward ranks texts, but a shortcut explains much of it.'
  degree = 'almost' if ranks == v.YES else 'roughly'
  mistakes = '' if ranks == v.YES else ', with mistakes'
  use_of_sign = {
    v.YES: ', and its sign is reliable.',
    v.PARTLY: '; use its sign with care.',
    v.NO: '; do not use its sign.',
    v.UNKNOWN: '; it is not known whether its sign is right.',
  }
  return f'It ranks texts {degree} as {does}{mistakes}{use_of_sign[zero]}'


def recoveries(recovery: Recovery) -> Line:
  """Judges the agreement of the seeds by their Spearman correlations."""
  seeds = len(recovery.seeds)
  if not seeds:
    return v.UNKNOWN, 'Not known: no reward was recovered.'
  if seeds == 1:
    return v.UNKNOWN, (
      'Not known: one reward was recovered. Completions do not determine a reward: recover several '
      '(config.irl.seeds) before you draw conclusions from one.'
    )
  alike, texts = recovery.identifiability, recovery.texts
  pairs = alike.seed_pairs(alike.spearman)
  mean = statistics.fmean(pairs) if pairs else recovery.seed_spearman
  if texts is not None and texts < 2:
    return v.UNKNOWN, 'Not known: comparing two rewards needs two held-out texts.'
  if mean is None:
    return v.NO, 'Do not trust this reward: at least one seed scores every text the same.'
  lowest = min(pairs, default=mean)
  bounds = v.spearman_interval(lowest, texts)
  verdict = v.grade_within(lowest, bounds, v.SPEARMAN_YES, v.SPEARMAN_PARTLY, chance=0.0)
  least = f', {number(lowest)} between the two least alike' if len(pairs) > 1 else ''
  text = (
    f'{count(seeds, "seed")} rank the held-out texts with a mean Spearman correlation of '
    f'{number(mean)}{least} (1: the same order, 0: unrelated).'
  )
  same_sign = alike.seed_pairs(alike.sign_agreement)
  if same_sign and not recovery.truth.is_score:
    text += f' Any two agree on the sign of at least {percent(min(same_sign))} of the texts.'
  if verdict == v.UNKNOWN:
    return verdict, (
      f'Not known: {count(texts or 0, "held-out text")} are too few to tell (interval '
      f'{numbers(bounds)}). {text}'
    )
  threshold = v.SPEARMAN_YES if verdict == v.YES else v.SPEARMAN_PARTLY
  alone = from_start_alone(recovery.start)
  # The interval counts too: an agreement that may be no more than that of the starts shows nothing.
  if verdict != v.NO and alone >= min(threshold, bounds[0] if bounds else 1.0):
    return v.UNKNOWN, (
      'Not known: the seeds started from similar rewards and stayed near them, which alone gives a '
      f'Spearman correlation of {number(alone)}, so their agreement is not evidence. {text}'
    )
  start = {v.YES: '', v.PARTLY: PARTLY_AGREE, v.NO: 'Do not read one seed as the answer. '}[verdict]
  return verdict, start + text


def from_start_alone(start: Start) -> float:
  """Returns the Spearman correlation of two seeds whose changes in training have nothing in common.

  If all that seeds a and b share is their start s, their partial correlation given s is 0, so that
  r(a, b) = r(a, s) r(s, b) (Yule 1907). With two starts, their own correlation is a third factor.
  Of several seeds, the two least alike count, as in the verdict. -1 if a correlation is not known.
  """
  moved = [value for value in start.with_start if value is not None]
  if start.between_seeds is None or len(moved) < 2:
    return -1.0
  return start.between_seeds * min(a * b for a, b in itertools.combinations(moved, 2))


def question_of_sign(recovery: Recovery) -> str:
  """Returns the question about 0: what below 0 would mean, if the true reward says it."""
  return (
    'Can its sign be used?'
    if recovery.truth.is_score
    else ('Can its sign be used (below 0: toxic)?')
  )


def sign(recovery: Recovery, reference: SetName | None) -> Line:
  """Judges whether 0 is reliable, and right."""
  if recovery.truth.is_score:
    return v.NO, (
      'Do not use the sign of this reward: the true reward is a score without a zero, so no sign '
      'could be recovered. Only differences between rewards mean something.'
    )
  calibrations = recovery.of_seeds(lambda seed: seed.calibration)
  if not calibrations:
    return v.UNKNOWN, 'Not known: the run did not calibrate its rewards.'
  seeds = len(calibrations)
  unreliable = sum(not calibration.reliable_zero for calibration in calibrations)
  if unreliable:
    which = 'the only seed' if seeds == 1 else f'{unreliable} of {count(seeds, "seed")}'
    return v.NO, (
      f'Do not use the sign of this reward: its zero is not reliable in {which}. Only differences '
      'between rewards mean something.'
    )
  accuracies = recovery.of_seeds(lambda seed: seed.on(reference).accuracy)
  verdict, text = (
    v.PARTLY,
    (
      'The zero is stable: texts fall into two groups. This run cannot show that these are the '
      'toxic and the harmless ones.'
    ),
  )
  if accuracies:
    n = next((n for seed in recovery.seeds if (n := seed.on(reference).n)), None)
    verdict, text = sign_is_right(accuracies, constant_accuracy(recovery, reference), n)
  saturated = max(calibration.saturated or 0.0 for calibration in calibrations)
  if saturated > v.SATURATED:
    verdict = v.worst(verdict, v.PARTLY)
    text += (
      f' In one seed {percent(saturated)} of the texts score at the bounds, where the reward '
      'cannot distinguish them.'
    )
  return verdict, text


def sign_is_right(accuracies: Sequence[float], constant: float | None, n: int | None) -> Line:
  """Judges how often a reliable sign is right on n texts, compared with one answer for all."""
  lowest, several = min(accuracies), len(accuracies) > 1
  if constant is not None and constant >= v.ONE_CLASS:
    return v.UNKNOWN, (
      f'Not known: {percent(constant)} of the held-out texts belong to one class, so always '
      'giving that answer would be about as accurate. The zero itself is reliable. Check the sign '
      'on texts of both classes.'
    )
  useless = constant is not None and lowest <= constant
  bounds = v.share_interval(lowest, n)
  verdict = v.NO if useless else v.grade(lowest, v.ACCURACY_YES, v.ACCURACY_PARTLY)
  compared = '' if constant is None else f' (always the same answer: {percent(constant)})'
  if verdict == v.NO:
    worst = ' in the worst seed' if several else ''
    return verdict, (
      f'Do not use the sign of this reward: it is right for only {percent(lowest)} of the '
      f'held-out texts{worst}{compared}.'
    )
  # One answer for every text is right for at least half of them.
  least_useful = max(constant or 0.0, v.CHANCE)
  doubt = ''
  if bounds and bounds[0] <= least_useful:
    verdict = v.PARTLY
    doubt = (
      f' That may be no better than always the same answer: the interval of the worst seed '
      f'is {percents(*bounds)}.'
    )
  elif bounds and bounds[0] < v.ACCURACY_PARTLY:
    verdict = v.PARTLY
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
