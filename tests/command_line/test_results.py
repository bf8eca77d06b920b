"""The command prints every result, at any width."""

import io
import re

import pytest
from rich.console import Console

from irl_jax.command_line import results
from irl_jax.runtime import terminal_tables

AGREEMENT = {
  'accuracy': 0.811,
  'f1': 0.712,
  'auroc': 0.913,
  'pearson': None,
  'spearman': 0.614,
  'kendall': 0.415,
  'pairwise_accuracy': 0.716,
  'n': 417,
  'ties': 23,
  'why': {'pearson': 'zero variance'},
}
TEXTS = {
  'heldout_texts': AGREEMENT,
  'heldout_texts_human': AGREEMENT | {'accuracy': 0.822},
  'heldout_pairs': AGREEMENT | {'pairwise_accuracy': 0.977},
}
CALIBRATION = {
  'zero': 0.031,
  'zero_low': -0.012,
  'zero_high': 0.052,
  'reliable_zero': False,
  'saturated': 0.063,
  'why': {'reliable_zero': 'no reliable zero: one class'},
}


def policy(rate):
  return {
    'toxicity': {'rate': rate, 'low': rate - 0.03, 'high': rate + 0.03, 'n': 612},
    'toxicity_full': {'rate': None, 'low': None, 'high': None, 'n': 0, 'why': {'rate': 'no text'}},
    'true_reward': 1.234,
    'kl': 3.345,
    'kl_per_token': 0.213,
    'perplexity_under_base': 27.18,
    'response_tokens': 16.0,
    'distinct_2': None,
    'why': {'distinct_2': 'no bigram'},
  }


def stage():
  return {
    'before': policy(0.462),
    'after': policy(0.131),
    'mcnemar': {
      'before_only': 201,
      'after_only': 4,
      'both': 70,
      'neither': 337,
      'p_value': 1.5e-40,
    },
  }


SUMMARY = {
  'true_reward': {'human_accuracy': 0.953},
  'rlhf': stage(),
  'rerlhf': stage(),
  'irl': {
    'seeds': [TEXTS | {'calibration': CALIBRATION}] * 2,
    'mean': TEXTS,
    'std': TEXTS,
    'seed_spearman': 0.345,
    'ensemble': TEXTS,
    'baselines': {'bag_of_words': {'heldout_texts': AGREEMENT | {'auroc': 0.777}}},
  },
}


def render(renderable, width=120):
  console = Console(file=io.StringIO(), width=width)
  console.print(renderable)
  return console.file.getvalue()


def test_a_reason_stands_once_after_all_that_it_explains_and_only_for_what_is_shown():
  figures = AGREEMENT | {
    'auroc': None,
    'why': {'pearson': 'zero variance', 'auroc': 'zero variance'},
  }
  seed = {'heldout_texts': figures, 'calibration': CALIBRATION | {'why': {'platt': 'no label'}}}
  text = render(
    results.tables(
      {
        'irl': {
          'seeds': [seed] * 2,
          'mean': {'heldout_texts': figures},
          'std': {'heldout_texts': {'why': {'auroc': 'needs two seeds'}}},
        }
      }
    )
  )
  assert text.count('zero variance') == 1 and '– pearson, auroc: zero variance' in text
  assert 'no label' not in text and 'needs two seeds' not in text


@pytest.mark.parametrize('width', [120, 80, 40])
def test_every_figure_is_shown_whole_at_every_width(width):
  text = render(results.tables(SUMMARY), width)
  for figure in (
    '95.3%',
    '46.2%',
    '[43.2, 49.2]',
    'n 612',
    '13.1%',
    '1.234',
    '3.345',
    '0.213',
    '27.180',
    '16.000',
    '1.5e-40',
    '201',
    '0.811',
    '0.712',
    '0.913',
    '0.614',
    '0.415',
    '0.716',
    '0.822',
    '0.977',
    '0.777',
    '0.345',
    '0.031',
    '[-0.012, 0.052]',
    '0.063',
    '417',
    '23',
  ):
    assert figure in text, figure
  flat = ' '.join(text.split())
  for reason in (
    'pearson: zero variance',
    'distinct_2: no bigram',
    'no reliable zero: one class',
    'bag of words',
  ):
    assert reason in flat
  assert '–' in text and 'None' not in text and 'nan' not in text
  assert max(map(len, text.splitlines())) <= width


def test_what_the_aligned_model_wrote_can_be_the_only_figure():
  pairs = {'heldout_texts': None, 'heldout_pairs': {'auroc': None, 'prefers_aligned': 0.729}}
  text = render(
    results.tables({'irl': {'seeds': [pairs], 'baselines': {'constant': {'heldout_pairs': None}}}})
  )
  assert '0.729' in text and 'constant' not in text.split('scores higher')[1]


def test_the_count_and_interval_of_pairs_that_differ_are_shown():
  preference = {'rate': 0.57, 'low': 0.46, 'high': 0.68, 'n': 34, 'pairs': 68}
  seed = {'heldout_pairs': {'prefers_aligned': 0.535}, 'preference': preference}
  text = render(results.tables({'irl': {'seeds': [seed]}}))
  assert re.search(r'seed 0 +0.535 +57.0% \[46.0, 68.0\] n 34', text)
  assert text.rstrip().endswith(
    'Nothing was recovered: this reward cannot be distinguished from chance on held-out pairs.'
  )


def test_stages_that_did_not_run_are_left_out():
  assert render(results.tables({})).strip() == ''
  assert 'rerlhf' not in render(results.tables({'rlhf': stage()}))
  render(results.tables({'irl': {'seeds': []}, 'rlhf': {'before': policy(0.4)}}))


def test_no_terminal_gets_one_width_and_no_colour(monkeypatch):
  monkeypatch.setenv('COLUMNS', '30')
  out = io.StringIO()
  terminal_tables.show(results.tables(SUMMARY), out)
  assert '\x1b' not in out.getvalue() and 'perplexity under the base model' in out.getvalue()


def test_the_table_of_zeros_calls_none_reliable_under_a_verdict_that_forbids_the_sign():
  zero = CALIBRATION | {'reliable_zero': True, 'why': {}}
  share = {'rate': 0.5, 'low': 0.4, 'high': 0.6, 'n': 96, 'pairs': 100}
  seed = {'calibration': zero, 'preference': share, 'heldout_pairs': {'prefers_aligned': 0.5}}
  text = render(results.tables({'irl': {'seeds': [seed] * 2}}))
  assert 'two groups' in text and 'Nothing was recovered' in text
  assert 'reliable' not in text
