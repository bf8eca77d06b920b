"""The config file of a report gives the config of the run, whatever it was."""

import pathlib

import pytest

from irl_jax import config as config_lib
from irl_jax.command_line import config_files
from irl_jax.report import recipe
from irl_jax.runtime import workdir

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / 'configs').glob('*.py'))


def run(source):
  scope = {}
  exec(source, scope)  # pylint: disable=exec-used
  return scope['get_config']()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_comes_back(path):
  config = config_files.load(str(path))
  assert run(recipe.config_file(workdir.plain(config))) == config


def test_hostile_values_stay_values():
  data = config_lib.Data(source='</script>\n\x00')
  config = config_lib.Config(name='"\'); import os  # \\', data=data, stages=('data',))
  source = recipe.config_file(workdir.plain(config))
  assert run(source) == config and 'learning_rate' not in source


def test_defaults_are_left_out():
  assert (
    recipe.config_file({})
    == 'from irl_jax import config as c\n\n\ndef get_config():\n  return c.Config(\n  )\n'
  )
  assert run(recipe.config_file({})) == config_lib.Config()
