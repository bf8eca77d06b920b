"""Baselines, ceiling, style and length: no word without the result that supports it."""

import pytest

from irl_jax.report import shortcuts
from irl_jax.report import summary as summary_lib


def line(summary, reference='heldout_texts'):
  return shortcuts.shortcuts(summary_lib.parse(summary).recovery, reference)


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
    (0.56, (0.24, 0.75), 'partly', 'too wide to say how much'),
    (0.56, (0.4, 0.76), 'partly', '[0.400, 0.760] is too wide to say how much'),
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
