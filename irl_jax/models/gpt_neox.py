"""GPT-NeoX (Pythia): a Linen block, and pure functions that run stacks of blocks.

Dims: B batch, S positions, K cache slots, H heads, E head size, R rotated part of E, D width,
L layers, V vocabulary.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools

import chex
from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from irl_jax.models import cpu
from irl_jax.models import layers as layers_lib

Params = layers_lib.Params


@dataclasses.dataclass(frozen=True)
class GPTNeoXConfig:
  """Shape of a GPT-NeoX model, under the names of its Hugging Face config."""

  vocab_size: int
  hidden_size: int
  num_hidden_layers: int
  num_attention_heads: int
  intermediate_size: int
  max_position_embeddings: int = 2048
  rotary_pct: float = 0.25
  rotary_emb_base: float = 10000.0
  layer_norm_eps: float = 1e-5
  use_parallel_residual: bool = True
  tie_word_embeddings: bool = False
  attention_bias: bool = True
  hidden_act: str = 'gelu'
  initializer_range: float = 0.02
  bos_token_id: int = 0
  eos_token_id: int = 0

  @property
  def head_dim(self) -> int:
    """Size of a head, E."""
    return self.hidden_size // self.num_attention_heads

  @property
  def rotary_ndims(self) -> int:
    """Size of the part of a head that is rotated, R."""
    return int(self.head_dim * self.rotary_pct)


@struct.dataclass
class Rotary:
  """Cosine and sine of every position's rotation, float32."""

  cos: jax.Array  # [B, S, 1, R]
  sin: jax.Array  # [B, S, 1, R]


@struct.dataclass
class Cache:
  """Keys and values of one layer, carried through the decode loop."""

  keys: jax.Array  # [B, H, K, E]
  values: jax.Array  # [B, H, K, E]


def rotary_tables(positions: jax.Array, config: GPTNeoXConfig) -> Rotary:
  """Returns the rotary tables (Su et al. 2021, arXiv:2104.09864) of positions [B, S]."""
  dims = config.rotary_ndims
  frequencies = config.rotary_emb_base ** (
    -jnp.arange(0, dims, 2, dtype=jnp.float32) / max(dims, 1)
  )
  angles = positions.astype(jnp.float32)[..., None] * frequencies[None, None]  # [B, S, R/2]
  angles = jnp.concatenate([angles, angles], -1)[:, :, None]  # [B, S, 1, R]
  return Rotary(jnp.cos(angles), jnp.sin(angles))


def rotate(x: jax.Array, rotary: Rotary) -> jax.Array:
  """Rotates the first R dims of each head of x [B, S, H, E], in GPT-NeoX's rotate-half form."""
  dims = rotary.cos.shape[-1]
  if not dims:
    return x
  rotated, rest = x[..., :dims], x[..., dims:]
  half = jnp.concatenate([-rotated[..., dims // 2 :], rotated[..., : dims // 2]], -1)
  rotated = (rotated * rotary.cos + half * rotary.sin).astype(x.dtype)
  return jnp.concatenate([rotated, rest], -1)


def write(cache: Cache, new: Cache, slot: jax.Array) -> Cache:
  """Writes keys and values of new tokens into the cache, from a slot [] on."""
  update = lambda full, x: jax.lax.dynamic_update_slice_in_dim(full, x.astype(full.dtype), slot, 2)
  return Cache(update(cache.keys, new.keys), update(cache.values, new.values))


class Attention(nn.Module):
  """Self-attention over its own keys, or over a cache into which they are written first."""

  config: GPTNeoXConfig
  dtype: DTypeLike
  dense: Callable[..., nn.Module] = nn.Dense

  @nn.compact
  def __call__(
    self,
    hidden: jax.Array,
    rotary: Rotary,
    mask: jax.Array,
    cache: Cache | None = None,
    slot: jax.Array | None = None,
  ) -> tuple[jax.Array, Cache]:
    """Returns the output [B, S, D], and the keys and values that were attended to."""
    batch, length, width = hidden.shape
    config = self.config
    dense = functools.partial(
      self.dense,
      dtype=self.dtype,
      use_bias=config.attention_bias,
      kernel_init=nn.initializers.normal(config.initializer_range),
    )
    qkv = cpu.on_tokens(dense(3 * width, name='query_key_value'), hidden)
    # The checkpoints interleave query, key and value by head: [H, 3, E].
    qkv = qkv.reshape(batch, length, config.num_attention_heads, 3 * config.head_dim)
    query, key, value = jnp.split(qkv, 3, axis=-1)  # [B, S, H, E]
    heads_first = lambda x: x.transpose(0, 2, 1, 3)
    query, key, value = map(heads_first, (rotate(query, rotary), rotate(key, rotary), value))
    own = Cache(key, value)
    cache = own if cache is None or slot is None else write(cache, own, slot)
    mixed = layers_lib.merge_heads(layers_lib.attend(query, cache.keys, cache.values, mask))
    return cpu.on_tokens(dense(width, name='dense'), mixed), cache


class MLP(nn.Module):
  """Two dense layers with the exact (erf) GELU between them.

  The backward pass recomputes the GELU. Storing the values its derivative needs would add up to a
  third of a block's saved activations, and would be slower than recomputing them.
  """

  config: GPTNeoXConfig
  dtype: DTypeLike
  dense: Callable[..., nn.Module] = nn.Dense

  @nn.compact
  def __call__(self, hidden: jax.Array) -> jax.Array:
    """Returns the output [B, S, D]."""
    dense = functools.partial(
      self.dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.normal(self.config.initializer_range),
    )
    inner = cpu.on_tokens(dense(self.config.intermediate_size, name='dense_h_to_4h'), hidden)
    down = lambda self, inner: cpu.on_tokens(
      dense(self.config.hidden_size, name='dense_4h_to_h'), jax.nn.gelu(inner, approximate=False)
    )
    return nn.remat(down, prevent_cse=False)(self, inner)


class Block(nn.Module):
  """One layer: attention and MLP, in parallel or in sequence."""

  config: GPTNeoXConfig
  dtype: DTypeLike = jnp.float32
  dense: Callable[..., nn.Module] = nn.Dense

  @nn.compact
  def __call__(
    self,
    hidden: jax.Array,
    rotary: Rotary,
    mask: jax.Array,
    cache: Cache | None = None,
    slot: jax.Array | None = None,
  ) -> tuple[jax.Array, Cache]:
    """Returns the new hidden state [B, S, D], and the keys and values that were attended to."""
    norm = functools.partial(
      nn.LayerNorm, epsilon=self.config.layer_norm_eps, dtype=self.dtype, use_fast_variance=False
    )
    attention = Attention(self.config, self.dtype, self.dense, name='attention')
    mlp = MLP(self.config, self.dtype, self.dense, name='mlp')
    attended, cache = attention(norm(name='input_layernorm')(hidden), rotary, mask, cache, slot)
    second_norm = norm(name='post_attention_layernorm')
    if self.config.use_parallel_residual:
      return hidden + attended + mlp(second_norm(hidden)), cache
    hidden = hidden + attended
    return hidden + mlp(second_norm(hidden)), cache


@functools.partial(jax.jit, static_argnames='config')
def init(key: jax.Array, config: GPTNeoXConfig) -> Params:
  """Draws random parameters, float32; those of the blocks are stacked on a layer axis [L, ...]."""
  embed_key, block_key, out_key = jax.random.split(key, 3)
  shape = (config.vocab_size, config.hidden_size)
  normal = lambda k: {'embedding': config.initializer_range * jax.random.normal(k, shape)}
  dummy = jnp.zeros((1, 1, config.hidden_size))
  rotary = rotary_tables(jnp.zeros((1, 1), jnp.int32), config)
  mask = jnp.ones((1, 1, 1, 1), bool)
  init_block = lambda k: layers_lib.init(Block(config), k, dummy, rotary, mask)
  params = {
    'embed_in': normal(embed_key),
    'blocks': jax.vmap(init_block)(jax.random.split(block_key, config.num_hidden_layers)),
    'final_layer_norm': {
      'scale': jnp.ones(config.hidden_size),
      'bias': jnp.zeros(config.hidden_size),
    },
  }
  return params if config.tie_word_embeddings else params | {'embed_out': normal(out_key)}


def embed(params: Params, ids: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
  """Returns the token embeddings [B, S, D] of ids [B, S]."""
  return params['embed_in']['embedding'].astype(dtype)[ids]


def positions_of(valid: jax.Array) -> jax.Array:
  """Returns every token's position [B, S]: the number of valid tokens before it.

  Padding may be on either side.
  """
  return jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0)


def run_blocks(
  blocks: Params,
  hidden: jax.Array,
  valid: jax.Array,
  config: GPTNeoXConfig,
  rematerialise: bool = False,
) -> jax.Array:
  """Runs stacked blocks with causal attention.

  Args:
    blocks: parameters stacked on a leading layer axis [L, ...].
    hidden: [B, S, D], the input of the first block.
    valid: [B, S] bool; positions where it is False are masked.
    config: the model's shape.
    rematerialise: keep only each block's input for the backward pass.

  Returns:
    hidden [B, S, D] after the last block.
  """
  return _scan_blocks(blocks, hidden, valid, config, rematerialise)[0]


def _scan_blocks(
  blocks: Params,
  hidden: jax.Array,
  valid: jax.Array,
  config: GPTNeoXConfig,
  rematerialise: bool = False,
) -> tuple[jax.Array, Cache]:
  """As `run_blocks`; also returns the keys and values of every block, stacked [L, ...]."""
  chex.assert_rank([hidden, valid], [3, 2])
  length = hidden.shape[1]
  rotary = rotary_tables(positions_of(valid), config)
  causal = jnp.tril(jnp.ones((length, length), bool))
  mask = (causal[None] & valid[:, None])[:, None]  # [B, 1, S, S]
  block = Block(config, hidden.dtype)
  run = lambda hidden, params: layers_lib.apply(block, params, hidden, rotary, mask)
  return layers_lib.scan_layers(run, hidden, blocks, rematerialise)


def decode_layers(blocks: Params) -> list[Params]:
  """Returns the parameters of each block as `decode_blocks` reads them: kernels are [out, in]."""
  return [cpu.transposed_kernels(layer) for layer in layers_lib.unstacked(blocks)]


def prefill(
  blocks: Params, hidden: jax.Array, valid: jax.Array, config: GPTNeoXConfig, slots: int
) -> tuple[jax.Array, list[Cache]]:
  """As `run_blocks`; also returns the cache of each block, with room for `slots` positions."""
  hidden, written = _scan_blocks(blocks, hidden, valid, config)
  room = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, slots - x.shape[3]), (0, 0)))
  return hidden, layers_lib.unstacked(jax.tree.map(room, written))


def decode_blocks(
  layers: Sequence[Params],
  hidden: jax.Array,
  position: jax.Array,
  slot: jax.Array,
  visible: jax.Array,
  caches: Sequence[Cache],
  config: GPTNeoXConfig,
) -> tuple[jax.Array, list[Cache]]:
  """Runs one new token through all blocks.

  The blocks are unrolled. A scan would copy each layer's parameters and cache out of their stacks
  for every token, which takes as long as the matmuls with them.

  Args:
    layers: parameters of each block, from `decode_layers`.
    hidden: [B, 1, D] embedding of the token.
    position: [B] rotary position of the token.
    slot: [] cache slot that the token is written to.
    visible: [B, K] slots that the token may attend to, its own among them.
    caches: keys and values of the tokens before it, for each block.
    config: the model's shape.

  Returns:
    hidden [B, 1, D] after the last block, and the caches.
  """
  rotary = rotary_tables(position[:, None], config)
  block, mask, written = (
    Block(config, hidden.dtype, cpu.TransposedDense),
    visible[:, None, None],
    [],
  )
  for params, cache in zip(layers, caches):
    hidden, cache = layers_lib.apply(block, params, hidden, rotary, mask, cache, slot)
    written.append(cache)
  return hidden, written


def final_norm(params: Params, hidden: jax.Array, config: GPTNeoXConfig) -> jax.Array:
  """Applies the layer norm after the last block to hidden states [..., D]."""
  norm = nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=hidden.dtype, use_fast_variance=False)
  return layers_lib.apply(norm, params['final_layer_norm'], hidden)


def output_embedding(params: Params) -> jax.Array:
  """Returns the output head [V, D]: the input embedding if the two are tied."""
  return (params['embed_out'] if 'embed_out' in params else params['embed_in'])['embedding']


def logits(params: Params, hidden: jax.Array) -> jax.Array:
  """Returns next-token logits [..., V], float32, of normalised hidden states [..., D]."""
  embedding = output_embedding(params).astype(hidden.dtype)
  return jnp.einsum('...d,vd->...v', hidden, embedding, preferred_element_type=jnp.float32)


def hidden_states(
  params: Params,
  ids: jax.Array,
  valid: jax.Array,
  config: GPTNeoXConfig,
  dtype: DTypeLike = jnp.float32,
  rematerialise: bool = False,
) -> jax.Array:
  """Returns hidden states [B, S, D] after the final norm, of ids [B, S] where valid [B, S]."""
  hidden = run_blocks(params['blocks'], embed(params, ids, dtype), valid, config, rematerialise)
  return final_norm(params, hidden, config)
