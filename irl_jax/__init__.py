"""Recovers the reward that a language model was trained for, by inverse reinforcement learning.

`irl_jax.recover(base, aligned).reward(["text"])` is the whole path, and `irl_jax.load_reward(path)`
loads a reward that exists. The rest of the API is in irl_jax/api. JAX is imported on first use.
"""

import importlib
import os
from typing import Any
from typing import TYPE_CHECKING

from irl_jax.version import __version__ as __version__

if TYPE_CHECKING:
  from irl_jax.api import generate
  from irl_jax.api import load_log_ratio
  from irl_jax.api import load_model
  from irl_jax.api import load_reward
  from irl_jax.api import load_scorer
  from irl_jax.api import log_ratio
  from irl_jax.api import recover
  from irl_jax.api import RecoveryResult
  from irl_jax.api import score

__all__ = (
  'RecoveryResult',
  'generate',
  'load_log_ratio',
  'load_model',
  'load_reward',
  'load_scorer',
  'log_ratio',
  'recover',
  'score',
)

os.environ.setdefault('HF_HUB_DISABLE_TELEMETRY', '1')  # read when huggingface_hub is imported
# transformers would warn that torch is missing, which is not needed.
os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')


def __getattr__(name: str) -> Any:
  """Imports the API on first use (PEP 562)."""
  if name in __all__:
    return getattr(importlib.import_module('irl_jax.api'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted(set(globals()) | set(__all__))
