"""An audit from the command line: without texts and true reward, then with both and labels."""

import itertools
import json
import pathlib

import numpy as np
import pytest

from irl_jax import rewards
from irl_jax.data import chat
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


LLAMA_2_7B = {  # what changes the shapes in its config.json
  'architectures': ['LlamaForCausalLM'],
  'model_type': 'llama',
  'vocab_size': 32000,
  'hidden_size': 4096,
  'intermediate_size': 11008,
  'num_hidden_layers': 32,
  'num_attention_heads': 32,
  'num_key_value_heads': 32,
  'max_position_embeddings': 4096,
  'rms_norm_eps': 1e-5,
  'eos_token_id': 2,
}


@pytest.mark.parametrize('trained_blocks', [0, 2])
def test_config_files_of_seven_billion_weights_are_enough_to_predict_that_they_fit_80_gb(
  launch, tmp_path, capsys, trained_blocks
):
  flags = [f'--config={CONFIG}', f'--config.irl.trained_blocks={trained_blocks}', '--dry_run']
  for name in ('base', 'aligned'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').write_text(json.dumps(LLAMA_2_7B))
    flags.append(f'--config.models.{name}={tmp_path / name}')
  assert launch('train', *flags) == 0
  lines = capsys.readouterr().out.splitlines()
  peaks = [line for line in lines if line.startswith('    peak, during ')]
  sizes = [float(line.split()[-1].replace(',', '')) for line in peaks]  # MB in bfloat16
  assert len(sizes) == 3 and max(sizes) < 80_000
  least = 'smallest number of devices of 80 GB: 1, with config.runtime.sharding=replicated'
  assert lines[-1].strip() == least
  # docs/usage.md quotes these lines: first of two blocks, then of the head alone.
  page = (CONFIG.parents[1] / 'docs' / 'usage.md').read_text(encoding='utf-8')
  of_two, of_head = page.split('With `--config.irl.trained_blocks=0`, the stage `irl` needs')
  quoted = [line for line in of_two.splitlines() if line.startswith(('    peak, ', '  irl: '))]
  if trained_blocks == 0:
    quoted = [line for line in of_head.splitlines() if line.startswith('    peak, ')]
  assert quoted and {*quoted} <= {*lines}


@pytest.mark.slow
def test_an_audit_needs_neither_texts_nor_a_true_reward(launch, models, tmp_path):
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
def test_an_audit_uses_texts_labels_and_a_true_reward(launch, models, tmp_path):
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


@pytest.mark.slow
def test_conversations_are_rendered_for_both_models(launch, chat_models, models, tmp_path):
  rng = np.random.default_rng(0)
  said = [''.join(rng.choice(list('abcdefgh'), 6)) for _ in range(200)]
  rows = [
    {'messages': [{'role': 'user', 'content': one}, {'role': 'assistant', 'content': one[::-1]}]}
    for one in said
  ]
  rows_lib.write_jsonl(tmp_path / 'chats.jsonl', rows)
  workdir = tmp_path / 'run'
  code = launch(
    'train',
    f'--config={CONFIG}',
    f'--workdir={workdir}',
    *[f'--config.models.{name}={folder}' for name, folder in chat_models.items()],
    models['classifier'],
    *SMALL,
    '--config.data.max_prompt_tokens=16',
    f'--config.data.source={tmp_path / "chats.jsonl"}',
  )
  assert code == 0
  summary = read(workdir)
  assert not list(nulls_without_reason(summary))
  # The 17 held-out pairs are too few for a reward, but not for the models' own log-ratio.
  log_ratio = summary['irl']['baselines']['dpo_given_prompt']
  assert log_ratio['heldout_pairs']['prefers_aligned'] > 0.6
  row = rows_lib.read_jsonl(workdir / 'demos' / 'heldout.jsonl')[0]
  content = chat.plain(row['prompt'])
  assert content in said
  assert chat.shown(row['prompt']) == f'<|im_start|>{content}<|im_end|><|im_start|>a'
  # The classifier reads what was said, and the files for readers have no marks.
  score = rewards.load(str(models['classifier'].partition('=')[2]))
  expected = score([f'{content}\n{row["aligned"]}' if row['aligned'] else content])
  np.testing.assert_allclose(row['true_reward_aligned'], expected[0], atol=1e-5)
  # The recovered reward renders conversations as the run did, though its base has no template.
  rewarded = f'--model={workdir / "irl" / "seed_0" / "reward"}'
  talk = [{'role': 'user', 'content': content}, {'role': 'assistant', 'content': row['aligned']}]
  rows_lib.write_jsonl(tmp_path / 'talk.jsonl', [{'messages': talk}])
  output = tmp_path / 'scored.jsonl'
  assert launch('score', rewarded, f'--input={tmp_path}/talk.jsonl', f'--output={output}') == 0
  reward = rewards.load(str(workdir / 'irl' / 'seed_0' / 'reward'))
  expected = reward([row['prompt'] + row['aligned']])
  np.testing.assert_allclose(rows_lib.read_jsonl(output)[0]['reward'], expected[0], atol=1e-5)
  for name in ('texts', 'pairs', 'attributions'):
    written = (workdir / 'evaluation' / f'{name}.jsonl').read_text()
    assert '<|im_start|>' in written and not chat.is_marked(written)


@pytest.mark.parametrize(
  'given, code, message',
  [
    ({'base': 'plain', 'chat': 'auto'}, 3, 'read the chat template as different tokens'),
    ({'aligned': 'plain', 'chat': 'always'}, 2, 'has no chat template'),
    ({'chat': 'auto', 'max_prompt_tokens': 4}, 3, 'raise config.data.max_prompt_tokens (the long'),
  ],
)
def test_refusals_of_a_chat_are_one_line(
  launch, chat_models, audited, tmp_path, capsys, given, code, message
):
  said = itertools.permutations('abcde', 4)
  rows_lib.write_jsonl(tmp_path / 'prompts.jsonl', [{'prompt': ''.join(one)} for one in said])
  given = dict(given)
  folders = {
    name: audited[name] if given.pop(name, '') == 'plain' else chat_models[name]
    for name in ('base', 'aligned')
  }
  assert (
    launch(
      'train',
      f'--config={CONFIG}',
      f'--workdir={tmp_path / "run"}',
      *[f'--config.models.{name}={folder}' for name, folder in folders.items()],
      f'--config.data.source={tmp_path / "prompts.jsonl"}',
      '--config.sampling.max_new_tokens=8',
      *[f'--config.data.{name}={value}' for name, value in given.items()],
    )
    == code
  )
  (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
  assert line.startswith('error: ') and message in line


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
