"""Sentences about ranking, words, length and style: each needs the result that supports it."""

import pytest

from irl_jax.report import caveats
from irl_jax.report import findings
from irl_jax.report import inputs as inputs_lib
from irl_jax.report import quality

NO_REFERENCE = {'heldout_texts': None, 'heldout_texts_human': None, 'confounds': None}


def parse(summary):
  return inputs_lib.parse_summary(summary)


def audit(make_summary, *preferences, **seed_fields):
  """A summary without r* and labels, whose seeds have these preferences."""
  summary = make_summary(seeds=len(preferences))
  for seed, preference in zip(summary['irl']['seeds'], preferences):
    seed |= NO_REFERENCE | {'preference': preference} | seed_fields
  summary['irl']['baselines'] = {}
  del summary['rerlhf']
  return summary


def preference(rate, low, high, n=200, pairs=300):
  return {'rate': rate, 'low': low, 'high': high, 'n': n, 'pairs': pairs}


ABOVE, HOLDS, BELOW = (
  preference(0.6, 0.501, 0.7),
  preference(0.56, 0.5, 0.62),
  preference(0.4, 0.3, 0.499),
)
SAME = {'rate': None, 'low': None, 'high': None, 'n': 0, 'pairs': 40}


@pytest.mark.parametrize(
  'seeds, apart, words',
  [
    (
      [ABOVE, ABOVE],
      quality.APART,
      'So it tells the two models apart, but this run cannot show by',
    ),
    ([ABOVE], quality.APART, '60.0 % [50.1, 70.0] of the held-out pairs that differ (200 of 300).'),
    ([ABOVE, HOLDS], quality.MIXED, 'some seeds cannot be distinguished from chance, 50 %'),
    ([ABOVE, BELOW], quality.MIXED, 'some seeds cannot be distinguished from chance, 50 %'),
    ([HOLDS, HOLDS], quality.AT_CHANCE, '56.0 % [50.0, 62.0] of the held-out pairs that'),
    ([HOLDS, HOLDS], quality.AT_CHANCE, 'nothing shows that it tells the two models apart.'),
    ([BELOW, HOLDS], quality.AT_CHANCE, 'That cannot be distinguished from chance'),
    ([BELOW, BELOW], quality.BACKWARDS, 'That is below chance'),
    ([SAME, SAME], quality.AT_CHANCE, 'write identical completions for all 40 held-out prompts'),
  ],
)
def test_the_interval_of_pairs_that_differ_decides_whether_models_are_told_apart(
  make_summary, seeds, apart, words
):
  recovery = parse(audit(make_summary, *seeds)).recovery
  assert quality.tells_apart(recovery) == apart
  verdict, text = quality.ranking(recovery, None)
  assert verdict == 'unknown' and words in text.replace('\u00a0', ' ')
  assert ('So it tells' in text) == (apart == quality.APART)


@pytest.mark.parametrize('seeds', [[HOLDS, HOLDS], [BELOW, BELOW], [SAME, SAME]])
def test_where_nothing_was_learned_no_line_says_yes(make_summary, seeds):
  found = findings.find(parse(audit(make_summary, *seeds)))
  assert found.headline.startswith('Nothing was recovered:')
  assert {line.verdict for line in found.lines} == {'no', 'unknown'}
  assert 'so this line proves nothing. 2\u00a0seeds rank' in found.lines[1].text
  assert found.lines[2].text.startswith('Do not use the sign of this reward: there is no')


def test_partly_does_not_stand_beside_not_known(make_summary):
  summary = audit(make_summary, HOLDS, HOLDS)
  summary['irl']['identifiability']['spearman'] = [[1, 0.8], [0.8, 1]]
  found = findings.find(parse(summary))
  assert found.lines[1].verdict == 'unknown' and 'Partly' not in found.lines[1].text


@pytest.mark.parametrize(
  'low, high, few', [(0.5, 0.75, True), (0.5, 0.749, False), (0.501, 0.9, False)]
)
def test_pairs_that_leave_both_chance_and_more_possible_are_called_few(
  make_summary, low, high, few
):
  summary = audit(make_summary, preference(0.6, low, high))
  text = quality.on_pairs(parse(summary).recovery)
  assert ('Few pairs differ' in text) == few


@pytest.mark.parametrize(
  'name, low, named',
  [
    ('bag_of_words', 0.51, True),
    ('bag_of_words', 0.5, False),
    ('dpo_implicit', 0.9, False),  # tells the two models apart by construction
  ],
)
def test_a_simple_reward_that_tells_the_models_apart_is_named(make_summary, name, low, named):
  summary = audit(make_summary, HOLDS)
  summary['irl']['baselines'] = {name: {'preference': preference(0.95, low, 0.99)}}
  text = quality.on_pairs(parse(summary).recovery)
  assert (
    'However, there is a difference to learn: a bag of words prefers it in 95.0' in text
  ) == named
  summary['irl']['seeds'][0]['preference'] = ABOVE
  assert 'However' not in quality.on_pairs(parse(summary).recovery)


@pytest.mark.parametrize('share', [0.41, 0.5, 0.574, 0.9])
def test_a_share_without_an_interval_claims_nothing(make_summary, share):
  summary = audit(make_summary, None, heldout_pairs={'prefers_aligned': share})
  recovery = parse(summary).recovery
  assert quality.tells_apart(recovery) is None
  text = quality.on_pairs(recovery)
  assert f'{100 * share:.1f}' in text and 'has no interval' in text
  assert 'tells the two models apart' not in text
  assert findings.find(parse(summary)).headline.startswith('Not verified')


def test_a_reward_that_ranks_rightly_stands_but_chance_on_pairs_is_said(make_summary):
  summary = make_summary()
  for seed in summary['irl']['seeds']:
    seed['preference'] = HOLDS
  found = findings.find(parse(summary))
  assert found.headline.startswith('It ranks texts almost as')
  assert found.lines[0].verdict == 'yes' and 'nothing shows that it tells' in found.lines[0].text


@pytest.mark.parametrize('auroc, low, verdict', [(0.9, 0.75, 'yes'), (0.9, 0.749, 'partly')])
def test_yes_needs_an_interval_above_partly(make_summary, auroc, low, verdict):
  summary = make_summary(seeds=1)
  seed = summary['irl']['seeds'][0]
  seed['heldout_texts']['auroc'], seed['intervals']['heldout_texts']['auroc'] = auroc, [low, 0.97]
  assert quality.ranking(parse(summary).recovery, 'heldout_texts')[0] == verdict


def test_the_seed_of_the_worst_verdict_decides(make_summary):
  summary = make_summary()
  seed = summary['irl']['seeds'][2]
  seed['heldout_texts']['auroc'], seed['intervals']['heldout_texts']['auroc'] = 0.97, [0.49, 1.0]
  verdict, text = quality.ranking(parse(summary).recovery, 'heldout_texts')
  assert verdict == 'no' and '97.0\u00a0% [49.0, 100.0] in the worst' in text


@pytest.mark.parametrize(
  'aurocs, high, reversed_labels',
  [
    ((0.1, 0.25), 0.4, True),
    ((0.1, 0.26), 0.4, False),
    ((0.1, 0.9), 0.95, False),
    ((0.1, 0.2), 0.5, False),
  ],
)
@pytest.mark.parametrize(
  'reference, whose',
  [('heldout_texts', 'of the true reward'), ('heldout_texts_human', 'of the texts')],
)
def test_auroc_far_below_chance_in_every_seed_questions_the_labels(
  make_summary, aurocs, high, reversed_labels, reference, whose
):
  summary = make_summary(seeds=2)
  for seed, auroc in zip(summary['irl']['seeds'], aurocs):
    seed[reference] = seed[reference] | {'auroc': auroc}
    seed['intervals'] = {reference: {'auroc': [auroc - 0.05, high]}}
  verdict, text = quality.ranking(parse(summary).recovery, reference)
  assert verdict == 'no'
  assert ('may be reversed' in text) == reversed_labels
  assert not reversed_labels or whose in text


def test_peoples_labels_are_compared_with_chance_too(make_summary):
  summary = make_summary()
  for seed in summary['irl']['seeds']:
    seed['intervals']['heldout_texts_human'] = {'auroc': [0.45, 0.95]}
  text = quality.ranking(parse(summary).recovery, 'heldout_texts')[1]
  assert '92.0\u00a0% [45.0, 95.0] in the worst. That cannot be distinguished from chance' in text


def line(summary, reference='heldout_texts'):
  return caveats.shortcuts(inputs_lib.parse_summary(summary).recovery, reference)


@pytest.mark.parametrize(
  'trained_on, words',
  [
    ('demonstrations, sorted by the true reward', 'trained on demonstrations, sorted by the true'),
    ('original texts, sorted by the labels', 'trained on original texts, sorted by the labels,'),
    (None, 'trained on texts in the right order, reaches 0.970, 0.030 more'),
  ],
)
def test_the_ceiling_names_what_it_was_trained_on(make_summary, trained_on, words):
  summary = make_summary()
  summary['irl']['baselines']['ceiling']['trained_on'] = trained_on
  text = line(summary)[1]
  assert words in text and 'true labels' not in text


@pytest.mark.parametrize(
  'gain, words',
  [
    ([-0.05, 0.0], 'reaches 0.970, a difference that may be chance'),
    ([0.0, 0.05], 'a difference that may be chance'),
    ([-0.05, -0.01], 'reaches 0.970, 0.030 more'),
  ],
)
def test_a_distance_to_the_ceiling_that_may_be_chance_is_said(make_summary, gain, words):
  summary = make_summary()
  summary['irl']['baselines']['ceiling']['ensemble_gain'] = {'heldout_texts': {'auroc': gain}}
  assert words in line(summary)[1]


@pytest.mark.parametrize(
  'auroc, interval, verdict, words',
  [
    (0.56, (0.26, 0.75), 'yes', 'little of it is style'),
    (0.56, (0.24, 0.75), 'partly', 'too wide to tell how much'),
    (0.56, (0.4, 0.76), 'partly', '[0.400, 0.760] is too wide to tell how much'),
    (0.7, (0.51, 0.9), 'partly', 'some of it is style'),
    (0.7, (0.5, 0.9), 'partly', 'too wide'),
    (0.8, (0.61, 0.9), 'no', 'much of it is style'),
    (0.8, (0.6, 0.9), 'partly', 'too wide'),
    (0.2, (0.1, 0.39), 'no', 'much of it is style'),
  ],
)
def test_the_interval_of_style_decides_its_word(make_summary, auroc, interval, verdict, words):
  summary = make_summary()
  for seed in summary['irl']['seeds']:
    seed['confounds'] |= dict(zip(('style_auroc', 'style_low', 'style_high'), (auroc, *interval)))
  found, text = line(summary)
  assert found == verdict and words in text


@pytest.mark.parametrize(
  'spearman, n, verdict, words',
  [
    (0.1, 120, 'yes', 'Length plays little part'),
    (0.288, 41, 'partly', 'How much it depends on length is not known'),
    (0.35, 120, 'partly', 'It depends on length'),
    (
      0.35,
      20,
      'partly',
      'is not known: a Spearman correlation of 0.350, with an interval of [−0.1',
    ),
  ],
)
def test_the_number_of_texts_decides_what_is_said_of_length(
  make_summary, spearman, n, verdict, words
):
  summary = make_summary()
  summary['irl']['identifiability']['n'] = n
  for seed in summary['irl']['seeds']:
    seed['confounds'] |= {'length_spearman': spearman}
  found, text = line(summary)
  assert found == verdict and words in text


@pytest.mark.parametrize('low, blamed', [(0.01, True), (-0.01, False)])
def test_an_agreement_that_may_be_none_is_not_explained_by_length(make_summary, low, blamed):
  summary = make_summary()
  for seed in summary['irl']['seeds']:
    seed['heldout_texts'] |= {'spearman': 0.12}
    seed['intervals']['heldout_texts']['spearman'] = [low, 0.25]
    seed['confounds'] |= {'partial_spearman_given_length': 0.02}
  assert ('Most of its agreement is length' in line(summary)[1]) == blamed


@pytest.mark.parametrize(
  'left_out, verdict', [('style_auroc', 'partly'), ('length_spearman', 'partly'), (None, 'yes')]
)
def test_what_was_not_measured_is_no_yes(make_summary, left_out, verdict):
  summary = make_summary()
  for seed in summary['irl']['seeds']:
    seed['confounds'] |= {left_out: None} if left_out else {}
  found, text = line(summary)
  assert found == verdict and ('Not measured' in text) == (left_out is not None)


def test_length_alone_says_nothing_of_words_and_style(make_summary):
  summary = make_summary()
  for seed in summary['irl']['seeds']:
    seed['confounds'] |= {'style_auroc': None}
  summary['irl']['baselines'] = {}
  verdict, text = line(summary)
  assert verdict == 'unknown' and 'Not measured: a comparison with simpler rewards' in text
