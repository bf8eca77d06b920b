"""Conversations as prompts: what a template adds is real, what people type is plain text."""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import transformers

from irl_jax.config import Data
from irl_jax.data import chat
from irl_jax.data import chat_rows
from irl_jax.data import text
from irl_jax.data.playground import tokenizers as playground_tokenizers
from irl_jax.data.row_values import BadRow

CHATML = (
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim }}"
  "{{ '<|im_end|>\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
USER = [{'role': 'user', 'content': 'hello world'}]
TURNS = [
  {'role': 'system', 'content': 'Be kind.'},
  {'role': 'user', 'content': ' hello '},
  {'role': 'assistant', 'content': 'Yes?'},
  {'role': 'user', 'content': 'one two'},
]


@pytest.fixture(scope='module')
def tokenizer():
  """A tokenizer with a chat template whose special tokens are in its vocabulary."""
  tokenizer = playground_tokenizers.language_model_tokenizer(['hello world', 'one two three'] * 5)
  tokenizer.add_special_tokens({'additional_special_tokens': ['<|im_start|>', '<|im_end|>']})
  tokenizer.chat_template = CHATML
  return tokenizer


@pytest.fixture(scope='module')
def template(tokenizer):
  return chat.template_of(tokenizer)


@pytest.mark.parametrize('messages', [USER, TURNS])
def test_a_rendered_prompt_has_the_ids_that_transformers_gives_it(tokenizer, template, messages):
  prompt = chat.render(template, messages)
  expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
  assert text.encode(tokenizer, [prompt, 'one']) == (
    [expected, text.encode(tokenizer, ['one'])[0][0]],
    0,
  )
  assert chat.shown(prompt) == tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=False
  )


def test_a_typed_special_token_stays_plain_text(tokenizer, template):
  typed = 'a <|im_end|> b'
  (ids,), _ = text.encode(tokenizer, [chat.render(template, [{'role': 'user', 'content': typed}])])
  end = tokenizer.convert_tokens_to_ids('<|im_end|>')
  assert ids.count(end) == 1  # the template's own
  assert typed in tokenizer.decode(ids)


def test_a_typed_mark_makes_no_special_token(tokenizer, template):
  typed = f'{chat.START}<|im_end|>{chat.END}'
  prompt = chat.render(template, [{'role': 'user', 'content': typed}])
  (ids,), _ = text.encode(tokenizer, [prompt])
  assert ids.count(tokenizer.convert_tokens_to_ids('<|im_end|>')) == 1
  assert chat.plain(prompt) == '\ufffd<|im_end|>\ufffd'


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=3), st.text(max_size=8))
def test_ids_of_prompt_and_completion_add_up(tokenizer, template, contents, completion):
  messages = [{'role': 'user', 'content': content} for content in contents]
  prompt = chat.render(template, messages)
  completion = chat.unmarked(completion)
  rows, _ = text.encode(tokenizer, [prompt, completion, prompt + completion])
  assert rows[0] + rows[1] == rows[2]
  assert chat.plain(prompt + completion) == '\n'.join(
    part for part in [*(chat.unmarked(one).strip() for one in contents), completion] if part
  )


def test_a_template_that_changes_contents_is_refused(tokenizer):
  loud = chat.template_of(_with_template(tokenizer, "{{ messages[0]['content'] | upper }}"))
  with pytest.raises(chat.TemplateError, match='changes the content of message 1'):
    chat.render(loud, USER)


def test_the_template_s_own_refusal_is_one_line(tokenizer):
  strict = chat.template_of(
    _with_template(tokenizer, "{{ raise_exception('System role not supported') }}")
  )
  with pytest.raises(chat.TemplateError, match='refuses it: System role not supported'):
    chat.render(strict, TURNS)


def test_a_tokenizer_may_have_no_template(tokenizer):
  assert chat.template_of(_with_template(tokenizer, None)) is None


def _with_template(tokenizer, template):
  other = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
  other.chat_template = template
  return other


TRANSCRIPT = '\n\nHuman: hello\n\nAssistant: Yes?\n\nHuman: one two\n\nAssistant: three'
SHAREGPT = [{'from': 'human', 'value': 'hello'}, {'from': 'gpt', 'value': 'three'}]
ANSWERED = [*USER, {'role': 'assistant', 'content': 'three'}]


@pytest.mark.parametrize(
  'row, fields, messages, answer',
  [
    ({'messages': ANSWERED}, ('messages', ''), USER, 'three'),
    ({'messages': USER}, ('messages', ''), USER, ''),
    (
      {'conversations': SHAREGPT},
      ('conversations', ''),
      [{'role': 'user', 'content': 'hello'}],
      'three',
    ),
    ({'prompt': 'hello world'}, ('prompt', ''), USER, ''),
    ({'prompt': {'text': 'hello world', 'toxicity': 0.1}}, ('prompt', ''), USER, ''),
    ({'prompt': 'hello world', 'completion': 'three'}, ('prompt', 'completion'), USER, 'three'),
    ({'prompt': USER, 'chosen': ANSWERED[1:], 'rejected': []}, ('prompt', 'chosen'), USER, 'three'),
    ({'prompt': 'x', 'chosen': ANSWERED, 'rejected': []}, ('chosen', ''), USER, 'three'),
    (
      {'chosen': TRANSCRIPT, 'rejected': TRANSCRIPT + '!'},
      ('chosen', ''),
      [
        {'role': 'user', 'content': 'hello'},
        {'role': 'assistant', 'content': 'Yes?'},
        {'role': 'user', 'content': 'one two'},
      ],
      'three',
    ),
  ],
)
def test_common_forms_are_read_as_they_are(template, row, fields, messages, answer):
  assert chat_rows.fields_of(row, Data()) == fields
  assert chat_rows.prompt_and_answer(row, fields, Data(), template) == (
    chat.render(template, messages),
    answer,
  )


def test_fields_that_the_user_names_count():
  row = {'text': 'a', 'messages': USER}
  assert chat_rows.fields_of(row, Data()) == ('', 'text')
  assert chat_rows.fields_of(row, Data(prompt_field='messages', text_field='')) == ('messages', '')


def test_without_a_template_single_prompts_and_transcripts_are_plain_text():
  read = lambda row, **settings: chat_rows.prompt_and_answer(
    row, chat_rows.fields_of(row, Data(**settings)), Data(**settings), None
  )
  assert read({'messages': ANSWERED}, joiner=r'\n') == ('hello world', '\nthree')
  assert read({'chosen': TRANSCRIPT}) == (TRANSCRIPT.removesuffix(' three'), ' three')
  with pytest.raises(BadRow, match='a conversation of 4 messages, which needs'):
    read({'messages': TURNS})


@pytest.mark.parametrize(
  'messages, message',
  [
    ([{'role': 'assistant', 'content': 'Yes?'}], 'has no user message before the answer'),
    ([{'role': 'user'}], 'message 1 must have a role and a content'),
    ([{'content': 'x'}], 'message 1 must have a role and a content'),
    ([{'role': 'user', 'content': [{'type': 'image'}]}], 'message 1 must have a role'),
  ],
)
def test_what_is_no_conversation_is_named(template, messages, message):
  with pytest.raises(BadRow, match=message):
    chat_rows.prompt_and_answer({'messages': messages}, ('messages', ''), Data(), template)
