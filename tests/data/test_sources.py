"""Every source that a config can name: files, folders, the hub, known data sets, the playground."""

import gzip
import hashlib
import http.server
import json
import socket
import threading
from unittest import mock

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet
import pytest

from irl_jax.config import Data
from irl_jax.data import rows
from irl_jax.data import sources
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.runtime import hub_limits


@pytest.fixture(autouse=True)
def fixture_own_cache(tmp_path, monkeypatch):
  monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path / 'cache')


def load(source, **fields):
  return sources.load_rows(Data(source=str(source), **fields), seed=0)


def file_of(tmp_path, *written, name='x.jsonl'):
  rows.write_jsonl(tmp_path / name, written)
  return tmp_path / name


def test_text_is_cut_and_labelled(tmp_path):
  path = file_of(
    tmp_path,
    {'body': ' one two  three four\n', 'rude': True},
    {'body': 'word', 'rude': 0.4},
    {'body': 'a b', 'rude': None},
  )
  read, counts = load(path, text_field='body', label_field='rude', prompt_fraction=0.5)
  assert read == [
    {'prompt': ' one two', 'original': '  three four\n', 'label': 1},
    {'prompt': 'word', 'original': '', 'label': 0},
    {'prompt': 'a', 'original': ' b', 'label': None},
  ]
  assert counts == {'rows_read': 3, 'bad_rows': 0, 'rows': 3, 'labelled': 2, 'toxic': 1}


def test_prompt_field_is_kept_as_given(tmp_path):
  path = file_of(tmp_path, {'prompt': 'a b\nc ', 'text': '  d'}, {'prompt': '', 'text': 'e'})
  assert load(path, prompt_field='prompt')[0] == [
    {'prompt': 'a b\nc ', 'original': '  d', 'label': None},
    {'prompt': '', 'original': 'e', 'label': None},
  ]
  with pytest.raises(InputError, match='row 2: has an empty text'):
    load(path, prompt_field='prompt', text_field='')


@pytest.mark.parametrize(
  'row, fields, message',
  [
    ({'body': 'a'}, {}, "no field 'text'; its fields: 'body', 'id'"),
    ({'text': 'a'}, {'prompt_field': 'prompt'}, "no field 'prompt'; its fields: 'text', 'id'"),
    ({'prompt': 'a'}, {'prompt_field': 'prompt'}, "no field 'text'; its fields: 'prompt', 'id'"),
    ({'text': ''}, {}, 'empty text'),
    ({'text': ' \n'}, {}, 'empty text'),
    ({'text': None}, {}, 'null'),
  ],
)
def test_bad_rows_are_named_or_skipped(tmp_path, row, fields, message):
  good = {'text': 'good', 'prompt': 'good', 'rude': 1, 'toxic': 1}
  path = file_of(tmp_path, good, {**row, 'id': 1}, good)
  with pytest.raises(InputError) as caught:
    load(path, **fields)
  assert f'{path}, row 2: ' in str(caught.value) and message in str(caught.value)
  read, counts = load(path, bad_rows='skip', **fields)
  assert len(read) == 2 and counts['bad_rows'] == 1


def test_csv_labels_are_text(tmp_path):
  (tmp_path / 'x.csv').write_text('text,toxic\na,1\nb,0\nc,true\nd,False\ne,0.7\nf,\n')
  assert [row['label'] for row in load(tmp_path / 'x.csv', label_field='toxic')[0]] == [
    1,
    0,
    1,
    0,
    1,
    None,
  ]


def test_jigsaw_rows_that_were_not_scored_have_no_label(tmp_path):
  path = tmp_path / 'x.csv'
  path.write_text('id,comment_text,toxic\n0,a b,-1\n1,c d,1\n')
  assert [row['label'] for row in load(f'jigsaw:{path}')[0]] == [None, 1]
  path.write_text('id,comment_text,toxic\n0,a b,-2\n')
  with pytest.raises(InputError, match='a label must be a number from 0 to 1'):
    load(f'jigsaw:{path}')


@pytest.fixture(name='logged')
def fixture_logged(monkeypatch):
  lines = []
  for name in ('info', 'warning'):
    monkeypatch.setattr(
      sources.logging,
      name,
      lambda message, *args: lines.append(message % args if args else message),
    )
  return lines


def test_what_joins_prompt_and_answer_is_logged_and_can_be_set(tmp_path, logged):
  written = [{'prompt': f'What is {n}?', 'text': f'The answer {n}'} for n in range(4)]
  path = file_of(tmp_path, *written, {'prompt': 'a', 'text': ''}, {'prompt': '', 'text': 'b'})
  read, _ = load(path, prompt_field='prompt')
  assert read[0]['original'] == 'The answer 0'
  assert len(logged) == 1 and (
    '4 of 4 texts begin with a letter or digit right after the prompt, as in '
    "'What is 0?The answer 0'" in logged[0]
  )
  read, _ = load(path, prompt_field='prompt', joiner=r'\n')
  assert [row['original'] for row in read] == [f'\nThe answer {n}' for n in range(4)] + ['', 'b']
  assert len(logged) == 1
  load(file_of(tmp_path, {'prompt': 'a', 'text': ' b'}), prompt_field='prompt')
  load(file_of(tmp_path, {'text': 'a b'}))
  assert len(logged) == 1


def test_a_text_files_encoding_and_delimiter_can_be_set(tmp_path):
  path = tmp_path / 'x.csv'
  path.write_bytes('text~id\ncafé au~1\n'.encode('cp1252'))
  assert load(path, encoding='cp1252', delimiter='~')[0] == [
    {'prompt': 'café', 'original': ' au', 'label': None}
  ]
  path.write_bytes(b'id\ttext\n1\ta b\n')
  assert load(path, delimiter=r'\t')[0] == [{'prompt': 'a', 'original': ' b', 'label': None}]


def test_a_field_that_is_not_used_cannot_spoil_a_row(tmp_path):
  path = tmp_path / 'x.csv'
  path.write_bytes(b'text,id,id,note\na b,1,2,caf\xe9\n')
  assert len(load(path)[0]) == 1
  with pytest.raises(InputError, match="field 'id' occurs twice"):
    load(path, label_field='id')


def test_a_byte_order_mark_and_another_encoding_contradict(tmp_path):
  (tmp_path / 'x.csv').write_bytes('text\na b\n'.encode('utf-16'))
  with pytest.raises(InputError, match='mark of utf-16; leave out --config.data.encoding=cp1252'):
    load(tmp_path / 'x.csv', encoding='cp1252')
  assert len(load(tmp_path / 'x.csv', encoding='utf-16-le')[0]) == 1


@pytest.mark.parametrize('flag', ['text_field', 'prompt_field'])
def test_the_advice_for_a_missing_field_is_its_flag(tmp_path, flag):
  path = file_of(tmp_path, {'chosen': 'a b'})
  for bad_rows in ('error', 'skip'):
    with pytest.raises(InputError, match=f'set --config.data.{flag}=chosen$'):
      load(path, bad_rows=bad_rows, **{flag: 'text'})


def test_surrogates_are_replaced(tmp_path):
  assert load(file_of(tmp_path, {'text': 'a\ud800 b'}))[0] == [
    {'prompt': 'a\ufffd', 'original': ' b', 'label': None}
  ]


def test_max_rows_keeps_the_smallest_hashes_in_order(tmp_path):
  texts = [f'text {number}' for number in range(20)]
  read, counts = load(file_of(tmp_path, *({'text': text} for text in texts)), max_rows=5)
  kept = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())[:5]
  assert [row['prompt'] + row['original'] for row in read] == [
    text for text in texts if text in kept
  ]
  assert counts['rows_read'] == 20 and counts['rows'] == 5


def test_jigsaw_long_2000_is_read(tmp_path):
  path = file_of(tmp_path, {'prompt': 'a b', 'original_output': 'c d', 'toxic': 1})
  assert load(f'jigsaw-long-2000:{path}')[0] == [{'prompt': 'a b', 'original': ' c d', 'label': 1}]


def test_paradetox_is_read(tmp_path):
  hub, flat = (
    {'en_toxic_comment': 'a b c d', 'en_neutral_comment': 'e'},
    {'toxic': 'a b c d', 'neutral': 'e'},
  )
  expected = [{'prompt': 'a b', 'original': ' c d', 'label': 1}]
  for row in (hub, flat):
    assert load(f'paradetox:{file_of(tmp_path, row)}', prompt_fraction=0.5)[0] == expected
    neutral = load(f'paradetox-neutral:{file_of(tmp_path, row)}', prompt_fraction=0.5)[0]
    assert neutral == [{'prompt': 'e', 'original': '', 'label': 0}]


def test_jigsaw_is_read(tmp_path):
  for field in ('text', 'comment_text'):
    path = file_of(tmp_path, {'id': 'x', field: 'a b', 'toxic': 0})
    assert load(f'jigsaw:{path}')[0] == [{'prompt': 'a', 'original': ' b', 'label': 0}]
  with pytest.raises(ConfigError, match='jigsaw:PLACE'):
    load('jigsaw')


@pytest.mark.parametrize(
  'scores, label',
  [((0.9, 0.1), 1), ((0.1, 0.5), 1), ((0.1, 0.4), 0), ((0.1, None), None), ((None, 0.8), 1)],
)
def test_real_toxicity_prompts_are_read(tmp_path, scores, label):
  hub = {
    'challenging': False,
    'prompt': {'text': 'a', 'toxicity': scores[0]},
    'continuation': {'text': ', b', 'toxicity': scores[1]},
  }
  flat = {
    'prompt': 'a',
    'prompt_toxicity': scores[0],
    'continuation': ', b',
    'continuation_toxicity': scores[1],
  }
  for row in (hub, flat):
    read, _ = load(f'real-toxicity-prompts:{file_of(tmp_path, row)}')
    assert read == [{'prompt': 'a', 'original': ', b', 'label': label}]


def test_rows_of_a_known_data_set_in_another_form_are_bad(tmp_path):
  path = file_of(tmp_path, {'text': 'a'})
  for name in sources.KNOWN:
    with pytest.raises(InputError, match="row 1: has no field .*; its fields: 'text'"):
      load(f'{name}:{path}')


@pytest.mark.slow
def test_real_files_are_read_whole(shared):
  data = shared / 'data'
  paradetox, counts = load(f'paradetox:{data / "paradetox_train.jsonl.gz"}')
  assert counts == {'rows_read': 9573, 'bad_rows': 0, 'rows': 9573, 'labelled': 9573, 'toxic': 9573}
  with gzip.open(data / 'paradetox_train.jsonl.gz', 'rt', encoding='utf-8') as file:
    assert [row['prompt'] + row['original'] for row in paradetox] == [
      json.loads(line)['toxic'] for line in file
    ]
  _, counts = load(f'real-toxicity-prompts:{data / "rtp_prompts.jsonl.gz"}')
  assert counts['rows'] == 7285 and counts['labelled'] == 7237
  _, counts = load(f'jigsaw:{data / "jigsaw_train.jsonl.gz"}', max_rows=2000)
  assert counts['rows'] == 2000 and 900 < counts['toxic'] < 1100  # the file's order does not decide


@pytest.mark.parametrize('name', ['train-00000-of-00001.parquet', 'train.jsonl'])
def test_a_folder_laid_out_like_the_hub_is_read(tmp_path, name):
  folder = tmp_path / 'set'
  (folder / 'data').mkdir(parents=True)
  for split in ('train', 'test'):
    written = [{'en_toxic_comment': f'{split} b', 'en_neutral_comment': 'c'}]
    path = folder / 'data' / name.replace('train', split)
    if path.suffix == '.parquet':
      pyarrow.parquet.write_table(pa.Table.from_pylist(written), path)
    else:
      rows.write_jsonl(path, written)
  assert load(f'paradetox:{folder}')[0] == [{'prompt': 'train', 'original': ' b', 'label': 1}]
  assert load(folder, split='test', text_field='en_neutral_comment')[0][0]['prompt'] == 'c'
  with pytest.raises(ConfigError, match="config.data.split = 'dev'"):
    load(folder, split='dev')
  with pytest.raises(
    InputError, match="set, row 1 of data/.*: has no field 'text'; its fields: 'en_toxic_comment'"
  ):
    load(folder)


def test_nested_rows_in_a_folder_are_read(tmp_path):
  file_of(
    tmp_path / 'set',
    {'prompt': {'text': 'a', 'toxicity': 0.1}, 'continuation': {'text': ' b', 'toxicity': 0.6}},
    name='prompts.jsonl',
  )
  assert load(f'real-toxicity-prompts:{tmp_path / "set"}')[0] == [
    {'prompt': 'a', 'original': ' b', 'label': 1}
  ]


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path, logged):
  (tmp_path / 'set').mkdir()
  (tmp_path / 'set' / 'a.csv').write_text('text\na b\n')
  (tmp_path / 'set' / 'b.jsonl').write_text('{"text": "c d"}\n')
  assert len(load(tmp_path / 'set')[0]) == 1
  assert any('files of no split are not read: ' in line for line in logged)


def test_a_folder_whose_readme_says_how_it_is_read_is_read_so(tmp_path):
  (tmp_path / 'set').mkdir()
  (tmp_path / 'set' / 'train.csv').write_text('a b,1\nc d,0\n')
  (tmp_path / 'set' / 'README.md').write_text(
    '---\nconfigs:\n- config_name: default\n  data_files: train.csv\n  header: null\n'
    '  names: [text, toxic]\n---\n'
  )
  assert [row['prompt'] for row in load(tmp_path / 'set')[0]] == ['a', 'c']


@pytest.mark.parametrize('outside', ['../secret.jsonl', '{absolute}'])
def test_folder_that_points_outside_is_refused(tmp_path, outside):
  secret = file_of(tmp_path, {'text': 'secret'}, name='secret.jsonl')
  folder = tmp_path / 'secret'  # a prefix of the file's name must not pass for its folder
  file_of(folder, {'text': 'a'}, name='train.jsonl')
  pattern = outside.format(absolute=secret)
  (folder / 'README.md').write_text(
    f'---\nconfigs:\n- config_name: default\n  data_files: "{pattern}"\n---\n'
  )
  with pytest.raises(InputError, match='outside'):
    load(folder)


def test_broken_and_empty_folders_are_refused(tmp_path):
  (tmp_path / 'set').mkdir()
  with pytest.raises(InputError, match='set: '):
    load(tmp_path / 'set')
  (tmp_path / 'set' / 'train.jsonl').write_text('{"text": "a"}\nnot json')
  with pytest.raises(InputError, match='set, row 2 of train.jsonl: is not valid JSON'):
    load(tmp_path / 'set')
  assert load(tmp_path / 'set', bad_rows='skip')[1]['bad_rows'] == 1


def test_a_folder_of_tables_is_read_as_its_files_are(tmp_path, logged):
  (tmp_path / 'set').mkdir()
  (tmp_path / 'set' / 'train-0.csv').write_bytes('text;toxic\ncafé au;1\n'.encode('cp1252'))
  (tmp_path / 'set' / 'train-1.csv').write_bytes(b'text\ttoxic\na, b\t\n')
  read, _ = load(tmp_path / 'set', encoding='cp1252', label_field='toxic')
  assert [(row['prompt'] + row['original'], row['label']) for row in read] == [
    ('café au', 1),
    ('a, b', None),
  ]
  assert f'{tmp_path}/set: reads the split train of train-0.csv, train-1.csv' in logged
  with pytest.raises(InputError, match="set, row 1 of train-0.csv: field 'text' is not UTF-8"):
    load(tmp_path / 'set')


def test_a_folder_of_git_lfs_pointers_is_named(tmp_path):
  (tmp_path / 'set').mkdir()
  for name in ('train.csv', 'test.csv'):
    (tmp_path / 'set' / name).write_text('version https://git-lfs.github.com/spec/v1\nsize 1\n')
  with pytest.raises(InputError, match=r'set/t\w+.csv: is a Git LFS pointer, .*`git lfs pull`'):
    load(tmp_path / 'set')


def refuse_network(*_, **__):
  raise socket.gaierror('Name or service not known')


@pytest.mark.parametrize(
  'source, repository',
  [
    ('owner/name@abc', 'owner/name .revision abc'),
    ('paradetox', 's-nlp/paradetox .revision main'),
    ('jigsaw:owner/name', 'owner/name .revision main'),
  ],
)
def test_a_hub_that_cannot_be_reached_is_named(monkeypatch, source, repository):
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', False)
  monkeypatch.setattr(socket, 'getaddrinfo', refuse_network)
  with pytest.raises(
    InputError, match=f'{repository}.*cannot be reached.*pass the file or folder'
  ) as caught:
    load(source)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'status, code, words',
  [
    (401, '', 'refused .*401 '),
    (401, 'RepoNotFound', 'not found, or private'),
    (403, 'GatedRepo', '.*set HF_TOKEN'),
    (404, 'RevisionNotFound', 'has no such revision'),
    (429, '', 'refused .*429 '),
    (500, '', 'refused .*500 '),
  ],
)
def test_a_hub_that_refuses_is_explained(monkeypatch, status, code, words):
  class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # pylint: disable=invalid-name
      self.send_response(status)
      self.send_header('X-Error-Code', code)
      self.end_headers()

    def log_message(self, *_):
      pass

  with http.server.HTTPServer(('localhost', 0), Hub) as hub:
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    monkeypatch.setattr(
      huggingface_hub.constants, 'ENDPOINT', f'http://localhost:{hub.server_port}'
    )
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', False)
    with pytest.raises(InputError, match=f'owner/name .revision main.: {words}') as caught:
      load('owner/name')
    hub.shutdown()
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'file, problem',
  [
    ('hf://datasets/owner/name@5a/train.jsonl', None),
    ('hf://datasets/owner/other@5a/train.jsonl', 'outside'),
    ('/etc/train.jsonl', 'outside'),
  ],
)
def test_a_hub_that_answers_is_asked_once_with_a_limit(monkeypatch, file, problem):
  calls, patience = [], []
  builder = mock.Mock(**{'as_dataset.return_value': [{'text': 'a b'}]})
  builder.download_and_prepare.side_effect = lambda: patience.append(
    huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
  )
  builder.config.data_files = {'train': [file]}
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', False)
  monkeypatch.setattr(
    huggingface_hub.HfApi, 'dataset_info', lambda _, *args, **named: calls.append((args, named))
  )
  monkeypatch.setattr(
    datasets, 'load_dataset_builder', lambda *args, **named: calls.append((args, named)) or builder
  )
  if problem:
    with pytest.raises(InputError, match=problem):
      load('owner/name@5a')
    assert not builder.download_and_prepare.called
  else:
    assert load('owner/name@5a', split='test')[0] == [
      {'prompt': 'a', 'original': ' b', 'label': None}
    ]
    builder.as_dataset.assert_called_once_with('test')
    assert (
      patience == [hub_limits.SILENCE]
      and huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT > hub_limits.SILENCE
    )
  assert calls == [
    (('owner/name',), {'revision': '5a', 'timeout': 10}),
    (('owner/name',), {'revision': '5a'}),
  ]


def test_offline_nobody_is_asked(monkeypatch):
  for constants in (huggingface_hub.constants, datasets.config):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  monkeypatch.setattr(huggingface_hub.HfApi, 'dataset_info', refuse_network)
  with pytest.raises(InputError, match='owner/name .revision main.*pass the file or folder'):
    load('owner/name')


@pytest.mark.parametrize(
  'source',
  [
    'absent.jsonl',
    'data/absent.jsonl.gz',
    'owner/name.csv',
    '../absent',
    'a',
    '',
    'paradetox:absent.tsv',
    'unknown:owner/name',
  ],
)
def test_bad_places_are_refused(source):
  with pytest.raises(ConfigError, match='is not a file, a folder or a hub id'):
    load(source)


def test_the_playground_is_the_same_at_every_call():
  read, counts = load('playground', playground_comments=200)
  assert len(read) == counts['rows'] == counts['labelled'] == 200 and 0 < counts['toxic'] < 200
  assert all(row['prompt'] and row['original'].startswith(' ') for row in read)
  assert read == load('playground', playground_comments=200)[0]
