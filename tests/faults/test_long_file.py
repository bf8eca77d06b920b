"""A long file: scored with interruptions, in memory that does not depend on its length."""

import json

import long_file
import pytest

from irl_jax.command_line import files


@pytest.mark.slow
def test_an_interrupted_call_ends_with_the_same_bytes_in_the_same_memory(models, tmp_path):
  rows = 10 * files.SCORED
  ends = long_file.measure(str(models / 'model'), tmp_path.resolve(), rows, stops=2)
  assert [end.code for end in ends] == [0, 130, 130, 0]
  assert all(f' of {rows} rows are kept in ' in end.printed for end in ends[1:3])
  assert all(0.1 < end.peak < 2 for end in ends)
  with (tmp_path / 'stopped.jsonl').open() as lines:
    assert [json.loads(line)['id'] for line in lines] == list(range(rows))
