"""A recovered reward as an ordinary ForSequenceClassification of transformers.

Bound, zero and scale are folded into its parameters, exactly.

Dims: D width.
"""

import dataclasses

import jax
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax.irl import reward as reward_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.models import trunk as trunk_lib


def check(irl: config_lib.IRL) -> None:
  """Checks that the reward can be exported, which requires last-token pooling.

  Raises:
    ConfigError: the reward is the mean over all tokens.
  """
  if irl.pooling != 'last':
    raise errors.ConfigError(
      f'config.irl.pooling = {irl.pooling}: {irl.pooling}-pooled rewards cannot be exported '
      '(transformers has no such model); set config.irl.pooling=last (studies/recovery.py compares '
      'the two)'
    )


def fold(
  trunk: trunk_lib.Params, direction: np.ndarray, zero: float, config: trunk_lib.Config
) -> trunk_lib.Params:
  """Returns parameters whose score is (R̂ - zero) / (1 + |zero|), which still lies within [-1, 1].

  Args:
    trunk: embed_in and blocks.
    direction: the reward head's direction [D], of any norm.
    zero: the R̂ that becomes 0.
    config: the model's shape.
  """
  # The score stores the direction in float32. What the zero becomes uses the stored direction, so
  # that the two agree to the last bit, whichever zero is folded in.
  unit = _unit(_unit(direction).astype(np.float32))
  kept = {name: trunk[name] for name in ('embed_in', 'blocks')}
  return kept | trunk_lib.fold(unit, zero, config)


def _unit(direction: np.ndarray) -> np.ndarray:
  """Returns the direction [D] scaled to Euclidean norm 1, in float64."""
  direction = np.asarray(direction, np.float64)
  return direction / np.linalg.norm(direction)


def reward_model(
  base: pretrained.Decoder, parts: reward_lib.Parts, zero: float = 0.0
) -> pretrained.Decoder:
  """Returns the reward of these parts as a model that can score and be saved.

  Args:
    base: the model whose shape and tokenizer are used.
    parts: (trained, frozen) parameters, as `loop.train` returns them.
    zero: the R̂ that becomes 0; by default the reward stays as it was trained.
  """
  trained, frozen = jax.device_get(parts)
  params = cut_lib.join(trained, frozen)
  folded = fold(params, params['reward_head']['direction'], zero, base.config)
  return dataclasses.replace(base, kind='reward', params=jax.tree.map(np.asarray, folded))
