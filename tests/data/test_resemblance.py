"""Near-duplicates against a double loop over all pairs of texts."""

import random

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from irl_jax.data import resemblance

TEXTS = st.lists(st.lists(st.sampled_from('abc'), max_size=9).map(' '.join), max_size=12)


def by_hand(text):
  words = ''.join(char if char.isalnum() else ' ' for char in text.lower()).split()
  return {tuple(words[at : at + 3]) for at in range(max(len(words) - 2, 1))}


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_texts_that_share_half_of_their_runs_of_three_words_are_counted(texts, others):
  expected = 0
  for text in texts:
    expected += any(
      len(by_hand(text) & by_hand(other)) >= 0.5 * len(by_hand(text) | by_hand(other))
      for other in others
    )
  assert resemblance.count_resembling(texts, others) == expected


def test_one_word_at_an_end_makes_a_near_duplicate_and_in_the_middle_of_few_words_none():
  count = lambda text: resemblance.count_resembling([text], ['You are a very kind person indeed!'])
  assert count('you are a very kind person, truly') == 1
  assert count('You are a very rude person indeed') == 0
  assert count('') == 0 and resemblance.count_resembling([''], ['!']) == 1


def test_many_texts_are_compared_in_little_time():
  rng = random.Random(0)
  words = [f'w{number}' for number in range(300)]
  texts = [' '.join(rng.choices(words, k=12)) for _ in range(3000)]
  others = [text.replace(text.split()[0], 'x', 1) for text in texts[:500]] + texts[1000:1100]
  assert resemblance.count_resembling(texts, others) == 600
