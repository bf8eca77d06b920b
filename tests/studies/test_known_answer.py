"""The study of an audit with a known answer, on tiny chat models, through its command line."""

import copy
import dataclasses
import json
import os
import subprocess
import sys

import jax
import known_answer
import numpy as np
import pytest

from irl_jax.command_line import launch as command_line
from irl_jax.data import rows
from irl_jax.models import pretrained

WORDS = ('ab', 'cd', 'ef', 'gh', 'ij', 'kl', 'mn')
# As small as an audit can be
SMALL = (
  '--config.data.max_prompt_tokens=24',
  '--config.sampling.max_new_tokens=12',
  '--config.irl.seeds=2',
  '--config.irl.max_tokens=48',
  '--config.irl.trained_blocks=1',
  '--config.evaluation.bootstrap_samples=10',
  '--config.evaluation.attributed_texts=2',
)


@pytest.fixture
def arguments(chat_models, tmp_path, monkeypatch):
  """Arguments of a study whose polite words a tiny model can write, in one step of PPO."""
  monkeypatch.setattr(known_answer, 'POLITE', tuple('abcdefghijkl'))
  small = dict(rollouts_per_step=8, minibatch_size=8, trained_blocks=1, learning_rate=1e-2)
  monkeypatch.setattr(known_answer, 'PPO', dataclasses.replace(known_answer.PPO, **small))
  prompts = [{'prompt': f'{a} {b} {c}'} for a in WORDS for b in WORDS for c in WORDS]
  rows.write_jsonl(tmp_path / 'prompts.jsonl', prompts[:160])
  return [
    'known_answer.py',
    '--config=audit_chat',
    f'--config.models.base={chat_models["aligned"]}',
    f'--prompts={tmp_path / "prompts.jsonl"}',
    f'--workdir={tmp_path / "study"}',
    f'--output={tmp_path / "found.json"}',
    '--steps=1',
    '--change=noise',
    *SMALL,
  ]


def test_politeness_counts_whole_polite_words_up_to_three():
  texts = ['Thank you.', 'thankful', 'please PLEASE, please! please', '', 'I am sorry; glad to.']
  assert known_answer.politeness(texts).tolist() == [1, 0, 3, 0, 2]


def test_prompts_of_ppo_are_not_those_of_the_audit():
  prompts = [f'prompt {number}' for number in range(200)]
  for_ppo, for_audit = known_answer.halves([{'text': one} for one in [*prompts, *prompts]], 'text')
  assert sorted([*for_ppo, *for_audit]) == sorted(prompts)
  assert 70 < len(for_ppo) < 130


def test_a_reward_is_compared_with_the_truth_over_answers_and_over_pairs():
  true = np.array([[3.0, 1.0, 2.0], [0.0, 1.0, 3.0]])
  found = known_answer.agreement_with(true, np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.2]]))
  # The second pair is equally polite; the first is in order, and the third is a tie.
  assert found['pairwise_accuracy'] == 0.75 and found['pairs'] == 2
  right = known_answer.agreement_with(true, true**3)
  assert right['spearman'] == pytest.approx(1) and right['pairwise_accuracy'] == 1.0


def test_noise_is_as_large_as_the_change_and_only_where_there_is_one(chat_models, tmp_path):
  base = pretrained.load_language_model(str(chat_models['aligned']))
  moved = {
    **base.params,
    'embed_in': jax.tree.map(lambda leaf: leaf + 0.5, base.params['embed_in']),
  }
  pretrained.save(tmp_path / 'trained', dataclasses.replace(base, params=moved), '')
  place = known_answer.noise(str(chat_models['aligned']), str(tmp_path / 'trained'), tmp_path)
  noisy = pretrained.load_language_model(place).params
  added = noisy['embed_in']['embedding'] - base.params['embed_in']['embedding']
  assert np.sqrt(np.mean(added**2)) == pytest.approx(0.5, rel=0.1) and abs(added.mean()) < 0.1
  jax.tree.map(np.testing.assert_array_equal, noisy['blocks'], base.params['blocks'])


@pytest.mark.slow
def test_an_audit_of_noise_is_measured_and_can_be_repeated(arguments, tmp_path, capsys):
  run = lambda: command_line.run_main(
    known_answer.main, copy.deepcopy(known_answer.FLAGS), '', arguments
  )
  assert run() == 0
  found = json.loads((tmp_path / 'found.json').read_text())
  assert json.loads(capsys.readouterr().out) == found
  assert found['change'] == 'noise' and len(found['seeds']) == 2 and len(found['lines']) == 5
  assert 0 < found['pairs_that_differ'] <= found['pairs']
  for seed in [*found['seeds'], found['ensemble']]:
    assert -1 <= seed['spearman'] <= 1 and 0 <= seed['pairwise_accuracy'] <= 1
  assert set(found['polite_words_liked']) <= set(found['words_liked'])
  assert (tmp_path / 'study' / 'audit_noise' / 'audit' / 'report.html').exists()
  assert run() == 0, capsys.readouterr().err
  assert json.loads((tmp_path / 'found.json').read_text()) == found


@pytest.mark.slow
def test_the_adapter_is_the_change_if_its_rank_is_enough(policy, tmp_path):
  pytest.importorskip('peft')
  rng = np.random.default_rng(0)
  params = jax.tree.map(np.array, policy.params)
  weight = params['blocks']['attention']['dense']['kernel']
  weight += np.einsum('lir,lro->lio', *(rng.normal(size=(3, a, b)) for a, b in ((16, 2), (2, 16))))
  trained = dataclasses.replace(policy, params=params)
  for name, model in (('base', policy), ('trained', trained)):
    pretrained.save(tmp_path / name, model, '')
  places = str(tmp_path / 'base'), str(tmp_path / 'trained')
  # As in the command, whose own process sees no torch.
  command = (
    'import sys, known_answer as study; from irl_jax.command_line import launch\n'
    'launch._hide_torch()\n'
    'study.in_new_process(study.adapter, *sys.argv[1:3], 2, study.pathlib.Path(sys.argv[3]))'
  )
  environment = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}
  subprocess.run(
    [sys.executable, '-c', command, *places, str(tmp_path)], check=True, env=environment
  )
  exact = str(tmp_path / 'adapter')
  loaded = pretrained.load_language_model(exact).params
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), loaded, trained.params)
  (tmp_path / 'nearest').mkdir()
  nearest = pretrained.load_language_model(known_answer.adapter(*places, 1, tmp_path / 'nearest'))
  found = nearest.params['blocks']['attention']['dense']['kernel']
  for layer, before in enumerate(policy.params['blocks']['attention']['dense']['kernel']):
    values = np.linalg.svd(weight[layer] - before, compute_uv=False)
    assert np.linalg.norm(found[layer] - weight[layer]) == pytest.approx(values[1], rel=1e-3)
