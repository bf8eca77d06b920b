"""score.py of two models, or of two texts: a row for each row, and what is refused."""

import json

import numpy as np
import pytest

from irl_jax import api

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
  assert f'chosen has the higher reward in {higher} of 3 rows' in printed
  assert '1 more have equal rewards' in printed


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
