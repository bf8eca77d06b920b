"""A recovered reward as an ordinary ForSequenceClassification of transformers.

Bound, zero and scale are folded into its parameters, exactly.

Dims: N texts, B texts of a batch, D width.
"""

from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import scoring
from irl_jax import structs
from irl_jax.irl import frozen as frozen_lib
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


def scores(
  model: pretrained.Decoder,
  texts: Sequence[scoring.Tokens],
  irl: config_lib.IRL,
  outputs: frozen_lib.Outputs,
  dtype: DTypeLike,
) -> np.ndarray:
  """Returns the scores [N] of a `reward_model` with what is known of its frozen layers' outputs.

  Args:
    model: the reward.
    texts: token lists [N].
    irl: its number of trained blocks is used.
    outputs: the frozen layers' outputs for the texts.
    dtype: the compute type.
  """
  if outputs.features is not None:
    return np.asarray(trunk_lib.score(model.params, jnp.asarray(outputs.features), model.config))
  parts = cut_lib.split(model.params, irl.trained_blocks)
  return frozen_lib.over_tokens(score_of_parts, model, parts, dtype, outputs.states)(texts)


def score_of_parts(
  parts: reward_lib.Parts, batch: structs.TextBatch, *, config: trunk_lib.Config, dtype: DTypeLike
) -> jax.Array:
  """Returns the scores [B] of a `reward_model`, whose parameters are cut, at the last token."""
  last = reward_lib.features(parts, batch, config=config, dtype=dtype, pooling='last')
  trained, frozen = parts
  return trunk_lib.score({**frozen, **trained}, last.astype(jnp.float32), config)
