"""edit.py: a reward and an ensemble without a feature, as transformers reads them, and refusals."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from irl_jax import api
from irl_jax import config as c
from irl_jax import errors
from irl_jax import pipeline
from irl_jax import rewards
from irl_jax.command_line import edit as command
from irl_jax.data import rows
from irl_jax.evaluation import features
from irl_jax.irl import edit
from irl_jax.irl import export
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log
from irl_jax.runtime import workdir
from irl_jax.stages import read_files
from irl_jax.stages.run import Run

RNG = np.random.default_rng(0)
LETTERS = list('abcdefgh')
WORDS = [''.join(RNG.choice(LETTERS, 3)) for _ in range(40)] + ['xxx'] * 20
TEXTS = [' '.join(RNG.choice(WORDS, RNG.integers(4, 8))) for _ in range(300)]
WORD = features.parse('word:xxx', [])
FITTED = [
  text
  for pair in features.left_out([WORD], TEXTS)
  if features.in_first_half(pair[0])
  for text in pair
]


@pytest.fixture(scope='module')
def models(policy, tmp_path_factory):
  """An ensemble of two random rewards, and a file of texts."""
  root = tmp_path_factory.mktemp('rewards')
  trunk = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  for seed in range(2):
    head = heads.init_reward_head(jax.random.key(seed), 16)
    model = export.reward_model(policy, (trunk | {'reward_head': head}, {}), 0.2)
    pretrained.save(root / 'irl' / f'seed_{seed}' / 'reward', model, '')
  members = [f'seed_{seed}/reward' for seed in range(2)]
  ensemble = {'model_type': 'irl_jax_ensemble', 'members': members}
  (root / 'irl' / 'config.json').write_text(json.dumps(ensemble))
  (root / 'texts.jsonl').write_text(''.join(json.dumps({'text': text}) + '\n' for text in TEXTS))
  return root


def effect(reward, texts=FITTED):
  """The mean difference of a reward over texts with the word and without it."""
  scores = reward(texts)
  return float(scores[::2].mean() - scores[1::2].mean())


def run(launch, models, *arguments, model='irl'):
  return launch(
    'edit',
    f'--model={models / model}',
    '--feature=word:xxx',
    f'--texts={models / "texts.jsonl"}',
    *arguments,
  )


def test_the_methods_are_those_that_the_command_names():
  assert command.METHODS == edit.METHODS


@pytest.mark.slow
@pytest.mark.parametrize('method', ['leace', 'mean_difference'])
def test_an_edited_ensemble_does_not_pay_for_the_word(launch, models, tmp_path, capsys, method):
  output = tmp_path / 'edited'
  assert run(launch, models, f'--output={output}', f'--method={method}') == 0
  before, after = rewards.load(str(models / 'irl')), rewards.load(str(output))
  assert abs(effect(before)) > 1e-3 and abs(effect(after)) < 1e-6
  done = json.loads((output / 'edit.json').read_text())
  assert done['method'] == method and done['features'] == ['word:xxx']
  assert len(FITTED) == done['fitted'] and len(done['members']) == 2
  measured = done['ensemble']['features']['word:xxx']
  checked = [
    text
    for pair in features.left_out([WORD], sorted(TEXTS))
    if not features.in_first_half(pair[0])
    for text in pair
  ]
  assert measured['before']['n'] == len(checked) == done['checked']
  assert abs(measured['after']['effect']) < abs(measured['before']['effect'])
  # The zeros differ, so an ensemble's correlation is compared loosely.
  has = np.array([WORD.is_in(text) for text in checked], float)
  assert measured['before']['correlation'] == pytest.approx(
    np.corrcoef(before(checked), has)[0, 1], abs=0.01
  )
  card = (output / 'seed_1' / 'reward' / 'README.md').read_text()
  assert '# Edited reward model' in card and '`word:xxx`' in card
  assert 'features.word:xxx.after.auroc' in card
  assert 'word:xxx' in capsys.readouterr().out


def test_one_reward_is_edited_alone_and_again(launch, models, tmp_path):
  one, two = tmp_path / 'one', tmp_path / 'two'
  assert run(launch, models, f'--output={one}', model='irl/seed_1/reward') == 0
  reward = api.load_reward(one)
  assert abs(effect(reward)) < 1e-6
  scores = reward(TEXTS)  # around a zero of its own
  assert np.abs(scores).max() <= 1 and (scores > 0).any() and (scores < 0).any()
  arguments = f'--model={one}', f'--texts={models / "texts.jsonl"}', f'--output={two}'
  assert launch('edit', '--feature=length', *arguments) == 0
  done = json.loads((two / 'edit.json').read_text())
  assert done['features'] == ['length'] and done['ensemble'] == {
    name: value for name, value in done['members'][0].items() if name in done['ensemble']
  }


@pytest.mark.slow
def test_transformers_give_an_edited_reward_the_same_scores(launch, models, tmp_path):
  torch = pytest.importorskip('torch')
  import transformers

  output = tmp_path / 'edited'
  assert run(launch, models, f'--output={output}', model='irl/seed_0/reward') == 0
  network = transformers.AutoModelForSequenceClassification.from_pretrained(
    output, dtype=torch.float32
  ).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(output)
  with torch.no_grad():
    ids = [torch.tensor([tokenizer(text)['input_ids']]) for text in TEXTS[:20]]
    found = [network(one).logits.item() for one in ids]
  np.testing.assert_allclose(found, api.load_reward(output)(TEXTS[:20]), atol=1e-5)


@pytest.fixture
def finished(models, tmp_path):
  """A run's folder as the stage irl leaves it."""
  folder = tmp_path / 'run'
  shutil.copytree(models / 'irl', folder / 'irl')
  workdir.prepare(folder, c.Config(evaluation=c.Evaluation(bootstrap_samples=20)))
  halves = [{'prompt_id': '0', 'prompt': text[:9], 'original': text[9:]} for text in TEXTS]
  for folder_name in ('data', 'demos'):
    (folder / folder_name).mkdir()
  rows.write_jsonl(folder / 'data' / 'validation.jsonl', halves[:40])
  pairs = [row | {'aligned': row['original'], 'base': row['original'][:-4]} for row in halves]
  rows.write_jsonl(folder / 'demos' / 'train.jsonl', pairs[40:])
  rows.write_jsonl(folder / 'demos' / 'validation.jsonl', pairs[:40])
  return folder


def test_a_run_gives_the_texts_and_the_zero(launch, finished, tmp_path):
  """Without --texts, they are the demonstrations of the reward's run, and its unlabelled texts."""
  arguments = f'--model={finished / "irl"}', f'--output={finished / "edited"}'
  assert launch('edit', '--feature=word:xxx', *arguments) == 0
  done = json.loads((finished / 'edited' / 'edit.json').read_text())
  assert done['texts'] == '600 demonstrations of the run'
  scores = rewards.load(str(finished / 'edited' / 'seed_0' / 'reward'))(TEXTS[:40])
  zero = done['members'][0]['calibration']['zero']
  uncentred = scores * (1 + abs(zero)) + zero
  assert zero == pytest.approx(otsu(uncentred), abs=1e-5)


def otsu(scores):
  """The threshold between two scores with the largest variance between the classes."""
  scores = np.sort(scores)
  between = [
    cut * (len(scores) - cut) * (scores[:cut].mean() - scores[cut:].mean()) ** 2
    for cut in range(1, len(scores))
  ]
  best = int(np.argmax(between))
  return (scores[best] + scores[best + 1]) / 2


def test_rerlhf_takes_the_reward_that_the_config_names(launch, finished):
  named = c.Models(recovered=str(finished / 'edited'))
  config = c.Config(evaluation=c.Evaluation(bootstrap_samples=20), models=named)
  arguments = f'--model={finished / "irl"}', f'--output={finished / "edited"}'
  assert launch('edit', '--feature=word:xxx', *arguments) == 0
  run_of = lambda config: Run(config, finished, metrics_log.Log(), np.float32)
  places = [str(finished / 'edited' / f'seed_{seed}' / 'reward') for seed in range(2)]
  assert run_of(config).recovered == places
  assert run_of(c.Config()).recovered == [place.replace('edited', 'irl') for place in places]
  (edited,) = [
    files
    for name, files in read_files.inputs_of(run_of(config), 'rerlhf').items()
    if 'recov' in name
  ]
  assert 'seed_1/reward/model.safetensors' in [marks['name'] for _, marks in edited]
  # The run's own folder may be continued with it until rerlhf has written something.
  workdir.prepare(finished, config)
  (finished / 'rerlhf').mkdir()
  (finished / 'rerlhf' / 'figures.json').write_text('{}')
  with pytest.raises(errors.ConfigError, match=r'config\.models\.recovered'):
    workdir.prepare(finished, c.Config(evaluation=c.Evaluation(bootstrap_samples=20)))


@pytest.mark.slow
def test_a_policy_is_trained_on_an_edited_reward(launch, models, audited, tmp_path):
  assert run(launch, models, f'--output={tmp_path / "edited"}') == 0
  rows.write_jsonl(tmp_path / 'prompts.jsonl', [{'text': text} for text in TEXTS])
  config = c.Config(
    stages=('data', 'rerlhf', 'report'),
    models=c.Models(
      base=str(audited['base']),
      classifier=str(audited['classifier']),
      recovered=str(tmp_path / 'edited'),
    ),
    data=c.Data(source=str(tmp_path / 'prompts.jsonl'), max_prompt_tokens=8),
    sampling=c.Sampling(max_new_tokens=4),
    ppo=c.PPO(steps=2, rollouts_per_step=8, minibatch_size=8, epochs=1, subtract_original=False),
    evaluation=c.Evaluation(bootstrap_samples=20),
  )
  summary = pipeline.run(config, tmp_path / 'run')
  assert summary['rerlhf']['after']['toxicity']['n'] > 0
  assert {file['name'] for file in summary['inputs']['config.models.recovered']} >= {
    'seed_0/reward/model.safetensors',
    'seed_1/reward/config.json',
  }
  log = [json.loads(line) for line in (tmp_path / 'run' / 'log.jsonl').open()]
  scores = [row for row in log if row.get('stage') == 'rerlhf']
  assert len(scores) == 2
  damaged = dataclasses.replace(config, models=dataclasses.replace(config.models, recovered='no/x'))
  with pytest.raises((errors.ConfigError, errors.InputError), match='no/x'):
    pipeline.run(damaged, tmp_path / 'other')


@pytest.mark.parametrize(
  'arguments, code, message',
  [
    (('--feature=word:xxx',), 2, '--texts is missing: '),
    (
      ('--feature=nothing', '--texts={root}/texts.jsonl'),
      2,
      '--feature=nothing: must be word:WORD',
    ),
    (('--feature=word:zzz', '--texts={root}/texts.jsonl'), 2, '0 of the 0 fitted texts have it'),
    (
      ('--feature=length', '--texts={root}/texts.jsonl', '--contrast=removed'),
      2,
      'length cannot be left out of a text',
    ),
    (('--texts={root}/texts.jsonl',), 2, '--feature is missing'),
    (('--feature=word:xxx', '--texts={root}/texts.jsonl', '--field=body'), 3, "field 'body'"),
    (('--feature=word:xxx', '--output={root}/irl'), 2, 'exists already'),
  ],
)
def test_wrong_calls_are_refused(launch, models, tmp_path, capsys, arguments, code, message):
  given = [one.format(root=models) for one in arguments]
  if not any(one.startswith('--output') for one in given):
    given.append(f'--output={tmp_path / "new"}')
  assert launch('edit', f'--model={models / "irl"}', *given) == code
  shown = capsys.readouterr().err
  assert message in shown and shown.count('error: ') == 1
  assert not (tmp_path / 'new').exists()


def test_a_language_model_is_refused(launch, models, policy, tmp_path, capsys):
  pretrained.save(tmp_path / 'policy', dataclasses.replace(policy), '')
  arguments = f'--texts={models / "texts.jsonl"}', f'--output={tmp_path / "new"}'
  assert launch('edit', f'--model={tmp_path / "policy"}', '--feature=word:xxx', *arguments) == 3
  assert 'must be reward' in capsys.readouterr().err and not (tmp_path / 'new').exists()
