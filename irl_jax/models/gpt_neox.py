"""GPT-NeoX (Pythia): a Linen block, and pure functions that scan it over a stack of layers, which `cut` can cut.

Dims: B batch, S positions, K cache slots, H heads, E head size, R rotated part of E, D width, F feed-forward, L layers,
V vocabulary.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import chex
from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

Params = dict[str, Any]
MASKED = -1e9  # a masked score: finite, so that a row without any visible position stays finite
SHALLOW = 6  # layers that are compiled one by one, not as a loop


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
    return self.hidden_size // self.num_attention_heads

  @property
  def rotary_ndims(self) -> int:
    return int(self.head_dim * self.rotary_pct)


@struct.dataclass
class Rotary:
  """Cosine and sine of every position's rotation, float32."""

  cos: jax.Array  # [B, S, 1, R]
  sin: jax.Array  # [B, S, 1, R]


@struct.dataclass
class Cache:
  """Keys and values of one layer; an explicit argument and result, carried through the decode loop."""

  keys: jax.Array  # [B, H, K, E]
  values: jax.Array  # [B, H, K, E]


def rotary_tables(positions: jax.Array, config: GPTNeoXConfig) -> Rotary:
  """Rotary position tables (Su et al. 2021) of positions [B, S]."""
  dims = config.rotary_ndims
  frequencies = config.rotary_emb_base ** (
    -jnp.arange(0, dims, 2, dtype=jnp.float32) / max(dims, 1)
  )
  angles = positions.astype(jnp.float32)[..., None] * frequencies[None, None]  # [B, S, R/2]
  angles = jnp.concatenate([angles, angles], -1)[:, :, None]  # [B, S, 1, R]
  return Rotary(jnp.cos(angles), jnp.sin(angles))


def rotate(x: jax.Array, rotary: Rotary) -> jax.Array:
  """Rotates the first R dims of each head of x [B, S, H, E], in the rotate-half form of GPT-NeoX."""
  dims = rotary.cos.shape[-1]
  if not dims:
    return x
  turned, kept = x[..., :dims], x[..., dims:]
  half = jnp.concatenate([-turned[..., dims // 2 :], turned[..., : dims // 2]], -1)
  turned = (turned * rotary.cos + half * rotary.sin).astype(x.dtype)
  return jnp.concatenate([turned, kept], -1)


def attend(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
  """Softmax attention in float32: query [B, H, S, E], key and value [B, H, K, E], mask [B, 1, S, K] -> as query."""
  scores = jnp.einsum('bhse,bhke->bhsk', query, key, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(jnp.where(mask, scores * key.shape[-1] ** -0.5, MASKED), axis=-1)
  return jnp.einsum('bhsk,bhke->bhse', weights.astype(value.dtype), value)


def on_tokens(dense: nn.Module, x: jax.Array) -> jax.Array:
  """A dense layer over x [B, S, D], as one matrix product of [B S, D].

  The gradient of a product with two leading axes is three times slower under XLA on CPU.
  """
  return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class TurnedDense(nn.Module):
  """nn.Dense with a kernel [out, in], for few tokens: it is then the left side of a product with few columns, whose
  rows XLA on CPU reads one and a half to three times as fast as the columns of a right side.

  The barriers keep XLA from turning the product back.
  """

  features: int
  dtype: Any
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x):
    kernel = self.param('kernel', self.kernel_init, (self.features, x.shape[-1]))
    columns = jax.lax.optimization_barrier(x.astype(self.dtype).T)
    out = jnp.dot(kernel.astype(self.dtype), columns)
    if self.use_bias:
      out += self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)[:, None]
    return jax.lax.optimization_barrier(out).T


class Attention(nn.Module):
  """Self-attention over its own keys, or over a cache into which its own keys are written first."""

  config: GPTNeoXConfig
  dtype: Any
  dense: Any = nn.Dense

  @nn.compact
  def __call__(self, hidden, rotary, mask, cache=None, slot=None):
    batch, length, width = hidden.shape
    config = self.config
    dense = functools.partial(
      self.dense,
      dtype=self.dtype,
      use_bias=config.attention_bias,
      kernel_init=nn.initializers.normal(config.initializer_range),
    )
    qkv = on_tokens(dense(3 * width, name='query_key_value'), hidden)
    qkv = qkv.reshape(batch, length, config.num_attention_heads, 3 * config.head_dim)
    query, key, value = jnp.split(qkv, 3, axis=-1)  # [B, S, H, E]
    heads_first = lambda x: x.transpose(0, 2, 1, 3)
    query, key, value = map(heads_first, (rotate(query, rotary), rotate(key, rotary), value))
    if cache is None:
      cache = Cache(key, value)
    else:
      write = lambda full, new: jax.lax.dynamic_update_slice_in_dim(
        full, new.astype(full.dtype), slot, 2
      )
      cache = Cache(write(cache.keys, key), write(cache.values, value))
    mixed = (
      attend(query, cache.keys, cache.values, mask)
      .transpose(0, 2, 1, 3)
      .reshape(batch, length, width)
    )
    return on_tokens(dense(width, name='dense'), mixed), cache


class MLP(nn.Module):
  """Two dense layers with the exact (erf) GELU between them.

  The GELU is computed again in the backward pass: what its derivative needs would be a third of all that is kept of a
  block, and takes longer to write and read.
  """

  config: GPTNeoXConfig
  dtype: Any
  dense: Any = nn.Dense

  @nn.compact
  def __call__(self, hidden):
    dense = functools.partial(
      self.dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.normal(self.config.initializer_range),
    )
    inner = on_tokens(dense(self.config.intermediate_size, name='dense_h_to_4h'), hidden)
    down = lambda self, inner: on_tokens(
      dense(self.config.hidden_size, name='dense_4h_to_h'), jax.nn.gelu(inner, approximate=False)
    )
    return nn.remat(down, prevent_cse=False)(self, inner)


class Block(nn.Module):
  """One layer; returns the new hidden state, and the cache that its keys and values were written to."""

  config: GPTNeoXConfig
  dtype: Any = jnp.float32
  dense: Any = nn.Dense

  @nn.compact
  def __call__(self, hidden, rotary, mask, cache=None, slot=None):
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
  """Random parameters, float32; every leaf under 'blocks' has a leading layer axis [L, ...]."""
  embed_key, block_key, out_key = jax.random.split(key, 3)
  shape = (config.vocab_size, config.hidden_size)
  normal = lambda k: {'embedding': config.initializer_range * jax.random.normal(k, shape)}
  dummy = jnp.zeros((1, 1, config.hidden_size))
  rotary = rotary_tables(jnp.zeros((1, 1), jnp.int32), config)
  init_block = lambda k: Block(config).init(k, dummy, rotary, jnp.ones((1, 1, 1, 1), bool))[
    'params'
  ]
  params = {
    'embed_in': normal(embed_key),
    'blocks': jax.vmap(init_block)(jax.random.split(block_key, config.num_hidden_layers)),
    'final_layer_norm': {
      'scale': jnp.ones(config.hidden_size),
      'bias': jnp.zeros(config.hidden_size),
    },
  }
  return params if config.tie_word_embeddings else params | {'embed_out': normal(out_key)}


def embed(params: Params, ids: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
  """Token embeddings [B, S, D] of ids [B, S]."""
  return params['embed_in']['embedding'].astype(dtype)[ids]


def positions_of(valid: jax.Array) -> jax.Array:
  """Position of every token [B, S]: how many valid tokens stand before it (padding may be on either side)."""
  return jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0)


def run_blocks(
  blocks: Params,
  hidden: jax.Array,
  valid: jax.Array,
  config: GPTNeoXConfig,
  rematerialise: bool = False,
) -> jax.Array:
  """Runs stacked blocks over hidden [B, S, D], causally, unseen by it what valid [B, S] excludes -> [B, S, D].

  Where rematerialise, the hidden state before each block is all that is kept for the backward pass.
  """
  return _scan_blocks(blocks, hidden, valid, config, rematerialise)[0]


def _scan_blocks(blocks, hidden, valid, config, rematerialise=False):
  chex.assert_rank([hidden, valid], [3, 2])
  length = hidden.shape[1]
  rotary = rotary_tables(positions_of(valid), config)
  mask = (jnp.tril(jnp.ones((length, length), bool))[None] & valid[:, None])[
    :, None
  ]  # [B, 1, S, S]
  block = Block(config, hidden.dtype)
  run = lambda hidden, params: block.apply({'params': params}, hidden, rotary, mask)
  return scan_layers(run, hidden, blocks, rematerialise)


def scan_layers(
  run: Callable, hidden: jax.Array, blocks: Params, rematerialise: bool
) -> tuple[jax.Array, Any]:
  """`run(hidden, parameters of a layer) -> (hidden, output)` over stacked layers [L, ...], as `jax.lax.scan`.

  A deep stack is compiled once for all layers, a shallow one layer by layer: in a loop, a layer's parameters are copied
  out of their stacks, and what the backward pass needs into others, which are zeroed first.
  """
  layers = jax.tree.leaves(blocks)[0].shape[0]
  if rematerialise:  # only in a loop does XLA not put together what is computed twice
    return jax.lax.scan(jax.checkpoint(run, prevent_cse=False), hidden, blocks)
  return jax.lax.scan(run, hidden, blocks, unroll=layers <= SHALLOW)


def unstacked(blocks: Params) -> list[Any]:
  """Every layer's leaves, out of stacks [L, ...] of them."""
  of_layer = lambda layer: jax.tree.map(lambda x: x[layer], blocks)
  return [of_layer(layer) for layer in range(jax.tree.leaves(blocks)[0].shape[0])]


def decode_layers(blocks: Params) -> list[Any]:
  """Parameters of each block as `decode_blocks` reads them: kernels are [out, in]."""
  turned = lambda path, x: jax.lax.optimization_barrier(x.T) if path[-1].key == 'kernel' else x
  return [jax.tree_util.tree_map_with_path(turned, layer) for layer in unstacked(blocks)]


def prefill(
  blocks: Params, hidden: jax.Array, valid: jax.Array, config: GPTNeoXConfig, slots: int
) -> tuple[jax.Array, list[Cache]]:
  """As run_blocks, and each layer's cache of the prompt [B, S, D] with room for `slots` positions in all."""
  hidden, written = _scan_blocks(blocks, hidden, valid, config)
  room = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, slots - x.shape[3]), (0, 0)))
  return hidden, unstacked(jax.tree.map(room, written))


def decode_blocks(
  layers: Sequence[Params],
  hidden: jax.Array,
  position: jax.Array,
  slot: jax.Array,
  visible: jax.Array,
  caches: Sequence[Cache],
  config: GPTNeoXConfig,
) -> tuple[jax.Array, list[Cache]]:
  """One new token through all blocks, one after the other: in a scan, each layer's parameters and cache would be copied
  out of their stacks for every token, which takes as long as the products with them.

  Args:
    layers: of `decode_layers`.
    hidden: [B, 1, D] embedding of the token.
    position: [B] rotary position of the token.
    slot: [] cache slot that the token is written to.
    visible: [B, K] slots that the token may attend to, its own among them.
    caches: what the tokens before it wrote in each block.
    config: the model's shape.

  Returns:
    hidden [B, 1, D] after the last block, and the caches.
  """
  rotary = rotary_tables(position[:, None], config)
  block, written = Block(config, hidden.dtype, TurnedDense), []
  for params, cache in zip(layers, caches):
    hidden, cache = block.apply(
      {'params': params}, hidden, rotary, visible[:, None, None], cache, slot
    )
    written.append(cache)
  return hidden, written


def final_norm(params: Params, hidden: jax.Array, config: GPTNeoXConfig) -> jax.Array:
  """The layer norm after the last block."""
  norm = nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=hidden.dtype, use_fast_variance=False)
  return norm.apply({'params': params['final_layer_norm']}, hidden)


def output_embedding(params: Params) -> jax.Array:
  """The output head [V, D]; the input embedding where the two are tied."""
  return params.get('embed_out', params.get('embed_in'))['embedding']


def logits(params: Params, hidden: jax.Array) -> jax.Array:
  """Next-token logits [..., V], float32, of normalised hidden states [..., D]."""
  embedding = output_embedding(params).astype(hidden.dtype)
  return jnp.einsum('...d,vd->...v', hidden, embedding, preferred_element_type=jnp.float32)


def hidden_states(
  params: Params,
  ids: jax.Array,
  valid: jax.Array,
  config: GPTNeoXConfig,
  dtype: Any = jnp.float32,
  rematerialise: bool = False,
) -> jax.Array:
  """Hidden states [B, S, D] after the final norm, of ids [B, S] where valid [B, S]."""
  hidden = run_blocks(params['blocks'], embed(params, ids, dtype), valid, config, rematerialise)
  return final_norm(params, hidden, config)
