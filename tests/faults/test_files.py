"""Files that are scored or completed: interrupted or on a full disk, and continued."""

import errno
import json
import os
import resource
import signal

import commands
import documented
import pytest

from irl_jax import errors
from irl_jax.command_line import files
from irl_jax.command_line import launch
from irl_jax.command_line import partial_output
from irl_jax.data import rows as rows_lib

ROWS = ''.join(json.dumps({'text': 'word ' * number}) + '\n' for number in range(10))


@pytest.fixture
def parts(monkeypatch):
  """Parts of three rows; `parts(signum)` sends a signal after two of them, `parts(0)` none."""
  monkeypatch.setattr(files, 'SCORED', 3)
  monkeypatch.setattr(files, 'COMPLETED', 3)
  monkeypatch.setattr(files, 'BATCHES', 0)
  append = partial_output.PartialOutput.append

  def stop(signum):
    def append_and_stop(self, rows):
      append(self, rows)
      if signum and self.kept == 6:
        signal.raise_signal(signum)

    monkeypatch.setattr(partial_output.PartialOutput, 'append', append_and_stop)

  return stop


@pytest.mark.parametrize(
  'fault, command, signum, flags',
  [
    ('SIGINT while a file is scored', 'score', signal.SIGINT, []),
    pytest.param(
      'SIGTERM while a file is completed',
      'generate',
      signal.SIGTERM,
      ['--max_new_tokens=4'],
      marks=pytest.mark.slow,
    ),
  ],
)
def test_a_stopped_call_continues_to_the_same_bytes(
  fault, command, signum, flags, folder, parts, run, ends_as_documented
):
  arguments = commands.score(folder, ROWS, flags=flags)
  parts(0)
  assert run(command, *arguments).code == 0
  whole = (folder / 'out.jsonl').read_bytes()
  (folder / 'out.jsonl').unlink()
  parts(signum)
  ends_as_documented(fault, command, arguments)
  assert not (folder / 'out.jsonl').exists()
  parts(0)
  ends_as_documented(
    'another call for that output', command, [*arguments, f'--model={folder / "classifier"}']
  )
  assert run(command, *arguments).code == 0
  assert (folder / 'out.jsonl').read_bytes() == whole
  assert not list(folder.glob('*.partial*'))


@pytest.mark.parametrize(
  'fault, command, signum, flags',
  [
    ('SIGINT before the first part of a file is scored', 'score', signal.SIGINT, []),
    pytest.param(
      'SIGTERM before the first part of a file is completed',
      'generate',
      signal.SIGTERM,
      ['--max_new_tokens=4'],
      marks=pytest.mark.slow,
    ),
  ],
)
def test_a_call_that_is_stopped_within_its_first_part_keeps_nothing(
  fault, command, signum, flags, folder, monkeypatch, ends_as_documented
):
  stop = lambda *_: signal.raise_signal(signum)
  monkeypatch.setattr(partial_output.PartialOutput, 'append', stop)
  ends_as_documented(fault, command, commands.score(folder, ROWS, flags=flags))
  assert not list(folder.glob('out.jsonl*'))


def full():
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_what_was_scored(folder, parts, run, monkeypatch, ends_as_documented):
  arguments = commands.score(folder, ROWS)
  parts(0)
  sync = os.fsync
  synced: list[None] = []

  def fill(number):
    synced.append(sync(number))
    if len(synced) == 4:  # of the call's description, and of three parts
      full()

  with monkeypatch.context() as patch:
    patch.setattr(os, 'fsync', fill)
    ends_as_documented('the disk is full while a file is scored', 'score', arguments)
  assert (folder / 'out.jsonl.partial').exists() and not (folder / 'out.jsonl').exists()
  assert run('score', *arguments).code == 0


def test_a_file_that_may_not_grow_is_a_full_disk(folder, run):
  rows = ''.join(json.dumps({'text': 'word ' * 400}) + '\n' for _ in range(100))
  arguments, before = commands.score(folder, rows), resource.getrlimit(resource.RLIMIT_FSIZE)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    ended = run('score', *arguments)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert ended.code == 5
  assert 'cannot be written to: File too large; nothing is kept. Free space' in ended.message
  assert not list(folder.glob('out.jsonl*'))
  assert run('score', *arguments).code == 0


def test_a_full_disk_is_no_mistake_of_the_command_line(tmp_path, monkeypatch):
  monkeypatch.setattr(os, 'fsync', lambda _: full())
  with pytest.raises(errors.CheckpointError) as refused:
    rows_lib.write_jsonl(tmp_path / 'rows.jsonl', [{}])
  documented.check(
    'the disk is full where a file of rows is written',
    f'error: {refused.value}'.replace(f'{tmp_path}/', ''),
    refused.value.exit_code,
    tmp_path,
  )


def test_stdout_is_part_of_the_page():
  rows = documented.rows()
  assert rows['stdout is closed, as by `head`'].codes == {launch.PIPE_CLOSED}
  what = 'a file or stdout cannot be written to'
  error = errors.unwritable(what, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
  assert rows['stdout is a full disk'].printed == f'error: {error}'
