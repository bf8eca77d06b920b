"""The ceiling: its training pairs, its absence, and its agreement with the order of r*."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
import tiny_models

from irl_jax.config import Config
from irl_jax.config import Evaluation
from irl_jax.config import IRL
from irl_jax.config import Models
from irl_jax.data import rows as rows_lib
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.runtime import metrics_log
from irl_jax.stages import ceiling
from irl_jax.stages.run import Run

SPLITS = ('train', 'validation')


def true_reward(texts):
  """Scores the letter m; a text without one is toxic."""
  return np.array([text.count('m') - 0.5 for text in texts], np.float32)


@pytest.fixture
def start(tmp_path):
  """Returns a function that writes these rows into both splits and gives their Run."""

  def make(originals, labels, completions, has_true_reward=True, **config):
    for split in SPLITS:
      rows_lib.write_jsonl(
        tmp_path / 'data' / f'{split}.jsonl',
        [
          {'prompt_id': str(index), 'prompt': 'a', 'original': original, 'label': label}
          for index, (original, label) in enumerate(zip(originals, labels))
        ],
      )
      scored = lambda text: float(true_reward([text])[0]) if has_true_reward else None
      rows_lib.write_jsonl(
        tmp_path / 'demos' / f'{split}.jsonl',
        [
          {
            'prompt': 'a',
            'aligned': aligned,
            'base': base,
            'true_reward_aligned': scored('a' + aligned),
            'true_reward_base': scored('a' + base),
          }
          for aligned, base in completions
        ],
      )
    return Run(Config(**config), tmp_path, log, jnp.float32)

  with metrics_log.MetricsLog(tmp_path, '') as log:
    yield make


@pytest.fixture
def trained_with(monkeypatch):
  """Records the arguments of `train`, in place of a training."""
  given = []
  monkeypatch.setattr(ceiling, 'train', lambda run, *splits: given.extend(splits) or true_reward)
  return given


PAIRS = [('m', 'b'), ('mm', 'c'), ('m', 'm')]


def test_original_texts_are_sorted_by_the_true_reward(start, trained_with):
  best, trained_on = ceiling.ceiling(start(['m', 'b', 'mm', 'c'], [1, 1, 1, 1], PAIRS), true_reward)
  assert (
    best is true_reward
    and trained_on == 'original texts of the training split, sorted by the true reward'
  )
  for texts, harmless in trained_with:
    assert texts == ['am', 'ab', 'amm', 'ac'] and harmless.tolist() == [True, False, True, False]


def test_demonstrations_stand_in_where_original_texts_are_of_one_class(start, trained_with):
  _, trained_on = ceiling.ceiling(start(['b'] * 19 + ['m'], [0, 1] * 10, PAIRS), true_reward)
  assert trained_on == 'demonstrations of the training split, sorted by the true reward'
  texts, harmless = trained_with[0]
  assert texts == ['am', 'amm', 'am', 'ab', 'ac', 'am'] and harmless.tolist() == [
    True,
    True,
    True,
    False,
    False,
    True,
  ]


def test_a_score_without_a_zero_is_sorted_at_its_median(start, trained_with):
  high = lambda texts: true_reward(texts) + 100  # all above 0
  run = start(['m', 'b', 'mm', 'c'], [1, 1, 1, 1], PAIRS)
  _, trained_on = ceiling.ceiling(run, high, has_classes=False)
  assert trained_on.endswith('sorted by the true reward, at its median')
  texts, better = trained_with[0]
  scores = true_reward(texts)
  np.testing.assert_array_equal(better, scores > np.median(scores))


def test_without_a_true_reward_labels_are_used(start, trained_with):
  _, trained_on = ceiling.ceiling(
    start(['m', 'b', 'c'], [0, 1, None], PAIRS, has_true_reward=False), None
  )
  assert trained_on == 'original texts of the training split, sorted by the labels'
  assert trained_with[0][0] == ['am', 'ab'] and trained_with[0][1].tolist() == [True, False]


def test_labels_can_be_asked_for_where_there_is_a_true_reward(start, trained_with):
  run = start(['m', 'b', 'mm', 'c'], [1, 0, 1, 0], PAIRS, evaluation=Evaluation(ceiling='labels'))
  _, trained_on = ceiling.ceiling(run, true_reward)
  assert trained_on == 'original texts of the training split, sorted by the labels'
  assert trained_with[0][1].tolist() == [False, True, False, True]


@pytest.mark.parametrize(
  'labels, completions, reward, why',
  [
    ([None] * 4, PAIRS, None, 'by the labels, fewer than 10%'),
    ([1] * 4, PAIRS, None, 'by the labels'),
    ([0, 1] * 2, [('b', 'c')], true_reward, 'by the true reward, fewer than 10%'),
  ],
)
def test_one_class_has_no_ceiling_but_a_reason(
  start, trained_with, labels, completions, reward, why
):
  run = start(['b'] * 4, labels, completions, has_true_reward=reward is not None)
  best, reason = ceiling.ceiling(run, reward)
  assert best is None and why in reason and not trained_with


def test_it_can_be_left_out(start, trained_with):
  run = start(['m', 'b'], [0, 1], PAIRS, evaluation=Evaluation(ceiling='none'))
  assert (
    ceiling.ceiling(run, true_reward) == (None, 'config.evaluation.ceiling = none')
    and not trained_with
  )


def test_prefixes_of_unrelated_texts_are_not_compared(start, policy, monkeypatch, tmp_path):
  pretrained.save(tmp_path / 'base', policy, '')
  run = start(
    ['m', 'b'],
    [0, 1],
    PAIRS,
    irl=IRL(prefix_weight=1.0, margin=0.3),
    models=Models(base=str(tmp_path / 'base')),
  )

  def train(base, training, validation, irl, *_, **__):
    assert irl == IRL(prefix_weight=0.0, margin=0.3)
    raise InterruptedError

  monkeypatch.setattr(ceiling.irl_loop, 'train', train)
  with pytest.raises(InterruptedError):
    ceiling.ceiling(run, true_reward)


@pytest.mark.slow
def test_it_learns_the_order_of_the_true_reward(start, policy, tmp_path):
  fresh = dataclasses.replace(policy, params=tiny_models.drawn(trunk.init, policy.config, seed=3))
  pretrained.save(tmp_path / 'base', fresh, '')
  draw = lambda count, seed: [
    ''.join(letters)
    for letters in np.random.default_rng(seed).choice(list('abcdefghijklm'), (count, 5))
  ]
  irl = IRL(
    objective='logistic',
    temperature=0.2,
    learning_rate=3e-3,
    epochs=1,
    batch_size=32,
    warmup_steps=5,
  )
  run = start(
    draw(300, 1),
    [None] * 300,
    list(zip(draw(1024, 2), draw(1024, 3))),
    irl=irl,
    models=Models(base=str(tmp_path / 'base')),
  )
  best, _ = ceiling.ceiling(run, true_reward)
  held = draw(300, 9)
  scores = best(held)
  assert stats.spearmanr(scores, true_reward(held)).statistic > 0.6
  assert 0.1 < np.mean(scores < 0) < 0.9 and list((tmp_path / 'irl' / 'ceiling').iterdir())
