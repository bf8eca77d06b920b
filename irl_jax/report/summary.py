"""summary.json as values with types, for all parts of the report.

records.Summary lists the file's fields, and `inputs.parse_summary` reads it. Here a part that is
absent or null is an empty value, so that `seed.on('heldout_texts').auroc` is None if there is no
such result. `Summary.reasons` says why a result is missing. `policy_metrics` names the rows of the
policies' table.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import operator
from typing import Literal
from typing import NamedTuple
from typing import TypeVar

from irl_jax.runtime import records

SetName = Literal['heldout_texts', 'heldout_texts_human', 'heldout_pairs']
SETS: tuple[SetName, ...] = ('heldout_texts', 'heldout_texts_human', 'heldout_pairs')
Interval = Sequence[float]  # [low, high]
T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Share:
  """A share of texts with its 95 % interval."""

  rate: float | None = None
  low: float | None = None
  high: float | None = None
  n: int = 0

  @property
  def bounds(self) -> tuple[float, float, float] | None:
    """(rate, low, high), or None if there was no text."""
    if self.rate is None or self.low is None or self.high is None:
      return None
    return self.rate, self.low, self.high


@dataclasses.dataclass(frozen=True)
class Preference(Share):
  """The share of pairs in which a reward prefers the aligned text (records.Preference)."""

  pairs: int = 0


@dataclasses.dataclass(frozen=True)
class Toxicity:
  """The toxicity of a policy's texts by one classifier."""

  toxicity: Share = Share()
  toxicity_full: Share = Share()
  expected_maximum: Share = Share()  # the mean of the worst sample's probability, as a share
  toxicity_probability: Share = Share()


@dataclasses.dataclass(frozen=True)
class Policy(Toxicity):
  """The metrics of a policy on held-out prompts (records.PolicyMetrics)."""

  judge: Toxicity = Toxicity()  # by config.models.judge
  true_reward: float | None = None
  kl: float | None = None
  kl_per_token: float | None = None
  perplexity_under_base: float | None = None
  response_tokens: float | None = None
  distinct_2: float | None = None


@dataclasses.dataclass(frozen=True)
class McNemar:
  """The paired test of a change in toxicity."""

  before_only: int
  after_only: int
  p_value: float | None = None


@dataclasses.dataclass(frozen=True)
class PolicyTraining:
  """A stage that trained a policy, measured before and after."""

  stage: str
  before: Policy
  after: Policy
  mcnemar: McNemar | None
  win_rate: Share = Share()  # prompts whose true reward rose; ties count half


@dataclasses.dataclass(frozen=True)
class Agreement:
  """The agreement of a reward with a reference on one set of texts, with intervals."""

  accuracy: float | None = None
  f1: float | None = None
  auroc: float | None = None
  pearson: float | None = None
  spearman: float | None = None
  kendall: float | None = None
  pairwise_accuracy: float | None = None
  n: int | None = None
  ties: int | None = None
  prefers_aligned: float | None = None
  epic_distance: float | None = None
  auroc_interval: Interval | None = None
  spearman_interval: Interval | None = None
  auroc_gain: Interval | None = None  # of the ensemble over this reward, as the next
  spearman_gain: Interval | None = None


@dataclasses.dataclass(frozen=True)
class Calibration:
  """A reward's zero and its probabilities (records.Calibration)."""

  zero: float | None = None
  zero_low: float | None = None
  zero_high: float | None = None
  reliable_zero: bool = False
  saturated: float | None = None
  platt: records.Platt | None = None
  ece: float | None = None
  ece_if_calibrated: float | None = None
  brier: float | None = None
  brier_constant: float | None = None
  reliability: Sequence[records.ReliabilityBin] | None = None
  why: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def zero_interval(self) -> tuple[float, float] | None:
    """The interval of the zero, before it is subtracted."""
    if self.zero_low is None or self.zero_high is None:
      return None
    return self.zero_low, self.zero_high


@dataclasses.dataclass(frozen=True)
class Confounds:
  """The share of a reward that length and style explain (records.Confounds)."""

  length_spearman: float | None = None
  partial_pearson_given_length: float | None = None
  partial_spearman_given_length: float | None = None
  style_auroc: float | None = None
  style_low: float | None = None
  style_high: float | None = None
  style_n: int | None = None


@dataclasses.dataclass(frozen=True)
class Reward:
  """One reward: a seed, the ensemble, a baseline, or the mean or deviation over seeds."""

  sets: Mapping[SetName, Agreement] = dataclasses.field(default_factory=dict)
  calibration: Calibration | None = None
  confounds: Confounds = Confounds()
  preference: Preference = Preference()
  trained_on: str | None = None
  zero: float | None = None  # of a baseline
  prefers: str | None = None  # of a baseline of length: 'longer' or 'shorter'

  def on(self, name: SetName | None) -> Agreement:
    """Returns the agreement on a set; an empty one if the run has no such set."""
    return Agreement() if name is None else self.sets.get(name, Agreement())


@dataclasses.dataclass(frozen=True)
class Identifiability:
  """The similarity of K rewards: K x K matrices."""

  names: Sequence[str] = ()
  spearman: Sequence[Sequence[float | None]] = ()
  sign_agreement: Sequence[Sequence[float | None]] = ()
  epic_distance: Sequence[Sequence[float | None]] = ()
  n: int | None = None

  def seed_pairs(self, matrix: Sequence[Sequence[float | None]]) -> list[float]:
    """Returns the entry of each pair of seeds; [] if one of them is missing."""
    rows = [row for row, name in enumerate(self.names) if name.startswith('seed_')]
    return complete(
      matrix[row][column] for row in rows for column in rows if row < column and matrix
    )


@dataclasses.dataclass(frozen=True)
class Start:
  """The similarity of the seeds before training, and how far each moved (records.Start)."""

  between_seeds: float | None = None
  with_start: Sequence[float | None] = ()


@dataclasses.dataclass(frozen=True)
class Truth:
  """The true reward and the source of the labels: the reference of all comparisons."""

  kind: str | None = None  # 'classifier', 'score' (no toxic class and no zero), None: not known
  label: str | None = None  # the classifier's label that means toxic
  labelled_by: str | None = None  # 'people', 'program' (the playground's), 'Perspective'
  human_accuracy: float | None = None

  @property
  def is_score(self) -> bool:
    """True if nothing is toxic by the true reward: it only orders texts."""
    return self.kind == 'score'


@dataclasses.dataclass(frozen=True)
class Recovery:
  """The recovered rewards, and the rewards that they are compared with."""

  seeds: Sequence[Reward] = ()
  mean: Reward = Reward()
  std: Reward = Reward()
  ensemble: Reward = Reward()
  baselines: Mapping[str, Reward] = dataclasses.field(default_factory=dict)  # without the ceiling
  ceiling: Reward = Reward()
  seed_spearman: float | None = None
  identifiability: Identifiability = Identifiability()
  start: Start = Start()
  truth: Truth = Truth()
  coupled_pairs: bool = True  # both models drew the held-out pairs with the same random numbers

  def of_seeds(self, metric: Callable[[Reward], T | None]) -> list[T]:
    """Returns a metric of every seed; [] if a seed does not have it."""
    return complete(map(metric, self.seeds))

  @property
  def texts(self) -> int | None:
    """The number of held-out texts the seeds were measured on; None if no part says so."""
    counts = (seed.on(name).n for seed in self.seeds for name in SETS[:2])
    known = (n for n in (self.identifiability.n, *counts) if n is not None)
    return next(known, None)

  @property
  def reference(self) -> SetName | None:
    """The set that verdicts are drawn from: against r* if all seeds have it, else the labels."""
    candidates: tuple[SetName, ...] = ('heldout_texts', 'heldout_texts_human')
    measured = lambda name: bool(self.of_seeds(lambda seed: self.by_rank(name, seed.on(name))))
    return next(filter(measured, candidates), None)

  @property
  def below_zero(self) -> str:
    """The meaning of a reward below 0: toxic, if the run says which texts are; otherwise bad."""
    return 'bad' if self.reference is None else 'toxic'

  def is_score(self, name: SetName | None) -> bool:
    """Returns whether the reference of a set is a true reward without a toxic class."""
    return self.truth.is_score and name != 'heldout_texts_human'

  def by_rank(self, name: SetName | None, row: Agreement) -> float | None:
    """Returns what a ranking of a set is judged by: its AUROC, or Spearman against a score."""
    return row.spearman if self.is_score(name) else row.auroc


@dataclasses.dataclass(frozen=True)
class Reason:
  """Why a result is null."""

  path: tuple[str, ...]  # the keys that lead to it; a place in a list is written 'seed 0'
  metric: str
  reason: str


@dataclasses.dataclass(frozen=True)
class Summary:
  """All results of a run."""

  truth: Truth = Truth()
  trainings: Sequence[PolicyTraining] = ()
  recovery: Recovery = Recovery()
  reasons: Sequence[Reason] = ()
  inputs: Mapping[str, Sequence[records.ReadFile]] = dataclasses.field(default_factory=dict)

  def training(self, stage: str) -> PolicyTraining | None:
    """Returns the results of rlhf or rerlhf, or None if it did not run."""
    return next((training for training in self.trainings if training.stage == stage), None)


def labelled(summary: Summary, by: str) -> Summary:
  """Returns a summary that says who made the labels; an older one does not."""
  truth = dataclasses.replace(summary.truth, labelled_by=summary.truth.labelled_by or by)
  recovery = dataclasses.replace(summary.recovery, truth=truth)
  return dataclasses.replace(summary, truth=truth, recovery=recovery)


def complete(values: Iterable[T | None]) -> list[T]:
  """Returns all values, or [] if one of them is missing."""
  values = list(values)
  known = [value for value in values if value is not None]
  return known if len(known) == len(values) else []


# The labels of the fields of `Toxicity`
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
