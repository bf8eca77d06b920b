"""Row 1: runs that are killed end as one that nothing disturbs; when `tests/faults/kills.py` kills, what it compares."""

import pathlib
import re
import runpy
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
kills = runpy.run_path(str(ROOT / 'tests' / 'faults' / 'kills.py'))


def test_moments_are_in_every_stage_first_and_then_where_the_time_goes():
  timings = {'report': 1.0, 'data': 2.0, 'rlhf': 97.0}
  for seed in range(20):
    found = kills['moments'](timings, 30, seed)
    assert [moment.stage for moment in found] == sorted(
      (moment.stage for moment in found), key=kills['STAGES'].index
    )
    counts = [
      sum(moment.stage == stage for moment in found) for stage in ('data', 'rlhf', 'report')
    ]
    assert min(counts) >= 1 and counts[1] > 20
    assert all(moment.seconds >= 0 for moment in found)
    for stage, lasts in timings.items():  # the run is still in the stage when the last one comes
      assert sum(moment.seconds for moment in found if moment.stage == stage) <= lasts / 2
    assert {moment.stage for moment in found if moment.in_a_save} == {'rlhf'}
  assert (
    kills['moments'](timings, 4, 0)
    == kills['moments'](timings, 4, 0)
    != kills['moments'](timings, 4, 1)
  )


def test_three_kills_of_a_whole_run_change_no_byte(tmp_path):
  command = [
    sys.executable,
    str(ROOT / 'tests' / 'faults' / 'kills.py'),
    '--kills=3',
    f'--config_file={ROOT / "configs" / "smoke.py"}',
    f'--workdir={tmp_path / "killed"}',
  ]
  done = subprocess.run(command, capture_output=True, text=True, timeout=900)
  assert done.returncode == 0, done.stderr
  met = re.findall(r'^\| [123] \| (.*?) \|', done.stdout, re.MULTILINE)
  assert len(met) == 3 and set(met) <= set(kills['STAGES']), done.stdout
  (count,) = re.findall(r'^(\d+) files are the same, byte for byte', done.stdout, re.MULTILINE)
  assert int(count) >= 15


@pytest.fixture
def lasting(monkeypatch):
  """Has every run be a report that lasts some seconds, and ends with an exit code."""

  def patch(seconds: float, exit_code: int = 0):
    def start(config, folder, errors):
      del config, folder
      return subprocess.Popen(
        ['sh', '-c', f'echo report: starts >&2; sleep {seconds}; exit {exit_code}'],
        stderr=errors.open('w'),
      )

    monkeypatch.setitem(kills['killed'].__globals__, 'start', start)

  return patch


def test_a_kill_that_comes_when_the_run_is_over_is_tried_earlier(tmp_path, lasting):
  lasting(0.5)
  kill, went_on = kills['killed']('x', tmp_path, kills['Moment']('report', 4.0, True), 'killed')
  assert kill.stage == 'report' and went_on == 'report, from its start'
  assert 1 < len(list(tmp_path.iterdir())) < 12  # a log of each attempt


def test_a_run_that_fails_is_not_tried_again(tmp_path, lasting):
  lasting(0, exit_code=3)
  with pytest.raises(kills['IrlJaxError'], match='x fails: see .*killed_0.log'):
    kills['killed']('x', tmp_path, kills['Moment']('report', 4.0, False), 'killed')


def test_what_differs_is_named(tmp_path):
  for name in ('one', 'two'):
    (tmp_path / name / 'irl').mkdir(parents=True)
    (tmp_path / name / 'summary.json').write_text('{}')
    (tmp_path / name / 'irl' / 'model.safetensors').write_text(name)
  (tmp_path / 'two' / 'log.jsonl').write_text('')
  assert kills['differing'](tmp_path / 'one', tmp_path / 'two') == (
    3,
    ['irl/model.safetensors', 'log.jsonl'],
  )
