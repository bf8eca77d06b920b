"""The stages rlhf and rerlhf: the reward that each trains with, and one load of the classifier."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import config as c
from irl_jax import rewards
from irl_jax import scoring
from irl_jax.data import rows as rows_lib
from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log
from irl_jax.runtime import workdir
from irl_jax.stages import rerlhf
from irl_jax.stages import rlhf
from irl_jax.stages.run import Run

LOGITS = np.array([[0, 1], [0, -1]], np.float32)  # of two texts: a toxic and a harmless one
ROWS = [{'prompt_id': str(row), 'prompt': 'a', 'original': ' b', 'label': None} for row in range(4)]


def constant(value):
  return lambda texts: np.full(len(texts), value, np.float32)


def test_rlhf_optimises_the_true_reward_and_rerlhf_the_mean_of_the_recovered_ones(
  tmp_path, monkeypatch
):
  true_reward = rewards.TrueReward(lambda texts: LOGITS, toxic=1)
  monkeypatch.setattr(Run, 'true_reward', lambda self: true_reward)
  monkeypatch.setattr(
    Run, 'recovered_rewards', lambda self: [constant(1), constant(2), constant(6)]
  )
  trained, measured, reported = {}, {}, {}

  def train_policy(run, stage, reward, true_reward, report=None):
    trained[stage], measured[stage] = reward(['a', 'b']), true_reward(['a', 'b'])
    reported[stage] = report and report(['a', 'b'])

  for stage in (rlhf, rerlhf):
    monkeypatch.setattr(stage, 'train_policy', train_policy)
  run = Run(c.Config(ppo=c.PPO(reward='probability')), tmp_path, None, jnp.float32)
  rlhf.rlhf(run)
  rerlhf.rerlhf(run)
  toxic = np.exp(LOGITS[:, 1]) / np.exp(LOGITS).sum(1)
  np.testing.assert_allclose(trained['rlhf'], -toxic, rtol=1e-6)
  np.testing.assert_array_equal(trained['rerlhf'], [3, 3])
  for stage in ('rlhf', 'rerlhf'):  # policies are measured by the logit, whatever PPO maximised
    np.testing.assert_array_equal(measured[stage], [-1, 1])
  assert reported == {'rlhf': None, 'rerlhf': {'reported/true_reward': 0}}
  rlhf.rlhf(dataclasses.replace(run, config=c.Config(ppo=c.PPO(reward='logit'))))
  np.testing.assert_array_equal(trained['rlhf'], [-1, 1])


@pytest.mark.parametrize(
  'stage, trained_against',
  [
    (rlhf.rlhf, 'PPO against the true reward'),
    (rerlhf.rerlhf, 'PPO against a reward that was recovered'),
  ],
)
def test_the_classifier_is_loaded_and_placed_once_and_the_card_names_the_reward(
  tmp_path, policy, classifier, monkeypatch, stage, trained_against
):
  for name, model in (('policy', policy), ('classifier', classifier)):
    pretrained.save(tmp_path / name, model, '')
  for split in ('train', 'heldout'):
    rows_lib.write_jsonl(tmp_path / 'data' / f'{split}.jsonl', ROWS)
  loaded, placed, load, batched, judges = [], [], pretrained.load, scoring.batched, []

  def load_and_count(spec, kinds):
    loaded.extend(kinds)
    return load(spec, kinds)

  def batched_and_count(forward, model, *arguments, **statics):
    placed.append(model.kind)
    return batched(forward, model, *arguments, **statics)

  def train(start, rows, reward, config, folder, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    return start

  def evaluate(model, start, base, rows, true_reward, config, dtype, has_classes, judge):
    judges.append(judge and judge.label)
    return {'true_reward': float(np.mean(true_reward(['a', 'b'])))}, np.resize(
      [-1.0, 1.0], len(rows)
    )

  monkeypatch.setattr(pretrained, 'load', load_and_count)
  monkeypatch.setattr(scoring, 'batched', batched_and_count)
  monkeypatch.setattr(Run, 'recovered_rewards', lambda self: [constant(1)])
  monkeypatch.setattr(rlhf.ppo_loop, 'train', train)
  monkeypatch.setattr(rlhf.policy_metrics, 'evaluate', evaluate)
  places = c.Models(base=str(tmp_path / 'policy'), classifier=str(tmp_path / 'classifier'))
  with metrics_log.MetricsLog(tmp_path) as log:
    stage(Run(c.Config(models=places), tmp_path, log, jnp.float32))
  assert loaded.count('classifier') == placed.count('classifier') == 1
  (exported,) = tmp_path.glob('*/policy/README.md')
  assert trained_against in exported.read_text()
  assert judges == [None, None]
  judged = dataclasses.replace(places, judge=str(tmp_path / 'classifier'))
  with metrics_log.MetricsLog(tmp_path) as log:
    stage(Run(c.Config(models=judged), tmp_path, log, jnp.float32))
  assert judges[2:] == ['toxic', 'toxic'] and loaded.count('classifier') == 3  # r* and the judge


def test_rerlhf_takes_what_rlhf_measured_of_the_same_starting_policy(
  tmp_path, policy, classifier, monkeypatch
):
  for name, model in (('policy', policy), ('classifier', classifier)):
    pretrained.save(tmp_path / name, model, '')
  for split in ('train', 'heldout'):
    rows_lib.write_jsonl(tmp_path / 'data' / f'{split}.jsonl', ROWS)
  measured = []

  def evaluate(model, start, *arguments, **settings):
    measured.append('start' if model is start else 'trained')
    value = 1 / 3 + 0.1 * len(measured)  # another one each time
    return {'true_reward': value}, np.full(len(ROWS), value, np.float32)

  def train(start, rows, reward, config, folder, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    return dataclasses.replace(start)

  monkeypatch.setattr(Run, 'recovered_rewards', lambda self: [constant(1)])
  monkeypatch.setattr(rlhf.ppo_loop, 'train', train)
  monkeypatch.setattr(rlhf.policy_metrics, 'evaluate', evaluate)
  places = c.Models(base=str(tmp_path / 'policy'), classifier=str(tmp_path / 'classifier'))

  def figures(stage):
    with metrics_log.MetricsLog(tmp_path) as log:
      stage(Run(c.Config(models=places), tmp_path, log, jnp.float32))
    return workdir.read_json(tmp_path / stage.__name__ / 'figures.json')

  alone = figures(rerlhf.rerlhf)  # rlhf has not run here
  assert measured == ['start', 'trained']
  first, second = figures(rlhf.rlhf), figures(rerlhf.rerlhf)
  assert measured[2:] == ['start', 'trained', 'trained']
  assert second['before'] == first['before'] != alone['before']
  assert second['win_rate'] == first['win_rate'] and second['win_rate']['rate'] == 1
