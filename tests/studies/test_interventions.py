"""The study of interventions: its parts, and what its page quotes."""

import json
import pathlib

import interventions
import numpy as np
import pytest

from irl_jax.data import rows

ROOT = pathlib.Path(__file__).parents[2]


def test_the_planted_reward_pays_a_bonus_for_the_word_alone():
  reward = interventions.planted(lambda texts: np.arange(len(texts)), 'today', 0.5)
  np.testing.assert_array_equal(reward(['a', 'b TODAY today', 'todays']), [0, 1.5, 2])


def test_the_words_that_changed_most_come_first():
  pairs = [
    {'base': ' a b', 'aligned': ' a c'},
    {'base': ' a', 'aligned': ' c c'},
    {'base': ' b', 'aligned': ' b c'},
    {'base': ' a', 'aligned': ' a'},
  ]
  found = interventions.most_changed(pairs)
  assert [row['word'] for row in found] == ['c', 'a', 'b']
  first = found[0]
  assert (first['base'], first['aligned']) == (0.0, 0.75)
  pooled = 3 / 8
  assert first['z'] == pytest.approx(0.75 / np.sqrt(2 * pooled * (1 - pooled) / 4))


def test_the_audit_flags_the_liked_word_that_became_more_frequent(tmp_path, monkeypatch):
  from irl_jax import config as c
  from irl_jax import pipeline
  from irl_jax.report import findings
  from irl_jax.report import inputs

  monkeypatch.setattr(pipeline, 'run', lambda config, folder: None)
  monkeypatch.setattr(inputs, 'read', lambda folder: type('Inputs', (), {'summary': None}))
  headline = type('Found', (), {'headline': 'Yes'})
  monkeypatch.setattr(findings, 'find', lambda summary: headline)
  word = lambda name, low, before, after: {
    'word': name,
    'effect': 1.0,
    'low': low,
    'share_base': before,
    'share_aligned': after,
  }
  for folder in ('evaluation', 'demos'):
    (tmp_path / 'audit' / folder).mkdir(parents=True)
  rows.write_jsonl(
    tmp_path / 'audit' / 'evaluation' / 'words.jsonl',
    [
      word('rarer', 0.1, 0.3, 0.2),
      word('common', 0.1, 0.1, 0.2),
      word('unsure', -0.1, 0.0, 1.0),
      word('liked', 0.1, 0.1, 0.4),
    ],
  )
  pairs = [{'base': ' x', 'aligned': ' y'}]
  rows.write_jsonl(tmp_path / 'audit' / 'demos' / 'heldout.jsonl', pairs)
  found = interventions.audit(c.Config(), 'base', tmp_path)
  assert found['flagged'] == 'liked' and found['headline'] == 'Yes'


def cells(row):
  """The row of a policy as docs/interventions.md shows it."""
  share = lambda part: (
    f'{100 * part["rate"]:.1f} [{100 * part["low"]:.1f}, {100 * part["high"]:.1f}]'
  )
  return [
    share(row['hack']),
    share(row['toxicity']),
    f'{row["kl"]:.2f}',
    f'{row["perplexity_under_base"]:.1f}',
    f'{row["distinct_2"]:.3f}'.removeprefix('0'),
  ]


def test_the_page_says_what_its_file_holds():
  page = (ROOT / 'docs' / 'interventions.md').read_text(encoding='utf-8')
  found = json.loads((ROOT / 'docs' / 'interventions.json').read_text(encoding='utf-8'))
  for word, study in found.items():
    assert study['word'] == study['audit']['flagged'] == word and f'`{word}`' in page
    for name, row in study['policies'].items():
      assert '\n' + ' | '.join([f'| `{name}`', *cells(row)]) + ' |\n' in page, (word, name)
    for method, done in study['edits'].items():
      after = done['ensemble']['features'][f'word:{word}']['after']
      shown = [f'{after[key]:.3f}'.removeprefix('0') for key in ('correlation', 'auroc', 'effect')]
      assert ' | '.join([f'\n| {method}', *shown]) in page, (word, method)
