"""Parts shared by the architectures: attention, a scan over layers, Linen modules as functions.

Dims: B batch, S queries, K keys, H heads, E head size, D width, L layers.
"""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from irl_jax.models import cpu

Params = dict[str, Any]  # a nested dict of arrays
MASKED = -1e9  # a masked score: finite, so that a row without any visible position stays finite


def init(module: nn.Module, key: jax.Array, *inputs: Any) -> Params:
  """Returns random parameters of a module for inputs of these shapes."""
  return module.init(key, *inputs)['params']


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
  """Applies a module with these parameters to its inputs."""
  return module.apply({'params': params}, *inputs)


def attend(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
  """Computes scaled dot-product attention, its softmax in float32 (Vaswani et al. 2017, eq. 1).

  Args:
    query: [B, H, S, E].
    key: [B, H, K, E].
    value: [B, H, K, E].
    mask: [B, 1, S, K] bool, or any shape that broadcasts to it; False hides a key from a query.

  Returns:
    [B, H, S, E], of the type of `value`.
  """
  scores = jnp.einsum('bhse,bhke->bhsk', query, key, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(jnp.where(mask, scores * key.shape[-1] ** -0.5, MASKED), axis=-1)
  return jnp.einsum('bhsk,bhke->bhse', weights.astype(value.dtype), value)


def split_heads(x: jax.Array, heads: int) -> jax.Array:
  """Splits x [B, S, H E] into heads: [B, H, S, E]."""
  return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def merge_heads(x: jax.Array) -> jax.Array:
  """Undoes `split_heads`: [B, H, S, E] -> [B, S, H E]."""
  batch, heads, length, size = x.shape
  return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * size)


def depth(blocks: Params) -> int:
  """Returns the number of layers L of stacked parameters [L, ...]."""
  return jax.tree.leaves(blocks)[0].shape[0]


def unstacked(blocks: Any) -> list[Any]:
  """Splits trees stacked on a leading layer axis [L, ...] into one tree per layer."""
  return [jax.tree.map(lambda x, layer=layer: x[layer], blocks) for layer in range(depth(blocks))]


def scan_layers(
  run: Callable[[jax.Array, Params], tuple[jax.Array, Any]],
  hidden: jax.Array,
  blocks: Params,
  rematerialise: bool,
) -> tuple[jax.Array, Any]:
  """Runs stacked layers one after the other, as `jax.lax.scan`.

  Args:
    run: one layer: (hidden, its parameters) -> (hidden, output).
    hidden: [B, S, D], the input of the first layer.
    blocks: parameters stacked on a leading layer axis [L, ...].
    rematerialise: keep only each layer's input for the backward pass.

  Returns:
    hidden [B, S, D] after the last layer, and the layers' outputs stacked [L, ...].
  """
  if (
    rematerialise
  ):  # always a loop: unrolled, XLA would merge the second computation with the first
    return jax.lax.scan(jax.checkpoint(run, prevent_cse=False), hidden, blocks)
  return jax.lax.scan(run, hidden, blocks, unroll=cpu.unroll(depth(blocks)))
