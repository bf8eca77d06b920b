"""Rows that are not what they should be, and texts that are awkward or too long."""

import json

import commands
import pytest

GOOD = '{"text": "a"}\n'
AWKWARD = ''.join(
  json.dumps({'text': text}) + '\n'
  for text in ('<|endoftext|>', 'a\0b', '🙂 👩‍👩‍👧', 'مرحبا', '\ud800', '')
)
LONG = 'word ' * 90
SKIP = ('--bad_rows=skip',)
FILES: dict[str, tuple[str | bytes, str, tuple[str, ...]]] = {  # content, name, flags
  'bad JSON': (GOOD + '{"text": \n', 'rows.jsonl', ()),
  'null': (GOOD + '{"text": null}\n', 'rows.jsonl', ()),
  'a wrong type': (GOOD + '{"text": 3}\n', 'rows.jsonl', ()),
  'a missing column': ('comment,id\na,1\n', 'rows.csv', ()),
  'a cell too many': ('text,id\na,1\nb,2,3\n', 'rows.csv', ()),
  'invalid UTF-8': (b'good\ncaf\xe9\n', 'rows.txt', ()),
  'no rows at all': ('', 'rows.jsonl', ()),
  'one bad row, --bad_rows=skip': (GOOD + '{"text": 3}\n', 'rows.jsonl', SKIP),
  'no usable row, --bad_rows=skip': ('{"text": 3}\n', 'rows.jsonl', SKIP),
  'a file that is not what its name says': ('no parquet', 'rows.parquet', ()),
  '<|endoftext|> typed in a text, NUL, emoji, right-to-left, a lone surrogate, an empty text': (
    AWKWARD,
    'rows.jsonl',
    (),
  ),
}


@pytest.mark.parametrize('fault', FILES)
def test_bad_rows_are_named_or_counted(fault, folder, ends_as_documented):
  content, name, flags = FILES[fault]
  ends_as_documented(fault, 'score', commands.score(folder, content, name, flags=flags))


@pytest.mark.parametrize(
  'fault, prompt', [('an empty prompt', ''), ('a prompt longer than there is room for', LONG)]
)
def test_every_prompt_is_completed(fault, prompt, folder, ends_as_documented):
  rows = json.dumps({'text': prompt})
  arguments = commands.score(folder, rows, flags=['--max_new_tokens=4'])
  ends_as_documented(fault, 'generate', arguments)


def test_a_classifier_reads_the_end_of_a_long_text(folder, ends_as_documented):
  arguments = commands.score(folder, json.dumps({'text': LONG}), model=folder / 'classifier')
  ends_as_documented("a text longer than the classifier's positions", 'score', arguments)


def test_a_data_set_holds_its_own_files(folder, ends_as_documented):
  (folder / 'secret.jsonl').write_text('{"text": "secret"}\n')
  (folder / 'set').mkdir()
  (folder / 'set' / 'README.md').write_text(
    '---\nconfigs:\n- config_name: default\n  data_files: "../secret.jsonl"\n---\n'
  )
  arguments = commands.train(folder, f'--config.data.source={folder / "set"}')
  ends_as_documented('a data set whose README names a file outside its folder', 'train', arguments)
