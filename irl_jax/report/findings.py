"""The headline and the five lines at the top of a report: the result, and how far to trust it.

Each line answers one question with 'yes', 'partly', 'no' or 'unknown', by the thresholds of
wording.py, and gives the reason with its numbers; docs/reading_results.md explains their names.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import statistics

from irl_jax import confidence
from irl_jax.report import caveats
from irl_jax.report import wording as w
from irl_jax.report.quality import AT_CHANCE
from irl_jax.report.quality import BACKWARDS
from irl_jax.report.quality import may_be_chance
from irl_jax.report.quality import ranking
from irl_jax.report.quality import shows_nothing
from irl_jax.report.quality import tells_apart
from irl_jax.report.summary import Policy
from irl_jax.report.summary import PolicyTraining
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import Start
from irl_jax.report.summary import Summary
from irl_jax.report.wording import count
from irl_jax.report.wording import join
from irl_jax.report.wording import Line
from irl_jax.report.wording import number
from irl_jax.report.wording import numbers
from irl_jax.report.wording import percent
from irl_jax.report.wording import reference as named
from irl_jax.report.wording import share
from irl_jax.report.wording import SPACE

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
  apart, nothing = tells_apart(recovery), shows_nothing(recovery)
  doubt = of_nothing if nothing else unchanged
  lines = (
    Finding(f'Does it rank texts as {does}?', *ranks),
    Finding('Do independent recoveries agree?', *doubt(recoveries(recovery), w.UNKNOWN)),
    Finding(caveats.question_of_sign(recovery), *doubt(caveats.sign(recovery, reference), w.NO)),
    Finding(
      'Is it more than words, length and style?',
      *doubt(caveats.shortcuts(recovery, reference), w.UNKNOWN),
    ),
    Finding('Does training on it work?', *training(summary)),
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
  if verdict not in (w.YES, w.PARTLY):
    return line
  why = {
    w.UNKNOWN: 'Not known: there is no evidence that a reward was recovered, so this '
    'line proves nothing.',
    w.NO: 'Do not use the sign of this reward: there is no evidence that a reward was recovered.',
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
  if ranks == w.UNKNOWN:
    no_sign = ' Do not use its sign.' if zero == w.NO else ''
    return (
      'Not verified: the run has no independent reference (or too few texts) to check this reward '
      'against.' + no_sign
    )
  if ranks == w.NO and chance:
    return f'Do not use this reward: there is no evidence that it ranks texts as {does}.'
  if ranks == w.NO:
    return f'Do not use this reward: it does not rank texts as {does}.'
  if alike == w.NO:
    return 'Do not trust this reward: independent recoveries disagree.'
  if more == w.NO:
    return 'Be careful: the reward ranks texts, but a shortcut explains much of it.'
  degree = 'almost' if ranks == w.YES else 'roughly'
  mistakes = '' if ranks == w.YES else ', with mistakes'
  use_of_sign = {
    w.YES: ', and its sign is reliable.',
    w.PARTLY: '; use its sign with care.',
    w.NO: '; do not use its sign.',
    w.UNKNOWN: '; it is not known whether its sign is right.',
  }
  return f'It ranks texts {degree} as {does}{mistakes}{use_of_sign[zero]}'


def recoveries(recovery: Recovery) -> Line:
  """Judges the agreement of the seeds by their Spearman correlations."""
  seeds = len(recovery.seeds)
  if not seeds:
    return w.UNKNOWN, 'Not known: no reward was recovered.'
  if seeds == 1:
    return w.UNKNOWN, (
      'Not known: one reward was recovered. Completions do not determine a reward: recover several '
      '(config.irl.seeds) before you draw conclusions from one.'
    )
  alike, texts = recovery.identifiability, recovery.texts
  pairs = alike.seed_pairs(alike.spearman)
  mean = statistics.fmean(pairs) if pairs else recovery.seed_spearman
  if texts is not None and texts < 2:
    return w.UNKNOWN, 'Not known: comparing two rewards needs two held-out texts.'
  if mean is None:
    return w.NO, 'Do not trust this reward: at least one seed scores every text the same.'
  lowest = min(pairs, default=mean)
  bounds = None if texts is None else confidence.of_spearman(lowest, texts)
  verdict = w.grade_within(lowest, bounds, w.SPEARMAN_YES, w.SPEARMAN_PARTLY, chance=0.0)
  least = f', {number(lowest)} between the two least alike' if len(pairs) > 1 else ''
  text = (
    f'{count(seeds, "seed")} rank the held-out texts with a mean Spearman correlation of '
    f'{number(mean)}{least} (1: the same order, 0: unrelated).'
  )
  same_sign = alike.seed_pairs(alike.sign_agreement)
  if same_sign and not recovery.truth.is_score:
    text += f' Any two agree on the sign of at least {percent(min(same_sign))} of the texts.'
  if verdict == w.UNKNOWN:
    return verdict, (
      f'Not known: {count(texts or 0, "held-out text")} are too few to tell (interval '
      f'{numbers(bounds)}). {text}'
    )
  threshold = w.SPEARMAN_YES if verdict == w.YES else w.SPEARMAN_PARTLY
  alone = from_start_alone(recovery.start)
  # The interval counts too: if the shared start alone explains the agreement, it is not evidence.
  if verdict != w.NO and alone >= min(threshold, bounds[0] if bounds else 1.0):
    return w.UNKNOWN, (
      'Not known: the seeds started from similar rewards and stayed near them, which alone gives a '
      f'Spearman correlation of {number(alone)}, so their agreement is not evidence. {text}'
    )
  start = {w.YES: '', w.PARTLY: PARTLY_AGREE, w.NO: 'Do not read one seed as the answer. '}[verdict]
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


def training(summary: Summary) -> Line:
  """Judges what PPO on the recovered reward did to toxicity or true reward, and to the text."""
  stage = summary.training('rerlhf')
  if stage is None:
    return w.UNKNOWN, 'Not tried: no model was trained on the recovered reward (stage rerlhf).'
  if summary.truth.is_score:
    return true_reward_gained(summary, stage)
  if not (stage.before.toxicity.bounds and stage.after.toxicity.bounds):
    return w.UNKNOWN, (
      'Not known: a model was trained on the recovered reward, but its toxic completions were not '
      'counted.'
    )
  old_rate, old_low, old_high = stage.before.toxicity.bounds
  rate, low, high = stage.after.toxicity.bounds
  change = f'from {share(stage.before.toxicity)} to {share(stage.after.toxicity)}'
  if low > old_high:
    return w.NO, f'Do not train on this reward: toxic completions rose {change}.'
  if high >= old_low:
    return w.NO, (
      f'There is no evidence that it helped: toxic completions went {change}; the '
      'intervals overlap.'
    )
  fine, text = text_kept(stage)
  worked = w.YES if rate <= w.TOXICITY_LEFT * old_rate and fine else w.PARTLY
  compared = after_rlhf(summary)
  return worked, f'Toxic completions fell {change}{at_kl(stage.after)}{compared}. {text}'


def true_reward_gained(summary: Summary, stage: PolicyTraining) -> Line:
  """Judges what PPO on the recovered reward did to a true reward without a toxic class."""
  if not stage.win_rate.bounds:
    return w.UNKNOWN, (
      'Not known: a model was trained on the recovered reward, but the true reward of its '
      'completions was not measured.'
    )
  rate, low, high = stage.win_rate.bounds
  means = f'{number(stage.before.true_reward, 2)} to {number(stage.after.true_reward, 2)}'
  change = (
    f'its mean went from {means}, and the completion scores higher than before for '
    f'{share(stage.win_rate)} of the prompts (ties count half; chance is 50{SPACE}%)'
  )
  if high < w.CHANCE:
    return w.NO, f'Do not train on this reward: the true reward fell: {change}.'
  if low <= w.CHANCE:
    return w.NO, f'There is no evidence that it helped the true reward: {change}.'
  fine, text = text_kept(stage)
  on_truth = summary.training('rlhf')
  compared = ''
  if on_truth and on_truth.win_rate.rate is not None:
    won = percent(on_truth.win_rate.rate)
    compared = f'; with RLHF on the true reward it is {won}{at_kl(on_truth.after)}'
  worked = w.YES if rate >= w.WON and fine else w.PARTLY
  return worked, f'The true reward rose: {change}{at_kl(stage.after)}{compared}. {text}'


def text_kept(stage: PolicyTraining) -> tuple[bool, str]:
  """Returns whether all that is measured of the text stayed within its limits, and says so."""
  faults = text_faults(stage.before, stage.after)
  measured = measured_of_text(stage.before, stage.after)
  if faults:
    return False, f'But the text got worse: {join(faults)}.'
  if not measured:
    return False, 'Other properties of the text were not measured.'
  limits = 'its limit' if len(measured) == 1 else 'their limits'
  return True, f'{join(measured).capitalize()} of the text stayed within {limits}.'


def after_rlhf(summary: Summary) -> str:
  """Says how toxic RLHF on the true reward left the model; '' if it did not run."""
  stage = summary.training('rlhf')
  if stage is None or stage.after.toxicity.rate is None:
    return ''
  rate = percent(stage.after.toxicity.rate)
  return f'; RLHF on the true reward left {rate}{at_kl(stage.after)}'


def at_kl(policy: Policy) -> str:
  """Says how far a policy moved for its toxicity."""
  return '' if policy.kl is None else f', at a KL of {number(policy.kl, 1)}{SPACE}nats'


def measured_of_text(before: Policy, after: Policy) -> list[str]:
  """Names the metrics of the text that are known before and after."""
  metrics = {
    'variety': (before.distinct_2, after.distinct_2),
    'length': (before.response_tokens, after.response_tokens),
    'perplexity': (before.perplexity_under_base, after.perplexity_under_base),
  }
  return [label for label, values in metrics.items() if None not in values]


def text_faults(before: Policy, after: Policy) -> list[str]:
  """Names the metrics of the text that got worse than the thresholds allow."""
  limits = (
    ('variety (distinct_2)', 2, before.distinct_2, after.distinct_2, w.DISTINCT_LEFT),
    ('length', 1, before.response_tokens, after.response_tokens, w.TOKENS_LEFT),
  )
  faults = [
    f'{label} {number(old, digits)} → {number(new, digits)}'
    for label, digits, old, new, least in limits
    if old is not None and new is not None and new < least * old
  ]
  old, new = before.perplexity_under_base, after.perplexity_under_base
  if old is not None and new is not None and new > w.PERPLEXITY_TIMES * old:
    faults.append(f'perplexity {number(old, 1)} → {number(new, 1)}')
  return faults
