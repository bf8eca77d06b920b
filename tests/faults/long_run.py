"""Measures whether memory, open files, the log or checkpoints grow over many PPO steps.

  python tests/faults/long_run.py --steps=2000 --workdir=runs/long

Runs configs/smoke.py by its command line, up to rlhf, and measures its process from outside.
"""

from collections.abc import Iterator
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import NamedTuple

from absl import flags

from irl_jax.command_line import launch as command_line
from irl_jax.errors import IrlJaxError

FLAGS = flags.FlagValues()
flags.DEFINE_string('workdir', None, 'a new folder', flag_values=FLAGS)
flags.DEFINE_integer('steps', 2000, 'number of PPO steps', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer('samples', 10, 'number of measurements', lower_bound=1, flag_values=FLAGS)

ROOT = pathlib.Path(__file__).parents[2]
POLL = 0.2  # seconds


class Usage(NamedTuple):
  """The resources of a process and of its run's folder."""

  memory: float  # resident, MB
  open_files: int
  log: float  # log.jsonl, MB
  checkpoints: float  # rlhf/checkpoints, MB


def usage(pid: int, folder: pathlib.Path) -> Usage:
  """Measures the process `pid`, whose run is in `folder`."""
  pages = int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1])
  log = folder / 'log.jsonl'
  return Usage(
    pages * os.sysconf('SC_PAGE_SIZE') / 1e6,
    len(os.listdir(f'/proc/{pid}/fd')),
    log.stat().st_size / 1e6 if log.exists() else 0.0,
    size_of(folder / 'rlhf' / 'checkpoints'),
  )


def size_of(folder: pathlib.Path) -> float:
  """Returns the size of all files below the folder, in MB, without those deleted meanwhile."""
  sizes = 0
  for root, _, names in os.walk(folder):
    for name in names:
      try:
        sizes += os.stat(os.path.join(root, name)).st_size
      except FileNotFoundError:  # an old checkpoint that was just removed
        continue
  return sizes / 1e6


def last_step(folder: pathlib.Path) -> int:
  """Returns the last PPO step in the log, or -1 before the first."""
  path = folder / 'log.jsonl'
  lines = path.read_bytes().split(b'\n')[:-1][-1:] if path.exists() else []
  records = [record for record in map(json.loads, lines) if record['stage'] == 'rlhf']
  return records[0]['step'] if records else -1


def observed(steps: int, folder: pathlib.Path, samples: int) -> Iterator[tuple[int, Usage]]:
  """Runs it; yields (step, usage) at `samples` steps, equally far apart.

  Raises:
    IrlJaxError: the run fails.
  """
  command = [
    sys.executable,
    str(ROOT / 'launch' / 'train.py'),
    '--config=configs/smoke.py',
    f'--workdir={folder}',
    '--stages=data,sft,classifier,rlhf',
    f'--config.ppo.steps={steps}',
    '--config.ppo.checkpoint_every=20',
    '--config.ppo.samples_every=1000',
    '--config.ppo.learning_rate=1e-5',
  ]
  folder.mkdir(parents=True, exist_ok=True)
  with (folder / 'long_run.log').open('w') as file:
    process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT)
  due = [steps * number // samples - 1 for number in range(1, samples + 1)]
  while process.poll() is None and due:
    step = last_step(folder)
    if step >= due[0]:
      yield step, usage(process.pid, folder)
      due = [later for later in due if later > step]
    time.sleep(POLL)
  if process.wait():
    raise IrlJaxError(f'the run failed: see {folder / "long_run.log"}')


def main(options: flags.FlagValues) -> None:
  """Runs, and prints a table."""
  command_line.require(options, 'workdir')
  print(
    '| step | resident memory, MB | open files | log.jsonl, MB | rlhf/checkpoints, MB |\n'
    '|---|---|---|---|---|'
  )
  for step, now in observed(
    options.steps, pathlib.Path(options.workdir).absolute(), options.samples
  ):
    print(
      f'| {step} | {now.memory:.0f} | {now.open_files} | {now.log:.2f} | {now.checkpoints:.2f} |',
      flush=True,
    )


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
