"""Every config of configs/ can run, and its docstring holds the command."""

import ast
import pathlib

import pytest

from irl_jax.command_line import config_files

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / 'configs').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_loads_and_says_how_it_is_run(path):
  assert config_files.load(str(path)).name == path.stem
  command = f'python launch/train.py --config=configs/{path.name}'
  assert command in ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
