"""Many steps: only the log grows, by one line per step."""

import gc
import os
import time

import long_run
import pytest

from irl_jax.runtime import metrics_log

STEPS = 150


def steps_in(folder):
  """Returns the names of the checkpoints in a folder, one that is being saved included."""
  return {path.name for path in folder.iterdir() if not path.name.startswith('.')}


@pytest.mark.slow
def test_memory_open_files_and_checkpoints_do_not_grow(train, tmp_path, monkeypatch):
  log = metrics_log.MetricsLog.log
  measured: dict[int, long_run.Usage] = {}

  def log_and_measure(self, stage, step, metrics):
    log(self, stage, step, metrics)
    if step % 50 == 49:
      for _ in range(1000):
        if len(steps_in(tmp_path / 'rlhf' / 'checkpoints')) <= 2:
          break
        time.sleep(0.01)  # a save is under way, and has files open
      gc.collect()
      measured[step] = long_run.usage(os.getpid(), tmp_path)

  monkeypatch.setattr(metrics_log.MetricsLog, 'log', log_and_measure)
  assert (
    train(
      tmp_path,
      'rlhf',
      f'--config.ppo.steps={STEPS}',
      '--config.ppo.checkpoint_every=5',
      '--config.ppo.learning_rate=1e-6',
    ).code
    == 0
  )
  first, last = measured[49], measured[149]
  assert list(measured) == [49, 99, 149]
  assert last.memory < first.memory + 15 and last.open_files <= first.open_files + 2
  assert steps_in(tmp_path / 'rlhf' / 'checkpoints') == {'145', '150'}
  two_steps = long_run.size_of(tmp_path / 'rlhf' / 'checkpoints')
  assert (
    max(now.checkpoints for now in measured.values()) < 1.7 * two_steps
  )  # a third one may be in the making
  lines = (tmp_path / 'log.jsonl').read_text().splitlines()
  assert len(lines) == STEPS and last.log < 1.1 * 3 * first.log


def test_sizes_are_those_of_all_files_below_a_folder(tmp_path):
  (tmp_path / 'a' / 'b').mkdir(parents=True)
  (tmp_path / 'a' / 'one').write_bytes(bytes(3000))
  (tmp_path / 'a' / 'b' / 'two').write_bytes(bytes(1000))
  assert long_run.size_of(tmp_path) == 0.004 and long_run.size_of(tmp_path / 'nowhere') == 0


def test_the_last_step_is_read_from_the_log(tmp_path):
  assert long_run.last_step(tmp_path) == -1
  (tmp_path / 'log.jsonl').write_text('{"stage": "rlhf", "step": 7}\n{"stage": "rl')
  assert long_run.last_step(tmp_path) == 7
  (tmp_path / 'log.jsonl').write_text('{"stage": "sft", "step": 9}\n')
  assert long_run.last_step(tmp_path) == -1
