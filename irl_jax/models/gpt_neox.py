"""GPT-NeoX (Pythia): the shape of a model, and its block as a Linen module.

Dims: B batch, S positions, K keys or cache slots, H heads, E head size, R rotated part of E,
D width, L layers.
"""

from collections.abc import Callable
import dataclasses
import functools

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
  def embedding_scale(self) -> None:
    """The factor of the embeddings: there is none."""

  @property
  def final_logit_softcapping(self) -> None:
    """The cap of the logits: there is none."""

  @property
  def slides(self) -> tuple[bool, ...]:
    """For each layer, True if its attention window slides [L]: never."""
    return (False,) * self.num_hidden_layers

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
  def matmul_states(self) -> int:
    """The numbers of each token that a block's input and the results of its matmuls take."""
    widths = 5 if self.use_parallel_residual else 6
    return widths * self.hidden_size + self.intermediate_size

  @property
  def head_dim(self) -> int:
    """Size of a head, E."""
    return self.hidden_size // self.num_attention_heads

  @property
  def rotary_ndims(self) -> int:
    """Size of the part of a head that is rotated, R."""
    return int(self.head_dim * self.rotary_pct)


def views(
  positions: jax.Array, keys: jax.Array, mask: jax.Array, config: GPTNeoXConfig
) -> tuple[layers_lib.View]:
  """Returns what every layer sees (`trunk`)."""
  del keys
  dims = config.rotary_ndims
  frequencies = config.rotary_emb_base ** (
    -jnp.arange(0, dims, 2, dtype=jnp.float32) / max(dims, 1)
  )
  return (layers_lib.View(layers_lib.rotary_tables(positions, frequencies), mask),)


def norm(config: GPTNeoXConfig, dtype: DTypeLike, name: str | None = None) -> nn.LayerNorm:
  """Returns a layer norm, such as the one after the last block."""
  return nn.LayerNorm(
    epsilon=config.layer_norm_eps, dtype=dtype, use_fast_variance=False, name=name
  )


class Attention(nn.Module):
  """Self-attention over the input's own keys, or over a cache that they are first written to."""

  config: GPTNeoXConfig
  dtype: DTypeLike
  dense: Callable[..., nn.Module] = nn.Dense

  @nn.compact
  def __call__(
    self,
    hidden: jax.Array,
    view: layers_lib.View,
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
    query, key = layers_lib.rotate(query, view.rotary), layers_lib.rotate(key, view.rotary)
    heads_first = lambda x: x.transpose(0, 2, 1, 3)
    query, key, value = map(heads_first, (query, key, value))
    own = layers_lib.Cache(key, value)
    cache = own if cache is None or slot is None else layers_lib.write(cache, own, slot)
    mixed = layers_lib.merge_heads(layers_lib.attend(query, cache.keys, cache.values, view.mask))
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
    view: layers_lib.View,
    cache: layers_lib.Cache | None = None,
    slot: jax.Array | None = None,
  ) -> tuple[jax.Array, layers_lib.Cache]:
    """Returns the new hidden state [B, S, D], and the keys and values that were attended to."""
    attention = Attention(self.config, self.dtype, self.dense, name='attention')
    mlp = MLP(self.config, self.dtype, self.dense, name='mlp')
    first_norm = norm(self.config, self.dtype, 'input_layernorm')
    second_norm = norm(self.config, self.dtype, 'post_attention_layernorm')
    attended, cache = attention(first_norm(hidden), view, cache, slot)
    if self.config.use_parallel_residual:
      return hidden + attended + mlp(second_norm(hidden)), cache
    hidden = hidden + attended
    return hidden + mlp(second_norm(hidden)), cache


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
