"""The forms chosen for XLA on a CPU compute the same as the plain forms."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models import cpu
from irl_jax.models import layers


@pytest.mark.parametrize('use_bias', [True, False])
@pytest.mark.parametrize('dtype, tolerance', [(jnp.float32, 1e-6), (jnp.bfloat16, 0.05)])
def test_a_transposed_dense_layer_is_the_dense_layer(use_bias, dtype, tolerance):
  x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
  make = functools.partial(
    nn.Dense, 5, use_bias=use_bias, bias_init=nn.initializers.normal(), dtype=dtype
  )
  params = layers.init(make(), jax.random.key(0), x)
  transposed = cpu.transposed_kernels(params)
  found = layers.apply(cpu.TransposedDense(5, dtype, use_bias), transposed, x)
  assert transposed['kernel'].shape == (5, 8) and found.dtype == dtype
  np.testing.assert_allclose(found, layers.apply(make(), params, x), atol=tolerance, rtol=0)


def test_only_kernels_are_transposed():
  params = {'norm': {'scale': np.ones((2, 3))}, 'dense': {'kernel': np.ones((2, 3))}}
  shapes = jax.tree.map(np.shape, cpu.transposed_kernels(params))
  assert shapes == {'norm': {'scale': (2, 3)}, 'dense': {'kernel': (3, 2)}}


def test_a_dense_layer_on_tokens_is_the_dense_layer_on_texts():
  x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
  params = layers.init(nn.Dense(5), jax.random.key(0), x)
  dense = nn.Dense(5).bind({'params': params})
  np.testing.assert_allclose(cpu.on_tokens(dense, x), dense(x), atol=1e-6)


def test_shallow_stacks_are_unrolled():
  assert cpu.unroll(1) and cpu.unroll(cpu.SHALLOW) and not cpu.unroll(cpu.SHALLOW + 1)
