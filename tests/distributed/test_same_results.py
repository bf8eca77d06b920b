"""Two processes compute what one does, and continue its runs.

With replicated parameters they have two devices each. With split ones they have four each, and read
their shares of the weights alone.
"""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
import quick_compilation

from irl_jax.models import pretrained
from irl_jax.training import optimizer

pytestmark = pytest.mark.slow  # every test starts processes

SCRIPT = 'tests/distributed/trainings.py'


@pytest.fixture(scope='module')
def trainings():
  """The functions of the script, for this single process."""
  spec = importlib.util.spec_from_file_location(
    'trainings', pathlib.Path(__file__).with_name('trainings.py')
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  adamw = optimizer.adamw
  yield module
  optimizer.adamw = adamw


@pytest.fixture(scope='module', params=[('replicated', 2), ('fsdp', 4)], ids=lambda way: way[0])
def folder(request, trainings, policy, start, free_port, tmp_path_factory):
  """A folder in which two processes trained from the start, and continued a run of this one."""
  way, devices = request.param
  folder = tmp_path_factory.mktemp('two')
  pretrained.save(folder / 'policy', policy, '')
  trainings.train(policy, folder / 'second', 1)
  address = f'127.0.0.1:{free_port()}'
  flags = {'XLA_FLAGS': quick_compilation.on_devices(devices)}
  processes = [
    start(SCRIPT, address, str(index), str(folder / 'policy'), str(folder), way, **flags)
    for index in (0, 1)
  ]
  for process in processes:
    assert process.wait() == 0, process.printed
  return folder


@pytest.fixture(scope='module')
def alone(trainings, policy, folder):
  """(policy, log, texts) of both runs on one process; the first has one more update."""
  whole = trainings.train(policy, folder / 'alone', 1)
  return {'first': whole, 'second': trainings.train(policy, folder / 'first', 2)}


def leaves(folder, name):
  with np.load(folder / name) as file:
    return [file[key] for key in file.files]


def test_the_first_rollout_and_its_gradients_are_those_of_one_process(policy, folder, alone):
  trained, log, read = alone['first']
  of_two = json.loads((folder / 'first_0.json').read_text())
  assert of_two['read'] == read and len(read) > 8  # every text that was sampled
  for name, value in log[0].items():
    np.testing.assert_allclose(of_two['log']['0'][name], value, atol=1e-5, err_msg=name)
  changes = 0.0
  for start, one, two in zip(
    *map(jax.tree.leaves, (policy.params, trained.params)), leaves(folder, 'first_0.npz')
  ):
    np.testing.assert_allclose((two - start) / 0.1, (one - start) / 0.1, atol=1e-5)
    changes += np.abs(one - start).sum()
  assert changes > 0.01


def test_both_processes_read_and_hold_the_same(folder):
  for name in ('first', 'second'):
    assert (folder / f'{name}_0.json').read_text() == (folder / f'{name}_1.json').read_text()
    for one, other in zip(leaves(folder, f'{name}_0.npz'), leaves(folder, f'{name}_1.npz')):
      np.testing.assert_array_equal(one, other)


def test_a_checkpoint_of_two_processes_is_continued_by_one_and_the_reverse(folder, alone):
  trained, log, _ = alone['second']
  of_two = json.loads((folder / 'second_0.json').read_text())['log']
  assert list(log) == [1] and list(of_two) == ['1']  # neither started over
  for one, two in zip(jax.tree.leaves(trained.params), leaves(folder, 'second_0.npz')):
    np.testing.assert_allclose(two, one, atol=1e-5)
