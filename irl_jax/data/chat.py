"""Conversations as prompts: a chat template's text is marked, so that its special tokens are real.

A rendered prompt is one string, like any other prompt, so that rows, sampling and scoring need not
know about chat. The template's own text is between two marks; the contents of messages, and the
completion, are outside. `text.encode` turns special tokens into their ids only within the marks.

The marks are Unicode noncharacters, which exist for internal use and never occur in files of text.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import Any
from typing import TypedDict

START, END = '\ufdd0', '\ufdd1'  # around the template's text
_PLACEHOLDER = '\ufdd2{}\ufdd3'
_MARKS = re.compile('[\ufdd0-\ufdd3]')
_RUN = re.compile(f'{START}([^{END}]*){END}')


class Message(TypedDict):
  """One turn of a conversation."""

  role: str  # 'system', 'user' or 'assistant'
  content: str


Template = Callable[[Sequence[Message]], str]  # a conversation -> its prompt


class TemplateError(ValueError):
  """The reason why a template does not render a conversation."""


def unmarked(text: str) -> str:
  """Replaces each mark by U+FFFD, so that no outside text can pass for a template's."""
  return _MARKS.sub('\ufffd', text)


def template_of(tokenizer: Any) -> Template | None:
  """Returns a tokenizer's chat template, which ends where the answer begins; None: it has none."""
  if not getattr(tokenizer, 'chat_template', None):
    return None

  def render(messages: Sequence[Message]) -> str:
    try:
      return tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=True
      )
    except Exception as error:  # Jinja's errors, and any that the template's code raises
      reason = (str(error).strip() or type(error).__name__).splitlines()[0]
      raise TemplateError(f'the chat template refuses it: {reason}') from error

  return render


def render(template: Template, messages: Sequence[Message]) -> str:
  """Renders a conversation as a marked prompt.

  Templates may strip white space from contents. To tell the template's text from theirs, the
  conversation is rendered once as it is, and once with placeholders for the contents.

  Args:
    template: from `template_of`.
    messages: the conversation; the model answers its last message.

  Raises:
    TemplateError: the template refuses the conversation, or changes contents other than by
      stripping them.
  """
  messages = [Message(role=one['role'], content=unmarked(one['content'])) for one in messages]
  rendered = template(messages)
  numbered = [
    Message(role=one['role'], content=_PLACEHOLDER.format(number))
    for number, one in enumerate(messages)
  ]
  parts = re.split('\ufdd2(\\d+)\ufdd3', template(numbered))
  marked, rest = _template_text(parts[0]), rendered.removeprefix(parts[0])
  for number, following in zip(parts[1::2], parts[2::2]):
    content = messages[int(number)]['content']
    found = next(
      (one for one in (content, content.strip()) if rest.startswith(one + following)), None
    )
    if found is None:
      raise TemplateError(f'the chat template changes the content of message {int(number) + 1}')
    marked += found + _template_text(following)
    rest = rest[len(found) + len(following) :]
  if rest or shown(marked) != rendered:
    raise TemplateError("the chat template's own text depends on the contents of the messages")
  return marked


def _template_text(text: str) -> str:
  return f'{START}{text}{END}' if text else ''


def is_marked(text: str) -> bool:
  """Returns True if a text contains a template's text."""
  return START in text


def shown(text: str) -> str:
  """Returns a text without its marks, as a reader should see it."""
  return _MARKS.sub('', text)


def plain(text: str) -> str:
  """Returns only the contents and the completion, one below the other, for a classifier."""
  if not is_marked(text):
    return text
  return '\n'.join(part for part in _RUN.split(text)[::2] if part)


def runs(text: str) -> Iterator[tuple[bool, str]]:
  """Yields the non-empty runs of a text: (whether the run is the template's, the run)."""
  for number, run in enumerate(_RUN.split(text)):
    if run:
      yield bool(number % 2), run


def segments(text: str, specials: Collection[str]) -> list[tuple[bool, str]]:
  """Cuts a marked text into special tokens and the texts between them.

  A template's text and the content next to it are one segment, as transformers tokenises them. Only
  the completion starts a new segment, because a model continues from its prompt's tokens.

  Args:
    text: a marked text.
    specials: the special tokens of a tokenizer.

  Returns:
    (whether it is a special token, its text), in order.
  """
  pattern = '|'.join(map(re.escape, sorted(specials, key=len, reverse=True)))
  last = text.rfind(END) + 1
  pieces: list[tuple[bool, str]] = []
  for part in (text[:last], text[last:]):
    waiting = ''
    for of_template, run in runs(part):
      cut = re.split(f'({pattern})', run) if of_template and pattern else [run]
      for number, piece in enumerate(cut):
        if number % 2:
          pieces += [(False, waiting)] * bool(waiting) + [(True, piece)]
          waiting = ''
        else:
          waiting += piece
    pieces += [(False, waiting)] * bool(waiting)
  return pieces


# A conversation in the forms of public data sets.
_TURNS = re.compile(r'\n\n(Human|Assistant):')
_ROLES = {
  'human': 'user',
  'Human': 'user',
  'gpt': 'assistant',
  'Assistant': 'assistant',
  'model': 'assistant',
  'prompter': 'user',
}


def conversation(value: Any) -> list[Message] | None:
  r"""Reads a conversation in one of the common forms.

  - a list of {'role', 'content'} (OpenAI's, TRL's), or of {'from', 'value'} (ShareGPT's)
  - a transcript of '\n\nHuman: …' and '\n\nAssistant: …' (hh-rlhf's)

  Returns:
    Its messages, or None if the value is not a conversation.

  Raises:
    ValueError: a message without a role, or with contents that are not text.
  """
  if isinstance(value, str):
    return _transcript(value)
  if isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
    return [_message(turn, number) for number, turn in enumerate(value, 1)]
  return None


def _message(turn: Mapping[str, Any], number: int) -> Message:
  role = turn.get('role', turn.get('from'))
  content = turn.get('content', turn.get('value'))
  if isinstance(content, list):  # a list of parts; only text parts can be read
    parts = [part.get('text') if isinstance(part, Mapping) else None for part in content]
    content = ''.join(map(str, parts)) if None not in parts else None
  if not isinstance(role, str) or not isinstance(content, str):
    raise ValueError(f'message {number} must have a role and a content that are strings')
  return Message(role=_ROLES.get(role, role), content=content)


def _transcript(text: str) -> list[Message] | None:
  before, *turns = _TURNS.split('\n\n' + text.lstrip('\n'))
  if before.strip() or len(turns) < 4:  # a single 'Human:' occurs in ordinary texts too
    return None
  return [
    Message(role=_ROLES[speaker], content=said.strip())
    for speaker, said in zip(turns[::2], turns[1::2])
  ]


def prompt_and_answer(messages: Sequence[Message]) -> tuple[list[Message], str]:
  """Splits a conversation before its last message, if that is the assistant's.

  Raises:
    ValueError: nothing is left to answer.
  """
  answered = bool(messages) and messages[-1]['role'] == 'assistant'
  prompt = list(messages[:-1] if answered else messages)
  if not prompt or prompt[-1]['role'] == 'assistant':
    raise ValueError('has no user message before the answer')
  return prompt, messages[-1]['content'] if answered else ''
