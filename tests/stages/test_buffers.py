"""Predicted buffers: the number of parameters, and the compiler's account of sampling."""

import functools

import jax
import jax.numpy as jnp
import pytest

from irl_jax import distribution
from irl_jax import sampling
from irl_jax import structs
from irl_jax.models import gpt_neox
from irl_jax.models.huggingface import weights as huggingface_weights
from irl_jax.stages import buffers

SHAPE = gpt_neox.GPTNeoXConfig(
  vocab_size=512, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256
)
PYTHIA = {
  name: gpt_neox.GPTNeoXConfig(
    vocab_size=50304,
    hidden_size=width,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    intermediate_size=4 * width,
  )
  for name, width, layers, heads in (('14m', 128, 6, 4), ('410m', 1024, 24, 16))
}


@pytest.mark.parametrize('trained_blocks', [-1, 0, 1, 3])
def test_trained_and_frozen_parameters_are_all_there_are(trained_blocks):
  trained, frozen = buffers.parameters(SHAPE, trained_blocks)
  block = 12 * 64**2 + 13 * 64  # attention 4 D^2 + 4 D, feed-forward 8 D^2 + 5 D, two norms 4 D
  assert trained + frozen == 2 * 512 * 64 + 3 * block + 2 * 64
  assert (
    trained
    == {
      -1: trained + frozen,
      0: 512 * 64,
      1: 512 * 64 + block + 2 * 64,
      3: 512 * 64 + 3 * block + 2 * 64,
    }[trained_blocks]
  )


@pytest.mark.slow
@pytest.mark.parametrize('name', ['14m', '410m'])
def test_sampling_needs_what_the_compiler_says(name):
  shape, rows, prompt, response = PYTHIA[name], 8, 32, 32
  array = lambda dtype, *dims: jax.ShapeDtypeStruct(dims, dtype)
  sample = functools.partial(
    sampling.sample,
    config=shape,
    dtype=jnp.float32,
    max_new_tokens=response,
    min_new_tokens=0,
    top_k=0,
    top_p=1.0,
    greedy=False,
  )
  allowed = distribution.Allowed(
    array(bool, shape.vocab_size), array(bool, shape.vocab_size), array(jnp.float32)
  )
  key = jax.eval_shape(lambda: jax.random.key(0))
  batch = structs.PromptBatch(
    array(jnp.int32, rows, prompt), array(bool, rows, prompt), array(jnp.uint32, rows)
  )
  params = huggingface_weights.shapes('causal_lm', shape)
  found = (
    jax.jit(sample)
    .lower((params, allowed, key), batch)
    .compile()
    .memory_analysis()
    .temp_size_in_bytes
  )
  predicted = sum(
    buffer.size for buffer in buffers.decoding(shape, rows, prompt, response, width=4)
  )
  print(f'{predicted / 1e6:,.0f} MB predicted, {found / 1e6:,.0f} MB found')
  assert 0.8 < predicted / found < 1.25
