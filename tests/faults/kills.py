"""Kills a run at random moments of all its stages, and compares it with an undisturbed run.

After each kill the same command runs again. In the end the files must be equal, byte for byte.

  python tests/faults/kills.py --config_file=configs/tiny.py --kills=20 --workdir=runs/kills
  python tests/faults/kills.py --config_file=configs/smoke.py --kills=3 --workdir=runs/killed \
    --reference=runs/smoke

Each kill is SIGKILL. Every third one, in training, waits until a checkpoint is being written. The
undisturbed run is --reference, or is made first; both must have the same devices.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import json
import pathlib
import random
import re
import subprocess
import sys
import time
from typing import NamedTuple

from absl import flags

from irl_jax.command_line import launch as command_line
from irl_jax.config import STAGES
from irl_jax.errors import ConfigError
from irl_jax.errors import IrlJaxError

FLAGS = flags.FlagValues()
flags.DEFINE_string('config_file', None, 'config file of the run', flag_values=FLAGS)
flags.DEFINE_string('workdir', None, 'a new folder for the run that is killed', flag_values=FLAGS)
flags.DEFINE_string(
  'reference',
  '',
  'folder of a finished, undisturbed run; if empty, one is made in WORKDIR_undisturbed',
  flag_values=FLAGS,
)
flags.DEFINE_integer('kills', 5, 'number of kills', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer('seed', 0, 'seed of the random moments', lower_bound=0, flag_values=FLAGS)

ROOT = pathlib.Path(__file__).parents[2]
COMPARED = (
  'summary.json',
  'log.jsonl',
  'data/*.jsonl',
  'demos/*.jsonl',
  'evaluation/*.jsonl',
  '**/model.safetensors',
)
TRAINING = ('sft', 'classifier', 'rlhf', 'irl', 'rerlhf')  # the stages that write checkpoints
POLL = 0.002  # seconds
PACE = 0.5  # of the undisturbed run's time, since compiled functions are cached
ATTEMPTS = 12  # to meet a running stage; each waits half as long as the one before


class Moment(NamedTuple):
  """The moment of a kill."""

  stage: str
  seconds: float  # after the stage has started
  in_a_save: bool  # and then wait until a checkpoint is being written


class Kill(NamedTuple):
  """The state of the run at a kill."""

  stage: str | None
  step: int | None  # the last one in the log of the stage
  saved: tuple[int, ...]  # the stage's checkpoints
  in_a_save: bool


def moments(timings: dict[str, float], count: int, seed: int) -> list[Moment]:
  """Chooses random moments: one in every stage if there are enough, the others by the stages' time.

  Those of a stage are uniform over it. After a kill the run continues about where it was, so each
  moment counts from the one before.
  """
  rng, stages = random.Random(seed), [stage for stage in STAGES if stage in timings]
  chosen = rng.sample(stages, min(count, len(stages)))
  chosen += rng.choices(stages, [timings[stage] for stage in stages], k=count - len(chosen))
  waits = []
  for stage in stages:
    times = sorted(rng.uniform(0, PACE * timings[stage]) for _ in range(chosen.count(stage)))
    waits += [(stage, time - before) for before, time in zip([0.0, *times], times)]
  return [
    Moment(stage, seconds, number % 3 == 2 and stage in TRAINING)
    for number, (stage, seconds) in enumerate(waits)
  ]


def start(config: str, folder: pathlib.Path, errors: pathlib.Path) -> subprocess.Popen:
  """Starts the run, or continues it, by its command line."""
  command = [
    sys.executable,
    str(ROOT / 'launch' / 'train.py'),
    f'--config={config}',
    f'--workdir={folder}',
  ]
  with errors.open('w') as file:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, cwd=ROOT)


def stage_of(errors: pathlib.Path) -> str | None:
  """Returns the stage that a run is in, by what it has printed."""
  started = re.findall(r'^(\w+): starts$', errors.read_text(errors='replace'), re.MULTILINE)
  return started[-1] if started else None


def saving(folder: pathlib.Path) -> bool:
  """Returns True if a checkpoint is being written."""
  return any(folder.glob('**/checkpoints/*.orbax-checkpoint-tmp'))


def kill_at(
  moment: Moment, process: subprocess.Popen, folder: pathlib.Path, errors: pathlib.Path
) -> bool:
  """Waits for the moment and kills; returns False if the process had ended before."""
  deadline = None
  while process.poll() is None:
    if deadline is None:
      stage = stage_of(errors)
      if stage and STAGES.index(stage) >= STAGES.index(moment.stage):
        deadline = time.monotonic() + moment.seconds
    elif time.monotonic() >= deadline and (not moment.in_a_save or saving(folder)):
      process.kill()
      process.wait()
      return True
    time.sleep(POLL)
  return False


def state_of(folder: pathlib.Path, errors: pathlib.Path) -> Kill:
  """Returns the state in which a kill has left the run."""
  stage = stage_of(errors)
  steps = [record['step'] for record in records(folder) if record['stage'].split('/')[0] == stage]
  saved = sorted(
    int(path.name) for path in folder.glob(f'{stage}/**/checkpoints/*') if path.name.isdigit()
  )
  return Kill(stage, steps[-1] if steps else None, tuple(saved), saving(folder))


def records(folder: pathlib.Path) -> Iterator[dict]:
  """Yields the whole lines of the log."""
  path = folder / 'log.jsonl'
  lines = path.read_text().split('\n')[:-1] if path.exists() else []
  return map(json.loads, lines)


def resumed(errors: pathlib.Path) -> str:
  """Describes how the run continued, by what it has printed."""
  text = errors.read_text(errors='replace')
  steps = re.findall(r'continues from step (\d+)$', text, re.MULTILINE)
  started = re.findall(r'^(\w+): starts$', text, re.MULTILINE)
  return f'{started[0] if started else "finished"}, ' + (
    f'from step {steps[0]}' if steps else 'from its start'
  )


def differing(folder: pathlib.Path, reference: pathlib.Path) -> tuple[int, list[str]]:
  """Returns how many files were compared, and the names of those that differ."""
  names = sorted(
    {
      str(path.relative_to(root))
      for root in (folder, reference)
      for pattern in COMPARED
      for path in root.glob(pattern)
    }
  )
  read = lambda path: path.read_bytes() if path.exists() else None
  return len(names), [name for name in names if read(folder / name) != read(reference / name)]


def disturbed(
  config: str, folder: pathlib.Path, planned: Sequence[Moment]
) -> Iterator[tuple[Kill, str]]:
  """Runs with kills -> (state at the kill, how the run continued) of each.

  Raises:
    IrlJaxError: a kill met no running stage, however early it came, or the run fails.
  """
  folder.mkdir(parents=True, exist_ok=True)
  kills: list[Kill] = []
  for number, moment in enumerate(planned):
    kill, continued = killed(config, folder, moment, f'killed_{number}')
    if kills:
      yield kills[-1], continued
    kills.append(kill)
  finish(config, folder, errors := folder / 'finished.log')
  yield kills[-1], resumed(errors)


def killed(config: str, folder: pathlib.Path, moment: Moment, name: str) -> tuple[Kill, str]:
  """Kills the run at a moment, or earlier if the run has ended by then.

  Returns:
    The state at the kill, and how the run had continued from the kill before.

  Raises:
    IrlJaxError: the run ended before every attempt, or fails.
  """
  first_log = folder / f'{name}_0.log'
  for attempt in range(ATTEMPTS):
    errors = folder / f'{name}_{attempt}.log'
    process = start(config, folder, errors)
    if kill_at(moment, process, folder, errors):
      return state_of(folder, errors), resumed(first_log)
    if process.returncode:
      raise IrlJaxError(f'{config} fails: see {errors}')
    moment = moment._replace(seconds=moment.seconds / 2, in_a_save=False)
  raise IrlJaxError(f'{config} ended {ATTEMPTS} times before it could be killed')


def finish(config: str, folder: pathlib.Path, errors: pathlib.Path) -> None:
  """Runs to the end.

  Raises:
    IrlJaxError: it fails.
  """
  if start(config, folder, errors).wait():
    raise IrlJaxError(f'{config} does not finish: see {errors}')


def row(number: int, kill: Kill, continued: str) -> str:
  """Returns one line of the table."""
  saved = ', '.join(map(str, kill.saved)) or 'none'
  step = 'none' if kill.step is None else kill.step
  saved += ', one being written' * kill.in_a_save
  return f'| {number} | {kill.stage} | {step} | {saved} | {continued} |'


def main(options: flags.FlagValues) -> None:
  """Kills, and prints a table.

  Raises:
    ConfigError: the folder is not new.
    IrlJaxError: a run fails, or the killed run has other results.
  """
  command_line.require(options, 'config_file', 'workdir')
  folder = pathlib.Path(options.workdir).absolute()
  reference = pathlib.Path(options.reference or f'{folder}_undisturbed').absolute()
  reference.mkdir(parents=True, exist_ok=True)
  if folder.exists() and any(folder.iterdir()):
    raise ConfigError(f'--workdir={folder}: must be a new folder, but has files')
  if not (reference / 'summary.json').exists():
    finish(options.config_file, reference, reference / 'undisturbed.log')
  planned = moments(
    json.loads((reference / 'timings.json').read_text()), options.kills, options.seed
  )
  print('| kill | stage | last logged step | checkpoints | continued |\n|---|---|---|---|---|')
  for number, (kill, continued) in enumerate(disturbed(options.config_file, folder, planned), 1):
    print(row(number, kill, continued), flush=True)
  count, names = differing(folder, reference)
  if names:
    raise IrlJaxError(
      f'of {count} files in {folder} and {reference} these differ: {", ".join(names)}'
    )
  print(f'{count} files are the same, byte for byte, as in {reference}')


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
