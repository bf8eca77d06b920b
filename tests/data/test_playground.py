"""The playground's world: its labels, words, texts and tokenizers are as documented."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import transformers

from irl_jax.data.playground import comments as playground
from irl_jax.data.playground import tokenizers
from irl_jax.data.playground import words
from irl_jax.data.playground import world

COMMENTS = 6000
AWKWARD_TEXTS = [
  '',
  ' ',
  '  two  spaces ',
  ' and you are kind',
  'a\n\nb\t',
  'İ é 😀 \u200f \0',
  "don't 've",
  'x<s>y</s>',
  'typed <|endoftext|> here',
  '"quoted", and (more)...!',
]


@pytest.fixture(scope='module')
def comments():
  return playground.comments(COMMENTS, seed=0)


@pytest.fixture(scope='module')
def texts(comments):
  return [comment['text'] for comment in comments]


@pytest.fixture(scope='module')
def labels(comments):
  return np.array([comment['label'] for comment in comments])


@pytest.fixture(scope='module')
def drafts():
  return playground.sentences(COMMENTS, seed=0)


def words_of(text):
  return re.findall(r'[a-z]+', text)


def auroc(scores, labels):
  ranks, positives = scipy.stats.rankdata(scores), labels.sum()
  return (ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (
    positives * (len(labels) - positives)
  )


def bag_of_words_auroc(texts, labels, l2=1e-4):
  """AUROC of logistic regression on word counts, trained on 80 % of the labels, on the rest."""
  vocabulary = {
    word: column
    for column, word in enumerate(sorted({word for text in texts for word in words_of(text)}))
  }
  counts = np.zeros((len(texts), len(vocabulary)))
  for row, text in enumerate(texts):
    np.add.at(counts[row], [vocabulary[word] for word in words_of(text)], 1)
  cut = int(0.8 * len(texts))
  x, y = counts[:cut], labels[:cut]

  def loss(parameters):
    z = x @ parameters[1:] + parameters[0]
    residual = (scipy.special.expit(z) - y) / cut
    value = np.mean(np.logaddexp(0, z) - y * z) + l2 / 2 * parameters[1:] @ parameters[1:]
    return value, np.r_[residual.sum(), x.T @ residual + l2 * parameters[1:]]

  fit = scipy.optimize.minimize(
    loss, np.zeros(len(vocabulary) + 1), jac=True, method='L-BFGS-B', options={'maxiter': 200}
  )
  return auroc(counts[cut:] @ fit.x[1:], labels[cut:])


def test_comments_are_the_same_for_the_same_seed_and_a_prefix_of_more(comments):
  assert playground.comments(50, seed=0) == comments[:50]
  assert playground.comments(50, seed=1) != comments[:50]


def test_comments_do_not_change_between_versions(texts):
  digest = hashlib.sha256('\n'.join(texts).encode()).hexdigest()
  assert digest[:16] == '4e901b4de725aa82', (
    'the world changed: retune configs/tiny.py, then update this'
  )


def test_sentences_add_up_to_comments(comments, drafts):
  for comment, draft in zip(comments, drafts, strict=True):
    assert comment['text'] == ' '.join(sentence.text for sentence in draft)
    assert comment['label'] == any(sentence.toxic for sentence in draft)


def test_labels_are_balanced(labels):
  assert 0.40 <= labels.mean() <= 0.55


def test_verdict_is_inverted_in_a_sixth_of_the_sentences_and_both_ways(drafts):
  sentences = [sentence for draft in drafts for sentence in draft]
  inverted = [sentence for sentence in sentences if sentence.inverted]
  assert len(inverted) / len(sentences) >= 1 / 6
  assert 0.2 <= np.mean([sentence.toxic for sentence in inverted]) <= 0.8


def test_inverted_means_that_the_tone_is_not_the_verdict():
  for clause in world.CLAUSES.values():
    assert clause.inverted == ((clause.tone == 'harsh') != clause.toxic)


@pytest.mark.slow
def test_no_word_list_is_right(texts, labels):
  assert 0.85 < bag_of_words_auroc(texts, labels) < 0.98


def test_a_text_has_one_label(comments, drafts):
  verdicts = {}
  labelled = [(sentence.text, sentence.toxic) for draft in drafts for sentence in draft]
  for text, verdict in labelled + [(comment['text'], comment['label']) for comment in comments]:
    assert verdicts.setdefault(' '.join(words_of(text)), verdict) == verdict, text


def test_people_and_things_never_share_a_name():
  topics = words.TOPICS.values()
  people = {name for topic in topics for name in topic['person']}
  things = {name for topic in topics for table in ('thing', 'event') for name in topic[table]}
  assert not people & things


def test_tones_never_share_a_judging_word():
  harsh, warm = (
    {entry for table in ('noun', 'adjective', 'trash') for entry in words.TONES[tone][table]}
    for tone in ('harsh', 'warm')
  )
  assert not harsh & warm


def test_shares_name_every_kind_and_add_up_to_one():
  assert set().union(*world.SHARES.values()) == set(world.CLAUSES)
  for shares in world.SHARES.values():
    assert sum(shares.values()) == pytest.approx(1)


def test_texts_are_distinct_and_full_of_words(texts):
  assert len(set(texts)) >= 0.98 * len(texts)
  assert 500 <= len({word for text in texts for word in words_of(text)}) <= 900
  assert 16 <= np.mean([len(text.split()) for text in texts]) <= 30
  assert not any('{' in text or '  ' in text for text in texts)


def test_prompts_are_diverse(texts):
  prompts = {tuple(text.split()[: len(text.split()) // 4]) for text in texts}
  assert len(prompts) >= 3000


@pytest.mark.parametrize(
  'before, after',
  [
    ('a idiot', 'an idiot'),
    ('a useless oven', 'a useless oven'),
    ('a utter clown', 'an utter clown'),
    ('a unbelievably', 'an unbelievably'),
  ],
)
def test_articles_agree(before, after):
  assert playground.ARTICLE.sub('an ', before) == after


@pytest.mark.parametrize(
  'train, specials',
  [
    (tokenizers.language_model_tokenizer, {'<|endoftext|>': 0, '<|padding|>': 1}),
    (tokenizers.classifier_tokenizer, {'<s>': 0, '<pad>': 1, '</s>': 2, '<unk>': 3, '<mask>': 4}),
  ],
)
@pytest.mark.parametrize('model_type', ['', 'gpt_neox', 'roberta'])
def test_tokenizer_survives_a_folder_and_keeps_every_text(
  texts, tmp_path, train, specials, model_type
):
  tokenizer = train(texts)
  tokenizer.save_pretrained(tmp_path)
  if model_type:  # transformers picks the tokenizer's class by it
    (tmp_path / 'config.json').write_text(f'{{"model_type": "{model_type}"}}')
  loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
  assert len(loaded) == len(tokenizer)
  assert loaded.pad_token_id == 1
  for token, index in specials.items():
    assert loaded.convert_tokens_to_ids(token) == index
  for text in AWKWARD_TEXTS + texts[:20]:
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)['input_ids']
    assert loaded(text, add_special_tokens=False, split_special_tokens=True)['input_ids'] == ids
    assert loaded.decode(ids) == text
    assert not set(ids) & set(specials.values())


def test_classifier_tokenizer_wraps_a_text(texts):
  tokenizer = tokenizers.classifier_tokenizer(texts)
  bare = tokenizer(' you', add_special_tokens=False)['input_ids']
  assert tokenizer(' you')['input_ids'] == [0, *bare, 2]


def test_language_model_tokenizer_adds_nothing_and_gives_a_word_one_token(texts):
  tokenizer = tokenizers.language_model_tokenizer(texts)
  assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 0, 0)
  spaced = {' ' + word for text in texts for word in words_of(text)}
  single = [word for word in spaced if len(tokenizer(word)['input_ids']) == 1]
  assert len(single) >= 0.97 * len(spaced)
  assert len(tokenizer) < 2500


@pytest.mark.slow
def test_tokenizers_are_the_same_in_every_process():
  script = (
    'import hashlib; from irl_jax.data.playground import comments, tokenizers as t;'
    'texts = [c["text"] for c in comments.comments(1000, 3)];'
    'print(hashlib.sha256("".join(f(texts).backend_tokenizer.to_str() for f in '
    '(t.language_model_tokenizer, t.classifier_tokenizer)).encode()).hexdigest())'
  )
  runs = {
    subprocess.run(
      [sys.executable, '-c', script],
      check=True,
      capture_output=True,
      text=True,
      env={'PYTHONHASHSEED': seed, 'PYTHONPATH': ':'.join(sys.path), 'HF_HUB_OFFLINE': '1'},
    ).stdout
    for seed in ('1', '2')
  }
  assert len(runs) == 1
