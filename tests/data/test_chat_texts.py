"""Texts and conversations as a language model, a reward and a classifier read them."""

import pytest

from irl_jax.data import chat
from irl_jax.data.chat_texts import ChatModel
from irl_jax.data.chat_texts import Reader
from irl_jax.data.row_values import BadRow
from irl_jax.errors import InputError

ASKED = {'role': 'user', 'content': 'Hi?'}
SAID = {'role': 'assistant', 'content': 'Yes.'}
MORE = [ASKED, SAID, {'role': 'user', 'content': 'Why?'}, {'role': 'assistant', 'content': 'So.'}]
TRANSCRIPT = '\n\nHuman: Hi?\n\nAssistant: Yes.\n\nHuman: Why?\n\nAssistant: So.'
SHAREGPT = [{'from': 'human', 'value': 'Hi?'}, {'from': 'gpt', 'value': 'Yes.'}]


def template(messages):
  """A template that puts each role before its content; it refuses the role of a tool."""
  if any(one['role'] == 'tool' for one in messages):
    raise chat.TemplateError('the chat template refuses it: a tool')
  return ''.join(f'<{one["role"]}>{one["content"]}' for one in messages) + '<assistant>'


def loaded_only_for_conversations():
  raise AssertionError('the tokenizer is not needed')


RENDERED = Reader(lambda: ChatModel('M', template))
WITHOUT = Reader(lambda: ChatModel('M', None))
CLASSIFIER = Reader(lambda: ChatModel('M', template, is_classifier=True))
UNASKED = Reader(loaded_only_for_conversations)
AS_MESSAGES = Reader(lambda: ChatModel('M', template), strings_too=True)

CONVERSATIONS = {  # a row: what is rendered before the answer, the answer, and the contents
  'messages': ({'x': [ASKED, SAID]}, '<user>Hi?<assistant>', 'Yes.', 'Hi?\nYes.'),
  'ShareGPT': ({'x': SHAREGPT}, '<user>Hi?<assistant>', 'Yes.', 'Hi?\nYes.'),
  'several turns': (
    {'x': MORE},
    '<user>Hi?<assistant>Yes.<user>Why?<assistant>',
    'So.',
    'Hi?\nYes.\nWhy?\nSo.',
  ),
  'a transcript': (
    {'x': TRANSCRIPT},
    '<user>Hi?<assistant>Yes.<user>Why?<assistant>',
    'So.',
    'Hi?\nYes.\nWhy?\nSo.',
  ),
  'an answer to the prompt': (
    {'prompt': [ASKED], 'x': [SAID]},
    '<user>Hi?<assistant>',
    'Yes.',
    'Hi?\nYes.',
  ),
  'an answer to a string': (
    {'prompt': 'Hi?', 'x': [SAID]},
    '<user>Hi?<assistant>',
    'Yes.',
    'Hi?\nYes.',
  ),
  'a whole conversation next to its prompt': (
    {'prompt': 'Hi?', 'x': [ASKED, SAID]},
    '<user>Hi?<assistant>',
    'Yes.',
    'Hi?\nYes.',
  ),
  'a system message': (
    {'x': [{'role': 'system', 'content': 'Be brief.'}, ASKED, SAID]},
    '<system>Be brief.<user>Hi?<assistant>',
    'Yes.',
    'Be brief.\nHi?\nYes.',
  ),
}


@pytest.mark.parametrize('case', CONVERSATIONS)
def test_a_conversation_is_rendered_up_to_its_answer(case):
  row, before, answer, contents = CONVERSATIONS[case]
  prompt, text = RENDERED.pair(row, ('x',))
  assert (chat.shown(prompt), text) == (before, answer) and chat.is_marked(prompt)
  assert RENDERED.text(row, ('y', 'x')) == prompt + answer
  assert AS_MESSAGES.text(row, ('x',)) == prompt + answer
  assert CLASSIFIER.text(row, ('x',)) == contents
  assert chat.plain(RENDERED.text(row, ('x',))) == contents


def test_a_conversation_without_an_answer_is_scored_but_not_compared():
  for last in (ASKED, {'role': 'tool', 'content': '3'}):
    with pytest.raises(BadRow, match="field 'x' ends without an answer"):
      RENDERED.pair({'x': [ASKED, SAID, last]}, ('x',))
  assert chat.shown(RENDERED.text({'x': [ASKED]}, ('x',))) == '<user>Hi?<assistant>'
  assert CLASSIFIER.text({'x': [ASKED]}, ('x',)) == 'Hi?'


def test_strings_stay_as_they_are_and_load_nothing():
  assert UNASKED.text({'text': 'a'}, ('text',)) == 'a'
  assert UNASKED.text({'x': {'text': 'a', 'toxicity': 0.1}}, ('x',)) == 'a'
  assert UNASKED.text({'text': TRANSCRIPT}, ('text',)) == TRANSCRIPT  # as in training
  assert UNASKED.text({'x': 'Human: one turn'}, ('x',)) == 'Human: one turn'
  assert UNASKED.prompt({'x': TRANSCRIPT}, ('x',)) == TRANSCRIPT
  assert UNASKED.pair({'x': 'a'}, ('x',)) == ('', 'a')
  assert UNASKED.pair({'x': 'a', 'p': 'b'}, ('x',), 'p') == ('b', 'a')


def test_strings_are_messages_with_chat():
  assert chat.shown(AS_MESSAGES.text({'x': 'a'}, ('x',))) == '<user>a<assistant>'
  assert chat.shown(AS_MESSAGES.prompt({'x': 'a'}, ('x',))) == '<user>a<assistant>'
  prompt, text = AS_MESSAGES.pair({'x': 'a', 'p': 'b'}, ('x',), 'p')
  assert (chat.shown(prompt), text) == ('<user>b<assistant>', 'a')
  reads = Reader(lambda: ChatModel('M', None, is_classifier=True), strings_too=True)
  assert reads.text({'x': 'a'}, ('x',)) == 'a'
  for read in (Reader.text, Reader.prompt):
    with pytest.raises(InputError, match='M: has no chat template'):
      read(Reader(lambda: ChatModel('M', None), strings_too=True), {'x': 'a'}, ('x',))


def test_a_prompt_field_may_have_a_conversation():
  for answer in ('Yes.', [SAID], [ASKED, SAID]):
    prompt, text = RENDERED.pair({'p': [ASKED], 'x': answer}, ('x',), 'p')
    assert (chat.shown(prompt), text) == ('<user>Hi?<assistant>', 'Yes.')
  assert chat.shown(RENDERED.prompt({'x': [ASKED, SAID]}, ('x',))) == '<user>Hi?<assistant>'


def test_without_a_template_only_what_is_certain_is_read(monkeypatch):
  warned = []
  monkeypatch.setattr('irl_jax.runtime.notices.warn_once', warned.append)
  assert WITHOUT.text({'x': TRANSCRIPT}, ('x',)) == TRANSCRIPT
  before = TRANSCRIPT.removesuffix(' So.')
  assert WITHOUT.pair({'x': TRANSCRIPT}, ('x',)) == (before, ' So.') and not warned
  assert WITHOUT.text({'x': [ASKED, SAID]}, ('x',)) == 'Hi?Yes.'
  assert WITHOUT.pair({'x': [ASKED, SAID]}, ('x',)) == ('Hi?', 'Yes.')
  assert 'follows its prompt with nothing in between' in warned[0]
  with pytest.raises(BadRow, match='conversation of 4 messages, which needs a model with a chat t'):
    WITHOUT.text({'x': MORE}, ('x',))
  with pytest.raises(InputError, match='M: has no chat template; give plain prompts'):
    WITHOUT.prompt({'x': [ASKED]}, ('x',))


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ({'x': 3}, "field 'x' must be a string, but is a number"),
    ({'x': None}, "field 'x' must be a string, but is null"),
    ({'x': []}, "field 'x' must be a string, but is a list"),
    ({'x': ['a']}, "field 'x' must be a string, but is a list"),
    ({'x': {'a': 1}}, "field 'x' must be a string, but is an object"),
    ({'y': 'a'}, "has no field 'x'; its fields: 'y'"),
    ({'x': [{'role': 'user'}]}, "field 'x': message 1 must have a role and a content"),
    ({'x': [SAID]}, "field 'x' has no user message before the answer"),
    ({'x': [SAID], 'prompt': 3}, "field 'prompt' must be a string, but is a number"),
    (
      {'x': [ASKED, {'role': 'tool', 'content': '1'}, SAID]},
      'the chat template refuses it: a tool',
    ),
  ],
)
def test_what_is_neither_is_a_bad_row(row, message):
  for read in (RENDERED.text, RENDERED.pair):
    with pytest.raises(BadRow) as caught:
      read(row, ('x',))
    assert message in str(caught.value)


def test_marks_in_messages_are_not_a_templates():
  marked = [ASKED, {'role': 'assistant', 'content': f'a{chat.START}b'}]
  assert RENDERED.pair({'x': marked}, ('x',))[1] == 'a\ufffdb'
  assert CLASSIFIER.text({'x': marked}, ('x',)) == 'Hi?\na\ufffdb'
  assert WITHOUT.text({'x': marked}, ('x',)) == 'Hi?a\ufffdb'
