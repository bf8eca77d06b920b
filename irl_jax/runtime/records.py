"""The rows and the summary in a run's folder, field by field.

Every file of JSON lines has one row type. `Summary` is summary.json, which collects the metrics
that stages write to their figures.json. (The folder figures/ has the report's drawings.) A result
that could not be computed is None (JSON: null), and its reason is under 'why', by its name.
"""

from collections.abc import Mapping
from typing import Any
from typing import NotRequired
from typing import TypedDict

# Version of summary.json, incremented when a field changes its meaning; without it: version 1
SCHEMA = 1

Interval = list[float]  # [low, high], 95 %


class CutText(TypedDict):
  """A text of the source, cut into two: prompt + original is the full text."""

  prompt: str
  original: str  # the rest of the text in the source; '' if there is none
  label: int | None  # the source's label: 1 toxic, 0 not toxic, None: no label


class PromptRow(CutText):
  """A row of data/{train,validation,heldout}.jsonl."""

  prompt_id: str  # 16 hexadecimal digits, a hash of the text


class PairRow(TypedDict):
  """One completion of each model for a prompt."""

  prompt_id: str
  sample: int  # 0, 1, …: several completions may be sampled for one prompt
  prompt: str
  coupled: NotRequired[bool]  # both models drew with the same keys; absent: an older version, True
  aligned: str
  base: str


class DemonstrationRow(PairRow):
  """A row of demos/{train,validation,heldout}.jsonl."""

  true_reward_aligned: float | None  # r* of prompt + completion; None: the run has no true reward
  true_reward_base: float | None
  log_ratio_aligned: NotRequired[list[float]]  # cumulative, nats, one per token that IRL reads
  log_ratio_base: NotRequired[list[float]]  # both only if config.irl.pair_label needs them


class ScoredText(TypedDict):
  """A row of evaluation/texts.jsonl: a held-out text with its rewards."""

  text: str
  label: int | None
  true_reward: float | None
  rewards: list[float]  # the recovered reward of every seed


class ScoredPair(TypedDict):
  """A row of evaluation/pairs.jsonl: a held-out pair of completions with their rewards."""

  prompt_id: str
  prompt: str
  aligned: str
  base: str
  true_reward_aligned: float | None
  true_reward_base: float | None
  rewards_aligned: list[float]  # the recovered reward of every seed
  rewards_base: list[float]


class Attribution(TypedDict):
  """The contribution of one piece of a text to its reward."""

  piece: str
  attribution: float


class AttributedText(TypedDict):
  """A row of evaluation/attributions.jsonl: a held-out text, piece by piece."""

  text: str
  true_reward: float | None
  reward: float  # mean of the seeds
  chosen: str  # 'highest', 'lowest', 'disagreement' or 'by hash'
  tokens: list[Attribution]


class WordEffect(TypedDict):
  """A row of evaluation/words.jsonl: the change in R̂ (mean of the seeds) if a word is left out."""

  word: str
  effect: float  # mean over completions of R̂ with the word minus R̂ without it
  low: float  # its 95 % interval
  high: float
  n: int  # completions that it was left out of
  share_aligned: float  # share of the aligned model's held-out completions that contain it
  share_base: float


class Explained(TypedDict, total=False):
  """Results, some of which may be None."""

  why: dict[str, str]  # reasons by name; absent if everything was computed


class Share(Explained):
  """A share of texts with its Wilson interval (95 %)."""

  rate: float | None
  low: float | None
  high: float | None
  n: int  # texts


class PolicyMetrics(Explained):
  """The metrics of a policy on held-out prompts, one completion each."""

  toxicity: Share | None  # of the completions; None, as the next, if r* has no toxic class
  toxicity_full: Share | None  # of prompt + completion, where the prompt is harmless
  maximum_toxicity: NotRequired[
    Mapping[str, Any] | None
  ]  # evaluation.maximum_toxicity: all prompts
  judge: NotRequired[Mapping[str, Any]]  # these three by config.models.judge, if there is one
  true_reward: float | None  # mean r* of the completions; of a classifier in logits
  kl: float | None  # to the policy that PPO started from, nats per response
  kl_per_token: float | None
  perplexity_under_base: float | None
  response_tokens: float | None
  distinct_2: float | None  # distinct over all bigrams of the completions


class McNemar(Explained):
  """McNemar's paired test of toxic or not, before and after; counts are prompts."""

  before_only: int  # toxic before and not after
  after_only: int
  both: int
  neither: int
  p_value: float | None


class PolicyTraining(Explained):
  """The stages rlhf and rerlhf."""

  before: PolicyMetrics
  after: PolicyMetrics
  win_rate: NotRequired[Share]  # of prompts whose completion has a higher r* after; ties count half
  mcnemar: McNemar | None  # None if r* has no toxic class


class Agreement(Explained):
  """The agreement of a reward with the true reward, or with the labels."""

  accuracy: float | None
  f1: float | None
  auroc: float | None
  pearson: float | None
  spearman: float | None
  kendall: float | None
  pairwise_accuracy: float | None
  n: int | None
  ties: int | None
  prefers_aligned: NotRequired[float | None]  # only in heldout_pairs, as the next field
  epic_distance: NotRequired[float | None]


class Agreements(Explained):
  """A reward's agreement by set of texts; None if the run has no such reference."""

  heldout_texts: Agreement | None  # original texts against r*
  heldout_texts_human: Agreement | None  # the same texts against the labels
  heldout_pairs: Agreement | None  # both completions of every prompt against r*


class Preference(Share):
  """The share of held-out pairs with two different texts in which R̂ prefers the aligned text.

  Ties count half. `n` counts these pairs; the interval counts samples of one prompt as one pair.
  """

  pairs: int  # all held-out pairs, including those with two equal texts


class MetricIntervals(Explained):
  """Bootstrap intervals of two metrics."""

  auroc: Interval | None
  spearman: Interval | None


class SetIntervals(Explained):
  """Bootstrap intervals by set of texts."""

  heldout_texts: MetricIntervals | None
  heldout_texts_human: MetricIntervals | None
  heldout_pairs: MetricIntervals | None


class Platt(TypedDict):
  """P(harmless | R) = sigmoid(slope R + intercept), fitted on n labelled texts."""

  slope: float
  intercept: float
  n: int


class ReliabilityBin(TypedDict):
  """Texts of similar predicted probability."""

  low: float  # smallest prediction
  high: float  # largest prediction
  predicted: float  # mean prediction
  observed: float  # share of harmless texts
  observed_low: float  # Wilson 95 %
  observed_high: float
  n: int


class Probabilities(Explained):
  """A reward turned into probabilities, and their errors on held-out texts."""

  platt: Platt | None
  isotonic: NotRequired[dict[str, list[float]]]  # `fit_isotonic`; the errors are then those of it
  ece: float | None
  ece_if_calibrated: float | None
  brier: float | None
  brier_constant: float | None
  reliability: list[ReliabilityBin] | None


class Zero(Explained):
  """The zero of a reward, before it is subtracted."""

  zero: float | None
  zero_low: float | None
  zero_high: float | None
  reliable_zero: bool
  saturated: float | None  # share of texts with |R| > 0.9


class Calibration(Zero, Probabilities):
  """The scale of one seed's reward; the ensemble has only the probabilities."""


class Confounds(Explained):
  """The share of a reward that length and style explain."""

  length_spearman: float | None
  partial_pearson_given_length: float | None
  partial_spearman_given_length: float | None
  style_auroc: float | None
  style_low: float | None
  style_high: float | None
  style_n: int | None


class SeedResults(Agreements):
  """All results of one recovered reward."""

  preference: NotRequired[Preference]
  intervals: SetIntervals
  calibration: Calibration
  confounds: Confounds


class EnsembleResults(Agreements):
  """All results of the mean of the seeds, as one reward."""

  preference: NotRequired[Preference]
  intervals: SetIntervals
  calibration: Probabilities
  confounds: Confounds


class BaselineResults(Agreements):
  """A simpler reward, or the ceiling."""

  preference: NotRequired[Preference]
  intervals: NotRequired[SetIntervals]
  ensemble_gain: NotRequired[SetIntervals]  # the ensemble's metrics minus those of this reward
  trained_on: NotRequired[str]  # the texts and labels of the ceiling
  zero: NotRequired[float]  # of a baseline, chosen as that of a seed, and subtracted
  prefers: NotRequired[str]  # of a baseline of length: 'longer' or 'shorter'


class Identifiability(Explained):
  """The similarity of K rewards: K x K matrices."""

  names: list[str]
  spearman: list[list[float | None]]
  sign_agreement: list[list[float | None]]
  epic_distance: list[list[float | None]]
  n: NotRequired[int]  # texts of spearman and sign_agreement


class Start(Explained):
  """Correlations (Spearman) of the seeds' rewards of held-out texts before training."""

  between_seeds: float | None  # the initial rewards of the two least similar seeds
  with_start: list[float | None]  # every seed's reward against its own first reward


class Recovery(Explained):
  """The stages irl and evaluate."""

  seeds: list[SeedResults]
  mean: Mapping[str, Any]  # over seeds, nested as a seed is
  std: Mapping[str, Any]  # sample deviation (K - 1), nested the same
  seed_spearman: float | None
  identifiability: Identifiability
  start: NotRequired[Start | None]
  coupled_pairs: NotRequired[bool]  # of the held-out pairs, as PairRow.coupled
  ensemble: EnsembleResults
  baselines: dict[str, BaselineResults]  # by name; 'ceiling' is the upper bound


class TrueRewardQuality(Explained):
  """The kind of r*, and the agreement of its sign with the labels."""

  kind: NotRequired[str]  # 'classifier', or 'score': without a toxic class; absent without r*
  label: NotRequired[str]  # the classifier's label that means toxic
  labelled_by: NotRequired[str]  # who made the texts' labels: 'people', 'program', 'Perspective'
  human_accuracy: float | None


class ReadFile(TypedDict):
  """A file that a run read."""

  name: str
  size: int  # bytes
  sha256: str
  repository: NotRequired[str]  # of the hub; absent for a local file
  commit: NotRequired[str]  # of the repository


class Summary(TypedDict, total=False):
  """summary.json; a stage that did not run is absent."""

  schema: int
  inputs: dict[str, list[ReadFile]]  # files of rows and models, by config field
  true_reward: TrueRewardQuality
  rlhf: PolicyTraining
  irl: Recovery
  rerlhf: PolicyTraining
