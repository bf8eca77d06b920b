"""Row 2: SIGTERM and SIGINT end training after the step in hand, with what it has done saved."""

import signal

import pytest

from irl_jax.runtime import metrics_log


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A place for runs that nothing interrupts, one for each stage, which the first test that wants it makes."""
  return tmp_path_factory.mktemp('finished')


@pytest.mark.parametrize(
  'stage, signum, code, logged, saved',
  [
    ('sft', signal.SIGTERM, 143, 8, 10),
    ('sft', signal.SIGINT, 130, 5, 7),
    ('rlhf', signal.SIGTERM, 143, 1, 2),
  ],
)
def test_training_ends_after_the_step_in_hand_and_goes_on_as_if_nothing_was(
  train, finished, tmp_path, monkeypatch, stage, signum, code, logged, saved
):
  """The signal comes when step `logged` is logged: in sft that is after its stop could be noticed, in rlhf before."""
  finished = (
    finished / stage
  )  # a run of its own: after sft, rlhf would start from what that has trained
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
  assert ended.message == (
    f'error: interrupted by {signal.Signals(signum).name}; all that is whole is saved. The same '
    'command continues'
  )
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
