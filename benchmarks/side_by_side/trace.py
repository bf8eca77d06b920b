"""The time of one piece of work, operation by operation, as JAX's profiler traces it.

The times are XLA's own, on CPU. What two threads do at the same time is added up, and matmuls that
XLA only starts are short here: the sum is a guide, not the time of the work.
"""

import collections
from collections.abc import Iterator
import contextlib
import gzip
import json
import pathlib
import re
import tempfile
from typing import Any

from irl_jax.errors import IrlJaxError
from side_by_side import turns

WARM = 2  # laps before the one that is traced
FLAG = '--xla_cpu_enable_xprof_traceme=true'  # a flag of XLA_FLAGS, set before JAX starts


class Lap:
  """Stands in for `turns.Lap` and traces one lap."""

  def __init__(self, folder: str):
    self._folder, self._laps = folder, 0

  def elapsed(self) -> float:
    """Returns 0: the trace has its own clock."""
    return 0.0

  def __call__(self, *unused: Any, seconds: float = 0.0) -> None:
    """Ends a lap.

    Raises:
      Finished: the trace is complete.
    """
    import jax

    self._laps += 1
    if self._laps == WARM:
      jax.profiler.start_trace(self._folder)
    elif self._laps > WARM:
      jax.profiler.stop_trace()
      raise turns.Finished


def profile(contestant: turns.Contestant, rows: int) -> str:
  """Traces one lap of a contestant in this process; returns a table of Markdown."""
  with tempfile.TemporaryDirectory() as folder:
    with contextlib.suppress(turns.Finished):
      turns.function_of(contestant.function)(Lap(folder), contestant.work)
    return table(by_kind(pathlib.Path(folder)), rows)


def operations(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Yields the operations of a trace.

  Raises:
    IrlJaxError: there are none: not a CPU, or a version of JAX that does not trace them.
  """
  paths = sorted(folder.rglob('*.trace.json.gz'))
  events = json.loads(gzip.decompress(paths[-1].read_bytes()))['traceEvents'] if paths else []
  found = [
    event for event in events if event.get('ph') == 'X' and 'hlo_op' in event.get('args', {})
  ]
  if not found:
    raise IrlJaxError('the trace contains no operations: this works on CPU only')
  return iter(found)


def by_kind(folder: pathlib.Path) -> list[tuple[str, int, float]]:
  """Returns (kind, times, milliseconds), the longest first; a number at a name's end is dropped."""
  milliseconds: dict[str, float] = collections.Counter()
  times: dict[str, int] = collections.Counter()
  for event in operations(folder):
    kind = re.sub(r'[.\d]+$', '', event['args']['hlo_op'])
    milliseconds[kind] += event['dur'] / 1e3
    times[kind] += 1
  longest = sorted(milliseconds.items(), key=lambda item: -item[1])
  return [(kind, times[kind], took) for kind, took in longest]


def table(kinds: list[tuple[str, int, float]], rows: int) -> str:
  """Markdown."""
  lines = [f'| {kind} | {times} | {took:.2f} |' for kind, times, took in kinds[:rows]]
  rest = sum(took for _, _, took in kinds[rows:])
  total = sum(took for _, _, took in kinds)
  others = f'| {len(kinds[rows:])} others | | {rest:.2f} |'
  head = ['| operation | times | ms |', '|---|---|---|']
  return '\n'.join([*head, *lines, others, f'| sum | | {total:.2f} |'])
