"""Rows with a prompt of their own (a string or a conversation), with or without an answer.

A conversation is rendered with a chat template if there is one. Without one, only a single message
or a transcript can be read, as plain text.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from irl_jax.config import Data
from irl_jax.data import chat
from irl_jax.data import text
from irl_jax.data.row_values import BadRow
from irl_jax.data.rows import first_field
from irl_jax.data.rows import text_of
from irl_jax.errors import InputError

# Fields of conversations that are read if a row has no field 'text' and the user named no field.
CONVERSATIONS = ('messages', 'conversations', 'conversation', 'chosen')
ANSWERS = ('chosen', 'completion', 'response')  # next to a field 'prompt'
_FLAG = '--config.data.prompt_field'


def check_prompts(values: Any) -> list[str | list[chat.Message]]:
  """Returns strings and conversations as a list, if they are nothing else.

  Args:
    values: what a caller passed as prompts.

  Raises:
    ConfigError, InputError: as `text.check_texts`; or a conversation cannot be answered.
  """
  return [
    _checked(value, f'prompts[{number}]')
    for number, value in enumerate(text.check_list(values, 'prompts'))
  ]


def _checked(value: Any, name: str) -> str | list[chat.Message]:
  if not isinstance(value, list):
    return text.check_text(value, name)
  try:
    messages, answer = chat.prompt_and_answer(chat.conversation(value) or [])
  except ValueError as error:
    raise InputError(f'{name}: {error}') from error
  if answer:
    raise InputError(f'{name}: ends with an answer; leave the last message out')
  return messages


def render_all(
  tokenizer: Any, prompts: Sequence[str | list[chat.Message]], strings_too: bool, source: str
) -> list[str]:
  """Renders conversations, and with `strings_too` strings as well, by a model's chat template.

  Args:
    tokenizer: the model's.
    prompts: from `check_prompts`.
    strings_too: whether a string is the only message of a conversation, or plain text.
    source: the model's name, for messages.

  Raises:
    InputError: there is something to render, but no template, or the template refuses it.
  """
  if not strings_too and all(isinstance(prompt, str) for prompt in prompts):
    return [str(prompt) for prompt in prompts]
  template = chat.template_of(tokenizer)
  if template is None:
    raise InputError(f'{source}: has no chat template; give plain prompts')
  rendered = []
  for number, prompt in enumerate(prompts):
    try:
      messages = [chat.Message(role='user', content=prompt)] if isinstance(prompt, str) else prompt
      plain = isinstance(prompt, str) and not strings_too
      rendered.append(str(prompt) if plain else chat.render(template, messages))
    except chat.TemplateError as error:
      raise InputError(f'prompts[{number}]: {error}') from error
  return rendered


def prompt_of(row: Mapping[str, Any], fields: Sequence[str], flag: str) -> str | list[chat.Message]:
  """Returns the prompt in the first of `fields` that a row has: a text or a conversation.

  A conversation loses the answer at its end.

  Raises:
    BadRow: the row has none of the fields, or the value is neither.
  """
  field = first_field(row, fields, flag)
  value = unnested(row[field])
  messages = None if isinstance(value, str) else messages_of(value, field)
  if messages is None:
    return text_of({**row, field: value}, (field,))
  try:
    return chat.prompt_and_answer(messages)[0]
  except ValueError as error:
    raise BadRow(f'field {field!r} {error}') from error


def fields_of(row: Mapping[str, Any], data: Data) -> tuple[str, str]:
  """Returns the fields of a row's prompt and of its answer; '': it has none.

  The user's fields come first. If they are the default and the row lacks it, the fields of common
  data sets are used.
  """
  if data.prompt_field or data.text_field != Data.text_field or data.text_field in row:
    return data.prompt_field, data.text_field
  whole = next((name for name in CONVERSATIONS if _is_whole(row.get(name))), '')
  if whole or 'prompt' not in row:
    return whole, '' if whole else data.text_field
  return 'prompt', next((name for name in ANSWERS if name in row), '')


def _is_whole(value: Any) -> bool:
  """Returns True for a conversation that begins with its prompt, not with an answer."""
  try:
    messages = chat.conversation(value)
  except ValueError:  # says why when it is read
    return isinstance(value, list)
  return messages is not None and any(message['role'] == 'user' for message in messages)


def prompt_and_answer(
  row: Mapping[str, Any], fields: tuple[str, str], data: Data, template: chat.Template | None
) -> tuple[str, str]:
  """Returns a row's prompt, marked if a template rendered it, and its answer, '' without one.

  Args:
    row: a row that has the prompt's field.
    fields: from `fields_of`.
    data: its joiner is put between a plain prompt and the answer.
    template: renders prompts; None: prompts stay plain text.

  Raises:
    BadRow: a field is missing, has no text, or has a conversation that cannot be rendered.
  """
  prompt_field, answer_field = fields
  value = unnested(row[first_field(row, (prompt_field,), _FLAG)])
  messages = messages_of(value, prompt_field)
  if messages is None or (template is None and isinstance(value, str)):
    return _of_text({**row, prompt_field: value}, fields, data, template)
  try:
    messages, answer = chat.prompt_and_answer(messages)
  except ValueError as error:
    raise BadRow(f'field {prompt_field!r} {error}') from error
  if answer_field and (answer_field in row or not answer):
    answer = answer_of(row, answer_field)
  answer = chat.unmarked(answer)
  if template:
    return rendered(template, messages), answer
  if len(messages) > 1:
    raise BadRow(
      f'field {prompt_field!r} has a conversation of {len(messages)} messages, which needs a model '
      'with a chat template',
      'give single prompts, or models that have one (config.data.chat)',
    )
  return _joined(messages[0]['content'], answer, data)


def _of_text(
  row: Mapping[str, Any], fields: tuple[str, str], data: Data, template: chat.Template | None
) -> tuple[str, str]:
  """Does the same as `prompt_and_answer` for a row whose prompt is a string."""
  prompt = text_of(row, fields[:1], _FLAG)
  answer = chat.unmarked(answer_of(row, fields[1])) if fields[1] else ''
  if not answer and template is None and (transcript := at_the_answer(prompt)):
    return transcript
  if template:
    return rendered(template, prompt), answer
  return _joined(prompt, answer, data)


def at_the_answer(transcript: str) -> tuple[str, str] | None:
  """Splits a transcript before its last answer; None if a text is not a transcript."""
  if chat.conversation(transcript) is None:
    return None
  before, speaker, answer = transcript.rpartition('\n\nAssistant:')
  return chat.unmarked(before + speaker), chat.unmarked(answer)


def _joined(prompt: str, answer: str, data: Data) -> tuple[str, str]:
  joiner = data.joiner.replace(r'\n', '\n').replace(r'\t', '\t')
  return chat.unmarked(prompt), joiner + answer if prompt and answer else answer


def rendered(template: chat.Template, prompt: str | list[chat.Message]) -> str:
  """Renders a conversation, or a plain prompt as its only message.

  Raises:
    BadRow: the template refuses it.
  """
  messages = [chat.Message(role='user', content=prompt)] if isinstance(prompt, str) else prompt
  try:
    return chat.render(template, messages)
  except chat.TemplateError as error:
    raise BadRow(str(error)) from error


def answer_of(row: Mapping[str, Any], field: str) -> str:
  """Returns the text of an answer: a string, or the last message of a conversation.

  Raises:
    BadRow: the field has neither.
  """
  value = unnested(row[first_field(row, (field,), '--config.data.text_field')])
  messages = None if isinstance(value, str) else messages_of(value, field)
  return messages[-1]['content'] if messages else text_of({**row, field: value}, (field,))


def messages_of(value: Any, field: str) -> list[chat.Message] | None:
  """Returns the conversation in a field's value, or None.

  Raises:
    BadRow: a message has no role, or contents that are not text.
  """
  try:
    return chat.conversation(value)
  except ValueError as error:
    raise BadRow(f'field {field!r}: {error}') from error


def unnested(value: Any) -> Any:
  """Returns the text of {'text': …}, as RealToxicityPrompts has it; other values as they are."""
  return value.get('text', value) if isinstance(value, Mapping) else value
