"""Checkpoints that are damaged, of another model, or cannot be written."""

import dataclasses
import json
import resource
import shutil
import subprocess

import documented
import numpy as np
import pytest

from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log

STEPS = 12  # updates of the sft stage, 3 per epoch; every second one is saved, the last two stay


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A place for one finished run, made by the first test that needs it."""
  return tmp_path_factory.mktemp('finished') / 'run'


@pytest.fixture
def unfinished(finished, train, tmp_path):
  """(a run that was killed after its last update, the files that it must end with)."""
  if not finished.exists():
    assert train(finished, 'sft').code == 0
  shutil.copytree(finished, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'sft' / 'policy')
  return tmp_path / 'run', wanted(finished)


def wanted(folder):
  """Reads the files that no fault of a run may change."""
  return [(folder / name).read_bytes() for name in ('sft/policy/model.safetensors', 'log.jsonl')]


def newest(folder):
  """The folder of the newest checkpoint."""
  return folder / 'sft' / 'checkpoints' / str(STEPS)


def flip(folder):
  """Flips one bit of the weights."""
  path = max(
    (newest(folder) / 'state').rglob('*'),
    key=lambda path: path.stat().st_size if path.is_file() else 0,
  )
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def truncate(folder):
  path = newest(folder) / 'state' / 'manifest.ocdbt'
  path.write_bytes(path.read_bytes()[:20])


def delete(folder):
  (newest(folder) / 'state' / 'manifest.ocdbt').unlink()


def empty(folder):
  shutil.rmtree(newest(folder))
  newest(folder).mkdir()


def half(folder):
  """Leaves a step as a kill before its sums would, if its folder had no temporary name."""
  shutil.rmtree(newest(folder) / 'meta')
  (newest(folder) / 'sums.json').unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
  'fault, damage',
  [
    ('a flipped bit in the newest checkpoint', flip),
    ('a truncated file in it', truncate),
    ('a deleted file in it', delete),
    ('an empty checkpoint folder', empty),
    ('a half-written checkpoint', half),
  ],
)
def test_the_step_before_a_damaged_one_is_used(unfinished, train, caplog, fault, damage):
  folder, expected = unfinished
  damage(folder)
  ended = train(folder, 'sft')
  place = folder / 'sft' / 'checkpoints'
  (message,) = [message for message in caplog.messages if 'is damaged' in message]
  assert f'{place}: the checkpoint of step 12 is damaged: ' in message
  documented.check(fault, message, ended.code, folder)
  (message,) = [message for message in caplog.messages if message.startswith(f'{place}: continues')]
  assert message.endswith('from step 10')
  documented.check('kill -9 at any moment', message, ended.code, folder)
  assert wanted(folder) == expected


@pytest.mark.slow
def test_without_a_whole_step_the_run_ends_and_touches_nothing(unfinished, train, files_of):
  folder, _ = unfinished
  for path in (folder / 'sft' / 'checkpoints').iterdir():
    (path / 'sums.json').unlink()
  before = files_of(folder / 'sft')
  ended = train(folder, 'sft')
  assert (
    ended.code == 5 and 'no checkpoint is intact (step 12: it has no sums.json' in ended.message
  )
  documented.check('no checkpoint is intact', ended.message, ended.code, folder)
  assert files_of(folder / 'sft') == before


@pytest.mark.slow
def test_the_checkpoint_of_another_model_is_refused_by_its_leaves(
  unfinished, train, places, policy, files_of
):
  folder, _ = unfinished
  before = files_of(folder / 'sft')
  (folder / 'read_files.json').unlink()  # or the run would refuse the changed model before it
  embedding = {'embedding': np.zeros((40, 16), np.float32)}
  wider = dataclasses.replace(
    policy,
    params=policy.params | {'embed_in': embedding, 'embed_out': embedding},
    config=dataclasses.replace(policy.config, vocab_size=40),
  )
  try:
    pretrained.save(places.base, wider, '')
    ended = train(folder, 'sft')
  finally:
    pretrained.save(places.base, policy, '')
  assert ended.code == 5
  assert (
    "state/params/embed_in/embedding ('float32[36,16]' there, 'float32[40,16]' now)"
    in ended.message
  )
  assert "best/embed_out/embedding ('float32[36,16]' there" in ended.message
  assert 'blocks' not in ended.message and files_of(folder / 'sft') == before
  documented.check('a checkpoint of another model', ended.message, ended.code, folder)


@pytest.fixture
def small_disk(tmp_path):
  """A disk of 8 MB."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mounted = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder], capture_output=True, text=True
  )
  if mounted.returncode:
    pytest.skip(f'no file system can be mounted here: {mounted.stderr.strip()}')
  yield folder
  subprocess.run(['umount', '-l', folder], check=True)


def after_step(monkeypatch, step, action):
  """Calls `action` once the log has a line of `step` or later."""
  log, done = metrics_log.MetricsLog.log, list[None]()

  def log_and_act(self, stage, now, metrics):
    log(self, stage, now, metrics)
    if now >= step and not done:
      done.append(action())

  monkeypatch.setattr(metrics_log.MetricsLog, 'log', log_and_act)


def check_that_nothing_was_lost(folder, train, expected, ended, fault):
  """After a save that failed: the message, and that the same command finishes from the last one."""
  assert ended.code == 5
  documented.check(fault, ended.message, ended.code, folder)
  steps = [
    int(path.name) for path in (folder / 'sft' / 'checkpoints').iterdir() if path.name.isdigit()
  ]
  assert steps and max(steps) < STEPS
  assert train(folder, 'sft').code == 0 and wanted(folder) == expected


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_the_same_command_goes_on(
  unfinished, train, monkeypatch, small_disk
):
  folder, (_, expected) = small_disk / 'run', unfinished
  filler = small_disk / 'filler'

  def fill():
    with filler.open('wb') as file:
      try:
        while file.write(bytes(65536)):
          file.flush()
      except OSError:
        return

  with monkeypatch.context() as patch:
    after_step(patch, 5, fill)
    ended = train(folder, 'sft')
  filler.unlink()
  check_that_nothing_was_lost(folder, train, expected, ended, 'the disk is full')


@pytest.mark.slow
def test_a_file_that_may_not_grow_ends_the_run_and_the_same_command_goes_on(
  unfinished, train, tmp_path, monkeypatch
):
  folder, (_, expected) = tmp_path / 'limited', unfinished
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  with monkeypatch.context() as patch:
    after_step(patch, 5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30000, before[1])))
    try:
      ended = train(folder, 'sft')
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
  check_that_nothing_was_lost(folder, train, expected, ended, 'the file-size limit is reached')
  assert json.loads((folder / 'log.jsonl').read_text().splitlines()[-1])['step'] == STEPS - 1
