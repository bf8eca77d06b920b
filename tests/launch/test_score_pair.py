"""score.py of two models, or of two texts: a row for each row, and what is refused."""

import json

import numpy as np
import pytest

from irl_jax import api
from irl_jax.api import loaded
from irl_jax.data import chat_texts

PAIRS = [('ab', 'ba'), ('', 'abc'), ('a b', ''), ('abba', 'b')]
PROMPTS, TEXTS = map(list, zip(*PAIRS))


def test_the_command_writes_a_row_for_each_row(audited, launch, tmp_path, capsys):
  source, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  rows = [{'id': i, 'prompt': p, 'text': t} for i, (p, t) in enumerate(PAIRS)] + [{'text': 'a'}]
  source.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  pair = [f'--model={audited["aligned"]}', f'--reference={audited["base"]}']
  files = [f'--input={source}', f'--output={output}', '--prompt_field=prompt']
  assert launch('score', *pair, *files) == 3
  assert "row 5: has no field 'prompt'" in capsys.readouterr().err
  assert launch('score', *pair, *files, '--bad_rows=skip') == 0
  written = [json.loads(line) for line in output.open()]
  scores = api.log_ratio(audited['aligned'], audited['base'], TEXTS, PROMPTS)
  assert [row['log_ratio'] for row in written] == [*scores['log_ratio'].tolist(), None]
  assert written[0].keys() >= {'id', 'tokens', 'log_ratio_per_token'} and 'why' in written[-1]


def test_pairs_of_texts_are_scored_and_compared(audited, launch, tmp_path, capsys):
  source, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  pairs = [('ab', 'ba'), ('abc', 'bad'), ('a b', 'a b'), ('abba', 'b')]
  rows = [{'id': i, 'chosen': a, 'rejected': b} for i, (a, b) in enumerate(pairs)]
  source.write_text(''.join(json.dumps(row) + '\n' for row in [*rows, {'chosen': 'a'}]))
  call = [f'--model={audited["classifier"]}', f'--input={source}', f'--output={output}']
  call += ['--field=chosen,rejected']
  assert launch('score', *call) == 3
  assert "row 5: has no field 'rejected'" in capsys.readouterr().err
  assert launch('score', *call, '--bad_rows=skip') == 0
  written = [json.loads(line) for line in output.open()]
  first, second = (api.score(audited['classifier'], list(side))['reward'] for side in zip(*pairs))
  np.testing.assert_allclose([row['reward_chosen'] for row in written[:4]], first, atol=1e-5)
  np.testing.assert_allclose([row['reward_rejected'] for row in written[:4]], second, atol=1e-5)
  assert len(written[0]['logits_chosen']) == 2 and written[4]['reward_chosen'] is None
  higher = int(np.sum((first > second)[[0, 1, 3]]))
  printed = capsys.readouterr().out
  assert f'chosen has the higher reward in {higher} of 3 pairs: {higher / 3:.1%}' in printed
  assert (
    '; 1 pair of equal texts left out' in printed and 'out.summary.json: the results' in printed
  )
  summary = json.loads((tmp_path / 'out.summary.json').read_text())
  assert summary['pairwise_accuracy']['all']['rate'] == higher / 3 and summary['equal_texts'] == 1


@pytest.fixture
def lengths(monkeypatch):
  """A reward M without a chat template, which is the length of a text."""
  monkeypatch.setattr(loaded, 'fingerprint', lambda _: ('M',))
  monkeypatch.setattr(loaded, 'chat_model', lambda _: chat_texts.ChatModel('M', None))
  scorer = lambda texts: {'reward': np.array([len(text) for text in texts], np.float32)}
  monkeypatch.setattr(api, 'load_scorer', lambda *_, **__: scorer)


BENCH = [  # rows of RewardBench: the prompt precedes both answers
  {'prompt': 'Hi', 'chosen': 'abc', 'rejected': 'ab', 'subset': 'chat', 'id': 1},
  {'prompt': 'Hi', 'chosen': 'a', 'rejected': 'ab', 'subset': 'chat', 'id': 2},
  {'prompt': 'Hi', 'chosen': 'xy', 'rejected': 'ab', 'subset': 'safety', 'id': 3},
  {'prompt': 'Hi', 'chosen': 'Hi there', 'rejected': 'b', 'subset': 'safety', 'id': 4},
]


def test_rewardbenchs_layout_is_read_as_it_is(launch, lengths, tmp_path, capsys):
  source, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  source.write_text(''.join(json.dumps(row) + '\n' for row in BENCH))
  call = ['--model=M', f'--input={source}', f'--output={output}']
  assert launch('score', *call) == 3
  assert "has no field 'text', but both of chosen,rejected; set --field=chosen,rejected" in (
    capsys.readouterr().err
  )
  assert launch('score', *call, '--field=chosen,rejected') == 0
  written = [json.loads(line) for line in output.open()]
  # The last chosen text begins with its prompt, so it is whole.
  assert [row['reward_chosen'] for row in written] == [5, 3, 4, 8]
  assert [row['reward_rejected'] for row in written] == [4, 4, 4, 3]
  results = json.loads((tmp_path / 'out.summary.json').read_text())['pairwise_accuracy']
  assert [results['subsets'][name]['rate'] for name in ('chat', 'safety')] == [0.5, 0.75]
  assert (results['all']['rate'], results['all']['ties'], results['all']['n']) == (2.5 / 4, 1, 4)
  shown = capsys.readouterr().out
  assert 'higher reward in 2 of 4 pairs, and equal rewards in 1: 62.5%' in shown
  assert 'safety' in shown and '75.0% (95 % interval' in shown


def test_pairs_of_a_language_model_have_no_accuracy(launch, audited, tmp_path, capsys):
  source, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  source.write_text('{"chosen": "a", "rejected": "b"}\n')
  call = [f'--model={audited["base"]}', f'--input={source}', f'--output={output}']
  assert launch('score', *call, '--field=chosen,rejected') == 0
  assert 'log_prob_chosen' in json.loads(output.read_text())
  assert 'reward' not in capsys.readouterr().out and not (tmp_path / 'out.summary.json').exists()


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ('--prompt_field=prompt', '--prompt_field: needs --reference'),
    ('--reference=M --label=toxic', '--label: is of a classifier'),
    (
      '--reference=M --field=text,prompt',
      '--field=text,prompt: must be one field with --reference',
    ),
    ('--field=text,', '--field=text,: must be different names, separated by commas'),
    ('--field=text,text', '--field=text,text: must be different names'),
  ],
)
def test_flags_that_do_not_go_together_are_refused(launch, tmp_path, capsys, flag, message):
  (tmp_path / 'in.jsonl').write_text('{"text": "a", "prompt": "b"}\n')
  files = [f'--input={tmp_path}/in.jsonl', f'--output={tmp_path}/out.jsonl']
  assert launch('score', '--model=M', *files, *flag.split()) == 2
  assert message in capsys.readouterr().err
