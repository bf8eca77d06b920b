"""Garbage collection while a command's packages are imported."""

import gc
import sys
import types

import pytest

from irl_jax.runtime import host_memory


def test_nothing_is_collected_during_imports_and_modules_are_left_alone_afterwards(monkeypatch):
  calls = []
  for name in ('disable', 'freeze', 'enable'):
    monkeypatch.setattr(gc, name, lambda name=name: calls.append(name))
  monkeypatch.setitem(sys.modules, 'imported_before', types.ModuleType('imported_before'))
  with host_memory.importing('imported_before'):
    pass
  assert not calls
  with pytest.raises(ImportError), host_memory.importing('no_such_module'):
    assert calls == ['disable']
    import no_such_module  # noqa: F401
  assert calls == ['disable', 'freeze', 'enable']
