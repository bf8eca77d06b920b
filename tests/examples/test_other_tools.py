"""docs/other_tools.md: lm-evaluation-harness, TRL and a pipeline read our exports as we do."""

import dataclasses
import json
import pathlib
import runpy

import jax
import numpy as np
import pytest
import yaml

from irl_jax import api
from irl_jax.irl import export
from irl_jax.models import heads
from irl_jax.models import pretrained

TASK = pathlib.Path(__file__).parents[2] / 'examples' / 'lm_eval'
RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def exports(policy, tmp_path_factory):
  """A policy and a recovered reward, as a run writes them."""
  root = tmp_path_factory.mktemp('exports')
  trunk = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  head = heads.init_reward_head(jax.random.key(1), 16)
  model = export.reward_model(policy, (trunk | {'reward_head': head}, {}), 0.1)
  pretrained.save(root / 'reward', model, '')
  pretrained.save(root / 'policy', dataclasses.replace(policy), '')
  return root


@pytest.mark.slow
def test_the_rows_of_the_task_are_those_of_its_program():
  made = runpy.run_path(str(TASK / 'make_data.py'))['rows']()
  lines = (TASK / 'playground_harmless.jsonl').read_text(encoding='utf-8').splitlines()
  assert [json.loads(line) for line in lines] == made and len(made) == 300


@pytest.mark.slow
def test_the_harness_finds_the_likelier_continuation_as_we_do(exports, tmp_path, monkeypatch):
  lm_eval = pytest.importorskip('lm_eval')
  from lm_eval import tasks

  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HF_DATASETS_OFFLINE', '1')
  texts = lambda: [''.join(RNG.choice(list('abcdefghijk'), 6)) for _ in range(24)]
  rows = [
    {'prompt': prompt, 'harmless': ' ' + first, 'toxic': ' ' + second}
    for prompt, first, second in zip(texts(), texts(), texts())
  ]
  (tmp_path / 'rows.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  task = yaml.safe_load((TASK / 'playground_harmless.yaml').read_text(encoding='utf-8'))
  task['dataset_kwargs']['data_files']['test'] = str(tmp_path / 'rows.jsonl')
  (tmp_path / 'task').mkdir()
  (tmp_path / 'task' / 'task.yaml').write_text(yaml.safe_dump(task))
  found = lm_eval.simple_evaluate(
    model='hf',
    model_args=f'pretrained={exports / "policy"},dtype=float32',
    tasks=['playground_harmless'],
    task_manager=tasks.TaskManager(include_path=str(tmp_path / 'task')),
    device='cpu',
    bootstrap_iters=0,
  )
  prompts = [row['prompt'] for row in rows]
  ours = [
    api.log_ratio(exports / 'policy', exports / 'policy', [row[side] for row in rows], prompts)
    for side in ('harmless', 'toxic')
  ]
  expected = np.mean(ours[0]['log_prob'] > ours[1]['log_prob'])
  assert found['results']['playground_harmless']['acc,none'] == pytest.approx(expected)
  assert 0 < expected < 1


@pytest.mark.slow
def test_trl_trains_on_the_rewards_that_we_compute(exports, tmp_path):
  trl = pytest.importorskip('trl')
  import datasets

  def ours(prompts, completions, **more):
    texts = [prompt + completion for prompt, completion in zip(prompts, completions)]
    return [float(score) for score in api.load_reward(exports / 'reward')(texts)]

  settings = trl.GRPOConfig(
    output_dir=str(tmp_path / 'grpo'),
    max_steps=2,
    per_device_train_batch_size=8,
    num_generations=4,
    max_completion_length=6,
    logging_steps=1,
    use_cpu=True,
    bf16=False,
    report_to='none',
    save_strategy='no',
  )
  rows = datasets.Dataset.from_dict({'prompt': ['ab cd', 'ef', 'ghi', 'jk ab']})
  trainer = trl.GRPOTrainer(
    str(exports / 'policy'), [str(exports / 'reward'), ours], settings, rows
  )
  trainer.train()
  logged = [row for row in trainer.state.log_history if 'rewards/ours/mean' in row]
  assert len(logged) == 2
  for row in logged:
    assert row['rewards/reward/mean'] == pytest.approx(row['rewards/ours/mean'], abs=1e-5)
  assert logged[0]['rewards/ours/std'] > 0


@pytest.mark.slow
def test_the_pipeline_gives_the_reward(exports):
  pytest.importorskip('torch')
  import transformers

  texts = ['ab cd', 'hello there', ' a']
  score = transformers.pipeline(
    'text-classification', str(exports / 'reward'), function_to_apply='none', device='cpu'
  )
  found = [score(text)[0]['score'] for text in texts]
  np.testing.assert_allclose(found, api.load_reward(exports / 'reward')(texts), atol=1e-5)
