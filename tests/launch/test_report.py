"""report.py: the page's path on stdout, and one line about a bad folder."""

import json
import pathlib
import subprocess
import sys

import pytest

from irl_jax import config as config_lib
from irl_jax.runtime import workdir

LAUNCHER = pathlib.Path(__file__).parents[2] / 'launch' / 'report.py'


@pytest.fixture
def run(tmp_path):
  """The folder of a run with hardly any results."""
  config = workdir.plain(config_lib.Config(name='bare'))
  workdir.write_json(tmp_path / 'config.json', {'config': config, 'versions': {}})
  (tmp_path / 'summary.json').write_text(json.dumps({'rlhf': {'before': {}, 'after': {}}}))
  return tmp_path


def test_the_path_of_the_page_is_printed(launch, run, capsys):
  assert launch('report', f'--workdir={run}') == 0
  assert capsys.readouterr().out == f'{run / "report.html"}\n'
  assert 'irl_jax report · bare' in (run / 'report.html').read_text()


@pytest.mark.parametrize(
  'arguments, message',
  [
    ((), '--workdir is missing'),
    (('--workdir=',), '--workdir is missing'),
    (('--workdir=nowhere',), '--workdir=nowhere is not the folder of a run'),
    (('--workdri=x',), 'did you mean --workdir?'),
    (('x',), "unexpected argument 'x'"),
  ],
)
def test_mistakes_are_one_line(launch, tmp_path, monkeypatch, capsys, arguments, message):
  monkeypatch.chdir(tmp_path)
  assert launch('report', *arguments) == 2
  shown = capsys.readouterr().err
  assert message in shown and shown.count('\n') == 1 and list(tmp_path.iterdir()) == []


def test_the_message_for_an_unfinished_run_says_how_to_finish(launch, run, capsys):
  (run / 'summary.json').unlink()
  assert launch('report', f'--workdir={run}') == 2
  assert 'finish the run first' in capsys.readouterr().err


def test_help_loads_neither_jax_nor_matplotlib():
  script = f"""import runpy, sys
sys.argv = ['report.py', '--help']
try:
  runpy.run_path({str(LAUNCHER)!r}, run_name='__main__')
except SystemExit as end:
  print(end.code, sorted({{'jax', 'matplotlib', 'jinja2', 'numpy'}} & set(sys.modules)))"""
  out = subprocess.run(
    [sys.executable, '-c', script],
    capture_output=True,
    text=True,
    check=True,
    cwd=LAUNCHER.parents[1],
  ).stdout
  assert '--workdir: the folder of the run' in out and out.endswith('0 []\n')
