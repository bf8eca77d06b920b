"""The irl stage: the demonstrations of each objective, their prompts, and the zero."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import errors
from irl_jax import rewards
from irl_jax import scoring
from irl_jax.config import Config
from irl_jax.config import IRL
from irl_jax.config import Models
from irl_jax.data import rows as rows_lib
from irl_jax.evaluation import zero
from irl_jax.irl import export
from irl_jax.irl import loop
from irl_jax.irl import prepare
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log
from irl_jax.stages import demonstrated
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import Run

ENTROPY = IRL(objective='maximum_entropy', samples_per_prompt=2)
ROWS = [
  {
    'prompt': prompt,
    'original': '',
    'aligned': aligned,
    'base': base,
    'true_reward_aligned': None,
    'true_reward_base': None,
  }
  for prompt, aligned, base in [('a', 'b', 'c'), ('a', 'd', 'd'), ('e', 'f', 'g'), ('e', 'h', 'i')]
]


@pytest.fixture
def start(tmp_path, policy, monkeypatch):
  """Returns a function that gives a run with ROWS in its splits; its base model is the policy."""
  monkeypatch.setattr(pretrained, 'load_language_model', lambda spec: policy)
  for split in ('train', 'validation'):
    rows_lib.write_jsonl(tmp_path / 'demos' / f'{split}.jsonl', ROWS)
    rows_lib.write_jsonl(tmp_path / 'data' / f'{split}.jsonl', ROWS)
  with metrics_log.MetricsLog(tmp_path, '') as log:
    yield lambda settings: Run(
      Config(stages=('irl',), irl=settings, models=Models(base='M')), tmp_path, log, jnp.float32
    )


@pytest.mark.parametrize(
  'settings, prompts', [(IRL(samples_per_prompt=2), ['a', 'e', 'e']), (ENTROPY, list('aaee'))]
)
def test_a_mean_over_the_samples_of_a_prompt_needs_them_all(start, monkeypatch, settings, prompts):
  class Trained(Exception):
    """The arguments of a training."""

  def train(base, training, validation, *unused, prompts, **more):
    raise Trained(len(training), len(validation), prompts)

  monkeypatch.setattr(loop, 'train', train)
  with pytest.raises(Trained) as given:
    recovery.irl(start(settings))
  assert given.value.args == (len(prompts), 3, prompts)


@pytest.mark.parametrize('label', ['source', 'likelihood', 'mixed'])
def test_the_log_ratios_that_demos_writes_are_the_labels_that_irl_reads(
  start, tmp_path, monkeypatch, policy, label
):
  run, counted = start(IRL(pair_label=label, seeds=1)), []

  def ratios(aligned, base, texts, batch_size, dtype):
    counted.append(len(texts))
    return [np.linspace(0, number / 3, len(ids)) for number, ids in enumerate(texts)]

  monkeypatch.setattr(demonstrated.likelihoods, 'cumulative_log_ratios', ratios)
  models = {'aligned': policy, 'base': policy}
  rows = {}
  for split in ('train', 'validation', 'heldout'):
    given = [dict(row, prompt_id=str(number)) for number, row in enumerate(ROWS)]
    rows[split] = demonstrated.with_log_ratios(run, models, given, split)
    rows_lib.write_jsonl(tmp_path / 'demos' / f'{split}.jsonl', rows[split])
  assert not any('log_ratio_base' in row for row in rows['heldout'])
  assert ['log_ratio_base' in row for row in rows['train']] == [
    label != 'source' and row['aligned'] != row['base'] for row in ROWS
  ]
  assert counted == ([] if label == 'source' else [6, 6])  # both texts of the pairs that differ
  (tmp_path / 'irl').mkdir()
  given = {}
  monkeypatch.setattr(
    recovery, 'recover_seed', lambda *arguments: given.update(arguments[2].keywords)
  )
  recovery.irl(run)
  if label == 'source':
    assert given['labels'] is None
    return
  used = [row for row in rows['train'] if row['aligned'] != row['base']]
  wholes = [row['log_ratio_aligned'][-1] - row['log_ratio_base'][-1] for row in used]
  soft = 1 / (1 + np.exp(-4 * np.array(wholes) / (np.std(wholes) or 1.0)))
  expected = soft if label == 'likelihood' else (1 + soft) / 2
  for of_set in given['labels']:
    np.testing.assert_allclose([one[-1] for one in of_set], expected, rtol=1e-5)


def test_log_ratios_of_other_tokens_are_refused(start, tmp_path):
  rows = [dict(row, prompt_id='7', log_ratio_aligned=[0.0], log_ratio_base=[0.0]) for row in ROWS]
  for split in ('train', 'validation'):
    rows_lib.write_jsonl(tmp_path / 'demos' / f'{split}.jsonl', rows)
  with pytest.raises(
    errors.ConfigError, match='the aligned text of prompt_id 7 has 1 log-ratios and 2 tokens'
  ):
    recovery.irl(start(IRL(pair_label='mixed')))


@pytest.mark.parametrize(
  'settings, expected',
  [
    (IRL(), ['1 of 4 training', '1 of 4 validation']),
    (ENTROPY, ['1 of 4 validation']),  # its training needs all samples of a prompt
  ],
)
def test_pairs_of_identical_texts_are_counted_in_the_log(
  start, tmp_path, monkeypatch, caplog, settings, expected
):
  (tmp_path / 'irl').mkdir()
  monkeypatch.setattr(recovery, 'recover_seed', lambda *unused: None)
  with caplog.at_level('INFO', logger='absl'):
    recovery.irl(start(settings))
  lines = [line for line in caplog.messages if 'left out' in line]
  assert lines == [
    f'irl: left out {counted} pairs, because the two completions are identical'
    for counted in expected
  ]


def test_the_zero_is_chosen_from_the_scores_of_the_exported_form(
  start, policy, monkeypatch, tmp_path
):
  trunk = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  parts = trunk | {'reward_head': heads.init_reward_head(jax.random.key(1), 16)}, {}
  monkeypatch.setattr(loop, 'train', lambda *unused, **more: parts)
  recovery.irl(start(IRL(seeds=1)))
  calibrated = json.loads((tmp_path / 'irl' / 'seed_0' / 'calibration.json').read_text())
  texts = [row['prompt'] + row[side] for side in ('aligned', 'base') for row in ROWS]
  uncentred = rewards.recovered_reward(export.reward_model(policy, parts))(texts)
  assert calibrated['zero'] == zero.otsu(uncentred) != 0
  scores = rewards.load(str(tmp_path / 'irl'))(texts)
  expected = (uncentred - calibrated['zero']) / (1 + abs(calibrated['zero']))
  np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.mark.slow
def test_all_seeds_share_what_the_frozen_blocks_return(start, policy, monkeypatch, tmp_path):
  settings, given, passes = IRL(seeds=2, trained_blocks=1), [], []
  token_states = scoring.token_states

  def train(base, training, validation, irl, seed, folder, *, outputs, **unused):
    given.append(outputs)
    return prepare.initial_parts(base, training, irl, seed, jnp.float32)

  def counted(forward, model, sequences, *more):
    passes.append(len(sequences))
    return token_states(forward, model, sequences, *more)

  monkeypatch.setattr(loop, 'train', train)
  monkeypatch.setattr(scoring, 'token_states', counted)
  run = start(settings)
  recovery.irl(run)
  texts = recovery.unlabelled_texts(run)
  assert given[0] is given[1] and passes == [len(texts)]
  for number in range(2):
    rows = recovery.different(ROWS)
    training = recovery.encode_demonstrations(policy, rows, settings)
    parts = prepare.initial_parts(policy, training, settings, number, jnp.float32)
    calibrated = json.loads((tmp_path / 'irl' / f'seed_{number}' / 'calibration.json').read_text())
    expected = zero.otsu(rewards.recovered_reward(export.reward_model(policy, parts))(texts))
    np.testing.assert_allclose(calibrated['zero'], expected, atol=1e-5)


def test_a_reward_that_cannot_be_exported_is_refused_before_training(start, monkeypatch):
  monkeypatch.setattr(loop, 'train', lambda *unused, **more: pytest.fail('trains'))
  with pytest.raises(errors.ConfigError, match='config.irl.pooling = mean: .* cannot be exported'):
    recovery.irl(start(IRL(pooling='mean')))
