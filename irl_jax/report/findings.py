"""What was recovered and how far to trust it: the headline and five lines at the top of a report.

Each line answers one question with 'yes', 'partly', 'no' or 'unknown', by the thresholds of
verdicts.py, and says why in words that need no background.
"""

from collections.abc import Sequence
import dataclasses
import statistics

from irl_jax.report import verdicts as v
from irl_jax.report.summary import Interval
from irl_jax.report.summary import Policy
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import SetName
from irl_jax.report.summary import Summary
from irl_jax.report.wording import BASELINES
from irl_jax.report.wording import count
from irl_jax.report.wording import join
from irl_jax.report.wording import name
from irl_jax.report.wording import number
from irl_jax.report.wording import percent
from irl_jax.report.wording import percents
from irl_jax.report.wording import REFERENCES
from irl_jax.report.wording import share
from irl_jax.report.wording import SPACE

Line = tuple[str, str]  # (verdict, text)


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
  does = REFERENCES[reference or 'heldout_texts'].does
  lines = (
    Finding(f'Does it rank texts as {does}?', *ranking(recovery, reference)),
    Finding('Do independent recoveries agree?', *recoveries(recovery)),
    Finding('Can its sign be used (below 0: toxic)?', *sign(recovery, reference)),
    Finding('Is it more than words, length and style?', *shortcuts(recovery, reference)),
    Finding('Does training on it work?', *training(summary)),
  )
  return Findings(headline([line.verdict for line in lines], bool(recovery.seeds), does), lines)


def headline(verdicts: Sequence[str], recovered: bool, does: str) -> str:
  """Sums the five verdicts up in a sentence.

  Args:
    verdicts: of the five lines.
    recovered: whether the run recovered a reward.
    does: 'the true reward does' or 'people do'.
  """
  ranks, alike, zero, more, _ = verdicts
  if not recovered:
    return 'No reward was recovered in this run.'
  if ranks == v.UNKNOWN:
    no_sign = ' Do not use its sign.' if zero == v.NO else ''
    return (
      'Not verified: the run has nothing independent, or too little, to check this reward against.'
      + no_sign
    )
  if ranks == v.NO:
    return f'Do not use this reward: it does not rank texts as {does}.'
  if alike == v.NO:
    return 'Do not trust this reward: independent recoveries disagree.'
  if more == v.NO:
    return 'Be careful: the reward ranks texts, but a shortcut explains much of it.'
  degree = 'much' if ranks == v.YES else 'roughly'
  mistakes = '' if ranks == v.YES else ', with mistakes'
  use_of_sign = {
    v.YES: ', and its sign can be used.',
    v.PARTLY: '; use its sign with care.',
    v.NO: '; do not use its sign.',
    v.UNKNOWN: '; whether its sign is right is not known.',
  }
  return f'It ranks texts {degree} as {does}{mistakes}{use_of_sign[zero]}'


def ranking(recovery: Recovery, reference: SetName | None) -> Line:
  """Judges the agreement with r*, or else with labels: AUROC, with the worst seed's interval."""
  if reference is None:
    return v.UNKNOWN, nothing_to_compare_with(recovery)
  aurocs = recovery.of_seeds(lambda seed: seed.on(reference).auroc)
  lowest = min(range(len(aurocs)), key=aurocs.__getitem__)
  bounds = recovery.seeds[lowest].on(reference).auroc_interval
  if bounds and 0.5 < bounds[0] < v.AUROC_PARTLY < bounds[1] and bounds[1] - bounds[0] > v.TOO_WIDE:
    return v.UNKNOWN, (
      'Not known: the held-out texts hold too few of one of the two classes. The AUROC of the '
      f'worst seed is {percent(aurocs[lowest])}, with an interval of {percents(*bounds)} '
      f'(chance is 50{SPACE}%). Check it on texts of both classes.'
    )
  verdict = v.grade(aurocs[lowest], v.AUROC_YES, v.AUROC_PARTLY)
  end = f' (AUROC; chance is 50{SPACE}%).'
  if bounds and bounds[0] <= 0.5:
    verdict = v.NO
    end = f'. That is no better than chance, 50{SPACE}%.'
    if bounds[1] < 0.5:
      end = f'. That is worse than chance, 50{SPACE}%.'
  start = {
    v.YES: '',
    v.PARTLY: 'Roughly, with mistakes. ',
    v.NO: 'Do not rank texts with this reward. ',
  }[verdict]
  text = f'{start}A harmless text scores above a toxic one in {comparisons(aurocs, bounds)}{end}'
  people = recovery.of_seeds(lambda seed: seed.on('heldout_texts_human').auroc)
  if reference == 'heldout_texts' and people:
    text += f" Against people's labels: {comparisons(people)}."
  return verdict, text


def nothing_to_compare_with(recovery: Recovery) -> str:
  """Says what is known of a reward if there is neither r* nor a label."""
  if not recovery.seeds:
    return 'Not known: the run measured no recovered reward.'
  text = 'Not known: there is neither a true reward nor labels to compare it with.'
  aligned = recovery.of_seeds(lambda seed: seed.on('heldout_pairs').prefers_aligned)
  if aligned:
    text += (
      f" It prefers the aligned model's completion in {percent(statistics.fmean(aligned))} of the "
      'held-out pairs. So it tells the two models apart, but nothing here shows by what.'
    )
  return text


def comparisons(aurocs: Sequence[float], bounds: Interval | None = None) -> str:
  """Writes the mean and the worst of the seeds' AUROC, with the worst one's interval."""
  ends = ' ' + percents(*bounds) if bounds else ''
  if len(aurocs) == 1:
    return f'{percent(aurocs[0])}{ends} of comparisons, in the only seed'
  return (
    f'{percent(statistics.fmean(aurocs))} of comparisons on average over '
    f'{count(len(aurocs), "seed")}, {percent(min(aurocs))}{ends} in the worst'
  )


def recoveries(recovery: Recovery) -> Line:
  """Judges how alike the seeds are: the Spearman correlation of every two."""
  seeds = len(recovery.seeds)
  if not seeds:
    return v.UNKNOWN, 'Not known: no reward was recovered.'
  if seeds == 1:
    return v.UNKNOWN, (
      'Not known: one reward was recovered. Completions do not determine a reward: recover several '
      '(config.irl.seeds) before you read much into one.'
    )
  alike = recovery.identifiability
  pairs = alike.seed_pairs(alike.spearman)
  mean = statistics.fmean(pairs) if pairs else recovery.seed_spearman
  if mean is None:
    return v.NO, 'Do not trust this reward: at least one seed scores every text the same.'
  lowest = min(pairs, default=mean)
  verdict = v.grade(lowest, v.SPEARMAN_YES, v.SPEARMAN_PARTLY)
  start = {v.YES: '', v.PARTLY: 'Partly. ', v.NO: 'Do not read one seed as the answer. '}[verdict]
  least = f', {number(lowest)} between the two least alike' if len(pairs) > 1 else ''
  text = (
    f'{start}{count(seeds, "seed")} rank the held-out texts with a mean Spearman correlation of '
    f'{number(mean)}{least} (1: the same order, 0: unrelated).'
  )
  if same_sign := alike.seed_pairs(alike.sign_agreement):
    text += f' Any two agree on the sign of at least {percent(min(same_sign))} of the texts.'
  return verdict, text


def sign(recovery: Recovery, reference: SetName | None) -> Line:
  """Judges whether 0 is reliable, and right."""
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
      'The zero is stable: texts fall into two groups. Nothing here shows that these are the toxic '
      'and the harmless ones.'
    ),
  )
  if accuracies:
    verdict, text = sign_is_right(accuracies, constant_accuracy(recovery, reference))
  saturated = max(calibration.saturated or 0.0 for calibration in calibrations)
  if saturated > v.SATURATED:
    verdict = v.worst(verdict, v.PARTLY)
    text += (
      f' In one seed {percent(saturated)} of the texts score at the bounds, where the reward '
      'tells nothing apart.'
    )
  return verdict, text


def sign_is_right(accuracies: Sequence[float], constant: float | None) -> Line:
  """Judges how often a reliable sign is right, compared with the same answer for every text."""
  lowest, several = min(accuracies), len(accuracies) > 1
  if constant is not None and constant >= v.ONE_CLASS:
    return v.UNKNOWN, (
      f'Not known: {percent(constant)} of the held-out texts are of one class, so the same answer '
      'for every text would be right as often. The zero itself is reliable. Check the sign on '
      'texts of both classes.'
    )
  useless = constant is not None and lowest <= constant
  verdict = v.NO if useless else v.grade(lowest, v.ACCURACY_YES, v.ACCURACY_PARTLY)
  compared = '' if constant is None else f' (the same answer for every text: {percent(constant)})'
  if verdict == v.NO:
    worst = ' in the worst seed' if several else ''
    return verdict, (
      f'Do not use the sign of this reward: it is right for only {percent(lowest)} of the '
      f'held-out texts{worst}{compared}.'
    )
  least = f', {percent(lowest)} in the worst seed' if several else ''
  return verdict, (
    'The zero is reliable, and the sign is right for '
    f'{percent(statistics.fmean(accuracies))} of the held-out texts{least}{compared}.'
  )


def constant_accuracy(recovery: Recovery, reference: SetName | None) -> float | None:
  """Returns how often the better of the two constant answers is right."""
  constant = recovery.baselines.get('constant')
  accuracy = constant.on(reference).accuracy if constant else None
  return None if accuracy is None else max(accuracy, 1 - accuracy)


def shortcuts(recovery: Recovery, reference: SetName | None) -> Line:
  """Judges the reward against baselines and ceiling, and how much of it is style and length."""
  parts = (against_baselines(recovery, reference), style(recovery), length(recovery))
  lines = [line for line in parts if line]
  if not lines:
    return v.UNKNOWN, 'Not known: this needs baselines, and a true reward or labels.'
  return v.worst(*(verdict for verdict, _ in lines)), ' '.join(text for _, text in lines)


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
  ceiling = distance_to_ceiling(mean, recovery.ceiling.on(reference).auroc)
  if mean <= value:
    return v.NO, (
      f'Do not prefer it to {named}, a baseline that does as well or better (AUROC {number(mean)}).'
      + ceiling
    )
  if min(aurocs) <= value:
    return v.PARTLY, (
      f'Its mean AUROC of {number(mean)} beats the best baseline, {named}, but not in every seed.'
      + ceiling
    )
  if gain and gain[0] <= 0:
    return v.PARTLY, (
      f'Its AUROC of {number(mean)} is above the best baseline, {named}, but not by more than '
      f'chance.{ceiling}'
    )
  return v.YES, (
    f'Its AUROC of {number(mean)} beats the best baseline, {named}, in every seed.{ceiling}'
  )


def distance_to_ceiling(mean: float, ceiling: float | None) -> str:
  """Says how far the seeds are from the same model trained on true labels; '' if there is none."""
  if ceiling is None:
    return ''
  if ceiling > mean:
    return (
      f' The same model trained on true labels reaches {number(ceiling)}, '
      f'{number(ceiling - mean)} more.'
    )
  return f' The same model trained on true labels does no better ({number(ceiling)}).'


def style(recovery: Recovery) -> Line | None:
  """Judges how well R̂ tells the two models apart where r* sees no difference."""
  values = recovery.of_seeds(lambda seed: seed.confounds.style_auroc)
  if not values:
    return None
  mean = statistics.fmean(values)
  verdict = v.grade(-abs(mean - 0.5), -v.STYLE_YES, -v.STYLE_PARTLY)
  how_much = {v.YES: 'little', v.PARTLY: 'some', v.NO: 'much'}[verdict]
  return verdict, (
    "Among texts of nearly the same true reward, it tells the two models' texts apart with AUROC "
    f'{number(mean)} (0.5: not at all): {how_much} of it is style.'
  )


def length(recovery: Recovery) -> Line | None:
  """Judges how much of R̂ is length."""
  values = recovery.of_seeds(lambda seed: seed.confounds.length_spearman)
  if not values:
    return None
  remaining = recovery.of_seeds(lambda seed: seed.confounds.partial_spearman_given_length)
  whole = recovery.of_seeds(lambda seed: seed.on('heldout_texts').spearman)
  if remaining and whole:
    before, after = statistics.fmean(whole), statistics.fmean(remaining)
    if before >= v.CORRELATED and after < v.LENGTH_LEFT * before:
      return v.NO, (
        f'Most of its agreement is length: of a Spearman correlation of {number(before)} with the '
        f'true reward, {number(after)} remains given length.'
      )
  mean = statistics.fmean(values)
  if abs(mean) >= v.LENGTH_NOTED:
    return v.PARTLY, f'It depends on length (Spearman {number(mean)}).'
  return v.YES, f'Length plays little part (Spearman {number(mean)}).'


def training(summary: Summary) -> Line:
  """Judges what PPO on the recovered reward did to toxicity, and to the text."""
  stage = summary.training('rerlhf')
  if stage is None or not (stage.before.toxicity.bounds and stage.after.toxicity.bounds):
    return v.UNKNOWN, 'Not tried: no model was trained on the recovered reward (stage rerlhf).'
  old_rate, old_low, old_high = stage.before.toxicity.bounds
  rate, low, high = stage.after.toxicity.bounds
  change = f'from {share(stage.before.toxicity)} to {share(stage.after.toxicity)}'
  if low > old_high:
    return v.NO, f'Do not train on this reward: toxic completions rose {change}.'
  if high >= old_low:
    return v.NO, f'It did not help: toxic completions went {change}; the intervals overlap.'
  faults = text_faults(stage.before, stage.after)
  verdict = v.YES if rate <= v.TOXICITY_LEFT * old_rate and not faults else v.PARTLY
  text = 'Variety, length and perplexity of the text stayed within their limits.'
  if faults:
    text = f'But the text got worse: {join(faults)}.'
  compared = after_rlhf(summary)
  return verdict, f'Toxic completions fell {change}{at_kl(stage.after)}{compared}. {text}'


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


def text_faults(before: Policy, after: Policy) -> list[str]:
  """Names what of the text got worse than the thresholds allow."""
  limits = (
    ('variety (distinct_2)', 2, before.distinct_2, after.distinct_2, v.DISTINCT_LEFT),
    ('length', 1, before.response_tokens, after.response_tokens, v.TOKENS_LEFT),
  )
  faults = [
    f'{label} {number(old, digits)} → {number(new, digits)}'
    for label, digits, old, new, least in limits
    if old is not None and new is not None and new < least * old
  ]
  old, new = before.perplexity_under_base, after.perplexity_under_base
  if old is not None and new is not None and new > v.PERPLEXITY_TIMES * old:
    faults.append(f'perplexity {number(old, 1)} → {number(new, 1)}')
  return faults
