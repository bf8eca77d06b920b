"""An audit from the command line: without texts and true reward, then with both and labels."""

import json
import pathlib

import numpy as np
import pytest

from irl_jax.data import rows as rows_lib

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'audit.py'
SMALL = [
  '--config.data.prompt_fraction=.5',
  '--config.data.max_prompt_tokens=8',
  '--config.data.sampled_prompts=400',
  '--config.sampling.max_new_tokens=8',
  '--config.irl.seeds=2',
  '--config.irl.learning_rate=1e-2',
  '--config.irl.max_tokens=32',
  '--config.evaluation.bootstrap_samples=20',
]


@pytest.fixture(scope='module')
def models(audited):
  """The flags of the models."""
  return {name: f'--config.models.{name}={folder}' for name, folder in audited.items()}


def nulls_without_reason(node, where='summary'):
  """The results that are null without a reason."""
  if isinstance(node, dict):
    for name, value in node.items():
      if value is None and name not in node.get('why', {}):
        yield f'{where}.{name}'
      yield from nulls_without_reason(value, f'{where}.{name}')
  elif isinstance(node, list):
    for number, value in enumerate(node):
      yield from nulls_without_reason(value, f'{where}[{number}]')


def read(folder):
  refuse = lambda constant: pytest.fail(f'{constant} in JSON')
  return json.loads((folder / 'summary.json').read_text(), parse_constant=refuse)


@pytest.mark.slow
def test_without_texts_and_without_a_true_reward(launch, models, tmp_path):
  assert (
    launch(
      'train',
      f'--config={CONFIG}',
      f'--workdir={tmp_path}',
      models['base'],
      models['aligned'],
      *SMALL,
    )
    == 0
  )
  summary = read(tmp_path)
  assert not list(nulls_without_reason(summary))
  assert summary['true_reward']['human_accuracy'] is None
  for seed in summary['irl']['seeds']:
    assert seed['heldout_texts'] is None or seed['heldout_texts']['auroc'] is None
    assert seed['heldout_pairs']['prefers_aligned'] > 0.6
    assert isinstance(seed['calibration']['zero'], float)
  assert summary['irl']['baselines']['dpo_implicit']['heldout_pairs']['prefers_aligned'] > 0.6
  assert all(
    row[f'true_reward_{side}'] is None
    for side in ('aligned', 'base')
    for row in rows_lib.read_jsonl(tmp_path / 'demos' / 'heldout.jsonl')
  )
  assert all(
    row['true_reward'] is None and row['label'] is None and len(row['rewards']) == 2
    for row in rows_lib.read_jsonl(tmp_path / 'evaluation' / 'texts.jsonl')
  )


@pytest.mark.slow
def test_with_texts_labels_and_a_true_reward(launch, models, tmp_path):
  rng = np.random.default_rng(0)
  texts = [' '.join(''.join(rng.choice(list('abcdefgh'), 3)) for _ in range(4)) for _ in range(200)]
  rows_lib.write_jsonl(
    tmp_path / 'texts.jsonl', [{'text': text, 'toxic': int('a' not in text)} for text in texts]
  )
  workdir = tmp_path / 'run'
  assert (
    launch(
      'train',
      f'--config={CONFIG}',
      f'--workdir={workdir}',
      *models.values(),
      *SMALL,
      f'--config.data.source={tmp_path / "texts.jsonl"}',
      '--config.data.label_field=toxic',
    )
    == 0
  )
  summary = read(workdir)
  assert not list(nulls_without_reason(summary))
  assert all(
    isinstance(seed['heldout_texts_human']['auroc'], float) for seed in summary['irl']['seeds']
  )
  row = rows_lib.read_jsonl(workdir / 'demos' / 'heldout.jsonl')[0]
  assert isinstance(row['true_reward_aligned'], float) and isinstance(
    row['true_reward_base'], float
  )


@pytest.mark.parametrize(
  'changed, code, message',
  [
    ({'aligned': '--config.models.aligned='}, 2, 'config.models.aligned is empty'),
    ({'aligned': 'base'}, 3, 'have the same weights'),
    (
      {'stages': '--config.stages=data,rlhf,demos'},
      2,
      'but stage rlhf of config.stages would also create it',
    ),
    ({'stages': '--config.stages=data,demos,irl,evaluate,rerlhf'}, 2, 'rerlhf measures'),
  ],
)
def test_refusals_are_one_line(launch, models, tmp_path, capsys, changed, code, message):
  given = {name: models[name] for name in ('base', 'aligned')} | changed
  if changed.get('aligned') == 'base':
    given['aligned'] = models['base'].replace('models.base', 'models.aligned')
  assert (
    launch('train', f'--config={CONFIG}', f'--workdir={tmp_path / "run"}', *given.values(), *SMALL)
    == code
  )
  errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
  assert len(errors) == 1 and message in errors[0]
