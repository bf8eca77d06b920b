"""A model whose training state does not fit one device is trained whole, by shares that do.

The limit of a device's memory lies between a share and the whole. What the devices hold is measured
from the arrays that are there after each epoch, and what an update needs is the compiler's account.
"""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models

from irl_jax import config as c
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding
from irl_jax.training import supervised

pytestmark = pytest.mark.slow

TEXTS = ['hello', 'what a bad cat', 'a big bag', 'hi', 'good day', 'we had a nice day'] * 4
SETTINGS = c.Supervised(epochs=3, batch_size=8, warmup_steps=0, learning_rate=1e-2)


@pytest.fixture(scope='module')
def model(letters):
  """A language model of 4 layers with random parameters."""
  config = gpt_neox.GPTNeoXConfig(
    vocab_size=36,
    hidden_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=256,
    max_position_embeddings=32,
  )
  return pretrained.Pretrained('causal_lm', config, tiny_models.drawn(trunk.init, config), letters)


@pytest.fixture(scope='module')
def limit(model):
  """Bytes that a device may hold: less than parameters and two moments, and more than a share."""
  parameters = sum(leaf.size for leaf in jax.tree.leaves(model.params))
  return round(2.5 * 4 * parameters)


def held() -> int:
  """Returns the bytes of all arrays on the device that holds most of them."""
  sizes: collections.Counter[jax.Device] = collections.Counter()
  for array in jax.live_arrays():
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
      continue
    size = math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize
    sizes.update(dict.fromkeys(array.sharding.addressable_devices, size))
  return max(sizes.values(), default=0)


def trained(model, way, folder, monkeypatch):
  """Trains a model -> (losses of the validations, bytes held, bytes that an update needs)."""
  losses, sizes, needed, before = [], [], [], held()
  map_update = parallel.map_update

  def measured(*arguments, **statics):
    update = map_update(*arguments, **statics)

    def call(state, frozen, batch):
      if not needed:
        found = update.lower(state, frozen, batch).compile().memory_analysis()
        needed.append(found.argument_size_in_bytes + found.temp_size_in_bytes)
      return update(state, frozen, batch)

    return call

  def log(update, metrics):
    del update
    losses.append(metrics['validation/loss'])
    sizes.append(held() - before)

  monkeypatch.setattr(parallel, 'map_update', measured)
  runtime = c.Runtime(sharding=way)
  supervised.train_language_model(
    model, TEXTS, TEXTS[:8], SETTINGS, 0, folder, runtime=runtime, log=log
  )
  return losses, max(sizes), needed[0]


def test_a_model_that_does_not_fit_a_device_is_trained_by_shares(
  model, limit, tmp_path, monkeypatch
):
  monkeypatch.setattr(sharding, 'SMALLEST', 0)
  whole, held_whole, needed_whole = trained(model, 'replicated', tmp_path / 'a', monkeypatch)
  monkeypatch.undo()
  monkeypatch.setattr(sharding, 'SMALLEST', 0)
  split, held_split, needed_split = trained(model, 'fsdp', tmp_path / 'b', monkeypatch)
  assert held_split < limit < held_whole and needed_split < limit < needed_whole
  assert len(split) == 3 and split[-1] < split[0]
  np.testing.assert_allclose(split, whole, rtol=1e-3)
