"""Recovers the reward that a language model was trained for, by inverse reinforcement learning in JAX.

`irl_jax.load_reward(path)(["text"])` scores texts; the rest of the Python API is in irl_jax/api.py. Nothing heavy is
imported before it is used.
"""

import importlib
import os

from irl_jax.version import __version__ as __version__

__all__ = ('generate', 'load_model', 'load_reward', 'score')

os.environ.setdefault('HF_HUB_DISABLE_TELEMETRY', '1')  # read when huggingface_hub is imported
os.environ.setdefault(
  'TRANSFORMERS_NO_ADVISORY_WARNINGS', '1'
)  # it would miss torch, which we do without


def __getattr__(name: str):
  """Imports the API on first use (PEP 562)."""
  if name in __all__:
    return getattr(importlib.import_module('irl_jax.api'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted(set(globals()) | set(__all__))
