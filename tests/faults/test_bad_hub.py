"""A hub that is offline, unreachable, refusing or stalled."""

import http.server
import json
import threading

import commands
import huggingface_hub
import pytest

from irl_jax.runtime import hub_limits

MODEL = 'owner/absent@v1'


class Server(http.server.ThreadingHTTPServer):
  """A server that tells its handlers what to answer."""

  daemon_threads = True

  def __init__(self, status: int | None):
    super().__init__(('127.0.0.1', 0), Hub)
    self.status, self.ended = status, threading.Event()


class Hub(http.server.BaseHTTPRequestHandler):
  """Answers with `server.status`; for 200, it lists a file and goes silent in the middle of it."""

  server: Server

  def do_GET(self):  # pylint: disable=invalid-name
    file: dict[str, str | int] = {
      'type': 'file',
      'path': 'config.json',
      'rfilename': 'config.json',
      'size': 1000,
    }
    file['oid'] = 'b' * 40
    repository = {'id': 'owner/absent', 'sha': 'a' * 40, 'siblings': [file]}
    stalls = '/resolve/' in self.path
    content = json.dumps([file] if '/tree/' in self.path else repository).encode()
    content = b'{' if stalls else content
    self.send_response(self.server.status or 200)
    self.send_header('Content-Length', '1000' if stalls else str(len(content)))
    self.send_header('ETag', '"' + 'b' * 40 + '"')
    self.send_header('X-Repo-Commit', 'a' * 40)
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(content)
      self.wfile.flush()
      if stalls:
        self.server.ended.wait(60)

  do_HEAD = do_GET  # pylint: disable=invalid-name

  def log_message(self, *_):
    pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
  """Starts a hub on this machine that answers with a status, or that is gone if it is None."""
  servers = []

  def start(status: int | None) -> None:
    server = Server(status)
    servers.append(server)
    if status:
      threading.Thread(target=server.serve_forever, daemon=True).start()
    else:
      server.server_close()
    address = f'http://127.0.0.1:{server.server_port}'
    for name, value in {
      'ENDPOINT': address,
      'HF_HUB_OFFLINE': False,
      'HF_HUB_CACHE': str(tmp_path / 'cache'),
      'HUGGINGFACE_CO_URL_TEMPLATE': address + '/{repo_id}/resolve/{revision}/{filename}',
    }.items():
      monkeypatch.setattr(huggingface_hub.constants, name, value)

  yield start
  for server in servers:
    server.ended.set()


FAULTS = {
  'unreachable': None,
  'the hub answers 401': 401,
  'the hub answers 404': 404,
  'the hub answers 429': 429,
  'a connection that stalls within a file': 200,
}


@pytest.mark.slow
@pytest.mark.parametrize('fault', FAULTS)
def test_a_hub_that_gives_no_model_ends_the_command(
  fault, hub, folder, ends_as_documented, monkeypatch
):
  monkeypatch.setattr(hub_limits, 'SILENCE', 0.2)
  hub(FAULTS[fault])
  ends_as_documented(fault, 'score', commands.score(folder, model=MODEL))


def test_offline_only_the_cache_is_read(folder, ends_as_documented):
  ends_as_documented('offline, and not in the cache', 'score', commands.score(folder, model=MODEL))
