"""Checkpoints: what is saved comes back bit for bit, the latest ones stay, and what does not fit is refused."""

import copy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import checkpoint
from irl_jax import errors
from irl_jax import optimizer
from irl_jax import parallel


def state_of(seed, width=3, dtype=jnp.float32):
  params = {'w': jax.random.normal(jax.random.key(seed), (width, 2), dtype)}
  tx, _ = optimizer.adamw(learning_rate=0.1, updates=5)
  return parallel.replicate(optimizer.new_state(params, tx))


def test_state_and_meta_come_back_bit_for_bit(tmp_path):
  meta = {'moments': {'count': 3.0, 'mean': 0.1 + 0.2, 'variance': 1e-17}, 'list': [{'loss': 1 / 3}]}
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(state_of(0)) is None
    saved = copy.deepcopy(meta)
    checkpoints.save(7, state_of(1), saved)
    saved['list'].append(jnp.zeros(1))  # it is written in the background; what the caller does now is not saved
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    step, state, restored = checkpoints.restore(state_of(0))
  assert step == 7 and restored == meta
  chex.assert_trees_all_equal(state, state_of(1))
  assert all(leaf.sharding.is_fully_replicated and len(leaf.devices()) == 4 for leaf in jax.tree.leaves(state))


def test_the_latest_ones_stay(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, state_of(step), {})
  assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {'2', '3'}
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    step, state, _ = checkpoints.restore(state_of(0))
  assert step == 3
  chex.assert_trees_all_equal(state, state_of(3))


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # Orbax drops its other reads
def test_a_state_of_another_shape_is_refused(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state_of(1), {})
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(errors.CheckpointError, match='cannot be restored') as caught:
      checkpoints.restore(state_of(0, width=4))
  assert str(tmp_path / '1') in str(caught.value) and caught.value.exit_code == 5
  assert '\n' not in str(caught.value)


def test_a_save_that_orbax_declines_is_an_error(tmp_path, monkeypatch):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    monkeypatch.setattr(checkpoints._manager, 'save', lambda *_, **__: False)
    with pytest.raises(errors.CheckpointError, match='step 4 was not saved'):
      checkpoints.save(4, state_of(0), {})


def test_what_is_restored_does_not_change_with_what_was_donated(tmp_path):
  state = state_of(1)
  kept = jax.tree.map(np.array, state)
  double = jax.jit(lambda state: jax.tree.map(lambda x: x * 2, state), donate_argnums=0)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, {})
    double(state)  # the save may still be under way
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    chex.assert_trees_all_equal(checkpoints.restore(state_of(0))[1], kept)
