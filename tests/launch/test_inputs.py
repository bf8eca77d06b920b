"""The inputs of score.py and generate.py: folders, saved and known data sets, and the hub."""

import datetime
import json
import pathlib
import signal
from unittest import mock

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pytest

from irl_jax import api
from irl_jax.api import loaded
from irl_jax.command_line import files
from irl_jax.data import parquet_rows
from irl_jax.data import rows as rows_lib
from irl_jax.data.playground import comments

TEXTS = ['a', 'bb', 'ccc', 'dddd', 'eeeee']


class Model:
  """Scores a text by its length, and completes a prompt in capitals; may be stopped."""

  def __init__(self) -> None:
    self.seen: list[str] = []
    self.stop_at = None

  def _see(self, texts):
    if self.stop_at in texts:
      signal.raise_signal(signal.SIGINT)
    self.seen += texts

  def load_scorer(self, path, batch_size, progress, label):
    def scorer(texts):
      self._see(texts)
      return {'reward': np.array(list(map(len, texts)), np.float32)}

    return scorer

  def generate(self, path, prompts, sampling, seed, progress, first, chat):
    self._see(prompts)
    return [f' {prompt.upper()}' for prompt in prompts]


@pytest.fixture(autouse=True)
def model(monkeypatch, tmp_path):
  fake = Model()
  monkeypatch.setattr(api, 'load_scorer', fake.load_scorer)
  monkeypatch.setattr(api, 'generate', fake.generate)
  monkeypatch.setattr(loaded, 'fingerprint', lambda path: (path,))
  monkeypatch.setattr(files, 'SCORED', 2)
  monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path / 'cache')
  monkeypatch.chdir(tmp_path)
  return fake


@pytest.fixture
def run(launch):
  """Runs a command; returns its exit code and the written rows."""

  def start(command, source, *arguments):
    output = pathlib.Path('out.jsonl')
    output.unlink(missing_ok=True)
    code = launch(command, '--model=M', f'--input={source}', '--output=out.jsonl', *arguments)
    return code, [json.loads(line) for line in output.open()] if output.exists() else None

  return start


def folder_of(name, **splits):
  """Writes a folder with a JSON lines file for each split."""
  for split, texts in splits.items():
    rows_lib.write_jsonl(pathlib.Path(name, f'{split}.jsonl'), [{'text': text} for text in texts])
  return name


def test_a_split_of_a_folder_is_read_and_lines_up(run, capsys):
  folder = folder_of('set', train=TEXTS, test=['x'])
  code, rows = run('score', folder)
  assert code == 0 and [row['text'] for row in rows] == TEXTS
  assert [row['reward'] for row in rows] == [1, 2, 3, 4, 5]
  assert run('score', f'{folder}/', '--split=test')[1] == [{'text': 'x', 'reward': 1.0}]
  assert run('generate', folder, '--split=test')[1] == [{'text': 'x', 'completion': ' X'}]
  capsys.readouterr()
  assert run('score', folder, '--split=dev') == (2, None)
  assert (
    capsys.readouterr()
    .err.splitlines()[-1]
    .startswith('error: --split=dev: set: Unknown split "dev". Should be one of')
  )


def test_bad_rows_of_a_folder_are_named_by_file_and_line_up(run, capsys):
  folder = folder_of('set', train=TEXTS)
  with pathlib.Path('set/train.jsonl').open('a') as file:
    file.write('{"text": 3}\n{"text": "f"}\n')
  assert run('score', folder)[0] == 3
  assert "error: set, row 6 of train.jsonl: field 'text' must be" in capsys.readouterr().err
  code, rows = run('score', folder, '--bad_rows=skip')
  assert code == 0 and [row['reward'] for row in rows] == [1, 2, 3, 4, 5, None, 1]


def test_a_folder_is_continued_unless_its_files_change(run, model, launch, capsys):
  folder = folder_of('set', train=TEXTS, test=['x'])
  whole = run('score', folder)[1]
  model.stop_at = 'eeeee'
  assert run('score', folder)[0] == 130
  model.stop_at, model.seen = None, []
  capsys.readouterr()
  assert run('score', folder, '--split=test')[0] == 2
  assert '(another --input, --split). Give that call again' in capsys.readouterr().err
  folder_of('set', train=[*TEXTS[:4], 'EEEEE'])
  assert run('score', folder)[0] == 2
  assert '(another --input). Give that call again' in capsys.readouterr().err
  folder_of('set', train=TEXTS, test=['a file of another split'])
  assert run('score', folder) == (0, whole) and model.seen == ['eeeee']


@pytest.mark.parametrize('place', ['set/out.jsonl', 'set/inner/out.jsonl'])
def test_an_output_within_the_input_is_refused(launch, place, capsys):
  folder_of('set', train=TEXTS)
  for source in ('set', 'jigsaw:set'):
    assert launch('score', '--model=M', f'--input={source}', f'--output={place}') == 2
    assert f'--output={place}: is in the folder of the input' in capsys.readouterr().err


def saved(*texts):
  return datasets.Dataset.from_list(
    [{'text': text, 'day': datetime.date(2026, 1, 2), 'share': float('nan')} for text in texts]
  )


def test_saved_data_sets_are_read(run, capsys):
  saved(*TEXTS).save_to_disk('one')
  code, rows = run('score', 'one')
  assert code == 0 and [row['text'] for row in rows] == TEXTS
  assert rows[0] == {'text': 'a', 'day': '2026-01-02', 'share': None, 'reward': 1.0}
  splits = {'train': saved('x', 'y').select([1, 0]), 'test': saved('z')}
  datasets.DatasetDict(splits).save_to_disk('several')
  assert [row['text'] for row in run('score', 'several')[1]] == ['y', 'x']
  assert [row['text'] for row in run('score', 'several', '--split=test')[1]] == ['z']
  capsys.readouterr()
  assert run('score', 'several', '--split=dev') == (2, None)
  assert capsys.readouterr().err == (
    'error: --split=dev: several: has no such split; its splits: train, test\n'
  )


def change_state(**fields):
  state = json.loads(pathlib.Path('one/state.json').read_text())
  pathlib.Path('one/state.json').write_text(json.dumps(state | fields))


def truncate():
  (path,) = pathlib.Path('one').glob('*.arrow')
  path.write_bytes(path.read_bytes()[:200])


def point():
  (path,) = pathlib.Path('one').glob('*.arrow')
  path.write_text('version https://git-lfs.github.com/spec/v1\nsize 1\n')


DAMAGES = {
  'outside': (
    lambda: change_state(_data_files=[{'filename': '../secret.arrow'}]),
    'one: its state.json names a file outside its folder (../secret.arrow); refused',
  ),
  'missing': (
    lambda: change_state(_data_files=[{'filename': 'x.arrow'}]),
    'one/x.arrow: is not a readable Arrow file: no such file. Copy the whole folder',
  ),
  'no list': (
    lambda: change_state(_data_files=3),
    'state.json: _data_files must be a list of file',
  ),
  'not JSON': (
    lambda: pathlib.Path('one/state.json').write_text('{'),
    'one/state.json: is not JSON',
  ),
  'truncated': (truncate, 'is not a readable Arrow file: '),
  'a pointer': (point, 'is a Git LFS pointer, not the file itself'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_saved_data_set_is_named(run, capsys, damage):
  saved(*TEXTS).save_to_disk('one')
  DAMAGES[damage][0]()
  capsys.readouterr()
  assert run('score', 'one') == (3, None)
  shown = capsys.readouterr().err
  assert DAMAGES[damage][1] in shown and shown.count('\n') == 1


@pytest.fixture
def hub(monkeypatch):
  """A hub that has one data set, whose rows it is told."""
  builder = mock.Mock(hash='0123')
  builder.config.data_files = {'train': ['hf://datasets/owner/name@0123/train.parquet']}
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', False)
  monkeypatch.setattr(huggingface_hub.HfApi, 'dataset_info', lambda *_, **__: None)
  monkeypatch.setattr(datasets, 'load_dataset_builder', lambda *_, **__: builder)
  return builder


def test_a_hub_data_set_is_read_by_split_and_continued_by_commit(run, hub, model, capsys):
  hub.as_dataset.return_value = saved(*TEXTS)
  whole = run('score', 'owner/name', '--split=validation')[1]
  hub.as_dataset.assert_called_with('validation')
  assert whole[4] == {'text': 'eeeee', 'day': '2026-01-02', 'share': None, 'reward': 5.0}
  model.stop_at = 'eeeee'
  assert run('score', 'owner/name', '--split=validation')[0] == 130
  model.stop_at, model.seen = None, []
  hub.hash = '4567'
  assert run('score', 'owner/name', '--split=validation')[0] == 2
  assert '(another --input)' in capsys.readouterr().err
  hub.hash = '0123'
  assert run('score', 'owner/name', '--split=validation') == (0, whole)
  assert model.seen == ['eeeee']


def test_a_hub_that_cannot_be_reached_names_the_flag(run, capsys, monkeypatch):
  for constants in (huggingface_hub.constants, datasets.config):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  assert run('score', 'owner/name') == (3, None)
  shown = capsys.readouterr().err
  assert 'pass the file or folder (--input=PATH, or NAME:PATH)' in shown and shown.count('\n') == 1


RTP = {
  'prompt': {'text': 'You are', 'toxicity': 0.1},
  'continuation': {'text': ' kind', 'toxicity': None},
}
FLAT = {'prompt': 'You are', 'continuation': ' kind'}
KNOWN = {  # name: a row without labels, its text, its prompt
  'real-toxicity-prompts': (RTP, 'You are kind', 'You are'),
  'real-toxicity-prompts, flat': (FLAT, 'You are kind', 'You are'),
  'jigsaw-long-2000': ({'prompt': 'a b', 'original_output': 'c'}, 'a b c', 'a b'),
  'paradetox': ({'en_toxic_comment': 'a', 'en_neutral_comment': 'b'}, 'a', 'a'),
  'paradetox, flat': ({'toxic': 'a', 'neutral': 'b'}, 'a', 'a'),
  'paradetox-neutral': ({'en_toxic_comment': 'a', 'en_neutral_comment': 'b'}, 'b', 'b'),
  'jigsaw': ({'id': 'x', 'comment_text': 'a b'}, 'a b', 'a b'),
}


@pytest.mark.parametrize('case', KNOWN)
def test_known_data_sets_are_read_by_their_own_fields(run, model, case):
  row, text, prompt = KNOWN[case]
  name = case.partition(',')[0]
  rows_lib.write_jsonl('x.jsonl', [row])
  rows_lib.write_jsonl('set/train.jsonl', [row])
  for place in ('x.jsonl', 'set'):
    assert run('score', f'{name}:{place}') == (0, [row | {'reward': len(text)}])
    assert run('generate', f'{name}:{place}') == (0, [row | {'completion': f' {prompt.upper()}'}])
    assert model.seen[-2:] == [text, prompt]
  field = list(row)[-1]
  assert run('score', f'{name}:x.jsonl', f'--field={field}')[0] == 0
  value = row[field]
  assert model.seen[-1] == (value['text'] if isinstance(value, dict) else value)


def test_a_known_data_set_comes_from_the_hub_by_its_name(run, hub, model, capsys):
  hub.as_dataset.return_value = datasets.Dataset.from_list([RTP, RTP])
  file = 'hf://datasets/allenai/real-toxicity-prompts@0123/prompts.jsonl'
  hub.config.data_files = {'train': [file]}
  code, rows = run('generate', 'real-toxicity-prompts')
  assert code == 0 and rows == [RTP | {'completion': ' YOU ARE'}] * 2
  assert run('score', 'jigsaw') == (2, None)
  assert 'error: --input=jigsaw: needs a place; use jigsaw:PLACE' in capsys.readouterr().err


def test_rows_of_another_form_than_a_known_data_set_are_bad(run, capsys):
  rows_lib.write_jsonl('x.jsonl', [{'text': 'a'}])
  assert run('score', 'paradetox:x.jsonl') == (3, None)
  shown = capsys.readouterr().err
  assert "row 1: has no field 'toxic' or 'en_toxic_comment'; its fields: 'text'" in shown


def test_nested_texts_are_read_from_any_file(run, model):
  rows_lib.write_jsonl('x.jsonl', [RTP])
  assert run('score', 'x.jsonl', '--field=prompt,continuation')[1] == [
    RTP | {'reward_prompt': 7.0, 'reward_continuation': 5.0}
  ]


def test_each_text_of_a_list_is_scored(run, model):
  rows = [{'completions': ['a', 'bb'], 'id': 1}, {'completions': 'c'}, {'completions': ['', 'd']}]
  rows_lib.write_jsonl('x.jsonl', [*rows, {'completions': []}, {'completions': ['a', 3]}])
  code, written = run('score', 'x.jsonl', '--field=completions', '--bad_rows=skip')
  assert code == 0 and [row['reward'] for row in written] == [[1, 2], 1, [0, 1], None, None]
  assert written[0] == rows[0] | {'reward': [1.0, 2.0]} and model.seen == ['a', 'bb', 'c', '', 'd']
  rows_lib.write_jsonl('x.jsonl', [{'a': ['x', 'yy'], 'b': 'zzz'}])
  written = run('score', 'x.jsonl', '--field=a,b')[1]
  assert written == [{'a': ['x', 'yy'], 'b': 'zzz', 'reward_a': [1.0, 2.0], 'reward_b': 3.0}]


def test_the_playground_is_read(run, monkeypatch):
  monkeypatch.setattr(files, 'SCORED', 10**5)
  code, rows = run('score', 'playground')
  assert code == 0 and len(rows) == 12000
  expected = comments.comments(20, 0)
  assert [{name: row[name] for name in ('text', 'label')} for row in rows[:20]] == expected


@pytest.mark.parametrize('source', ['nowhere.jsonl', 'prompts', 'a', '../nowhere'])
def test_what_is_nowhere_is_refused(run, capsys, source):
  assert run('score', source) == (2, None)
  shown = capsys.readouterr().err
  assert shown.startswith(
    f'error: --input={source}: {source!r} is not a file, a folder or a hub id'
  )
  assert 'known sources: jigsaw-long-2000' in shown and shown.count('\n') == 1
  assert not list(pathlib.Path().glob('out.jsonl*'))


def test_home_and_buckets_are_known_behind_a_name(run, capsys, monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  rows_lib.write_jsonl('x.jsonl', [{'text': 'a'}])
  assert run('score', '~/x.jsonl')[0] == 0
  assert run('score', 'jigsaw:~/x.jsonl')[0] == 0
  assert run('score', 'gs://bucket/x.jsonl') == (2, None)
  assert '--input=gs://bucket/x.jsonl: gs:// cannot be read' in capsys.readouterr().err


def test_few_rows_of_a_saved_data_set_are_in_memory_at_once(run, monkeypatch):
  saved('x').save_to_disk('one')
  table = pa.table({'text': TEXTS * 1000})
  (path,) = pathlib.Path('one').glob('*.arrow')
  with pa.OSFile(str(path), 'wb') as file, pa.ipc.new_stream(file, table.schema) as stream:
    stream.write_table(table)  # all rows in one batch
  cells, sizes = parquet_rows._cells, []
  monkeypatch.setattr(
    parquet_rows, '_cells', lambda column: sizes.append(len(column)) or cells(column)
  )
  monkeypatch.setattr(files, 'SCORED', 10**4)
  code, rows = run('score', 'one')
  assert code == 0 and [row['text'] for row in rows] == TEXTS * 1000
  assert max(sizes) == parquet_rows.ROWS_OF_A_BATCH
