"""Communication between processes, of which there is one here; `tests/distributed` runs two."""

import numpy as np
import pytest

from irl_jax import errors
from irl_jax.runtime import processes


def test_one_process_is_the_first_and_agrees_with_itself():
  assert processes.is_first()
  assert processes.maximum(15) == 15
  assert processes.broadcast({'step': 7, 'name': 'ä'}) == {'step': 7, 'name': 'ä'}


def test_what_the_first_process_does_is_done_once_and_its_error_is_raised():
  done: list[int] = []
  processes.on_first(done.append)(3)
  assert done == [3]
  assert processes.on_first(lambda: [done[0], 'x'])() == [3, 'x']
  for where in (processes.on_first, processes.on_all):
    with pytest.raises(errors.CheckpointError, match='no space'):
      where(fail)()


def fail():
  raise errors.CheckpointError('no space')


def test_trees_that_differ_between_processes_are_refused_once(monkeypatch):
  mine, theirs = ({'x': np.arange(3.0) + offset, 'y': np.arange(2)} for offset in (0, 1))
  for other, differ in ((mine, False), (theirs, True)):
    sums = processes._checksum(other)
    values = iter([sums, -sums])  # the values of the other process, at the same two calls
    monkeypatch.setattr(processes, 'maximum', lambda value: max(value, next(values)))  # noqa: B023
    replicated = processes.SameTrees()
    replicated.add(mine)
    if differ:
      with pytest.raises(errors.InputError, match='the processes have different parameters'):
        replicated.verify()
    replicated.verify()


def test_another_process_that_fails_ends_this_one_with_its_exit_code(monkeypatch):
  monkeypatch.setattr(processes, 'maximum', lambda value: max(value, 5))
  with pytest.raises(errors.OtherProcessError, match='another process') as raised:
    processes.on_all(lambda: None)()
  assert raised.value.exit_code == 5
  monkeypatch.setattr(processes, 'broadcast', lambda value: [None, ['no space', 5]])
  monkeypatch.setattr(processes, 'is_first', lambda: False)
  with pytest.raises(errors.OtherProcessError, match='the first process failed: no space'):
    processes.on_first(fail)()
