"""Tokenizers as repositories ship them.

Pythia's has no padding, s-nlp's no tokenizer.json, and others are broken.
"""

import copy
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import tokenizers
import transformers

from irl_jax.data import text
from irl_jax.errors import InputError
from irl_jax.evaluation import likelihoods
from irl_jax.irl import pairs
from irl_jax.models import encoder
from irl_jax.models import gpt_neox
from irl_jax.models import huggingface
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.training import examples

PYTHIA = gpt_neox.GPTNeoXConfig(
  vocab_size=50304, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
)
# tokenizer_config.json of EleutherAI/pythia-*
PYTHIA_FILE = {
  'add_prefix_space': False,
  'bos_token': '<|endoftext|>',
  'eos_token': '<|endoftext|>',
  'name_or_path': 'EleutherAI/gpt-neox-20b',
  'tokenizer_class': 'GPTNeoXTokenizer',
  'unk_token': '<|endoftext|>',
}


@pytest.fixture
def pythia_folder(tmp_path, shared):
  shutil.copyfile(shared / 'models/pythia_tokenizer/tokenizer.json', tmp_path / 'tokenizer.json')
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'gpt_neox'}))
  return tmp_path


@pytest.mark.parametrize(
  'settings', [None, PYTHIA_FILE, PYTHIA_FILE | {'pad_token': '<|endoftext|>'}]
)
def test_pythias_tokenizer_is_read(pythia_folder, settings):
  if settings:
    (pythia_folder / 'tokenizer_config.json').write_text(json.dumps(settings))
  tokenizer = huggingface.tokenizer.load(pythia_folder, PYTHIA)
  assert (tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)) == (0, 1, 50277)
  assert tokenizer('Hello world')['input_ids'] == [12092, 1533]


def test_the_papers_classifier_has_no_tokenizer_json(tmp_path, shared):
  for name in ('vocab.json', 'merges.txt'):
    shutil.copyfile(shared / 'models/roberta_tokenizer' / name, tmp_path / name)
  shutil.copyfile(
    shared / 'models/roberta_toxicity_classifier_config.json', tmp_path / 'config.json'
  )
  config = encoder.EncoderConfig(
    vocab_size=50265, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
  )
  tokenizer = huggingface.tokenizer.load(tmp_path, config)
  assert tokenizer('Hello world')['input_ids'] == [0, 31414, 232, 2]
  with pytest.raises(InputError, match='50265 ids, but its model has embeddings for 100'):
    huggingface.tokenizer.load(tmp_path, dataclasses.replace(config, vocab_size=100))


BERT = encoder.EncoderConfig(
  vocab_size=12,
  hidden_size=8,
  num_hidden_layers=1,
  num_attention_heads=1,
  intermediate_size=8,
  max_position_embeddings=32,
  pad_token_id=0,
  family='bert',
)
PIECES = '[PAD] [UNK] [CLS] [SEP] [MASK] hello world you s ##ep [ ]'.split()  # noqa: SIM905


def bert_folder(folder, pieces=PIECES):
  (folder / 'config.json').write_text(json.dumps({'model_type': 'bert'}))
  (folder / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
  (folder / 'tokenizer_config.json').write_text(json.dumps({'tokenizer_class': 'BertTokenizer'}))
  return folder


def test_berts_word_pieces_are_read_without_an_eos(tmp_path):
  tokenizer = huggingface.tokenizer.load(bert_folder(tmp_path), BERT)
  assert tokenizer.pad_token_id == 0
  (whole, typed), _ = text.encode(tokenizer, ['Hello  World', 'you [SEP]'], specials=True)
  assert whole == [2, 5, 6, 3]
  assert typed == [2, 7, 10, 8, 9, 11, 3]  # plain text, not the real [SEP]


def test_a_tokenizer_that_knows_no_word_is_refused(tmp_path):
  folder = bert_folder(tmp_path, PIECES[:5])
  with pytest.raises(InputError, match="reads 'Hello world' as .*, unknown words alone"):
    huggingface.tokenizer.load(folder, BERT)


def test_eos_must_be_one_thing(pythia_folder):
  (pythia_folder / 'tokenizer_config.json').write_text(json.dumps(PYTHIA_FILE))
  with pytest.raises(InputError, match='EOS is 0 for its tokenizer, but 2 in config.json'):
    huggingface.tokenizer.load(pythia_folder, dataclasses.replace(PYTHIA, eos_token_ids=(2,)))


def test_padding_must_differ_from_eos(tmp_path, language_model):
  language_model.tokenizer.save_pretrained(tmp_path)
  path = tmp_path / 'tokenizer.json'
  path.write_text(path.read_text().replace('<|padding|>', '<|other|>'))
  settings = json.loads((tmp_path / 'tokenizer_config.json').read_text())
  (tmp_path / 'tokenizer_config.json').write_text(
    json.dumps(settings | {'pad_token': '<|endoftext|>'})
  )
  spare = huggingface.tokenizer.load(tmp_path, language_model.config)
  assert spare.pad_token == '<|other|>'  # a special token without a role
  content = json.loads(path.read_text())
  content['added_tokens'] = [
    token for token in content['added_tokens'] if token['content'] != '<|other|>'
  ]
  path.write_text(json.dumps(content))
  with pytest.raises(InputError, match='no padding token apart from EOS'):
    huggingface.tokenizer.load(tmp_path, language_model.config)


@pytest.mark.parametrize(
  'specials, padding',
  [
    (['<|user|>', '<|pad|>', '<|x|>'], '<|pad|>'),
    (['<|reserved_0|>', '<|reserved_1|>', '<|x|>'], '<|reserved_1|>'),
    (['<|user|>', '<|x|>'], '<|x|>'),
    (['<|x|>', '<|user|>'], '<|x|>'),
  ],
)
def test_padding_is_a_token_that_no_model_says(tmp_path, language_model, specials, padding):
  words = copy.deepcopy(language_model.tokenizer)
  words.add_tokens([tokenizers.AddedToken(token, special=True) for token in specials])
  words.chat_template = "{{ '<|user|>' + messages[0]['content'] }}"
  words.pad_token = '<|endoftext|>'
  words.save_pretrained(tmp_path)
  path = tmp_path / 'tokenizer.json'
  path.write_text(path.read_text().replace('<|padding|>', '<unused by us>'))
  content = json.loads(path.read_text())
  content['added_tokens'] = [one for one in content['added_tokens'] if one['id'] != 1]
  path.write_text(json.dumps(content))
  assert huggingface.tokenizer.load(tmp_path, language_model.config).pad_token == padding


@pytest.mark.slow
def test_bos_comes_before_a_text_where_transformers_puts_it(language_model):
  words = copy.deepcopy(language_model.tokenizer)
  words.add_special_tokens({'bos_token': '<bos>'})
  words.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single='<bos> $A', special_tokens=[('<bos>', words.bos_token_id)]
  )
  assert text.front(language_model.tokenizer) == []
  assert text.front(words) == text.start(words) == [words.bos_token_id]
  texts = ['Hello', '', 'What <bos> is']
  ids, _ = text.encode(words, texts)
  assert ids[:2] == words(texts[:2])['input_ids']
  assert ids[2].count(words.bos_token_id) == 1  # a typed one is plain text
  assert text.encode(words, ['Hello'], max_tokens=3)[0] == [[ids[0][0], *ids[0][-2:]]]
  model = dataclasses.replace(language_model, tokenizer=words)
  assert text.prompt_ids(words, texts, None) == ids
  assert pairs.encode_pairs(model, texts, texts, 64)[0] == (ids[0], ids[0])
  assert examples.language_model_examples(model, texts, 64).sequences[0] == [*ids[0], 0]
  log_probs = likelihoods.log_prob_scorer(model)(texts[:2])
  assert log_probs[:, 1].tolist() == [5, 0]
  hidden = trunk.hidden_states(model.params, np.array(ids[:1]), np.ones((1, 6), bool), model.config)
  logits = jax.nn.log_softmax(trunk.logits(model.params, hidden, model.config)[0])
  expected = sum(float(logits[place, token]) for place, token in enumerate(ids[0][1:]))
  np.testing.assert_allclose(log_probs[0, 0], expected, rtol=1e-4)


def test_code_of_its_own_is_refused(pythia_folder):
  settings = PYTHIA_FILE | {'auto_map': {'AutoTokenizer': ['evil.Tokenizer', None]}}
  (pythia_folder / 'tokenizer_config.json').write_text(json.dumps(settings))
  (pythia_folder / 'evil.py').write_text('open("witness", "w")')
  with pytest.raises(InputError, match='auto_map'):
    huggingface.tokenizer.load(pythia_folder, PYTHIA)


@pytest.mark.parametrize(
  'settings',
  [
    {'model_max_length': '512'},
    {'model_max_length': {}},
    {'eos_token': 7},
    {'added_tokens_decoder': {'x': 1}},
    {'tokenizer_class': ['A']},
  ],
)
def test_settings_of_the_wrong_type_are_refused(tmp_path, language_model, settings):
  pretrained.save(tmp_path, language_model, '')
  path = tmp_path / 'tokenizer_config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | settings))
  with pytest.raises(InputError, match='its tokenizer cannot be read') as caught:
    huggingface.tokenizer.load(tmp_path, language_model.config)
  assert '\n' not in str(caught.value)


def test_an_id_beyond_the_embeddings_is_refused_though_the_tokens_are_few(tmp_path, language_model):
  language_model.tokenizer.save_pretrained(tmp_path)
  path = tmp_path / 'tokenizer.json'
  content = json.loads(path.read_text())
  content['model']['vocab']['far'] = 5000
  path.write_text(json.dumps(content))
  with pytest.raises(InputError, match='5001 ids, but its model has embeddings for 264'):
    huggingface.tokenizer.load(tmp_path, language_model.config)


def test_a_tokenizer_without_its_merges_is_refused(pythia_folder):
  path = pythia_folder / 'tokenizer.json'
  content = json.loads(path.read_text())
  content['model']['merges'] = []
  path.write_text(json.dumps(content))
  with pytest.raises(InputError, match=r"splits 'Hello world' into .* instead of \[12092, 1533\]"):
    huggingface.tokenizer.load(pythia_folder, PYTHIA)


@pytest.mark.parametrize('content', [None, '', '{', '{}', '<html></html>'])
def test_a_missing_or_damaged_tokenizer_is_refused(tmp_path, language_model, content):
  pretrained.save(tmp_path / 'model', language_model, '')
  file = tmp_path / 'model/tokenizer.json'
  file.unlink() if content is None else file.write_text(content)
  with pytest.raises(InputError, match='tokenizer') as caught:
    pretrained.load(str(tmp_path / 'model'))
  assert '\n' not in str(caught.value)


def test_an_unchanged_folder_is_read_once_and_a_changed_one_again(tmp_path, policy, monkeypatch):
  reads, read = [], transformers.AutoTokenizer.from_pretrained
  monkeypatch.setattr(
    transformers.AutoTokenizer,
    'from_pretrained',
    lambda folder, **settings: reads.append(folder) or read(folder, **settings),
  )
  policy.tokenizer.save_pretrained(tmp_path)
  first = huggingface.tokenizer.load(tmp_path, policy.config)
  assert huggingface.tokenizer.load(tmp_path, policy.config) is first and len(reads) == 1
  path = tmp_path / 'tokenizer.json'
  path.write_text(path.read_text().replace('"q"', '"z"'))
  changed = huggingface.tokenizer.load(tmp_path, policy.config)
  assert len(reads) == 2 and 'z' in changed.get_vocab() and 'q' not in changed.get_vocab()
