"""The results of `score --field=chosen,rejected`: how often the chosen answer scores higher."""

from collections.abc import Sequence

from irl_jax.command_line import output_rows
from irl_jax.data import rows as rows_lib
from irl_jax.evaluation import preferences
from irl_jax.runtime import terminal
from irl_jax.runtime import terminal_tables

SUBSET = 'subset'  # a row's field, as in RewardBench


def report(output: str, fields: Sequence[str]) -> None:
  """Prints how often the first of two fields has the higher reward, and writes it as JSON.

  Pairs of two equal values are left out: a reward cannot tell them apart. Nothing is printed if
  the model gives no rewards.

  Args:
    output: the file of rows that `score` has written.
    fields: the two fields.
  """
  rewards, subsets, equal = read(output, fields)
  if not rewards and not equal:
    return
  first, second = zip(*rewards) if rewards else ((), ())
  results = preferences.accuracies(first, second, subsets)
  print(terminal.printable(sentence(results['all'], fields, equal)))
  if results['subsets']:
    terminal_tables.show(table(results, fields))
  output_rows.write_summary(
    output, {'fields': list(fields), 'equal_texts': equal, 'pairwise_accuracy': results}
  )


def read(
  output: str, fields: Sequence[str]
) -> tuple[list[tuple[float, float]], list[str | None], int]:
  """Returns the rewards of each pair, its subset, and the number of pairs of two equal values."""
  first, second = (f'reward_{field}' for field in fields)
  rewards: list[tuple[float, float]] = []
  subsets: list[str | None] = []
  equal = 0
  for _, row in rows_lib.read_numbered(output, ()):
    if not isinstance(row, dict) or not isinstance(row.get(first), int | float):
      continue  # a bad row, one with lists of texts, or a model without a reward
    if row[fields[0]] == row[fields[1]]:
      equal += 1
      continue
    rewards.append((row[first], row[second]))
    subset = row.get(SUBSET)
    subsets.append(str(subset) if isinstance(subset, str | int) else None)
  return rewards, subsets, equal


def sentence(accuracy: preferences.PairwiseAccuracy, fields: Sequence[str], equal: int) -> str:
  """Says how often the first field has the higher reward."""
  left_out = f'; {terminal.count(equal, "pair")} of equal texts left out' if equal else ''
  if not accuracy['n']:
    return f'{fields[0]} and {fields[1]}: no two texts differ{left_out}'
  tied = f', and equal rewards in {accuracy["ties"]}' if accuracy['ties'] else ''
  higher = round((accuracy['rate'] or 0.0) * accuracy['n'] - accuracy['ties'] / 2)
  return (
    f'{fields[0]} has the higher reward in {higher} of {terminal.count(accuracy["n"], "pair")}'
    f'{tied}: {_percent(accuracy)}{left_out}'
  )


def table(results: preferences.Preferences, fields: Sequence[str]) -> terminal_tables.Grid:
  """Tabulates the accuracy on every subset."""
  return terminal_tables.Grid(
    f'pairs in which {fields[0]} has the higher reward, ties counted half',
    (SUBSET, 'pairs', 'ties', 'accuracy'),
    [
      (name, str(row['n']), str(row['ties']), _percent(row))
      for name, row in {**results['subsets'], 'all': results['all']}.items()
    ],
  )


def _percent(share: preferences.PairwiseAccuracy) -> str:
  """Writes an accuracy with its interval."""
  rate, low, high = share['rate'] or 0.0, share['low'] or 0.0, share['high'] or 0.0
  return f'{rate:.1%} (95 % interval {low:.1%} to {high:.1%})'
