"""benchmarks/device.sh skips the parts that have a result; its page has the results of all."""

import gzip
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

import device_page  # noqa: E402

PARTS = ['tests', 'smoke', 'decode_tiny', 'ppo_tiny', 'irl_tiny', 'profile']
# Stands for the interpreter: notes how it is called, and fails where it is told to.
INTERPRETER = """#!/bin/sh
echo "$@" >> {folder}/calls
case "$*" in
  *--worst*) echo decode_tiny ;;
  *"{failing}"*) exit 3 ;;
  *"{slow}"*) echo $$ > {folder}/pid; exec sleep 60 ;;
esac
"""


def start(folder, failing='nothing', slow='nothing'):
  """Starts device.sh with an interpreter that does nothing."""
  calls, stub = folder / 'calls', folder / 'python'
  calls.write_text('')
  stub.write_text(INTERPRETER.format(folder=folder, failing=failing, slow=slow))
  stub.chmod(0o755)
  environment = os.environ | {'PYTHON': str(stub), 'DEVICE_SIZES': 'tiny'}
  command = [str(ROOT / 'benchmarks' / 'device.sh'), str(folder / 'out')]
  return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def run(folder, **options):
  """Runs device.sh so; returns its exit code, what it printed, and the calls."""
  process = start(folder, **options)
  printed, _ = process.communicate(timeout=60)
  return process.returncode, printed, (folder / 'calls').read_text().splitlines()


def test_a_part_that_has_a_result_is_skipped(tmp_path):
  code, _, calls = run(tmp_path)
  assert code == 0
  assert sorted(file.name for file in (tmp_path / 'out/parts').iterdir()) == sorted(PARTS)
  assert len(calls) == len(PARTS) + 2  # the worst group, and the page
  assert '-m device' in calls[0] and 'tests/test_device.py' in calls[0]
  (tmp_path / 'out/parts/ppo_tiny').unlink()
  code, _, calls = run(tmp_path)
  assert code == 0 and len(calls) == 3
  assert '--only=ppo_tiny' in calls[0] and '--resume' in calls[0]


def test_a_part_that_fails_is_named_and_the_others_run(tmp_path):
  _, printed, calls = run(tmp_path, failing='--only=ppo_tiny')
  assert 'ppo_tiny: exit code 3' in printed and len(calls) == len(PARTS) + 2
  code, _ = (tmp_path / 'out/parts/ppo_tiny').read_text().split()
  assert code == '3' and (tmp_path / 'out/parts/irl_tiny').read_text().startswith('0 ')


def test_a_part_that_is_interrupted_ends_and_is_repeated(tmp_path):
  process, pid = start(tmp_path, slow='--only=ppo_tiny'), tmp_path / 'pid'
  wait_for(lambda: pid.is_file() and pid.read_text().endswith('\n'))
  process.terminate()
  process.communicate(timeout=60)
  wait_for(lambda: not pathlib.Path('/proc', pid.read_text().strip()).exists())
  assert not (tmp_path / 'out/parts/ppo_tiny').exists() and process.returncode == 130
  code, _, calls = run(tmp_path)
  assert code == 0 and '--only=ppo_tiny' in calls[0]


def wait_for(condition):
  for _ in range(600):
    if condition():
      return
    time.sleep(0.1)
  raise AssertionError('it did not happen')


def test_a_size_that_does_not_exist_is_refused(tmp_path):
  command = [str(ROOT / 'benchmarks' / 'device.sh'), str(tmp_path / 'out')]
  environment = os.environ | {'DEVICE_SIZES': 'huge'}
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
  assert done.returncode == 2 and 'must be gpu or tiny' in done.stderr
  assert not (tmp_path / 'out').exists()


def group(name, matmul, memory):
  limit = {'flops': 1.0, 'bytes': 1.0, 'matmul': matmul, 'memory': memory, 'mfu': matmul / 2}
  row = {'name': 'ours', 'seconds': 2.0, 'low': 1.0, 'high': 3.0, 'n': 5, 'idle': 0.0}
  row |= {'parts': {}, 'note': '', 'limit': limit}
  return {'name': name, 'title': f'{name} at a size', 'unit': '', 'note': '', 'contestants': [row]}


@pytest.fixture
def finished(tmp_path):
  """A folder of device.sh, as it is before the page is written."""
  groups = [group('decode_70m', 0.1, 0.6), group('ppo_70m', 0.45, 0.2), group('irl_70m', 0.7, 0.1)]
  (tmp_path / 'speed.json').write_text(json.dumps({'groups': groups, 'machine': None}))
  (tmp_path / 'parts').mkdir()
  (tmp_path / 'parts/tests').write_text('1 75\n')
  (tmp_path / 'parts/ppo_70m').write_text('0 31\n')
  cases = '<testcase classname="a" name="b"/><testcase classname="a" name="c"><skipped/></testcase>'
  cases += '<testcase classname="a" name="d"><failure/></testcase>'
  (tmp_path / 'tests.xml').write_text(f'<testsuites><testsuite>{cases}</testsuite></testsuites>')
  trace = tmp_path / 'traces/ppo_70m/plugins/host.trace.json.gz'
  trace.parent.mkdir(parents=True)
  events = [('dot', 2e3), ('add', 1e3), ('dot', 5e3), (None, 9e9)]
  events = [{'dur': dur, 'args': {'hlo_op': op} if op else {}} for op, dur in events]
  trace.write_bytes(gzip.compress(json.dumps({'traceEvents': events}).encode()))
  return tmp_path


def test_the_worst_group_reaches_least_of_the_limit_that_binds_it(finished, capsys):
  assert device_page.main(['', str(finished), '--worst']) == 0
  assert capsys.readouterr().out == 'ppo_70m\n'


def test_without_a_measurement_there_is_no_worst_group(tmp_path, capsys):
  assert device_page.main(['', str(tmp_path), '--worst']) == 1


def test_json_and_page_have_the_results_of_all_parts(finished):
  assert device_page.main(['', str(finished)]) == 1  # the part `tests` failed
  results = json.loads((finished / 'device.json').read_text())
  assert results['parts'] == {
    'tests': {'code': 1, 'seconds': 75},
    'ppo_70m': {'code': 0, 'seconds': 31},
  }
  assert results['tests'] == {'passed': ['a.b'], 'failed': ['a.d'], 'skipped': ['a.c']}
  assert results['profile'] == {'ppo_70m': {'dot': pytest.approx(0.007), 'add': 0.001}}
  page = (finished / 'device.md').read_text()
  assert '| tests | 1 | 75 s |' in page and 'failed: `a.d`' in page
  assert '1 passed, 1 failed, 1 skipped' in page and '| `dot` | 7 ms |' in page
  assert 'memory 60%, MFU 5.0%' in page
