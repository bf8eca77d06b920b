"""The texts shown and their colours; no character can act on the page or hide."""

import unicodedata

import numpy as np
import pytest

from irl_jax.report import inputs as inputs_lib
from irl_jax.report import summary as summary_lib
from irl_jax.report import texts
from irl_jax.report import wording

HOSTILE = [
  '<script>alert(1)</script>',
  '"quotes\' & &amp;',
  '\u202eright to left\u2069',
  'nul\x00 byte\x1b[31m\x7f\x9b',
  'x' * 5000,
  '👩‍👩‍👧 👍🏽',
  '\ud800',
  'a\r\nb\u2028c',
  '',
  ' ',
  '\ufffe',
  'شكرا',
  'Z͑ͫ̓ͪ̂',
]


def joined(tokens):
  return ''.join(token.space + token.word for token in tokens)


@pytest.fixture
def inputs(make_run):
  return inputs_lib.read(make_run())


def test_disagreement_is_that_of_ranks(inputs):
  groups = {group.title: group.texts for group in texts.groups(inputs)}
  assert list(groups) == [
    'R̂ scores them high, r* low',
    'r* scores them high, R̂ low',
    'R̂ scores them highest',
    'R̂ scores them lowest',
    'The seeds differ most',
    'Pairs in the wrong order',
  ]
  mean = [np.mean(row['rewards']) for row in inputs.texts]
  true = [row['true_reward'] for row in inputs.texts]
  below = lambda values, value: sum(other < value for other in values)
  gap = [below(mean, mean[row]) - below(true, true[row]) for row in range(120)]
  best = sorted(range(120), key=lambda row: -gap[row])[: texts.SHOWN]
  shown = [joined(shown.bodies[0][1]) for shown in groups['R̂ scores them high, r* low']]
  assert shown == [inputs.texts[row]['text'] for row in best]
  highest = max(range(120), key=mean.__getitem__)
  first = groups['R̂ scores them highest'][0]
  assert joined(first.bodies[0][1]) == inputs.texts[highest]['text']
  assert (
    f'R̂ {mean[highest]:.3f} (percentile 100' in first.facts[0]
    and f'r* {true[highest]:.2f}' in first.facts[1]
  )
  assert first.facts[2] == 'label: ' + ('toxic' if inputs.texts[highest]['label'] else 'not toxic')


def test_pairs_in_the_wrong_order_are_that(inputs):
  for shown in texts.misordered(inputs.pairs):
    recovered, true = (fact.split(' prefers ')[1].split()[0] for fact in shown.facts)
    assert {recovered, true} == {'aligned', 'base'}
    assert [label for label, _ in shown.bodies] == ['prompt', 'aligned', 'base']
  right = [
    pair
    | {
      'rewards_aligned': [1.0],
      'rewards_base': [0.0],
      'true_reward_aligned': 1.0,
      'true_reward_base': 0.0,
    }
    for pair in inputs.pairs
  ]
  assert texts.misordered(right) == []


def test_without_a_true_reward_the_rest_is_shown(make_run):
  inputs = inputs_lib.read(make_run(seeds=1))
  for row in (*inputs.texts, *inputs.pairs):
    row.update({name: None for name in row if name.startswith('true_reward') or name == 'label'})
  groups = texts.groups(inputs)
  assert [group.title for group in groups] == ['R̂ scores them highest', 'R̂ scores them lowest']
  assert all(
    len(shown.facts) == 1 and 'seeds' not in shown.facts[0]
    for group in groups
    for shown in group.texts
  )
  assert texts.groups(inputs_lib.Inputs(summary_lib.Summary(), {}, {})) == []


@pytest.mark.parametrize(
  'attribution, step',
  [
    (1.0, 4),
    (-1.0, -4),
    (5.0, 4),
    (0.76, 4),
    (0.75, 3),
    (-0.5, -2),
    (0.13, 1),
    (0.12, 0),
    (-0.12, 0),
    (0.0, 0),
  ],
)
def test_colours_are_steps_of_the_scale(attribution, step):
  assert texts.colour_step(attribution, 1.0) == step and texts.colour_step(attribution, 0.0) == 0


def test_tokens_keep_the_text_and_its_white_space():
  row = {
    'text': ' a  b\nc',
    'tokens': [
      {'piece': ' a', 'attribution': 1.0},
      {'piece': '  b', 'attribution': -1.0},
      {'piece': '\n', 'attribution': 1.0},
      {'piece': 'c', 'attribution': 0.0},
    ],
  }
  found = texts.coloured_texts([row])[' a  b\nc']
  assert [(token.space, token.word, token.step) for token in found] == [
    (' ', 'a', 4),
    ('  ', 'b', -4),
    ('\n', '', 0),
    ('', 'c', 0),
  ]


@pytest.mark.parametrize('text', HOSTILE)
def test_nothing_hides_and_nothing_reorders(text):
  shown = joined(texts.plain(text))
  assert len(shown) <= texts.CHARACTERS + 1 and (len(shown) < 5000 or shown.endswith('…'))
  shown.encode('utf-8')
  assert not any(
    unicodedata.category(char) in ('Cc', 'Cs') and char not in '\n\t' for char in shown
  )
  assert not set(shown) & {*wording.DIRECTIONS, '\ufffe'}
  if text in ('شكرا', '👩‍👩‍👧 👍🏽', '"quotes\' & &amp;', '<script>alert(1)</script>'):
    assert shown == text


def test_signs_of_what_is_not_seen():
  assert wording.visible('a\x00b\x1b\x7f\u202ec\ud800\r') == 'a␀b␛␡‹RLO›c\ufffd\n'


def test_a_long_text_is_cut_once():
  tokens = texts.cut([texts.Token(' ', 'x' * 9, 1)] * 100)
  assert len(joined(tokens)) == texts.CHARACTERS + 1 and joined(tokens).count('…') == 1
