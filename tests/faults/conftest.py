"""Runs of the command line that take seconds: tiny models, a few rows of letters, few updates."""

import logging
import pathlib
import runpy
import shutil
from typing import NamedTuple

import commands
import documented
import numpy as np
import pytest

from irl_jax.command_line import launch
from irl_jax.data import rows as rows_lib
from irl_jax.models import pretrained

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """
from irl_jax import config as c

def get_config():
  return c.Config(
    stages=('data', 'sft', 'rlhf'),
    models=c.Models(base={base!r}, classifier={classifier!r}),
    data=c.Data(source={rows!r}, max_prompt_tokens=8),
    sft=c.Supervised(
      learning_rate=0.01, epochs=4, batch_size=16, warmup_steps=2, max_tokens=12, checkpoint_every=2
    ),
    sampling=c.Sampling(max_new_tokens=4, min_new_tokens=2, batch_size=16),
    ppo=c.PPO(
      learning_rate=1e-3, steps=4, rollouts_per_step=16, minibatch_size=8, epochs=1,
      trained_blocks=1, checkpoint_every=1
    ),
  )
"""


class Ended(NamedTuple):
  """The end of a command."""

  code: int
  errors: str  # stderr
  output: str = ''  # stdout

  @property
  def message(self) -> str:
    """The line that ended a command: the last one, and the only one that is an error."""
    lines = [line for line in self.errors.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and self.errors.rstrip().endswith(lines[0])
    return lines[0]

  @property
  def warnings(self) -> str:
    """The warnings, and the last line of a command without an error."""
    lines = [line for line in self.errors.splitlines() if line.startswith('warning: ')]
    return ' / '.join([*lines, *self.output.splitlines()[-1:]])


class Places(NamedTuple):
  """The files of a run."""

  config: pathlib.Path
  base: pathlib.Path


@pytest.fixture(scope='session')
def places(tmp_path_factory, policy, classifier) -> Places:
  """A config and its models and rows."""
  folder = tmp_path_factory.mktemp('places')
  base, toxicity, rows = folder / 'base', folder / 'classifier', folder / 'rows.jsonl'
  pretrained.save(base, policy, '')
  pretrained.save(toxicity, classifier, '')
  words = np.random.default_rng(0).choice(list('abcdefgh'), (80, 4, 3))
  rows_lib.write_jsonl(rows, [{'text': ' '.join(map(''.join, row))} for row in words])
  config = folder / 'config.py'
  config.write_text(CONFIG.format(base=str(base), classifier=str(toxicity), rows=str(rows)))
  return Places(config, base)


@pytest.fixture
def run(capfd):
  """Runs a command in this process: `run('score', '--flag=value', ...) -> Ended`."""

  def run(launcher: str, *arguments: str) -> Ended:
    module = runpy.run_path(str(ROOT / 'launch' / f'{launcher}.py'))
    capfd.readouterr()
    code = launch.run_main(module['main'], module['FLAGS'], '', [f'{launcher}.py', *arguments])
    output, errors = capfd.readouterr()
    return Ended(code, errors, output)

  return run


@pytest.fixture
def train(places, run):
  """Runs train.py up to a stage: `train(workdir, 'sft', '--flag=value', ...) -> Ended`."""
  return lambda workdir, stage, *arguments: run(
    'train',
    f'--config={places.config}',
    f'--workdir={workdir}',
    f'--stages=data,{stage}',
    *arguments,
  )


@pytest.fixture(scope='session')
def models(tmp_path_factory) -> pathlib.Path:
  """model/ and classifier/, whole."""
  folder = tmp_path_factory.mktemp('models')
  commands.make_models(folder)
  return folder


@pytest.fixture
def folder(models, tmp_path) -> pathlib.Path:
  """A folder of its own for a test, with model/ and classifier/ to damage."""
  return pathlib.Path(shutil.copytree(models, tmp_path / 'given'))


@pytest.fixture
def ends_as_documented(run, folder, monkeypatch):
  """Runs a command that must print what docs/faults.md says of a fault."""

  def check(fault: str, launcher: str, arguments: list[str]) -> None:
    # With handlers of pytest's, the command would not set up its own.
    with monkeypatch.context() as patch:
      patch.setattr(logging.getLogger(), 'handlers', [])
      ended = run(launcher, *arguments)
    message = ended.message if ended.code else ended.warnings
    documented.check(fault, message.replace(f'{folder}/', ''), ended.code, folder)

  return check


@pytest.fixture(scope='session')
def files_of():
  """Reads all files of a folder, by their names."""
  return lambda folder: {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }
