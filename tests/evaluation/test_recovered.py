"""What a recovered reward is worth, put together: seeds, ensemble and baselines on one set of held-out data."""

import numpy as np
import pytest

from irl_jax.evaluation import agreement
from irl_jax.evaluation import recovered

TEXTS = ['good', 'bad', 'very good', 'so bad', 'goodbye', 'badly', 'a good one', 'the bad one']


def true_reward(texts):
  return np.array([len(text) * (-1 if 'bad' in text else 1) for text in texts], np.float32)


def blind(texts):
  """A reward that sees the length alone."""
  return np.array([len(text) for text in texts], np.float32)


def held_out(labels):
  aligned, base = TEXTS[::2], TEXTS[1::2]
  return recovered.Reference(TEXTS, labels, aligned, base, true_reward(TEXTS), true_reward(aligned), true_reward(base))


LABELS = np.array([0, 1] * 4)


def test_a_reward_that_equals_the_true_one_agrees_with_it():
  figures, scores = recovered.agree(true_reward, held_out(LABELS))
  for name in ('heldout_texts', 'heldout_texts_human'):
    assert figures[name]['accuracy'] == figures[name]['auroc'] == 1 and figures[name]['n'] == 8
  assert figures['heldout_texts']['spearman'] == pytest.approx(1)
  assert figures['heldout_pairs']['pairwise_accuracy'] == figures['heldout_pairs']['prefers_aligned'] == 1
  np.testing.assert_array_equal(scores, true_reward(TEXTS))


def test_pairs_are_compared_within_a_prompt():
  figures, _ = recovered.agree(blind, held_out(LABELS))
  longer = [len(aligned) - len(base) for aligned, base in zip(TEXTS[::2], TEXTS[1::2])]
  assert figures['heldout_pairs']['prefers_aligned'] == np.mean([(gap > 0) + 0.5 * (gap == 0) for gap in longer])
  assert figures['heldout_pairs']['n'] == 8
  expected = agreement.agreement(blind(TEXTS), true_reward(TEXTS))
  assert figures['heldout_texts'] == expected and expected['auroc'] != 1


def test_without_labels_there_is_a_reason():
  figures, _ = recovered.agree(true_reward, held_out(None))
  assert figures['heldout_texts_human'] is None and 'no labels' in figures['why']['heldout_texts_human']


def test_seeds_their_mean_and_their_ensemble():
  seeds = [true_reward, blind]
  calibrations = [{'zero': 0.1}, {'zero': -0.2}]
  found = recovered.compare(seeds, held_out(LABELS), calibrations, {'length': blind})
  assert [seed['calibration'] for seed in found['seeds']] == calibrations
  aurocs = [seed['heldout_texts']['auroc'] for seed in found['seeds']]
  assert found['mean']['heldout_texts']['auroc'] == pytest.approx(np.mean(aurocs))
  assert found['std']['heldout_texts']['auroc'] == pytest.approx(np.std(aurocs, ddof=1))
  assert found['baselines']['length'] == {name: found['seeds'][1][name] for name in found['baselines']['length']}
  both = recovered.agree(lambda texts: (true_reward(texts) + blind(texts)) / 2, held_out(LABELS))[0]
  assert found['ensemble'] == both
  assert -1 < found['seed_spearman'] < 1


def test_baselines_from_demonstrations_alone():
  aligned, base = ['a good day', 'good', 'such a good one'], ['bad', 'so bad', 'bad bad']
  baselines = recovered.demonstration_baselines(aligned, base)
  assert set(baselines) == {'constant', 'length', 'bag_of_words'}
  assert np.ptp(baselines['constant'](TEXTS)) == 0
  assert baselines['length'](['long text', 'x'])[0] > baselines['length'](['long text', 'x'])[1]
  good, bad = baselines['bag_of_words'](['good', 'bad'])
  assert good > bad
