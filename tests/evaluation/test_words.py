"""The effect of words on a reward: rewards whose words are known."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from irl_jax.evaluation import words

PROMPTS = ['say: '] * 40
COMPLETIONS = [
  f'{"please " if row % 2 else ""}pass item {row % 7} {"bad" if row % 3 else "good"}'
  for row in range(40)
]


def of_words(texts):
  """A reward that likes 'please' twice as much as it dislikes 'bad'."""
  return np.array([2.0 * text.count('please') - text.count('bad') for text in texts])


def found(reward=of_words):
  whole = [prompt + completion for prompt, completion in zip(PROMPTS, COMPLETIONS)]
  return words.candidates(PROMPTS, COMPLETIONS, reward(whole))


def effects(reward=of_words):
  candidates = found(reward)
  texts = words.texts_to_score(candidates)
  scores = dict(zip(texts, reward(texts).tolist()))
  return words.effects(candidates, scores, np.arange(40) < 20)


def test_the_words_of_a_reward_are_found_with_their_weights():
  by_word = {row['word']: row for row in effects()}
  assert by_word['please']['effect'] == 2.0 and by_word['bad']['effect'] == -1.0
  # 'good' goes with the absence of 'bad', but has no effect itself.
  assert by_word['good']['effect'] == 0.0
  assert effects()[0]['word'] == 'please' and effects()[-1]['word'] == 'bad'


def test_shares_and_intervals_count_completions():
  row = next(row for row in effects() if row['word'] == 'please')
  assert (row['share_aligned'], row['share_base'], row['n']) == (0.5, 0.5, 8)
  noisy = lambda texts: of_words(texts) + np.array([len(text) % 5 for text in texts])
  candidates = found(noisy)
  texts = words.texts_to_score(candidates)
  scores = dict(zip(texts, noisy(texts).tolist()))
  (please,) = (one for one in candidates if one.word == 'please')
  changes = np.array([scores[text] - scores[rest] for text, rest in please.examples])
  row = next(row for row in effects(noisy) if row['word'] == 'please')
  # Student's quantile with 7 degrees of freedom is 2.3646.
  half = 2.3646 * changes.std(ddof=1) / np.sqrt(8)
  np.testing.assert_allclose(
    [row['low'], row['high']], changes.mean() + np.array([-half, half]), rtol=1e-3
  )


def test_a_constant_reward_has_no_words():
  assert found(lambda texts: np.zeros(len(texts))) == []


@pytest.mark.parametrize(
  ('completion', 'word', 'rest'),
  [
    ('Thank you. I thank you!', 'thank', ' you. I you!'),
    ('thankful, thanks', 'thank', 'thankful, thanks'),
    ("it's fine, it is", 'it', "it's fine, is"),
    ('a.b (a)', 'a', '.b ()'),
    ('ÉTÉ été', 'été', ''),
    ('Straße, STRASSE', 'strasse', ','),
    ('İstanbul ok', 'i̇stanbul', ' ok'),
    ('Ⅷ Kauﬂeute', 'kaufleute', 'Ⅷ'),
    ("say 'no' to 1's", 'no', "say '' to 1's"),
    ('a 2a a_b', 'a', ' 2a a_b'),
  ],
)  # fmt: skip
def test_a_word_is_left_out_wherever_it_stands_alone(completion, word, rest):
  assert words.without(completion, word) == rest


@hypothesis.given(st.text("aAſsSßİiı'’ 1_.-", max_size=12))
def test_a_word_that_is_found_is_left_out(completion):
  for word in words.words_of(completion):
    assert words.words_of(words.without(completion, word)) == words.words_of(completion) - {word}


def test_rare_words_and_words_of_nearly_every_completion_are_not_considered():
  assert not {'pass', 'item'} & {one.word for one in found()}
  rare = words.candidates(['p '] * 9, ['rare'] * 4 + ['other'] * 5, np.arange(9.0))
  assert rare == []
