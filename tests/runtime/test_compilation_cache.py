"""The compilation cache: its folder, a second start that compiles nothing, and its failures."""

import pathlib
import subprocess
import sys

import pytest

from irl_jax.runtime import compilation_cache

PROGRAM = """
import os, warnings
for name in [name for name in os.environ if name.startswith('JAX_') and name != 'JAX_PLATFORMS']:
  del os.environ[name]  # what this machine's Python sets at its start
warnings.simplefilter('error')
import jax
from irl_jax.runtime import compilation_cache
compilation_cache.use()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
assert jax.jit(lambda x: x * 2 + 1)(3.0) == 7
cache = '/jax/compilation_cache/'
print(hits.count(cache + 'cache_hits'), hits.count(cache + 'cache_misses'))
"""


def start(cache_home: pathlib.Path, before: str = '') -> tuple[int, int]:
  """Counts the functions that a new process reads from the cache, and those that it compiles."""
  environment = {'XDG_CACHE_HOME': str(cache_home), 'JAX_PLATFORMS': 'cpu', 'PATH': ''}
  root = pathlib.Path(__file__).parents[2]
  done = subprocess.run(
    [sys.executable, '-c', before + PROGRAM],
    env=environment,
    cwd=root,
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  hits, misses = map(int, done.stdout.split())
  return hits, misses


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path):
  hits, misses = start(tmp_path)
  assert hits == 0 < misses and list((tmp_path / 'irl_jax' / 'xla').iterdir())
  assert start(tmp_path) == (misses, 0)


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
  (tmp_path / 'irl_jax').write_text('a file stands where the folder would')
  hits, _ = start(tmp_path)
  assert hits == 0


@pytest.mark.slow
def test_a_full_disk_is_no_error(tmp_path):
  hits, misses = start(
    tmp_path, 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n'
  )
  assert hits == 0 < misses and not any(
    file.stat().st_size for file in (tmp_path / 'irl_jax' / 'xla').iterdir()
  )
  hits, _ = start(tmp_path)  # what could not be written is no error later either
  assert hits == 0


@pytest.mark.slow
def test_entries_that_were_cut_short_are_compiled_again(tmp_path):
  start(tmp_path)
  for entry in (tmp_path / 'irl_jax' / 'xla').glob('*-cache'):
    entry.write_bytes(entry.read_bytes()[:20])
  hits, _ = start(tmp_path)
  assert hits == 0


@pytest.mark.parametrize(
  'value, expected',
  [
    ('/somewhere', '/somewhere/irl_jax/xla'),
    ('', '/home/me/.cache/irl_jax/xla'),
    ('relative', '/home/me/.cache/irl_jax/xla'),
  ],
)
def test_the_cache_is_in_the_cache_folder_of_the_user(monkeypatch, value, expected):
  monkeypatch.setenv('XDG_CACHE_HOME', value)
  monkeypatch.setenv('HOME', '/home/me')
  assert compilation_cache.folder() == pathlib.Path(expected)
