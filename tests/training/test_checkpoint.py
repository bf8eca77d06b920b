"""Checkpoints: restored bit for bit; the latest are kept; damaged or unfit ones are refused."""

import copy
import errno
import os
import re
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import config
from irl_jax import errors
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding
from irl_jax.training import checkpoint
from irl_jax.training import fingerprint
from irl_jax.training import optimizer


def state_of(seed, width=3, dtype=jnp.float32, name='w'):
  params = {name: jax.random.normal(jax.random.key(seed), (width, 2), dtype)}
  tx, _ = optimizer.adamw(learning_rate=0.1, updates=5)
  return parallel.replicate(optimizer.new_state(params, tx))


def test_state_and_meta_come_back_bit_for_bit(tmp_path):
  meta = {
    'moments': {'count': 3.0, 'mean': 0.1 + 0.2, 'variance': 1e-17},
    'list': [{'loss': 1 / 3}],
  }
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(state_of(0)) is None
    saved = copy.deepcopy(meta)
    checkpoints.save(7, state_of(1), saved)
    saved['list'].append(
      jnp.zeros(1)
    )  # it is written in the background; what the caller does now is not saved
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    step, state, restored = checkpoints.restore(state_of(0))
  assert step == 7 and restored == meta
  chex.assert_trees_all_equal(state, state_of(1))
  assert all(
    leaf.sharding.is_fully_replicated and len(leaf.devices()) == 4
    for leaf in jax.tree.leaves(state)
  )


@pytest.mark.parametrize('writes, reads', [('fsdp', 'replicated'), ('replicated', 'fsdp')])
def test_split_parameters_are_restored_whole_and_the_reverse(tmp_path, writes, reads):
  params = {'w': np.arange(24, dtype=np.float32).reshape(2, 3, 4)}
  tx, _ = optimizer.adamw(learning_rate=0.1, updates=5)
  with sharding.using(writes, smallest=0), checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(7, optimizer.placed_state(params, tx), {})
  with sharding.using(reads, smallest=0), checkpoint.Checkpoints(tmp_path) as checkpoints:
    like = optimizer.placed_state(jax.tree.map(np.zeros_like, params), tx)
    _, state, _ = checkpoints.restore(like)
  np.testing.assert_array_equal(state.params['w'], params['w'])
  spec = jax.P(None, None, 'data') if reads == 'fsdp' else jax.P()
  stacks = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 3]
  assert len(stacks) == 3 and all(leaf.sharding.spec == spec for leaf in stacks)  # and moments


def test_the_latest_ones_stay(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, state_of(step), {})
  assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {'2', '3'}
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    step, state, _ = checkpoints.restore(state_of(0))
  assert step == 3
  chex.assert_trees_all_equal(state, state_of(3))


@pytest.mark.parametrize(
  'saved, now, difference',
  [
    (dict(width=3), dict(width=4), "params/w ('float32[3,2]' there, 'float32[4,2]' now)"),
    (
      dict(dtype=jnp.bfloat16),
      dict(),
      "opt_state/1/0/mu/w ('bfloat16[3,2]' there, 'float32[3,2]' now)",
    ),
    (dict(), dict(name='v'), "params/w ('float32[3,2]' there, None now)"),
    (dict(), dict(name='v'), "params/v (None there, 'float32[3,2]' now)"),
  ],
)
def test_a_state_of_another_model_or_type_is_refused_leaf_by_leaf(tmp_path, saved, now, difference):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state_of(1, **saved), {})
  before = files_of(tmp_path)
  with (
    checkpoint.Checkpoints(tmp_path) as checkpoints,
    pytest.raises(errors.CheckpointError, match='does not match this model') as caught,
  ):
    checkpoints.restore(state_of(0, **now))
  message = str(caught.value)
  assert (
    str(tmp_path / '1') in message
    and difference in message
    and 'step' not in message.partition('Give')[0]
  )
  assert caught.value.exit_code == 5 and '\n' not in message and files_of(tmp_path) == before


def test_a_save_that_orbax_declines_is_an_error(tmp_path, monkeypatch):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(2, state_of(2), {})
    monkeypatch.setattr(checkpoints._manager, 'save', lambda *_, **__: False)
    with pytest.raises(
      errors.CheckpointError,
      match='the checkpoint of step 4 could not be saved: Orbax declined; the '
      f'checkpoint of step 2 is kept in {tmp_path}',
    ):
      checkpoints.save(4, state_of(0), {})
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(state_of(0))[0] == 2


@pytest.mark.parametrize(
  ('number', 'advice'),
  [
    (errno.ENOSPC, 'the disk has free space'),
    (errno.EFBIG, 'the disk has free space'),
    (errno.ENOENT, 'the folder exists and can be written to'),
    (errno.EROFS, 'the folder exists and can be written to'),
  ],
)
def test_the_advice_is_about_the_disk_only_if_the_disk_is_full(
  tmp_path, monkeypatch, number, advice
):
  def fail(*_, **__):
    raise OSError(number, os.strerror(number))

  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    monkeypatch.setattr(checkpoints._manager, 'save', fail)
    with pytest.raises(errors.CheckpointError, match=f'{os.strerror(number)}.*Check that {advice}'):
      checkpoints.save(4, state_of(0), {})


@pytest.fixture(scope='module')
def two_steps(tmp_path_factory):
  """The folder of steps 2 and 4."""
  folder = tmp_path_factory.mktemp('two_steps')
  with checkpoint.Checkpoints(folder) as checkpoints:
    for step in (2, 4):
      checkpoints.save(step, state_of(step), {'step': step})
  return folder


def files_of(folder):
  """The bytes of every file by its name."""
  return {
    str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()
  }


def flip(content):
  """Flips one bit in the middle."""
  middle = len(content) // 2
  return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


DAMAGES = {
  'flipped': flip,
  'truncated': lambda content: content[: len(content) // 2],
  'empty': lambda content: b'',
}


@pytest.mark.parametrize(
  'damage',
  ['flipped', *(pytest.param(name, marks=pytest.mark.slow) for name in ('truncated', 'empty'))],
)
def test_damage_to_any_file_of_a_step_is_noticed_or_changes_nothing(two_steps, tmp_path, damage):
  names = [name for name in files_of(two_steps / '4') if (two_steps / '4' / name).stat().st_size]
  assert len(names) > 8 and 'sums.json' in names
  for number, name in enumerate(names):
    folder = tmp_path / str(number)
    shutil.copytree(two_steps, folder)
    (folder / '4' / name).write_bytes(DAMAGES[damage]((folder / '4' / name).read_bytes()))
    with checkpoint.Checkpoints(folder) as checkpoints:
      step, state, meta = checkpoints.restore(state_of(0))
    assert step == meta['step'] == (4 if name in checkpoint.BOOKKEEPING else 2), name
    chex.assert_trees_all_equal(state, state_of(step))


def deleted(folder):
  next((folder / 'state' / 'd').iterdir()).unlink()


def emptied(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def half_written(folder):
  (folder / 'sums.json').unlink()
  shutil.rmtree(folder / 'meta')


@pytest.mark.parametrize(
  'damage, reason',
  [
    (deleted, r'state/d/\w+: No such file or directory'),
    (emptied, 'it has no sums.json, so it is incomplete'),
    (half_written, 'it has no sums.json, so it is incomplete'),
  ],
)
def test_a_damaged_step_is_set_aside_and_can_be_saved_again(
  two_steps, tmp_path, caplog, damage, reason
):
  folder = tmp_path / 'checkpoints'
  shutil.copytree(two_steps, folder)
  damage(folder / '4')
  with checkpoint.Checkpoints(folder) as checkpoints:
    with caplog.at_level('WARNING'):
      step, state, _ = checkpoints.restore(state_of(0))
    assert re.search(
      f'{folder}: the checkpoint of step 4 is damaged: {reason}. The checkpoint of step 2 is used',
      caplog.text,
    )
    assert step == 2
    checkpoints.save(4, state_of(9), {})
  assert {path.name for path in folder.iterdir()} == {'2', '4', '4.damaged'}
  with checkpoint.Checkpoints(folder) as checkpoints:
    step, state, _ = checkpoints.restore(state_of(0))
  assert step == 4
  chex.assert_trees_all_equal(state, state_of(9))


def test_without_a_whole_step_nothing_is_touched_and_the_reasons_are_given(two_steps, tmp_path):
  folder = tmp_path / 'checkpoints'
  shutil.copytree(two_steps, folder)
  deleted(folder / '2'), emptied(folder / '4')
  before = files_of(folder)
  for _ in range(2):  # also when it is tried again
    with (
      checkpoint.Checkpoints(folder) as checkpoints,
      pytest.raises(
        errors.CheckpointError,
        match='no checkpoint is intact .step 4: it has no sums.json, .*; step '
        '2: state/d/.*Delete the folder to retrain',
      ) as caught,
    ):
      checkpoints.restore(state_of(0))
    assert caught.value.exit_code == 5 and files_of(folder) == before


def test_what_a_kill_left_of_a_save_is_no_step_and_goes_away(tmp_path):
  (tmp_path / '6.orbax-checkpoint-tmp' / 'state').mkdir(parents=True)
  (tmp_path / '8.orbax-checkpoint-tmp' / 'state').mkdir(parents=True)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(state_of(0)) is None
    checkpoints.save(6, state_of(6), {})
  assert [path.name for path in tmp_path.iterdir()] == ['6']


def test_what_is_restored_does_not_change_with_what_was_donated(tmp_path):
  state = state_of(1)
  before = jax.tree.map(np.array, state)
  double = jax.jit(lambda state: jax.tree.map(lambda x: x * 2, state), donate_argnums=0)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, {})
    double(state)  # the save may still be under way
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    chex.assert_trees_all_equal(checkpoints.restore(state_of(0))[1], before)


def of(rate, rows):
  settings = {'ppo': config.PPO(learning_rate=rate), 'seed': 0}
  return fingerprint.of(settings, rows=fingerprint.of_rows(rows))


def test_a_checkpoint_of_another_training_is_refused_by_what_differs(tmp_path):
  with checkpoint.Checkpoints(tmp_path, fingerprint=of(0.1, ['a'])) as checkpoints:
    checkpoints.save(1, state_of(1), {})
  for now, difference in (
    (of(0.2, ['a']), 'config.ppo.learning_rate (0.1 there, 0.2 now)'),
    (of(0.1, ['b']), 'other rows'),
  ):
    with (
      checkpoint.Checkpoints(tmp_path, fingerprint=now) as checkpoints,
      pytest.raises(errors.ConfigError, match='contains another training run: ') as caught,
    ):
      checkpoints.restore(state_of(0))
    assert difference in str(caught.value) and 'Use a different folder' in str(caught.value)
  for same in (of(0.1, ['a']), None):
    with checkpoint.Checkpoints(tmp_path, fingerprint=same) as checkpoints:
      assert checkpoints.restore(state_of(0))[0] == 1


def test_a_checkpoint_of_an_older_version_is_continued_with_a_warning(tmp_path, caplog):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state_of(1), {})
  for now, warned in ((None, False), (of(0.1, ['a']), True)):
    with checkpoint.Checkpoints(tmp_path, fingerprint=now) as checkpoints:
      assert checkpoints.restore(state_of(0))[0] == 1
    assert ('so it is not compared' in caplog.text) == warned


def test_a_fingerprint_that_lacks_a_field_is_compared_by_its_default(tmp_path):
  saved = of(0.1, [])
  assert saved['config']['ppo'].pop('clip_value') == config.PPO().clip_value
  fingerprint.check(saved, of(0.1, []), tmp_path)
  with pytest.raises(errors.ConfigError, match='other rows'):
    fingerprint.check({}, of(0.1, []), tmp_path)
  saved['config']['ppo']['gone'] = 3
  with pytest.raises(errors.ConfigError, match=r'ppo.gone \(3 there; this version has no such'):
    fingerprint.check(saved, of(0.1, []), tmp_path)


def test_a_second_training_is_kept_out_of_the_folder_until_the_first_ends(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state_of(1), {})
    with pytest.raises(errors.ConfigError, match='is in use by process .*use a different folder'):
      checkpoint.Checkpoints(tmp_path)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(state_of(0))[0] == 1


def test_a_digest_of_parameters_sees_values_and_names():
  one = {'a': np.ones(2), 'b': np.zeros(2)}
  assert fingerprint.of_params(one) == fingerprint.of_params(jax.tree.map(np.copy, one))
  assert fingerprint.of_params(one) != fingerprint.of_params({'b': np.ones(2), 'a': np.zeros(2)})
