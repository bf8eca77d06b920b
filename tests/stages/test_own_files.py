"""The files of a run's own folder: a stage that has read or written them notices a change."""

import dataclasses
import hashlib
import json
import shutil

import documented
import pytest

from irl_jax import config as c
from irl_jax import errors
from irl_jax import pipeline
from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log
from irl_jax.runtime import workdir
from irl_jax.stages import own_files
from irl_jax.stages import preflight
from irl_jax.stages import read_files
from irl_jax.stages.run import Run

ROW = '{"prompt": "a garden", "original": " is nice"}\n'
FINISHED = ('data', 'sft', 'rlhf', 'demos', 'irl', 'evaluate')


def write_rows(folder, *names):
  for name in names:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(ROW)


@pytest.fixture
def run(tmp_path, policy):
  """A run with the files of finished stages."""
  folder = tmp_path / 'run'
  folder.mkdir()
  write_rows(folder, *(f'{stage}/{split}.jsonl' for stage in ('data', 'demos') for split in 'ab'))
  for name in ('sft/policy', 'rlhf/policy', 'irl/seed_0/reward', 'irl/seed_1/reward'):
    pretrained.save(folder / name, policy, '')
  members = {'model_type': 'irl_jax_ensemble', 'members': ['seed_0/reward', 'seed_1/reward']}
  (folder / 'irl/config.json').write_text(json.dumps(members))
  current = Run(c.Config(), folder, metrics_log.Log(), dtype=None)
  for stage in FINISHED:
    own_files.record_read(current, stage)
    own_files.record_written(current, stage)
  own_files.check(current, FINISHED)
  return current


def change(path):
  """Changes a byte and neither the size nor, as a copy might, the name."""
  content = bytearray(path.read_bytes())
  content[-3] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize(
  'name, stages',
  [
    ('data/a.jsonl', {'data', 'sft', 'rlhf', 'demos', 'irl', 'evaluate'}),
    ('demos/b.jsonl', {'demos', 'irl', 'evaluate'}),
    ('sft/policy/model.safetensors', {'sft', 'rlhf', 'demos', 'irl', 'evaluate'}),
    ('sft/policy/tokenizer.json', {'sft', 'rlhf', 'demos', 'irl', 'evaluate'}),
    ('rlhf/policy/model.safetensors', {'rlhf', 'demos', 'evaluate'}),
    ('irl/seed_1/reward/model.safetensors', {'irl', 'evaluate'}),
  ],
)
def test_every_stage_that_read_or_wrote_a_file_notices_its_change(run, name, stages):
  change(run.folder / name)
  noticed = set()
  for stage in FINISHED:
    try:
      own_files.check(run, [stage])
    except errors.ConfigError as error:
      assert f'has changed since the stage {stage} ' in str(error)
      noticed.add(stage)
  assert noticed == stages


def test_the_message_names_the_file(run):
  change(run.folder / 'data' / 'a.jsonl')
  with pytest.raises(errors.ConfigError) as caught:
    own_files.check(run, ['sft'])
  documented.check(
    "a file of the run's folder that changed between stages",
    f'error: {caught.value}',
    2,
    run.folder,
  )
  with pytest.raises(errors.ConfigError, match='since the stage data wrote it: a.jsonl'):
    own_files.check(run, ['data'])


def test_what_is_gone_or_only_touched_is_no_change(run):
  (run.folder / 'data' / 'a.jsonl').touch()
  (run.folder / 'demos' / 'a.jsonl').unlink()
  shutil.rmtree(run.folder / 'rlhf')
  own_files.check(run, FINISHED)


def test_a_file_that_was_added_to_a_model_is_named(run):
  (run.folder / 'sft/policy/generation_config.json').write_text('{"eos_token_id": 5}')
  with pytest.raises(errors.ConfigError, match='generation_config.json'):
    own_files.check(run, ['rlhf'])


def test_a_file_whose_time_has_not_changed_is_not_read_again(run, monkeypatch):
  moved = run.folder.parent / 'moved'
  shutil.move(run.folder, moved)
  monkeypatch.setattr(hashlib, 'file_digest', lambda *_: pytest.fail('was read again'))
  own_files.check(dataclasses.replace(run, folder=moved), FINISHED)


def test_a_model_that_the_config_names_replaces_that_of_the_folder(run):
  stages = ('data', 'demos', 'irl', 'evaluate')
  run = dataclasses.replace(run, config=c.Config(stages=stages))
  named = c.Config(stages=stages, models=c.Models(base='a', sft='a', aligned='b'))
  other = dataclasses.replace(run, config=named)
  assert own_files.writers(run, 'demos') == {'data', 'sft', 'rlhf'}
  assert own_files.writers(other, 'demos') == {'data'}
  assert own_files.writers(other, 'evaluate') == {'data', 'demos', 'irl'}
  assert own_files.writers(run, 'sft') == own_files.writers(other, 'sft') == {'data'}


def test_a_folder_of_an_older_version_continues(run):
  (run.folder / read_files.NAME).unlink()
  change(run.folder / 'data' / 'a.jsonl')
  own_files.check(run, FINISHED)
  assert not (run.folder / read_files.NAME).exists()


def test_the_summary_names_no_files_of_the_folder(run):
  assert read_files.summary(run) == {}
  assert 'data' in workdir.read_json(run.folder / read_files.NAME)['sft']


def test_an_attempt_forgets_what_the_one_before_has_written(run):
  shutil.rmtree(run.folder / 'sft/policy')
  own_files.record_read(run, 'sft')  # and is killed before it records what it writes
  pretrained.save(run.folder / 'sft/policy', pretrained.load(str(run.folder / 'rlhf/policy')), '')
  change(run.folder / 'sft/policy/model.safetensors')
  own_files.check(run, ['data', 'sft'])
  with pytest.raises(errors.ConfigError, match='sft/policy has changed since the stage rlhf read'):
    own_files.check(run, FINISHED)


def stage_of(name, content):
  """A stage that writes what the pipeline looks for."""

  def stage(current):
    path = current.folder / pipeline.FINISHED[name]
    if path.suffix:
      write_rows(current.folder, *(f'{name}/{split}.jsonl' for split in ('train', 'heldout')))
      path.write_text('{}\n' if path.suffix == '.json' else ROW)
    else:
      path.mkdir(parents=True)
      (path / 'config.json').write_text('{}')
      (path / 'model.safetensors').write_text(content[name])

  return stage


@pytest.fixture
def start(tmp_path, monkeypatch):
  """Runs a pipeline of stages that write small files; `start.content` is that of their models."""
  content = {'sft': 'weights', 'rlhf': 'weights'}
  monkeypatch.setattr(preflight, 'check', lambda *_: None)
  for name in ('data', 'sft', 'rlhf', 'demos'):
    monkeypatch.setitem(pipeline.STAGES, name, stage_of(name, content))

  def run_stages(*stages):
    config = c.Config(stages=('data', 'sft', 'rlhf', 'demos'))
    return pipeline.run(config, tmp_path / 'run', stages or None)

  run_stages.content, run_stages.folder = content, tmp_path / 'run'
  return run_stages


@pytest.mark.parametrize(
  'first, name, since',
  [
    (('data',), 'data/train.jsonl', 'data wrote it: train.jsonl'),
    (('data', 'sft'), 'sft/policy/model.safetensors', 'sft wrote it: model.safetensors'),
    ((), 'rlhf/policy/model.safetensors', 'rlhf wrote it: model.safetensors'),
    ((), 'demos/heldout.jsonl', 'demos wrote it: heldout.jsonl'),
  ],
)
def test_a_run_whose_files_were_changed_between_stages_is_refused(start, first, name, since):
  start(*first)
  start(*first)
  change(start.folder / name)
  with pytest.raises(errors.ConfigError, match=f'has changed since the stage {since}'):
    start()


def test_a_stage_that_is_run_again_with_another_result_stops_the_run(start):
  start()
  shutil.rmtree(start.folder / 'sft')
  start()  # the same result
  shutil.rmtree(start.folder / 'sft')
  start.content['sft'] = 'others!'
  with pytest.raises(errors.ConfigError, match='sft/policy has changed since the stage rlhf read'):
    start()
