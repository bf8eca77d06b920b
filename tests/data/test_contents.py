"""Files whose content is not what their name says: read if that is certain, otherwise refused."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile

from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pyarrow as pa
import pyarrow.parquet
import pytest

from irl_jax.config import Data
from irl_jax.data import rows
from irl_jax.data import sources
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError

TEXTS = ['a b', 'c {d}', 'e']
LINES = ''.join(json.dumps({'text': text, 'id': 1}) + '\n' for text in TEXTS).encode()
LIST = json.dumps([{'text': text} for text in TEXTS]).encode()
LONG_LIST = json.dumps([{'text': text} for text in TEXTS], indent=2).encode()
SPREAD = b''.join(json.dumps({'text': text}, indent=2).encode() + b'\n' for text in TEXTS)
CSV = b'text,id\na b,1\nc {d},1\ne,1\n'
ARROW = b'ARROW1\0\0'


def parquet() -> bytes:
  file = io.BytesIO()
  pyarrow.parquet.write_table(pa.table({'text': TEXTS}), file)
  return file.getvalue()


def tar() -> bytes:
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as archive:
    archive.addfile(tarfile.TarInfo('rows.jsonl'))
  return file.getvalue()


def packed(content: bytes) -> bytes:
  return gzip.compress(content, mtime=0)


def zipped() -> bytes:
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('rows.jsonl', LINES)
  return file.getvalue()


READ = {  # name: a content of another form, which is certain
  'list.jsonl': LIST,
  'long_list.jsonl': b'\xef\xbb\xbf\n ' + LONG_LIST,
  'list_of_utf_16.jsonl': LIST.decode().encode('utf-16'),
  'list.jsonl.gz': packed(LIST),
  'lines.json': LINES,
  'lines.json.gz': packed(LINES),
  'semicolons.csv': CSV.replace(b',', b';'),
  'tabs.csv': CSV.replace(b',', b'\t'),
  'commas.tsv': CSV,
  'packed.parquet.gz': packed(parquet()),
  'LINES.JSONL': LINES,
}


@pytest.mark.parametrize('name', READ)
def test_what_is_certain_is_read(tmp_path, name):
  (tmp_path / name).write_bytes(READ[name])
  read, counts = rows.read_rows(tmp_path / name, fields=('text',))
  assert [row['text'] for row in read] == TEXTS and counts['bad_rows'] == 0


BY_LINE = 'its lines are JSON objects (the first 3 are); rename it to end in .jsonl'
A_LIST = 'it is a JSON list of objects; rename it to end in .json'
BZIP2, XZ, ZSTD = (
  f'is packed with {kind}, which is not supported' for kind in ('bzip2', 'xz', 'zstd')
)
REFUSED = [  # name, content, message
  ('lines.txt', LINES, BY_LINE),
  ('lines.txt', LINES.decode().encode('utf-16'), BY_LINE),
  ('lines.txt', b'\xef\xbb\xbf\r\n' + LINES.replace(b'\n', b'\r\n'), BY_LINE),
  ('lines.csv', LINES, BY_LINE),
  ('lines.tsv', LINES, BY_LINE),
  ('lines.txt.gz', packed(LINES), f'{BY_LINE}.gz'),
  ('many.txt', LINES * 99, 'its lines are JSON objects (the first 20 are)'),
  ('one_line.txt', b'{"text": "a"}', 'its only line is a JSON object; rename it to end in .jsonl'),
  ('list.txt', LIST, A_LIST),
  ('list.txt', LONG_LIST, A_LIST),
  ('list.csv', LONG_LIST, A_LIST),
  ('list.tsv.gz', packed(LIST), f'{A_LIST}.gz'),
  ('spread.txt', SPREAD, 'it has JSON objects that span several lines; write one object per line'),
  ('spread.csv', SPREAD, 'it has JSON objects that span several lines; write one object per line'),
  (
    'table.jsonl',
    CSV,
    'row 1: is not valid JSON: Expecting value; if the file is a table or plain',
  ),
  ('table.json', CSV, 'row 1: is not valid JSON: Expecting value; if the file is a table or plain'),
  ('text.jsonl', b'a b\nc d\n', 'if the file is a table or plain text, rename it to end in .csv,'),
  ('strings.jsonl', b'[\n"a",\n"b"\n]', 'its first line begins a list, but not one of objects'),
  ('half_list.jsonl', LIST[:-1], 'its list ends after row 3 without a closing bracket'),
  (
    'lists.jsonl',
    LIST + b'\n' + LINES,
    "continues after its list with '{'; write one list, or one",
  ),
  ('table.parquet', CSV, "is text, not parquet (it begins with 'text,id'). Give it the ending of"),
  ('lines.parquet', LINES, 'is text, not parquet (it begins with \'{"text": "a b", "id": 1}\')'),
  ('table.parquet.gz', packed(CSV), "its content is text, not parquet (it begins with 'text,id')"),
  ('noise.parquet', bytes(range(256)), 'Parquet magic bytes not found in footer'),
  ('parquet.csv', parquet(), 'is a parquet file. Give it a name that ends in .parquet'),
  ('parquet.jsonl', parquet(), 'is a parquet file. Give it a name that ends in .parquet'),
  ('parquet.csv.gz', packed(parquet()), 'its content is a parquet file'),
  ('table.csv.gz', CSV, 'is not gzipped, although its name ends in .gz. Remove .gz from its name'),
  ('parquet.parquet.gz', parquet(), 'is not gzipped, although its name ends in .gz. Remove .gz'),
  ('table.csv', packed(CSV), 'is gzipped, although its name does not end in .gz. Add .gz to its'),
  ('lines.jsonl.gz', packed(packed(LINES)), 'its content is gzipped, although its name'),
  ('archive.jsonl', tar(), 'is a tar archive. Unpack it (tar xf)'),
  ('archive.jsonl.gz', packed(tar()), 'its content is a tar archive'),
  ('archive.jsonl', zipped(), 'is a zip archive, such as an Excel workbook. Unpack it'),
  ('archive.csv.gz', zipped(), 'is a zip archive'),
  ('lines.jsonl', bz2.compress(LINES), BZIP2),
  ('lines.jsonl.gz', bz2.compress(LINES), BZIP2),
  ('lines.txt', lzma.compress(LINES), XZ),
  ('lines.json', b'\x28\xb5\x2f\xfd' + LINES, ZSTD),
  ('table.parquet', ARROW, 'is an Arrow file, not rows of text'),
]


@pytest.mark.parametrize(
  ('name', 'content', 'message'), REFUSED, ids=[f'{n}-{one[0]}' for n, one in enumerate(REFUSED)]
)
def test_what_contradicts_its_name_is_refused_with_its_cause(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  for bad_rows in ('error', 'skip'):
    with pytest.raises(InputError) as caught:
      rows.read_rows(tmp_path / name, fields=('text',), bad_rows=bad_rows)
    said = str(caught.value)
    if bad_rows == 'error' or 'row 1' not in message:
      assert message in said
    assert said.startswith(str(tmp_path / name)) and '\n' not in said


@pytest.mark.parametrize(
  ('ending', 'content', 'remedy'),
  [
    ('.zip', zipped(), 'unpack it (unzip)'),
    ('.xz', lzma.compress(LINES), 'unpack it (unxz)'),
    ('.zst', b'\x28\xb5\x2f\xfd' + LINES, 'unpack it (zstd -d)'),
    ('.bz2', bz2.compress(LINES), 'unpack it (bunzip2)'),
    ('.tar', tar(), 'unpack it (tar xf)'),
    ('.tar.gz', packed(tar()), 'unpack it (tar xf)'),
    ('.tgz', packed(tar()), 'unpack it (tar xf)'),
    ('.7z', b"7z\xbc\xaf'", 'unpack it (7z x)'),
    ('.xlsx', zipped(), 'save its table as .csv in UTF-8'),
    ('.ods', zipped(), 'save its table as .csv in UTF-8'),
  ],
)
def test_an_archive_is_refused_by_its_name_with_how_to_unpack_it(tmp_path, ending, content, remedy):
  for path in (tmp_path / f'x{ending}', tmp_path / f'x.jsonl{ending}'):
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
      rows.read_rows(path)
    kind = ending.removesuffix('.gz')
    assert str(caught.value) == f'{path}: {kind} is not supported; {remedy}'


ALMOST_JSON = [
  '{a} b\n{c} d\n',
  '{"text": "a"}\n{"text": "b"}\nbut not this line\n',
  '{"text": "a"} and more\n',
  '{"text": "a"},\n{"text": "b"},\n',
  '{\n"a"\n}\n',
  '{"text": "a"\n{"text": "b"\n',
  '{}\n{}\n',
  '["a", "b"]\n["c"]\n',
  '[1] A note.\n[2] Another.\n',
  '[{"text": "a"} and so on\n',
  '"a"\n"b"\n',
  '1\n2\n',
  '{' * 99999,
]


@pytest.mark.parametrize('content', ALMOST_JSON, ids=range(len(ALMOST_JSON)))
def test_plain_text_may_look_like_json(tmp_path, content):
  (tmp_path / 'x.txt').write_text(content)
  read, _ = rows.read_rows(tmp_path / 'x.txt', fields=('text',))
  assert [row['text'] for row in read] == content.splitlines()


def is_object(line: str) -> bool:
  try:
    return isinstance(json.loads(line), dict)
  except ValueError:
    return False


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text('{}[]":, a1\\', max_size=8), min_size=1, max_size=5))
@example(['{"a":1}', '{}'])
@example(['[{"a":1}]'])
def test_a_text_file_is_read_as_it_is_or_it_is_json(tmp_path_factory, lines):
  path = tmp_path_factory.getbasetemp() / 'x.txt'
  path.write_text('\n'.join(lines) + '\n')
  try:
    read, _ = rows.read_rows(path, fields=('text',))
  except InputError as error:
    assert 'JSON' in str(error)
    whole = path.read_text()
    assert all(is_object(line) for line in lines if line.strip()) or json.loads(whole)
  else:
    assert [row['text'] for row in read] == lines
    assert not all(is_object(line) and line.strip() != '{}' for line in lines)


def test_a_run_refuses_them_as_well(tmp_path):
  path = tmp_path / 'x.txt'
  path.write_bytes(LINES)
  with pytest.raises(
    InputError, match='x.txt: is not a readable .txt file: its lines are JSON obj'
  ):
    sources.load_rows(Data(source=str(path)), seed=0)
  (tmp_path / 'x.jsonl').write_bytes(LIST)
  read, _ = sources.load_rows(Data(source=str(tmp_path / 'x.jsonl')), seed=0)
  assert [row['prompt'] + row['original'] for row in read] == TEXTS
