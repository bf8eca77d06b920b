"""Killed runs end like an undisturbed one; and when kills.py kills, and what it compares."""

import pathlib
import re
import subprocess
import sys

import kills
import pytest

pytestmark = pytest.mark.slow  # every test runs the commands

ROOT = pathlib.Path(__file__).parents[2]


def test_moments_are_in_every_stage_first_and_then_where_the_time_goes():
  timings = {'report': 1.0, 'data': 2.0, 'rlhf': 97.0}
  for seed in range(20):
    chosen = kills.moments(timings, 30, seed)
    assert [moment.stage for moment in chosen] == sorted(
      (moment.stage for moment in chosen), key=kills.STAGES.index
    )
    counts = [
      sum(moment.stage == stage for moment in chosen) for stage in ('data', 'rlhf', 'report')
    ]
    assert min(counts) >= 1 and counts[1] > 20
    assert all(moment.seconds >= 0 for moment in chosen)
    for stage, lasts in timings.items():  # the run is still in the stage when the last one comes
      assert sum(moment.seconds for moment in chosen if moment.stage == stage) <= lasts / 2
    assert {moment.stage for moment in chosen if moment.in_a_save} == {'rlhf'}
  assert (
    kills.moments(timings, 4, 0) == kills.moments(timings, 4, 0) != kills.moments(timings, 4, 1)
  )


def test_kill_9_at_any_moment_changes_no_byte(tmp_path):
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
  assert len(met) == 3 and set(met) <= set(kills.STAGES), done.stdout
  (count,) = re.findall(r'^(\d+) files are the same, byte for byte', done.stdout, re.MULTILINE)
  assert int(count) >= 15


@pytest.fixture
def lasting(monkeypatch):
  """Replaces every run by a report that lasts some seconds and ends with an exit code."""

  def patch(seconds: float, exit_code: int = 0):
    def start(config, folder, errors):
      del config, folder
      return subprocess.Popen(
        ['sh', '-c', f'echo report: starts >&2; sleep {seconds}; exit {exit_code}'],
        stderr=errors.open('w'),
      )

    monkeypatch.setattr(kills, 'start', start)

  return patch


def test_a_kill_that_comes_too_late_is_tried_earlier(tmp_path, lasting):
  lasting(0.5)
  kill, continued = kills.killed('x', tmp_path, kills.Moment('report', 4.0, True), 'killed')
  assert kill.stage == 'report' and continued == 'report, from its start'
  assert 1 < len(list(tmp_path.iterdir())) < 12  # a log of each attempt


def test_a_run_that_fails_is_not_tried_again(tmp_path, lasting):
  lasting(0, exit_code=3)
  with pytest.raises(kills.IrlJaxError, match='x fails: see .*killed_0.log'):
    kills.killed('x', tmp_path, kills.Moment('report', 4.0, False), 'killed')


def test_what_differs_is_named(tmp_path):
  for name in ('one', 'two'):
    (tmp_path / name / 'irl').mkdir(parents=True)
    (tmp_path / name / 'summary.json').write_text('{}')
    (tmp_path / name / 'irl' / 'model.safetensors').write_text(name)
  (tmp_path / 'two' / 'log.jsonl').write_text('')
  assert kills.differing(tmp_path / 'one', tmp_path / 'two') == (
    3,
    ['irl/model.safetensors', 'log.jsonl'],
  )
