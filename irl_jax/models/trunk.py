"""The contract of every decoder, and the one place that knows which there are.

A decoder is a frozen config and a module of pure functions: `init`, `embed`, `run_blocks`,
`prefill`, `decode_blocks`, `final_norm`, `normalise`, `fold`. The functions here take the module by
the type of the config. Nothing outside models/ names a decoder.

Of every decoder, the parameters have the keys embed_in, blocks, final_layer_norm and, unless the
output head is tied, embed_out. Blocks are stacked on a leading layer axis. What differs between
layers follows from the config and a layer's number, and is never a parameter.

Dims: B batch, S positions, K cache slots, D width, L layers, V vocabulary.
"""

from collections.abc import Sequence
from types import ModuleType

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax.models import gpt_neox
from irl_jax.models import layers as layers_lib
from irl_jax.models import llama

Params = layers_lib.Params
Cache = layers_lib.Cache
# What every config tells: vocab_size, hidden_size, num_hidden_layers, num_attention_heads,
# max_position_embeddings, eos_token_ids (any of them ends a response), eos_token_id (the first,
# which starts and pads a text), tie_word_embeddings, final_logit_softcapping (or None), and for the
# prediction of memory key_value_size and block_states.
Config = gpt_neox.GPTNeoXConfig | llama.LlamaConfig

_DECODERS: dict[type, ModuleType] = {gpt_neox.GPTNeoXConfig: gpt_neox, llama.LlamaConfig: llama}
decode_layers = layers_lib.decode_layers


def new_config(vocab_size: int, hidden_size: int, layers: int, heads: int) -> Config:
  """Returns the shape of a decoder that is trained from scratch: a small GPT-NeoX."""
  return gpt_neox.GPTNeoXConfig(
    vocab_size=vocab_size,
    hidden_size=hidden_size,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    intermediate_size=4 * hidden_size,
  )


def init(key: jax.Array, config: Config) -> Params:
  """Draws random parameters, float32; those of the blocks are stacked on a layer axis [L, ...]."""
  return _DECODERS[type(config)].init(key, config)


def embed(
  params: Params, ids: jax.Array, config: Config, dtype: DTypeLike = jnp.float32
) -> jax.Array:
  """Returns the input [B, S, D] of the first block, of ids [B, S]."""
  return _DECODERS[type(config)].embed(params, ids, config, dtype)


def run_blocks(
  blocks: Params,
  hidden: jax.Array,
  valid: jax.Array,
  config: Config,
  rematerialise: bool = False,
  first_layer: int = 0,
) -> jax.Array:
  """Runs stacked blocks with causal attention.

  Args:
    blocks: parameters stacked on a leading layer axis [L, ...]; a whole model's, or a part's.
    hidden: [B, S, D], the input of the first block.
    valid: [B, S] bool; positions where it is False are masked.
    config: the model's shape.
    rematerialise: keep only each block's input for the backward pass.
    first_layer: the layer of the first block: layers may differ, in their window for example.

  Returns:
    hidden [B, S, D] after the last block.
  """
  return _DECODERS[type(config)].run_blocks(
    blocks, hidden, valid, config, rematerialise, first_layer
  )


def prefill(
  blocks: Params, hidden: jax.Array, valid: jax.Array, config: Config, slots: int
) -> tuple[jax.Array, list[Cache]]:
  """As `run_blocks`; also returns the cache of each block, with room for `slots` positions."""
  return _DECODERS[type(config)].prefill(blocks, hidden, valid, config, slots)


def decode_blocks(
  layers: Sequence[Params],
  hidden: jax.Array,
  position: jax.Array,
  slot: jax.Array,
  visible: jax.Array,
  caches: Sequence[Cache],
  config: Config,
) -> tuple[jax.Array, list[Cache]]:
  """Runs one new token through all blocks.

  Args:
    layers: parameters of each block, from `decode_layers`.
    hidden: [B, 1, D] embedding of the token.
    position: [B] rotary position of the token.
    slot: [] cache slot that the token is written to.
    visible: [B, K] slots that hold the tokens so far, its own among them.
    caches: keys and values of the tokens before it, for each block.
    config: the model's shape.

  Returns:
    hidden [B, 1, D] after the last block, and the caches.
  """
  return _DECODERS[type(config)].decode_blocks(
    layers, hidden, position, slot, visible, caches, config
  )


def final_norm(params: Params, hidden: jax.Array, config: Config) -> jax.Array:
  """Applies the norm after the last block to hidden states [..., D]."""
  return _DECODERS[type(config)].final_norm(params, hidden, config)


def normalise(hidden: jax.Array, config: Config) -> jax.Array:
  """Applies the norm after the last block without its parameters.

  Returns:
    [..., D] float32, of Euclidean norm at most sqrt(D).
  """
  return _DECODERS[type(config)].normalise(hidden, config)


def fold(direction: np.ndarray, zero: float, config: Config) -> Params:
  """Writes a bounded reward into a final norm and a score.

  R̂ = <w, z> / sqrt(D) with unit w [D] and normalised last state z. The score of the parameters is
  (R̂ - zero) / (1 + |zero|), which still lies within [-1, 1].

  Args:
    direction: w, of norm 1.
    zero: the R̂ that becomes 0.
    config: the model's shape.

  Returns:
    'final_layer_norm' and 'score'. If the norm has no bias that the zero could go into, the score
    has one, which transformers does not know.
  """
  return _DECODERS[type(config)].fold(direction, zero, config)


def score(params: Params, hidden: jax.Array, config: Config) -> jax.Array:
  """Returns the reward [...] of last states [..., D], before the final norm, of a folded reward."""
  head = params['score']
  scores = (final_norm(params, hidden, config) @ head['kernel'])[..., 0]
  return scores + head['bias'][0] if 'bias' in head else scores


def reward_zero(params: Params) -> float:
  """Returns how much larger transformers' score of a reward is, which knows no bias of a score."""
  return -float(params['score']['bias'][0]) if 'bias' in params.get('score', {}) else 0.0


def output_embedding(params: Params) -> jax.Array:
  """Returns the output head [V, D]: the input embedding if the two are tied."""
  return (params['embed_out'] if 'embed_out' in params else params['embed_in'])['embedding']


def logits(params: Params, hidden: jax.Array, config: Config) -> jax.Array:
  """Returns next-token logits [..., V], float32, of normalised hidden states [..., D]."""
  embedding = output_embedding(params).astype(hidden.dtype)
  scores = jnp.einsum('...d,vd->...v', hidden, embedding, preferred_element_type=jnp.float32)
  return layers_lib.soft_cap(scores, config.final_logit_softcapping)


def hidden_states(
  params: Params,
  ids: jax.Array,
  valid: jax.Array,
  config: Config,
  dtype: DTypeLike = jnp.float32,
  rematerialise: bool = False,
) -> jax.Array:
  """Returns hidden states [B, S, D] after the final norm, of ids [B, S] where valid [B, S]."""
  hidden = embed(params, ids, config, dtype)
  hidden = run_blocks(params['blocks'], hidden, valid, config, rematerialise)
  return final_norm(params, hidden, config)
