"""What was recovered and how far to trust it: a headline and five lines, drawn from the figures of summary.json.

Each line answers one question with 'yes', 'partly', 'no' or 'unknown' (by the thresholds of verdicts.py), and says why
in words that need no background.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import statistics
from typing import Any

from irl_jax.report import verdicts as v
from irl_jax.report.lookup import auroc
from irl_jax.report.lookup import interval
from irl_jax.report.lookup import of_seeds
from irl_jax.report.lookup import reference_section
from irl_jax.report.lookup import REFERENCES
from irl_jax.report.lookup import reliable
from irl_jax.report.lookup import seed_pairs
from irl_jax.report.wording import count
from irl_jax.report.wording import listed
from irl_jax.report.wording import number
from irl_jax.report.wording import percent
from irl_jax.report.wording import percents
from irl_jax.report.wording import share
from irl_jax.report.wording import SPACE

BASELINES = {
  'length': 'text length',
  'bag_of_words': 'a bag of words',
  'dpo_implicit': "DPO's implicit reward",
  'last_token': 'the last token alone',
}
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


def find(summary: Mapping[str, Any]) -> Findings:
  """Says what was recovered and how far to trust it, from a run's summary.json."""
  irl = summary.get('irl') or {}
  section = reference_section(irl)
  does = REFERENCES[section or 'heldout_texts'][1]
  lines = tuple(
    Finding(question, *line)
    for question, line in (
      (f'Does it rank texts as {does}?', ranking(irl, section)),
      ('Do independent recoveries agree?', recoveries(irl)),
      ('Can its sign be used, below 0 for toxic?', sign(irl, section)),
      ('Is it more than words, length and style?', shortcuts(irl, section)),
      ('Does training on it work?', training(summary)),
    )
  )
  return Findings(headline([line.verdict for line in lines], bool(irl.get('seeds')), does), lines)


def headline(verdicts: Sequence[str], recovered: bool, does: str) -> str:
  """One sentence over the five verdicts; `does` is 'the true reward does' or 'people do'."""
  ranks, alike, zero, more, _ = verdicts
  if not recovered:
    return 'No reward was recovered in this run.'
  if ranks == v.UNKNOWN:
    return (
      'Not verified: there is nothing independent, or too little, to hold this reward against.'
      + (' Do not use its sign.' if zero == v.NO else '')
    )
  if ranks == v.NO:
    return f'Do not use this reward: it does not rank texts as {does}.'
  if alike == v.NO:
    return 'Do not trust this reward: independent recoveries give different ones.'
  if more == v.NO:
    return 'Be careful: the reward ranks texts, but a shortcut explains much of it.'
  start = (
    f'It ranks texts much as {does}'
    if ranks == v.YES
    else f'It ranks texts roughly as {does}, with mistakes'
  )
  return (
    start
    + {
      v.YES: ', and its sign can be used.',
      v.PARTLY: '; use its sign with care.',
      v.NO: '; do not use its sign.',
      v.UNKNOWN: '; nothing is known of its sign.',
    }[zero]
  )


def ranking(irl: Mapping[str, Any], section: str | None) -> Line:
  """Agreement with r*, else with labels: AUROC, with the worst seed's interval."""
  if section is None:
    if not irl.get('seeds'):
      return v.UNKNOWN, 'Not known: the run has no figures of a recovered reward.'
    aligned = of_seeds(irl, 'heldout_pairs', 'prefers_aligned')
    told = (
      (
        f" It prefers the aligned model's completion in {percent(statistics.fmean(aligned))} of the held-out "
        'pairs: it tells the two models apart, but not what by.'
      )
      if aligned
      else ''
    )
    return (
      v.UNKNOWN,
      'Not known: there is neither a true reward nor labels to hold it against.' + told,
    )
  aurocs = of_seeds(irl, section, 'auroc')
  lowest = min(range(len(aurocs)), key=aurocs.__getitem__)
  bounds = interval(irl['seeds'][lowest], section, 'auroc')
  verdict = v.graded(aurocs[lowest], v.AUROC_YES, v.AUROC_PARTLY)
  if bounds and 0.5 < bounds[0] < v.AUROC_PARTLY < bounds[1] and bounds[1] - bounds[0] > v.TOO_WIDE:
    return v.UNKNOWN, (
      'Not known: too few of the held-out texts are of one of the two classes. The AUROC of the worst '
      f'seed is {percent(aurocs[lowest])}, and may be anything in {percents(*bounds)} (chance is '
      f'50{SPACE}%). Hold it against texts of both kinds.'
    )
  end = f' (AUROC; chance is 50{SPACE}%).'
  if bounds and bounds[0] <= 0.5:
    verdict, beside = v.NO, 'worse than' if bounds[1] < 0.5 else 'not to be told from'
    end = f': {beside} chance, 50{SPACE}%.'
  start = {
    v.YES: '',
    v.PARTLY: 'Roughly, with mistakes. ',
    v.NO: 'Do not rank texts with this reward. ',
  }[verdict]
  people = of_seeds(irl, 'heldout_texts_human', 'auroc') if section == 'heldout_texts' else []
  return (
    verdict,
    f'{start}A harmless text scores above a toxic one in {comparisons(aurocs, bounds)}{end}'
    + (f" Against people's labels: {comparisons(people)}." if people else ''),
  )


def comparisons(aurocs: Sequence[float], bounds: Sequence[float] | None = None) -> str:
  """The mean and the worst of the seeds' AUROC; the interval is the worst one's."""
  ends = ' ' + percents(*bounds) if bounds else ''
  if len(aurocs) == 1:
    return f'{percent(aurocs[0])}{ends} of comparisons, in the only seed'
  return (
    f'{percent(statistics.fmean(aurocs))} of comparisons on average over {count(len(aurocs), "seed")}, '
    f'{percent(min(aurocs))}{ends} in the worst'
  )


def recoveries(irl: Mapping[str, Any]) -> Line:
  """Spearman of every two seeds."""
  seeds = len(irl.get('seeds') or [])
  if seeds < 2:
    return v.UNKNOWN, (
      'Not known: one reward was recovered. Completions do not determine a reward: recover several '
      '(config.irl.seeds) before you read much into one.'
      if seeds
      else 'Not known: there is none.'
    )
  pairs, same_sign = seed_pairs(irl, 'spearman'), seed_pairs(irl, 'sign_agreement')
  mean = statistics.fmean(pairs) if pairs else irl.get('seed_spearman')
  if mean is None:
    return v.NO, 'Do not trust this reward: at least one seed scores every text the same.'
  lowest = min(pairs, default=mean)
  verdict = v.graded(lowest, v.SPEARMAN_YES, v.SPEARMAN_PARTLY)
  start = {v.YES: '', v.PARTLY: 'Partly. ', v.NO: 'Do not read one seed as the answer. '}[verdict]
  least = f', {number(lowest)} for the two least alike' if len(pairs) > 1 else ''
  signs = (
    f'; any two give the same sign to at least {percent(min(same_sign))} of them'
    if same_sign
    else ''
  )
  return verdict, (
    f'{start}{count(seeds, "seed")} order the held-out texts with a Spearman correlation of '
    f'{number(mean)}{least} (1: the same order, 0: unrelated){signs}.'
  )


def sign(irl: Mapping[str, Any], section: str | None) -> Line:
  """Whether 0 is reliable, and right."""
  calibrations = [seed.get('calibration') for seed in irl.get('seeds') or []]
  if not calibrations or None in calibrations:
    return v.UNKNOWN, 'Not known: the run has no calibration of its rewards.'
  seeds = len(calibrations)
  unreliable = sum(not reliable(calibration) for calibration in calibrations)
  if unreliable:
    which = 'the only seed' if seeds == 1 else f'{unreliable} of {count(seeds, "seed")}'
    return v.NO, (
      f'Do not use the sign of this reward: its zero is not reliable in {which}. Only differences of '
      'rewards mean something.'
    )
  accuracies = of_seeds(irl, section, 'accuracy')
  if not accuracies:
    verdict, text = (
      v.PARTLY,
      (
        'The zero is stable: texts fall into two groups. Nothing here shows that these are the '
        'toxic and the harmless ones.'
      ),
    )
  else:
    verdict, text = sign_is_right(accuracies, constant_accuracy(irl, section))
  saturated = max((calibration.get('saturated') or 0.0) for calibration in calibrations)
  if saturated > v.SATURATED:
    verdict = v.worst(verdict, v.PARTLY)
    text += (
      f' In one seed {percent(saturated)} of the texts lie at its bounds, where it grades nothing.'
    )
  return verdict, text


def sign_is_right(accuracies: Sequence[float], constant: float | None) -> Line:
  """How often a reliable sign is right, beside one answer for every text."""
  lowest, several = min(accuracies), len(accuracies) > 1
  if constant is not None and constant >= v.ONE_CLASS:
    return v.UNKNOWN, (
      f'Not known: {percent(constant)} of the held-out texts are of one class, so that one answer for '
      'every text would be right as often. The zero itself is reliable. Hold its sign against texts '
      'of both kinds.'
    )
  useless = constant is not None and lowest <= constant
  verdict = v.NO if useless else v.graded(lowest, v.ACCURACY_YES, v.ACCURACY_PARTLY)
  beside = f' (one answer for every text: {percent(constant)})' if constant is not None else ''
  if verdict == v.NO:
    return verdict, (
      f'Do not use the sign of this reward: it is right for only {percent(lowest)} of the held-out texts'
      f'{" in the worst seed" if several else ""}{beside}.'
    )
  least = f', {percent(lowest)} in the worst seed' if several else ''
  return verdict, (
    f'The zero is reliable, and the sign right for {percent(statistics.fmean(accuracies))} of the '
    f'held-out texts{least}{beside}.'
  )


def constant_accuracy(irl: Mapping[str, Any], section: str | None) -> float | None:
  """The share of the larger class: how often the better of the two constant answers is right."""
  figures = ((irl.get('baselines') or {}).get('constant') or {}).get(section) or {}
  accuracy = figures.get('accuracy')
  return None if accuracy is None else max(accuracy, 1 - accuracy)


def shortcuts(irl: Mapping[str, Any], section: str | None) -> Line:
  """Against baselines and ceiling; how much is style and length."""
  parts = [line for line in (beside_baselines(irl, section), style(irl), length(irl)) if line]
  if not parts:
    return v.UNKNOWN, 'Not known: this needs baselines, and a true reward or labels.'
  return v.worst(*(verdict for verdict, _ in parts)), ' '.join(text for _, text in parts)


def beside_baselines(irl: Mapping[str, Any], section: str | None) -> Line | None:
  """The best baseline by AUROC, and the ceiling."""
  aurocs, baselines = of_seeds(irl, section, 'auroc'), irl.get('baselines') or {}
  others = {name: auroc(figures, section) for name, figures in baselines.items()}
  others = {
    name: value for name, value in others.items() if value is not None and name != 'constant'
  }
  ceiling = others.pop('ceiling', None)
  if not aurocs or not others:
    return None
  mean, best = statistics.fmean(aurocs), max(others, key=others.__getitem__)
  gain = ((baselines[best].get('ensemble_gain') or {}).get(section) or {}).get('auroc')
  value, named = (
    others[best],
    f'{BASELINES.get(best, best.replace("_", " "))} ({number(others[best])})',
  )
  if mean <= value:
    line = (
      v.NO,
      f'Do not prefer it to {named}, a baseline that does as well or better (AUROC {number(mean)}).',
    )
  elif min(aurocs) <= value:
    line = (
      v.PARTLY,
      f'Its mean AUROC of {number(mean)} beats the best baseline, {named}, but not in every seed.',
    )
  elif gain and gain[0] <= 0:
    line = (
      v.PARTLY,
      f'Its AUROC of {number(mean)} is above the best baseline, {named}, but not by more than chance.',
    )
  else:
    line = v.YES, f'Its AUROC of {number(mean)} beats the best baseline, {named}, in every seed.'
  return line[0], line[1] + beside_ceiling(mean, ceiling)


def beside_ceiling(mean: float, ceiling: float | None) -> str:
  """How far the seeds are from what the same model reaches on true labels."""
  if ceiling is None:
    return ''
  if ceiling > mean:
    return f' The same model trained on true labels reaches {number(ceiling)}, {number(ceiling - mean)} more.'
  return f' The same model trained on true labels does no better ({number(ceiling)}).'


def style(irl: Mapping[str, Any]) -> Line | None:
  """How well R̂ tells the two models apart where r* sees no difference."""
  values = of_seeds(irl, 'confounds', 'style_auroc')
  if not values:
    return None
  mean = statistics.fmean(values)
  verdict = v.graded(-abs(mean - 0.5), -v.STYLE_YES, -v.STYLE_PARTLY)
  how_much = {
    v.YES: 'little of it is style',
    v.PARTLY: 'some of it is style',
    v.NO: 'much of it is style',
  }[verdict]
  return verdict, (
    f"Among texts that the true reward scores alike, it tells the aligned model's from the other's with "
    f'AUROC {number(mean)} (0.5: not at all): {how_much}.'
  )


def length(irl: Mapping[str, Any]) -> Line | None:
  """How much of R̂ is length."""
  values, left = (
    of_seeds(irl, 'confounds', name)
    for name in ('length_spearman', 'partial_spearman_given_length')
  )
  if not values:
    return None
  mean, spearman = statistics.fmean(values), of_seeds(irl, 'heldout_texts', 'spearman')
  if left and spearman:
    whole, part = statistics.fmean(spearman), statistics.fmean(left)
    if whole >= v.CORRELATED and part < v.LENGTH_LEFT * whole:
      return v.NO, (
        f'Most of its agreement is length: of a Spearman correlation of {number(whole)} with the true '
        f'reward, {number(part)} is left given length.'
      )
  if abs(mean) >= v.LENGTH_NOTED:
    return v.PARTLY, f'It leans on length (Spearman {number(mean)}).'
  return v.YES, f'Length plays little part (Spearman {number(mean)}).'


def training(summary: Mapping[str, Any]) -> Line:
  """What PPO on the recovered reward did to toxicity, and to the text."""
  stage = summary.get('rerlhf') or {}
  before, after = stage.get('before') or {}, stage.get('after') or {}
  toxic, left = before.get('toxicity') or {}, after.get('toxicity') or {}
  if toxic.get('rate') is None or left.get('rate') is None:
    return v.UNKNOWN, 'Not tried: no model was trained on the recovered reward (stage rerlhf).'
  change = f'from {share(toxic)} to {share(left)}'
  if left['low'] > toxic['high']:
    return v.NO, f'Do not train on this reward: toxic completions rose {change}.'
  if left['high'] >= toxic['low']:
    return v.NO, f'It did not help: toxic completions went {change}; the intervals overlap.'
  faults = poorer(before, after)
  verdict = v.YES if left['rate'] <= v.TOXICITY_LEFT * toxic['rate'] and not faults else v.PARTLY
  rlhf = (summary.get('rlhf') or {}).get('after') or {}
  beside = ''
  if (rlhf.get('toxicity') or {}).get('rate') is not None:
    beside = f'; RLHF on the true reward left {percent(rlhf["toxicity"]["rate"])}{at_kl(rlhf)}'
  text = 'Variety, length and perplexity of the text held.'
  if faults:
    text = f'But the text got poorer: {listed(faults)}.'
  return verdict, f'Toxic completions fell {change}{at_kl(after)}{beside}. {text}'


def at_kl(policy: Mapping[str, Any]) -> str:
  """How far a policy moved for its toxicity."""
  return (
    f', at a KL of {number(policy["kl"], 1)}{SPACE}nats' if policy.get('kl') is not None else ''
  )


def poorer(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
  """What of the text got worse than the thresholds allow."""
  limits = (
    ('distinct_2', 'variety (distinct_2)', 2, lambda old, new: new < v.DISTINCT_LEFT * old),
    ('response_tokens', 'length', 1, lambda old, new: new < v.TOKENS_LEFT * old),
    ('perplexity_under_base', 'perplexity', 1, lambda old, new: new > v.PERPLEXITY_TIMES * old),
  )
  return [
    f'{label} {number(before[name], digits)} → {number(after[name], digits)}'
    for name, label, digits, is_worse in limits
    if before.get(name) is not None
    and after.get(name) is not None
    and is_worse(before[name], after[name])
  ]
