"""Local names that hide an imported module, which neither ruff nor mypy reports."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / 'irl_jax'
FILES = sorted(PACKAGE.rglob('*.py'))


def imported(tree):
  """Names that a file's imports bind."""
  imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
  return {(alias.asname or alias.name).split('.')[0] for node in imports for alias in node.names}


def bound(tree):
  """(name, line) of every parameter and every variable of a function."""
  functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
  for node in (node for function in functions for node in ast.walk(function)):
    if isinstance(node, ast.arg):
      yield node.arg, node.lineno
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
      yield node.id, node.lineno


def shadowed(source):
  tree = ast.parse(source)
  names = imported(tree)
  return sorted({f'line {line}: {name}' for name, line in bound(tree) if name in names})


@pytest.mark.parametrize('path', FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_no_local_name_hides_an_imported_module(path):
  assert shadowed(path.read_text()) == []


def test_parameters_and_variables_are_both_seen():
  source = """import os
from a import b as c

def f(os, x):
  c = lambda b: b

class D:
  os: int
"""
  assert shadowed(source) == ['line 4: os', 'line 5: c']
