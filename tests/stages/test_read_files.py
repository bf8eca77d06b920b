"""The files that a run has read: recorded by stage, compared later, named in the summary."""

import dataclasses
import hashlib
import json

import documented
import huggingface_hub
import pytest

from irl_jax import config as c
from irl_jax import errors
from irl_jax import pipeline
from irl_jax.models import pretrained
from irl_jax.models.huggingface import hub as hub_lib
from irl_jax.runtime import metrics_log
from irl_jax.stages import read_files
from irl_jax.stages.run import Run

ROWS = ''.join(
  json.dumps({'text': f'number{number} words of a kind'}) + '\n' for number in range(80)
)


@pytest.fixture
def run(tmp_path, policy):
  """A run of a file and a model, in a folder of its own."""
  pretrained.save(tmp_path / 'base', policy, '')
  (tmp_path / 'rows.jsonl').write_text(ROWS)
  config = c.Config(
    stages=('data', 'irl'),
    models=c.Models(base=str(tmp_path / 'base')),
    data=c.Data(source=str(tmp_path / 'rows.jsonl')),
  )
  (tmp_path / 'run').mkdir()
  return Run(config, tmp_path / 'run', metrics_log.Log(), dtype=None)


def test_the_summary_names_the_files_of_rows_and_models_without_paths(run, tmp_path):
  read_files.update(run, ('data', 'irl'), ())
  inputs = read_files.summary(run)
  assert list(inputs) == ['config.data.source', 'config.models.base']
  assert inputs['config.data.source'] == [
    {'name': 'rows.jsonl', 'size': len(ROWS), 'sha256': hashlib.sha256(ROWS.encode()).hexdigest()}
  ]
  names = [file['name'] for file in inputs['config.models.base']]
  assert {'config.json', 'model.safetensors', 'tokenizer.json'} <= set(names)
  assert 'README.md' not in names and str(tmp_path) not in json.dumps(inputs)


def test_an_adapter_is_read_with_its_base(run, tmp_path):
  (tmp_path / 'adapter').mkdir()
  settings = {'peft_type': 'LORA', 'r': 1, 'lora_alpha': 1, 'base_model_name_or_path': '../base'}
  (tmp_path / 'adapter' / 'adapter_config.json').write_text(json.dumps(settings))
  (tmp_path / 'adapter' / 'adapter_model.safetensors').write_bytes(b'factors')
  models = c.Models(aligned=str(tmp_path / 'adapter'))
  run = dataclasses.replace(run, config=dataclasses.replace(run.config, models=models))
  assert (tmp_path / 'adapter' / run.base).resolve() == tmp_path / 'base'
  assert run.start == run.base
  places = lambda inputs: {
    name: [path.resolve() for path, _ in files] for name, files in inputs.items()
  }
  inputs = places(read_files.inputs_of(run, 'demos'))
  assert [path.name for path in inputs['config.models.aligned']] == [
    'adapter_config.json',
    'adapter_model.safetensors',
  ]
  names = {path.name for path in inputs['base of config.models.aligned']}
  assert {'config.json', 'model.safetensors', 'tokenizer.json'} <= names
  # A base that the spec names counts, too.
  named = c.Models(aligned=f'{tmp_path / "adapter"}+{tmp_path / "base"}')
  run = dataclasses.replace(run, config=dataclasses.replace(run.config, models=named))
  assert places(read_files.inputs_of(run, 'demos')) == inputs


def test_rows_that_changed_after_their_stage_are_refused(run, tmp_path):
  read_files.update(run, ('data', 'irl'), ())
  read_files.update(run, ('irl',), ('data',))
  (tmp_path / 'rows.jsonl').write_text(ROWS.replace('kind', 'sort'))
  with pytest.raises(errors.ConfigError) as caught:
    read_files.update(run, ('irl',), ('data',))
  documented.check(
    'rows that changed after their stage', f'error: {caught.value}', 2, tmp_path / 'run'
  )
  read_files.update(run, ('data', 'irl'), ())  # the stage has written nothing yet
  read_files.update(run, ('irl',), ('data',))


def test_a_model_that_was_replaced_is_refused(run, tmp_path, policy):
  read_files.update(run, ('data', 'irl'), ())
  weights = tmp_path / 'base' / 'model.safetensors'
  content = bytearray(weights.read_bytes())
  content[-1] ^= 1
  weights.write_bytes(content)
  with pytest.raises(
    errors.ConfigError, match='config.models.base has changed since the stage irl'
  ):
    read_files.update(run, (), ('data', 'irl'))


def test_what_is_gone_or_only_touched_is_no_change(run, tmp_path):
  read_files.update(run, ('data', 'irl'), ())
  (tmp_path / 'rows.jsonl').touch()
  read_files.update(run, (), ('data', 'irl'))
  (tmp_path / 'rows.jsonl').unlink()
  read_files.update(run, (), ('data', 'irl'))
  assert 'config.data.source' in read_files.summary(run)


def test_a_file_whose_time_has_not_changed_is_not_read_again(run, monkeypatch):
  read_files.update(run, ('data', 'irl'), ())
  monkeypatch.setattr(hashlib, 'file_digest', lambda *_: pytest.fail('was read again'))
  read_files.update(run, ('irl',), ('data',))


def test_a_model_that_several_stages_read_is_read_once(run, monkeypatch):
  read, digest = [], hashlib.file_digest
  monkeypatch.setattr(
    hashlib, 'file_digest', lambda file, name: read.append(file.name) or digest(file, name)
  )
  read_files.update(run, ('sft', 'irl'), ())
  assert read and len(read) == len(set(read))
  saved = json.loads((run.folder / read_files.NAME).read_text())
  assert saved['sft'] == saved['irl'] and saved['sft']['config.models.base']


def test_a_folder_of_an_older_version_continues(run):
  read_files.update(run, (), ('data', 'irl'))
  assert read_files.summary(run) == {} and not (run.folder / read_files.NAME).exists()


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """Puts a commit into a cache like that of the hub: `hub('models--org--base', 'a', files)`."""
  cache = tmp_path / 'cache'
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(cache))

  def put(folder, letter, files):
    commit = letter * 40
    for name, content in files.items():
      blob = cache / folder / 'blobs' / hashlib.sha256(content).hexdigest()
      blob.parent.mkdir(parents=True, exist_ok=True)
      blob.write_bytes(content)
      link = cache / folder / 'snapshots' / commit / name
      link.parent.mkdir(parents=True, exist_ok=True)
      link.unlink(missing_ok=True)
      link.symlink_to(blob)
    (cache / folder / 'refs').mkdir(exist_ok=True)
    (cache / folder / 'refs' / 'main').write_text(commit)

  return put


def of_hub(run, **fields):
  """The run with models and data of the hub."""
  config = run.config
  for section, name in (('models', 'base'), ('data', 'source')):
    if name in fields:
      changed = dataclasses.replace(getattr(config, section), **{name: fields[name]})
      config = dataclasses.replace(config, **{section: changed})
  return dataclasses.replace(run, config=config)


def test_a_model_of_the_hub_is_known_by_its_commit_and_files(run, tmp_path, hub):
  files = {path.name: path.read_bytes() for path in (tmp_path / 'base').iterdir()}
  config = {'config.json': files['config.json']}
  hub('models--org--base', 'a', config)
  run = of_hub(run, base='org/base')
  read_files.update(run, ('data', 'irl'), ())
  hub('models--org--base', 'a', files)  # the stage has downloaded the weights
  read_files.record(run, 'irl')
  inputs = read_files.summary(run)['config.models.base']
  assert {'config.json', 'model.safetensors', 'tokenizer.json'} <= {file['name'] for file in inputs}
  assert {(file['repository'], file['commit']) for file in inputs} == {('org/base', 'a' * 40)}
  weights = next(file for file in inputs if file['name'] == 'model.safetensors')
  assert weights['sha256'] == hashlib.sha256(files['model.safetensors']).hexdigest()
  read_files.update(run, (), ('data', 'irl'))
  hub('models--org--base', 'b', files)
  with pytest.raises(errors.ConfigError) as caught:
    read_files.update(run, (), ('data', 'irl'))
  documented.check(
    'a model of the hub of another commit', f'error: {caught.value}', 2, tmp_path / 'run'
  )
  read_files.record(run, 'irl')  # does not hide it
  assert read_files.summary(run)['config.models.base'] == inputs
  hub('models--org--base', 'a', files | {'model.safetensors': b'replaced'})
  with pytest.raises(errors.ConfigError, match=r'model.safetensors \(\d+ bytes there, 8 bytes now'):
    read_files.update(run, (), ('data', 'irl'))


def test_a_data_set_of_the_hub_is_recorded_when_it_has_come(run, tmp_path, hub):
  run = of_hub(run, source='org/rows')
  read_files.update(run, ('data',), ())
  assert 'config.data.source' not in read_files.summary(run)
  hub('datasets--org--rows', 'c', {'data/train.jsonl': b'{}', 'test/train.jsonl': b'[]'})
  read_files.record(run, 'data')
  read_files.update(run, (), ('data',))
  assert [file['name'] for file in read_files.summary(run)['config.data.source']] == [
    'data/train.jsonl',
    'test/train.jsonl',
  ]
  hub('datasets--org--rows', 'd', {'data/train.jsonl': b'{"text": "a"}'})
  with pytest.raises(errors.ConfigError, match=r'org/rows \(commit c{12} there, d{12} now\)'):
    read_files.update(run, (), ('data',))


def test_a_revision_of_the_hub_is_found_in_its_cache(hub):
  hub('models--org--base', 'e', {'config.json': b'{}'})
  assert hub_lib.cached('org/base') == hub_lib.cached(f'org/base@{"e" * 40}')
  assert hub_lib.cached('org/base@v1') is None and hub_lib.cached('org/other') is None


def test_the_folder_of_a_source_is_read_whole_but_for_hidden_files(tmp_path):
  for name in ('a.csv', 'b/c.csv', '.git/d'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('x')
  names = [path.name for path in read_files.source_files(str(tmp_path))]
  assert (
    names
    == ['a.csv', 'c.csv']
    == [path.name for path in read_files.source_files(f'jigsaw:{tmp_path}')]
  )
  assert read_files.source_files('playground') == read_files.source_files('owner/name') == []


def test_a_run_of_changed_rows_is_refused_and_keeps_its_results(run, tmp_path):
  config = dataclasses.replace(run.config, stages=('data',))
  summary = pipeline.run(config, run.folder)
  assert [file['name'] for file in summary['inputs']['config.data.source']] == ['rows.jsonl']
  counts = (run.folder / 'data' / 'counts.json').read_bytes()
  (tmp_path / 'rows.jsonl').write_text(ROWS.replace('kind', 'sort'))
  with pytest.raises(errors.ConfigError, match='has changed since the stage data read it'):
    pipeline.run(config, run.folder)
  assert (run.folder / 'data' / 'counts.json').read_bytes() == counts
