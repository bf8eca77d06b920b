"""Flags, fields, defaults and exit codes that the documentation quotes are those of the code."""

import importlib
import pathlib
import re

from absl import flags
import pytest

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax.command_line import config_files
from irl_jax.command_line import config_flags
from irl_jax.command_line import console
from irl_jax.command_line import launch
from irl_jax.runtime import interruption

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')])
COMMAND = re.compile(
  r'(?:launch/(?P<script>(?!test_)\w+)\.py|irl-jax (?P<command>[a-z]\w*))(?P<rest>[^\n`]*)'
)
SECONDS = {'s': 1, 'minutes': 60, 'hour': 3600, 'hours': 3600}


def flags_of(command: str) -> flags.FlagValues:
  """Every flag of a command, with those of the config fields."""
  values = importlib.import_module(f'irl_jax.command_line.{command}').define_flags()
  launch._define_common(values)
  if 'config' in values:
    config_flags.define(values, config_lib.Config(), 'config.')
  return values


def unknown_in_commands(text: str) -> list[str]:
  """Commands, flags and configs that the commands of a page name and that do not exist."""
  unknown = []
  for match in COMMAND.finditer(text.replace('\\\n', ' ')):
    command = match['script'] or match['command']
    if command not in console.COMMANDS:
      unknown.append(f'command {command}')
      continue
    known = flags_of(command)
    for name, value in re.findall(r'--([\w.]+)(?:=([^\s\]\'",]+))?', match['rest']):
      if name not in known and name.removeprefix('no') not in known:
        unknown.append(f'{command} --{name}')
      elif name == 'config' and (value in config_files.names() or value.startswith('configs/')):
        unknown += [] if (ROOT / value).exists() or '/' not in value else [value]
  return unknown


def unknown_fields(text: str) -> list[str]:
  """Names in the form of config fields that no config has: `--config.a.b`, `config.a.b`."""
  known = set(flags_of('train'))
  sections = {name.rpartition('.')[0] for name in known}
  return [
    name
    for name in re.findall(r'(?:--|`)(config\.[a-z_]+(?:\.[a-z_]+)*)(?=[=`\s])', text)
    if name not in known and name not in sections and not name.endswith(('.json', '.py'))
  ]


def wrong_defaults(text: str) -> list[str]:
  """Returns defaults quoted as `--flag` (100 s) or `config.a.b` (default 3) that are wrong."""
  values, wrong = flags_of('train'), []
  quoted = re.findall(
    r'`(?:--)?((?:config\.)?[\w.]+)` \((default:? )?([\d.]+(?:e-?\d+)?)(?: (s|minutes|hours?))?\)',
    text,
  )
  for name, default, number, unit in quoted:
    if name not in values or not (default or unit):
      continue
    if float(number) * SECONDS.get(unit, 1) != values[name].value:
      wrong.append(f'{name} is {values[name].value}, not {number} {unit}')
  return wrong


def exit_codes() -> set[int]:
  """Returns every exit code of a command, except for JAX's."""
  kinds = [errors.IrlJaxError]
  for kind in kinds:
    kinds += kind.__subclasses__()
  signals = {interruption.Interrupted(number).exit_code for number in (2, 15)}
  return {0} | signals | {kind.exit_code for kind in kinds if 'exit_code' in vars(kind)}


def quoted_exit_codes(text: str) -> set[int]:
  """The codes of the paragraph that lists them: '0 done · 2 bad ... · 130, 143 interrupted'."""
  (paragraph,) = re.findall(r'0 done · .*?(?:\n\n|\Z)', text, re.DOTALL)
  return {
    int(number)
    for item in paragraph.split('·')
    for number in re.match(r'\s*([\d, ]*)', item)[1].replace(',', ' ').split()
  }


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_quotes_is_what_the_code_has(page):
  text = page.read_text(encoding='utf-8')
  if page.name != 'faults.md':  # quotes mistakes on purpose
    assert not unknown_in_commands(text)
    assert not unknown_fields(text)
  assert not wrong_defaults(text)
  if '0 done · ' in text:
    assert quoted_exit_codes(text) == exit_codes()


@pytest.mark.parametrize(
  'text, found',
  [
    ('python launch/train.py --config=configs/tiny.py --config.ppo.steps=3 --dry_run', []),
    ('irl-jax train --config=tiny \\\n  --config.ppo.stepz=3', ['train --config.ppo.stepz']),
    ('`launch/score.py --modle=M`', ['score --modle']),
    ('irl-jax audit --base=M', ['command audit']),
    ('python launch/train.py --config=configs/toy.py', ['configs/toy.py']),
    ('irl-jax train --config=mine.py --noconfig.ppo.subtract_original', []),
  ],
)
def test_what_commands_name_is_found(text, found):
  assert unknown_in_commands(text) == found


def test_fields_defaults_and_exit_codes_are_found():
  assert unknown_fields('`config.ppo.steps` --config.irl=3 `config.json`') == []
  assert unknown_fields('`config.ppo.stepz` and --config.iirl.seeds=3 ') == [
    'config.ppo.stepz',
    'config.iirl.seeds',
  ]
  assert wrong_defaults('`--stuck_timeout` (1 hour), `config.irl.seeds` (default 3)') == []
  assert len(wrong_defaults('`--stuck_timeout` (2 hours), `config.irl.seeds` (default 4)')) == 2
  assert quoted_exit_codes('0 done · 2 bad 3 · 130, 143 interrupted\n\n7 x') == {0, 2, 130, 143}
  assert exit_codes() == {0, 1, 2, 3, 4, 5, 130, 143}
