"""A folder in use, a folder that cannot be written to, and memory that runs out."""

import os
import re
import subprocess
import sys

import documented
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import config
from irl_jax import errors
from irl_jax.runtime import exhaustion
from irl_jax.runtime import metrics_log

HOLD = """
import pathlib, sys, time
from irl_jax.runtime import workdir
with workdir.held(pathlib.Path(sys.argv[1])):
  print('held', flush=True)
  time.sleep(100)
"""


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_killed(train, tmp_path):
  with subprocess.Popen(
    [sys.executable, '-c', HOLD, tmp_path], stdout=subprocess.PIPE, text=True
  ) as other:
    assert other.stdout and other.stdout.readline() == 'held\n'
    ended = train(tmp_path, 'data')
    assert (
      ended.code == 2
      and f'--workdir={tmp_path}: is in use by process {other.pid} on ' in ended.message
    )
    documented.check('a second run in the same folder', ended.message, ended.code, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']
    other.kill()
  assert train(tmp_path, 'data').code == 0


@pytest.mark.parametrize('stage', ['sft', 'rlhf', 'tensorboard'])
def test_a_stages_folder_that_is_a_file_is_refused_before_anything_runs(train, tmp_path, stage):
  (tmp_path / stage).write_text('')
  ended = train(tmp_path, 'sft')
  assert ended.code == 2
  assert f'{tmp_path / stage} cannot be written to: Not a directory' in ended.message
  fault = "a file where a stage's folder should be"
  documented.check(fault, ended.message, ended.code, tmp_path)
  assert not (tmp_path / 'data').exists()


@pytest.fixture
def read_only(tmp_path):
  """A folder on a read-only file system, which not even root can write to."""
  folder = tmp_path / 'run' / 'rlhf'
  folder.mkdir(parents=True)
  mounted = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder], capture_output=True, text=True
  )
  if mounted.returncode:
    pytest.skip(f'no file system can be mounted here: {mounted.stderr.strip()}')
  yield folder
  subprocess.run(['umount', '-l', folder], check=True)


def test_a_read_only_folder_is_refused_before_anything_runs(train, read_only):
  ended = train(read_only.parent, 'sft')
  documented.check('a read-only file system', ended.message, ended.code, read_only.parent)
  assert not (read_only.parent / 'data').exists()


@pytest.mark.parametrize(
  'fault, flag',
  [
    ('a work directory in a bucket', '--workdir=gs://bucket/run'),
    ('a data source on the hub, by its URL', '--config.data.source=hf://datasets/a/b'),
  ],
)
def test_places_that_are_no_paths_are_refused(train, tmp_path, monkeypatch, fault, flag):
  monkeypatch.chdir(tmp_path)
  ended = train(tmp_path / 'run', 'data', flag)
  documented.check(fault, ended.message, ended.code, tmp_path)
  assert not list(tmp_path.iterdir())


def test_missing_folders_are_made(train, tmp_path):
  assert (
    train(tmp_path / 'a' / 'b', 'data').code == 0
    and (tmp_path / 'a' / 'b' / 'data' / 'train.jsonl').exists()
  )


@pytest.mark.slow
def test_out_of_memory_names_the_arrays_and_the_settings_and_the_same_command_goes_on(
  train, tmp_path, monkeypatch
):
  log = metrics_log.MetricsLog.log

  def log_and_allocate(self, stage, step, metrics):
    log(self, stage, step, metrics)
    if step == 2:
      jnp.zeros(2**50, jnp.uint8).block_until_ready()

  with monkeypatch.context() as patch:
    patch.setattr(metrics_log.MetricsLog, 'log', log_and_allocate)
    ended = train(tmp_path, 'rlhf')
  assert ended.code == 1
  assert 'stage rlhf is out of memory: ' in ended.message and f'{2**50}' in ended.message
  assert re.search(
    r'Each device holds \d+ x \w+\[[\d,]*\] \(\d+\.\d MB\), .*, \d+\.\d MB in all\. L',
    ended.message,
  )
  assert (
    'Lower one of config.ppo.minibatch_size = 8, config.ppo.rollouts_per_step = 16, '
    in ended.message
  )
  documented.check('out of memory', ended.message, ended.code, tmp_path)
  assert {path.name for path in (tmp_path / 'rlhf' / 'checkpoints').iterdir()} == {'1', '2'}
  assert train(tmp_path, 'rlhf').code == 0


def test_the_largest_arrays_are_named_with_their_number_and_size():
  held = [
    jnp.zeros((1024, 1024), jnp.float32),
    jnp.ones((1024, 1024), jnp.float32),
    jnp.zeros((2, 3000000), jnp.int8),
  ]
  assert exhaustion.largest().startswith(
    '2 x float32[1024,1024] (8.4 MB), 1 x int8[2,3000000] (6.0 MB), '
  )
  del held


@pytest.mark.parametrize(
  'sharding, devices, advice',
  [
    ('replicated', 8, 'with the same command and --config.runtime.sharding=fsdp (each of the 8 '),
    ('replicated', 1, 'on a larger device, or on several with --config.runtime.sharding=fsdp: the'),
    ('fsdp', 8, 'with the same command on larger devices, or on more than 8: the checkpoints'),
  ],
)
def test_out_of_memory_advises_to_split_parameters_or_to_use_more_devices(
  tmp_path, monkeypatch, sharding, devices, advice
):
  monkeypatch.setattr(jax, 'device_count', lambda: devices)
  settings = config.Config(runtime=config.Runtime(sharding=sharding))
  with (
    pytest.raises(errors.OutOfMemoryError) as caught,
    exhaustion.memory_explained('irl', settings, tmp_path),
  ):
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.')
  assert advice in str(caught.value) and '\n' not in str(caught.value)


def test_memory_of_the_host_is_explained_and_other_errors_pass(tmp_path):
  with (
    pytest.raises(errors.OutOfMemoryError, match='stage sft is out of memory: Unable to allocate'),
    exhaustion.memory_explained('sft', config.Config(), tmp_path),
  ):
    np.zeros(2**58)
  with (
    pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'),
    exhaustion.memory_explained('sft', config.Config(), tmp_path),
  ):
    raise jax.errors.JaxRuntimeError('INTERNAL: something else')


def test_a_full_disk_is_told_from_other_errors_of_files(tmp_path):
  message = f'{tmp_path} cannot be written to: No space left on device; progress is saved'
  with (
    pytest.raises(errors.CheckpointError, match=message),
    exhaustion.disk_explained(tmp_path),
    open('/dev/full', 'w') as file,
  ):
    file.write('x')
  with pytest.raises(FileNotFoundError), exhaustion.disk_explained(tmp_path):
    os.stat(tmp_path / 'nothing')
