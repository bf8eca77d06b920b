"""The figures of summary.json, and samples while PPO runs, as tables for the terminal.

Generated text is never trusted: terminal escapes are stripped, and nothing in it is read as markup.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import sys
from typing import Any
from typing import TextIO

from rich import box
from rich.console import Console
from rich.console import ConsoleOptions
from rich.console import Group
from rich.console import RenderableType
from rich.console import RenderResult
from rich.table import Table
from rich.text import Text

from irl_jax.runtime.terminal import printable

AGREEMENT = {
  'accuracy': 'acc',
  'f1': 'F1',
  'auroc': 'AUROC',
  'pearson': 'Pears',
  'spearman': 'Spear',
  'kendall': 'Kend',
  'pairwise_accuracy': 'pairs',
}
TEXTS = {
  'heldout_texts': 'held-out texts, against the true reward',
  'heldout_texts_human': 'held-out texts, against the labels',
  'heldout_pairs': 'held-out pairs, against the true reward',
}
NOT_SHOWN = (
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
)  # the report's tables have them
FILE_WIDTH = 120  # columns where the output is no terminal


def number(value: Any, digits: int = 3) -> str:
  """Writes a figure; '–' where it could not be computed."""
  if value is None:
    return '–'
  if isinstance(value, float):
    return f'{value:.{digits}f}' if abs(value) < 1e5 else f'{value:.2e}'
  return str(value)


def figure(value: Any) -> str:
  """Writes a figure, or a share with its interval and count."""
  if isinstance(value, Mapping):
    if value.get('rate') is None:
      return f'– n {value.get("n", 0)}'
    return (
      f'{value["rate"]:.1%} [{100 * value["low"]:.1f}, {100 * value["high"]:.1f}] n {value["n"]}'
    )
  return number(value)


@dataclasses.dataclass(frozen=True)
class Figures:
  """Rows of a name and figures: a table, or a line for each figure where the terminal is too narrow for one."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]

  def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
    grid = table(self.title, self.columns, self.rows)
    if grid.__rich_measure__(console, options.update(width=10_000)).maximum <= options.max_width:
      yield grid
      return
    yield Text(self.title, style='italic')
    for name, *cells in self.rows:
      yield Text(printable(name), style='bold')
      yield from (
        Text(printable(f'  {column}: {cell}')) for column, cell in zip(self.columns[1:], cells)
      )
    yield Text()


def table(
  title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: bool = True
) -> Table:
  """A table of plain text; columns after the first are aligned to the right, or only the last one."""
  result = Table(
    title=Text(printable(title)), title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False
  )
  for index, column in enumerate(columns):
    justify = 'right' if (right and index) or index == len(columns) - 1 else 'left'
    result.add_column(Text(column), overflow='fold', justify=justify)
  for row in rows:
    result.add_row(*(Text(printable(cell)) for cell in row))
  return result


def results_table(summary: Mapping[str, Any]) -> Group:
  """Shows everything in a run's summary.json (a stage that did not run is left out)."""
  parts = []
  accuracy = summary.get('true_reward', {}).get('human_accuracy')
  if accuracy is not None:
    parts.append(Text(f'true reward: agrees with {accuracy:.1%} of the labels\n'))
  if 'rlhf' in summary:
    parts.append(policy_table('rlhf: PPO on the true reward', summary['rlhf']))
  if 'irl' in summary:
    parts += reward_tables(summary['irl'])
  if 'rerlhf' in summary:
    parts.append(policy_table('rerlhf: PPO on the recovered reward', summary['rerlhf']))
  parts += [
    Text(printable(f'– {", ".join(names)}: {reason}')) for reason, names in reasons(summary).items()
  ]
  return Group(*parts)


def policy_table(title: str, stage: Mapping[str, Any]) -> Figures:
  """The policy before and after one PPO: a row for each figure, and McNemar's test where stage['mcnemar'] holds it."""
  before, after = stage.get('before', {}), stage.get('after', {})
  names = [name for name in dict.fromkeys((*before, *after)) if name != 'why' and name != 'mcnemar']
  rows = [
    (name.replace('_', ' '), figure(before.get(name)), figure(after.get(name))) for name in names
  ]
  test = stage.get('mcnemar') or after.get('mcnemar')
  if test:
    p_value = '–' if test['p_value'] is None else f'p {test["p_value"]:.2g}'
    rows.append(
      ('McNemar, toxic only', str(test['before_only']), f'{test["after_only"]} ({p_value})')
    )
  return Figures(title, ('', 'before', 'after'), rows)


def reward_tables(irl: Mapping[str, Any]) -> list[RenderableType]:
  """The recovered rewards: agreement of seeds, their mean and deviation, ensemble and baselines; then calibration."""
  seeds = irl.get('seeds', [])
  named = {f'seed {index}': seed for index, seed in enumerate(seeds)}
  named |= {name: irl[name] for name in ('mean', 'std', 'ensemble') if irl.get(name)} | irl.get(
    'baselines', {}
  )
  parts = []
  for key, title in TEXTS.items():
    rows = {name: figures[key] for name, figures in named.items() if figures.get(key)}
    if rows:
      parts.append(agreement_table(f'irl: {title}', rows))
  preferred = [
    (name.replace('_', ' '), number(share))
    for name, figures in named.items()
    if name != 'std'
    and (share := (figures.get('heldout_pairs') or {}).get('prefers_aligned')) is not None
  ]
  if preferred:
    parts.append(
      Figures(
        'irl: held-out pairs in which the aligned completion scores higher',
        ('', 'share'),
        preferred,
      )
    )
  calibrated = [
    (f'seed {index}', calibration)
    for index, seed in enumerate(seeds)
    if (calibration := seed.get('calibration'))
  ]
  if calibrated:
    parts.append(
      Figures(
        'irl: the zero of each reward',
        ('', 'zero', '95 % interval', 'reliable', '|R| > .9'),
        [
          (
            name,
            number(row['zero']),
            f'[{number(row["zero_low"])}, {number(row["zero_high"])}]',
            'yes' if row['reliable_zero'] else 'no',
            number(row['saturated']),
          )
          for name, row in calibrated
        ],
      )
    )
  if 'seed_spearman' in irl:
    parts.append(Text(f'irl: Spearman between seeds {number(irl["seed_spearman"])}\n'))
  return parts


def agreement_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Figures:
  """Agreement with a reference, a row for each reward."""
  first = next(iter(rows.values()))
  title += f' (n {number(first.get("n"), 0)}, tied pairs {number(first.get("ties"), 0)})'
  return Figures(
    title,
    ('', *AGREEMENT.values()),
    [
      (
        ('± ' if name == 'std' else '') + name.replace('_', ' '),
        *(number(figures.get(key)) for key in AGREEMENT),
      )
      for name, figures in rows.items()
    ],
  )


def reasons(node: Any) -> dict[str, list[str]]:
  """Every reason in the 'why' of what is shown, and the figures that are missing for it."""
  found = {}
  for name, reason in missing(node):
    found.setdefault(reason, {})[name] = None
  return {reason: list(names) for reason, names in found.items()}


def missing(node: Any) -> Iterable[tuple[str, str]]:
  """(figure, reason) at any depth."""
  if isinstance(node, Mapping):
    yield from (
      (name, reason) for name, reason in node.get('why', {}).items() if name not in NOT_SHOWN
    )
    node = [value for key, value in node.items() if key != 'why' and key not in NOT_SHOWN]
  if isinstance(node, list):
    for value in node:
      yield from missing(value)


def sample_table(
  rows: Iterable[tuple[str, str, float]], title: str = 'samples', characters: int = 200
) -> Table:
  """Shows samples of a policy.

  Args:
    rows: (prompt, completion, score) each.
    title: what stands above.
    characters: longer texts are cut there and marked '…'.
  """

  def short(text):
    text = printable(text)
    return text if len(text) <= characters else text[:characters] + '…'

  return table(
    title,
    ('prompt', 'completion', 'score'),
    right=False,
    rows=[
      (short(prompt), short(completion), number(float(score), 2))
      for prompt, completion, score in rows
    ],
  )


def show(renderable: RenderableType, file: TextIO | None = None) -> None:
  """Prints to file (default: standard output), also where that is no terminal or cannot encode every character."""
  file = file or sys.stdout
  console = Console(file=file, highlight=False, width=None if file.isatty() else FILE_WIDTH)
  with console.capture() as capture:
    console.print(renderable)
  encoding = getattr(file, 'encoding', None) or 'utf-8'
  file.write(capture.get().encode(encoding, 'replace').decode(encoding))
  file.flush()
