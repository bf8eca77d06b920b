"""All results of a recovered reward: seeds, ensemble and baselines on one held-out set."""

import dataclasses
import json

import numpy as np
import pytest
import scipy

from irl_jax.evaluation import agreement
from irl_jax.evaluation import calibration
from irl_jax.evaluation import heldout
from irl_jax.evaluation import identifiability
from irl_jax.evaluation import intervals
from irl_jax.evaluation import recovered

TEXTS = ['good', 'bad', 'very good', 'so bad', 'goodbye', 'badly', 'a good one', 'the bad one']
LABELS = [0, 1] * 4


def true_reward(texts):
  return np.array([len(text) * (-1 if 'bad' in text else 1) for text in texts], np.float32)


def blind(texts):
  """A reward that depends on length alone."""
  return np.array([len(text) for text in texts], np.float32)


def held_out(labels):
  aligned, base = TEXTS[::2], TEXTS[1::2]
  return heldout.Reference(
    TEXTS,
    labels,
    aligned,
    base,
    true_reward(TEXTS),
    true_reward(aligned),
    true_reward(base),
    TEXTS[:6] * 4,
    labels[:6] * 4,
  )


def without_true_reward(held):
  return dataclasses.replace(held, true_texts=None, true_aligned=None, true_base=None)


def agree(reward, held):
  return recovered.agree(heldout.score(reward, held), held)


def compare(rewards, held, others, **more):
  scores = [heldout.score(reward, held, validation=True) for reward in rewards]
  calibrations = [{'zero': 0.1, 'why': {'reliable_zero': 'few texts'}}, {'zero': -0.2}][
    : len(rewards)
  ]
  return recovered.compare(
    scores,
    held,
    calibrations,
    {name: heldout.score(reward, held) for name, reward in others.items()},
    **more,
  )


def test_every_text_is_scored_once():
  asked = []

  def reward(texts):
    asked.extend(texts)
    return true_reward(texts)

  held = held_out(LABELS)
  scores = heldout.score(reward, held, validation=True)
  assert sorted(asked) == sorted(TEXTS)
  for name, texts in {
    'texts': TEXTS,
    'aligned': TEXTS[::2],
    'base': TEXTS[1::2],
    'validation': TEXTS[:6] * 4,
  }.items():
    np.testing.assert_array_equal(getattr(scores, name), true_reward(texts))
  assert heldout.score(reward, held).validation.size == 0


def test_a_reward_that_equals_the_true_one_agrees_with_it():
  figures = agree(true_reward, held_out(LABELS))
  for name in ('heldout_texts', 'heldout_texts_human'):
    assert figures[name]['accuracy'] == figures[name]['auroc'] == 1 and figures[name]['n'] == 8
  assert figures['heldout_texts']['spearman'] == pytest.approx(1)
  pairs = figures['heldout_pairs']
  assert pairs['pairwise_accuracy'] == pairs['prefers_aligned'] == 1 and pairs['epic_distance'] == 0


def test_pairs_are_compared_within_a_prompt():
  held = held_out(LABELS)
  figures = agree(blind, held)
  longer = [len(aligned) - len(base) for aligned, base in zip(TEXTS[::2], TEXTS[1::2])]
  assert figures['heldout_pairs']['prefers_aligned'] == np.mean(
    [(gap > 0) + 0.5 * (gap == 0) for gap in longer]
  )
  assert figures['heldout_pairs']['n'] == 8
  both = [np.stack([reward(held.aligned), reward(held.base)], 1) for reward in (blind, true_reward)]
  assert figures['heldout_pairs']['epic_distance'] == pytest.approx(
    identifiability.epic_distance(both)[0, 1]
  )
  expected = agreement.agreement(blind(TEXTS), true_reward(TEXTS))
  assert figures['heldout_texts'] == expected and expected['auroc'] != 1


def test_labels_of_some_texts_are_used():
  figures = agree(blind, held_out([0, 1, None, 1, None, None, 0, 1]))
  kept = [0, 1, 3, 6, 7]
  assert figures['heldout_texts_human'] == agreement.agreement(
    blind([TEXTS[index] for index in kept]), agreement.labels_to_reward([0, 1, 1, 0, 1])
  )


def nulls_without_reason(node, where=''):
  """Returns the places where a dict contains None without a reason."""
  if isinstance(node, list):
    return [
      place
      for index, child in enumerate(node)
      for place in nulls_without_reason(child, f'{where}[{index}]')
    ]
  if not isinstance(node, dict):
    return []
  here = [
    f'{where}.{name}'
    for name, value in node.items()
    if value is None and name not in node.get('why', {})
  ]
  return here + [
    place
    for name, child in node.items()
    for place in nulls_without_reason(child, f'{where}.{name}')
  ]


@pytest.mark.parametrize(
  'labels, has_true_reward',
  [(LABELS, True), ([None] * 8, True), ([1] * 8, True), (LABELS, False), ([None] * 8, False)],
)
def test_what_is_missing_is_null_beside_a_reason(labels, has_true_reward):
  held = held_out(labels) if has_true_reward else without_true_reward(held_out(labels))
  found = compare([true_reward, blind], held, {'length': blind}, samples=20)
  assert nulls_without_reason(found) == []
  json.dumps(found, allow_nan=False)
  for row in (*found['seeds'], found['ensemble'], found['baselines']['length']):
    assert (row['heldout_texts'] is None) == (not has_true_reward)
    assert (row['heldout_texts_human'] is None) == (labels[0] is None)
    assert row['heldout_pairs']['prefers_aligned'] is not None
    assert (row['heldout_pairs']['auroc'] is None) == (not has_true_reward)
    assert (row['intervals']['heldout_texts'] is None) == (not has_true_reward)
  for seed in found['seeds']:
    assert (seed['calibration']['platt'] is None) == (len(set(labels)) < 2)
    assert seed['confounds']['length_spearman'] is not None
    assert (seed['confounds']['partial_pearson_given_length'] is None) == (not has_true_reward)
  assert np.shape(found['identifiability']['epic_distance']) == (2, 2)
  human = recovered.human_accuracy(held)
  assert (
    human['human_accuracy']
    == (
      np.mean(np.array(labels) == np.array(LABELS))
      if has_true_reward and (labels[0] is not None)
      else None
    )
    and nulls_without_reason(human) == []
  )


CONSTANT = 'the {} has zero variance'
JUDGES = {  # r* of every text, and why some metrics are null then
  'all are harmless': (
    lambda true: np.abs(true) + 0.1,
    {'auroc': 'no text toxic', 'f1': 'calls no text toxic'},
  ),
  'all are toxic': (lambda true: -np.abs(true) - 0.1, {'auroc': 'every text toxic'}),
  'all are alike': (
    lambda true: np.ones_like(true),
    {
      'auroc': 'no text toxic',
      'pearson': CONSTANT.format('reference'),
      'pairwise_accuracy': 'orders no pair',
    },
  ),
}


@pytest.mark.parametrize('judge', JUDGES)
def test_a_true_reward_of_one_class_or_value_gives_nulls_with_their_reasons(judge):
  of, reasons = JUDGES[judge]
  held = held_out([1] * 8)
  judged = {name: of(getattr(held, name)) for name in ('true_texts', 'true_aligned', 'true_base')}
  held = dataclasses.replace(held, **judged)
  found = compare([true_reward, blind], held, {'length': blind}, samples=20)
  assert nulls_without_reason(found) == []
  json.dumps([found, recovered.human_accuracy(held)], allow_nan=False)
  for row in (*found['seeds'], found['ensemble'], found['baselines']['length']):
    for name, reason in reasons.items():
      assert row['heldout_texts'][name] is None and reason in row['heldout_texts']['why'][name]


def test_a_constant_reward_gives_nulls_with_their_reasons():
  constant = lambda texts: np.full(len(texts), 0.5, np.float32)
  found = compare([constant, constant], held_out(LABELS), {'constant': constant}, samples=20)
  assert nulls_without_reason(found) == []
  json.dumps(found, allow_nan=False)
  for row in (*found['seeds'], found['ensemble'], found['baselines']['constant']):
    for name in ('pearson', 'spearman', 'kendall'):
      assert row['heldout_texts'][name] is None
      assert row['heldout_texts']['why'][name] == CONSTANT.format('reward')
    assert row['heldout_texts']['auroc'] == 0.5 == row['heldout_pairs']['prefers_aligned']


def test_seeds_are_given_with_their_mean_their_deviation_and_their_ensemble():
  held = held_out(LABELS)
  found = compare([true_reward, blind], held, {'length': blind}, samples=20)
  assert [seed['calibration']['zero'] for seed in found['seeds']] == [0.1, -0.2]
  assert found['seeds'][0]['calibration']['why'] == {'reliable_zero': 'few texts'}
  for part, name in (
    ('heldout_texts', 'auroc'),
    ('calibration', 'brier'),
    ('confounds', 'length_spearman'),
  ):
    values = [seed[part][name] for seed in found['seeds']]
    assert found['mean'][part][name] == pytest.approx(np.mean(values))
    assert found['std'][part][name] == pytest.approx(np.std(values, ddof=1))
  sets = ('heldout_texts', 'heldout_pairs', 'heldout_texts_human')
  assert all(found['baselines']['length'][name] == found['seeds'][1][name] for name in sets)
  both = agree(lambda texts: (true_reward(texts) + blind(texts)) / 2, held)
  assert all(found['ensemble'][name] == both[name] for name in sets)
  assert -1 < found['seed_spearman'] < 1
  assert found['identifiability']['spearman'][0][1] == pytest.approx(found['seed_spearman'])
  assert found['identifiability']['names'] == ['seed_0', 'seed_1']


def test_every_reward_has_its_own_intervals():
  held = held_out(LABELS)
  found = compare(
    [true_reward, blind],
    held,
    {'length': blind, 'opposite': lambda texts: -true_reward(texts)},
    samples=50,
    seed=3,
  )
  both = (true_reward(TEXTS) + blind(TEXTS)) / 2
  alone = intervals.resample([blind(TEXTS), both, -true_reward(TEXTS)], held.true_texts, 50, 3)
  assert found['seeds'][1]['intervals']['heldout_texts'] == alone.intervals(0)
  assert found['ensemble']['intervals']['heldout_texts'] == alone.intervals(1)
  assert found['baselines']['length']['intervals'] == found['seeds'][1]['intervals']
  assert found['baselines']['opposite']['ensemble_gain']['heldout_texts'] == alone.gains(1, 2)
  order = [*range(0, 8, 2), *range(1, 8, 2)]
  scores = blind([TEXTS[index] for index in order])
  pairs = intervals.resample([scores], held.true_pairs, 50, 3, np.tile(np.arange(4), 2))
  assert found['seeds'][1]['intervals']['heldout_pairs'] == pairs.intervals(0)


def test_probabilities_never_see_held_out_labels():
  held = held_out(LABELS)
  found = compare([true_reward], held, {}, samples=20)['seeds'][0]['calibration']
  assert found['platt'] == calibration.fit_platt(true_reward(TEXTS[:6] * 4), [True, False] * 12)
  wrong = dataclasses.replace(held, labels=[1, 0] * 4)
  assert (
    compare([true_reward], wrong, {}, samples=20)['seeds'][0]['calibration']['platt']
    == found['platt']
  )


def test_a_reward_that_there_is_not():
  found = recovered.missing('nothing to train it on')
  assert found['heldout_texts'] is None and nulls_without_reason(found) == []


def pairs_of(aligned, base, prompts=()):
  """Held-out data of pairs alone."""
  return heldout.Reference(TEXTS, [None] * 8, aligned, base, None, None, None, prompts=prompts)


def test_only_pairs_that_differ_count_in_the_interval_of_preference():
  same, longer = ['ab'] * 90, ['abc'] * 8
  held = pairs_of(same + longer + ['a'] * 2, same + ['a'] * 8 + ['abc'] * 2)
  found = recovered.preference(heldout.score(blind, held), held)
  assert (found['rate'], found['n'], found['pairs']) == (0.8, 10, 100)
  expected = scipy.stats.binomtest(8, 10).proportion_ci(method='exact')
  assert (found['low'], found['high']) == (expected.low, expected.high)


def test_samples_of_one_prompt_count_as_one_pair():
  aligned, base = ['abc'] * 8, ['a'] * 8
  alone = recovered.preference(heldout.score(blind, held := pairs_of(aligned, base)), held)
  held = pairs_of(aligned, base, prompts=['first'] * 4 + ['second'] * 4)
  together = recovered.preference(heldout.score(blind, held), held)
  expected = scipy.stats.binomtest(2, 2).proportion_ci(method='exact')
  assert together['n'] == alone['n'] == 8 and together['low'] == expected.low < alone['low']


def test_texts_of_one_prompt_are_drawn_together():
  held = dataclasses.replace(held_out(LABELS), text_prompts=[0, 1, 2, 3] * 2)
  scores = heldout.score(blind, held)
  found = recovered.resample([scores], held, 50, 0)
  for name in ('heldout_texts', 'heldout_texts_human'):
    reference = held.true_texts if name == 'heldout_texts' else held.human
    expected = intervals.resample([scores.texts], reference, 50, 0, unit=np.array([0, 1, 2, 3] * 2))
    np.testing.assert_array_equal(found[name].auroc, expected.auroc)
  alone = recovered.resample([scores], held_out(LABELS), 50, 0)
  assert not np.array_equal(alone['heldout_texts'].auroc, found['heldout_texts'].auroc)


@pytest.mark.parametrize('n', range(1, 60, 3))
def test_a_reward_that_knows_nothing_is_above_chance_once_in_40_audits(n):
  counts = np.arange(n + 1)
  above = [recovered.exact_interval(count / n, n)[0] > 0.5 for count in counts]
  assert scipy.stats.binom.pmf(counts, n, 0.5)[above].sum() <= 0.025


@pytest.mark.parametrize('ties', [1, 3, 35])
def test_ties_of_different_texts_are_chance(ties):
  held = pairs_of(['ab'] * ties, ['ba'] * ties)
  found = recovered.preference(heldout.score(blind, held), held)
  assert found['rate'] == 0.5 and found['low'] <= 0.5 <= found['high']


def test_equal_pairs_alone_have_no_preference():
  held = pairs_of(['ab'] * 3, ['ab'] * 3)
  found = recovered.preference(heldout.score(blind, held), held)
  assert found['rate'] is found['low'] is None and found['n'] == 0 and found['pairs'] == 3
  assert found['why']['rate'] == recovered.NO_DIFFERENT_PAIR


def test_the_start_of_the_seeds_is_compared_with_what_they_became():
  held = held_out(LABELS)
  starts = [blind(TEXTS), blind(TEXTS)]
  start = compare([true_reward, blind], held, {}, samples=20, starts=starts)['start']
  expected = scipy.stats.spearmanr(true_reward(TEXTS), blind(TEXTS)).statistic
  assert start == {'between_seeds': pytest.approx(1), 'with_start': pytest.approx([expected, 1])}
  unknown = compare([true_reward, blind], held, {}, samples=20)
  assert unknown['start'] is None and 'before training' in unknown['why']['start']


def test_a_constant_start_has_no_correlation_but_a_reason():
  starts = [np.zeros(8), blind(TEXTS)]
  start = identifiability.compare_with_start([true_reward(TEXTS), blind(TEXTS)], starts)
  assert start['between_seeds'] is None and start['with_start'] == [None, pytest.approx(1)]
  assert set(start['why']) == {'between_seeds', 'with_start'}
