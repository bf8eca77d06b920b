"""log.jsonl has each step once, as JSON, whatever happened to the run."""

import json
import sys
from typing import Any

import numpy as np
import pytest

from irl_jax import errors
from irl_jax.runtime import metrics_log


@pytest.fixture(autouse=True)
def without_tensorboard(monkeypatch, request):
  """Hides TensorBoard, which is slow to import, from tests of other things."""
  if 'tensorboard' not in request.node.name:
    monkeypatch.setitem(sys.modules, 'tensorboardX', None)


def lines(workdir):
  return [
    json.loads(line, parse_constant=pytest.fail)
    for line in (workdir / 'log.jsonl').read_text().splitlines()
  ]


def test_lines_are_plain_json_and_there_at_once(tmp_path):
  with metrics_log.MetricsLog(tmp_path / 'new' / 'run') as log:
    log.log(
      'rlhf',
      np.int64(3),
      {
        'kl': np.float32(0.5),
        'n': np.int32(2),
        'bad': float('nan'),
        'inf': np.array([np.inf]),
        'none': None,
        'text': 'é',
      },
    )
    assert lines(tmp_path / 'new' / 'run') == [
      {
        'stage': 'rlhf',
        'step': 3,
        'kl': 0.5,
        'n': 2,
        'bad': None,
        'inf': None,
        'none': None,
        'text': 'é',
      }
    ]


def test_truncate_drops_the_stages_later_steps_only(tmp_path):
  with metrics_log.MetricsLog(tmp_path) as log:
    for stage in ('sft', 'rlhf'):
      for step in range(4):
        log.log(stage, step, {'loss': 0.1 * step})
    log.truncate('rlhf', 2)
    log.log('rlhf', 2, {'loss': 9.0})
  kept = [(line['stage'], line['step'], line['loss']) for line in lines(tmp_path)]
  assert kept == [
    ('sft', 0, 0.0),
    ('sft', 1, 0.1),
    ('sft', 2, 0.2),
    ('sft', 3, 0.1 * 3),
    ('rlhf', 0, 0.0),
    ('rlhf', 1, 0.1),
    ('rlhf', 2, 9.0),
  ]
  assert sorted(path.name for path in tmp_path.iterdir()) == ['log.jsonl']


def test_reopening_continues_and_drops_a_line_cut_short(tmp_path):
  with metrics_log.MetricsLog(tmp_path) as log:
    log.log('irl/seed_0', 0, {'loss': 1.0})
  with (tmp_path / 'log.jsonl').open('a') as file:
    file.write('{"stage": "irl/seed_0", "step": 1, "lo')  # killed here
  with metrics_log.MetricsLog(tmp_path) as log:
    log.log('irl/seed_0', 1, {'loss': 2.0})
  assert [(line['step'], line['loss']) for line in lines(tmp_path)] == [(0, 1.0), (1, 2.0)]


def test_tensorboard_holds_the_numbers_by_stage(tmp_path):
  pytest.importorskip('tensorboardX')
  with metrics_log.MetricsLog(tmp_path) as log:
    log.log('rlhf', 0, {'objective/kl': 1.0, 'text': 'x', 'bad': float('nan')})
    log.truncate('rlhf', 0)
    log.log('rlhf', 0, {'objective/kl': 2.0})
  written = b''.join(path.read_bytes() for path in (tmp_path / 'tensorboard' / 'rlhf').iterdir())
  assert written.count(b'objective/kl') == 2 and b'bad' not in written


def test_wandb_is_asked_for_and_missing(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(errors.ConfigError, match='pip install wandb'):
    metrics_log.MetricsLog(tmp_path, wandb_project='mine')


def test_wandb_is_sent_the_numbers(tmp_path, monkeypatch):
  sent: list[Any] = []

  class Wandb:
    def init(self, **settings):
      sent.append(settings)
      return self

    def log(self, metrics):
      sent.append(metrics)

    def finish(self):
      sent.append('finish')

  monkeypatch.setitem(sys.modules, 'wandb', Wandb())
  with metrics_log.MetricsLog(tmp_path, wandb_project='mine') as log:
    log.log('rlhf', 5, {'kl': 1.0, 'text': 'x'})
  assert sent == [
    {'project': 'mine', 'name': tmp_path.name, 'dir': str(tmp_path)},
    {'rlhf/step': 5, 'rlhf/kl': 1.0},
    'finish',
  ]
