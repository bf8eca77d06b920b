"""IRL from a base model whose weights stay in their files until they are split over the devices."""

import jax
import numpy as np
import pytest

from irl_jax import config as c
from irl_jax.irl import export
from irl_jax.irl import loop
from irl_jax.irl import pairs as pairs_lib
from irl_jax.models import pretrained
from irl_jax.runtime import sharding
from irl_jax.runtime import unread

pytestmark = pytest.mark.slow

LETTERS = list('abcdefghijklmnopqrstuvw')


def texts(rng, count):
  return [''.join(rng.choice(LETTERS, rng.integers(4, 9))) for _ in range(count)]


@pytest.mark.parametrize('trained_blocks', [-1, 1, 0])
def test_a_reward_of_split_weights_is_that_of_whole_ones(
  policy, tmp_path, monkeypatch, trained_blocks
):
  monkeypatch.setattr(sharding, 'SMALLEST', 0)
  pretrained.save(tmp_path / 'base', policy, '')
  rng = np.random.default_rng(0)
  settings = c.IRL(epochs=1, batch_size=16, warmup_steps=0, trained_blocks=trained_blocks)
  training, held = (
    pairs_lib.encode_pairs(policy, texts(rng, count), texts(rng, count), 32) for count in (64, 16)
  )

  def recovered(way):
    losses, runtime = [], c.Runtime(sharding=way)
    log = lambda step, metrics: losses.append(metrics['validation/loss'])
    with sharding.using(way):
      base = pretrained.load(str(tmp_path / 'base'))
      folder = tmp_path / way
      parts = loop.train(base, training, held, settings, 0, folder, runtime=runtime, log=log)
      return base, export.reward_model(base, parts), losses

  _, whole, expected = recovered('replicated')
  base, split, losses = recovered('fsdp')
  assert any(isinstance(leaf, unread.Unread) for leaf in jax.tree.leaves(base.params))
  np.testing.assert_allclose(losses, expected, rtol=1e-4)
  for one, other in zip(*map(jax.tree.leaves, (split.params, whole.params)), strict=True):
    assert isinstance(one, np.ndarray)
    np.testing.assert_allclose(one, other, atol=1e-3)
