"""Hub ids, against a small hub on this machine: downloads, and a clear refusal within seconds."""

import hashlib
import http.server
import json
import shutil
import threading
import time
import urllib.parse

import huggingface_hub
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save_file

from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.models.huggingface import hub
from irl_jax.runtime import hub_limits

SHA = 'a' * 40


class Handler(http.server.BaseHTTPRequestHandler):
  """The three routes that a download takes: model info, tree, file."""

  def do_GET(self):
    path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
    server = self.server
    server.requests.append(path)
    if server.delay:
      server.ended.wait(server.delay)
    if server.status != 200:
      return self.answer(b'{"error": "refused"}', server.status)
    names = sorted(path.name for path in server.folder.iterdir())
    if path.startswith('/api/models/org/model/revision/') or path == '/api/models/org/model':
      siblings = [{'rfilename': name} for name in names]
      return self.answer(json.dumps({'id': 'org/model', 'sha': SHA, 'siblings': siblings}).encode())
    if path.startswith('/api/models/org/model/tree/'):
      return self.answer(json.dumps([self.entry(name) for name in names]).encode())
    name = path.rsplit('/', 1)[-1]
    if name not in names:
      return self.answer(b'', 404)
    if server.limits and self.command == 'GET':
      return self.answer(b'', 429, {'Retry-After': '3600'})
    content = (server.folder / name).read_bytes()
    self.answer(content, headers={'ETag': f'"{self.entry(name)["oid"]}"', 'X-Repo-Commit': SHA})

  do_HEAD = do_GET

  def entry(self, name):
    content = (self.server.folder / name).read_bytes()
    return {
      'type': 'file',
      'path': name,
      'size': len(content),
      'oid': hashlib.sha1(content).hexdigest(),
    }

  def answer(self, content, status=200, headers=None):
    self.send_response(status)
    for key, value in {'Content-Length': str(len(content)), **(headers or {})}.items():
      self.send_header(key, value)
    self.end_headers()
    if self.command == 'GET' and len(content) > self.server.stalls_after:
      self.wfile.write(content[: self.server.stalls_after])
      self.wfile.flush()
      self.server.ended.wait(20)
    elif self.command == 'GET':
      self.wfile.write(content)

  def log_message(self, *_):
    pass


@pytest.fixture
def local_hub(tmp_path, monkeypatch, language_model):
  """A server with a language model as org/model.

  It refuses (`.status`), hangs (`.delay`), goes silent within a file (`.stalls_after` bytes) or
  `.limits` downloads.
  """
  pretrained.save(tmp_path / 'repository', language_model, '')
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  server.folder, server.status, server.delay, server.requests = tmp_path / 'repository', 200, 0, []
  server.limits, server.stalls_after, server.ended = False, float('inf'), threading.Event()
  server.daemon_threads = True
  threading.Thread(target=server.serve_forever, daemon=True).start()
  address = f'http://127.0.0.1:{server.server_port}'
  monkeypatch.setattr(huggingface_hub.constants, 'ENDPOINT', address)
  monkeypatch.setattr(
    huggingface_hub.constants,
    'HUGGINGFACE_CO_URL_TEMPLATE',
    address + '/{repo_id}/resolve/{revision}/{filename}',
  )
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', False)
  yield server
  server.ended.set()
  server.shutdown()
  server.server_close()


@pytest.fixture
def waits(monkeypatch):
  """The seconds that the hub's client would have slept before another attempt."""
  seconds: list[float] = []
  monkeypatch.setattr(time, 'sleep', seconds.append)
  return seconds


def fetched(server):
  return {path.rsplit('/', 1)[-1] for path in server.requests if '/resolve/' in path}


def test_of_a_hub_id_and_a_revision_no_more_than_needed_is_fetched(local_hub, language_model):
  assert pretrained.read_config('org/model')['model_type'] == 'gpt_neox'
  assert fetched(local_hub) == {'config.json'}
  assert pretrained.describe('org/model').tokenizer('a')['input_ids']
  described = {'config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json'}
  assert fetched(local_hub) == described
  model = pretrained.load('org/model@v1')
  jax.tree.map(np.testing.assert_array_equal, model.params, language_model.params)
  assert '/api/models/org/model/revision/v1' in local_hub.requests
  assert fetched(local_hub) == described | {'model.safetensors'}
  assert model.source == 'org/model@v1'


def test_a_chat_template_in_a_file_of_its_own_is_fetched(local_hub):
  (local_hub.folder / 'chat_template.jinja').write_text("{{ messages[0]['content'] }}")
  tokenizer = pretrained.describe('org/model').tokenizer
  assert tokenizer.chat_template == "{{ messages[0]['content'] }}"


@pytest.mark.parametrize('name', ['vocab.txt', 'tokenizer.model'])
def test_other_vocabularies_than_tokenizer_json_are_fetched(local_hub, name):
  (local_hub.folder / 'tokenizer.json').rename(local_hub.folder / name)
  assert (hub.resolve('org/model', 'tokenizer') / name).is_file()


def test_bin_is_fetched_only_without_safetensors(local_hub):
  torch = pytest.importorskip('torch')
  weights = load_file(local_hub.folder / 'model.safetensors')
  torch.save(
    {name: torch.tensor(array) for name, array in weights.items()},
    local_hub.folder / 'pytorch_model.bin',
  )
  pretrained.load('org/model')
  assert 'pytorch_model.bin' not in fetched(local_hub)
  (local_hub.folder / 'model.safetensors').unlink()
  hub.resolve('org/model')
  assert 'pytorch_model.bin' in fetched(local_hub)


@pytest.mark.parametrize('spec', ['org/model', 'org/model@v1', f'org/model@{SHA}'])
def test_the_cache_serves_when_the_hub_does_not(local_hub, language_model, spec):
  pretrained.load(spec)
  local_hub.status = 503
  model = pretrained.load(spec)
  jax.tree.map(np.testing.assert_array_equal, model.params, language_model.params)


def test_an_adapter_of_the_hub_is_merged_into_its_base(local_hub, tmp_path, monkeypatch):
  (local_hub.folder).rename(tmp_path / 'base')
  local_hub.folder.mkdir()
  settings = {'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4, 'revision': 'v3'}
  settings |= {'base_model_name_or_path': 'org/another'}
  (local_hub.folder / 'adapter_config.json').write_text(json.dumps(settings))
  module = 'base_model.model.gpt_neox.layers.0.attention.dense'
  factors = {f'{module}.lora_A.weight': (2, 32), f'{module}.lora_B.weight': (32, 2)}
  save_file(
    {name: np.ones(shape, np.float32) for name, shape in factors.items()},
    local_hub.folder / 'adapter_model.safetensors',
  )
  assert pretrained.base_of('org/model') == 'org/another@v3'
  assert fetched(local_hub) == {'adapter_config.json'}
  with pytest.raises(InputError, match='org/model: its base: hub model org/another .revision v3.'):
    pretrained.load('org/model')
  spec = f'org/model@v1+{tmp_path / "base"}'
  assert pretrained.describe(spec).source == spec
  model = pretrained.load(spec)
  assert fetched(local_hub) == {'adapter_config.json', 'adapter_model.safetensors'}
  before = pretrained.load(str(tmp_path / 'base'))
  dense = lambda model: model.params['blocks']['attention']['dense']['kernel']
  np.testing.assert_allclose(dense(model)[0] - dense(before)[0], 4.0, atol=1e-5)
  # The cache serves both files when the hub does not.
  local_hub.status = 503
  np.testing.assert_array_equal(dense(pretrained.load(spec)), dense(model))
  # A base in the hub's cache: its folder is that of a snapshot.
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
  cached = tmp_path / 'cache' / 'models--org--another'
  (cached / 'refs').mkdir(parents=True)
  (cached / 'refs' / 'v3').write_text(SHA)
  shutil.copytree(tmp_path / 'base', cached / 'snapshots' / SHA)
  found = pretrained.load('org/model@v1')
  np.testing.assert_array_equal(dense(found), dense(model))


def test_files_that_are_missing_are_named(local_hub):
  pretrained.read_config('org/model')
  local_hub.status = 503
  with pytest.raises(
    InputError,
    match=r'hub model org/model \(revision main\): has no tokenizer.json \(or vocab.*, no '
    'model.safetensors or pytorch_model.bin. Pass a local folder',
  ):
    pretrained.load('org/model')


def test_a_repository_without_config_is_refused(local_hub):
  (local_hub.folder / 'config.json').unlink()
  with pytest.raises(
    InputError, match='hub model org/model .revision v2.*config.json.*Pass a local folder'
  ):
    pretrained.load('org/model@v2')


@pytest.mark.parametrize(
  'status, reason',
  [
    (401, 'private'),
    (403, 'gated'),
    (404, 'no such repository or revision'),
    (429, 'rate-limiting requests'),
    (500, '500'),
  ],
)
def test_a_refusal_of_the_hub_is_explained_without_a_second_attempt(
  local_hub, waits, status, reason
):
  local_hub.status = status
  with pytest.raises(
    InputError, match=f'hub model org/model .revision v1. .*{reason}.*Pass a local folder'
  ) as caught:
    pretrained.load('org/model@v1')
  assert not waits and '\n' not in str(caught.value)


def test_a_hub_that_hangs_or_is_not_there_is_given_up(local_hub, waits, monkeypatch):
  monkeypatch.setattr(hub, 'TIMEOUT', 0.2)
  local_hub.delay = 20
  with pytest.raises(InputError, match='cannot be downloaded: .*timed out'):
    pretrained.load('org/model')
  monkeypatch.setattr(huggingface_hub.constants, 'ENDPOINT', 'http://127.0.0.1:9')
  with pytest.raises(InputError, match='cannot be downloaded: .*Connection refused'):
    pretrained.load('org/model')
  assert not waits


def test_a_download_that_stalls_is_given_up(local_hub, waits, monkeypatch):
  monkeypatch.setattr(hub_limits, 'SILENCE', 0.2)
  local_hub.stalls_after = 5000  # in the middle of the weights: what is smaller has come
  with pytest.raises(
    InputError,
    match=r'config.json, model.safetensors, tokenizer.json, tokenizer_config.json of hub '
    r'model org/model \(revision v1\) cannot be downloaded: .*timed out. Pass a local folder',
  ):
    pretrained.load('org/model@v1')
  assert sum(path.endswith('model.safetensors') for path in local_hub.requests) == 7
  assert {*waits} == {1}
  local_hub.stalls_after = float('inf')
  assert pretrained.load('org/model@v1').params  # the next attempt finds the connection repaired


def test_a_rate_limit_is_not_waited_for(local_hub, waits):
  local_hub.limits = True
  with pytest.raises(
    InputError, match='config.json of hub model .*: the hub is rate-limiting requests .HTTP 429.'
  ):
    pretrained.load('org/model')
  assert not waits
  assert huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT != hub_limits.SILENCE


def test_offline_mode_asks_nobody(local_hub, monkeypatch):
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
  with pytest.raises(InputError, match='HF_HUB_OFFLINE'):
    pretrained.load('org/model')
  assert not local_hub.requests


def test_the_papers_classifier_is_pinned(monkeypatch, tmp_path):
  asked = []
  (tmp_path / 'config.json').write_text('{}')
  monkeypatch.setattr(hub, '_download', lambda *arguments: asked.append(arguments) or tmp_path)
  hub.resolve('s-nlp/roberta_toxicity_classifier', 'config')
  hub.resolve('s-nlp/roberta_toxicity_classifier@main', 'config')
  assert [revision for _, revision, _ in asked] == [
    '048c25bb1e199b98802784f96325f4840f22145d',
    'main',
  ]


@pytest.mark.parametrize(
  'spec', ['', './here', '../x', '/no/such/folder', 'a/b/c', '~/models', 'org/model@', 'a b']
)
def test_what_is_neither_folder_nor_hub_id_is_refused(spec):
  with pytest.raises(ConfigError, match='is neither a folder nor a hub id'):
    hub.resolve(spec)
