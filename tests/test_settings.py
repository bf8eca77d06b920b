"""Paths in settings and arguments: ~ everywhere, and URLs, which are not paths."""

import dataclasses
import functools
import pathlib
import re

import numpy as np
import pytest

import irl_jax
from irl_jax import config
from irl_jax import pipeline
from irl_jax import settings
from irl_jax.api import recovery
from irl_jax.command_line import config_files
from irl_jax.command_line import launch
from irl_jax.command_line import score
from irl_jax.command_line import train
from irl_jax.data import sources
from irl_jax.errors import ConfigError
from irl_jax.models import pretrained
from irl_jax.report import page
from irl_jax.training import checkpoint

BUCKETS = ['gs://b/x', 's3://b/x', 'hf://b/x', 'HTTPS://b/x', 'abfs://b@c/x', 'gs:/b/x']


@pytest.fixture
def home(tmp_path, monkeypatch):
  """The home folder, which is not the current one."""
  (tmp_path / 'home').mkdir()
  (tmp_path / 'here').mkdir()
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.chdir(tmp_path / 'here')
  yield tmp_path / 'home'
  assert not list((tmp_path / 'here').iterdir())


def test_home_is_replaced_and_all_else_stays(home):
  assert settings.local_path('~/x', 'x') == f'{home}/x' and settings.local_path(
    pathlib.Path('~'), 'x'
  ) == str(home)
  for same in ('', 'x', './~/x', '/a/b', 'owner/name', 'owner/name@v1', 'a:b', 'run:/x', 'C:/x'):
    assert settings.local_path(same, 'x') == same
  for same in ('playground', 'jigsaw:/a/b', 'jigsaw:a.csv', 'owner/name', ''):
    assert settings.local_source(same, 'x') == same
  assert settings.local_source('jigsaw:~/a.csv', 'x') == f'jigsaw:{home}/a.csv'


@pytest.mark.parametrize('place', BUCKETS)
def test_a_bucket_is_refused_wherever_a_path_is_given(home, place):
  for take in (
    lambda: config.Models(base=place),
    lambda: config.Data(source=place),
    lambda: config.Data(source=f'jigsaw:{place}'),
    lambda: config.Data(unlabelled=place),
    lambda: config_files.load(place),
    lambda: pipeline.run(config.Config(), place),
    lambda: irl_jax.recover('a/b', 'a/c', ['prompt'], workdir=place),
    lambda: irl_jax.recover(place, 'a/c', ['prompt']),
    lambda: irl_jax.load_model(place),
    lambda: irl_jax.load_reward(place),
    lambda: irl_jax.load_scorer(place),
    lambda: irl_jax.generate(place, ['a']),
    lambda: checkpoint.Checkpoints(place),
    lambda: page.write(place),
  ):
    with pytest.raises(ConfigError) as refused:
      take()
    assert f'{place}: ' in str(refused.value) and 'give a mounted folder' in str(refused.value)


def test_home_is_meant_wherever_a_path_is_given(home, policy):
  (home / 'rows.jsonl').write_text('{"text": "a b c d e"}\n')
  rows, _ = sources.load_rows(config.Data(source='~/rows.jsonl'), 0)
  assert len(rows) == 1
  pretrained.save('~/model', policy, '')
  assert irl_jax.load_model('~/model').source == str(home / 'model')
  assert irl_jax.load_scorer('~/model')([])['log_prob'].shape == (0,)
  assert recovery._place('~/model', 'base') == str(home / 'model')
  for field in ('base', 'judge'):
    assert getattr(config.Models(**{field: '~/model'}), field) == str(home / 'model')
  with checkpoint.Checkpoints('~/checkpoints') as checkpoints:
    assert checkpoints.folder == home / 'checkpoints'
  (home / 'mine.py').write_text(
    'from irl_jax.config import *\ndef get_config():\n  return Config(seed=3)\n'
  )
  assert config_files.load('~/mine.py').seed == 3


@pytest.mark.parametrize(
  'place, problem',
  [
    ('$HOME/x', r'\$HOME is replaced by a shell alone; write the path in full'),
    ('a/${RUN}/x', r'\$\{RUN\} is replaced by a shell alone'),
    ('~nobody-of-this-name/x', '~nobody-of-this-name is the home of no user here'),
  ],
)
def test_what_only_a_shell_replaces_is_refused(home, place, problem):
  for take in (
    lambda: config.Data(source=place),
    lambda: pipeline.run(config.Config(), place),
    lambda: checkpoint.Checkpoints(place),
  ):
    with pytest.raises(ConfigError, match=f'={re.escape(place)}: {problem}'):
      take()


def test_an_existing_folder_may_have_any_name(tmp_path):
  for name in ('$HOME', '~nobody-of-this-name'):
    (tmp_path / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
      patch.chdir(tmp_path)
      assert settings.local_path(f'{name}/', 'x') == f'{name}/'


def test_a_name_that_is_too_long_is_refused(home):
  with pytest.raises(ConfigError, match=r'--workdir=x{60}…: File name too long'):
    pipeline.run(config.Config(), 'x' * 300)


def test_a_folder_of_windows_is_refused(home):
  for take in (checkpoint.Checkpoints, functools.partial(pipeline.run, config.Config())):
    with pytest.raises(ConfigError, match='contains a backslash; write paths with slashes'):
      take('C:\\runs\\x')


@pytest.mark.parametrize('place', [None, b'x', 5, ''])
def test_what_is_no_path_is_refused(home, place):
  for take in (checkpoint.Checkpoints, functools.partial(pipeline.run, config.Config())):
    with pytest.raises(ConfigError, match=r'must be a path$'):
      take(place)


@pytest.mark.parametrize(
  'section, field, given, stored',
  [
    (config.PPO, 'steps', np.int64(3), 3),
    (config.PPO, 'learning_rate', np.float64(0.5), 0.5),
    (config.PPO, 'learning_rate', np.int32(1), 1.0),
    (config.PPO, 'subtract_original', np.bool_(False), False),
    (config.Models, 'base', pathlib.Path('/a/b'), '/a/b'),
    (config.Config, 'stages', ['data', 'sft'], ('data', 'sft')),
  ],
)
def test_values_of_other_types_that_lose_nothing_are_converted(section, field, given, stored):
  value = getattr(section(**{field: given}), field)
  assert value == stored and type(value) is type(stored)


@pytest.mark.parametrize(
  'field, given', [('steps', np.float64(3)), ('steps', True), ('steps', '3'), ('steps', [3])]
)
def test_values_of_other_types_are_refused(field, given):
  with pytest.raises(ConfigError, match='config.ppo.steps = .*: must be of type int'):
    config.PPO(**{field: given})


def test_flags_name_themselves(home):
  options = score.define_flags()
  launch.parse(['score', '--model=~/m', '--input=~/in.csv', '--output=~/out.jsonl'], options)
  assert (options.model, options.input, options.output) == tuple(
    f'{home}/{name}' for name in ('m', 'in.csv', 'out.jsonl')
  )
  with pytest.raises(ConfigError, match='--model has no value: it is followed by --input=~/in.csv'):
    launch.parse(['score', '--model', '--input=~/in.csv'], score.define_flags())
  for flag in ('model', 'input', 'output'):
    with pytest.raises(ConfigError, match=f'^--{flag}=s3://b/x: s3:// cannot be read or written'):
      launch.parse(['score', f'--{flag}=s3://b/x'], score.define_flags())
  options = train.define_flags()
  launch.parse(['train', '--config=tiny', '--workdir=~/run'], options)
  assert options.workdir == f'{home}/run'


def test_a_replaced_config_is_the_same(home):
  data = config.Data(source='~/rows.jsonl')
  assert dataclasses.replace(data) == data
