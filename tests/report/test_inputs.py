"""A run's folder is read as it is; what is missing is empty, and what is damaged is named."""

import json

import numpy as np
import pytest

from irl_jax.errors import ConfigError
from irl_jax.report import inputs
from irl_jax.report import summary as summary_lib


def test_a_whole_run(make_run):
  found = inputs.read(make_run(seeds=2))
  assert (len(found.recovery.seeds), len(found.texts), len(found.pairs), found.rewards().shape) == (
    2,
    120,
    120,
    (120, 2),
  )
  assert found.config['name'] == 'made-up' and found.versions['python'] == '3.11.7'
  np.testing.assert_array_equal(found.rewards()[3], found.texts[3]['rewards'])
  toxic, whose = found.toxic()
  np.testing.assert_array_equal(toxic, [row['true_reward'] < 0 for row in found.texts])
  assert whose == 'the true reward'


def test_labels_stand_in_for_the_true_reward(make_run):
  found = inputs.read(make_run())
  for row in found.texts:
    row['true_reward'] = None
  toxic, whose = found.toxic()
  assert whose == "people's labels" and toxic.sum() == sum(row['label'] for row in found.texts)
  found.texts[5]['label'] = None
  assert found.toxic() is None and found.labels() is None and found.true_rewards() is None


def test_what_a_run_did_not_write_is_empty(make_run):
  folder = make_run()
  for path in (*(folder / 'evaluation').iterdir(), folder / 'log.jsonl'):
    path.unlink()
  found = inputs.read(folder)
  assert (found.texts, found.pairs, found.attributions, found.log) == ([], [], [], [])
  assert found.toxic() is None and len(found.rewards()) == 0


def test_a_line_of_the_log_that_a_kill_cut_short_is_left_out(make_run):
  folder = make_run()
  with (folder / 'log.jsonl').open('a') as file:
    file.write('[1]\n{"stage": "rlhf"}\n{"stage": "rlhf", "step": 30, "objective/k')
  assert [row['step'] for row in inputs.read(folder).stage_log('rlhf')] == list(range(30))


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('config.json', None, 'is not the folder of a run'),
    ('summary.json', None, 'summary.json does not exist: finish'),
    ('summary.json', '{"irl": ', 'summary.json is incomplete or damaged'),
    ('summary.json', '[]', 'is not a JSON object'),
    ('config.json', '\xff', 'config.json is incomplete or damaged'),
    ('evaluation/texts.jsonl', '{"text": "a"}\n\n{"text', 'line 2: is not a JSON object'),
    ('evaluation/pairs.jsonl', '7\n', 'pairs.jsonl, line 1'),
  ],
)
def test_a_damaged_folder_is_refused(make_run, name, content, message):
  folder = make_run()
  if content is None:
    (folder / name).unlink()
  else:
    (folder / name).write_bytes(content.encode('latin-1'))
  with pytest.raises(ConfigError, match=message.replace('.', r'\.')) as caught:
    inputs.read(folder)
  assert '\n' not in str(caught.value) and str(folder) in str(caught.value)


def test_the_steps_of_a_stage_are_in_order():
  log = [{'stage': 'a', 'step': 2}, {'stage': 'b', 'step': 1}, {'stage': 'a', 'step': 1}]
  found = inputs.Inputs(summary_lib.Summary(), {}, {}, log=json.loads(json.dumps(log)))
  assert [row['step'] for row in found.stage_log('a')] == [1, 2]
