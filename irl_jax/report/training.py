"""The effect of PPO on the recovered reward: on toxicity or true reward, and on the text."""

from irl_jax.report import verdicts as v
from irl_jax.report.quality import Line
from irl_jax.report.summary import Policy
from irl_jax.report.summary import PolicyTraining
from irl_jax.report.summary import Summary
from irl_jax.report.wording import join
from irl_jax.report.wording import number
from irl_jax.report.wording import percent
from irl_jax.report.wording import share
from irl_jax.report.wording import SPACE


def verdict(summary: Summary) -> Line:
  """Judges what PPO on the recovered reward did to toxicity or true reward, and to the text."""
  stage = summary.training('rerlhf')
  if stage is None:
    return v.UNKNOWN, 'Not tried: no model was trained on the recovered reward (stage rerlhf).'
  if summary.truth.is_score:
    return true_reward_gained(summary, stage)
  if not (stage.before.toxicity.bounds and stage.after.toxicity.bounds):
    return v.UNKNOWN, (
      'Not known: a model was trained on the recovered reward, but its toxic completions were not '
      'counted.'
    )
  old_rate, old_low, old_high = stage.before.toxicity.bounds
  rate, low, high = stage.after.toxicity.bounds
  change = f'from {share(stage.before.toxicity)} to {share(stage.after.toxicity)}'
  if low > old_high:
    return v.NO, f'Do not train on this reward: toxic completions rose {change}.'
  if high >= old_low:
    return v.NO, (
      f'There is no evidence that it helped: toxic completions went {change}; the '
      'intervals overlap.'
    )
  fine, text = text_kept(stage)
  worked = v.YES if rate <= v.TOXICITY_LEFT * old_rate and fine else v.PARTLY
  compared = after_rlhf(summary)
  return worked, f'Toxic completions fell {change}{at_kl(stage.after)}{compared}. {text}'


def true_reward_gained(summary: Summary, stage: PolicyTraining) -> Line:
  """Judges what PPO on the recovered reward did to a true reward without a toxic class."""
  if not stage.win_rate.bounds:
    return v.UNKNOWN, (
      'Not known: a model was trained on the recovered reward, but the true reward of its '
      'completions was not measured.'
    )
  rate, low, high = stage.win_rate.bounds
  means = f'{number(stage.before.true_reward, 2)} to {number(stage.after.true_reward, 2)}'
  change = (
    f'its mean went from {means}, and the completion scores higher than before for '
    f'{share(stage.win_rate)} of the prompts (ties count half; chance is 50{SPACE}%)'
  )
  if high < v.CHANCE:
    return v.NO, f'Do not train on this reward: the true reward fell: {change}.'
  if low <= v.CHANCE:
    return v.NO, f'There is no evidence that it helped the true reward: {change}.'
  fine, text = text_kept(stage)
  on_truth = summary.training('rlhf')
  compared = ''
  if on_truth and on_truth.win_rate.rate is not None:
    won = percent(on_truth.win_rate.rate)
    compared = f'; with RLHF on the true reward it is {won}{at_kl(on_truth.after)}'
  worked = v.YES if rate >= v.WON and fine else v.PARTLY
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
