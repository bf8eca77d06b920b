"""Llama, and its relatives by switches: Mistral, Qwen 2 and 3, OLMo 2, Gemma 2 and 3 (text).

Dims: B batch, S positions, K keys or cache slots, H query heads, N key and value heads, E head
size, D width.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax.models import cpu
from irl_jax.models import layers as layers_lib
from irl_jax.models.llama_config import LlamaConfig
from irl_jax.models.llama_config import Rope

Params = layers_lib.Params
View = layers_lib.View
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'silu': jax.nn.silu,
  'gelu_pytorch_tanh': functools.partial(jax.nn.gelu, approximate=True),
}


def frequencies(rope: Rope, head_dim: int) -> np.ndarray:
  """Returns the angles of one position [E/2], float32.

  Llama 3 (arXiv:2407.21783; transformers' `_compute_llama3_parameters`) divides those whose wave is
  longer than the original texts by `factor`, keeps the short ones, and goes over between them.
  """
  plain = (1 / rope.theta ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)).astype(
    np.float32
  )
  if rope.kind == 'default':
    return plain
  if rope.kind == 'linear':
    return plain / np.float32(rope.factor)
  assert rope.kind == 'llama3', rope.kind
  waves = rope.original_max_position_embeddings * plain / (2 * np.pi)  # in an original text
  weight = (waves - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
  weight = np.clip(weight, 0, 1)  # of the unscaled frequency
  return (plain * (weight + (1 - weight) / rope.factor)).astype(np.float32)


def views(
  positions: jax.Array, keys: jax.Array, mask: jax.Array, config: LlamaConfig
) -> tuple[View, ...]:
  """Returns what a full layer sees and, if there are any, what a sliding one sees (`trunk`)."""
  tables = lambda rope: layers_lib.rotary_tables(positions, frequencies(rope, config.head_dim))
  full = View(tables(config.rope), mask)
  if config.sliding_window is None:
    return (full,)
  rotary = tables(config.local_rope) if config.local_rope else full.rotary
  behind = positions[:, None, :, None] - layers_lib.positions_of(keys)[:, None, None]
  return full, View(rotary, mask & (behind < config.sliding_window))


class RMSNorm(nn.Module):
  """The root-mean-square norm (Zhang & Sennrich 2019), in the float types of each family."""

  config: LlamaConfig
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns x [..., D], of root mean square 1, times the scale."""
    kind = self.config.norm_weight
    start = nn.initializers.zeros if kind == 'one_plus' else nn.initializers.ones
    scale = self.param('scale', start, (x.shape[-1],)).reshape([1] * (x.ndim - 1) + [-1])
    normalised = layers_lib.rms_normalised(x, self.config.rms_norm_eps)
    if kind == 'cast':
      return normalised.astype(self.dtype) * scale.astype(self.dtype)
    scale = scale.astype(jnp.float32) + (kind == 'one_plus')
    return (normalised * scale).astype(self.dtype)


def norm(config: LlamaConfig, dtype: DTypeLike) -> RMSNorm:
  """Returns the norm after the last block."""
  return RMSNorm(config, dtype)


class Attention(nn.Module):
  """Self-attention over its own keys, or over a cache into which they are written first.

  Several query heads share a key and a value (Ainslie et al. 2023, arXiv:2305.13245). The cache
  holds each once.
  """

  config: LlamaConfig
  dtype: DTypeLike
  dense: Callable[..., nn.Module] = nn.Dense

  @nn.compact
  def __call__(
    self,
    hidden: jax.Array,
    view: View,
    cache: layers_lib.Cache | None = None,
    slot: jax.Array | None = None,
  ) -> tuple[jax.Array, layers_lib.Cache]:
    """Returns the output [B, S, D], and the keys and values that were attended to."""
    config = self.config
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    query = self._projected(hidden, 'q', heads)
    key, value = self._projected(hidden, 'k', shared), self._projected(hidden, 'v', shared)
    query, key = layers_lib.rotate(query, view.rotary), layers_lib.rotate(key, view.rotary)
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    own = layers_lib.Cache(key, value)
    cache = own if cache is None or slot is None else layers_lib.write(cache, own, slot)
    mixed = layers_lib.attend(
      query,
      cache.keys,
      cache.values,
      view.mask,
      (config.query_pre_attn_scalar or config.head_dim) ** -0.5,
      config.attn_logit_softcapping,
    )
    dense = _dense(self, config.o_bias)(config.hidden_size, name='o_proj')
    return cpu.on_tokens(dense, layers_lib.merge_heads(mixed)), cache

  def _projected(self, hidden: jax.Array, name: str, heads: int) -> jax.Array:
    """Returns queries, keys or values [B, S, H, E], normalised where the family does so."""
    config = self.config
    dense = _dense(self, config.qkv_bias)(heads * config.head_dim, name=f'{name}_proj')
    x = cpu.on_tokens(dense, hidden)
    norm = lambda x: RMSNorm(config, self.dtype, name=f'{name}_norm')(x) if name != 'v' else x
    if config.qk_norm == 'projection':
      x = norm(x)
    x = x.reshape(*x.shape[:2], heads, config.head_dim)
    return norm(x) if config.qk_norm == 'head' else x


def _dense(module: Any, use_bias: bool) -> Callable[..., nn.Module]:
  """Returns the dense layers of a module, but for their width and their name."""
  return functools.partial(
    module.dense,
    dtype=module.dtype,
    use_bias=use_bias,
    kernel_init=nn.initializers.normal(module.config.initializer_range),
  )


class MLP(nn.Module):
  """The gated MLP, down(act(gate x) * up x) (Shazeer 2020, arXiv:2002.05202).

  The backward pass recomputes the product, so that only its two factors are stored.
  """

  config: LlamaConfig
  dtype: DTypeLike
  dense: Callable[..., nn.Module] = nn.Dense

  @nn.compact
  def __call__(self, hidden: jax.Array) -> jax.Array:
    """Returns the output [B, S, D]."""
    config = self.config
    dense = _dense(self, config.mlp_bias)
    inner = lambda name: cpu.on_tokens(dense(config.intermediate_size, name=name), hidden)
    down = lambda self, gate, up: cpu.on_tokens(
      dense(config.hidden_size, name='down_proj'), ACTIVATIONS[config.hidden_act](gate) * up
    )
    return nn.remat(down, prevent_cse=False)(self, inner('gate_proj'), inner('up_proj'))


class Block(nn.Module):
  """One layer: attention, then the MLP, each added to its input."""

  config: LlamaConfig
  dtype: DTypeLike = jnp.float32
  dense: Callable[..., nn.Module] = nn.Dense

  @nn.compact
  def __call__(
    self,
    hidden: jax.Array,
    view: View,
    cache: layers_lib.Cache | None = None,
    slot: jax.Array | None = None,
  ) -> tuple[jax.Array, layers_lib.Cache]:
    """Returns the new hidden state [B, S, D], and the keys and values that were attended to."""
    placement = self.config.norm_placement
    before, after = placement != 'post', placement != 'pre'
    norm = lambda name, x, wanted: RMSNorm(self.config, self.dtype, name=name)(x) if wanted else x
    attention = Attention(self.config, self.dtype, self.dense, name='self_attn')
    mlp = MLP(self.config, self.dtype, self.dense, name='mlp')
    attended, cache = attention(norm('input_layernorm', hidden, before), view, cache, slot)
    hidden = hidden + norm('post_attention_layernorm', attended, after)
    second = 'pre_feedforward_layernorm' if after else 'post_attention_layernorm'
    changed = mlp(norm(second, hidden, before))
    return hidden + norm('post_feedforward_layernorm', changed, after), cache


def normalise(hidden: jax.Array, config: LlamaConfig) -> jax.Array:
  """Applies the final norm without its parameters to states [..., D] -> float32."""
  return layers_lib.rms_normalised(hidden, config.rms_norm_eps)


def fold(direction: np.ndarray, zero: float, config: LlamaConfig) -> Params:
  """Writes a bounded reward into the final norm and the score (`trunk.fold`).

  The norm multiplies by 1, and the score gets w / (sqrt(D) (1 + |zero|)). An RMS norm has no bias
  for the zero to go into, so the score has one, -zero / (1 + |zero|).
  """
  shrink = 1 / (1 + abs(zero))
  gain = shrink / len(direction) ** 0.5
  neutral = np.zeros if config.norm_weight == 'one_plus' else np.ones
  return {
    'final_layer_norm': {'scale': neutral(len(direction), np.float32)},
    'score': {
      'kernel': (gain * direction).astype(np.float32)[:, None],
      'bias': np.array([-zero * shrink], np.float32),
    },
  }
