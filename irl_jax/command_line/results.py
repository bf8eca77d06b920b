"""The results of a run, as the command prints them when it ends."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.console import RenderableType
from rich.text import Text

from irl_jax.report import findings
from irl_jax.report import inputs
from irl_jax.report.summary import Agreement
from irl_jax.report.summary import Calibration
from irl_jax.report.summary import policy_metrics
from irl_jax.report.summary import Preference
from irl_jax.report.summary import Reason
from irl_jax.report.summary import Recovery
from irl_jax.report.summary import Reward
from irl_jax.report.summary import SetName
from irl_jax.report.summary import SETS
from irl_jax.report.summary import Share
from irl_jax.report.summary import Summary
from irl_jax.report.summary import Truth
from irl_jax.report.wording import labels
from irl_jax.report.wording import set_title
from irl_jax.runtime.terminal import printable
from irl_jax.runtime.terminal_tables import Grid
from irl_jax.runtime.terminal_tables import MISSING
from irl_jax.runtime.terminal_tables import number

Column = tuple[str, Callable[[Agreement], float | None]]
COLUMNS: tuple[Column, ...] = (  # the first three need a reference with a toxic class
  ('acc', lambda row: row.accuracy),
  ('F1', lambda row: row.f1),
  ('AUROC', lambda row: row.auroc),
  ('Pears', lambda row: row.pearson),
  ('Spear', lambda row: row.spearman),
  ('Kend', lambda row: row.kendall),
  ('pairs', lambda row: row.pairwise_accuracy),
)
NOT_SHOWN = {  # shown only in the report
  'mean',
  'std',
  'intervals',
  'ensemble_gain',
  'confounds',
  'epic_distance',
  'platt',
  'ece',
  'brier',
  'ece_if_calibrated',
  'brier_constant',
  'reliability',
}


def cell(value: Share | float | None) -> str:
  """Writes a number, or a share with its interval and count."""
  if not isinstance(value, Share):
    return number(value)
  if value.bounds is None:
    return f'{MISSING} n {value.n}'
  rate, low, high = value.bounds
  return f'{rate:.1%} [{100 * low:.1f}, {100 * high:.1f}] n {value.n}'


def tables(node: Mapping[str, Any]) -> Group:
  """Tabulates a run's summary.json; a stage that did not run is left out."""
  summary = inputs.parse_summary(node)
  parts: list[RenderableType] = []
  parts += map(Text, truth_lines(summary.truth))
  parts += policy_tables(summary, 'rlhf', 'rlhf: PPO on the true reward')
  parts += reward_tables(summary.recovery)
  parts += policy_tables(summary, 'rerlhf', 'rerlhf: PPO on the recovered reward')
  parts += reason_lines(summary.reasons)
  if summary.recovery.seeds:
    parts.append(Text(f'\n{findings.find(summary).headline}'))
  return Group(*parts)


def truth_lines(truth: Truth) -> list[str]:
  """Says what the true reward is, and how often its sign agrees with the labels."""
  if truth.is_score:
    return ['true reward: a score, without a toxic class and without a zero\n']
  lines = [f'true reward: minus the logit of the label {truth.label!r}\n'] if truth.label else []
  if truth.human_accuracy is not None:
    agrees = f'{truth.human_accuracy:.1%}'
    lines.append(
      f'true reward: agrees with {labels(truth).who} on {agrees} of the labelled texts\n'
    )
  return lines


def policy_tables(summary: Summary, stage: str, title: str) -> list[Grid]:
  """Tabulates the policy before and after one PPO; [] if the stage did not run."""
  training = summary.training(stage)
  if training is None:
    return []
  rows = [
    (metric.label, cell(metric.value(training.before)), cell(metric.value(training.after)))
    for metric in policy_metrics(summary)
  ]
  if training.win_rate.bounds:
    rows.append(('true reward rose, share of prompts (ties half)', '', cell(training.win_rate)))
  if test := training.mcnemar:
    p_value = MISSING if test.p_value is None else f'p {test.p_value:.2g}'
    rows.append(
      (
        'toxic only before, only after (McNemar)',
        str(test.before_only),
        f'{test.after_only} ({p_value})',
      )
    )
  return [Grid(title, ('', 'before', 'after'), rows)]


def reward_tables(recovery: Recovery) -> Iterator[RenderableType]:
  """Tabulates the agreement of all rewards, then their preferences and their zeros."""
  named = dict(named_rewards(recovery))
  for set_name in SETS:
    rewards = {name: reward for name, reward in named.items() if set_name in reward.sets}
    if rewards:
      title = set_title(set_name, recovery.truth)
      metrics = COLUMNS[3:] if recovery.is_score(set_name) else COLUMNS
      yield agreement_table(f'irl: {title[0].lower()}{title[1:]}', rewards, set_name, metrics)
  preferred = [
    (name, number(reward.on('heldout_pairs').prefers_aligned), differing(reward.preference))
    for name, reward in named.items()
    if name != '± std' and reward.on('heldout_pairs').prefers_aligned is not None
  ]
  if preferred:
    title = 'irl: held-out pairs in which the aligned completion scores higher'
    if any(reward.preference.pairs for reward in named.values()):
      yield Grid(title, ('', 'share', 'of pairs that differ'), preferred)
    else:  # an older version measured the run
      yield Grid(title, ('', 'share'), [row[:2] for row in preferred])
  zeros = [
    zero_row(f'seed {index}', seed.calibration)
    for index, seed in enumerate(recovery.seeds)
    if seed.calibration
  ]
  if zeros:
    columns = ('', 'zero', '95 % interval', 'two groups', '|R| > 0.9')
    yield Grid('irl: the zero of each reward', columns, zeros)
  if recovery.seeds:
    yield Text(f'irl: mean Spearman between seeds {number(recovery.seed_spearman)}\n')


def differing(preference: Preference) -> str:
  """Writes a share of the pairs that differ; '' if there is none, as for a mean over seeds."""
  return cell(preference) if preference.pairs else ''


def named_rewards(recovery: Recovery) -> Iterator[tuple[str, Reward]]:
  """Yields all rewards by the names of their rows."""
  yield from ((f'seed {index}', seed) for index, seed in enumerate(recovery.seeds))
  yield 'mean', recovery.mean
  yield '± std', recovery.std
  yield 'ensemble', recovery.ensemble
  for key, reward in recovery.baselines.items():
    yield f'{reward.prefers} is better' if reward.prefers else key.replace('_', ' '), reward
  yield 'ceiling', recovery.ceiling


def agreement_table(
  title: str, rewards: Mapping[str, Reward], set_name: SetName, columns: Sequence[Column]
) -> Grid:
  """Tabulates the agreement with a reference, a row per reward."""
  rows = {name: reward.on(set_name) for name, reward in rewards.items()}
  first = next(iter(rows.values()))
  return Grid(
    f'{title} (n {number(first.n, 0)}, ties {number(first.ties, 0)})',
    ('', *(column for column, _ in columns)),
    [(name, *(number(value(row)) for _, value in columns)) for name, row in rows.items()],
  )


def zero_row(name: str, row: Calibration) -> tuple[str, ...]:
  """Writes the zero of one seed."""
  return (
    name,
    number(row.zero),
    f'[{number(row.zero_low)}, {number(row.zero_high)}]',
    'yes' if row.reliable_zero else 'no',
    number(row.saturated),
  )


def reason_lines(reasons: Iterable[Reason]) -> list[Text]:
  """Writes every reason once, after the metrics that it explains, if they are shown here."""
  metrics: dict[str, dict[str, None]] = {}
  for reason in reasons:
    if not NOT_SHOWN & {*reason.path, reason.metric}:
      metrics.setdefault(reason.reason, {})[reason.metric] = None
  return [Text(printable(f'– {", ".join(names)}: {reason}')) for reason, names in metrics.items()]
