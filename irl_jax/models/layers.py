"""Parts shared by the architectures: attention, rotary positions, the cache, a scan over layers.

Dims: B batch, S queries, K keys or cache slots, H heads, E head size, R rotated part of E, D width,
L layers.
"""

from collections.abc import Callable
from typing import Any

import chex
from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from irl_jax.models import cpu
from irl_jax.runtime import sharding

Params = dict[str, Any]  # a nested dict of arrays
MASKED = -1e9  # a masked score: finite, so that a row without any visible position stays finite


@struct.dataclass
class Rotary:
  """Cosine and sine of every position's rotation, float32."""

  cos: jax.Array  # [B, S, 1, R]
  sin: jax.Array  # [B, S, 1, R]


@struct.dataclass
class View:
  """The inputs of a layer that depend on positions: rotary tables and visible keys."""

  rotary: Rotary
  mask: jax.Array  # [B, 1, S, K] bool


@struct.dataclass
class Cache:
  """Keys and values of one layer, carried through the decode loop."""

  keys: jax.Array  # [B, H, K, E]
  values: jax.Array  # [B, H, K, E]


def init(module: nn.Module, key: jax.Array, *inputs: Any) -> Params:
  """Returns random parameters of a module for inputs of these shapes."""
  return module.init(key, *inputs)['params']


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
  """Applies a module with these parameters to its inputs."""
  return module.apply({'params': params}, *inputs)


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  mask: jax.Array,
  scale: float | None = None,
  cap: float | None = None,
) -> jax.Array:
  """Computes scaled dot-product attention, its softmax in float32 (Vaswani et al. 2017, eq. 1).

  Args:
    query: [B, H, S, E].
    key: [B, N, K, E]; N divides H, and every H / N consecutive query heads share a key.
    value: [B, N, K, E].
    mask: [B, 1, S, K] bool, or any shape that broadcasts to it; False hides a key from a query.
    scale: multiplies the scores; None: 1 / sqrt(E).
    cap: bounds the scores (`soft_cap`).

  Returns:
    [B, H, S, E], of the type of `value`.
  """
  groups = query.shape[1] // key.shape[1]
  if groups > 1:  # the queries that share a key become queries of one head: [B, N, H/N S, E]
    mask = jnp.tile(mask, (1, 1, groups, 1)) if mask.shape[2] > 1 else mask
    rows = query.reshape(*key.shape[:2], -1, query.shape[3])
    return attend(rows, key, value, mask, scale, cap).reshape(query.shape)
  scores = jnp.einsum('bhse,bhke->bhsk', query, key, preferred_element_type=jnp.float32)
  scores = soft_cap(scores * (key.shape[-1] ** -0.5 if scale is None else scale), cap)
  weights = jax.nn.softmax(jnp.where(mask, scores, MASKED), axis=-1)
  return jnp.einsum('bhsk,bhke->bhse', weights.astype(value.dtype), value)


def soft_cap(scores: jax.Array, cap: float | None) -> jax.Array:
  """Returns c tanh(scores / c) (Gemma 2, arXiv:2408.00118, section 2), or scores without a cap."""
  return scores if cap is None else cap * jnp.tanh(scores / cap)


def split_heads(x: jax.Array, heads: int) -> jax.Array:
  """Splits x [B, S, H E] into heads: [B, H, S, E]."""
  return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def merge_heads(x: jax.Array) -> jax.Array:
  """Undoes `split_heads`: [B, H, S, E] -> [B, S, H E]."""
  batch, heads, length, size = x.shape
  return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * size)


def rotary_tables(positions: jax.Array, frequencies: chex.Array) -> Rotary:
  """Returns the rotary tables (Su et al. 2021, arXiv:2104.09864) of positions [B, S].

  Args:
    positions: every token's position.
    frequencies: [R/2] float32, the angle of one position.
  """
  angles = positions.astype(jnp.float32)[..., None] * frequencies[None, None]  # [B, S, R/2]
  angles = jnp.concatenate([angles, angles], -1)[:, :, None]  # [B, S, 1, R]
  return Rotary(jnp.cos(angles), jnp.sin(angles))


def rotate(x: jax.Array, rotary: Rotary) -> jax.Array:
  """Rotates the first R dims of each head of x [B, S, H, E], in the rotate-half form."""
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


def positions_of(valid: jax.Array) -> jax.Array:
  """Returns every token's position [B, S]: the number of valid tokens before it.

  Padding may be on either side.
  """
  return jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0)


def depth(blocks: Params) -> int:
  """Returns the number of layers L of stacked parameters [L, ...]."""
  return jax.tree.leaves(blocks)[0].shape[0]


def unstacked(blocks: Any) -> list[Any]:
  """Splits trees stacked on a leading layer axis [L, ...] into one tree per layer."""
  return [jax.tree.map(lambda x, layer=layer: x[layer], blocks) for layer in range(depth(blocks))]


def with_room(written: Any, slots: int) -> list[Cache]:
  """Returns each layer's cache, out of keys and values stacked [L, ...], with room for `slots`."""
  room = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, slots - x.shape[3]), (0, 0)))
  return unstacked(jax.tree.map(room, written))


def decode_layers(blocks: Params) -> list[Params]:
  """Returns the parameters of each block as `decode_blocks` reads them: kernels are [out, in]."""
  return [cpu.transposed_kernels(layer) for layer in unstacked(blocks)]


def scan_layers(
  run: Callable[[jax.Array, Any, Any], tuple[jax.Array, Any]],
  hidden: jax.Array,
  blocks: Any,
  rematerialise: bool,
  inputs: Any = (),
) -> tuple[jax.Array, Any]:
  """Runs stacked layers one after the other, as `jax.lax.scan`.

  Args:
    run: one layer: (hidden, its parameters, inputs) -> (hidden, output).
    hidden: [B, S, D], the input of the first layer.
    blocks: parameters stacked on a leading layer axis [L, ...].
    rematerialise: keep only each layer's input for the backward pass.
    inputs: leaves [B, ...] that every layer reads; other arrays of B rows may not reach `run`.

  Returns:
    hidden [B, S, D] after the last layer, and the layers' outputs [B, ...] stacked [L, B, ...].
  """
  if sharding.shares() > 1:
    return sharding.scan_layers(run, hidden, blocks, rematerialise, inputs)
  one_layer = lambda hidden, layer: run(hidden, layer, inputs)
  if (
    rematerialise
    # Always a loop: if layers were unrolled, XLA would merge the recomputation with the first
    # computation
  ):
    return jax.lax.scan(jax.checkpoint(one_layer, prevent_cse=False), hidden, blocks)
  return jax.lax.scan(one_layer, hidden, blocks, unroll=cpu.unroll(depth(blocks)))


def layer_normalised(hidden: jax.Array, epsilon: float) -> jax.Array:
  """Returns states [..., D] with mean 0 and variance 1: a layer norm without parameters.

  The result is float32.
  """
  hidden = jnp.asarray(hidden, jnp.float32)
  centred = hidden - jnp.mean(hidden, -1, keepdims=True)
  return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + epsilon)


def rms_normalised(hidden: jax.Array, epsilon: float) -> jax.Array:
  """Returns states [..., D] with root mean square 1, float32: an RMS norm without parameters."""
  hidden = jnp.asarray(hidden, jnp.float32)
  return hidden * jax.lax.rsqrt(jnp.mean(hidden**2, -1, keepdims=True) + epsilon)


def causal_mask(valid: jax.Array) -> jax.Array:
  """Returns which keys a query sees [B, 1, S, S]: those before it and itself, where `valid`."""
  causal = jnp.tril(jnp.ones((valid.shape[1], valid.shape[1]), bool))
  return (causal[None] & valid[:, None])[:, None]
