"""train.py: what reaches the pipeline, what is refused before it starts, and the dry run."""

import sys
import types

import pytest

CONFIG = """
from irl_jax import config

def get_config():
  return config.Config(
    name='example', stages=('data', 'rlhf', 'irl'), ppo=config.PPO(learning_rate=1e-5)
  )
"""


@pytest.fixture
def config_file(tmp_path):
  path = tmp_path / 'example.py'
  path.write_text(CONFIG)
  return f'--config={path}'


@pytest.fixture
def calls(monkeypatch):
  """The arguments of the pipeline, which finishes at once, without a summary."""
  seen = []
  pipeline = types.ModuleType('irl_jax.pipeline')
  pipeline.run = lambda config, workdir, stages: seen.append((config, workdir, stages))
  monkeypatch.setitem(sys.modules, 'irl_jax.pipeline', pipeline)
  monkeypatch.setattr('irl_jax.pipeline', pipeline, raising=False)
  return seen


def test_config_with_overrides_reaches_the_pipeline(launch, config_file, calls):
  assert (
    launch(
      'train',
      config_file,
      '--config.ppo.learning_rate=1e-6',
      '--config.ppo.subtract_original=false',
      '--config.models.base',
      'EleutherAI/pythia-70m',
      '--bad_rows=skip',
    )
    == 0
  )
  ((config, workdir, stages),) = calls
  assert (config.ppo.learning_rate, config.ppo.subtract_original) == (1e-6, False)
  assert (config.models.base, config.data.bad_rows) == ('EleutherAI/pythia-70m', 'skip')
  assert (workdir, stages) == ('runs/example', ('data', 'rlhf', 'irl'))


def test_stages_run_in_the_configs_order(launch, config_file, calls):
  assert launch('train', config_file, '--stages=irl,data', '--workdir=elsewhere') == 0
  assert calls[0][1:] == ('elsewhere', ('data', 'irl'))


@pytest.mark.parametrize(
  'argument, message',
  [
    ('--stages=rhlf', "--stages: unknown stage 'rhlf'"),
    (
      '--stages=rerlhf',
      "--stages: unknown stage 'rerlhf'; must be one of the config's stages: data, rlhf, irl",
    ),
    ('--stages=', "--stages: unknown stage ''"),
    ('--bad_rows=ignore', '--bad_rows=ignore: value should be one of <error|skip>'),
    ('--config.name=../x', "config.name = '../x': must be a folder name"),
    ('--config.name=/etc/x', "config.name = '/etc/x': must be a folder name"),
    ('--config.name=a/b', "config.name = 'a/b': must be a folder name"),
    ('--config.name=a\\b', "config.name = 'a\\\\b': must be a folder name"),
    ('--config.name=\x1b[2J', "config.name = '\\x1b[2J': must be a folder name"),
    ('--config.name=', "config.name = '': must be a folder name"),
  ],
)
def test_refused_before_the_pipeline_starts(launch, config_file, calls, capsys, argument, message):
  assert launch('train', config_file, argument) == 2
  assert message in capsys.readouterr().err and not calls


def test_results_are_shown(launch, config_file, calls, monkeypatch, capsys):
  results = {'true_reward': {'human_accuracy': 0.95}}
  monkeypatch.setattr(sys.modules['irl_jax.pipeline'], 'run', lambda *_: results)
  assert launch('train', config_file) == 0
  assert '95' in capsys.readouterr().out


def test_dry_run_shows_config_and_shapes_and_writes_nothing(
  launch, config_file, calls, capsys, shared, monkeypatch, tmp_path
):
  monkeypatch.chdir(tmp_path)
  assert (
    launch(
      'train',
      config_file,
      f'--config.models.base={shared}/models/neox_14m',
      '--config.seed=7',
      f'--config.models.classifier={shared}/models/roberta_toxicity_mini',
      '--dry_run',
    )
    == 0
  )
  shown = capsys.readouterr().out
  assert 'config.seed = 7\n' in shown and 'config.ppo.learning_rate = 1e-05\n' in shown
  assert 'causal_lm, 14,067,712 parameters' in shown and 'embed_out/embedding [50304, 128]' in shown
  assert 'classifier, 14,646,018 parameters' in shown
  assert (
    '  irl: 7,628,800 parameters trained, 0 frozen\n' in shown
    and shown.count('    peak, during ') == 2
  )
  assert not calls and [path.name for path in tmp_path.iterdir()] == ['example.py']


def test_dry_run_refuses_a_folder_that_is_not_there(launch, config_file, calls, capsys):
  assert launch('train', config_file, '--config.models.base=./nowhere', '--dry_run') == 2
  assert 'nowhere' in capsys.readouterr().err
