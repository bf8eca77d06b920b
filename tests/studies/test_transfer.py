"""The study of transfer, on a run of tiny models, through its command line."""

import dataclasses
import json
import pathlib
import runpy

import jax
import numpy as np
import pytest

from irl_jax import rewards
from irl_jax.command_line import launch as command_line
from irl_jax.irl import export
from irl_jax.models import heads
from irl_jax.models import pretrained

ROOT = pathlib.Path(__file__).parents[2]
PATH = str(ROOT / 'studies' / 'transfer.py')


def write(path, rows):
  path.parent.mkdir(exist_ok=True)
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def draw(count, seed):
  rng = np.random.default_rng(seed)
  return [''.join(letters) for letters in rng.choice(list('abcdefghijklmnop'), (count, 6))]


@pytest.fixture(scope='module')
def finished(policy, classifier, tmp_path_factory):
  """A run of which two rewards with random heads were recovered."""
  folder = tmp_path_factory.mktemp('run')
  moved = jax.tree.map(lambda leaf: np.asarray(leaf * 1.1, np.float32), policy.params)
  pretrained.save(folder / 'sft' / 'policy', policy, '')
  pretrained.save(folder / 'rlhf' / 'policy', dataclasses.replace(policy, params=moved), '')
  pretrained.save(folder / 'classifier' / 'classifier', classifier, '')
  trunk = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  for seed in (0, 1):
    head = heads.init_reward_head(jax.random.key(seed), 16)
    model = export.reward_model(policy, (trunk | {'reward_head': head}, {}))
    pretrained.save(folder / 'irl' / f'seed_{seed}' / 'reward', model, '')
  members = [f'seed_{seed}/reward' for seed in (0, 1)]
  ensemble = {'model_type': 'irl_jax_ensemble', 'members': members}
  (folder / 'irl' / 'config.json').write_text(json.dumps(ensemble))
  demonstrated = list(zip(draw(20, 1), draw(20, 2), draw(20, 3)))
  of_stages = {'demos': ('prompt', 'aligned', 'base'), 'data': ('prompt', 'original')}
  for stage, names in of_stages.items():
    for split in ('train', 'validation', 'heldout'):
      rows = [dict(zip(names, row)) for row in demonstrated]
      write(folder / stage / f'{split}.jsonl', rows)
  return folder


@pytest.mark.slow
def test_every_reward_is_measured_on_pairs_that_no_stage_saw(finished, tmp_path, capsys):
  toxic, neutral = draw(12, 4), draw(12, 5)
  rows = [{'toxic': one, 'neutral': other} for one, other in zip(toxic, neutral)]
  write(tmp_path / 'pairs.jsonl', rows)
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
