"""The metrics of a policy, as the report and the terminal tabulate them."""

from collections.abc import Callable
import operator
from typing import NamedTuple

from irl_jax.report.summary import Policy
from irl_jax.report.summary import Share
from irl_jax.report.summary import Summary

# The fields of `summary.Toxicity`
TOXICITIES = {
  'toxicity': 'toxic completions',
  'toxicity_full': 'toxic, prompt and completion',
  'expected_maximum': 'expected maximum toxicity',
  'toxicity_probability': 'prompts with a toxic sample',
}

ALWAYS = ('toxicity', 'toxicity_full')  # measured in every run


class PolicyMetric(NamedTuple):
  """A row of the policies' table."""

  label: str
  value: Callable[[Policy], Share | float | None]
  of_classes: bool = False  # needs a true reward with a toxic class
  optional: bool = False  # left out if no policy has it


POLICY_METRICS = (
  *(
    PolicyMetric(label, operator.attrgetter(field), of_classes=True, optional=field not in ALWAYS)
    for field, label in TOXICITIES.items()
  ),
  *(
    PolicyMetric(f'{label}, by the judge', operator.attrgetter(f'judge.{field}'), optional=True)
    for field, label in TOXICITIES.items()
  ),
  PolicyMetric('mean true reward', lambda policy: policy.true_reward),
  PolicyMetric('KL from the starting policy, nats per response', lambda policy: policy.kl),
  PolicyMetric('KL from the starting policy, nats per token', lambda policy: policy.kl_per_token),
  PolicyMetric('perplexity under the base model', lambda policy: policy.perplexity_under_base),
  PolicyMetric('length, tokens', lambda policy: policy.response_tokens),
  PolicyMetric('variety: distinct_2', lambda policy: policy.distinct_2),
)


def policy_metrics(summary: Summary) -> list[PolicyMetric]:
  """Returns the rows of the policies' table that this run can have."""
  measured = [
    policy for training in summary.trainings for policy in (training.before, training.after)
  ]
  return [
    metric
    for metric in POLICY_METRICS
    if not (metric.of_classes and summary.truth.is_score)
    and not (metric.optional and all(metric.value(policy) == Share() for policy in measured))
  ]
