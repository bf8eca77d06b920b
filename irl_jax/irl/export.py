"""A recovered reward as an ordinary GPTNeoXForSequenceClassification: bound, centre and scale folded in, exactly."""

import dataclasses
from typing import Any

import jax
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained


def check(irl: config_lib.IRL) -> None:
  """Only what is read at the last token has this form.

  Raises:
    ConfigError: the reward is the mean over all tokens.
  """
  if irl.pooling != 'last':
    raise errors.ConfigError(
      f'config.irl.pooling = {irl.pooling}: transformers has no model of that form, so it '
      'cannot be exported; set last (studies/recovery.py compares the two)'
    )


def fold(trunk: gpt_neox.Params, direction: np.ndarray, zero: float) -> gpt_neox.Params:
  """Parameters whose score is (R̂ - zero) / (1 + |zero|), which still lies within [-1, 1].

  R̂ = <w, z> / sqrt(D) with unit w [D] and normalised last state z. The final layer norm gets the gain
  1 / (sqrt(D) (1 + |zero|)) and the bias -zero / (1 + |zero|) w, the score w, since <w, w> = 1.

  Args:
    trunk: embed_in and blocks.
    direction: the reward head's, of any norm, [D].
    zero: the R̂ that becomes 0.
  """
  unit = np.asarray(direction, np.float64) / np.linalg.norm(np.asarray(direction, np.float64))
  shrink = 1 / (1 + abs(zero))
  return {
    'embed_in': trunk['embed_in'],
    'blocks': trunk['blocks'],
    'final_layer_norm': {
      'scale': np.full(len(unit), shrink / len(unit) ** 0.5, np.float32),
      'bias': (-zero * shrink * unit).astype(np.float32),
    },
    'score': {'kernel': unit.astype(np.float32)[:, None]},
  }


def reward_model(
  base: pretrained.Pretrained, trained: Any, frozen: Any, zero: float
) -> pretrained.Pretrained:
  """The recovered reward, centred at `zero`, ready to be scored with or saved."""
  params = cut_lib.join(jax.device_get(trained), jax.device_get(frozen))
  folded = fold(params, params['reward_head']['direction'], zero)
  return dataclasses.replace(base, kind='reward', params=jax.tree.map(np.asarray, folded))
