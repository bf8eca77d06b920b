"""Row 1: runs that are killed end as one that nothing disturbs; when `benchmarks/kills.py` kills, what it compares."""

import pathlib
import re
import runpy
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
kills = runpy.run_path(str(ROOT / 'benchmarks' / 'kills.py'))


def test_moments_are_in_every_stage_first_and_then_where_the_time_goes():
  timings = {'report': 1.0, 'data': 2.0, 'rlhf': 97.0}
  for seed in range(20):
    found = kills['moments'](timings, 30, seed)
    assert [moment.stage for moment in found] == sorted((moment.stage for moment in found), key=kills['STAGES'].index)
    counts = [sum(moment.stage == stage for moment in found) for stage in ('data', 'rlhf', 'report')]
    assert min(counts) >= 1 and counts[1] > 20
    assert all(0 <= moment.seconds <= timings[moment.stage] for moment in found)
    assert {moment.stage for moment in found if moment.in_a_save} == {'rlhf'}
  assert kills['moments'](timings, 4, 0) == kills['moments'](timings, 4, 0) != kills['moments'](timings, 4, 1)


def test_three_kills_of_a_whole_run_change_no_byte(tmp_path):
  command = [sys.executable, str(ROOT / 'benchmarks' / 'kills.py'), '--kills=3',
             f'--config_file={ROOT / "configs" / "smoke.py"}', f'--workdir={tmp_path / "killed"}']
  done = subprocess.run(command, capture_output=True, text=True, timeout=900)
  assert done.returncode == 0, done.stderr
  met = re.findall(r'^\| [123] \| (.*?) \|', done.stdout, re.MULTILINE)
  assert len(met) == 3 and any('none' not in stage for stage in met), done.stdout
  count, = re.findall(r'^(\d+) files are the same, byte for byte', done.stdout, re.MULTILINE)
  assert int(count) >= 15


def test_what_differs_is_named(tmp_path):
  for name in ('one', 'two'):
    (tmp_path / name / 'irl').mkdir(parents=True)
    (tmp_path / name / 'summary.json').write_text('{}')
    (tmp_path / name / 'irl' / 'model.safetensors').write_text(name)
  (tmp_path / 'two' / 'log.jsonl').write_text('')
  assert kills['differing'](tmp_path / 'one', tmp_path / 'two') == (3, ['irl/model.safetensors', 'log.jsonl'])
