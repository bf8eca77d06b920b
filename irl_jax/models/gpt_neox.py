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
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

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
  eos_token_ids: tuple[int, ...] = (0,)  # any of them ends a response

  @property
  def eos_token_id(self) -> int:
    """The EOS that starts and pads a text: the first."""
    return self.eos_token_ids[0]

  @property
  def final_logit_softcapping(self) -> None:
    """The cap of the logits: there is none."""

  @property
  def key_value_size(self) -> int:
    """The numbers of a token's keys in one layer, and of its values."""
    return self.hidden_size

  @property
  def block_states(self) -> int:
    """The numbers of each token that the gradient of one block needs, as XLA keeps them on a CPU.

    tests/stages/test_memory.py compares the sum with the compiler's own number.
    """
    return 9 * self.hidden_size + 2 * self.intermediate_size

  @property
  def head_dim(self) -> int:
    """Size of a head, E."""
    return self.hidden_size // self.num_attention_heads

  @property
  def rotary_ndims(self) -> int:
    """Size of the part of a head that is rotated, R."""
    return int(self.head_dim * self.rotary_pct)


def rotary_tables(positions: jax.Array, config: GPTNeoXConfig) -> layers_lib.Rotary:
  """Returns the rotary tables of positions [B, S]."""
  dims = config.rotary_ndims
  frequencies = config.rotary_emb_base ** (
    -jnp.arange(0, dims, 2, dtype=jnp.float32) / max(dims, 1)
  )
  return layers_lib.rotary_tables(positions, frequencies)


class Attention(nn.Module):
  """Self-attention over the input's own keys, or over a cache that they are first written to."""

  config: GPTNeoXConfig
  dtype: DTypeLike
  dense: Callable[..., nn.Module] = nn.Dense

  @nn.compact
  def __call__(
    self,
    hidden: jax.Array,
    rotary: layers_lib.Rotary,
    mask: jax.Array,
    cache: layers_lib.Cache | None = None,
    slot: jax.Array | None = None,
  ) -> tuple[jax.Array, layers_lib.Cache]:
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
    query, key = layers_lib.rotate(query, rotary), layers_lib.rotate(key, rotary)
    heads_first = lambda x: x.transpose(0, 2, 1, 3)
    query, key, value = map(heads_first, (query, key, value))
    own = layers_lib.Cache(key, value)
    cache = own if cache is None or slot is None else layers_lib.write(cache, own, slot)
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
    rotary: layers_lib.Rotary,
    mask: jax.Array,
    cache: layers_lib.Cache | None = None,
    slot: jax.Array | None = None,
  ) -> tuple[jax.Array, layers_lib.Cache]:
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


def embed(
  params: Params, ids: jax.Array, config: GPTNeoXConfig, dtype: DTypeLike = jnp.float32
) -> jax.Array:
  """Returns the token embeddings [B, S, D] of ids [B, S]."""
  del config
  return params['embed_in']['embedding'].astype(dtype)[ids]


def run_blocks(
  blocks: Params,
  hidden: jax.Array,
  valid: jax.Array,
  config: GPTNeoXConfig,
  rematerialise: bool = False,
  first_layer: int = 0,
) -> jax.Array:
  """Runs stacked blocks with causal attention.

  Args:
    blocks: parameters stacked on a leading layer axis [L, ...].
    hidden: [B, S, D], the input of the first block.
    valid: [B, S] bool; positions where it is False are masked.
    config: the model's shape.
    rematerialise: keep only each block's input for the backward pass.
    first_layer: the layer of the first block; all layers of a GPT-NeoX are alike.

  Returns:
    hidden [B, S, D] after the last block.
  """
  del first_layer
  return _scan_blocks(blocks, hidden, valid, config, rematerialise)[0]


def _scan_blocks(
  blocks: Params,
  hidden: jax.Array,
  valid: jax.Array,
  config: GPTNeoXConfig,
  rematerialise: bool = False,
) -> tuple[jax.Array, layers_lib.Cache]:
  """As `run_blocks`; also returns the keys and values of every block, stacked [L, ...]."""
  chex.assert_rank([hidden, valid], [3, 2])
  rotary = rotary_tables(layers_lib.positions_of(valid), config)
  mask = layers_lib.causal_mask(valid)
  block = Block(config, hidden.dtype)
  run = lambda hidden, params: layers_lib.apply(block, params, hidden, rotary, mask)
  return layers_lib.scan_layers(run, hidden, blocks, rematerialise)


def prefill(
  blocks: Params, hidden: jax.Array, valid: jax.Array, config: GPTNeoXConfig, slots: int
) -> tuple[jax.Array, list[layers_lib.Cache]]:
  """As `run_blocks`; also returns the cache of each block, with room for `slots` positions."""
  hidden, written = _scan_blocks(blocks, hidden, valid, config)
  return hidden, layers_lib.with_room(written, slots)


def decode_blocks(
  layers: Sequence[Params],
  hidden: jax.Array,
  position: jax.Array,
  slot: jax.Array,
  visible: jax.Array,
  caches: Sequence[layers_lib.Cache],
  config: GPTNeoXConfig,
) -> tuple[jax.Array, list[layers_lib.Cache]]:
  """Runs one new token through all blocks.

  The blocks are unrolled. A scan would copy each layer's parameters and cache out of their stacks
  for every token, which takes as long as the matmuls themselves.

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


def normalise(hidden: jax.Array, config: GPTNeoXConfig) -> jax.Array:
  """Applies the final norm without its parameters to states [..., D] -> float32."""
  return layers_lib.layer_normalised(hidden, config.layer_norm_eps)


def fold(direction: np.ndarray, zero: float, config: GPTNeoXConfig) -> Params:
  """Writes a bounded reward into the final norm and the score (`trunk.fold`).

  The norm gets the gain 1 / (sqrt(D) (1 + |zero|)) and the bias -zero / (1 + |zero|) w. The score
  gets w. The bias then adds -zero / (1 + |zero|), because <w, w> = 1.
  """
  shrink = 1 / (1 + abs(zero))
  return {
    'final_layer_norm': {
      'scale': np.full(len(direction), shrink / len(direction) ** 0.5, np.float32),
      'bias': (-zero * shrink * direction).astype(np.float32),
    },
    'score': {'kernel': direction.astype(np.float32)[:, None]},
  }
