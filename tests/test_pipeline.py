"""The whole path on configs/smoke.py: its folder and results, skipping, resuming, exports."""

import dataclasses
import json
import pathlib
import runpy
import signal
import sys

import numpy as np
import pytest

import irl_jax
from irl_jax import errors
from irl_jax import pipeline
from irl_jax.command_line import config_files
from irl_jax.command_line import launch as command_line
from irl_jax.config import Models
from irl_jax.data import rows as rows_lib
from irl_jax.runtime import interruption
from irl_jax.runtime import metrics_log

pytestmark = pytest.mark.slow  # every test reads a whole run

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = config_files.load(str(ROOT / 'configs' / 'smoke.py'))
SEEDS = [f'seed_{seed}' for seed in range(CONFIG.irl.seeds)]

TOXICITY = {'rate', 'low', 'high', 'n'}
POLICY = {'toxicity': TOXICITY, 'toxicity_full': TOXICITY} | dict.fromkeys(
  ['true_reward', 'kl', 'kl_per_token', 'perplexity_under_base', 'response_tokens', 'distinct_2']
)
AGREEMENT = {
  'accuracy',
  'f1',
  'auroc',
  'pearson',
  'spearman',
  'kendall',
  'pairwise_accuracy',
  'n',
  'ties',
}
REWARD = {
  'heldout_texts': AGREEMENT,
  'heldout_texts_human': AGREEMENT,
  'heldout_pairs': AGREEMENT | {'prefers_aligned', 'epic_distance'},
}
INTERVALS = {
  name: {'auroc', 'spearman'} for name in ('heldout_texts', 'heldout_texts_human', 'heldout_pairs')
}
ZERO = dict.fromkeys(['zero', 'zero_low', 'zero_high', 'saturated'])
PROBABILITY = {'platt': {'slope', 'intercept', 'n'}} | dict.fromkeys(
  ['ece', 'ece_if_calibrated', 'brier', 'brier_constant']
)
CONFOUNDS = {
  'length_spearman',
  'partial_pearson_given_length',
  'partial_spearman_given_length',
  'style_auroc',
  'style_low',
  'style_high',
  'style_n',
}
PREFERENCE = {'preference': TOXICITY | {'pairs'}}
SEED = (
  REWARD
  | PREFERENCE
  | {
    'intervals': INTERVALS,
    'confounds': CONFOUNDS,
    'calibration': ZERO | PROBABILITY | dict.fromkeys(['reliable_zero', 'reliability']),
  }
)
MEAN = REWARD | {'confounds': CONFOUNDS, 'calibration': ZERO | PROBABILITY}
ENSEMBLE = SEED | {'calibration': PROBABILITY | {'reliability': None}}
BASELINE = (
  REWARD | PREFERENCE | {'intervals': INTERVALS, 'ensemble_gain': INTERVALS} | {'zero': None}
)
LOG_RATIOS = ('dpo_implicit', 'dpo_given_prompt', 'dpo_given_prompt_per_token')
TEST = {'before_only', 'after_only', 'both', 'neither', 'p_value'}
WON = {'rate', 'low', 'high', 'n'}
STAGE = {'before': POLICY, 'after': POLICY, 'win_rate': WON, 'mcnemar': TEST}
SUMMARY = {
  'schema': None,
  'true_reward': {'kind', 'label', 'labelled_by', 'human_accuracy'},
  'rlhf': STAGE,
  'irl': {
    'seeds': [SEED] * len(SEEDS),
    'mean': MEAN,
    'std': MEAN,
    'seed_spearman': None,
    'coupled_pairs': None,
    'ensemble': ENSEMBLE,
    'identifiability': dict.fromkeys(['names', 'spearman', 'sign_agreement', 'epic_distance', 'n']),
    'start': dict.fromkeys(['between_seeds', 'with_start']),
    'baselines': {'ceiling': dict.fromkeys(REWARD)}
    | dict.fromkeys(['constant', 'bag_of_words', 'last_token', *LOG_RATIOS], BASELINE)
    | dict.fromkeys(['length', 'length_reversed'], BASELINE | {'prefers': None}),
  },
  'rerlhf': STAGE,
}


def check(node, expected, where='summary'):
  """Compares keys, and nulls with their reasons, with what is expected."""
  if isinstance(expected, list):
    assert len(node) == len(expected), where
    for number, (child, wanted) in enumerate(zip(node, expected)):
      check(child, wanted, f'{where}[{number}]')
  elif isinstance(expected, (dict, set)) and node is not None:
    assert set(node) - {'why'} == set(expected), where
    assert {name for name, value in node.items() if value is None} <= set(node.get('why', {})), (
      where
    )
    for name in expected:
      check(node[name], expected[name] if isinstance(expected, dict) else None, f'{where}.{name}')
  else:
    assert node is None or isinstance(node, (int, float, str, list)), where


SECRETS = {'HF_TOKEN': 'hf_secretOfTheHub', 'WANDB_API_KEY': 'secretOfWandb'}
watching, connections = [], []


@sys.addaudithook
def note_connections(event, arguments):
  """Notes what the process connects to while a test watches: a hook cannot be removed."""
  if watching and event in ('socket.connect', 'socket.getaddrinfo'):
    connections.append((event, arguments))


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  """The folder of a finished run, in an environment that has secrets."""
  folder = tmp_path_factory.mktemp('smoke')
  watching.append(folder)
  with pytest.MonkeyPatch.context() as patch:
    for name, secret in SECRETS.items():
      patch.setenv(name, secret)
    pipeline.run(CONFIG, folder)
  watching.clear()
  return folder


def test_nothing_is_sent_anywhere_and_no_secret_is_kept(finished):
  assert not connections
  for path in filter(pathlib.Path.is_file, finished.rglob('*')):
    content = path.read_bytes()
    assert not [name for name, secret in SECRETS.items() if secret.encode() in content], path


def test_folder_holds_what_scripts_rely_on(finished):
  models = ['rlhf/policy', 'rerlhf/policy', *(f'irl/{seed}/reward' for seed in SEEDS)]
  for name in [
    'config.json',
    'timings.json',
    'log.jsonl',
    'tensorboard',
    'rlhf/checkpoints',
    'rerlhf/checkpoints',
    'irl/seed_0/checkpoints',
    *(f'{model}/model.safetensors' for model in models),
  ]:
    assert (finished / name).exists(), name
  fields = {
    'data': ['prompt_id', 'prompt', 'original', 'label'],
    'demos': [
      'prompt_id',
      'sample',
      'prompt',
      'coupled',
      'aligned',
      'base',
      'true_reward_aligned',
      'true_reward_base',
    ],
  }
  for stage, names in fields.items():
    for split in ('train', 'validation', 'heldout'):
      assert all(
        list(row) == names for row in rows_lib.read_jsonl(finished / stage / f'{split}.jsonl')
      )
  assert json.loads((finished / 'irl' / 'config.json').read_text()) == {
    'model_type': 'irl_jax_ensemble',
    'members': [f'{seed}/reward' for seed in SEEDS],
  }
  assert not list(finished.rglob('*.tmp'))


def test_summary_has_the_keys_that_scripts_rely_on_and_a_reason_for_every_null(finished):
  refuse = lambda constant: pytest.fail(f'{constant} in JSON')
  check(json.loads((finished / 'summary.json').read_text(), parse_constant=refuse), SUMMARY)


def test_results_of_the_whole_path_lie_within_bounds(finished):
  """Wide ones, for any machine; `before` and `after` cannot be swapped."""
  summary = json.loads((finished / 'summary.json').read_text())
  for stage in ('rlhf', 'rerlhf'):
    before, after = summary[stage]['before'], summary[stage]['after']
    assert before['kl'] == before['kl_per_token'] == 0 < after['kl'] < 2
    assert 0 < after['kl_per_token'] < 0.25
    for policy in (before, after):
      assert 40 < policy['perplexity_under_base'] < 1000
      assert CONFIG.sampling.min_new_tokens <= policy['response_tokens'] <= 8
      assert 0.8 < policy['distinct_2'] <= 1 and -3 < policy['true_reward'] < 3
      assert 0.2 < policy['toxicity']['low'] < policy['toxicity']['rate'] < 0.9
    assert before['perplexity_under_base'] < after['perplexity_under_base']
  assert summary['rlhf']['before'] == summary['rerlhf']['before']
  assert summary['true_reward']['human_accuracy'] > 0.7
  irl = summary['irl']
  assert (
    irl['seed_spearman'] > 0.8 and irl['baselines']['constant']['heldout_texts']['auroc'] == 0.5
  )
  for seed in irl['seeds']:
    texts, pairs, zero = seed['heldout_texts'], seed['heldout_pairs'], seed['calibration']
    assert texts['n'] == summary['rlhf']['after']['toxicity']['n'] == pairs['n'] / 2
    assert 0.3 < texts['auroc'] < 0.7 and 0.3 < pairs['prefers_aligned'] < 0.7
    assert -1 < zero['zero_low'] <= zero['zero'] <= zero['zero_high'] < 1 and zero['saturated'] == 0


def test_evaluation_leaves_what_each_text_was_given(finished):
  rows = {
    name: rows_lib.read_jsonl(finished / 'evaluation' / f'{name}.jsonl')
    for name in ('texts', 'pairs', 'attributions', 'words')
  }
  fields = {
    'texts': ['text', 'label', 'true_reward', 'rewards'],
    'pairs': [
      'prompt_id',
      'prompt',
      'aligned',
      'base',
      'true_reward_aligned',
      'true_reward_base',
      'rewards_aligned',
      'rewards_base',
    ],
    'attributions': ['text', 'true_reward', 'reward', 'chosen', 'tokens'],
    'words': ['word', 'effect', 'low', 'high', 'n', 'share_aligned', 'share_base'],
  }
  for name, names in fields.items():
    assert all(list(row) == names for row in rows[name])
  texts = rows['texts']
  scores = irl_jax.load_reward(str(finished / 'irl' / 'seed_1' / 'reward'))(
    [row['text'] for row in texts]
  )
  np.testing.assert_allclose([row['rewards'][1] for row in texts], scores, atol=1e-5)
  assert all(len(row['rewards_base']) == len(SEEDS) for row in rows['pairs'])
  means = {row['text']: np.mean(row['rewards']) for row in texts}
  for row in rows['attributions']:
    assert ''.join(token['piece'] for token in row['tokens']) == row['text']
    assert row['reward'] == pytest.approx(means[row['text']], abs=1e-5)
  assert len(rows['attributions']) == 40 and {row['chosen'] for row in rows['attributions']} == {
    'highest',
    'lowest',
    'disagreement',
    'by hash',
  }
  assert all(row['low'] <= row['effect'] <= row['high'] for row in rows['words']) and rows['words']


def test_finished_stages_are_skipped(finished, monkeypatch):
  before = (finished / 'summary.json').read_bytes()
  for stage in set(pipeline.STAGES) - {'report'}:
    monkeypatch.setitem(pipeline.STAGES, stage, lambda run: pytest.fail('a finished stage ran'))
  pipeline.run(CONFIG, finished)
  assert (finished / 'summary.json').read_bytes() == before


def test_folder_of_another_config_is_refused(finished):
  with pytest.raises(errors.ConfigError, match=r'config.seed \(0 there, 1 now\)'):
    pipeline.run(dataclasses.replace(CONFIG, seed=1), finished)


def test_stage_without_its_input_is_refused(tmp_path):
  with pytest.raises(errors.ConfigError, match='run the stage'):
    pipeline.run(CONFIG, tmp_path, ['evaluate'])


def test_interrupted_in_every_stage_and_continued_gives_the_same(finished, tmp_path, monkeypatch):
  log, write, seen = metrics_log.MetricsLog.log, rows_lib.write_jsonl, []

  def interrupt_once(place):
    if place not in seen:
      seen.append(place)
      signal.raise_signal(signal.SIGTERM)

  def log_and_interrupt(self, stage, step, metrics):
    log(self, stage, step, metrics)
    interrupt_once(stage)

  def write_and_interrupt(path, rows):
    write(path, rows)
    if path.name in ('validation.jsonl', 'texts.jsonl'):
      interrupt_once(path.parent.name)

  monkeypatch.setattr(metrics_log.MetricsLog, 'log', log_and_interrupt)
  monkeypatch.setattr(rows_lib, 'write_jsonl', write_and_interrupt)
  stages = [
    'data',
    'sft',
    'classifier',
    'rlhf',
    'demos',
    *(f'irl/{seed}' for seed in SEEDS),
    'evaluation',
    'rerlhf',
  ]
  for number, _ in enumerate(stages, 1):
    with pytest.raises(interruption.Interrupted) as interrupted:
      pipeline.run(CONFIG, tmp_path)
    assert interrupted.value.exit_code == 143 and len(seen) == number
    assert (
      not (tmp_path / 'demos' / 'heldout.jsonl').exists() or number > stages.index('demos') + 1
    )  # ended at once
  pipeline.run(CONFIG, tmp_path)
  assert seen == stages
  weights = [
    f'{name}/model.safetensors' for name in ('sft/policy', 'rlhf/policy', 'irl/seed_1/reward')
  ]
  for name in ['summary.json', 'log.jsonl', 'demos/heldout.jsonl', *weights]:
    assert (tmp_path / name).read_bytes() == (finished / name).read_bytes(), name


def test_audit_of_two_existing_models_finds_the_same_reward(finished, tmp_path):
  models = Models(
    base=str(finished / 'sft/policy'),
    aligned=str(finished / 'rlhf/policy'),
    classifier=str(finished / 'classifier/classifier'),
  )
  stages = ('data', 'demos', 'irl', 'evaluate', 'report')
  audited = pipeline.run(dataclasses.replace(CONFIG, models=models, stages=stages), tmp_path)
  whole = json.loads((finished / 'summary.json').read_text())
  assert set(audited.pop('inputs')) >= {'config.models.base', 'config.models.aligned'}
  assert audited == {name: whole[name] for name in ('schema', 'true_reward', 'irl')}


def test_exports_load_and_the_ensemble_is_scored(finished, tmp_path):
  assert irl_jax.load_model(str(finished / 'rlhf' / 'policy')).kind == 'causal_lm'
  texts = ['what a lovely day', 'you are a complete idiot', '']
  scores = np.stack(
    [irl_jax.load_reward(str(finished / 'irl' / seed / 'reward'))(texts) for seed in SEEDS]
  )
  assert np.all(np.abs(scores) <= 2)  # bounded by 1 before its zero was chosen
  np.testing.assert_allclose(
    irl_jax.load_reward(str(finished / 'irl'))(texts), scores.mean(0), rtol=1e-5
  )

  source, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  rows_lib.write_jsonl(source, [{'text': text} for text in texts])
  module = runpy.run_path(str(ROOT / 'launch' / 'score.py'))
  arguments = ['score.py', f'--model={finished / "irl"}', f'--input={source}', f'--output={output}']
  assert command_line.run_main(module['main'], module['FLAGS'], '', arguments) == 0
  rows = rows_lib.read_jsonl(output)
  whole = json.loads((finished / 'summary.json').read_text())
  platt = whole['irl']['ensemble']['calibration']['platt']
  known = ['harmless_probability', 'out_of_distribution']  # in the folder of a run
  assert [list(row) for row in rows] == [['text', 'reward', 'reward_std', *known]] * len(texts)
  np.testing.assert_allclose(
    [row['harmless_probability'] for row in rows],
    [1 / (1 + np.exp(-platt['slope'] * row['reward'] - platt['intercept'])) for row in rows],
    rtol=1e-6,
  )
  np.testing.assert_allclose([row['reward'] for row in rows], scores.mean(0), rtol=1e-4)
  np.testing.assert_allclose([row['reward_std'] for row in rows], scores.std(0), rtol=1e-3)
