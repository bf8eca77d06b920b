"""Operations rewritten for speed under XLA on CPU; each is equivalent to the plain version.

- `on_tokens`: a dense layer as one matmul, because the gradient of a batched one is slow.
- `TransposedDense` with `transposed_kernels`: kernels [out, in] for decoding, transposed once per
  rollout, because a matmul with few columns reads rows faster than columns.
- `unroll`: shallow stacks of layers are compiled layer by layer, because a loop copies parameters.

All of them run on every platform, so that only one program needs tests.

Dims: B batch, S positions, D width.
"""

from typing import Any

from flax import linen as nn
import jax
from jax.nn.initializers import Initializer
import jax.numpy as jnp
from jax.typing import DTypeLike

SHALLOW = 6  # the deepest stack that is compiled layer by layer


def on_tokens(dense: nn.Module, x: jax.Array) -> jax.Array:
  """Applies a dense layer to x [B, S, D] as one matmul of [B S, D].

  The gradient of a matmul with two leading axes is three times slower under XLA on CPU.
  """
  return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class TransposedDense(nn.Module):
  """nn.Dense with its kernel stored as [out, in], for few tokens.

  The kernel is then the left side of a matmul with few columns. XLA on CPU reads the rows of a
  left side one and a half to three times as fast as the columns of a right side.
  """

  features: int
  dtype: DTypeLike
  use_bias: bool = True
  kernel_init: Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns x [tokens, in] times the kernel, plus the bias: [tokens, out]."""
    kernel = self.param('kernel', self.kernel_init, (self.features, x.shape[-1]))
    # Without the barriers XLA transposes the matmul back.
    columns = jax.lax.optimization_barrier(x.astype(self.dtype).T)
    out = jnp.dot(kernel.astype(self.dtype), columns)
    if self.use_bias:
      out += self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)[:, None]
    return jax.lax.optimization_barrier(out).T


def transposed_kernels(params: Any) -> Any:
  """Returns parameters of dense layers as `TransposedDense` reads them: kernels are [out, in]."""
  # The barrier keeps XLA from moving the transposition into the decode loop.
  transposed = lambda path, x: jax.lax.optimization_barrier(x.T) if path[-1].key == 'kernel' else x
  return jax.tree_util.tree_map_with_path(transposed, params)


def unroll(depth: int) -> bool:
  """Returns True if a stack of this many layers is compiled layer by layer, not as a loop.

  A loop copies a layer's parameters out of their stacks. It copies the values for the backward pass
  into other stacks, which it first fills with zeros. A deep stack would take too long to compile.
  """
  return depth <= SHALLOW
