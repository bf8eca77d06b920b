"""Rows of every format, and all kinds of bad rows, files and paths."""

import bz2
import contextlib
import csv
import functools
import gzip
import json
import lzma
import os
import pathlib
import random
import tempfile

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pyarrow as pa
import pyarrow.parquet
import pytest

from irl_jax.data import rows
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError

TEXTS = [
  'plain',
  ' leading',
  'say "hi", you',
  'two\nlines',
  'a\0b',
  '😀 مرحبا',
  '\u2028 line',
  '<|endoftext|>',
]
ROWS = [{'id': str(index), 'text': value, 'note': 'x'} for index, value in enumerate(TEXTS)]


def write_csv(path, delimiter):
  with open(path, 'w', encoding='utf-8', newline='') as file:
    writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)


WRITERS = {
  'x.jsonl': lambda path: rows.write_jsonl(path, ROWS),
  'x.json': lambda path: path.write_text(json.dumps(ROWS, indent=2)),
  'x.csv': lambda path: write_csv(path, ','),
  'x.tsv': lambda path: write_csv(path, '\t'),
  'x.parquet': lambda path: pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path),
}


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('name', WRITERS)
def test_every_format_keeps_fields_and_order(tmp_path, name, packed):
  path = tmp_path / name
  WRITERS[name](path)
  if packed:
    path = path.with_name(name + '.gz')
    path.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
  read, counts = rows.read_rows(path, fields=('text',))
  assert read == ROWS and [list(row) for row in read] == [list(row) for row in ROWS]
  assert counts == {'rows_read': len(ROWS), 'bad_rows': 0}


def test_a_text_file_has_one_text_per_line(tmp_path):
  path = tmp_path / 'x.txt'
  path.write_bytes('\ufeffone\r\n\n two\u2028 \nthree'.encode())
  assert [row['text'] for row in rows.read_rows(path, fields=('text',))[0]] == [
    'one',
    '',
    ' two\u2028 ',
    'three',
  ]


def test_json_may_be_one_object_or_lines(tmp_path):
  path = tmp_path / 'x.json'
  path.write_text('{\n "text": "a"\n}')
  assert rows.read_rows(path)[0] == [{'text': 'a'}]
  path.write_text('{"text": "a"}\n\n{"text": "b"}\n')
  assert rows.read_rows(path)[0] == [{'text': 'a'}, {'text': 'b'}]


def test_parquet_values_become_what_json_has(tmp_path):
  path = tmp_path / 'x.parquet'
  pyarrow.parquet.write_table(
    pa.table(
      {
        'text': ['a'],
        'nan': [float('nan')],
        'day': pa.array([0], pa.date32()),
        'raw': [b'bytes'],
        'inner': [{'score': float('inf'), 'list': [1]}],
      }
    ),
    path,
  )
  row = {
    'text': 'a',
    'nan': None,
    'day': '1970-01-01',
    'raw': 'bytes',
    'inner': {'score': None, 'list': [1]},
  }
  assert rows.read_rows(path)[0] == [row]


NOT_BY_LINES = {  # content: what the message says
  '{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n': r'spans several lines; .*\(jq -c .\)',
  '{"text": "a\tb"}\n': 'row 1: is not valid JSON: a string contains a line break, tab or other',
}


@pytest.mark.parametrize('content', NOT_BY_LINES)
def test_json_that_is_not_one_object_per_line_is_explained(tmp_path, content):
  path = tmp_path / 'x.jsonl'
  path.write_text(content)
  with pytest.raises(InputError, match=NOT_BY_LINES[content]):
    rows.read_rows(path, fields=('text',))


LIST = '[{"text": "a"}, {"text": "b"}]'
LISTS = ['[\n{"text": "a"},\n{"text": "b"}\n]\n', '[{"text": "a"},\n {"text": "b"}]\n', LIST]


@pytest.mark.parametrize('name', ['x.json', 'x.jsonl'])
@pytest.mark.parametrize('content', LISTS)
def test_a_json_list_is_read_by_either_name(tmp_path, name, content):
  (tmp_path / name).write_text(content)
  assert rows.read_rows(tmp_path / name)[0] == [{'text': 'a'}, {'text': 'b'}]


BY_COLUMNS = 'one object contains all rows, column by column'
NOT_BY_ROWS = {  # content of a .json file: what the message says
  '{"text": {"0": "a", "1": "b"}, "id": {"0": 1, "1": 2}}': BY_COLUMNS,
  '{"text": ["a", "b"], "id": [1, 2]}': BY_COLUMNS,
  '{"columns": ["text"], "index": [0], "data": [["a"]]}': BY_COLUMNS,
  '{"count": 1, "rows": [{"text": "a"}]}': "the rows are those in 'rows', save that list as a file",
  '[{"Text ": "a", "id": "b"}]': "its fields: 'Text ', 'id'; set --field='Text '",
  '[{"text": "a", "text": "b"}]': "row 1: field 'text' occurs twice in its row; remove one of",
  '{"text": "a"},\n{"text": "b"}\n': 'its first value is followed by something else',
  '{"text": "a", "x": ' + '[' * 99999 + '\n{"text": "b"}\n': 'row 1: is nested too deeply',
}


@pytest.mark.parametrize('content', NOT_BY_ROWS)
def test_json_that_is_not_one_object_per_row_is_explained(tmp_path, content):
  path = tmp_path / 'x.json'
  path.write_text(content)
  with pytest.raises(InputError, match=NOT_BY_ROWS[content]):
    rows.read_rows(path, fields=('text',))


def test_an_object_with_lists_may_be_one_row(tmp_path):
  path = tmp_path / 'x.json'
  for row in ({'prompt': [{'role': 'user'}], 'answer': [{'role': 'b'}]}, {'a': [1], 'b': 'c'}, {}):
    path.write_text(json.dumps(row))
    assert rows.read_rows(path)[0] == [row]


@pytest.mark.parametrize('kept', [20, 40])
def test_half_of_a_gzipped_file_is_named(tmp_path, kept):
  path = tmp_path / 'x.jsonl.gz'
  path.write_bytes(gzip.compress(b'{"text": "a and b and c"}\n', mtime=0)[:kept])
  with pytest.raises(InputError, match=r'end-of-stream marker was reached\. Download it again'):
    rows.read_rows(path, bad_rows='skip')


def test_a_folder_is_no_file_of_rows(tmp_path):
  with pytest.raises(ConfigError, match='is a folder; name one file of rows'):
    rows.read_rows(tmp_path)


LATIN = 'caf\xe9'.encode('latin-1')
BAD = {  # name: (what stands in row 2 of a good file, what the message says)
  'not_json.jsonl': (b'{"text": ', 'not valid JSON'),
  'half.jsonl': (b'{"text": "a"', 'not valid JSON'),
  'nan.jsonl': (b'{"text": NaN}', "field 'text' has NaN, which is not a finite number"),
  'huge.jsonl': (b'{"text": [1e999]}', "field 'text' has 1e999, which is not a finite"),
  'deep.jsonl': (b'[' * 100000, 'is nested too deeply'),
  'list.jsonl': (b'["a"]', 'but is a list'),
  'null_row.jsonl': (b'null', 'but is null'),
  'null.jsonl': (b'{"text": null}', "field 'text' must be a string, but is null"),
  'number.jsonl': (b'{"text": 3}', "field 'text' must be a string, but is a number"),
  'missing.jsonl': (b'{"id": 1, "comment": "a"}', "no field 'text'; its fields: 'id', 'comment'"),
  'latin.jsonl': (b'{"text": "' + LATIN + b'"}', 'not UTF-8'),
  'latin.csv': (LATIN + b',1', "field 'text' is not UTF-8"),
  'long.csv': (b'a,1,2', 'line 3 has 3 cells, but the header has 2'),
  'short.tsv': (b'a', 'line 3 has 1 cell, but the header has 2'),
  'quote.csv': (b'"a"b,1', 'line 3 is not quoted correctly'),
  'latin.txt': (LATIN, 'not UTF-8'),
  'latin.tsv': (LATIN + b'\t1', "field 'text' is not UTF-8"),
  'number.json': (b'{"text": 3}', "field 'text' must be a string, but is a number"),
  'null_row.json': (b'null', 'but is null'),
  'latin.json': (b'{"text": "' + LATIN + b'"}', 'not UTF-8'),
}
GOOD = {
  '.jsonl': b'{"text": "good"}',
  '.json': b'{"text": "good"}',
  '.csv': b'good,1',
  '.tsv': b'good\t1',
  '.txt': b'good',
}
HEADER = {'.csv': b'text,id\n', '.tsv': b'text\tid\n'}


@pytest.mark.parametrize('name', BAD)
def test_bad_rows_are_named_or_counted(tmp_path, name, monkeypatch):
  logged = []
  monkeypatch.setattr(rows.logging, 'warning', lambda message, *args: logged.append(message % args))
  path = tmp_path / name
  bad, message = BAD[name]
  good = GOOD[path.suffix]
  path.write_bytes(HEADER.get(path.suffix, b'') + b'\n'.join([good, bad, good, b'']))
  with pytest.raises(InputError) as caught:
    rows.read_rows(path, fields=('text',))
  assert f'{name}, row 2: ' in str(caught.value) and message in str(caught.value)
  assert '\n' not in str(caught.value)
  remedy = '--config.data.encoding=cp1252' if name.startswith('latin') else '--bad_rows=skip'
  assert str(caught.value).endswith(remedy)
  read, counts = rows.read_rows(path, fields=('text',), bad_rows='skip')
  assert [row['text'] for row in read] == ['good'] * 2 and counts == {'rows_read': 3, 'bad_rows': 1}
  assert len(logged) == 1 and f'{name}: skipped 1 of 3 rows (row 2: ' in logged[0]
  path.write_bytes(HEADER.get(path.suffix, b'') + bad)
  with pytest.raises(InputError, match='its only row cannot be used'):
    rows.read_rows(path, fields=('text',), bad_rows='skip')


def test_bad_rows_in_parquet_are_named_or_skipped(tmp_path):
  path = tmp_path / 'x.parquet'
  latin = pa.Array.from_buffers(pa.string(), 3, pa.array([b'good', LATIN, b'good']).buffers())
  pyarrow.parquet.write_table(pa.table({'text': latin}), path)
  with pytest.raises(InputError, match="row 2: field 'text' is not UTF-8"):
    rows.read_rows(path)
  assert rows.read_rows(path, bad_rows='skip')[1] == {'rows_read': 3, 'bad_rows': 1}
  columns = [pa.array(['a']), pa.array(['b'])]
  pyarrow.parquet.write_table(pa.Table.from_arrays(columns, names=['text', 'text']), path)
  with pytest.raises(InputError, match="row 1: field 'text' occurs twice in its row"):
    rows.read_rows(path)


@pytest.mark.parametrize(
  'column, message',
  [
    (pa.array(['good', None]), "row 2: field 'text' must be a string, but is null"),
    (pa.array([1, 2]), "row 1: field 'text' must be a string, but is a number"),
    (pa.array([['a'], []]), "row 1: field 'text' must be a string, but is a list"),
    (None, "row 1: has no field 'text'; its fields: 'id'"),
  ],
)
def test_bad_values_in_parquet_are_named(tmp_path, column, message):
  columns = {'id': pa.array([0, 1])} | ({} if column is None else {'text': column})
  pyarrow.parquet.write_table(pa.table(columns), tmp_path / 'x.parquet')
  with pytest.raises(InputError, match=message):
    rows.read_rows(tmp_path / 'x.parquet', fields=('text',))


@pytest.mark.parametrize(
  'bad, message',
  [
    ('null', 'but is null'),
    ('3', 'but is a number'),
    ('["a"]', 'but is a list'),
    ('{"text": null}', "'text' must be a string, but is null"),
    ('{"text": {}}', "'text' must be a string, but is an object"),
    ('{"id": 1}', "has no field 'text'; its fields: 'id'"),
  ],
)
def test_bad_rows_in_a_json_list_are_named_or_skipped(tmp_path, bad, message):
  (tmp_path / 'x.json').write_text(f'[{{"text": "good"}},\n{bad},\n{{"text": "good"}}]')
  with pytest.raises(InputError, match=f'x.json, row 2: .*{message}'):
    rows.read_rows(tmp_path / 'x.json', fields=('text',))
  assert rows.read_rows(tmp_path / 'x.json', fields=('text',), bad_rows='skip')[1] == {
    'rows_read': 3,
    'bad_rows': 1,
  }


def test_a_quote_that_swallows_rows_is_refused(tmp_path):
  path = tmp_path / 'x.csv'
  path.write_bytes(b'text,id\na,1\n"b,2\nc,3\n')
  for bad_rows in ('error', 'skip'):
    with pytest.raises(InputError, match=r'lines 3 to 4 are not quoted correctly'):
      rows.read_rows(path, bad_rows=bad_rows)


@pytest.mark.parametrize(
  'name, content',
  [
    ('x.parquet', b'no parquet'),
    ('x.parquet', b''),
    ('x.jsonl.gz', b'{"text": "a"}'),
    ('x.json', b'[{"text": "a"},'),
    ('x.jsonl.gz', gzip.compress(random.Random(0).randbytes(4000), mtime=0)[:900]),
    ('x.csv', b'text,text\na,b\n'),
    ('x.csv', LATIN + b'\na\n'),
    ('x.jsonl', b''),
    ('x.jsonl', b'\n\n'),
    ('x.json', b'[]'),
    ('x.json', b''),
    ('x.csv', b''),
    ('x.csv', b'text\n'),
    ('x.txt', b''),
    ('x.txt.gz', gzip.compress(b'', mtime=0)),
  ],
)
def test_broken_and_empty_files_are_refused(tmp_path, name, content):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(InputError, match=name) as caught:
    rows.read_rows(tmp_path / name, bad_rows='skip')
  assert '\n' not in str(caught.value)


POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 123\n'
ENDINGS = ['jsonl', 'json', 'csv', 'tsv', 'txt', 'parquet', 'jsonl.gz', 'csv.gz']


@pytest.mark.parametrize('ending', ENDINGS)
@pytest.mark.parametrize(
  'content, message',
  [
    (POINTER, 'is a Git LFS pointer, not the file itself. Run `git lfs pull`'),
    (b'\n<!DOCTYPE html>\n<html>', 'is an HTML page, not the file itself: a failed download'),
    (b'PK\x03\x04\x14\0', 'is a zip archive, such as an Excel workbook'),
    (b'BZh91AY&SY', 'is packed with bzip2, which is not supported. Unpack it'),
    (b'%PDF-1.7\n%\xe2\xe3', 'is a PDF document, not rows of text'),
    (b'SQLite format 3\0' + bytes(90), 'is an SQLite database, not rows of text'),
    (
      b'Entry not found',
      r"is the error response of a server \('Entry not found'\), not the file itself",
    ),
    (b'{"error":"Repository not found"}\n', r"is the error response .* \('Repository not found'\)"),
    (b'<Error><Code>NoSuchKey</Code></Error>', 'is an HTML page, not the file itself'),
    (b'../.git/annex/objects/a/b/SHA256-c.csv', 'is a git-annex pointer'),
  ],
)
def test_a_file_of_another_kind_is_named(tmp_path, ending, content, message):
  (tmp_path / f'x.{ending}').write_bytes(content)
  with pytest.raises(InputError, match=f'x.{ending}: {message}'):
    rows.read_rows(tmp_path / f'x.{ending}', bad_rows='skip')


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('x.txt', b'%PDF-1.4\n', 'is a PDF document'),
    ('x.txt', b'\x89PNG\r\n\x1a\n', 'is an image'),
    ('x.csv', b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1', 'is an old Microsoft Office document'),
    ('x.csv', b'SQLite format 3\0', 'is an SQLite database'),
    ('x.jsonl', b'\x80\x04\x95\x0b\0', 'is a pickle'),
    ('x.jsonl', b'\x28\xb5\x2f\xfd', 'is packed with zstd'),
    ('x.jsonl', bz2.compress(b'{"text": "a"}'), 'is packed with bzip2'),
    ('x.jsonl', lzma.compress(b'{"text": "a"}'), 'is packed with xz'),
    ('x.jsonl.gz', gzip.compress(gzip.compress(b'{}', mtime=0), mtime=0), 'its content is gzipped'),
    ('x.jsonl.gz', gzip.compress(POINTER, mtime=0), 'its content is a Git LFS pointer'),
    ('x.txt', b'a\rb\rc\r', r"end with carriage returns only, .*\(tr '\\r' '\\n'\)"),
    ('x.jsonl', b'{"text": "a"}\r{"text": "b"}\r', 'end with carriage returns only'),
    ('x.csv', 'text\nä\n'.encode('utf-32-le'), 'looks like UTF-32 without a byte order mark'),
  ],
)
def test_what_is_no_text_is_named(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  for bad_rows in ('error', 'skip'):
    with pytest.raises(InputError, match=message):
      rows.read_rows(tmp_path / name, fields=('text',), bad_rows=bad_rows)


@pytest.mark.parametrize(
  'name, good',
  [
    ('x.txt', b'a\n'),
    ('x.jsonl', b'{"text": "a"}\n'),
    ('x.csv', b'text,id\na,1\n'),
    ('x.csv', b'text\na\n'),
    ('x.tsv', b'text\tid\na\t1\n'),
  ],
)
def test_the_zeros_of_a_file_that_was_not_written_whole_are_no_row(tmp_path, name, good):
  (tmp_path / name).write_bytes(good + bytes(5000))
  with pytest.raises(InputError, match='row 2: contains only control characters'):
    rows.read_rows(tmp_path / name, fields=('text',))
  assert len(rows.read_rows(tmp_path / name, fields=('text',), bad_rows='skip')[0]) == 1


def test_joined_tables_repeat_their_header_and_byte_order_mark(tmp_path):
  (tmp_path / 'x.csv').write_bytes('\ufefftext,id\na,1\n\ufeff"b, c",2\ntext,id\n'.encode())
  with pytest.raises(InputError, match='row 3: line 4 repeats the header'):
    rows.read_rows(tmp_path / 'x.csv')
  assert [row['text'] for row in rows.read_rows(tmp_path / 'x.csv', bad_rows='skip')[0]] == [
    'a',
    'b, c',
  ]


@pytest.mark.parametrize('text', ['привет', '日本語の文章', '\xff'])
def test_windows_1252_is_not_advised_for_other_scripts(tmp_path, text):
  encoding = {'п': 'cp1251', '日': 'shift_jis'}.get(text[0], 'latin-1')
  (tmp_path / 'x.txt').write_bytes(text.encode(encoding))
  with pytest.raises(InputError) as caught:
    rows.read_rows(tmp_path / 'x.txt')
  assert 'NAME (such as cp1251, gb18030' in str(caught.value) and 'cp1252' not in str(caught.value)


def test_a_fifo_a_dangling_link_and_stdin_are_no_files(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  os.mkfifo('pipe.jsonl')
  os.symlink('loop.jsonl', 'loop.jsonl')
  for name, message in (
    ('pipe.jsonl', 'is a pipe or device, not a file; write its rows to a file'),
    ('loop.jsonl', 'is a broken link'),
    ('-', 'no such file .standard input is not supported; write it to a file'),
    ('x' * 300 + '.jsonl', 'no such file'),
    ('x.jsonl.zst', r'no such file'),
  ):
    with pytest.raises(ConfigError, match=message):
      rows.read_rows(name)
  pathlib.Path('x.jsonl.zst').write_bytes(b'')
  with pytest.raises(
    ConfigError, match=r'x.jsonl.zst: .zst is not supported; unpack it \(zstd -d\)'
  ):
    rows.read_rows('x.jsonl.zst')


def test_values_of_parquet_that_python_cannot_hold(tmp_path):
  path = tmp_path / 'x.parquet'
  late = pa.array([2**62, 0], pa.timestamp('us'))
  lists = pa.array([['a'], [LATIN]], pa.list_(pa.binary()))
  pyarrow.parquet.write_table(pa.table({'text': ['a', 'b'], 'late': late, 'lists': lists}), path)
  assert rows.read_rows(path, fields=('text',))[0] == [
    {'text': 'a', 'late': None, 'lists': ['a']},
    {'text': 'b', 'late': '1970-01-01 00:00:00', 'lists': None},
  ]
  twice = pa.table([pa.array(['a']), pa.array(['b'])], names=['text', 'text'])
  pyarrow.parquet.write_table(twice, path)
  with pytest.raises(InputError, match="field 'text' occurs twice in its row"):
    rows.read_rows(path, fields=('text',))


def test_a_wrong_name_is_named(tmp_path):
  (tmp_path / 'x.csv').write_bytes(gzip.compress(b'text\na\n', mtime=0))
  with pytest.raises(InputError, match=r'x.csv: is gzipped, .* Add .gz to its name'):
    rows.read_rows(tmp_path / 'x.csv')
  (tmp_path / 'x.csv.gz').write_bytes(b'text\na\n')
  with pytest.raises(InputError, match=r'x.csv.gz: is not gzipped, .* Remove .gz from its name'):
    rows.read_rows(tmp_path / 'x.csv.gz')
  WRITERS['x.parquet'](tmp_path / 'x.parquet')
  (tmp_path / 'x.parquet').rename(tmp_path / 'x.txt')
  with pytest.raises(InputError, match=r'x.txt: is a parquet file'):
    rows.read_rows(tmp_path / 'x.txt')


@pytest.mark.parametrize(
  'name, content, value',
  [
    ('x.jsonl', b'{"text": "a", "note": NaN}', 'has NaN, which is not a finite number'),
    ('x.jsonl', b'{"text": "a", "note": {"x": [1, -Infinity]}}', 'has -Infinity, which is not'),
    ('x.jsonl', b'{"text": "a", "note": ["' + LATIN + b'"]}', 'is not UTF-8'),
    ('x.json', b'[{"text": "a", "note": NaN}]', 'has NaN, which is not a finite number'),
    ('x.jsonl', b'{"text": "a", "note": %b}' % (b'9' * 5000), 'has a number of 5000 digits'),
    ('x.json', b'[{"text": "a", "note": -%b}]' % (b'9' * 5000), 'has a number of 5001 digits'),
    ('x.json', b'[{"text": "a", "note": "' + LATIN + b'"}]', 'is not UTF-8'),
    ('x.csv', b'text,note\na,' + LATIN, 'is not UTF-8'),
  ],
)
def test_a_field_that_is_not_needed_cannot_spoil_a_row(tmp_path, monkeypatch, name, content, value):
  logged = []
  monkeypatch.setattr(rows.logging, 'warning', lambda message, *args: logged.append(message % args))
  (tmp_path / name).write_bytes(content)
  assert rows.read_rows(tmp_path / name, fields=('text',)) == (
    [{'text': 'a', 'note': None}],
    {'rows_read': 1, 'bad_rows': 0},
  )
  assert len(logged) == 1 and f"{name}: in 1 row, field 'note' {value}" in logged[0]
  with pytest.raises(InputError, match=f"row 1: field 'note' {value}"):
    rows.read_rows(tmp_path / name, fields=('note',))


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-32', 'utf-8-sig'])
@pytest.mark.parametrize('name', ['x.jsonl', 'x.json', 'x.csv', 'x.txt'])
def test_a_byte_order_mark_names_the_encoding(tmp_path, name, encoding):
  contents = {'x.csv': 'text\nä\u2028b\n', 'x.txt': 'ä\u2028b\n'}
  content = contents.get(name, '{"text": "ä\u2028b"}\n')
  (tmp_path / name).write_bytes(content.encode(encoding))
  assert rows.read_rows(tmp_path / name)[0] == [{'text': 'ä\u2028b'}]
  (tmp_path / name).write_bytes(content.encode(encoding)[:-1])
  with pytest.raises(InputError) if encoding != 'utf-8-sig' else contextlib.nullcontext():
    rows.read_rows(tmp_path / name)


@pytest.mark.parametrize(
  'row, remedy',
  [
    ({'chosen': 'a', 'id': 1}, 'set --field=chosen'),
    ({'chosen': 'a', 'rejected': 'b'}, 'set --field=NAME'),
    ({'chosen': 'a', 'Text ': 'b'}, "set --field='Text '"),
    ({'chosen': 'a', 'data': [{'text': 'b'}]}, 'set --field=NAME, or if the rows are those in .*'),
  ],
)
def test_the_advice_for_a_missing_field_is_its_flag(tmp_path, row, remedy):
  path = tmp_path / 'x.jsonl'
  rows.write_jsonl(path, [row])
  for bad_rows in ('error', 'skip'):
    with pytest.raises(InputError, match=f"has no field 'text'; its fields: 'chosen'.*; {remedy}$"):
      rows.read_rows(path, fields=('text',), bad_rows=bad_rows)
  rows.write_jsonl(path, [{'text': 'a'}, row])
  with pytest.raises(InputError, match='row 2: has no field .*--bad_rows=skip'):
    rows.read_rows(path, fields=('text',))


@pytest.mark.parametrize('name', ['absent.jsonl', 'folder.jsonl', 'x.xlsx', 'x.gz', 'x'])
def test_bad_paths_are_refused(tmp_path, name):
  (tmp_path / 'folder.jsonl').mkdir()
  if name in ('x.xlsx', 'x.gz', 'x'):
    (tmp_path / name).write_text('text')
  with pytest.raises(ConfigError, match=name):
    rows.read_rows(tmp_path / name)


def test_fields_are_alternatives(tmp_path):
  path = tmp_path / 'x.jsonl'
  rows.write_jsonl(path, [{'prompt': 'p', 'text': 't'}, {'text': 't'}])
  read, _ = rows.read_rows(path, fields=('prompt', 'text'))
  assert [rows.text_of(row, ('prompt', 'text')) for row in read] == ['p', 't']


def test_writing_is_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'new' / 'x.jsonl'
  rows.write_jsonl(path, [{'text': 'old'}])

  def failing():
    yield {'text': 'new'}
    raise RuntimeError('half way')

  with pytest.raises(RuntimeError):
    rows.write_jsonl(path, failing())
  with pytest.raises(ValueError):
    rows.write_jsonl(path, [{'score': float('nan')}])
  assert os.listdir(path.parent) == ['x.jsonl'] and rows.read_jsonl(path) == [{'text': 'old'}]
  rows.write_jsonl(path, [])
  assert rows.read_jsonl(path) == []
  with pytest.raises(ConfigError, match='cannot be written'):
    rows.write_jsonl(path / 'below_a_file.jsonl', [])


def test_our_own_files_are_read_strictly(tmp_path):
  (tmp_path / 'x.jsonl').write_text('{"a": 1}\n{"a"')
  with pytest.raises(InputError, match='row 2'):
    rows.read_jsonl(tmp_path / 'x.jsonl')


def test_lone_surrogates_survive_as_escapes(tmp_path):
  rows.write_jsonl(tmp_path / 'x.jsonl', [{'text': 'a\ud800é'}])
  assert (tmp_path / 'x.jsonl').read_bytes() == b'{"text": "a\\ud800\xc3\xa9"}\n'
  assert rows.read_rows(tmp_path / 'x.jsonl', fields=('text',))[0] == [{'text': 'a\ud800é'}]


JSON = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.floats(allow_nan=False, allow_infinity=False)
  | st.text(),
  lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
  max_leaves=4,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=4))
def test_what_is_written_is_read(tmp_path_factory, written):
  path = tmp_path_factory.mktemp('rows') / 'x.jsonl'
  rows.write_jsonl(path, written)
  assert rows.read_jsonl(path) == written


@settings(max_examples=50, deadline=None)
@given(
  st.binary(max_size=200),
  st.sampled_from(['x.jsonl', 'x.json', 'x.csv', 'x.tsv', 'x.txt', 'x.parquet', 'x.csv.gz']),
)
def test_no_bytes_end_in_another_error(tmp_path_factory, content, name):
  path = tmp_path_factory.mktemp('rows') / name
  path.write_bytes(content)
  for bad_rows in ('error', 'skip'):
    try:
      rows.read_rows(path, fields=('text',), bad_rows=bad_rows)
    except InputError as error:
      assert name in str(error) and len(str(error).splitlines()) == 1


@functools.cache
def whole_file(name: str) -> bytes:
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / name.removesuffix('.gz')
    WRITERS[path.name](path)
    return gzip.compress(path.read_bytes(), mtime=0) if name.endswith('.gz') else path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*WRITERS, 'x.jsonl.gz', 'x.parquet.gz']), st.data())
def test_no_damaged_file_ends_in_another_error(tmp_path_factory, name, data):
  content = bytearray(whole_file(name))
  for _ in range(data.draw(st.integers(1, 3))):
    at = data.draw(st.integers(0, len(content)))
    content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
  path = tmp_path_factory.getbasetemp() / name
  path.write_bytes(content)
  try:
    read, _ = rows.read_rows(path, fields=('text',), bad_rows='skip')
  except InputError as error:
    assert name in str(error) and '\n' not in str(error)
  else:
    json.dumps(read, allow_nan=False)
    assert all(isinstance(row['text'], str) for row in read)


def test_real_data_is_read_whole(shared):
  read, counts = rows.read_rows(shared / 'data' / 'paradetox_dev.jsonl.gz', fields=('toxic',))
  assert counts == {'rows_read': 1169, 'bad_rows': 0} and list(read[0]) == ['toxic', 'neutral']
