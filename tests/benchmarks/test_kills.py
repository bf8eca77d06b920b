"""Runs that are killed end as those that nothing disturbs: benchmarks/kills.py on the smallest whole run."""

import pathlib
import re
import runpy
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def kills():
  return runpy.run_path(str(ROOT / 'benchmarks' / 'kills.py'))


def test_three_kills_change_no_byte(tmp_path):
  command = [sys.executable, str(ROOT / 'benchmarks' / 'kills.py'), f'--config_file={ROOT / "configs" / "smoke.py"}',
             '--kills=3', f'--workdir={tmp_path / "killed"}']
  done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
  assert done.returncode == 0, done.stderr
  rows = re.findall(r'^\| [123] \| (.*?) \|', done.stdout, re.MULTILINE)
  assert len(rows) == 3 and any('none' not in row for row in rows), done.stdout
  count, = re.findall(r'^(\d+) files are the same, byte for byte', done.stdout, re.MULTILINE)
  assert int(count) >= 15


@pytest.mark.parametrize('name, content', [('summary.json', '{"n": 2}'), ('log.jsonl', ''), ('demos/train.jsonl', 'x')])
def test_a_file_that_differs_or_is_missing_is_found(kills, tmp_path, name, content):
  for folder in ('killed', 'undisturbed'):
    (tmp_path / folder / 'demos').mkdir(parents=True)
    (tmp_path / folder / 'summary.json').write_text('{"n": 1}')
    (tmp_path / folder / 'log.jsonl').write_text('{}\n')
  assert kills['differing'](tmp_path / 'killed', tmp_path / 'undisturbed') == (2, [])
  (tmp_path / 'killed' / name).write_text(content)
  _, names = kills['differing'](tmp_path / 'killed', tmp_path / 'undisturbed')
  assert names == [name]


def test_every_stage_is_met_before_one_is_met_twice(kills):
  timings = {'data': 1.0, 'sft': 100.0, 'rlhf': 10.0}
  few, many = kills['moments'](timings, 3, seed=0), kills['moments'](timings, 20, seed=0)
  assert sorted(moment.stage for moment in few) == sorted(timings)
  assert {moment.stage for moment in many} == set(timings) and len(many) == 20
  assert all(0 <= moment.seconds <= timings[moment.stage] for moment in many)
  assert any(moment.in_a_save for moment in many) and not any(m.in_a_save for m in many if m.stage == 'data')
