"""Texts and conversations as a model reads them: what the commands and the Python API score.

A language model or a reward reads a conversation as in training: what precedes the last answer is
rendered by the model's chat template, and the answer follows it. A classifier reads the contents of
the messages alone, one below the other.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import NamedTuple

from irl_jax.data import chat
from irl_jax.data import chat_rows
from irl_jax.data.row_values import BadRow
from irl_jax.data.rows import first_field
from irl_jax.data.rows import text_of
from irl_jax.data.text import check_list
from irl_jax.data.text import check_text
from irl_jax.data.text import check_texts
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.runtime import notices

PLAIN = 'text'  # a string in this field is plain text, as in training, even if it is a transcript
PROMPT = 'prompt'  # the field that precedes an answer without a question
# The answers of a preference: in these fields, a string too is preceded by the row's prompt
PREFERENCE = ('chosen', 'rejected')


class ChatModel(NamedTuple):
  """The parts of a model that decide how it reads a conversation."""

  name: str
  template: chat.Template | None
  is_classifier: bool = False


@dataclasses.dataclass(frozen=True)
class Reader:
  """Reads the fields of rows as a model does.

  The model's tokenizer is loaded only if there is a conversation to read.
  """

  model: Callable[[], ChatModel]
  strings_too: bool = False  # whether a string is a user's message, to be rendered too

  def text(self, row: Mapping[str, Any], fields: Sequence[str], flag: str = '--field') -> str:
    """Returns the text or the conversation in the first of `fields` that a row has.

    Raises:
      BadRow: the row has none of them, or has something else there.
      InputError: a string must be rendered, and the model has no chat template.
    """
    field = first_field(row, fields, flag)
    value = chat_rows.unnested(row[field])
    if _is_answer(row, field, value):
      return self._after_prompt(row, field, value)
    messages = _conversation(row, field, value)
    if messages is None or (isinstance(value, str) and not self._reads_messages()):
      return self._string(row, field, value)
    return self._whole(messages, field)

  def texts(self, row: Mapping[str, Any], fields: Sequence[str]) -> str | list[str]:
    """Returns what `text` returns, or the texts of a list, such as several completions."""
    field = first_field(row, fields, '--field')
    value = row[field]
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
      return self.text(row, fields)
    return [self._string(row, field, one) for one in value]

  def pair(
    self, row: Mapping[str, Any], fields: Sequence[str], prompt_field: str = ''
  ) -> tuple[str, str]:
    """Returns a prompt and the text that follows it, for log-probs of the text alone.

    Args:
      row: the row.
      fields: the text or conversation is in the first of them that the row has. Without a prompt
        field, the last answer of a conversation follows the rest; a string follows nothing.
      prompt_field: the field of the prompt, a string or a conversation.

    Raises:
      BadRow, InputError: as `text`; or a conversation ends without an answer.
    """
    field = first_field(row, fields, '--field')
    value = chat_rows.unnested(row[field])
    if prompt_field:
      prompt = self.prompt(row, (prompt_field,), '--prompt_field')
      answer = chat_rows.answer_of({**row, field: value}, field)
      return prompt, answer if isinstance(value, str) else chat.unmarked(answer)
    messages = _conversation(row, field, value)
    if messages is None:
      return '', text_of({**row, field: value}, (field,))
    if messages[-1]['role'] != 'assistant':
      raise BadRow(f'field {field!r} ends without an answer')
    if isinstance(value, str) and not self._reads_messages():
      return chat_rows.at_the_answer(value) or ('', value)
    return self._split(messages, field)

  def prompt(self, row: Mapping[str, Any], fields: Sequence[str], flag: str = '--field') -> str:
    """Returns the prompt in the first of `fields` that a row has, without an answer at its end.

    A string is plain text, unless `strings_too` is set.

    Raises:
      BadRow: the row has none of them, or something else there.
      InputError: there is something to render, but the model has no chat template.
    """
    prompt = chat_rows.prompt_of(row, fields, flag)
    if isinstance(prompt, str) and not self.strings_too:
      return prompt
    return chat_rows.rendered(self._template(), prompt)

  def _reads_messages(self) -> bool:
    """Returns False if transcripts stay as they are, because there is no other template."""
    model = self.model()
    return model.is_classifier or model.template is not None

  def _whole(self, messages: list[chat.Message], field: str) -> str:
    """Returns a conversation as the model reads it."""
    if self.model().is_classifier:
      return _contents(messages)
    prompt, answer = self._split(messages, field)
    return prompt + answer

  def _after_prompt(self, row: Mapping[str, Any], field: str, value: str) -> str:
    """Returns an answer after its row's prompt, as the model reads both.

    A prompt that is a string is plain text, unless `strings_too` is set.
    """
    prompt = chat_rows.unnested(row[PROMPT])
    if isinstance(prompt, str):
      if chat.conversation(prompt + value):  # the prompt is a transcript that the answer continues
        return self.text({field: prompt + value}, (field,))
      name, template, is_classifier = self.model()
      if not is_classifier and not self.strings_too:
        if template:
          notices.warn_once(
            f'{name}: has a chat template, but the strings in the field {PROMPT!r} are read as '
            "plain text; if they are a user's messages, use --chat"
          )
        return prompt + value
    answer = chat.Message(role='assistant', content=value)
    return self._whole([*_messages_of_prompt(row, prompt), answer], field)

  def _string(self, row: Mapping[str, Any], field: str, value: Any) -> str:
    text = text_of({**row, field: value}, (field,))
    if not self.strings_too or self.model().is_classifier:
      return text
    return chat_rows.rendered(self._template(), text)

  def _template(self) -> chat.Template:
    name, template, _ = self.model()
    if template is None:
      raise InputError(f'{name}: has no chat template; give plain prompts')
    return template

  def _split(self, messages: list[chat.Message], field: str) -> tuple[str, str]:
    """Returns what precedes the last answer, as the model reads it, and the answer."""
    name, template, _ = self.model()
    try:
      prompt, answer = chat.prompt_and_answer(messages)
    except ValueError as error:
      raise BadRow(f'field {field!r} {error}') from error
    answer = chat.unmarked(answer)
    if template:
      return chat_rows.rendered(template, prompt), answer
    if len(prompt) > 1:
      raise BadRow(
        f'field {field!r} has a conversation of {len(messages)} messages, which needs a model with '
        'a chat template',
        'give texts, or a model that has one in tokenizer_config.json or chat_template.jinja',
      )
    notices.warn_once(
      f'{name}: has no chat template, so the answer of a conversation follows its prompt with '
      'nothing in between'
    )
    return chat.unmarked(prompt[0]['content']), answer


def check(values: Any, name: str) -> list[Any]:
  """Returns strings and lists of messages as a list.

  Raises:
    ConfigError: a single string, a table, or an unordered or non-iterable value.
    InputError: one of the values is neither a string nor a list.
  """
  return [
    value if isinstance(value, list) else check_text(value, f'{name}[{number}]')
    for number, value in enumerate(check_list(values, name))
  ]


def texts_of(values: Any, reader: Reader) -> list[str]:
  """Returns texts and conversations as a model reads them.

  Raises:
    ConfigError, InputError: as `check`; or a list is not a conversation that the model can read.
  """
  read = lambda value: reader.text({PLAIN: value}, (PLAIN,))
  return [
    _read(read, value, 'texts', number) for number, value in enumerate(check(values, 'texts'))
  ]


def pairs_of(texts: Any, prompts: Any, reader: Reader) -> list[tuple[str, str]]:
  """Returns pairs of prompt and text as a language model reads them.

  Args:
    texts: the texts; without prompts, also conversations.
    prompts: a text or a conversation for each; None: there are none.
    reader: of the model.

  Raises:
    ConfigError, InputError: as `texts_of`; or there is another number of prompts.
  """
  if prompts is None:
    read = lambda value: reader.pair({PLAIN: value}, (PLAIN,))
    return [_read(read, one, 'texts', number) for number, one in enumerate(check(texts, 'texts'))]
  texts, prompts = check_texts(texts, 'texts'), check(prompts, 'prompts')
  if len(prompts) != len(texts):
    raise ConfigError(f'prompts: has {len(prompts)} for {len(texts)} texts; must have one for each')
  read_prompt = lambda value: reader.prompt({PROMPT: value}, (PROMPT,))
  rendered = [_read(read_prompt, one, 'prompts', number) for number, one in enumerate(prompts)]
  return list(zip(rendered, texts))


def _read(read: Callable[[Any], Any], value: Any, name: str, number: int) -> Any:
  try:
    return read(value)
  except BadRow as error:
    raise InputError(f'{name}[{number}]: {error}') from error


def _conversation(row: Mapping[str, Any], field: str, value: Any) -> list[chat.Message] | None:
  """Returns the conversation in a field; None if it is none.

  An answer alone continues the row's prompt, as in TRL's explicit prompts.
  """
  if isinstance(value, str) and field == PLAIN:
    return None
  messages = chat_rows.messages_of(value, field)
  alone = messages is not None and all(one['role'] != 'user' for one in messages)
  if messages is None or not alone or PROMPT not in row or field == PROMPT:
    return messages
  return [*_messages_of_prompt(row, chat_rows.unnested(row[PROMPT])), *messages]


def _is_answer(row: Mapping[str, Any], field: str, value: Any) -> bool:
  """Returns True for the answer of a preference that its row's prompt precedes.

  A transcript has its own prompt, and so has a text that begins with the prompt.
  """
  if field not in PREFERENCE or row.get(PROMPT) is None or not isinstance(value, str):
    return False
  prompt = chat_rows.unnested(row[PROMPT])
  begins = isinstance(prompt, str) and bool(prompt) and value.startswith(prompt)
  return not begins and chat.conversation(value) is None


def _messages_of_prompt(row: Mapping[str, Any], prompt: Any) -> list[chat.Message]:
  """Returns the messages of a prompt; a string is the only one."""
  return chat_rows.messages_of(prompt, PROMPT) or [
    chat.Message(role='user', content=text_of({**row, PROMPT: prompt}, (PROMPT,)))
  ]


def _contents(messages: Sequence[chat.Message]) -> str:
  return '\n'.join(chat.unmarked(one['content']) for one in messages if one['content'])
