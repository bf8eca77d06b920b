"""Notes on a language model: its own special tokens, and other ends of a response."""

import copy
import json

import pytest
import tokenizers

from irl_jax import sampling
from irl_jax.config import Sampling
from irl_jax.data import text
from irl_jax.models import pretrained


@pytest.fixture
def folder(tmp_path, language_model):
  """A saved language model, of which nothing is logged."""
  pretrained.save(tmp_path / 'model', language_model, '')
  return tmp_path / 'model'


def with_specials(folder, language_model, *specials):
  """Adds special tokens to the tokenizer; the model has rows for two."""
  words = copy.deepcopy(language_model.tokenizer)
  words.add_tokens([tokenizers.AddedToken(token, special=True) for token in specials])
  words.save_pretrained(folder)


def test_a_usual_model_gives_nothing_to_tell(folder, caplog):
  (folder / 'generation_config.json').write_text('{"eos_token_id": [0]}')
  pretrained.load(str(folder))
  assert not caplog.text


def test_special_tokens_of_its_own_are_logged_once(folder, language_model, caplog):
  with_specials(folder, language_model, '<|user|>', '<think>')
  for _ in range(2):
    model = pretrained.describe(str(folder))
  message = 'has special tokens of its own (2: <think>, <|user|>): in texts they are plain'
  assert caplog.text.count(message) == 1
  typed, end = '<think> a <|user|>', model.tokenizer.eos_token
  (ids,), _ = text.encode(model.tokenizer, [typed + end])
  assert not {0, *model.tokenizer.convert_tokens_to_ids(['<|user|>', '<think>'])} & set(ids)
  assert text.decode(model.tokenizer, ids) == typed + end


@pytest.mark.slow
def test_special_tokens_are_kept_if_they_are_wanted_but_never_eos(folder, language_model):
  with_specials(folder, language_model, '<|user|>')
  model = pretrained.load(str(folder))
  (special,) = model.tokenizer.convert_tokens_to_ids(['<|user|>'])
  sampled = [4, special, 5, 0, 6]  # 0 is EOS
  assert text.decode(model.tokenizer, sampled) == text.decode(model.tokenizer, [4, 5])
  around = [text.decode(model.tokenizer, [one]) for one in (4, 5)]
  assert text.decode(model.tokenizer, sampled, skip_special_tokens=False) == '<|user|>'.join(around)
  kept, left_out = (
    sampling.complete(model, ['a'] * 40, Sampling(max_new_tokens=16, skip_special_tokens=skips))
    for skips in (False, True)
  )
  assert any('<|user|>' in one for one in kept) and all('endoftext' not in one for one in kept)
  assert [one.replace('<|user|>', '') for one in kept] == left_out


@pytest.mark.slow
@pytest.mark.parametrize(
  'ends, more, expected',
  [
    ([0, 5], None, (0, 5)),
    (0, [0, 5], (0, 5)),
    ([5, 0], 7, (0, 5, 7)),  # the tokenizer's EOS comes first
    (None, [5, 0, 5], (0, 5)),
    (0, [300, -1, 5], (0, 5)),  # the model has 264 embeddings
  ],
)
def test_any_end_of_both_files_ends_a_response(folder, ends, more, expected):
  raw = json.loads((folder / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps(raw | {'eos_token_id': ends}))
  (folder / 'generation_config.json').write_text(json.dumps({'eos_token_id': more}))
  model = pretrained.load(str(folder))
  assert model.config.eos_token_ids == expected
  responses, _ = sampling.complete_ids(model, [[4]] * 64, Sampling(max_new_tokens=8), 0)
  assert not {*expected} & {token for ids in responses for token in ids[:-1]}
  pretrained.save(folder, model, '')
  for name in ('config.json', 'generation_config.json'):
    assert json.loads((folder / name).read_text())['eos_token_id'] == list(expected)
  assert pretrained.load(str(folder)).config == model.config


@pytest.mark.parametrize('content', ['{', '[]', '{"eos_token_id": "x"}', '{"eos_token_id": null}'])
def test_a_damaged_generation_config_does_not_hinder(folder, content, caplog):
  (folder / 'generation_config.json').write_text(content)
  pretrained.describe(str(folder))
  assert ('is used without it' in caplog.text) == (content in ('{', '[]'))


@pytest.mark.slow
def test_a_list_of_one_end_is_that_end(folder):
  raw = json.loads((folder / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps(raw | {'eos_token_id': [0]}))
  listed = pretrained.load(str(folder))
  assert listed.config.eos_token_ids == (0,)
  (folder / 'config.json').write_text(json.dumps(raw))
  limits = Sampling(max_new_tokens=4)
  one, other = (
    sampling.complete_ids(model, [[4]] * 4, limits, 0)[0]
    for model in (listed, pretrained.load(str(folder)))
  )
  assert one == other
