"""The contract of every decoder, all that decoders share, and the one place that knows which exist.

A family of decoders is a frozen config and a file about one of its blocks, which provides:

  Block(config, dtype, dense)            one layer, a Linen module: (hidden [B, S, D], view, cache,
                                         slot) -> (hidden, the keys and values attended to)
  views(positions, keys, mask, config)   the `layers.View` of a full layer and, if layers slide, of
                                         a sliding one, for tokens at `positions` [B, S]; `mask`
                                         [B, 1, S, K] says which keys [B, K] each may attend to
  norm(config, dtype)                    the norm after the last block, a Linen module
  normalise, fold                        as below

The functions here run whole stacks of such blocks. They take the file by the type of the config,
and nothing outside models/ names a family.

Of every decoder, the parameters have the keys embed_in, blocks, final_layer_norm and, unless the
output head is tied, embed_out. Blocks are stacked on a leading layer axis. What differs between
layers follows from the config and a layer's number, and is never a parameter.

Dims: B batch, S positions, K cache slots, D width, L layers, V vocabulary.
"""

from collections.abc import Sequence
import functools
from types import ModuleType
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax.models import cpu
from irl_jax.models import gpt_neox
from irl_jax.models import layers as layers_lib
from irl_jax.models import llama
from irl_jax.models.gpt_neox import GPTNeoXConfig
from irl_jax.models.llama_config import LlamaConfig
from irl_jax.runtime import sharding

Params = layers_lib.Params
Cache = layers_lib.Cache
# Attributes that every config has: vocab_size, hidden_size, num_hidden_layers, num_attention_heads,
# max_position_embeddings, eos_token_ids (any of them ends a response), eos_token_id (the first,
# which starts and pads a text), tie_word_embeddings, initializer_range, embedding_scale and
# final_logit_softcapping (or None), slides (which layers slide), and for the prediction of memory
# key_value_size and block_states.
Config = GPTNeoXConfig | LlamaConfig

_FAMILIES: dict[type, ModuleType] = {GPTNeoXConfig: gpt_neox, LlamaConfig: llama}
decode_layers = layers_lib.decode_layers


def new_config(vocab_size: int, hidden_size: int, layers: int, heads: int) -> Config:
  """Returns the shape of a decoder that is trained from scratch: a small GPT-NeoX."""
  return GPTNeoXConfig(
    vocab_size=vocab_size,
    hidden_size=hidden_size,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    intermediate_size=4 * hidden_size,
  )


@functools.partial(jax.jit, static_argnames='config')
def init(key: jax.Array, config: Config) -> Params:
  """Draws random parameters, float32; those of the blocks are stacked on a layer axis [L, ...]."""
  family = _FAMILIES[type(config)]
  embed_key, block_key, out_key = jax.random.split(key, 3)
  shape = (config.vocab_size, config.hidden_size)
  normal = lambda k: {'embedding': config.initializer_range * jax.random.normal(k, shape)}
  hidden, valid = jnp.zeros((1, 1, config.hidden_size)), jnp.ones((1, 1), bool)
  view, *_ = family.views(jnp.int32(valid), valid, valid[None, None], config)
  init_block = lambda k: layers_lib.init(family.Block(config), k, hidden, view)
  params = {
    'embed_in': normal(embed_key),
    'blocks': jax.vmap(init_block)(jax.random.split(block_key, config.num_hidden_layers)),
    'final_layer_norm': layers_lib.init(family.norm(config, jnp.float32), key, hidden),
  }
  return params if config.tie_word_embeddings else params | {'embed_out': normal(out_key)}


def embed(
  params: Params, ids: jax.Array, config: Config, dtype: DTypeLike = jnp.float32
) -> jax.Array:
  """Returns the input [B, S, D] of the first block, of ids [B, S]."""
  embedding = params['embed_in']['embedding']
  embedded = sharding.rows_of(embedding.astype(dtype), ids, embedding)
  scale = config.embedding_scale
  return embedded if scale is None else embedded * jnp.asarray(scale, dtype)


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
  return _scan_blocks(blocks, hidden, valid, config, rematerialise, first_layer)[0]


def _scan_blocks(
  blocks: Params,
  hidden: jax.Array,
  valid: jax.Array,
  config: Config,
  rematerialise: bool = False,
  first_layer: int = 0,
) -> tuple[jax.Array, Cache]:
  """As `run_blocks`; also returns the keys and values of every block, stacked [L, ...]."""
  chex.assert_rank([hidden, valid], [3, 2])
  family = _FAMILIES[type(config)]
  slides = config.slides[first_layer : first_layer + layers_lib.depth(blocks)]
  assert len(slides) == layers_lib.depth(blocks), 'more blocks than the model has layers'
  positions, mask = layers_lib.positions_of(valid), layers_lib.causal_mask(valid)
  views = family.views(positions, valid, mask, config)
  block = family.Block(config, hidden.dtype)
  if len(set(slides)) < 2:
    run = lambda hidden, params, view: layers_lib.apply(block, params, hidden, view)
    return layers_lib.scan_layers(run, hidden, blocks, rematerialise, views[any(slides)])
  # Some layers slide and some do not: the scan reads a flag for each, which selects its view.
  both = jax.tree.map(lambda *x: jnp.stack(x, axis=1), *views)  # [B, 2, ...]

  def run_either(
    hidden: jax.Array, layer: tuple[Params, jax.Array], both: layers_lib.View
  ) -> tuple[jax.Array, Any]:
    params, sliding = layer
    view = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, sliding, 1, False), both)
    return layers_lib.apply(block, params, hidden, view)

  return layers_lib.scan_layers(
    run_either, hidden, (blocks, np.array(slides, np.int32)), rematerialise, both
  )


def prefill(
  blocks: Params, hidden: jax.Array, valid: jax.Array, config: Config, slots: int
) -> tuple[jax.Array, list[Cache]]:
  """As `run_blocks`; also returns the cache of each block, with room for `slots` positions."""
  hidden, written = _scan_blocks(blocks, hidden, valid, config)
  return hidden, layers_lib.with_room(written, slots)


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

  The blocks are unrolled. A scan would copy each layer's parameters and cache out of their stacks
  for every token, which takes as long as the matmuls themselves. A layer that slides keeps all
  slots, and masks those outside its window.

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
  family = _FAMILIES[type(config)]
  views = family.views(position[:, None], visible, visible[:, None, None], config)
  block, written = family.Block(config, hidden.dtype, cpu.TransposedDense), []
  for params, cache, sliding in zip(layers, caches, config.slides, strict=True):
    hidden, cache = layers_lib.apply(block, params, hidden, views[sliding], cache, slot)
    written.append(cache)
  return hidden, written


def final_norm(params: Params, hidden: jax.Array, config: Config) -> jax.Array:
  """Applies the norm after the last block to hidden states [..., D]."""
  norm = _FAMILIES[type(config)].norm(config, hidden.dtype)
  apply = functools.partial(layers_lib.apply, norm)
  return sharding.over_rows(apply, params['final_layer_norm'], hidden)


def normalise(hidden: jax.Array, config: Config) -> jax.Array:
  """Applies the norm after the last block without its parameters.

  Returns:
    [..., D] float32, of Euclidean norm at most sqrt(D).
  """
  return _FAMILIES[type(config)].normalise(hidden, config)


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
  return _FAMILIES[type(config)].fold(direction, zero, config)


def score(params: Params, hidden: jax.Array, config: Config) -> jax.Array:
  """Returns the reward [...] of last states [..., D], before the final norm, of a folded reward."""
  head = params['score']
  scores = (final_norm(params, hidden, config) @ head['kernel'])[..., 0]
  return scores + head['bias'][0] if 'bias' in head else scores


def reward_zero(params: Params) -> float:
  """Returns transformers' score minus ours: transformers ignores the score's bias."""
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
