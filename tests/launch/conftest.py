"""Runs a launcher as its command line would, in this process."""

import pathlib
import runpy

import pytest

from irl_jax.command_line import launch as command_line

LAUNCH = pathlib.Path(__file__).parents[2] / 'launch'


@pytest.fixture
def launch():
  """A function that runs a launcher, given its name and arguments, and returns its exit code."""

  def run(name: str, *arguments: str) -> int:
    module = runpy.run_path(str(LAUNCH / f'{name}.py'))
    return command_line.run_main(
      module['main'], module['FLAGS'], module['__doc__'] or '', [f'{name}.py', *arguments]
    )

  return run
