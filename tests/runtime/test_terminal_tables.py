"""Tables of samples are shown at any encoding, and their text cannot act on the terminal."""

import io
import re

import pytest
from rich.console import Console

from irl_jax.runtime.terminal_tables import sample_table
from irl_jax.runtime.terminal_tables import show


def render(renderable, width=120):
  console = Console(file=io.StringIO(), width=width)
  console.print(renderable)
  return console.file.getvalue()


HOSTILE = [
  '\x1b[31mred\x1b[0m',
  '\x1b]0;title\x07',
  '\x1b[2J',
  '\x9b31m',
  '\x07\x00\x7f\r',
  'a\nb\tc',
  '\u202eright',
  '[/x]',
  '[bold]x',
  '[link=http://x]y',
  '\ud800',
  '<script>',
  '👩‍👩‍👧',
  '\x1b]8;;http://x\x1b\\link',
]


@pytest.mark.parametrize('text', HOSTILE)
@pytest.mark.parametrize('encoding', ['utf-8', 'ascii', 'cp1252'])
def test_generated_text_cannot_act_on_the_terminal(text, encoding):
  raw = io.BytesIO()
  file = io.TextIOWrapper(raw, encoding=encoding, newline='\n')
  show(sample_table([(text, text, -1.234)], title=text), file)
  shown = raw.getvalue().decode(encoding)
  assert '-1.23' in shown
  assert not re.search('[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]', shown)


def test_markup_in_a_sample_is_shown_as_it_is():
  assert '[/x] [bold] <b> ünï' in render(sample_table([('p', '[/x] [bold] <b> ünï', 0.0)]))


def test_long_samples_are_cut_and_marked():
  text = render(sample_table([('p', 'x' * 500, 0.5)], characters=50), 200)
  assert 'x' * 50 + '…' in text and 'x' * 51 not in text
