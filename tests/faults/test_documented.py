"""docs/faults.md against the code and the tests."""

import ast
import functools
import pathlib
import re

import documented
import pytest

from irl_jax import errors
from irl_jax.runtime import interruption

ROOT = documented.PAGE.parents[1]


def test_every_fault_of_the_page_is_named_by_a_test():
  tests = '\n'.join(
    path.read_text(encoding='utf-8') for path in (ROOT / 'tests').rglob('test_*.py')
  )
  assert len(documented.rows()) > 60
  assert [fault for fault in documented.rows() if fault not in tests] == []


@pytest.mark.parametrize('problem', documented.problems(), ids=lambda problem: problem.what[:40])
def test_a_problem_is_answered_as_the_page_says(problem):
  # Its messages are those of faults, each of which a test compares with what is printed.
  for message in problem.messages:
    found = [
      row
      for row in documented.rows().values()
      if re.search(documented.pattern(message), row.printed, re.DOTALL)
    ]
    assert found, f'no fault of the page prints {message!r}'
    assert any(row.codes & problem.codes for row in found), f'{message!r} has another exit code'
  assert problem.codes and problem.tests
  for test in problem.tests:
    path, _, name = test.partition('::')
    assert path.startswith('tests/') and pathlib.PurePath(path).match('test_*.py'), test
    assert name.startswith('test_') and name in functions_of(path), f'{test} is not collected'


@functools.cache
def functions_of(path: str) -> set[str]:
  """Returns the names of the functions at the top of a module, which pytest collects."""
  body = ast.parse((ROOT / path).read_text(encoding='utf-8')).body
  return {node.name for node in body if isinstance(node, ast.FunctionDef)}


def test_all_thirty_problems_are_on_the_page():
  assert len({problem.what for problem in documented.problems()}) == 30


def test_the_exit_codes_are_those_of_the_errors():
  page = documented.PAGE.read_text(encoding='utf-8')
  table = page.partition('| exit code | meaning | error class |\n')[2].partition('\n\n')[0]
  meant: dict[str, set[int]] = {}
  for line in table.splitlines()[1:]:
    codes, _, classes = documented.cells_of(line)
    for name in re.findall(r'`(\w+)`', classes):
      meant[name] = set(map(int, codes.split(', ')))
  kinds: list[type[errors.IrlJaxError]] = [errors.IrlJaxError]
  kinds += errors.IrlJaxError.__subclasses__()
  fixed = {
    error.__name__: {error.exit_code}
    for error in kinds
    if error not in (errors.OtherProcessError, interruption.Interrupted)
  }
  assert meant == fixed | {
    'Interrupted': {interruption.Interrupted(signum).exit_code for signum in (2, 15)}
  }


@pytest.mark.parametrize(
  'printed, message, same',
  [
    ('step 4 of RUN', 'step 12 of RUN', True),
    ('step 4: … damaged', 'step 4: a (b) is damaged', True),
    ('is 0.11 (allowed 0.0001)', 'is 0.9 (allowed 0.05)', True),
    ('step 4', 'stage 4', False),
    ('step 4', 'step 4 and more', False),
  ],
)
def test_numbers_are_examples_and_an_ellipsis_is_any_text(printed, message, same):
  assert bool(re.fullmatch(documented.pattern(printed), message)) == same
