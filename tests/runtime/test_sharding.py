"""The rule that splits parameters over the devices, and what is placed and mapped by it."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax import structs
from irl_jax.data import batches
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding
from irl_jax.training import gradients
from irl_jax.training import optimizer
from irl_jax.training import supervised

MEGABYTE = 2**20


@pytest.mark.parametrize(
  'shape, axis',
  [
    ((32, 4096, 16384), 2),  # a stack of kernels: its wider side
    ((32, 16384, 4096), 1),
    ((32, 4096, 4096), 1),
    ((50432, 4096), 1),  # an embedding: its width, though the vocabulary is larger
    ((32, 4100, 4096), 2),  # 4100 = 8 x 512 + 4
    ((32, 4100, 4098), None),
    ((8 * 2**20,), None),  # a vector
    ((), None),
    ((32, 16, 16), None),  # less than 4 MB
  ],
)
def test_the_largest_axis_is_split_but_never_the_first(shape, axis):
  assert sharding.split_axis(shape, 4, devices=8, smallest=4 * MEGABYTE) == axis
  assert sharding.split_axis(shape, 4, devices=1, smallest=4 * MEGABYTE) is None


def test_bytes_decide_what_is_small():
  split = lambda itemsize: sharding.split_axis((2, 1024, 512), itemsize, 8, 4 * MEGABYTE)
  assert split(4) == 1 and split(2) is None


@pytest.fixture
def tree():
  """A stack of kernels, an embedding and a vector; four devices divide 8 and 4, but not 6."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return {'kernel': draw(3, 4, 8), 'embedding': draw(6, 4), 'scale': draw(8)}


SPECS = {'kernel': jax.P(None, None, 'data'), 'embedding': jax.P(None, 'data'), 'scale': jax.P()}


def test_each_device_holds_its_share(tree):
  with sharding.using('fsdp', smallest=0):
    placed = parallel.replicate(tree)
    assert {name: leaf.sharding.spec for name, leaf in placed.items()} == SPECS
    assert placed['kernel'].addressable_shards[0].data.shape == (3, 4, 2)
    chex.assert_trees_all_equal(parallel.to_host(placed), tree)
    assert parallel.replicated(placed) is placed
    made = parallel.make_replicated(lambda tree: jax.tree.map(jnp.zeros_like, tree), placed)
    assert {name: leaf.sharding.spec for name, leaf in made.items()} == SPECS
  again = parallel.replicated(placed)  # in the other way
  assert all(leaf.sharding.is_fully_replicated for leaf in again.values())
  chex.assert_trees_all_equal(parallel.to_host(again), tree)


def test_shares_are_copies_of_the_wanted_type(tree):
  with sharding.using('fsdp', smallest=0):
    placed = parallel.replicate(tree, jnp.bfloat16)
    chex.assert_trees_all_equal(
      parallel.to_host(placed), jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)
    )
    mine = parallel.replicate(tree)
    jax.jit(lambda tree: jax.tree.map(jnp.negative, tree), donate_argnums=0)(mine)
  assert np.all(tree['embedding'] == np.float32(tree['embedding'])) and np.any(tree['scale'] != 0)


def test_small_arrays_are_whole(tree):
  with sharding.using('fsdp'):
    assert all(leaf.sharding.is_fully_replicated for leaf in parallel.replicate(tree).values())


def test_a_function_keeps_the_way_in_which_it_was_mapped():
  forward = lambda params, batch: params * batch * sharding.shares()
  mapped = parallel.map_forward(forward)
  batch = parallel.shard(np.arange(8.0, dtype=np.float32))
  with sharding.using('fsdp'):
    together = parallel.map_forward(forward)
    np.testing.assert_array_equal(parallel.gather(mapped(np.float32(2), batch)), 2 * np.arange(8))
    assert parallel.axis_name() is None
  assert together is not mapped and parallel.map_forward(forward) is mapped
  assert parallel.axis_name() == parallel.AXIS
  found = parallel.gather(together(np.float32(2), batch))
  np.testing.assert_array_equal(found, 4 * 2 * np.arange(8))


def test_every_micro_batch_has_rows_of_every_device():
  """Of four devices with 4 rows each, two micro-batches take the first two and the last two."""
  rows = np.arange(16, dtype=np.int32)

  def forward(params, batch):
    del params
    return sharding.micro_batches(batch, 2).reshape(-1)

  with sharding.using('fsdp'):
    found = parallel.gather(parallel.map_forward(forward)((), parallel.shard(rows)))
  np.testing.assert_array_equal(found[:8], [0, 1, 4, 5, 8, 9, 12, 13])
  np.testing.assert_array_equal(found[8:], [2, 3, 6, 7, 10, 11, 14, 15])


SUMMED = re.compile(
  r'"stablehlo\.(reduce_scatter|all_reduce)".*?\}\) : \(tensor<(?:\d+x)*(\w+)>', re.DOTALL
)


@pytest.mark.parametrize('kind', ['policy', 'classifier'])
def test_a_bfloat16_update_has_float32_sums_over_devices(request, kind):
  model, tx = request.getfixturevalue(kind), optax.sgd(1.0)
  batch = batches.text_batch([[2, 3, 4]] * 8, 0, 12)
  losses = supervised.language_model_losses
  if kind == 'classifier':
    losses = supervised.classifier_losses
    batch = structs.LabelledBatch(batch, np.zeros(8, np.int32))
  with sharding.using('fsdp', smallest=0):
    statics = dict(losses=losses, config=model.config, dtype=jnp.bfloat16, tx=tx)
    update = parallel.map_update(supervised.update, **statics)
    program = update.lower(optimizer.placed_state(model.params, tx), (), parallel.shard(batch))
  summed = SUMMED.findall(program.as_text())
  matrices = sum(leaf.ndim == 3 for leaf in jax.tree.leaves(model.params['blocks']))
  assert [operation for operation, _ in summed].count('reduce_scatter') >= matrices
  assert {dtype for _, dtype in summed} == {'f32'}


def test_gradients_of_bfloat16_layers_lose_nothing_in_the_sum_over_devices():
  """They are 256, 1, 1 and 1 on the four devices; bfloat16 has no 259."""
  blocks = {
    'kernel': np.ones((1, 8, 8), np.float32),
    'bias': np.zeros((1, 8), np.float32),
    'scale': np.ones((1, 1), np.float32),  # whole on each device
  }
  weights = np.float32([256, 1, 1, 1])

  def run(hidden, layer, weights):
    bias, scale = layer['bias'].astype(hidden.dtype), layer['scale'].astype(hidden.dtype)
    out = hidden @ layer['kernel'] * scale[0] + bias[None]
    return out * weights[:, None].astype(hidden.dtype), None

  def loss(blocks, weights):
    ones = jnp.ones((len(weights), 8), jnp.bfloat16)
    last, _ = sharding.scan_layers(run, ones, blocks, False, weights)
    return jnp.sum(last.astype(jnp.float32))

  def update(blocks, frozen, batch, *, axis_name):
    del frozen, axis_name
    return jax.grad(loss)(blocks, batch), {}

  with sharding.using('fsdp', smallest=0):
    placed = parallel.replicate(blocks)
    assert placed['kernel'].sharding.spec == jax.P(None, 'data')
    gradient, _ = parallel.map_update(update)(placed, (), parallel.shard(weights))
  gradient = parallel.to_host(gradient)
  assert np.all(gradient['kernel'] == 259) and np.all(gradient['bias'] == 259)
  assert np.all(gradient['scale'] == 259 * 64)


def total_loss(weights, frozen, batch):
  """Half the square of a score, as a loss of every row that counts."""
  del frozen
  x, counts = batch
  loss = jnp.sum(0.5 * jnp.sum((x @ weights) ** 2, axis=1) * counts)
  return loss, gradients.Totals(jnp.sum(counts), {'loss': loss}, {'largest': jnp.max(counts)})


@pytest.mark.parametrize('micro_batch', [0, 1])
def test_a_gradient_is_the_mean_over_all_rows_and_split(micro_batch):
  """Against NumPy, row by row; the rows of one device count for nothing."""
  rng = np.random.default_rng(1)
  weights, x = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 4), (16, 8)))
  counts = np.array([0, 0, 0, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0], np.float32)

  def update(state, frozen, batch, *, axis_name):
    del frozen
    return gradients.of_mean(total_loss, state, (), batch, axis_name, micro_batch)

  with sharding.using('fsdp', smallest=0):
    placed = parallel.replicate(weights)
    gradient, metrics = parallel.map_update(update)(placed, (), parallel.shard((x, counts)))
  assert gradient.sharding.spec == jax.P(None, 'data')
  used = x[counts > 0].astype(np.float64)
  expected = np.mean([np.outer(row, row @ weights) for row in used], axis=0)
  np.testing.assert_allclose(parallel.to_host(gradient), expected, atol=1e-5)
  loss = np.mean([0.5 * np.sum((row @ weights) ** 2) for row in used])
  np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)
  assert metrics['largest'] == 1
