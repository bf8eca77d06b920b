"""Row 1: which moments `benchmarks/kills.py` kills at, and what it calls the same."""

import pathlib
import runpy

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


def test_what_differs_is_named(tmp_path):
  for name in ('one', 'two'):
    (tmp_path / name / 'irl').mkdir(parents=True)
    (tmp_path / name / 'summary.json').write_text('{}')
    (tmp_path / name / 'irl' / 'model.safetensors').write_text(name)
  (tmp_path / 'two' / 'log.jsonl').write_text('')
  assert kills['differing'](tmp_path / 'one', tmp_path / 'two') == (3, ['irl/model.safetensors', 'log.jsonl'])
