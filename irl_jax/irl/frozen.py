"""The outputs of a model's frozen layers, which all seeds of IRL share.

Dims: N texts, D width.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

from absl import logging
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax import errors
from irl_jax import rewards
from irl_jax import scoring
from irl_jax.irl import reward as reward_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.runtime import terminal
from irl_jax.training import fingerprint


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
  """The frozen layers' outputs for N texts. At most one field is set."""

  features: np.ndarray | None = None  # [N, D] float32: pooled states of a fully frozen trunk
  states: scoring.States | None = None  # at the lowest trained block


class FrozenOutputs:
  """The frozen layers' outputs for sets of texts, kept on the host.

  They do not depend on the seed. A set's outputs are computed when they are first asked for. The
  states at the cut of all sets together take at most `runtime.activation_cache` of memory. Nothing
  is returned for a set that does not fit: its batches then start from the tokens.
  """

  def __init__(
    self,
    base: pretrained.Decoder,
    irl: config_lib.IRL,
    dtype: DTypeLike = jnp.float32,
    runtime: config_lib.Runtime = config_lib.Runtime(),
  ) -> None:
    self._base, self._irl, self._dtype = base, irl, jnp.dtype(dtype)
    self._left = int(runtime.activation_cache * 2**30)  # bytes
    self._kept: dict[str, Outputs] = {}

  def check(self, base: pretrained.Decoder, irl: config_lib.IRL, dtype: DTypeLike) -> None:
    """Refuses to serve another training than that of these arguments.

    Raises:
      ConfigError: the outputs are those of another model, of other settings, or of another type.
    """
    if (base, irl, jnp.dtype(dtype)) != (self._base, self._irl, self._dtype):
      raise errors.ConfigError('outputs: are not those of this model, irl and dtype')

  def of(self, texts: Sequence[scoring.Tokens]) -> Outputs:
    """Returns the outputs for token lists [N], N > 0.

    Raises:
      ConfigError: config.irl.trained_blocks exceeds the model's blocks.
    """
    if self._irl.trained_blocks == -1:
      return Outputs()
    key = fingerprint.of_rows(texts)
    if key not in self._kept:
      self._kept[key] = self._computed(texts)
    return self._kept[key]

  def _computed(self, texts: Sequence[scoring.Tokens]) -> Outputs:
    parts = split_trunk(self._base, self._irl)
    if self._irl.trained_blocks == 0 and not self._irl.prefix_weight:
      return Outputs(features=features(self._base, texts, self._irl, parts, self._dtype))
    tokens = sum(map(len, texts))
    size = tokens * self._base.config.hidden_size * self._dtype.itemsize
    _report(len(texts), size, self._left)
    if size > self._left:
      return Outputs()
    self._left -= size
    below = dataclasses.replace(self._base, params=parts[1])
    return Outputs(
      states=scoring.token_states(
        reward_lib.cut_hidden, below, texts, rewards.BATCH_SIZE, self._dtype
      )
    )


def split_trunk(base: pretrained.Decoder, irl: config_lib.IRL) -> reward_lib.Parts:
  """Returns the base model's trunk, cut into trained and frozen parameters.

  Raises:
    ConfigError: config.irl.trained_blocks exceeds the model's blocks.
  """
  trunk = {name: base.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  try:
    return cut_lib.split(trunk, irl.trained_blocks)
  except ValueError as error:
    raise errors.ConfigError(f'config.irl.{error}') from error


def features(
  base: pretrained.Decoder,
  texts: Sequence[scoring.Tokens],
  irl: config_lib.IRL,
  parts: reward_lib.Parts,
  dtype: DTypeLike,
  states: scoring.States | None = None,
) -> np.ndarray:
  """Returns the trunk's pooled states [N, D] of texts.

  Args:
    base: the model whose shape is used.
    texts: token lists [N].
    irl: its pooling is used.
    parts: (trained, frozen) parameters of the trunk.
    dtype: the compute type.
    states: of the texts at the cut, where the pass then starts; None: it starts from the tokens.
  """
  run = over_tokens(reward_lib.features, base, parts, dtype, states, pooling=irl.pooling)
  return run(texts)


def over_tokens(
  forward: scoring.Forward,
  base: pretrained.Decoder,
  parts: reward_lib.Parts,
  dtype: DTypeLike,
  states: scoring.States | None = None,
  **statics: Any,
) -> Callable[[Sequence[scoring.Tokens]], np.ndarray]:
  """Returns `scoring.over_tokens` for a function of parts that can start from states at the cut."""
  trained, frozen = parts
  parts = parts if states is None else (trained, cut_lib.upper(frozen))
  return scoring.over_tokens(
    forward,
    reward_lib.with_parts(base, parts),
    base.config.max_position_embeddings,
    base.config.eos_token_id,
    rewards.BATCH_SIZE,
    dtype,
    states=states,
    **statics,
  )


def _report(count: int, size: int, left: int) -> None:
  """Logs whether the states of some texts are kept; sizes are in bytes."""
  texts, size_in_gib, left_in_gib = terminal.count(count, 'text'), size / 2**30, left / 2**30
  if size <= left:
    logging.info(
      'irl: the frozen blocks run once over %s; their outputs take %.2f GiB of host memory',
      texts,
      size_in_gib,
    )
  else:
    logging.info(
      'irl: the frozen blocks run again in every pass over %s: their outputs would take %.2f GiB, '
      'but config.runtime.activation_cache leaves %.2f GiB',
      texts,
      size_in_gib,
      left_in_gib,
    )
