"""Where the time of one piece of work goes, operation by operation: what benchmarks/speed.py times, traced by JAX.

  python benchmarks/profile_work.py --work=decode --shape=70m
  python benchmarks/profile_work.py --work=train --shape=70m --rows=20
  python benchmarks/profile_work.py --work=score

Milliseconds of one decode step, training step, PPO iteration, IRL epoch of 64 pairs and a look at as many, or of the
scoring of 100 comments by RoBERTa-base (`tiny` has one too), from XLA's own clock on CPU. What two threads do at the
same time is added up, and products that XLA only starts are short here: the sum is a guide, not the step's time.
"""

import collections
from collections.abc import Iterator
import gzip
import json
import os
import pathlib
import re
import sys
import tempfile
from typing import Any

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # a clone need not be installed

from side_by_side import limits

from irl_jax.command_line import launch as command_line
from irl_jax.errors import IrlJaxError

FLAGS = flags.FlagValues()
flags.DEFINE_enum(
  'work', 'train', ['decode', 'train', 'ppo', 'irl', 'score'], 'what', flag_values=FLAGS
)
flags.DEFINE_enum(
  'shape', '70m', sorted(limits.PYTHIA), 'of the model; random weights', flag_values=FLAGS
)
flags.DEFINE_integer('rows', 12, 'of the table', lower_bound=1, flag_values=FLAGS)
SHARED = pathlib.Path(__file__).parents[2] / 'shared'
flags.DEFINE_string(
  'models',
  str(SHARED / 'models'),
  'folder of tokenizers; made up where they are missing',
  flag_values=FLAGS,
)
flags.DEFINE_string(
  'data',
  str(SHARED / 'data'),
  'folder of the comments; made up where they are missing',
  flag_values=FLAGS,
)

BATCH, PROMPT, NEW, TOP_K, STEPS, EPOCHS, TEXTS, PAIRS, TOKENS = 16, 32, 64, 30, 2, 4, 100, 64, 100
WARM = 2  # laps before the one that is traced


class Traced(Exception):
  """The trace is complete."""


class Lap:
  """As `turns.Lap`, for the functions of `side_by_side.ours`; traces one lap."""

  def __init__(self, folder: str):
    self._folder, self._laps = folder, 0

  def elapsed(self) -> float:
    """Of no interest here."""
    return 0.0

  def __call__(self, *unused) -> None:
    import jax  # pylint: disable=g-import-not-at-top  (after XLA_FLAGS)

    self._laps += 1
    if self._laps == WARM:
      jax.profiler.start_trace(self._folder)
    elif self._laps > WARM:
      jax.profiler.stop_trace()
      raise Traced


def operations(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
  """The operations of a trace.

  Raises:
    IrlJaxError: there are none: not a CPU, or a version that does not trace them.
  """
  paths = sorted(folder.rglob('*.trace.json.gz'))
  events = json.loads(gzip.decompress(paths[-1].read_bytes()))['traceEvents'] if paths else []
  found = [
    event for event in events if event.get('ph') == 'X' and 'hlo_op' in event.get('args', {})
  ]
  if not found:
    raise IrlJaxError('the trace holds no operations: this works on CPU only')
  return iter(found)


def by_kind(folder: pathlib.Path, steps: int) -> list[tuple[str, float, float]]:
  """(kind of operation, times a step, milliseconds a step), the longest first; names that differ in a number are of one
  kind.
  """
  milliseconds, times = collections.Counter(), collections.Counter()
  for event in operations(folder):
    kind = re.sub(r'[.\d]+$', '', event['args']['hlo_op'])
    milliseconds[kind] += event['dur'] / 1e3 / steps
    times[kind] += 1 / steps
  return [(kind, times[kind], took) for kind, took in milliseconds.most_common()]


def table(kinds: list[tuple[str, float, float]], rows: int) -> str:
  """Markdown."""
  lines = [f'| {kind} | {times:.0f} | {took:.2f} |' for kind, times, took in kinds[:rows]]
  rest = sum(took for _, _, took in kinds[rows:])
  whole = sum(took for _, _, took in kinds)
  return '\n'.join(
    [
      '| operation | times a step | ms a step |',
      '|---|---|---|',
      *lines,
      f'| {len(kinds[rows:])} others | | {rest:.2f} |',
      f'| sum | | {whole:.2f} |',
    ]
  )


def do(work: str, lap: Lap, shape: str, models: str, data: str) -> None:
  """One kind of work, until the trace is complete."""
  from side_by_side import inputs  # pylint: disable=g-import-not-at-top
  from side_by_side import ours  # pylint: disable=g-import-not-at-top

  scorer = limits.ROBERTA.get(shape, limits.ROBERTA['base'])
  what = dict(shape=limits.PYTHIA[shape], batch=BATCH, models=models)
  if work == 'score':
    ours.score(
      lap,
      shape=scorer,
      texts=inputs.sample_of(inputs.comments(data, 20 * TEXTS), TEXTS),
      models=models,
    )
  elif work == 'decode':
    ours.decode(lap, **what, prompt=PROMPT, new=NEW, top_k=TOP_K)
  elif work == 'ppo':
    ours.ppo(
      lap,
      **what,
      scorer=scorer,
      prompt=PROMPT,
      new=PROMPT,
      epochs=EPOCHS,
      trained_blocks=-1,
      top_k=TOP_K,
    )
  elif work == 'irl':
    ours.irl(lap, shape=what['shape'], pairs=PAIRS, tokens=TOKENS, models=models)
  else:
    ours.train(lap, **what, tokens=PROMPT + PROMPT, steps=STEPS)


def main(options: flags.FlagValues) -> None:
  """Traces and prints."""
  os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_cpu_enable_xprof_traceme=true'
  with tempfile.TemporaryDirectory() as folder:
    try:
      do(options.work, Lap(folder), options.shape, options.models, options.data)
    except Traced:
      pass
    steps = {'decode': NEW, 'train': STEPS}.get(options.work, 1)
    print(table(by_kind(pathlib.Path(folder), steps), options.rows))


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
