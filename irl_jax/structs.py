"""State and batches: arrays only, with the shape of each.

Dims: B examples, P prompt, T response, S = P + T, D width.
"""

from typing import Any

from flax import struct

# A NumPy array on the host, a JAX array on the devices: the same batch is built on the one and read
# on the other, and a static type cannot tell where it is.
Array = Any


@struct.dataclass
class TrainState:
  """The state that an update changes. Its field names are in checkpoints."""

  step: Array  # [] int32: updates so far
  params: Any  # only the trained parameters
  opt_state: Any
  skipped: Array  # [] int32: updates that were skipped because a gradient was not finite
  skipped_in_row: Array  # [] int32: consecutive skipped updates


@struct.dataclass
class PromptBatch:
  """Left-padded prompts."""

  ids: Array  # [B, P] int32
  valid: Array  # [B, P] bool
  # [B] uint32: folded into the key, so that samples do not depend on the device count
  index: Array


@struct.dataclass
class Responses:
  """Sampled responses."""

  ids: Array  # [B, T] int32; EOS after the first EOS
  length: Array  # [B] int32: tokens with EOS
  # [B, T] float32, as computed by the decode loop, under the untruncated distribution
  log_probs: Array


@struct.dataclass
class Experience:
  """Sampled sequences and their scores, from which a rollout is computed."""

  ids: Array  # [B, S] int32: left-padded prompt, response
  valid: Array  # [B, S] bool
  response_mask: Array  # [B, T] bool: response tokens with EOS
  score: Array  # [B] float32: score of the whole response, scaled and clipped


@struct.dataclass
class Rollout:
  """All inputs of the PPO epochs on one rollout."""

  ids: Array  # [B, S] int32
  valid: Array  # [B, S] bool
  response_mask: Array  # [B, T] bool
  cut_hidden: Array | None  # [B, S, D] states at the lowest trained block; None if all are trained
  log_probs: Array  # [B, T] float32, under the policy that sampled
  values: Array  # [B, T] float32
  advantages: Array  # [B, T] float32, whitened
  returns: Array  # [B, T] float32


@struct.dataclass
class TextBatch:
  """Right-padded whole texts."""

  ids: Array  # [B, S] int32
  valid: Array  # [B, S] bool
  # [B, S, D] states at the lowest trained block; None: not computed yet
  cut_hidden: Array | None = None


@struct.dataclass
class LabelledBatch:
  """Right-padded texts and their classes."""

  text: TextBatch
  label: Array  # [B] int32


@struct.dataclass
class Features:
  """The outputs of a frozen trunk for some texts."""

  pooled: Array  # [B, D] float32


@struct.dataclass
class PairBatch:
  """For each prompt the aligned and the base model's text, or the features of both."""

  aligned: TextBatch | Features  # [B, ...]
  base: TextBatch | Features  # [B, ...]
  weight: Array  # [B] float32: 0 for padding pairs, and for samples that a prompt lacks
  # [B, S] float32: how likely the aligned text is the better one, for every prefix; the last column
  # is that of the whole texts; None: it is better
  label: Array | None = None
