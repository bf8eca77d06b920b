"""The Python API: load models and rewards, score texts, generate completions, recover a reward."""

from irl_jax.api.inference import generate
from irl_jax.api.inference import load_log_ratio
from irl_jax.api.inference import load_model
from irl_jax.api.inference import load_reward
from irl_jax.api.inference import load_scorer
from irl_jax.api.inference import log_ratio
from irl_jax.api.inference import score
from irl_jax.api.recovery import recover
from irl_jax.api.recovery import RecoveryResult

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
