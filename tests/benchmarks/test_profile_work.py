"""Where the time goes, by benchmarks/profile_work.py."""

import gzip
import json
import pathlib
import re
import runpy
import subprocess
import sys

import pytest

from irl_jax import errors

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))  # as for a program that lies there
profile_work = runpy.run_path(str(ROOT / 'benchmarks' / 'profile_work.py'))


def write_trace(folder, events):
  (folder / 'run').mkdir()
  (folder / 'run' / 'vm.trace.json.gz').write_bytes(
    gzip.compress(json.dumps({'traceEvents': events}).encode())
  )


def test_operations_of_a_kind_are_added_up(tmp_path):
  operation = lambda name, microseconds: {'ph': 'X', 'dur': microseconds, 'args': {'hlo_op': name}}
  write_trace(
    tmp_path,
    [
      operation('dot.1', 3000),
      operation('dot.22', 1000),
      operation('add_fusion', 500),
      {'ph': 'X', 'dur': 9e9, 'name': 'python'},
      {'ph': 'M'},
    ],
  )
  kinds = profile_work['by_kind'](tmp_path, 2)
  assert kinds == [('dot', 1.0, 2.0), ('add_fusion', 0.5, 0.25)]
  assert profile_work['table'](kinds, 1).splitlines()[2:] == [
    '| dot | 1 | 2.00 |',
    '| 1 others | | 0.25 |',
    '| sum | | 2.25 |',
  ]


def test_a_trace_without_operations_is_an_error(tmp_path):
  write_trace(tmp_path, [{'ph': 'X', 'dur': 1, 'name': 'python'}])
  with pytest.raises(errors.IrlJaxError, match='CPU only'):
    profile_work['by_kind'](tmp_path, 1)


@pytest.mark.parametrize('work', ['decode', 'train', 'score'])
def test_a_small_model_is_traced(work):
  command = [
    sys.executable,
    str(ROOT / 'benchmarks' / 'profile_work.py'),
    f'--work={work}',
    '--shape=tiny',
    '--models=',
  ]
  done = subprocess.run(command, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  milliseconds = [float(row) for row in re.findall(r'\| ([\d.]+) \|$', done.stdout, re.MULTILINE)]
  assert len(milliseconds) > 5
  assert sum(milliseconds[:-1]) == pytest.approx(milliseconds[-1], abs=0.1) and milliseconds[-1] > 0
