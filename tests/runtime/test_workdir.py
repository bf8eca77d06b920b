"""A run's folder: whole files, one config, seconds by stage."""

import dataclasses
import json
import os
import socket
import subprocess
import sys

import documented
import pytest

from irl_jax import config as c
from irl_jax import errors
from irl_jax.runtime import workdir

CONFIG = c.Config(seed=3, ppo=c.PPO(learning_rate=2e-6))


def check_documented(fault, caught, folder):
  documented.check(fault, f'error: {caught.value}', caught.value.exit_code, folder)


def write(folder, name='data/counts.json', content='{}'):
  """Writes a result of a stage; by default the first one of a run."""
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(content)


def test_json_appears_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'summary.json'
  workdir.write_json(path, {'naïve': [1, None, 0.1]})
  assert workdir.read_json(path) == {'naïve': [1, None, 0.1]} and 'naïve' in path.read_text(
    encoding='utf-8'
  )
  with pytest.raises(ValueError):
    workdir.write_json(path, {'rate': float('nan')})
  assert workdir.read_json(path) == {'naïve': [1, None, 0.1]}


def test_a_new_folder_holds_config_and_versions(tmp_path):
  folder = tmp_path / 'runs' / 'new'
  with workdir.held(folder):
    workdir.prepare(folder, CONFIG)
  written = json.loads((folder / 'config.json').read_text())
  assert written['config']['seed'] == 3 and written['config']['ppo']['learning_rate'] == 2e-6
  assert {'python', 'jax', 'optax', 'numpy'} <= set(written['versions'])
  assert {path.name for path in folder.iterdir()} == {'config.json', '.lock'}


def test_the_same_config_may_continue_with_other_stages_and_another_machine(tmp_path):
  workdir.prepare(tmp_path, CONFIG)
  workdir.prepare(
    tmp_path,
    dataclasses.replace(
      CONFIG, name='other', stages=('rlhf',), runtime=c.Runtime(keep_checkpoints=5)
    ),
  )
  written = json.loads((tmp_path / 'config.json').read_text())['config']
  assert written['stages'] == ['rlhf'] and written['runtime']['keep_checkpoints'] == 5


def test_another_config_is_refused_by_the_fields_that_differ(tmp_path):
  workdir.prepare(tmp_path, CONFIG)
  write(tmp_path)
  before = (tmp_path / 'config.json').read_bytes()
  other = dataclasses.replace(CONFIG, seed=4, ppo=c.PPO(learning_rate=1e-6, epochs=2))
  with pytest.raises(errors.ConfigError) as caught:
    workdir.prepare(tmp_path, other)
  message = str(caught.value)
  assert (
    'config.seed (3 there, 4 now)' in message
    and 'config.ppo.learning_rate (2e-06 there, 1e-06 now)' in message
  )
  assert 'config.ppo.epochs' in message and 'clip' not in message
  assert (tmp_path / 'config.json').read_bytes() == before
  with pytest.raises(errors.ConfigError) as caught:
    workdir.prepare(tmp_path, dataclasses.replace(CONFIG, seed=4))
  check_documented('a folder of another config', caught, tmp_path)


@pytest.mark.parametrize(
  'there, now, same',
  [
    ('models/base', '{here}/models/base', True),
    ('{here}/models/base/', 'models/base', True),
    ('models/lora+models/base', '{here}/models/lora+{here}/models/base', True),
    ('models/base', '{here}/models/lora', False),
    ('owner/name', '{here}/owner/name', False),  # a hub id, without a folder of its name
    ('models/lora', 'models/lora+models/base', False),
  ],
)
def test_a_model_may_be_written_as_a_relative_or_an_absolute_path(
  tmp_path, monkeypatch, there, now, same
):
  monkeypatch.chdir(tmp_path)
  for name in ('base', 'lora'):
    (tmp_path / 'models' / name).mkdir(parents=True)
  configs = [c.Config(models=c.Models(base=spec.format(here=tmp_path))) for spec in (there, now)]
  folder = tmp_path / 'run'
  folder.mkdir()
  workdir.prepare(folder, configs[0])
  write(folder)
  if same:
    workdir.prepare(folder, configs[1])
  else:
    with pytest.raises(errors.ConfigError, match=r'config\.models\.base \('):
      workdir.prepare(folder, configs[1])


def test_a_folder_without_results_belongs_to_the_next_config(tmp_path):
  other = dataclasses.replace(CONFIG, seed=4)
  with workdir.held(tmp_path):
    workdir.prepare(tmp_path, CONFIG)
    with pytest.raises(errors.InputError), workdir.timed(tmp_path, 'data'):
      raise errors.InputError('rows.jsonl, row 1: a bad row')
    write(tmp_path, 'read_files.json')
    write(tmp_path, 'log.jsonl', '')
    write(tmp_path, 'inputs.jsonl', '{"text": "of the user"}')
    (tmp_path / 'irl' / 'seed_0').mkdir(parents=True)
    workdir.prepare(tmp_path, CONFIG)
    assert (tmp_path / 'timings.json').exists()  # the same config tries again
    workdir.prepare(tmp_path, other)
  assert workdir.read_json(tmp_path / 'config.json')['config'] == workdir.plain(other)
  left = {'config.json', '.lock', 'log.jsonl', 'inputs.jsonl', 'irl'}
  assert {path.name for path in tmp_path.iterdir()} == left


@pytest.mark.parametrize(
  'name', ['data/train.jsonl', 'irl/seed_0/checkpoints/3/sums.json', 'summary.json', 'log.jsonl']
)
def test_the_first_result_or_checkpoint_binds_the_folder(tmp_path, name):
  workdir.prepare(tmp_path, CONFIG)
  write(tmp_path, name, '{"stage": "sft", "step": 0}\n')
  write(tmp_path, 'timings.json')
  with pytest.raises(errors.ConfigError, match=r'config.seed \(3 there, 4 now\)'):
    workdir.prepare(tmp_path, dataclasses.replace(CONFIG, seed=4))
  assert (tmp_path / 'timings.json').exists()


def saved_with(folder, change, **other):
  """Writes a config.json of CONFIG with one change, as a run of another version leaves it."""
  config = workdir.plain(CONFIG)
  change(config)
  workdir.write_json(folder / 'config.json', {'config': config, 'versions': {}, **other})


def test_a_folder_from_before_there_was_a_schema_continues(tmp_path):
  saved_with(tmp_path, lambda config: None)
  workdir.prepare(tmp_path, CONFIG)
  assert workdir.read_json(tmp_path / 'config.json')['schema'] == workdir.SCHEMA == 1


def test_a_folder_of_a_newer_schema_is_refused(tmp_path):
  saved_with(tmp_path, lambda config: config.update(of_the_future=1), schema=2)
  before = (tmp_path / 'config.json').read_bytes()
  with pytest.raises(errors.ConfigError, match='was written by a newer irl_jax') as caught:
    workdir.prepare(tmp_path, CONFIG)
  check_documented('a folder of a newer irl_jax', caught, tmp_path)
  assert (tmp_path / 'config.json').read_bytes() == before


@pytest.mark.parametrize(
  'add, name',
  [
    (lambda config: config['irl'].update(gone=3), r'config.irl.gone \(3 there'),
    (lambda config: config.update(dpo={'beta': 0.1}), r"config.dpo \({'beta': 0.1} there"),
  ],
)
def test_a_field_that_was_removed_since_is_named_with_the_version_that_had_it(tmp_path, add, name):
  saved_with(tmp_path, add, versions={'irl_jax': '0.0.1'})
  write(tmp_path, 'summary.json')
  with pytest.raises(
    errors.ConfigError,
    match=r'with another config \(written by irl_jax 0.0.1, this is .*\): '
    f'{name}; this version has no such field',
  ):
    workdir.prepare(tmp_path, CONFIG)


@pytest.mark.parametrize(
  'remove',
  [lambda config: config['ppo'].pop('clip_ratio'), lambda config: config.pop('evaluation')],
)
def test_a_field_that_was_added_since_may_have_its_default(tmp_path, remove):
  saved_with(tmp_path, remove)
  workdir.prepare(tmp_path, CONFIG)
  assert workdir.read_json(tmp_path / 'config.json')['config'] == workdir.plain(CONFIG)


def test_a_field_that_was_added_since_and_is_set_is_refused_by_its_name(tmp_path):
  saved_with(tmp_path, lambda config: (config.pop('seed'), config['ppo'].pop('learning_rate')))
  write(tmp_path)
  default = c.PPO().learning_rate
  other = dataclasses.replace(CONFIG, seed=0, ppo=c.PPO(learning_rate=2 * default))
  with pytest.raises(errors.ConfigError) as caught:
    workdir.prepare(tmp_path, other)
  added = f'config.ppo.learning_rate (added since then: {default} by default, {2 * default} now)'
  assert added in str(caught.value) and 'config.seed' not in str(caught.value)


@pytest.mark.parametrize('content', ['', '{"config": ', '[]', '{}', '{"config": 1}'])
def test_a_damaged_config_is_refused(tmp_path, content):
  (tmp_path / 'config.json').write_text(content)
  with pytest.raises(errors.ConfigError) as caught:
    workdir.prepare(tmp_path, CONFIG)
  check_documented('a damaged config.json', caught, tmp_path)


@pytest.mark.parametrize('blocked', ['run', 'run/rlhf', 'run/irl', 'run/tensorboard'])
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, blocked):
  path = tmp_path / blocked
  path.parent.mkdir(exist_ok=True)
  path.write_text('')
  with (
    pytest.raises(errors.ConfigError, match=f'{path} cannot be written to: ') as caught,
    workdir.held(tmp_path / 'run'),
  ):
    pytest.fail('it was held')
  assert caught.value.exit_code == 2


@pytest.mark.parametrize('name', workdir.FILES)
def test_a_folder_where_a_file_should_be_is_refused(tmp_path, name):
  (tmp_path / name).mkdir()
  message = f'{tmp_path / name} is a folder, but must be a file'
  with pytest.raises(errors.ConfigError, match=message) as caught, workdir.held(tmp_path):
    pytest.fail('it was held')
  if name == 'log.jsonl':
    check_documented('a folder where a file should be', caught, tmp_path)


@pytest.mark.parametrize('checkpoints', ['rlhf/checkpoints', 'irl/seed_1/checkpoints'])
def test_checkpoints_of_an_unknown_run_are_not_continued(tmp_path, checkpoints):
  (tmp_path / checkpoints).mkdir(parents=True)
  message = f'contains {tmp_path / checkpoints}, but no config.json'
  with pytest.raises(errors.ConfigError, match=message) as caught:
    workdir.prepare(tmp_path, CONFIG)
  if checkpoints == 'rlhf/checkpoints':
    check_documented('checkpoints without a config.json', caught, tmp_path)
  assert not (tmp_path / 'config.json').exists()


HOLD = """
import pathlib, sys, time
from irl_jax.runtime import workdir
with workdir.held(pathlib.Path(sys.argv[1])):
  print('held', flush=True)
  time.sleep(60)
"""


def test_a_folder_is_held_by_one_run_until_its_process_is_gone(tmp_path):
  with subprocess.Popen(
    [sys.executable, '-c', HOLD, tmp_path], stdout=subprocess.PIPE, text=True
  ) as other:
    assert other.stdout and other.stdout.readline() == 'held\n'
    holder = (
      rf'is in use by process {other.pid} on {socket.gethostname()} since '
      r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC'
    )
    with pytest.raises(errors.ConfigError, match=holder) as caught, workdir.held(tmp_path):
      pytest.fail('it was held twice')
    assert caught.value.exit_code == 2
    other.kill()
  with workdir.held(tmp_path):
    assert f'process {os.getpid()} ' in (tmp_path / '.lock').read_text()
  with workdir.held(tmp_path):
    pass


def test_seconds_add_up_over_interruptions(tmp_path, monkeypatch):
  clock = iter([0.0, 2.0, 10.0, 13.0, 20.0, 21.0])
  monkeypatch.setattr(workdir.time, 'monotonic', lambda: next(clock))
  with pytest.raises(KeyboardInterrupt), workdir.timed(tmp_path, 'irl'):
    raise KeyboardInterrupt
  with workdir.timed(tmp_path, 'irl'):
    pass
  with workdir.timed(tmp_path, 'report'):
    pass
  assert workdir.read_json(tmp_path / 'timings.json') == {'irl': 5.0, 'report': 1.0}


def test_a_name_that_is_not_utf8_can_be_written(tmp_path):
  workdir.write_json(tmp_path / 'x.json', {'path': 'caf\udce9'})
  assert workdir.read_json(tmp_path / 'x.json') == {'path': 'caf\udce9'}
