"""Files that are scored or completed: interrupted, and continued to the same bytes."""

import json
import signal

import commands
import pytest

from irl_jax.command_line import files
from irl_jax.command_line import partial_output

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
    ('SIGTERM while a file is completed', 'generate', signal.SIGTERM, ['--max_new_tokens=4']),
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
