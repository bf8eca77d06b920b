"""Two processes run configs/smoke.py and are stopped, killed or misconfigured; nothing is lost.

They are compared with one process of four devices.
"""

import json
import signal
import time

import documented
import pytest
import quick_compilation

from irl_jax.training import checkpoint

pytestmark = pytest.mark.slow  # every test starts processes

HEARTBEAT = 15  # seconds
FLAGS = (f'--heartbeat_timeout={HEARTBEAT}',)


def until(condition, *processes, seconds=600):
  """Waits until something has happened, while the processes run."""
  deadline = time.monotonic() + seconds
  while not condition():
    for process in processes:
      assert process.popen.poll() is None, process.printed
    assert time.monotonic() < deadline, [process.printed for process in processes]
    time.sleep(0.05)


def ended(processes):
  """Waits for all processes and returns their exit codes."""
  return [process.wait() for process in processes]


def said(process):
  """Returns the lines that a process printed, without gloo's."""
  return [line for line in process.printed.splitlines() if not line.startswith('[Gloo]')]


def logged(folder):
  """Returns (stage, step) of every line of the metrics' log."""
  path = folder / 'log.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  return [(row['stage'], row['step']) for row in map(json.loads, lines)]


@pytest.fixture(scope='module')
def whole(start, start_train, tmp_path_factory):
  """Uninterrupted runs: (folder of two processes, the two, folder of one with four devices)."""
  of_two, of_one = tmp_path_factory.mktemp('of_two'), tmp_path_factory.mktemp('of_one')
  processes = start_train(f'--workdir={of_two}')
  one = start(
    'launch/train.py',
    '--config=configs/smoke.py',
    f'--workdir={of_one}',
    '--distributed=off',
    XLA_FLAGS=quick_compilation.on_devices(4),
  )
  for process in [*processes, one]:
    assert process.wait() == 0, process.printed
  return of_two, processes, of_one


def test_two_processes_run_the_whole_pipeline_and_one_of_them_writes(whole):
  folder, (first, second), alone = whole
  files = lambda folder: {
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if not {'checkpoints', 'tensorboard'} & set(path.parts)
  }
  assert files(folder) == files(alone) and (folder / 'report.html').exists()
  assert logged(folder) == logged(alone) and len(set(logged(folder))) == len(logged(folder))
  for stage in (folder / 'tensorboard').iterdir():
    assert len(list(stage.iterdir())) == len(list((alone / 'tensorboard' / stage.name).iterdir()))
  assert 'rerlhf: starts' in said(first) and any('AUROC' in line for line in said(first))
  assert said(second)[0].startswith('process 1 of 2: connecting to the others at 127.0.0.1:')
  assert not [line for line in said(second) if 'starts' in line or '/s]' in line or 'AUROC' in line]


def test_figures_of_two_processes_are_those_of_one_within_their_intervals(whole):
  folder, _, alone = whole
  assert (folder / 'data' / 'heldout.jsonl').read_bytes() == (
    alone / 'data' / 'heldout.jsonl'
  ).read_bytes()
  two, one = (json.loads((place / 'summary.json').read_text()) for place in (folder, alone))
  for stage in ('rlhf', 'rerlhf'):
    for when in ('before', 'after'):
      mine, other = two[stage][when]['toxicity'], one[stage][when]['toxicity']
      assert (
        other['low'] <= mine['rate'] <= other['high']
        and mine['low'] <= other['rate'] <= mine['high']
      )


def test_stopped_and_killed_processes_continue_to_the_same_summary(whole, start_train, tmp_path):
  workdir = f'--workdir={tmp_path}'
  first, second = start_train(workdir, *FLAGS)
  until(lambda: 'sft: starts' in said(first), first, second)
  second.popen.send_signal(signal.SIGTERM)  # to one of the two alone
  assert ended([first, second]) == [143, 143], (first.printed, second.printed)
  for process in (first, second):
    documented.check('SIGTERM to one process', said(process)[-1], 143, tmp_path)
  (step,) = (path for path in (tmp_path / 'sft' / 'checkpoints').iterdir() if path.is_dir())
  assert 0 < int(step.name) < 10 and checkpoint.damage(step) == ''

  for killed, stage in ((1, 'rlhf'), (0, 'irl/seed_0')):
    processes = start_train(workdir, *FLAGS)
    until(lambda stage=stage: stage in dict(logged(tmp_path)), *processes)
    processes[killed].popen.kill()
    other = processes[1 - killed]
    code = other.wait(HEARTBEAT + 60)
    allowed = documented.rows()['kill -9 of one process'].codes
    # A shell reports the signal 6, by which JAX aborts, as 134.
    assert (128 - code if code < 0 else code) in allowed, other.printed

  assert ended(start_train(workdir)) == [0, 0]
  assert (tmp_path / 'summary.json').read_bytes() == (whole[0] / 'summary.json').read_bytes()
  assert logged(tmp_path) == logged(whole[0])


def test_a_process_that_never_arrives_ends_the_other(start_train, tmp_path):
  (alone,) = start_train(
    f'--workdir={tmp_path / "run"}', '--initialization_timeout=5', each=(('--num_processes=2',),)
  )
  assert alone.wait(120) == -signal.SIGABRT
  assert said(alone)[0].startswith('process 0 of 2: connecting to the others at 127.0.0.1:')
  documented.check('a process that never arrives', said(alone)[0], 134, tmp_path)
  assert 'DEADLINE_EXCEEDED' in alone.printed
  assert not (tmp_path / 'run').exists()


def test_different_configs_are_refused_at_the_start(start_train, tmp_path):
  processes = start_train(
    f'--workdir={tmp_path / "run"}', each=((), ('--config.ppo.steps=5', '--stages=data'))
  )
  assert ended(processes) == [2, 2]
  first, second = (said(process)[-1] for process in processes)
  documented.check('different configs, on the first process', first, 2, tmp_path)
  documented.check('different configs, on another process', second, 2, tmp_path)
  assert 'config.ppo.steps (4 there, 5 now)' in second and 'stages (' in second
  assert not (tmp_path / 'run').exists()
