"""Tokenising and its reverse: texts are plain text and come back whole.

Tokenizers like Pythia's and RoBERTa's are trained here; the real ones are read if present.
"""

import functools

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tokenizers
import transformers

from irl_jax.data import text
from irl_jax.data.playground import tokenizers as playground_tokenizers
from irl_jax.errors import InputError

load = functools.cache(transformers.AutoTokenizer.from_pretrained)
AWKWARD = [
  '  leading spaces',
  'a\0b',
  '😀 👩‍👩‍👧',
  'مرحبا שלום',
  ' tabs\tand\n\nlines ',
  "don 't clean , this up .",
  '\ufeffBOM',
  '<|endoftext|></s><s><pad><mask><unk><|padding|>',
  'x' * 3000,
]


@pytest.fixture(scope='module')
def trained_on():
  """Texts in which 'hello', 'world' and 'one' become single tokens."""
  return ['hello world', 'one two three four five six', 'one world', 'hello one'] * 5


@pytest.fixture(name='pythia', scope='module')
def fixture_pythia(trained_on):
  """A tokenizer that adds no special ids; EOS is 0 and padding 1."""
  return playground_tokenizers.language_model_tokenizer(trained_on)


@pytest.fixture(name='roberta', scope='module')
def fixture_roberta(trained_on):
  """A tokenizer that puts 0 and 2 around a text if special ids are requested."""
  return playground_tokenizers.classifier_tokenizer(trained_on)


def test_the_real_tokenizers_give_these_ids(shared):
  pythia = load(shared / 'models' / 'neox_14m')
  roberta = load(shared / 'models' / 'roberta_toxicity_mini')
  assert text.encode(pythia, ['Hello world']) == ([[12092, 1533]], 0)
  assert text.encode(pythia, ['Hello world'], specials=True) == ([[12092, 1533]], 0)
  assert text.encode(roberta, ['Hello world'], specials=True) == ([[0, 31414, 232, 2]], 0)
  assert text.encode(roberta, ['Hello world', '']) == ([[31414, 232], []], 0)
  for tokenizer in (pythia, roberta):
    rows, _ = text.encode(tokenizer, AWKWARD)
    assert [text.decode(tokenizer, ids) for ids in rows] == AWKWARD
    text.check(tokenizer, 'a folder')


def test_special_ids_stand_around_a_text_if_requested(pythia, roberta):
  for tokenizer in (pythia, roberta):
    assert text.encode(tokenizer, []) == ([], 0)
    (ids, empty), _ = text.encode(tokenizer, ['hello world', ''])
    assert tokenizer.convert_ids_to_tokens(ids) == ['hello', 'Ġworld'] and empty == []
  assert text.encode(pythia, ['hello world'], specials=True) == text.encode(pythia, ['hello world'])
  (bare,), _ = text.encode(roberta, ['hello world'])
  assert text.encode(roberta, ['hello world', ''], specials=True) == ([[0, *bare, 2], [0, 2]], 0)


@pytest.mark.parametrize('name', ['pythia', 'roberta'])
def test_awkward_texts_come_back_whole(name, request):
  tokenizer = request.getfixturevalue(name)
  rows, _ = text.encode(tokenizer, AWKWARD)
  assert [text.decode(tokenizer, ids) for ids in rows] == AWKWARD
  assert not set(tokenizer.all_special_ids) & {token for ids in rows for token in ids}


@pytest.mark.parametrize('name', ['pythia', 'roberta'])
def test_typed_specials_stay_text_whatever_the_tokenizer_did_before(name, request):
  tokenizer = request.getfixturevalue(name)
  assert (
    tokenizer.eos_token_id in tokenizer(tokenizer.eos_token)['input_ids']
  )  # what plain calls do
  (ids,), _ = text.encode(tokenizer, [f'a {tokenizer.eos_token}b'])
  assert tokenizer.eos_token_id not in ids


def test_lone_surrogates_are_replaced(pythia):
  assert text.clean('a\ud800b\udc80') == 'a\ufffdb\ufffd'
  assert text.clean('😀') == '😀'
  assert text.encode(pythia, ['a\ud83d b']) == text.encode(pythia, ['a\ufffd b'])


def test_cuts_on_the_left_and_counts(pythia, roberta):
  long, short = 'one two three four five six', 'one'
  (whole, _), none = text.encode(roberta, [long, short], specials=True)
  (cut, kept), one = text.encode(roberta, [long, short], max_tokens=5, specials=True)
  assert (none, one) == (0, 1) and len(kept) == 3
  assert cut == [0, *whole[-4:]] and len(cut) == 5
  (bare,), _ = text.encode(pythia, [long])
  assert text.encode(pythia, [long], max_tokens=2) == ([bare[-2:]], 1)
  assert text.encode(pythia, [long], max_tokens=len(bare)) == ([bare], 0)
  with pytest.raises(ValueError, match='max_tokens = 2'):
    text.encode(roberta, [long], max_tokens=2, specials=True)


def test_prompts_become_ids_cut_on_the_left(letters, caplog):
  ids = text.prompt_ids(letters, ['ab', '', 'abcd'], 3)
  assert ids == [[3, 4], [0], [4, 5, 6]]
  assert [record.message for record in caplog.records] == [
    '1 of 3 prompts is longer than 3 tokens: cut on the left'
  ]


def test_decode_stops_at_eos_and_drops_specials(pythia, roberta):
  hello, world = pythia.convert_tokens_to_ids(['hello', 'Ġworld'])
  assert text.decode(pythia, np.array([world, 0, hello, 1])) == ' world'
  assert text.decode(pythia, [1, world, 1]) == ' world'
  assert text.decode(pythia, [0]) == text.decode(pythia, []) == ''
  hello, world = roberta.convert_tokens_to_ids(['hello', 'Ġworld'])
  assert text.decode(roberta, [0, hello, world, 2, hello]) == 'hello world'


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=40), min_size=1, max_size=4))
def test_any_text_comes_back_whole(texts):
  tokenizer = small_tokenizer()
  rows, cut = text.encode(tokenizer, texts)
  assert cut == 0 and [text.decode(tokenizer, ids) for ids in rows] == [
    text.clean(item) for item in texts
  ]


@functools.cache
def small_tokenizer():
  return playground_tokenizers.language_model_tokenizer(['hello there', 'hello you'])


def test_check_refuses_a_tokenizer_that_loses_text(pythia, roberta):
  for tokenizer in (pythia, roberta, small_tokenizer()):
    text.check(tokenizer, 'a folder')
  words = tokenizers.Tokenizer(
    tokenizers.models.WordLevel({'<unk>': 0, '</s>': 1}, unk_token='<unk>')
  )
  lossy = transformers.PreTrainedTokenizerFast(
    tokenizer_object=words, unk_token='<unk>', eos_token='</s>'
  )
  with pytest.raises(InputError, match='a folder: its tokenizer'):
    text.check(lossy, 'a folder')
