"""Runs of the command line that take seconds: the tiny models, a few rows of letters, few updates."""

import pathlib
import runpy
from typing import NamedTuple

import numpy as np
import pytest

from irl_jax.command_line import launch as command_line
from irl_jax.data import rows as rows_lib
from irl_jax.models import pretrained

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """
from irl_jax import config as c

def get_config():
  return c.Config(
      stages=('data', 'sft', 'rlhf'), models=c.Models(base={base!r}, classifier={classifier!r}),
      data=c.Data(source={rows!r}, max_prompt_tokens=8),
      sft=c.Supervised(learning_rate=0.01, epochs=4, batch_size=16, warmup_steps=2, max_tokens=12, checkpoint_every=2),
      sampling=c.Sampling(max_new_tokens=4, min_new_tokens=2, batch_size=16),
      ppo=c.PPO(learning_rate=1e-3, steps=4, rollouts_per_step=16, minibatch_size=8, epochs=1, trained_blocks=1,
                checkpoint_every=1))
"""


class Ended(NamedTuple):
  """How a command ended."""

  code: int
  errors: str  # stderr

  @property
  def message(self) -> str:
    """The line that ended a command: the last one, and the only one that is an error."""
    lines = [line for line in self.errors.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and self.errors.rstrip().endswith(lines[0])
    return lines[0]


class Places(NamedTuple):
  """What a config names."""

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
def train(places, capfd):
  """train(workdir, 'sft', '--flag=value', ...) -> Ended: train.py up to a stage, in this process."""

  def run(workdir: pathlib.Path, stage: str, *arguments: str) -> Ended:
    module = runpy.run_path(str(ROOT / 'launch' / 'train.py'))
    arguments = [
      'train.py',
      f'--config={places.config}',
      f'--workdir={workdir}',
      f'--stages=data,{stage}',
      *arguments,
    ]
    capfd.readouterr()
    return Ended(
      command_line.run_main(module['main'], module['FLAGS'], '', arguments), capfd.readouterr().err
    )

  return run


@pytest.fixture(scope='session')
def files_of():
  """files_of(folder): the bytes of every file by its name."""
  return lambda folder: {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }
