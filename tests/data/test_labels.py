"""The labels that mean toxic: printed, configurable, and refused if they are ambiguous."""

import json

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from irl_jax.config import Data
from irl_jax.data import labels
from irl_jax.data import rows
from irl_jax.data import sources
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError


@pytest.fixture(name='logged')
def fixture_logged(monkeypatch):
  lines = []
  for name in ('info', 'warning'):
    monkeypatch.setattr(labels.logging, name, lambda message, *args: lines.append(message % args))
  return lines


def read(values, field='label', **settings):
  return labels.read(values, Data(source='x.jsonl', label_field=field, **settings))


@pytest.mark.parametrize(
  'values, positive, negative, expected',
  [
    ([1, 0, True, False, 0.5, 0.49, None], '', '', [1, 0, 1, 0, 1, 0, None]),
    (
      ['1', '0', 'TRUE', ' false', '.7', '', 'nan', 'null'],
      '',
      '',
      [1, 0, 1, 0, 1, None, None, None],
    ),
    (['OFF', 'NOT', 'off ', None], 'OFF', '', [1, 0, 1, None]),
    (['hate', 'offensive', 'neither', 'unsure'], 'hate,offensive', 'neither', [1, 1, 0, None]),
    ([True, False], 'false', '', [0, 1]),
    ([0, 1, 2], '0,1', '', [1, 1, 0]),
    ([1, 5, 3, '4.0'], '>=4', '', [0, 1, 0, 1]),
    ([1, 5, 3], '>= 4', '<3', [0, 1, None]),
    ([-1, 0, 1], '1', '0', [None, 0, 1]),
    ([-1, 1, 1], '<0', '', [1, 0, 0]),
  ],
)
def test_labels_mean_what_is_named(values, positive, negative, expected, logged):
  assert read(values, positive=positive, negative=negative) == expected


def test_what_labels_mean_is_logged(logged):
  read(['NOT', 'OFF', 'off', '?', None], positive='OFF', negative='NOT')
  assert logged == [
    "x.jsonl: field 'label': toxic is 'OFF' (2 rows); not toxic is 'NOT' (1 row); "
    "not labelled are 2 rows (0 without the field; '?' (1 row))"
  ]
  logged.clear()
  read([0.1 * number for number in range(10)])
  assert 'toxic is 0.5 (1 row), ' in logged[0] and 'not labelled are 0 rows' in logged[0]
  logged.clear()
  read([1, 1])
  assert 'all 2 labelled rows are toxic' in logged[1]


@pytest.mark.parametrize(
  'values, holds',
  [
    (['OFF', 'NOT', 'NOT'], "contains 'NOT' (2 rows), 'OFF' (1 row)"),
    ([1, 5, 1], 'contains 1 (2 rows), 5 (1 row)'),
    ([0, 1, 2], 'contains 0 (1 row), 1 (1 row), 2 (1 row)'),
    (range(100), 'contains numbers from 0 to 99 (100 rows)'),
    ([-1, 0, 1], 'If -1 means not labelled, set --config.data.positive=1'),
    ([['toxic'], []], "contains ['toxic'] (1 row), [] (1 row)"),
    ([float('inf'), 1], 'contains 1 (1 row), inf (1 row)'),
    ([10**400, 1], 'contains 1 (1 row), 1000'),
  ],
)
@pytest.mark.parametrize('bad_rows', ['error', 'skip'])
def test_a_scale_of_another_kind_is_refused_and_not_skipped(values, holds, bad_rows):
  with pytest.raises(InputError) as caught:
    read(list(values), bad_rows=bad_rows)
  assert holds in str(caught.value) and '--config.data.positive=' in str(caught.value)
  assert 'skip' not in str(caught.value) and '\n' not in str(caught.value)


def test_a_few_bad_labels_can_be_skipped_with_their_rows(tmp_path):
  path = tmp_path / 'x.jsonl'
  rows.write_jsonl(path, [{'text': f'a {n}', 'label': n % 2 if n else '?'} for n in range(200)])
  data = Data(source=str(path), label_field='label', bad_rows='skip')
  read_rows, counts = sources.load_rows(data, seed=0)
  assert len(read_rows) == 199 and (counts['rows_read'], counts['bad_rows']) == (200, 1)


@pytest.mark.parametrize(
  'field',
  [
    *('is_safe', 'isSafe', 'non_toxic', 'nonViolent', 'not_ok', 'NEUTRAL', 'helpful', 'safety'),
    *('nottoxic', 'notoffensive', 'unharmful', 'politeness', 'sentiment', 'preferred', 'hate_free'),
  ],
)
def test_a_field_that_is_true_of_harmless_texts_is_asked_about(field):
  with pytest.raises(
    ConfigError, match=f"label_field = '{field}': .*data.positive=false, or =true"
  ):
    labels.check_field(Data(label_field=field))
  labels.check_field(Data(label_field=field, positive='false'))


def test_other_fields_are_not_asked_about():
  for field in (
    *('', 'toxic', 'unsafe', 'is_toxic', 'label', 'note', 'tokens', 'uncivil', 'impolite'),
    *('inappropriate', 'unacceptable', 'notable', 'none', 'score', 'rating', 'negative', 'class'),
  ):
    labels.check_field(Data(label_field=field))


def test_what_is_named_must_be_there_and_say_one_thing():
  with pytest.raises(InputError, match=r"contains 'NOT' \(1 row\), and no 'OF'"):
    read(['NOT'], positive='OF')
  with pytest.raises(InputError, match='positive and negative both name 4'):
    read([4, 1], positive='>3', negative='<5')
  with pytest.raises(ConfigError, match="'>=x' must be a number after >="):
    read([4, 1], positive='>=x')
  with pytest.raises(
    InputError,
    match=r"contains 'unsure' \(1 row\), not only numbers to compare with '>=4' .*; to ignore "
    "words, also set --config.data.negative='<4'",
  ):
    read([5, 'unsure', 1], positive='>=4')
  assert read([5, 'unsure', 1], positive='>=4', negative='<4') == [1, None, 0]


def test_a_named_value_that_no_row_has_is_told(logged):
  assert read(['OFF', 'NOT'], positive='OFF, UNT', negative='NOT') == [1, 0]
  assert any("no row has 'UNT' (config.data.positive)" in message for message in logged)
  assert not any('config.data.negative' in message for message in logged)


def test_minus_one_may_mean_not_labelled_only_next_to_zero():
  for values, advised in (([-1, 0, 1], True), ([-1, 1], False)):
    with pytest.raises(InputError, match='labels must be numbers from 0 to 1') as refused:
      read(values)
    assert ('If -1 means not labelled' in str(refused.value)) == advised


def test_a_field_without_a_label_is_told(logged):
  assert read([None, '', float('nan')]) == [None] * 3
  assert logged[-1] == "x.jsonl: field 'label': no row is labelled"


def test_json_lines_without_the_key_have_no_label(logged):
  missing = labels.Missing(['text', 'id'])
  assert read([1, missing, 0]) == [1, None, 0]
  assert 'not labelled is 1 row (1 without the field; nothing)' in logged[0]
  with pytest.raises(InputError, match="no field 'label' in any row; .*: 'text', 'id'; set --conf"):
    read([missing, missing])


VALUES = st.one_of(
  st.none(),
  st.booleans(),
  st.integers(-2, 6),
  st.floats(),
  st.text(max_size=4),
  st.sampled_from(['1', '0', 'true', 'OFF', 'NOT', '-1', '']),
  st.lists(st.integers(), max_size=2),
)


@settings(max_examples=200, deadline=None)
@given(
  st.lists(VALUES, min_size=1, max_size=6),
  st.sampled_from(['', 'OFF', '1', '>=0.5', 'true,OFF']),
  st.sampled_from(['', '0', 'NOT,0', '<0.5']),
)
def test_labels_are_understood_or_refused_in_one_line(values, positive, negative):
  try:
    found = read(values, positive=positive, negative=negative if positive else '')
  except InputError as error:
    assert len(str(error).splitlines()) == 1
  else:
    assert set(found) <= {0, 1, None}
    for value, label in zip(values, found):
      if not positive and label is not None:
        assert label == (float(json.loads(str(value).strip().lower())) >= 0.5)
