"""The study of Bayesian recovery on a run of the tiny policy, as its command line would run it."""

import json
import pathlib
import runpy
import shutil

import numpy as np
import pytest

from irl_jax.command_line import launch as command_line
from irl_jax.models import pretrained

ROOT = pathlib.Path(__file__).parents[2]


def run(folder, output, *flags):
  """Runs the study and returns its exit code."""
  module = runpy.run_path(str(ROOT / 'studies' / 'bayes.py'))
  arguments = [
    'bayes.py',
    f'--config={ROOT}/configs/tiny.py',
    f'--workdir={folder}',
    f'--output={output}',
    '--coins=2',
  ]
  return command_line.run_main(
    module['main'], module['FLAGS'], module['__doc__'], [*arguments, *flags]
  )


def rewrite(path, change):
  """Changes every row of a .jsonl file."""
  rows = [json.loads(row) for row in path.read_text().splitlines()]
  path.write_text(''.join(json.dumps(row | change(row)) + '\n' for row in rows))


@pytest.fixture(scope='module')
def finished(policy, tmp_path_factory):
  """Aligned texts are of the letters a to f, base texts of all: a style to be recovered."""
  folder, rng = tmp_path_factory.mktemp('run'), np.random.default_rng(0)
  pretrained.save(folder / 'sft' / 'policy', policy, '')
  words = lambda letters: ''.join(f' {"".join(rng.choice(list(letters), 3))}' for _ in range(3))
  for stage in ('data', 'demos'):
    (folder / stage).mkdir()
  for split, count in [('train', 200), ('validation', 80), ('heldout', 80)]:
    rows = [
      {
        'prompt': words('abcdefghijklmnop'),
        'aligned': words('abcdef'),
        'base': words('abcdefghijklmnop'),
        'true_reward_aligned': rng.normal(1),
        'true_reward_base': rng.normal(-1),
      }
      for _ in range(count)
    ]
    (folder / 'demos' / f'{split}.jsonl').write_text(
      ''.join(json.dumps(row) + '\n' for row in rows)
    )
    original = [{'prompt': row['prompt'], 'original': row['base']} for row in rows]
    (folder / 'data' / f'{split}.jsonl').write_text(
      ''.join(json.dumps(row) + '\n' for row in original)
    )
  return folder


@pytest.mark.slow
def test_the_table_stands_beside_its_control(finished, tmp_path, capsys):
  assert run(finished, tmp_path / 'bayes.json') == 0
  found = json.loads((tmp_path / 'bayes.json').read_text())
  assert found['features'].startswith('last') and found['width'] == 16 and len(found['rounds']) == 5
  last = found['rounds'][-1]
  assert last['true']['trace'] < 16 and last['shuffled']['trace'] < 16
  assert last['true']['log_likelihood'] > max(np.log(0.5), last['shuffled']['log_likelihood'])
  assert last['true']['auroc'] > 0.5
  assert set(found['texts']) == {
    'held-out demonstrations',
    'held-out original texts',
    'their words shuffled',
    'tokens at random',
  }
  assert found['texts']['held-out demonstrations']['flagged_last'] < 0.1
  assert capsys.readouterr().out.count('shuffled') >= 6


@pytest.mark.slow
def test_without_r_star_and_with_mean_states_the_rest_stands(finished, tmp_path, capsys):
  audit = shutil.copytree(finished, tmp_path / 'audit')
  rewrite(
    audit / 'demos' / 'validation.jsonl',
    lambda row: {'true_reward_aligned': None, 'true_reward_base': None},
  )
  assert (
    run(audit, tmp_path / 'bayes.json', '--config.irl.pooling=mean', '--config.irl.prefix_weight=0')
    == 0
  )
  found = json.loads((tmp_path / 'bayes.json').read_text())
  assert found['features'].startswith('mean') and found['rounds'][-1]['true']['accuracy'] > 0.6
  assert found['rounds'][0]['true']['auroc'] is None and '| - |' in capsys.readouterr().out


def test_what_is_missing_is_named(finished, tmp_path, capsys):
  assert run(tmp_path, tmp_path / 'bayes.json') == 2
  assert 'run the stage demos first' in capsys.readouterr().err
  same = shutil.copytree(finished, tmp_path / 'same')
  rewrite(same / 'demos' / 'heldout.jsonl', lambda row: {'aligned': row['base']})
  assert run(same, tmp_path / 'bayes.json') == 3
  assert 'heldout.jsonl has no pair' in capsys.readouterr().err
