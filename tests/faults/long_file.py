"""Scores a long file twice, once with interruptions, and compares the outputs byte for byte.

  python tests/faults/long_file.py --model=runs/smoke/irl/seed_0/reward --rows=1000000 \
    --workdir=runs/long_file

It also measures each process's peak memory.
"""

from collections.abc import Sequence
import filecmp
import json
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from absl import flags

from irl_jax.command_line import launch as command_line
from irl_jax.errors import IrlJaxError

FLAGS = flags.FlagValues()
flags.DEFINE_string('model', None, 'the model that scores', flag_values=FLAGS)
flags.DEFINE_string('workdir', None, 'a new folder', flag_values=FLAGS)
flags.DEFINE_integer('rows', 1_000_000, 'rows of the file', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer('stops', 2, 'number of interruptions', lower_bound=0, flag_values=FLAGS)

ROOT = pathlib.Path(__file__).parents[2]
WORDS = ['the', 'garden', 'neighbour', 'stupid', 'kind', 'looks', 'you', 'idiot', 'today']
POLL = 0.02  # seconds


class Ended(NamedTuple):
  """The end of one call."""

  code: int
  printed: str  # its last line
  peak: float  # resident memory, GB
  seconds: float


def write_rows(path: pathlib.Path, count: int) -> None:
  """Writes rows of one to six words and their number; one in a thousand has no text."""
  rng = random.Random(0)
  with path.open('w') as file:
    for number in range(count):
      text = ' '.join([*rng.choices(WORDS, k=rng.randint(1, 6)), str(number)])
      row = {'id': number, 'text': None if number % 1000 == 7 else text}
      file.write(json.dumps(row) + '\n')


def score(model: str, source: pathlib.Path, output: pathlib.Path, stop_at: int | None) -> Ended:
  """Scores a file, and sends SIGINT once the output has this many bytes."""
  script, log = ROOT / 'launch' / 'score.py', output.with_suffix('.log')
  arguments = [f'--model={model}', f'--input={source}', f'--output={output}', '--bad_rows=skip']
  partial, start = output.with_name(f'{output.name}.partial'), time.monotonic()
  with log.open('w') as errors:
    process = subprocess.Popen(
      [sys.executable, str(script), *arguments], stdout=errors, stderr=errors, cwd=ROOT
    )
  peak = 0.0
  while process.poll() is None:
    peak = max(peak, peak_memory(process.pid))
    if stop_at is not None and partial.exists() and partial.stat().st_size >= stop_at:
      process.send_signal(signal.SIGINT)
      stop_at = None
    time.sleep(POLL)
  printed = log.read_text(errors='replace').replace('\r', '\n').splitlines() or ['']
  seconds = time.monotonic() - start
  return Ended(process.returncode, printed[-1], peak, round(seconds, 1))


def peak_memory(process: int) -> float:
  """Returns the most resident memory that a process has had, GB; 0 if it has ended.

  getrusage's ru_maxrss would not do: it counts the parent, whose memory a new process shares.
  """
  try:
    status = pathlib.Path(f'/proc/{process}/status').read_text()
  except (FileNotFoundError, ProcessLookupError):
    return 0.0
  found = re.search(r'^VmHWM:\s*(\d+) kB$', status, re.MULTILINE)
  return int(found[1]) * 1024 / 1e9 if found else 0.0


def measure(model: str, folder: pathlib.Path, rows: int, stops: int) -> list[Ended]:
  """Scores a new file without and with interruptions.

  Returns:
    How each call ended: the undisturbed one, then the others.

  Raises:
    IrlJaxError: a call failed, or the outputs differ.
  """
  folder.mkdir(parents=True, exist_ok=True)
  source, whole, stopped = (folder / f'{name}.jsonl' for name in ('rows', 'whole', 'stopped'))
  write_rows(source, rows)
  ends = [score(model, source, whole, None)]
  if ends[0].code:
    raise IrlJaxError(f'the undisturbed call failed: {ends[0]}')
  size = whole.stat().st_size
  # Not near the end, which a call may reach before the signal does
  places: Sequence[int | None] = [size * (stop + 1) // (stops + 2) for stop in range(stops)]
  for place in [*places, None]:
    ends.append(score(model, source, stopped, place))
    if ends[-1].code != (0 if place is None else 130):
      raise IrlJaxError(f'the call that stops at {place} bytes failed: {ends[-1]}')
  if not filecmp.cmp(whole, stopped, shallow=False):
    raise IrlJaxError(f'{whole} and {stopped} differ')
  return ends


def main(options: flags.FlagValues) -> None:
  """Prints how each call ended."""
  command_line.require(options, 'model', 'workdir')
  for end in measure(options.model, pathlib.Path(options.workdir), options.rows, options.stops):
    print(json.dumps(end._asdict()))
  print('the outputs are equal')


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__ or ''))
