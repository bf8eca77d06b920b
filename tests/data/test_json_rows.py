"""JSON lists that are read value by value: as json.loads reads them, and with little memory."""

import gzip
import io
import json

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pyarrow as pa
import pyarrow.parquet
import pytest

from irl_jax.data import json_rows
from irl_jax.data import parquet_rows
from irl_jax.data.encodings import BadFile
from irl_jax.data.row_values import BadRow
from irl_jax.data.row_values import Layout

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
  LEAVES.filter(lambda value: value not in (float('inf'), float('-inf'))),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
  max_leaves=6,
)


class Counted(io.BytesIO):
  """Bytes that count how many of them were read, and the most that were asked for at once."""

  taken = most = 0

  def read(self, size=-1):
    return self._count(super().read(size), size)

  def read1(self, size=-1):
    return self._count(super().read1(size), size)

  def _count(self, read, size):
    self.taken += len(read)
    self.most = max(self.most, size if size >= 0 else 2**63)
    return read


def read(text: str) -> list:
  return [row for _, row in json_rows.json_file(io.BytesIO(text.encode()), Layout())]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
  st.lists(st.dictionaries(st.text(), VALUES, max_size=3) | VALUES, max_size=5),
  st.sampled_from([None, 0, 2]),
  st.sampled_from([1, 3, 40]),
)
def test_a_list_is_read_as_json_reads_it(values, indent, window):
  before, json_rows.WINDOW = json_rows.WINDOW, window
  try:
    rows = read(json.dumps(values, indent=indent))
  finally:
    json_rows.WINDOW = before
  assert len(rows) == len(values)
  for row, value in zip(rows, values):
    assert row == value if isinstance(value, dict) else isinstance(row, BadRow)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_list_gives_the_rows_that_json_reads_or_is_refused(data):
  text = list(json.dumps([{'text': 'a b', 'n': 1.5}, {'text': 'c', 'x': [1, {'y': None}]}]))
  for _ in range(data.draw(st.integers(1, 3))):
    at = data.draw(st.integers(0, len(text)))
    text[at : at + data.draw(st.integers(0, 2))] = data.draw(
      st.sampled_from(['', *'[]{},:"\\1e.- '])
    )
  damaged = ''.join(text)
  before, json_rows.WINDOW = json_rows.WINDOW, data.draw(st.sampled_from([1, 7, 2**16]))
  try:
    rows = read(damaged)
  except BadFile as error:
    assert len(str(error).splitlines()) == 1
    return
  finally:
    json_rows.WINDOW = before
  if damaged.lstrip().startswith('['):
    expected = json.loads(damaged)
    usable = [row for row in rows if isinstance(row, dict)]
    plain = [value for value in expected if isinstance(value, dict)]
    assert len(rows) == len(expected)
    assert all(row == value for row, value in zip(usable, plain) if str(row).find('Unusable') < 0)


@pytest.mark.parametrize(
  'text, message',
  [
    ('[{"text": "a"},', 'its list ends after row 1 without a closing bracket. Download it again'),
    ('[', 'its list ends after row 0 without'),
    ('[{"text": "a"} {"text": "b"}]', "row 1 of its list is followed by '{' instead of a comma"),
    ('[{"text": "a"}]\n[{"text": "b"}]', r"continues after its list with '\['; write one list"),
    ('[{"text": "a"}, {"text": }]', 'row 2 of its list is not valid JSON: Expecting value'),
    ('[{"text": "a"}, {"text": "b]', 'row 2 of its list is not valid JSON: a string has no'),
    ('[' * 100_000, 'row 1 of its list is nested too deeply'),
  ],
)
def test_a_list_that_is_damaged_says_where(text, message):
  with pytest.raises(BadFile, match=message):
    read(text)


def test_a_list_is_not_read_before_its_rows_are():
  line = json.dumps({'text': 'a word ' * 20})
  file = Counted(f'[{", ".join([line] * 20_000)}]'.encode())
  for number, _ in json_rows.json_file(file, Layout()):
    assert file.taken <= number * (len(line) + 2) + 4 * json_rows.WINDOW
  assert number == 20_000 and file.most < 2**20


def test_a_gzipped_table_is_unpacked_in_pieces_to_the_disk():
  table = io.BytesIO()
  pyarrow.parquet.write_table(pa.table({'text': [f'{n} words' for n in range(5000)]}), table)
  packed = Counted(gzip.compress(table.getvalue()))
  with gzip.open(packed) as file:
    sizes = []
    one_read = file.read
    file.read = lambda size=-1: sizes.append(size) or one_read(size)
    rows = [row for _, row in parquet_rows.parquet(file, Layout())]
  assert rows == [{'text': f'{n} words'} for n in range(5000)]
  assert set(sizes) == {parquet_rows.BUFFER}


def test_a_key_that_an_object_has_twice_has_no_value():
  (row,) = read('[{"text": "a", "n": 1, "text": "b"}]')
  assert row['n'] == 1 and row['text'].reason == 'occurs twice in its row'
