"""toxicity.py: samples judged one by one, the results over prompts, and what is refused."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest

from irl_jax import api
from irl_jax.api import loaded
from irl_jax.command_line import files
from irl_jax.command_line import judged_samples
from irl_jax.config import Sampling
from irl_jax.evaluation import maximum_toxicity

WORDS = [f'word {number}' for number in range(7)]


@pytest.fixture
def run(launch, tmp_path, monkeypatch):
  """Runs toxicity.py on rows, with three samples of each prompt."""
  monkeypatch.chdir(tmp_path)

  def start(rows, *arguments):
    source = tmp_path / 'in.jsonl'
    source.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return launch('toxicity', f'--prompts={source}', '--samples=3', *arguments)

  return start


@pytest.fixture
def fakes(monkeypatch):
  """A model that numbers its completions, and a judge that reads the number as a share."""
  seen = {'stop_at': None, 'prompts': []}

  def generate(path, prompts, sampling, seed, progress, first, chat):
    if seen['stop_at'] in prompts:
      os.kill(os.getpid(), signal.SIGINT)
    seen['prompts'] += prompts
    seen['sampling'] = sampling
    return [f' {first + number}' for number in range(len(prompts))]

  def load_judge(judge, label):
    return lambda texts: np.array([int(text) % 20 / 20 for text in texts], np.float32)

  monkeypatch.setattr(api, 'generate', generate)
  monkeypatch.setattr(judged_samples, 'load_judge', load_judge)
  monkeypatch.setattr(loaded, 'fingerprint', lambda path: (path,))
  return seen


def read(tmp_path):
  rows = [json.loads(line) for line in (tmp_path / 'toxicity.jsonl').open()]
  return rows, json.loads((tmp_path / 'toxicity.summary.json').read_text())


def test_samples_of_a_real_model_are_judged_by_a_real_classifier(run, audited, tmp_path, capsys):
  rows = [
    {'prompt': {'text': 'ab', 'toxicity': 0.1}, 'challenging': True, 'id': 7},
    {'prompt': 'b', 'challenging': False},
    {'prompt': 'ab', 'challenging': False},
  ]
  models = [f'--model={audited["base"]}', f'--judge={audited["classifier"]}']
  assert run(rows, *models, '--max_new_tokens=4', '--seed=3') == 0
  written, summary = read(tmp_path)
  assert [{name: row[name] for name in given} for given, row in zip(rows, written)] == rows
  sampling = Sampling(max_new_tokens=4, top_p=0.9, batch_size=128)
  prompts = [prompt for prompt in ('ab', 'b', 'ab') for _ in range(3)]
  texts = api.generate(audited['base'], prompts, sampling, seed=3)
  assert [text for row in written for text in row['completions']] == texts
  largest = []
  for row in written:  # the samples alone are judged, without their prompt
    logits = api.score(audited['classifier'], row['completions'])['logits'].astype(float)
    expected = [np.exp(toxic) / (np.exp(neutral) + np.exp(toxic)) for neutral, toxic in logits]
    np.testing.assert_allclose(row['toxicity'], expected, atol=1e-5)
    assert row['max_toxicity'] == max(row['toxicity'])
    largest.append(row['max_toxicity'])
  results = summary['results']
  assert results['all']['expected_maximum'] == pytest.approx(np.mean(largest))
  assert results['challenging']['expected_maximum'] == pytest.approx(largest[0])
  assert results['others']['n'] == 2
  assert summary['settings']['samples'] == 3 and summary['settings']['top_p'] == 0.9
  shown = capsys.readouterr().out
  assert 'toxicity of the worst of 3 samples' in shown and 'challenging' in shown
  assert f'{np.mean(largest):.3f} [' in shown and 'toxicity.summary.json: the results' in shown


def test_the_defaults_are_those_of_the_protocol(launch, fakes, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'in.txt').write_text('a\nb\n')
  assert launch('toxicity', '--model=M', '--judge=J', '--prompts=in.txt') == 0
  assert fakes['sampling'] == Sampling(max_new_tokens=20, top_p=0.9, batch_size=128)
  # A run measures its policies in the same way.
  assert fakes['sampling'] == dataclasses.replace(maximum_toxicity.SAMPLING, batch_size=128)
  assert fakes['prompts'] == ['a'] * 25 + ['b'] * 25
  results = read(tmp_path)[1]['results']
  assert results['all']['n'] == 2 and results['challenging'] is None


def test_a_stopped_call_continues_to_the_same_results(run, fakes, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(files, 'COMPLETED', 6)  # parts of two prompts
  monkeypatch.setattr(files, 'BATCHES', 0)
  rows = [{'text': word} for word in WORDS]
  assert run(rows, '--model=M', '--judge=J') == 0
  whole = [(tmp_path / name).read_bytes() for name in ('toxicity.jsonl', 'toxicity.summary.json')]
  for name in ('toxicity.jsonl', 'toxicity.summary.json'):
    (tmp_path / name).unlink()
  fakes['stop_at'] = 'word 5'
  assert run(rows, '--model=M', '--judge=J') == 130
  assert '4 of 7 rows are kept in toxicity.jsonl.partial' in capsys.readouterr().err
  fakes['stop_at'] = None
  for flags, other in (
    (('--model=M', '--judge=K'), '--judge'),
    (('--model=M', '--judge=J', '--top_k=3'), '--top_k'),
  ):
    assert run(rows, *flags) == 2
    assert f'another {other}' in capsys.readouterr().err
  fakes['prompts'].clear()
  assert run(rows, '--model=M', '--judge=J') == 0 and set(fakes['prompts']) == set(WORDS[4:])
  again = [(tmp_path / name).read_bytes() for name in ('toxicity.jsonl', 'toxicity.summary.json')]
  assert again == whole


def test_rows_without_a_prompt_are_left_out_of_the_results(run, fakes, tmp_path, capsys):
  rows = [{'text': 'a'}, {'text': None}, {'text': 'b', 'challenging': 'perhaps'}]
  assert run(rows, '--model=M', '--judge=J') == 3
  assert "row 2: field 'text' must be a string" in capsys.readouterr().err
  assert run(rows, '--model=M', '--judge=J', '--bad_rows=skip') == 0
  written, summary = read(tmp_path)
  assert [row['max_toxicity'] for row in written] == [pytest.approx(0.1), None, None]
  assert written[2]['why'].startswith("field 'challenging' is a string; a label must be")
  assert summary['results']['all']['n'] == 1


@pytest.mark.parametrize(
  'arguments, code, message',
  [
    (('--model=M',), 2, '--judge is missing: a toxicity classifier'),
    (('--model=M', '--judge=J', '--prompts=nowhere.x'), 2, '--prompts=nowhere.x'),
    (('--model=M', '--judge=J', '--temperature=0'), 2, 'all samples of a prompt are the same'),
    (('--model=M', '--judge=J', '--top_p=2'), 2, '--top_p = 2.0: must be > 0 and <= 1'),
    (('--model=M', '--judge=J', '--output=x.txt'), 2, 'must be the name of a .jsonl file'),
    (('--model=M', '--judge=J', '--input=x'), 2, '--input: no such flag'),
  ],
)
def test_wrong_calls_are_refused(run, fakes, tmp_path, capsys, arguments, code, message):
  assert run([{'text': 'a'}], *arguments) == code
  shown = capsys.readouterr().err
  assert message in shown and shown.count('\n') == 1 and not fakes['prompts']
  assert [path.name for path in tmp_path.iterdir()] == ['in.jsonl']


def test_a_judge_that_is_not_a_toxicity_classifier_is_refused(
  run, audited, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(api, 'generate', lambda *_, **__: 1 / 0)
  model = f'--model={audited["base"]}'
  assert run([{'text': 'a'}], model, f'--judge={audited["base"]}') == 3
  assert 'base: is a causal_lm' in capsys.readouterr().err
  judge = f'--judge={audited["classifier"]}'
  assert run([{'text': 'a'}], model, judge, '--label=rude') == 2
  assert "has no label 'rude'" in capsys.readouterr().err
  path = audited['classifier'] / 'config.json'
  before = path.read_text()
  try:
    path.write_text(json.dumps(json.loads(before) | {'problem_type': 'regression'}))
    assert run([{'text': 'a'}], model, judge) == 3
  finally:
    path.write_text(before)
  assert 'problem_type = regression: gives no probabilities' in capsys.readouterr().err
  assert [path.name for path in tmp_path.iterdir()] == ['in.jsonl']
