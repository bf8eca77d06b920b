"""The results of summary.json as tables of the page; a result that could not be computed is '–'."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import statistics
from typing import NamedTuple

from irl_jax.report.inputs import Inputs
from irl_jax.report.summary import Agreement
from irl_jax.report.summary import Calibration
from irl_jax.report.summary import Confounds
from irl_jax.report.summary import Interval
from irl_jax.report.summary import McNemar
from irl_jax.report.summary import Policy
from irl_jax.report.summary import policy_metrics
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import Reward
from irl_jax.report.summary import SetName
from irl_jax.report.summary import SETS
from irl_jax.report.summary import Share
from irl_jax.report.summary import Start
from irl_jax.report.wording import baseline
from irl_jax.report.wording import ENSEMBLE
from irl_jax.report.wording import MISSING
from irl_jax.report.wording import name
from irl_jax.report.wording import number
from irl_jax.report.wording import numbers
from irl_jax.report.wording import policy_name
from irl_jax.report.wording import set_title
from irl_jax.report.wording import share
from irl_jax.report.wording import SPACE
from irl_jax.report.wording import spread


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of a name and cells; the first column names the rows."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]
  note: str = ''


def policies(inputs: Inputs) -> list[Table]:
  """Tabulates every policy: its toxicity and true reward, and what they cost."""
  trainings = inputs.summary.trainings
  columns: dict[str, Policy] = {}
  for training in trainings:
    if training.before not in columns.values():
      start = f'start of {name(training.stage)}' if columns else 'start'
      columns[start] = training.before
    columns[policy_name(training.stage)] = training.after
  if not columns:
    return []
  rows = []
  for metric in policy_metrics(inputs.summary):
    values = [metric.value(policy) for policy in columns.values()]
    rows.append([metric.label + shared_count(values), *map(policy_cell, values)])
  by_label = {policy_name(training.stage): training for training in trainings}
  trained = [by_label.get(label) for label in columns]
  rows += win_rate_rows([training.win_rate if training else Share() for training in trained])
  rows += mcnemar_rows([training.mcnemar if training else None for training in trained])
  what = 'true reward' if inputs.summary.truth.is_score else 'toxicity'
  note = '' if inputs.summary.truth.is_score else CHEAP
  note += f'Read the {what} only together with length, perplexity and variety.'
  return [Table('Policies, on held-out prompts', ('', *columns), rows, note)]


CHEAP = 'Silence, gibberish and one phrase for everything are the cheapest ways to be harmless. '


def win_rate_rows(shares: Sequence[Share]) -> list[list[str]]:
  """Writes how often each training raised the true reward; [] if none was measured."""
  if not any(won.bounds for won in shares):
    return []
  cells = [policy_cell(won) if won.bounds else '' for won in shares]
  return [['true reward rose, share of prompts (ties half)', *cells]]


def shared_count(values: Iterable[Share | float | None]) -> str:
  """Writes ', n 1,488' if the values are shares of as many texts."""
  counts = {value.n for value in values if isinstance(value, Share) and value.bounds}
  return f', n{SPACE}{counts.pop():,}' if len(counts) == 1 else ''


def policy_cell(value: Share | float | None) -> str:
  """Writes a number, or a share over its interval."""
  return share(value).replace(' [', '\n[') if isinstance(value, Share) else number(value, 2)


def mcnemar_rows(tests: Sequence[McNemar | None]) -> list[list[str]]:
  """Writes the paired test of every policy that has one."""
  if not any(tests):
    return []
  counts = [
    f'{number(test.before_only)} / {number(test.after_only)}' if test else '' for test in tests
  ]
  return [
    ['toxic before only / after only', *counts],
    ['p of the change (McNemar)', *(p_value(test.p_value) if test else '' for test in tests)],
  ]


def p_value(value: float | None) -> str:
  """Writes a p value; small ones only as a bound."""
  return '< 0.0001' if value is not None and value < 1e-4 else number(value, 4)


class Metric(NamedTuple):
  """A column of the agreement tables."""

  label: str
  value: Callable[[Agreement], float | None]
  interval: Callable[[Agreement], Interval | None] = lambda agreement: None
  of_classes: bool = False  # needs a reference with a toxic class


AGREEMENT = (
  Metric(name('auroc'), lambda row: row.auroc, lambda row: row.auroc_interval, of_classes=True),
  Metric(name('accuracy'), lambda row: row.accuracy, of_classes=True),
  Metric(name('f1'), lambda row: row.f1, of_classes=True),
  Metric(name('spearman'), lambda row: row.spearman, lambda row: row.spearman_interval),
  Metric(name('pearson'), lambda row: row.pearson),
  Metric(name('kendall'), lambda row: row.kendall),
  Metric(name('pairwise_accuracy'), lambda row: row.pairwise_accuracy),
)
ON_PAIRS = (
  Metric(name('prefers_aligned'), lambda row: row.prefers_aligned),
  Metric(name('epic_distance'), lambda row: row.epic_distance),
)


def agreement(inputs: Inputs) -> list[Table]:
  """Tabulates all metrics of all rewards, and the mean and deviation over seeds."""
  return [table for set_name in SETS for table in agreement_on(inputs.recovery, set_name)]


def agreement_on(recovery: Recovery, set_name: SetName) -> list[Table]:
  """Tabulates the agreement of all rewards on one set; [] if no seed has it."""
  counts = [seed.on(set_name).n for seed in recovery.seeds if set_name in seed.sets]
  if not counts:
    return []
  metrics = [m for m in AGREEMENT if not (m.of_classes and recovery.is_score(set_name))]
  metrics += ON_PAIRS if set_name == 'heldout_pairs' else ()
  rows = [
    agreement_row(f'seed {index}', seed.on(set_name), metrics)
    for index, seed in enumerate(recovery.seeds)
  ]
  if len(recovery.seeds) > 1 and set_name in recovery.mean.sets:
    mean, std = recovery.mean.on(set_name), recovery.std.on(set_name)
    cells = [f'{number(metric.value(mean))}\n± {number(metric.value(std))}' for metric in metrics]
    rows.append(['mean ± deviation', *cells])
  rows += [
    agreement_row(label, reward.on(set_name), metrics)
    for label, reward in others(recovery)
    if set_name in reward.sets
  ]
  title = f'{set_title(set_name, recovery.truth)} (n{SPACE}{number(counts[0])})'
  centred = any(other.zero is not None for other in recovery.baselines.values())
  note = OWN_ZERO if centred and not recovery.is_score(set_name) else ''
  return [Table(title, ('', *(metric.label for metric in metrics)), rows, note)]


OWN_ZERO = 'Each baseline has a zero of its own, chosen from unlabelled texts as that of R̂.'


def preferences(inputs: Inputs) -> list[Table]:
  """Tabulates how often each reward prefers the aligned of two different texts."""
  recovery = inputs.recovery
  rewards = [(f'seed {index}', seed) for index, seed in enumerate(recovery.seeds)]
  rows = [
    [label, share(row).replace(' [', '\n['), f'{row.n:,}', f'{row.pairs:,}']
    for label, row in (
      (label, reward.preference) for label, reward in [*rewards, *others(recovery)]
    )
    if row.pairs
  ]
  columns = ('', 'prefers the aligned completion', 'pairs that differ', 'all pairs')
  note = (
    f'Over held-out pairs whose texts differ; ties count half. 50{SPACE}% is chance: a share '
    f'whose interval contains it shows nothing. {how_drawn(recovery.coupled_pairs)}'
  )
  return [Table('Held-out pairs that differ', columns, rows, note)] if rows else []


def how_drawn(coupled: bool) -> str:
  """Says how the two texts of a held-out pair were drawn."""
  if coupled:
    return (
      'Both models drew these pairs with the same random numbers, as older versions of irl_jax had '
      'them do. That makes the aligned text easier to tell than in independent pairs.'
    )
  return 'Each model drew its texts of these pairs independently of the other.'


def others(recovery: Recovery) -> Iterator[tuple[str, Reward]]:
  """Yields the rewards that seeds are compared with: ensemble, baselines and ceiling."""
  yield ENSEMBLE, recovery.ensemble
  yield from ((baseline(key, reward), reward) for key, reward in recovery.baselines.items())
  yield name('ceiling'), recovery.ceiling


def agreement_row(label: str, row: Agreement, metrics: Sequence[Metric]) -> list[str]:
  """Writes one reward, with intervals if there are any."""
  cells = (f'{number(metric.value(row))}\n{numbers(metric.interval(row))}' for metric in metrics)
  return [label, *(cell.strip() for cell in cells)]


ZERO = ('', 'zero', f'95{SPACE}% interval', 'two groups', f'share with |R̂|{SPACE}>{SPACE}0.9')
PROBABILITIES = (
  *('Platt slope', 'Platt intercept', 'ECE', 'ECE, if calibrated'),
  *('Brier', 'Brier, constant'),
)


def calibration(inputs: Inputs) -> list[Table]:
  """Tabulates the zero of each reward, and its probabilities."""
  rows = [
    calibration_row(label, reward.calibration)
    for label, reward in seeds_and_ensemble(inputs.recovery)
    if reward.calibration
  ]
  if not rows:
    return []
  zero = (
    'The zero, before centring, is the best split of unlabelled texts into two groups; if there '
    'are not two, it is not reliable. What the groups are, only the line about the sign can say.'
  )
  if not any(seed.calibration and seed.calibration.platt for seed in inputs.recovery.seeds):
    return [Table('Zero', ZERO, [row[: len(ZERO)] for row in rows], zero)]
  note = (
    f'{zero} Platt turns R̂ into the probability that a text is harmless, and is fitted on labels. '
    'ECE and Brier are the errors of that probability. Next to them: the errors of a calibrated '
    'reward, and of one constant probability.'
  )
  return [Table('Zero and probabilities', (*ZERO, *PROBABILITIES), rows, note)]


def calibration_row(label: str, row: Calibration) -> list[str]:
  """Writes the calibration of one reward; the ensemble has no zero of its own."""
  bounds = row.zero_interval
  return [
    label,
    number(row.zero),
    f'{number(bounds[0])} to {number(bounds[1])}' if bounds else MISSING,
    number(row.reliable_zero) if bounds else MISSING,
    number(row.saturated),
    number(row.platt['slope'] if row.platt else None, 1),
    number(row.platt['intercept'] if row.platt else None, 2),
    number(row.ece),
    number(row.ece_if_calibrated),
    number(row.brier),
    number(row.brier_constant),
  ]


def confounds(inputs: Inputs) -> list[Table]:
  """Tabulates how much of each reward is length and style."""
  rows = [
    confounds_row(label, reward.confounds)
    for label, reward in seeds_and_ensemble(inputs.recovery)
    if reward.confounds != Confounds()
  ]
  columns = (
    '',
    'Spearman with length',
    'Spearman with r*, given length',
    'Pearson with r*, given length',
    'AUROC of style',
    'n, style',
  )
  note = (
    "AUROC of style: how well R̂ tells the aligned model's texts from the base model's when r* "
    'scores them about equally; 0.5 means not at all.'
  )
  return [Table('Length and style', columns, rows, note)] if rows else []


def confounds_row(label: str, row: Confounds) -> list[str]:
  """Writes the length and style of one reward."""
  has_interval = row.style_low is not None and row.style_high is not None
  interval = f'[{number(row.style_low)}, {number(row.style_high)}]' if has_interval else ''
  return [
    label,
    number(row.length_spearman),
    number(row.partial_spearman_given_length),
    number(row.partial_pearson_given_length),
    f'{number(row.style_auroc)}\n{interval}'.strip(),
    number(row.style_n),
  ]


def seeds_and_ensemble(recovery: Recovery) -> Iterator[tuple[str, Reward]]:
  """Yields each seed, and the mean of the seeds if there are several."""
  yield from ((f'seed {index}', seed) for index, seed in enumerate(recovery.seeds))
  if len(recovery.seeds) > 1:
    yield ENSEMBLE, recovery.ensemble


def identifiability(inputs: Inputs) -> list[Table]:
  """Tabulates the similarity of the seeds."""
  alike = inputs.recovery.identifiability
  columns = (
    ('Spearman', alike.seed_pairs(alike.spearman), min),
    ('texts with the same sign', alike.seed_pairs(alike.sign_agreement), min),
    ('EPIC distance (0: the same reward)', alike.seed_pairs(alike.epic_distance), max),
  )
  rows = [
    [label, number(statistics.fmean(values)), number(least_alike(values))]
    for label, values, least_alike in columns
    if values
  ]
  note = from_start(inputs.recovery.start)
  return [Table('Every two seeds', ('', 'mean', 'least alike'), rows, note)] if rows else []


def from_start(start: Start) -> str:
  """Says how alike the seeds began and how far each moved; '' if it is not known."""
  moved = [value for value in start.with_start if value is not None]
  if start.between_seeds is None or not moved:
    return ''
  return (
    f'Before training the two least alike seeds had a Spearman correlation of '
    f'{number(start.between_seeds)}. Between each reward and its own start it is {spread(moved)}. '
    'Seeds that begin alike and hardly move agree regardless of what they learn.'
  )
