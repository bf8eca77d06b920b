"""State and batches: arrays only, with the shape of each.

Dims: B examples, P prompt, T response, S = P + T, D width.
"""

from typing import Any

from flax import struct
import jax


@struct.dataclass
class TrainState:
  """What an update changes."""

  step: jax.Array  # [] int32: updates so far
  params: Any  # the trained parameters only
  opt_state: Any
  skipped: jax.Array  # [] int32: updates left out because a gradient was not finite
  skipped_in_row: jax.Array  # [] int32: those since the last update that was not


@struct.dataclass
class PromptBatch:
  """Left-padded prompts."""

  ids: jax.Array  # [B, P] int32
  valid: jax.Array  # [B, P] bool
  index: (
    jax.Array
  )  # [B] uint32: folded into the key, so that samples do not depend on the device count


@struct.dataclass
class Responses:
  """Sampled responses."""

  ids: jax.Array  # [B, T] int32; what follows EOS is EOS
  length: jax.Array  # [B] int32: tokens with EOS
  log_probs: jax.Array  # [B, T] float32, as the decode loop saw them (untruncated distribution)


@struct.dataclass
class Experience:
  """Sampled sequences and their scores: what a rollout is made of."""

  ids: jax.Array  # [B, S] int32: left-padded prompt, response
  valid: jax.Array  # [B, S] bool
  response_mask: jax.Array  # [B, T] bool: response tokens with EOS
  score: jax.Array  # [B] float32: of the whole response, scaled and clipped


@struct.dataclass
class Rollout:
  """All that the PPO epochs need of one rollout."""

  ids: jax.Array  # [B, S] int32
  valid: jax.Array  # [B, S] bool
  response_mask: jax.Array  # [B, T] bool
  cut_hidden: Any  # [B, S, D] at the lowest trained block, or None where everything is trained
  log_probs: jax.Array  # [B, T] float32, of the policy that sampled
  values: jax.Array  # [B, T] float32
  advantages: jax.Array  # [B, T] float32, whitened
  returns: jax.Array  # [B, T] float32


@struct.dataclass
class TextBatch:
  """Right-padded whole texts."""

  ids: jax.Array  # [B, S] int32
  valid: jax.Array  # [B, S] bool
  cut_hidden: Any = None  # [B, S, D] at the lowest trained block, or None: to be computed from ids


@struct.dataclass
class LabelledBatch:
  """Right-padded texts with a class each."""

  text: TextBatch
  label: jax.Array  # [B] int32


@struct.dataclass
class Features:
  """What a frozen trunk makes of texts."""

  pooled: jax.Array  # [B, D] float32


@struct.dataclass
class PairBatch:
  """For each prompt the aligned and the base model's text, or what a frozen trunk makes of them."""

  aligned: TextBatch | Features  # [B, ...]
  base: TextBatch | Features  # [B, ...]
  weight: jax.Array  # [B] float32: 0 for padding pairs, and for samples that a prompt lacks
