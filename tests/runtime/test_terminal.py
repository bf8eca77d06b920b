"""Printed text never controls the terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies
import pytest

from irl_jax.runtime import terminal


@pytest.mark.parametrize(
  'text, shown',
  [
    ('plain é 你好 🙂 [/x] <b>', 'plain é 你好 🙂 [/x] <b>'),
    ('\x1b[31mred\x1b[0m', 'red'),
    ('\x1b]8;;http://x\x1b\\link\x1b]8;;\x07', 'link'),
    ('a\r\nb\tc', 'a  b c'),
    ('nul\x00, bell\x07, delete\x7f, \x9b2J', 'nul, bell, delete, '),
    ('\u202eabc\u2066', 'abc'),
    ('half \ud83d', 'half \ufffd'),
  ],
)
def test_printable_text_has_no_control_characters_and_one_line(text, shown):
  assert terminal.printable(text) == shown


@pytest.mark.parametrize(
  'number, shown', [(0, '0 rows are'), (1, '1 row is'), (2, '2 rows are'), (1000, '1000 rows are')]
)
def test_words_go_with_their_number(number, shown):
  assert f'{terminal.count(number, "row")} {terminal.plural(number, "is", "are")}' == shown


@given(strategies.text(strategies.characters(), max_size=40))
def test_printable_leaves_no_control_characters(text):
  assert not [
    char for char in terminal.printable(text) if unicodedata.category(char) in ('Cc', 'Cs')
  ]


def test_bar_passes_the_items_on_and_is_silent_for_short_work(capsys):
  assert list(terminal.bar(range(3), 'label')) == [0, 1, 2]
  assert capsys.readouterr().err == ''
