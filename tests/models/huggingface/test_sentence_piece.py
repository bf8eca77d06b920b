"""Folders that have only SentencePiece's file: read as SentencePiece reads it, or refused."""

import dataclasses
import io
import json
import sys

import pytest

from irl_jax.data import text
from irl_jax.errors import InputError
from irl_jax.models import llama
from irl_jax.models.huggingface import sentence_piece
from irl_jax.models.huggingface import tokenizer as tokenizer_lib

LINES = ['Hello world, how are you today?', 'def f(x):', '  return x ** 2', "I'm here: one two"] * 9
LLAMA = {'tokenizer_class': 'LlamaTokenizer', 'bos_token': '<s>', 'eos_token': '</s>'}
GEMMA = {'tokenizer_class': 'GemmaTokenizer', 'bos_token': '<bos>', 'eos_token': '<eos>'}
FAMILIES = {  # model_type, tokenizer_config.json, settings of the training
  'llama': ('llama', LLAMA | {'unk_token': '<unk>', 'pad_token': '<unk>'}, {}),
  'llama, old': ('llama', LLAMA | {'legacy': True, 'pad_token': '<unk>'}, {}),
  'mistral': ('mistral', LLAMA | {'legacy': True, 'pad_token': '<unk>'}, {}),
  'gemma': (
    'gemma2',
    GEMMA | {'unk_token': '<unk>', 'pad_token': '<pad>'},
    {'add_dummy_prefix': False, 'pad_id': 0, 'eos_id': 1, 'bos_id': 2, 'unk_id': 3}
    | {
      'bos_piece': '<bos>',
      'eos_piece': '<eos>',
      'user_defined_symbols': ['<start_of_turn>', '\n\n'],
    },
  ),
}
CONFIG = llama.LlamaConfig(
  vocab_size=512,
  hidden_size=8,
  num_hidden_layers=1,
  num_attention_heads=1,
  num_key_value_heads=1,
  head_dim=8,
  intermediate_size=8,
)


@pytest.fixture
def write(tmp_path):
  """A function that trains a family's tokenizer -> its folder, its processor, a model's config."""
  pieces = pytest.importorskip('sentencepiece')

  def train(family):
    model_type, settings, training = FAMILIES[family]
    model = io.BytesIO()
    pieces.SentencePieceTrainer.train(
      sentence_iterator=iter(LINES),
      model_writer=model,
      vocab_size=330,
      model_type='bpe',
      byte_fallback=True,
      normalization_rule_name='identity',
      remove_extra_whitespaces=False,
      allow_whitespace_only_pieces=True,
      minloglevel=2,
      **training,
    )
    (tmp_path / 'tokenizer.model').write_bytes(model.getvalue())
    (tmp_path / 'config.json').write_text(json.dumps({'model_type': model_type}))
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(settings))
    processor = pieces.SentencePieceProcessor(model_proto=model.getvalue())
    return tmp_path, processor, dataclasses.replace(CONFIG, eos_token_ids=(processor.eos_id(),))

  return train


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES)
def test_texts_are_read_as_sentence_piece_reads_them(write, family):
  folder, processor, config = write(family)
  words = tokenizer_lib.load(folder, config)
  texts = ['Hello world', 'one </s> two', "I'm\n\nhere", 'Привет 🤖', 'x', 'a\n\nb<start_of_turn>']
  ids, _ = text.encode(words, texts)
  assert ids == [[processor.bos_id(), *processor.encode(one)] for one in texts]
  (after,), _ = text.encode(words, ['  how are'], continues=True)
  assert text.decode(words, after) == '  how are'


def test_bos_comes_first_unless_the_file_says_otherwise(write):
  folder, processor, config = write('llama')
  assert text.front(tokenizer_lib.load(folder, config)) == [processor.bos_id()]
  settings = json.loads((folder / 'tokenizer_config.json').read_text())
  changed = json.dumps(settings | {'add_bos_token': False})
  (folder / 'tokenizer_config.json').write_text(changed)
  assert text.front(tokenizer_lib.load(folder, config)) == []


def test_a_conversion_that_reads_other_tokens_is_refused(write, monkeypatch):
  folder, _, config = write('llama')
  ids = sentence_piece.backends.ids
  monkeypatch.setattr(
    sentence_piece.backends, 'ids', lambda *some, **more: [one[::-1] for one in ids(*some, **more)]
  )
  with pytest.raises(InputError, match="transformers reads 'Hello world, how are you.' as other"):
    tokenizer_lib.load(folder, config)


def test_a_damaged_file_is_refused(tmp_path):
  pytest.importorskip('sentencepiece')
  (tmp_path / 'tokenizer.model').write_bytes(b'no model')
  with pytest.raises(InputError, match='its tokenizer cannot be read: ') as caught:
    tokenizer_lib.load(tmp_path, CONFIG)
  assert '\n' not in str(caught.value)


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'sentencepiece', None)
  (tmp_path / 'tokenizer.model').write_bytes(b'a model')
  with pytest.raises(InputError, match=r"pip install 'irl_jax\[sentencepiece\]'.*, or copy token"):
    tokenizer_lib.load(tmp_path, CONFIG)
  (tmp_path / 'tokenizer.json').write_text('{}')
  assert sentence_piece.only_file(tmp_path) is None
