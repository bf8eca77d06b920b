"""SIGTERM and SIGINT end training after the current step, with everything finished saved."""

import signal

import documented
import pytest

from irl_jax.runtime import metrics_log


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A place for uninterrupted runs, one per stage, made by the first test that needs one."""
  return tmp_path_factory.mktemp('finished')


@pytest.mark.slow
@pytest.mark.parametrize(
  'fault, stage, signum, code, logged, saved',
  [
    ('SIGTERM in training', 'sft', signal.SIGTERM, 143, 8, 10),
    ('SIGINT in training', 'sft', signal.SIGINT, 130, 5, 7),
    ('SIGTERM in training', 'rlhf', signal.SIGTERM, 143, 1, 2),
  ],
)
def test_training_ends_after_the_step_in_hand_and_goes_on_as_if_nothing_was(
  train, finished, tmp_path, monkeypatch, fault, stage, signum, code, logged, saved
):
  """The signal comes as step `logged` is logged: in sft after, in rlhf before `requested`."""
  # Each stage has a run of its own: after sft, rlhf would start from the model that sft trained.
  finished = finished / stage
  if not finished.exists():
    assert train(finished, stage).code == 0
  log = metrics_log.MetricsLog.log

  def log_and_interrupt(self, name, step, metrics):
    log(self, name, step, metrics)
    if step == logged:
      signal.raise_signal(signum)

  with monkeypatch.context() as patch:
    patch.setattr(metrics_log.MetricsLog, 'log', log_and_interrupt)
    ended = train(tmp_path, stage)
  assert ended.code == code
  documented.check(fault, ended.message, ended.code, tmp_path)
  assert (tmp_path / stage / 'checkpoints' / str(saved)).is_dir() and not (
    tmp_path / stage / 'policy'
  ).exists()
  assert train(tmp_path, stage).code == 0
  of_stage = lambda folder: [
    line for line in (folder / 'log.jsonl').read_text().splitlines() if f'"{stage}"' in line
  ]
  assert of_stage(tmp_path) == of_stage(finished)
  weights = f'{stage}/policy/model.safetensors'
  assert (tmp_path / weights).read_bytes() == (finished / weights).read_bytes()
