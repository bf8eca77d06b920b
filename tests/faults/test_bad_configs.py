"""Settings that are unknown, out of range or impossible, refused before anything runs."""

import commands
import pytest

FLAGS = (
  '--config.ppo.lerning_rate=1',
  '--config.ppo.steps=1.5',
  '--config.ppo.learning_rate=nan',
  '--config.ppo.learning_rate=-1',
  '--config.ppo.steps=0',
  '--config.ppo.steps=99999999999',
  '--config.ppo.minibatch_size=5',
  '--config.stages=data,ril',
  '--config.sampling.skip_special_tokens=false',
)
FAULTS = {flag: flag for flag in FLAGS} | {
  'a stray argument': 'stray',
  '--config.ppo.minibatch_size=2 on 4 devices': '--config.ppo.minibatch_size=2',
  'more blocks to train than there are': '--config.irl.trained_blocks=3',
  'a model that is neither named nor made': '--config.models.base=',
  "prompt and response beyond the model's positions": '--config.sampling.max_new_tokens=60',
  'less space on the disk than checkpoints need': '--config.runtime.keep_checkpoints=2000000000',
}


def test_a_name_of_a_run_is_one_folder(folder, ends_as_documented):
  config = f'--config={commands.ROOT / "configs" / "smoke.py"}'
  ends_as_documented('--config.name=../x', 'train', [config, '--config.name=../x'])


@pytest.mark.parametrize('fault', FAULTS)
def test_a_bad_setting_is_refused_before_anything_runs(fault, folder, ends_as_documented):
  ends_as_documented(fault, 'train', commands.train(folder, FAULTS[fault]))
  assert not (folder / 'run' / 'data').exists()
