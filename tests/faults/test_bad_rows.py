"""Bad rows, and texts that are awkward or too long."""

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
  'columns separated by semicolons, in UTF-16, with two empty columns': (
    'text;id;;\na;1;;\n'.encode('utf-16'),
    'rows.csv',
    (),
  ),
  'a lone quote in an unquoted TSV': ('text\tid\n"a\t1\nb\t2\n', 'rows.tsv', ()),
  'a lone quote in a CSV, --bad_rows=skip': ('text,id\n"a,1\nb,2\n', 'rows.csv', SKIP),
  'quotes after a backslash that do not add up': (
    'text,id\na,1\n"b \\\\"c\\\\"",2\n',
    'rows.csv',
    (),
  ),
  'Windows-1252 in place of UTF-8': (b'text,id\na caf\xe9,1\n', 'rows.csv', ()),
  'UTF-16 without a byte order mark': (GOOD.encode('utf-16-le'), 'rows.jsonl', ()),
  'Cyrillic in place of UTF-8': ('привет'.encode('cp1251'), 'rows.txt', ()),
  'lines that end in carriage returns alone': (b'a\rb\r', 'rows.txt', ()),
  'NULs at the end, as after a crash': (GOOD.encode() + bytes(99), 'rows.jsonl', ()),
  'two tables in one file': ('text,id\na,1\n' * 2, 'rows.csv', ()),
  'a key that a row has twice': ('{"text": "a", "text": "b"}\n', 'rows.jsonl', ()),
  'a JSON list that ends early': ('[{"text": "a"},', 'rows.json', ()),
  'rows: a PDF document': (b'%PDF-1.4\n', 'rows.txt', ()),
  'rows: Zstandard': (b'\x28\xb5\x2f\xfd', 'rows.jsonl.zst', ()),
  '--encoding=latin9000': (GOOD, 'rows.jsonl', ('--encoding=latin9000',)),
  '--delimiter=ab': ('text,id\na,1\n', 'rows.csv', ('--delimiter=ab',)),
  'a field named otherwise': ('{"chosen": "a", "id": 3}\n', 'rows.jsonl', ()),
  'NaN in a field that is not needed': ('{"text": "a", "note": NaN}\n', 'rows.jsonl', ()),
  'rows: a Git LFS pointer': ('version https://git-lfs.github.com/spec/v1\n', 'rows.jsonl.gz', ()),
  'rows: HTML': ('<!DOCTYPE html>\n', 'rows.txt', ()),
  'rows: an Excel workbook': (b'PK\x03\x04\x14\0', 'rows.csv', ()),
  'rows: packed with bzip2': (b'BZh91AY&SY', 'rows.jsonl', ()),
  'rows: the answer of a server': ('Entry not found', 'rows.txt', ()),
  'rows: one object that contains a list of them': ('{"data": [{"text": "a"}]}', 'rows.json', ()),
  'rows: one object that contains columns': ('{"text": {"0": "a", "1": "b"}}', 'rows.json', ()),
  'no rows at all': ('', 'rows.jsonl', ()),
  'one bad row, --bad_rows=skip': (GOOD + '{"text": 3}\n', 'rows.jsonl', SKIP),
  'no usable row, --bad_rows=skip': ('{"text": 3}\n', 'rows.jsonl', SKIP),
  'a file that is not what its name says': ('no parquet', 'rows.parquet', ()),
  'JSON lines in a file named .txt': (GOOD * 2, 'rows.txt', ()),
  'a JSON list in a file named .csv': ('[{"text": "a"}, {"text": "b"}]', 'rows.csv', ()),
  'a table in a file named .jsonl': ('text,id\na,1\n', 'rows.jsonl', ()),
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
  'fault, prompt',
  [
    ('an empty prompt', ''),
    pytest.param('a prompt longer than there is room for', LONG, marks=pytest.mark.slow),
  ],
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


WORDS = [{'text': f'{letter}{n} b c d', 'label': n % 2} for n in range(40) for letter in 'xyz']
LABELLED: dict[str, tuple[list[dict], tuple[str, ...]]] = {  # rows, flags
  'labels of another scale': ([{'text': 'a', 'label': 1}, {'text': 'b', 'label': 5}], ()),
  'labels in words, --bad_rows=skip': (
    [{'text': 'a', 'label': 'OFF'}, {'text': 'b', 'label': 'NOT'}],
    SKIP,
  ),
  'labels of -1': ([{'text': 'a', 'label': n} for n in (-1, 0, 1)], ()),
  'a label that no row has': (WORDS, ('--config.data.positive=OFF',)),
  'a label field that is true of harmless texts': (WORDS, ('--config.data.label_field=is_safe',)),
  'a label field that no row has': (WORDS, ('--config.data.label_field=toxic',)),
  'rows that all begin alike': ([{'text': f'The row {n}', 'label': n % 2} for n in range(40)], ()),
}


@pytest.mark.parametrize('fault', LABELLED)
def test_what_cannot_be_known_of_rows_is_refused(fault, folder, ends_as_documented):
  rows, flags = LABELLED[fault]
  source = folder / 'rows.jsonl'
  source.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  arguments = commands.train(
    folder, f'--config.data.source={source}', '--config.data.label_field=label', *flags
  )
  ends_as_documented(fault, 'train', arguments)


def test_what_is_guessed_of_rows_is_told(folder, ends_as_documented):
  source = folder / 'rows.jsonl'
  source.write_text(
    ''.join(json.dumps({'prompt': f'{n}? {n % 9}', 'text': f'Yes {n}'}) + '\n' for n in range(300))
  )
  arguments = commands.train(
    folder, '--stages=data', f'--config.data.source={source}', '--config.data.prompt_field=prompt'
  )
  ends_as_documented('prompts and texts that nothing separates', 'train', arguments)


@pytest.mark.parametrize(
  'rows, advised',
  [
    ('{"chosen": "a b c"}\n' * 2, '--config.data.text_field=chosen'),
    ('{"text": "a b c"}\n{"text": null}\n', '--bad_rows=skip'),
  ],
)
def test_what_an_error_advises_is_not_refused_in_the_same_folder(rows, advised, folder, run):
  source = folder / 'rows.jsonl'
  source.write_text(
    rows + ''.join(rows.splitlines(True)[0].replace('a', f'{n}') for n in range(99))
  )
  arguments = commands.train(folder, '--stages=data', f'--config.data.source={source}')
  first = run('train', *arguments)
  assert first.code == 3 and advised in first.message
  assert run('train', *arguments, advised).code == 0
  assert (folder / 'run' / 'data' / 'counts.json').exists()
  bound = run('train', *arguments)
  assert bound.code == 2 and 'contains a run with another config' in bound.message
