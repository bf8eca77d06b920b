"""The study of transfer, on a run of tiny models, through its command line."""

import json
import pathlib
import runpy

import numpy as np
import pytest
import recovered_run
from recovered_run import draw

from irl_jax import rewards
from irl_jax.command_line import launch as command_line

ROOT = pathlib.Path(__file__).parents[2]
PATH = str(ROOT / 'studies' / 'transfer.py')


@pytest.fixture(scope='module')
def finished(policy, classifier, tmp_path_factory):
  """A run of which two rewards with random heads were recovered."""
  return recovered_run.make(tmp_path_factory.mktemp('run'), policy, classifier)


@pytest.mark.slow
def test_every_reward_is_measured_on_pairs_that_no_stage_saw(finished, tmp_path, capsys):
  toxic, neutral = draw(12, 4), draw(12, 5)
  rows = [{'toxic': one, 'neutral': other} for one, other in zip(toxic, neutral)]
  recovered_run.write(tmp_path / 'pairs.jsonl', rows)
  module = runpy.run_path(PATH)
  arguments = [
    'transfer.py',
    f'--config={ROOT}/configs/smoke.py',
    f'--workdir={finished}',
    f'--output={tmp_path}/transfer.json',
    f'--pairs={tmp_path}/pairs.jsonl',
  ]
  assert command_line.run_main(module['main'], module['FLAGS'], module['__doc__'], arguments) == 0
  found = json.loads((tmp_path / 'transfer.json').read_text())
  of_length = {'longer', 'shorter'}
  ratios = {'dpo_implicit', 'dpo_given_prompt', 'dpo_given_prompt_per_token'}
  baselines = {'constant', 'bag_of_words', 'last_token'} | of_length | ratios
  assert set(found['rewards']) == {'seed_0', 'seed_1', 'ensemble'} | baselines
  words = [np.array([len(text.split()) for text in side]) for side in (toxic, neutral)]
  assert found['rewards']['shorter']['ordered'] == np.mean(words[1] < words[0])
  assert found['texts'] == 24 and -1 <= found['seed_spearman'] <= 1
  score = rewards.load(str(finished / 'irl' / 'seed_0' / 'reward'))
  assert found['rewards']['seed_0']['ordered'] == np.mean(score(neutral) > score(toxic))
  low, high = found['rewards']['seed_0']['intervals']['heldout_texts_human']['auroc']
  assert low <= found['rewards']['seed_0']['heldout_texts_human']['auroc'] <= high
  assert '24 texts; r* agrees with the labels on' in capsys.readouterr().out


def test_the_smallest_hashes_of_each_label_stay_in_the_order_of_the_file():
  rows = [{'id': number, 'toxic': number % 2} for number in range(40)]
  smallest = runpy.run_path(PATH)['smallest_hashes'](rows, 'toxic', 3)
  assert [row['toxic'] for row in smallest].count(1) == 3 == len(smallest) / 2
  assert [row['id'] for row in smallest] == sorted(row['id'] for row in smallest)
