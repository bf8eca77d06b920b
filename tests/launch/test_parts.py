"""Files that score.py and generate.py write in parts: rows line up, and stopped calls continue."""

import fcntl
import json
import os
import signal

import numpy as np
import pytest

from irl_jax import api
from irl_jax.api import loaded
from irl_jax.command_line import files
from irl_jax.data import row_files

WORDS = [f'word {number}' for number in range(10)]


class Model:
  """Scores a text by its length, and completes it by its number; may be stopped by a signal."""

  def __init__(self) -> None:
    self.seen: list[str] = []
    self.stop_at, self.signum = None, signal.SIGINT

  def _see(self, texts):
    if self.stop_at in texts:
      os.kill(os.getpid(), self.signum)
    self.seen += texts

  def load_scorer(self, path, batch_size, progress, label):
    def scorer(texts):
      self._see(texts)
      return {'reward': np.array(list(map(len, texts)), np.float32)}

    return scorer

  def generate(self, path, prompts, sampling, seed, progress, first, chat):
    self._see(prompts)
    return [f' {seed} {first + number}' for number in range(len(prompts))]


@pytest.fixture
def model(monkeypatch):
  fake = Model()
  monkeypatch.setattr(api, 'load_scorer', fake.load_scorer)
  monkeypatch.setattr(api, 'generate', fake.generate)
  monkeypatch.setattr(loaded, 'fingerprint', lambda path: (path,))
  monkeypatch.setattr(files, 'SCORED', 3)
  monkeypatch.setattr(files, 'COMPLETED', 3)
  monkeypatch.setattr(files, 'BATCHES', 0)
  return fake


@pytest.fixture
def run(launch, tmp_path, monkeypatch, model):
  """Runs a command on in.jsonl, in parts of three rows."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'in.jsonl').write_text(''.join(json.dumps({'text': word}) + '\n' for word in WORDS))

  def start(command='score', *arguments):
    inputs = ['--model=M', '--input=in.jsonl', '--output=out.jsonl']
    return launch(command, *inputs, *arguments)

  return start


def names(folder):
  return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('signum, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize('command', ['score', 'generate'])
def test_a_stopped_call_says_what_is_kept_and_continues_to_the_same_bytes(
  run, model, tmp_path, capsys, command, signum, code
):
  assert run(command) == 0
  whole = (tmp_path / 'out.jsonl').read_bytes()
  (tmp_path / 'out.jsonl').unlink()
  capsys.readouterr()
  model.signum = signum
  for stop_at, kept in (('word 7', 6), ('word 9', 9)):
    model.stop_at = stop_at
    assert run(command) == code
    assert capsys.readouterr().err == (
      f'error: interrupted by {signum.name}; {kept} of 10 rows are kept in out.jsonl.partial. Run '
      'the same command again to resume\n'
    )
    assert names(tmp_path) == ['in.jsonl', 'out.jsonl.partial', 'out.jsonl.partial.json']
  model.stop_at = None
  model.seen.clear()
  assert run(command) == 0 and model.seen == ['word 9']
  assert (tmp_path / 'out.jsonl').read_bytes() == whole
  assert names(tmp_path) == ['in.jsonl', 'out.jsonl']


NOTHING = 'error: interrupted by SIGINT; nothing is kept. Run the same command again\n'


def test_a_stop_within_the_first_part_leaves_nothing_and_says_so(run, model, tmp_path, capsys):
  model.stop_at = 'word 1'
  assert run() == 130 and capsys.readouterr().err == NOTHING
  assert names(tmp_path) == ['in.jsonl']


def test_a_stop_while_the_input_is_checked_says_whether_rows_are_kept(
  run, model, tmp_path, capsys, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(row_files, 'sha256', lambda _: signal.raise_signal(signal.SIGINT))
    assert run() == 130 and capsys.readouterr().err == NOTHING
  assert names(tmp_path) == ['in.jsonl']
  model.stop_at = 'word 7'
  assert run() == 130
  capsys.readouterr()
  monkeypatch.setattr(row_files, 'sha256', lambda _: signal.raise_signal(signal.SIGINT))
  assert run() == 130 and '; progress is saved. Run' in capsys.readouterr().err
  assert 'out.jsonl.partial' in names(tmp_path)


def test_what_a_killed_call_left_half_written_is_written_again(run, model, tmp_path):
  assert run() == 0
  whole = (tmp_path / 'out.jsonl').read_bytes()
  model.stop_at = 'word 7'
  assert run() == 130
  with (tmp_path / 'out.jsonl.partial').open('a') as file:
    file.write('{"text": "word 6", "reward": 7.0}\n{"text": "wo')
  model.stop_at = None
  assert run() == 0 and (tmp_path / 'out.jsonl').read_bytes() == whole


@pytest.mark.parametrize(
  'arguments, other',
  [
    (('generate', '--seed=1'), '--seed'),
    (('generate', '--temperature=0.5'), '--temperature'),
    (('generate', '--model=N'), '--model'),
    (('generate', '--samples=2'), '--samples'),
    (('generate', '--split=test'), '--split'),
    (('generate', '--field=text'), '--field'),
    (('score',), 'command, '),
  ],
)
def test_rows_of_another_call_are_not_continued(run, model, tmp_path, capsys, arguments, other):
  model.stop_at = 'word 7'
  run('generate')
  before = (tmp_path / 'out.jsonl.partial').read_bytes()
  model.stop_at = None
  capsys.readouterr()
  assert run(*arguments) == 2
  shown = capsys.readouterr().err
  assert 'out.jsonl.partial contains the first 6 rows of another call' in shown
  assert f'another {other}' in shown and shown.count('\n') == 1
  assert (tmp_path / 'out.jsonl.partial').read_bytes() == before


@pytest.mark.parametrize('content, state', [(None, 'missing'), ('{"model"', 'damaged')])
def test_rows_without_the_description_of_their_call_are_not_continued(
  run, model, tmp_path, capsys, content, state
):
  model.stop_at = 'word 7'
  run()
  description = tmp_path / 'out.jsonl.partial.json'
  description.unlink() if content is None else description.write_text(content)
  capsys.readouterr()
  assert run() == 2
  shown = capsys.readouterr().err
  assert f'of an unknown call (out.jsonl.partial.json, which describes it, is {state})' in shown
  assert 'Delete out.jsonl.partial to start over' in shown


def test_another_input_is_another_call_and_another_batch_size_is_not(run, model, tmp_path, capsys):
  model.stop_at = 'word 7'
  run()
  model.stop_at = None
  with (tmp_path / 'in.jsonl').open('a') as file:
    file.write('{"text": "more"}\n')
  capsys.readouterr()
  assert run() == 2 and 'another --input' in capsys.readouterr().err
  (tmp_path / 'in.jsonl').write_text(''.join(json.dumps({'text': word}) + '\n' for word in WORDS))
  assert run('score', '--batch_size=7') == 0 and model.seen.count('word 0') == 1


def test_two_processes_do_not_write_one_output(run, tmp_path, capsys):
  with (tmp_path / 'out.jsonl.partial').open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    assert run() == 2
  assert '--output=out.jsonl: another process is writing it' in capsys.readouterr().err


@pytest.mark.parametrize('command, column', [('score', 'reward'), ('generate', 'completion')])
def test_every_row_of_the_input_has_a_row_in_the_output(
  run, model, tmp_path, capsys, command, column
):
  lines = [json.dumps({'text': word, 'id': number}) for number, word in enumerate(WORDS)]
  lines[1], lines[6] = '{"text": null, "id": 1}', '{"text": '
  lines[7], lines[8] = '[7]', '{"id": 8}'  # the third part has no usable row
  (tmp_path / 'in.jsonl').write_text('\n'.join(lines))
  assert run(command) == 3 and names(tmp_path) == ['in.jsonl'] and not model.seen
  capsys.readouterr()
  assert run(command, '--bad_rows=skip') == 0
  rows = [json.loads(line) for line in (tmp_path / 'out.jsonl').read_text().splitlines()]
  assert [row.get('id') for row in rows] == [0, 1, 2, 3, 4, 5, None, None, 8, 9]
  assert [number for number, row in enumerate(rows) if row[column] is None] == [1, 6, 7, 8]
  assert rows[1] == {
    'text': None,
    'id': 1,
    column: None,
    'why': "field 'text' must be a string, but is null",
  }
  assert rows[6] == {column: None, 'why': 'is not valid JSON: Expecting value'}
  assert 'why' not in rows[9]
  if command == 'generate':  # usable prompts are numbered as if the others were not there
    assert rows[9][column] == ' 0 5'


def test_a_reason_overwrites_no_field(run, model, tmp_path, capsys):
  (tmp_path / 'in.jsonl').write_text('{"text": "a", "why": 1}\n{"text": 3}\n')
  assert run('score', '--bad_rows=skip') == 3
  assert "already has a field 'why'" in capsys.readouterr().err
  (tmp_path / 'in.jsonl').write_text('{"text": "a", "why": 1}\n')
  assert run('score', '--bad_rows=skip') == 0
