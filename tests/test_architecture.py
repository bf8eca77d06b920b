"""The packages of irl_jax import as docs/architecture.md says: from rows above their own only."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'irl_jax'
ROWS = (  # as in docs/architecture.md, from the bottom up
  ('config', 'settings', 'errors', 'structs', 'confidence', 'version'),
  ('runtime',),
  ('data',),
  ('models',),
  ('distribution', 'streams', 'sampling', 'scoring', 'rewards'),
  ('training',),
  ('ppo', 'irl'),
  ('evaluation',),
  ('report',),
  ('stages',),
  ('pipeline', 'api', 'command_line', '__init__'),
)
ROW_OF = {room: number for number, rooms in enumerate(ROWS) for room in rooms}
APART = {  # rooms that never import these, though their rows are above
  'ppo': {'irl'},
  'irl': {'ppo'},
  'evaluation': {'training', 'ppo', 'irl'},
  'report': {'data', 'models', 'sampling', 'rewards', 'training', 'ppo', 'irl', 'evaluation'},
}


def room_of(path):
  first = path.relative_to(PACKAGE).parts[0]
  return first.removesuffix('.py')


def imported(path):
  """Rooms that a file imports from, and modules by their full name."""
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'irl_jax':
      for alias in node.names:
        yield f'{node.module}.{alias.name}'


@pytest.mark.parametrize('room', sorted(ROW_OF))
def test_a_package_imports_from_rows_above_its_own_only(room):
  paths = [path for path in PACKAGE.rglob('*.py') if room_of(path) == room]
  for path in paths:
    for name in imported(path):
      other = name.split('.')[1]
      if other == '__version__' or other == room:
        continue
      assert ROW_OF[other] <= ROW_OF[room], f'{path} imports {name}'
      assert other not in APART.get(room, ()), f'{path} imports {name}'


def test_every_module_has_a_row():
  assert {room_of(path) for path in PACKAGE.rglob('*.py')} <= set(ROW_OF)


def test_there_is_no_import_circle():
  modules = {
    '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts): path
    for path in PACKAGE.rglob('*.py')
  }
  needs = {}
  for name, path in modules.items():
    found = set()
    for target in imported(path):
      found |= {target, target.rpartition('.')[0]} & set(modules)
    needs[name] = found - {name}
  while needs:
    free = {name for name, others in needs.items() if not others & set(needs)}
    assert free, f'these import each other: {sorted(needs)}'
    needs = {name: others for name, others in needs.items() if name not in free}
