"""Dialects of .csv and .tsv files: read correctly if they are unambiguous, else refused."""

import csv
import io
import re

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from irl_jax.data import row_files
from irl_jax.data import rows
from irl_jax.data.row_values import Layout
from irl_jax.errors import InputError

TEXTS = ['plain', 'say "hi", you', 'a; b | c', 'café “quoted”', ' two\nlines ']


def read(path, content, used=None, **how):
  path.write_bytes(content)
  return [row for _, row in row_files.read_numbered(path, used, Layout(**how))]


def table(delimiter, encoding='utf-8', header=('text', 'toxic'), end='\r\n'):
  file = io.StringIO(newline='')
  writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
  writer.writerow(header)
  writer.writerows((text, '1', *header[2:]) for text in TEXTS)
  return file.getvalue().encode(encoding)


EXPECTED = [{'text': text, 'toxic': '1'} for text in TEXTS]


@pytest.mark.parametrize('name', ['x.csv', 'x.tsv'])
@pytest.mark.parametrize('delimiter', list(',;\t|'))
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
def test_the_header_shows_the_delimiter_and_a_mark_the_encoding(
  tmp_path, name, delimiter, encoding
):
  assert read(tmp_path / name, table(delimiter, encoding)) == EXPECTED
  assert read(tmp_path / name, table(delimiter, encoding), delimiter=delimiter) == EXPECTED


def test_a_line_of_excel_names_the_delimiter(tmp_path):
  assert read(tmp_path / 'x.csv', b'sep=;\r\n' + table(';')) == EXPECTED
  content = b'sep=|\r\na,text|b\r\n1,x|2\r\n3\r\n'
  assert [str(row) for row in read(tmp_path / 'x.csv', content)] == [
    "{'a,text': '1,x', 'b': '2'}",
    'line 4 has 1 cell, but the header has 2',
  ]


def test_what_was_read_off_is_logged(tmp_path, monkeypatch):
  logged = []
  monkeypatch.setattr(rows.logging, 'info', lambda message, *args: logged.append(message % args))
  read(tmp_path / 'x.csv', table(','))
  assert not logged
  read(tmp_path / 'x.csv', table(';'))
  read(tmp_path / 'x.tsv', b'text\ttoxic\n"a\t1\n')
  assert [line.partition('x.')[2] for line in logged] == [
    'csv: its columns are separated by semicolons',
    'tsv: its quotes are part of the texts',
  ]


def test_a_header_of_one_column_stays_one(tmp_path):
  assert read(tmp_path / 'x.csv', b'text\na; b\n"c, d"\n') == [{'text': 'a; b'}, {'text': 'c, d'}]
  assert read(tmp_path / 'x.csv', b'text; raw\na\nb\n') == [{'text; raw': 'a'}, {'text; raw': 'b'}]


@pytest.mark.parametrize('encoding', ['cp1252', 'utf-16-le', 'utf-16-be'])
def test_another_encoding_is_refused_by_name_and_can_be_set(tmp_path, encoding):
  path = tmp_path / 'x.csv'
  path.write_bytes(table(',', encoding))
  with pytest.raises(InputError, match=f'--config.data.encoding={encoding}'):
    rows.read_rows(path, fields=('text',))
  assert read(path, table(',', encoding), encoding=encoding) == EXPECTED


def test_a_byte_that_is_not_utf8_is_shown_as_it_may_be_meant(tmp_path):
  (tmp_path / 'x.csv').write_bytes(b'text,id\na caf\xe9 here,1\n')
  with pytest.raises(InputError, match=r"'text' is not UTF-8 \('a café here' in Windows-1252\)"):
    rows.read_rows(tmp_path / 'x.csv', fields=('text',))
  (tmp_path / 'x.csv').write_bytes(b'text\n\x81\n')
  with pytest.raises(InputError, match="'text' is not UTF-8; .*encoding=NAME"):
    rows.read_rows(tmp_path / 'x.csv', fields=('text',))


@pytest.mark.parametrize(
  'text',
  [
    'привет мир'.encode('koi8-r'),
    '日本語の文'.encode('shift_jis'),
    b'caf\xc3\xa9 and caf\xe9',
    b'\x04\x95\x80 abc',
  ],
)
def test_another_alphabet_is_not_taken_for_windows_1252(tmp_path, text):
  (tmp_path / 'x.csv').write_bytes(b'text,id\n' + text + b',1\n')
  with pytest.raises(InputError, match="'text' is not UTF-8; convert the file to UTF-8"):
    rows.read_rows(tmp_path / 'x.csv', fields=('text',))


def test_utf8_among_rows_of_another_encoding_is_not_read_as_that(tmp_path):
  content = b'text,id\ncaf\xc3\xa9,1\nna\xefve,2\n'
  found = read(tmp_path / 'x.csv', content, encoding='cp1252', used=('text',))
  assert [str(row) for row in found] == [
    "field 'text' is UTF-8 ('café'), not cp1252",
    "{'text': 'naïve', 'id': '2'}",
  ]


def test_a_space_may_follow_each_delimiter(tmp_path):
  content = b'id, text, toxic\n1, "a, b", 1\n2, c, 0\n'
  assert read(tmp_path / 'x.csv', content) == [
    {'id': '1', 'text': 'a, b', 'toxic': '1'},
    {'id': '2', 'text': 'c', 'toxic': '0'},
  ]
  assert read(tmp_path / 'x.csv', b'id,text\n1, a\n') == [{'id': '1', 'text': ' a'}]


def test_a_delimiter_may_end_each_row(tmp_path):
  content = b'id,text\n1,a,\n2,"b, c",\n'
  expected = [{'id': '1', 'text': 'a'}, {'id': '2', 'text': 'b, c'}]
  assert read(tmp_path / 'x.csv', content) == expected
  for other in (b'3,d\n', b'3,d,e\n', b'3,d,,\n'):  # then the comma may be that of a text
    read_rows = read(tmp_path / 'x.csv', content + other)
    assert str(read_rows[0]) == 'line 2 has 3 cells, but the header has 2'


def test_the_lines_of_a_single_unquoted_column_are_its_texts(tmp_path):
  content = b'text\nhello\nyes, of course\n'
  assert read(tmp_path / 'x.csv', content) == [{'text': 'hello'}, {'text': 'yes, of course'}]
  for other in (b'a, "b"\n', b'"a", b\n'):
    assert 'but the header has 1' in str(read(tmp_path / 'x.csv', content + other)[1])
  both = read(tmp_path / 'x.csv', b'text\na, 1\nb, 0\n')  # or does the header lack a name?
  assert [str(row) for row in both] == [
    f'line {line} has 2 cells, but the header has 1' for line in (2, 3)
  ]


def test_columns_without_a_name_are_no_columns(tmp_path):
  content = table(',', header=('text', 'toxic', '', ''))
  assert read(tmp_path / 'x.csv', content) == EXPECTED
  content = b'text,toxic,,\na,1,,\nb,1\nc, d,1,\nc,1,,,\ne,1,,x\n'
  assert [str(row) for row in read(tmp_path / 'x.csv', content)] == [
    "{'text': 'a', 'toxic': '1'}",
    "{'text': 'b', 'toxic': '1'}",  # Excel leaves out the last empty cells of later rows
    'line 4 has a cell in a column that the header does not name',
    'line 5 has 5 cells, but the header has 4',
    'line 6 has a cell in a column that the header does not name',
  ]
  assert read(tmp_path / 'x.csv', b',text\n0,a\n') == [{'': '0', 'text': 'a'}]


def test_a_name_that_comes_twice_matters_to_those_who_use_it(tmp_path):
  content = b'id,text,id\n1,a,2\n'
  assert read(tmp_path / 'x.csv', content, used=('text',)) == [{'id': None, 'text': 'a'}]
  with pytest.raises(InputError, match="row 1: field 'id' occurs twice in the header"):
    rows.read_rows(tmp_path / 'x.csv')


def test_quotes_may_be_part_of_unquoted_tabs(tmp_path):
  lines = [f'n{number} text\t{number % 2}' for number in range(300)]
  lines[150] = '"' + lines[150]
  content = '\n'.join(['text\ttoxic', *lines]).encode()
  expected = [line.partition('\t')[0] for line in lines]
  assert [row['text'] for row in read(tmp_path / 'x.tsv', content)] == expected
  # a second quote would make one well-quoted row of many
  lines[200] = lines[200].replace('text', 'text"')
  content = '\n'.join(['text\ttoxic', *lines]).encode()
  assert [row['text'] for row in read(tmp_path / 'x.tsv', content)][200] == 'n200 text"'


@pytest.mark.parametrize('last', ['n20 text,0', 'n20 text",0', 'n20 "text",0', '"n20 text,0'])
def test_a_lone_quote_never_counts_many_lines_as_one_row(tmp_path, last):
  lines = [f'n{number} text,{number % 2}' for number in range(30)]
  lines[10], lines[20] = '"' + lines[10], last
  (tmp_path / 'x.csv').write_text('\n'.join(['text,toxic', *lines]))
  for bad_rows in ('error', 'skip'):
    with pytest.raises(InputError, match='lines 12 to .* not quoted correctly.* from line 12 on'):
      rows.read_rows(tmp_path / 'x.csv', bad_rows=bad_rows)


def test_a_row_may_be_bad_on_several_lines(tmp_path):
  content = b'text,id\n"two\nlines"x,1\na,2\n"cut off\nhere'
  assert [str(row)[:12] for row in read(tmp_path / 'x.csv', content)] == [
    'lines 2 to 3',
    "{'text': 'a'",
    'lines 5 to 6',
  ]


def test_what_follows_a_bad_quote_must_be_certain(tmp_path):
  (tmp_path / 'x.csv').write_bytes(b'text,id\n"a"b,"open\nc",1\n')
  with pytest.raises(InputError, match='line 2 is not quoted correctly'):
    rows.read_rows(tmp_path / 'x.csv', bad_rows='skip')


def test_quotes_after_a_backslash_are_read(tmp_path):
  path = tmp_path / 'x.csv'
  content = rb'text,id' + b'\n' + rb'"say \"hi\", \\you",1' + b'\n' + b'plain,2\n'
  assert read(path, content) == [
    {'text': r'say "hi", \you', 'id': '1'},
    {'text': 'plain', 'id': '2'},
  ]
  # a backslash that escapes nothing would be lost
  assert 'not quoted' in str(read(path, content + b'C:\\new,3\n')[0])
  assert read(path, b'text,id\nC:\\new \\\\x,1\n')[0]['text'] == 'C:\\new \\\\x'


CELLS = st.text(st.sampled_from('ab01,;|\t"\\\n\ré“😀 '), max_size=8)


@settings(max_examples=200, deadline=None)
@given(
  st.data(),
  st.sampled_from(list(',;\t|')),
  st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16']),
  st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
  st.integers(2, 4),
)
def test_a_quoted_table_is_read_as_written_or_refused(
  tmp_path_factory, data, delimiter, encoding, quoting, columns
):
  names = ['text', 'id', 'label', 'note'][:columns]
  written = data.draw(st.lists(st.tuples(*[CELLS] * columns), min_size=1, max_size=5))
  file = io.StringIO(newline='')
  writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
  writer.writerows([names, *written])
  path = tmp_path_factory.getbasetemp() / 'quoted.csv'
  path.write_bytes(file.getvalue().encode(encoding))
  try:
    found, _ = rows.read_rows(path)
  except InputError as error:
    assert '\n' not in str(error) and 'quoted.csv' in str(error)
  else:
    assert found == [dict(zip(names, row)) for row in written]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.sampled_from(['', '\r']))
def test_an_unquoted_table_is_read_as_written_or_without_quotes_around(
  tmp_path_factory, written, end
):
  written = [[re.sub('[\t\r\n]', ' ', cell) for cell in row] for row in written]
  lines = ['\t'.join(row) + end for row in [['text', 'id'], *written]]
  path = tmp_path_factory.getbasetemp() / 'unquoted.tsv'
  path.write_text('\n'.join(lines), newline='')
  try:
    found, _ = rows.read_rows(path)
  except InputError as error:
    assert '\n' not in str(error)
  else:
    assert len(found) == len(written)
    quoted = lambda cell: next(csv.reader([cell + '\t'], delimiter='\t'))[0]
    for row, cells in zip(found, written):
      assert list(row.values()) in (cells, [quoted(cell) for cell in cells])
