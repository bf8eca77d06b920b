"""Attributions against a double loop, and in worlds whose two rewarded words are known."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
import tiny_models

from irl_jax import config as c
from irl_jax import rewards
from irl_jax.evaluation import attribution
from irl_jax.irl import export
from irl_jax.irl import loop
from irl_jax.irl import pairs
from irl_jax.models import pretrained
from irl_jax.models import trunk

LIKED, DISLIKED = 'm', 'q'  # every letter is a token
LETTERS = 'abcdefghijklmnopqrstuvw'


def explain(reward, texts, tokenizer):
  """Attributions of texts, as the evaluate stage computes them."""
  parts = [attribution.pieces(tokenizer, text) for text in texts]
  return attribution.attributions(parts, reward(attribution.texts_to_score(parts)))


def looped(reward, parts):
  """Returns each piece's mean loss over the spans of 1, 2, 4 and 8 pieces that contain it."""
  whole, result = reward(''.join(parts)), []
  for piece in range(len(parts)):
    of_sizes = []
    for size in (1, 2, 4, 8):
      losses = []
      for start in range(piece - size + 1, piece + 1):
        left = [part for index, part in enumerate(parts) if not start <= index < start + size]
        losses.append(whole - reward(''.join(left)))
      of_sizes.append(sum(losses) / len(losses))
    result.append(sum(of_sizes) / 4)
  return result


def bent(text):
  """A reward that is not a sum over letters."""
  return len(set(text)) - 0.3 * text.count('a') * text.count('b') + text.find('c')


@pytest.mark.parametrize('text', ['', 'a', 'abcab', 'abacadabracab'])
def test_attributions_equal_loops_over_spans(text, letters):
  scored = []

  def reward(texts):
    scored.extend(texts)
    return np.array([bent(text) for text in texts])

  (found,) = explain(reward, [text], letters)
  assert [row['piece'] for row in found] == list(text) and len(scored) == len(set(scored))
  np.testing.assert_allclose(
    [row['attribution'] for row in found], looped(bent, list(text)), atol=1e-12
  )


def known(text):
  """The reward of the world: one word scores high, one low, and the others 0."""
  return text.count(LIKED) - text.count(DISLIKED)


def sampled(count, seed):
  rng = np.random.default_rng(seed)
  return [''.join(rng.choice(list(LETTERS), rng.integers(6, 13))) for _ in range(count)]


def demonstrations(count, seed):
  """Completions of the base model, and of a policy that takes the better of two of its samples."""
  aligned = [max(two, key=known) for two in zip(sampled(count, seed), sampled(count, seed + 1))]
  return aligned, sampled(count, seed + 2)


@pytest.fixture(scope='module')
def recovered(policy, tmp_path_factory):
  """R̂ of that policy."""
  params = tiny_models.drawn(trunk.init, policy.config, seed=3)
  base = dataclasses.replace(policy, params=params)
  irl = c.IRL(
    objective='logistic',
    temperature=0.2,
    learning_rate=3e-3,
    epochs=3,
    batch_size=64,
    warmup_steps=5,
    weight_decay=0.0,
  )
  parts = loop.train(
    base,
    *(
      pairs.encode_pairs(base, *demonstrations(count, seed), 64)
      for count, seed in ((2048, 1), (128, 11))
    ),
    irl,
    5,
    tmp_path_factory.mktemp('two_words'),
    log=lambda step, metrics: None,
  )
  return rewards.recovered_reward(export.reward_model(base, parts))


def word_means(reward, texts, tokenizer):
  """The mean attribution of every word."""
  found = {}
  for row in (row for rows in explain(reward, texts, tokenizer) for row in rows):
    found.setdefault(row['piece'], []).append(row['attribution'])
  return {word: np.mean(values) for word, values in found.items()}


@pytest.mark.slow
def test_two_words_that_the_policy_was_rewarded_for_are_ranked_first(recovered, letters):
  texts = sampled(100, 99)
  assert stats.spearmanr(recovered(texts), [known(text) for text in texts]).statistic > 0.6
  means = word_means(recovered, texts, letters)
  order = sorted(means, key=means.get)
  assert (order[0], order[-1]) == (DISLIKED, LIKED)
  assert means[LIKED] > 2 * means[order[-2]] > 0 > 2 * means[order[1]] > means[DISLIKED]


@pytest.mark.slow
def test_in_most_texts_the_word_that_counts_has_the_largest_attribution(recovered, letters):
  texts = [text for text in sampled(1200, 77) if LIKED in text and DISLIKED in text][:50]
  rows = explain(recovered, texts, letters)
  value = lambda row: row['attribution']
  assert np.mean([max(row, key=value)['piece'] == LIKED for row in rows]) > 0.8
  assert np.mean([min(row, key=value)['piece'] == DISLIKED for row in rows]) > 0.8


@pytest.mark.parametrize(
  'text',
  [
    '',
    ' ',
    'You are an idiot, mate!',
    '  two  spaces\n\nand lines \t',
    'naïve — 🙂🙂 <|endoftext|> ok',
    'lone \ud83d here ',
    'word ' * 90,
  ],
)
def test_pieces_are_the_tokens_and_make_up_the_text(shared, text):
  tokenizer = pretrained.load(str(shared / 'models/neox_14m')).tokenizer
  found = attribution.pieces(tokenizer, text)
  assert ''.join(found) == text and all(found) and len(found) <= attribution.MAX_PIECES
  if text.startswith('You'):
    assert found == ['You', ' are', ' an', ' idiot', ',', ' mate', '!']


def test_texts_to_show_are_chosen_by_what_they_say_they_are():
  rng = np.random.default_rng(0)
  reward, true = rng.normal(size=(2, 100))
  texts = [f'text {number}' for number in range(100)]
  chosen = attribution.choose(texts, reward, true, 20)
  assert len({index for index, _ in chosen}) == 20
  by_kind = {
    kind: [index for index, why in chosen if why == kind]
    for kind in dict.fromkeys(why for _, why in chosen)
  }
  assert {kind: len(indices) for kind, indices in by_kind.items()} == {
    'highest': 5,
    'lowest': 5,
    'disagreement': 5,
    'by hash': 5,
  }
  assert set(by_kind['highest']) == set(np.argsort(reward)[-5:]) and set(by_kind['lowest']) == set(
    np.argsort(reward)[:5]
  )
  gap = np.abs(stats.rankdata(reward) - stats.rankdata(true))
  left = [index for index in range(100) if index not in by_kind['highest'] + by_kind['lowest']]
  assert set(by_kind['disagreement']) == set(sorted(left, key=lambda index: -gap[index])[:5])
  shuffled = rng.permutation(100)
  again = attribution.choose(
    [texts[index] for index in shuffled], reward[shuffled], true[shuffled], 20
  )
  assert [(int(shuffled[index]), why) for index, why in again] == chosen


def test_without_a_true_reward_more_are_chosen_by_hash_and_few_texts_are_all_shown():
  kinds = [
    why
    for _, why in attribution.choose([str(number) for number in range(50)], np.arange(50), None, 20)
  ]
  assert kinds.count('highest') == kinds.count('lowest') == 5 and kinds.count('by hash') == 10
  assert sorted(index for index, _ in attribution.choose(['a', 'b', 'c'], [3, 1, 2], None)) == [
    0,
    1,
    2,
  ]
