"""The cut of a prompt, and splits that never share a text or a near-duplicate."""

import collections
import hashlib
import itertools
import math
import random

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from irl_jax.config import Data
from irl_jax.data import prompts
from irl_jax.data import sources

FEW_LETTERS = st.text('ab !A\u3000', max_size=8)
ROWS = st.lists(
  st.builds(
    lambda prompt, original, label: {'prompt': prompt, 'original': original, 'label': label},
    FEW_LETTERS,
    FEW_LETTERS,
    st.sampled_from([0, 1, None]),
  ),
  max_size=30,
)


@pytest.mark.parametrize(
  'text, fraction, prompt',
  [
    ('a b c d e f g h', 0.25, 'a b'),
    ('a b c d e f g', 0.25, 'a'),
    ('a b', 0.25, 'a'),
    ('word', 0.25, 'word'),
    ('word ', 0.25, 'word '),
    (' \n word', 0.25, ' \n word'),
    (' a\tb  c\n\nd', 0.5, ' a\tb'),
    ('a b ', 1.0, 'a b '),
    ('', 0.25, ''),
    ('  ', 0.25, '  '),
    ('a\u3000b', 0.5, 'a'),
    ('مرحبا بك', 0.5, 'مرحبا'),
  ],
)
def test_a_prompt_is_a_share_of_the_words(text, fraction, prompt):
  assert prompts.cut_prompt(text, fraction) == (prompt, text.removeprefix(prompt))


@settings(max_examples=200, deadline=None)
@given(st.text(), st.floats(0, 1, exclude_min=True))
def test_cut_is_an_offset_at_the_right_word(text, fraction):
  prompt, original = prompts.cut_prompt(text, fraction)
  assert prompt + original == text
  words = len(text.split())
  assert len(prompt.split()) == min(words, max(1, math.floor(fraction * words)))
  assert not original or original[0].isspace()


def folded(text):
  return ''.join(text.lower().split()).replace('!', '')


@settings(max_examples=100, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_splits_depend_on_the_texts_alone_and_keep_near_duplicates_together(rows, rng):
  splits, counts = prompts.split_rows(rows)
  shuffled = rng.sample(rows, len(rows))
  assert prompts.split_rows(shuffled) == (splits, counts)
  place = collections.defaultdict(set)
  for name, members in splits.items():
    assert members == sorted(members, key=lambda row: row['prompt_id'])
    for row in members:
      place['prompt', folded(row['prompt'])].add(name)
      place['text', folded(row['prompt'] + row['original'])].add(name)
  assert all(len(names) == 1 for names in place.values())
  texts = {(row['prompt'], row['original']) for row in rows}
  written = [(row['prompt'], row['original']) for members in splits.values() for row in members]
  assert sorted(written) == sorted(texts)
  assert counts['rows'] == len(rows) and counts['duplicates_dropped'] == len(rows) - len(texts)
  assert [counts[name] for name in ('train', 'validation', 'heldout')] == list(
    map(len, splits.values())
  )


def row(prompt, original='', label=None):
  return {'prompt': prompt, 'original': original, 'label': label}


def split_of(splits, prompt):
  (name,) = [
    name for name, members in splits.items() if prompt in [row['prompt'] for row in members]
  ]
  return name


def test_rows_have_the_id_of_their_prompt():
  splits, counts = prompts.split_rows(
    [row('a b', ' c', 1), row('a b', ' c'), row('é', '', 0), row('', 'x')]
  )
  written = [*itertools.chain(*splits.values())]
  identity = {item['prompt']: item['prompt_id'] for item in written}
  assert identity['a b'] == hashlib.sha256(b'a b\0 c').hexdigest()[:16]
  assert {item['prompt']: item['label'] for item in written} == {'a b': 1, 'é': 0, '': None}
  assert list(written[0]) == ['prompt_id', 'prompt', 'original', 'label']
  del counts['train'], counts['validation'], counts['heldout']
  assert counts == {
    'rows': 4,
    'duplicates_dropped': 1,
    'labels_in_conflict': 0,
    'empty_prompts': 1,
    'one_word_texts': 2,
    'without_original': 1,
  }


def test_conflicting_labels_are_no_label():
  splits, counts = prompts.split_rows([row('a', ' b', 1), row('a', ' b', 0), row('a', ' b')])
  (merged,) = itertools.chain(*splits.values())
  assert merged['label'] is None and counts['labels_in_conflict'] == 1


def test_links_reach_through_prompts_and_texts():
  # Each shares with the next the folded prompt or the folded text. Alone, each has its own hash.
  chain = [
    row('Alpha', ' one two'),
    row('alpha,', ' three four'),
    row('ALPHA three', ' four'),
    row('alpha  three', '!'),
  ]
  for others in range(20):
    splits, _ = prompts.split_rows([*chain, row(f'other {others}', ' text')])
    assert len({split_of(splits, item['prompt']) for item in chain}) == 1
  alone = {
    split_of(prompts.split_rows([row(f'word{number}')])[0], f'word{number}') for number in range(60)
  }
  assert alone == {'train', 'validation', 'heldout'}


def test_splits_have_their_shares_whatever_other_rows_there_are():
  rows = [row(f'prompt {number}', ' text') for number in range(5000)]
  splits, counts = prompts.split_rows(rows)
  assert all(
    abs(counts[name] - share * 5000) < 100
    for name, share in (('train', 0.8), ('validation', 0.1), ('heldout', 0.1))
  )
  fewer, _ = prompts.split_rows(
    random.Random(0).sample(rows, 500)
  )  # unrelated rows do not move a prompt
  assert all(item in splits[name] for name, members in fewer.items() for item in members)


def test_surrogates_and_nul_are_texts():
  assert sum(map(len, prompts.split_rows([row('\ud800'), row('\0', '\0')])[0].values())) == 2


def test_real_texts_are_split_into_these_shares(shared):
  source = f'paradetox:{shared / "data" / "paradetox_train.jsonl.gz"}'
  rows, _ = sources.load_rows(Data(source=source, prompt_fraction=0.25), seed=0)
  splits, counts = prompts.split_rows(rows)
  assert counts == {
    'rows': 9573,
    'duplicates_dropped': 0,
    'labels_in_conflict': 0,
    'empty_prompts': 0,
    'one_word_texts': 1,
    'without_original': 1,
    'train': 7430,
    'validation': 985,
    'heldout': 1158,
  }
  seen = {name: {folded(row['prompt']) for row in members} for name, members in splits.items()}
  assert (
    not seen['train'] & (seen['validation'] | seen['heldout'])
    and not seen['validation'] & seen['heldout']
  )
