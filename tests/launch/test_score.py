"""score.py: rows keep their fields and order, the columns of each kind, and what is refused."""

import json
import os

import numpy as np
import pytest

from irl_jax import api
from irl_jax.api import loaded
from irl_jax.command_line import files
from irl_jax.errors import InputError


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
  """The model M is nowhere."""
  real = loaded.fingerprint
  monkeypatch.setattr(loaded, 'fingerprint', lambda model: ('M',) if model == 'M' else real(model))


@pytest.fixture
def rows(tmp_path):
  path = tmp_path / 'in.jsonl'
  path.write_text(
    '{"id": 7, "text": "b"}\n{"text": "", "id": null}\n{"z": [1], "text": "ccc", "a": "é"}\n'
  )
  return path


@pytest.fixture
def lengths(monkeypatch):
  """A model that scores each text by its length."""
  monkeypatch.setattr(
    api,
    'load_scorer',
    lambda path, batch_size, progress, label: (
      lambda texts: {
        'reward': np.array([len(text) for text in texts], np.float32),
        'logits': np.zeros((len(texts), 2), np.float32),
      }
    ),
  )


def score(launch, source, output, *arguments):
  return launch('score', '--model=M', f'--input={source}', f'--output={output}', *arguments)


def test_fields_and_order_are_kept(launch, rows, lengths, tmp_path):
  output = tmp_path / 'new' / 'folder' / 'out.jsonl'
  assert score(launch, rows, output, '--batch_size=1') == 0
  written = [json.loads(line) for line in output.read_text().splitlines()]
  assert [list(row) for row in written] == [
    ['id', 'text', 'reward', 'logits'],
    ['text', 'id', 'reward', 'logits'],
    ['z', 'text', 'a', 'reward', 'logits'],
  ]
  assert [row['reward'] for row in written] == [1.0, 0.0, 3.0]
  assert written[2] | {'reward': 0} == {
    'z': [1],
    'text': 'ccc',
    'a': 'é',
    'reward': 0,
    'logits': [0.0, 0.0],
  }
  assert [path.name for path in output.parent.iterdir()] == ['out.jsonl']


@pytest.mark.parametrize(
  'arguments, code, message',
  [
    (('--output=out.txt',), 2, '--output=out.txt: must be the name of a .jsonl file'),
    (('--output=',), 2, '--output is missing'),
    (('--output=in.jsonl',), 2, 'is the input itself'),
    (('--output=in.jsonl/out.jsonl',), 2, 'cannot be written'),
    *(
      ((f'--output={"x" * length}.jsonl',), 2, 'cannot be written: File name too long')
      for length in (230, 240, 250, 300)
    ),
    (('--encoding=unicode_escape',), 2, "--encoding = 'unicode_escape': is not a text encoding"),
    (('--delimiter=ab',), 2, "--delimiter = 'ab': must be one character"),
    (('--input=nowhere.jsonl',), 2, 'nowhere.jsonl'),
    (('--field=txet',), 3, "row 1: has no field 'txet'"),
    (('--batch_size=0',), 2, '--batch_size=0'),
    (('--batchsize=3',), 2, 'did you mean --batch_size?'),
  ],
)
def test_mistakes_leave_no_output(
  launch, rows, lengths, tmp_path, monkeypatch, capsys, arguments, code, message
):
  monkeypatch.chdir(tmp_path)
  before = rows.read_text()
  assert score(launch, 'in.jsonl', 'out.jsonl', *arguments) == code
  shown = capsys.readouterr().err
  assert message in shown and shown.count('\n') == 1
  assert [path.name for path in tmp_path.iterdir()] == ['in.jsonl'] and rows.read_text() == before


def test_the_encoding_and_delimiter_of_the_input_can_be_given(launch, lengths, tmp_path, capsys):
  source, output = tmp_path / 'in.csv', tmp_path / 'out.jsonl'
  source.write_bytes('text~id\nприв~1\n'.encode('cp1251'))
  assert score(launch, source, output, '--encoding=cp1251', '--delimiter=~') == 0
  row = json.loads(output.read_text(encoding='utf-8'))
  assert (row['text'], row['id'], row['reward']) == ('прив', '1', 4.0)


def test_an_output_that_is_a_link_stays_one_and_a_pipe_is_refused(
  launch, rows, lengths, tmp_path, capsys
):
  (tmp_path / 'link.jsonl').symlink_to('real.jsonl')
  assert score(launch, rows, tmp_path / 'link.jsonl') == 0
  assert (tmp_path / 'link.jsonl').is_symlink()
  assert len((tmp_path / 'real.jsonl').read_text().splitlines()) == 3
  os.mkfifo(tmp_path / 'pipe.jsonl')
  (tmp_path / 'x.jsonl.partial').mkdir()
  for name, message in (
    ('pipe.jsonl', 'is a pipe or device, not a file; give another name'),
    ('x.jsonl', 'x.jsonl.partial exists but is not a regular file; remove it'),
  ):
    assert score(launch, rows, tmp_path / name) == 2
    assert message in capsys.readouterr().err


def test_nothing_is_kept_of_an_input_that_changes(launch, rows, monkeypatch, tmp_path, capsys):
  def scorer(texts):
    if texts:
      with rows.open('a') as file:
        file.write('{"text": "more"}\n')
    return {'reward': np.ones(len(texts), np.float32)}

  monkeypatch.setattr(files, 'SCORED', 2)
  monkeypatch.setattr(api, 'load_scorer', lambda *_, **__: scorer)
  assert score(launch, rows, tmp_path / 'out.jsonl') == 3
  assert 'changed while it was being read, so nothing is kept' in capsys.readouterr().err
  assert not list(tmp_path.glob('out.jsonl*'))


def test_a_field_that_would_be_overwritten_is_refused_before_any_work(
  launch, monkeypatch, tmp_path, capsys
):
  scored = []
  scorer = lambda texts: scored.extend(texts) or {'reward': np.ones(0)}
  monkeypatch.setattr(api, 'load_scorer', lambda *_, **__: scorer)
  source, output = tmp_path / 'in.csv', tmp_path / 'out.jsonl'
  source.write_text('text,reward\na,1\n')
  assert score(launch, source, output) == 3
  assert (
    "already has a field 'reward'" in capsys.readouterr().err and not output.exists() and not scored
  )


def test_a_score_that_is_not_finite_is_refused(launch, rows, monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(
    api, 'load_scorer', lambda *_, **__: lambda texts: {'reward': np.full(len(texts), np.nan)}
  )
  assert score(launch, rows, tmp_path / 'out.jsonl') == 3
  assert 'gives a non-finite reward' in capsys.readouterr().err


def test_errors_of_the_model_end_with_their_own_code(launch, rows, monkeypatch, tmp_path, capsys):
  def refuse(path, batch_size, progress, label):
    raise InputError('M: is cut \x1b[31mshort')

  monkeypatch.setattr(api, 'load_scorer', refuse)
  assert score(launch, rows, tmp_path / 'out.jsonl') == 3
  assert capsys.readouterr().err == 'error: M: is cut short\n'


@pytest.mark.slow
def test_real_models_add_their_columns(launch, rows, shared, tmp_path):
  for model, columns in (
    ('neox_14m', ['log_prob', 'tokens']),
    ('roberta_toxicity_mini', ['logits', 'reward']),
  ):
    output = tmp_path / f'{model}.jsonl'
    assert score(launch, rows, output, f'--model={shared}/models/{model}') == 0
    written = [json.loads(line) for line in output.open()]
    assert list(written[0]) == ['id', 'text', *columns]
    if 'tokens' in columns:
      assert (written[1]['log_prob'], written[1]['tokens']) == (0, 0) and written[2]['log_prob'] < 0
    else:
      assert all(row['reward'] == -row['logits'][1] for row in written)
