"""PPO as a whole: it raises any reward, resumes bit for bit, and checks itself."""

import contextlib
import dataclasses
import functools
import os
import signal
import types

import chex
import documented
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import config as c
from irl_jax import errors
from irl_jax import structs
from irl_jax.models import gpt_neox
from irl_jax.models import trunk
from irl_jax.ppo import checks
from irl_jax.ppo import functions
from irl_jax.ppo import loop
from irl_jax.ppo import probe
from irl_jax.ppo import rollout
from irl_jax.runtime import interruption
from irl_jax.training import checkpoint

STEPS = 8
CONFIG = c.Config(
  seed=1,
  sampling=c.Sampling(max_new_tokens=6, min_new_tokens=3),
  ppo=c.PPO(
    learning_rate=0.02,
    steps=STEPS,
    rollouts_per_step=32,
    minibatch_size=16,
    epochs=2,
    kl_coefficient=0.01,
    kl_target=2.0,
    kl_horizon=100,
    trained_blocks=1,
    score_text='completion',
    checkpoint_every=3,
    samples_every=4,
  ),
)
ROWS = [
  {'prompt': prompt, 'original': original}
  for prompt, original in [
    ('ab', ' ca'),
    ('hello', ''),
    ('what a', ' bad cat'),
    ('', 'a'),
    ('g h', ' aa'),
    ('foe', ' due'),
    ('a', 'bc'),
  ]
]


def share_of_early_letters(texts):
  """Returns the share of characters in the first half of the alphabet."""
  return np.array(
    [sum('a' <= letter <= 'k' for letter in text) / max(len(text), 1) for text in texts], np.float32
  )


class Log(dict):
  """Metrics by step, as in a run's log."""

  def truncate(self, first):
    for step in [step for step in self if step >= first]:
      del self[step]


def train(policy, folder, log, reward=share_of_early_letters, config=CONFIG, **more):
  return loop.train(
    policy, ROWS, reward, config, folder, log=log.__setitem__, truncate_log=log.truncate, **more
  )


@pytest.fixture(scope='module')
def finished(policy, tmp_path_factory):
  """(trained policy, log, sample tables, folder) of an uninterrupted run."""
  log, samples, folder = Log(), {}, tmp_path_factory.mktemp('whole')
  return train(policy, folder, log, show_samples=samples.__setitem__), log, samples, folder


@pytest.mark.slow
def test_a_reward_that_is_any_callable_rises(finished, policy):
  trained, log, samples, _ = finished
  assert list(log) == list(range(STEPS))
  scores = [metrics['objective/scores'] for metrics in log.values()]
  assert np.mean(scores[-2:]) > scores[0] + 0.25
  assert abs(log[0]['objective/kl']) < 1e-4 and log[STEPS - 1]['objective/kl'] > 0.1
  assert log[STEPS - 1]['objective/kl_coefficient'] != log[0]['objective/kl_coefficient'] == 0.01
  assert (
    log[STEPS - 1]['episode'] == STEPS * 32
    and 0.002 <= log[STEPS - 1]['learning_rate'] < log[0]['learning_rate']
  )
  assert all(metrics['objective/clipped'] == 0 for metrics in log.values())
  assert list(samples) == [0, 4]
  assert all(rows[0].keys() == {'prompt', 'completion', 'score'} for rows in samples.values())
  assert trained.params.keys() == policy.params.keys()
  chex.assert_trees_all_equal(trained.params['embed_in'], policy.params['embed_in'])


@pytest.mark.slow
def test_another_reward_can_be_looked_at_and_changes_nothing(finished, policy, tmp_path):
  log, config = (
    Log(),
    dataclasses.replace(CONFIG, ppo=dataclasses.replace(CONFIG.ppo, subtract_original=False)),
  )
  report = lambda texts: {'reported/true_reward': float(share_of_early_letters(texts).mean())}
  train(policy, tmp_path, log, config=config, report=report, progress=lambda steps: list(steps)[:2])
  for metrics in log.values():
    np.testing.assert_allclose(
      metrics['reported/true_reward'], metrics['objective/scores'], atol=1e-6
    )
  assert len(log) == 2


def assert_same(trained, log, finished):
  assert log == finished[1]
  chex.assert_trees_all_equal(trained.params, finished[0].params)


@pytest.mark.device
@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_continues_bit_for_bit(finished, policy, tmp_path):
  log, calls = Log(), []

  def interrupting(texts):
    calls.append(texts)
    if len(calls) == 5:  # the originals are scored first: this is step 3
      os.kill(os.getpid(), signal.SIGTERM)
    return share_of_early_letters(texts)

  with interruption.handled(), pytest.raises(interruption.Interrupted) as caught:
    train(policy, tmp_path, log, interrupting)
  assert caught.value.exit_code == 143
  assert list(log) == [0, 1, 2, 3]
  with interruption.handled():
    trained = train(policy, tmp_path, log)
  assert_same(trained, log, finished)


@pytest.mark.slow
def test_a_crash_between_checkpoints_is_repeated_bit_for_bit(finished, policy, tmp_path):
  log, steps_run = Log(), []

  def crashing(step, metrics):
    log[step] = metrics
    if step == 4:
      raise RuntimeError('crash')

  with pytest.raises(RuntimeError, match='crash'):
    loop.train(
      policy,
      ROWS,
      share_of_early_letters,
      CONFIG,
      tmp_path,
      log=crashing,
      truncate_log=log.truncate,
    )
  assert list(log) == [0, 1, 2, 3, 4]
  count = lambda steps: steps_run.extend(steps) or steps
  trained = train(policy, tmp_path, log, progress=count)
  assert steps_run == [3, 4, 5, 6, 7]  # checkpoint_every is 3
  assert_same(trained, log, finished)


@pytest.mark.slow
def test_a_finished_run_is_not_repeated(finished, policy):
  trained, log, _, folder = finished
  before = Log(log)
  again = train(
    policy, folder, log, progress=lambda steps: pytest.fail('runs again') if len(steps) else steps
  )
  chex.assert_trees_all_equal(again.params, trained.params)
  assert log == before


def sees_padding(inputs, batch, **statics):
  return original_sample(inputs, batch.replace(valid=jnp.ones_like(batch.valid)), **statics)


def is_warmer(inputs, batch, **statics):
  trained, frozen, allowed, key = inputs
  return original_sample((trained, frozen, allowed.replace(temperature=1.5), key), batch, **statics)


def forgets_the_minimum(inputs, batch, **statics):
  return original_sample(inputs, batch, **statics | {'min_new_tokens': 0})


def counts_positions_otherwise(inputs, batch, **statics):
  decode = trunk.decode_blocks
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      trunk,
      'decode_blocks',
      lambda blocks, hidden, position, *rest: decode(blocks, hidden, position + 1, *rest),
    )
    return original_sample(inputs, batch, **statics)


original_sample = functions.sample_from_parts


def with_offset(policy, offset):
  """Returns a policy whose logits are all larger by about `offset`, from an outlier dimension."""
  params = jax.tree.map(np.array, policy.params)
  norm = params['final_layer_norm']
  norm['scale'][0], norm['bias'][0] = 0.05, 10.0
  params['embed_out']['embedding'][:, 0] += offset / 10
  return dataclasses.replace(policy, params=params)


@pytest.mark.slow
@pytest.mark.parametrize('offset', [0, -3000])
@pytest.mark.parametrize(
  'sample', [sees_padding, is_warmer, forgets_the_minimum, counts_positions_otherwise]
)
def test_a_sampler_that_differs_from_training_is_noticed(
  policy, tmp_path, monkeypatch, sample, offset
):
  monkeypatch.setattr(functions, 'sample_from_parts', sample)
  log = Log()
  with pytest.raises(errors.DivergedError, match='self-check: .*padding, positions or temperature'):
    train(with_offset(policy, offset) if offset else policy, tmp_path, log)
  assert not log


@pytest.mark.slow
@pytest.mark.parametrize('offset', [-1000, -3000, 30000])
def test_the_self_check_passes_with_logits_of_any_size(policy, tmp_path, offset):
  log = Log()
  train(with_offset(policy, offset), tmp_path, log, config=short(steps=1))
  assert list(log) == [0]


@pytest.mark.device
@pytest.mark.slow
@pytest.mark.parametrize('temperature', [1.0, 0.01])
@pytest.mark.parametrize('factor', [1, 100])
def test_the_self_check_passes_in_bfloat16_with_logits_of_any_size(
  policy, tmp_path, factor, temperature
):
  params = jax.tree.map(np.array, policy.params)
  params['embed_out']['embedding'] *= factor
  log, sampling = Log(), c.Sampling(max_new_tokens=16, min_new_tokens=3, temperature=temperature)
  config = dataclasses.replace(short(steps=1), sampling=sampling)
  train(
    dataclasses.replace(policy, params=params), tmp_path, log, config=config, dtype=jnp.bfloat16
  )
  assert list(log) == [0]


SHAPE = gpt_neox.GPTNeoXConfig(32, 64, 2, 2, 64)


def agreement(**changes):
  """Returns arguments of the self-check that agree, except for the changes."""
  log_probs = np.full((4, 3), -1.0, np.float32)
  numbers = dict(decoded=log_probs, ratio=0.0, kl=np.zeros(4)) | changes
  rollout = structs.Rollout(None, None, np.ones((4, 3), bool), None, log_probs, None, None, None)
  return (
    {'kl': numbers['kl']},
    structs.Responses(None, None, numbers['decoded']),
    rollout,
    {'val/ratio_deviation': numbers['ratio']},
  )


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'ratio': 0.01}, 'probability ratio differs from 1 by 0.01'),
    ({'ratio': np.nan}, 'probability ratio differs from 1 by nan'),
    ({'kl': np.array([0, 0, 0.02, 0])}, 'KL to the reference differs from 0 by 0.02'),
    ({'decoded': np.full((4, 3), -1.02)}, 'decoding and training differ by 0.02'),
  ],
)
def test_the_self_check_names_what_is_off(changes, message):
  small = lambda: checks.rounding({'largest': 10, 'spread': 5}, SHAPE, jnp.float32)
  check = functools.partial(checks.check_agreement, rounding_error=small)
  check(*agreement(), jnp.float32, at_start=True)
  with pytest.raises(errors.DivergedError, match=message + r'.*allowed 0.0001\)'):
    check(*agreement(**changes), jnp.float32, at_start=True)
  if 'kl' in changes:  # later the policy has left its reference
    check(*agreement(**changes), jnp.float32, at_start=False)
  if 'nan' not in message:
    unneeded = lambda: pytest.fail('computes the size of the logits')
    checks.check_agreement(
      *agreement(**changes), jnp.bfloat16, at_start=True, rounding_error=unneeded
    )


@pytest.mark.parametrize(
  'dtype, size, allowed, refused',
  [
    (jnp.float32, {'largest': 3000, 'spread': 15}, 5e-4, 0.02),
    (jnp.float32, {'largest': 15, 'spread': 15}, 9e-5, 1.1e-4),
    (jnp.bfloat16, {'largest': 3000, 'spread': 5}, 0.045, 0.06),
    (jnp.bfloat16, {'largest': 100, 'spread': 100}, 0.09, 2.0),
  ],
)
def test_the_self_check_allows_what_rounding_does_at_the_size_of_the_logits(
  dtype, size, allowed, refused
):
  check = functools.partial(
    checks.check_agreement, rounding_error=lambda: checks.rounding(size, SHAPE, dtype)
  )
  off_by = lambda off: [
    {'ratio': off},
    {'kl': np.array([0, -off, 0, 0])},
    {'decoded': np.full((4, 3), -1 - off)},
  ]
  for changes in off_by(allowed):
    check(*agreement(**changes), dtype, at_start=True)
  for changes in off_by(refused):
    with pytest.raises(errors.DivergedError, match='self-check'):
      check(*agreement(**changes), dtype, at_start=True)


@pytest.mark.parametrize('trained_blocks', [-1, 0, 3])
def test_every_cut_can_be_saved(policy, tmp_path, trained_blocks):
  config = dataclasses.replace(
    CONFIG, ppo=dataclasses.replace(CONFIG.ppo, trained_blocks=trained_blocks)
  )
  _, tx = functions.compile_functions(policy.config, config, jnp.float32)
  state, _ = functions.initial_state(policy, config, tx)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, {})
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    chex.assert_trees_all_equal(checkpoints.restore(state)[1], state)


def test_a_score_that_is_not_finite_ends_the_run(policy, tmp_path):
  log = Log()
  non_finite = lambda texts: np.where(share_of_early_letters(texts) > 0, np.nan, 0.0)
  with pytest.raises(errors.DivergedError, match='PPO step 0'):
    train(policy, tmp_path, log, non_finite)
  assert not log


def letters(texts):
  """Returns the number of letters of each text, exactly."""
  return np.array([sum(map(str.isalpha, text)) for text in texts], np.float32)


def short(**changes):
  """Returns a configuration of two steps."""
  changes = dict(steps=2, subtract_original=False) | changes
  return dataclasses.replace(CONFIG, ppo=dataclasses.replace(CONFIG.ppo, **changes))


@pytest.mark.slow
def test_with_centred_scores_a_constant_added_to_the_reward_changes_nothing(
  policy, tmp_path, caplog
):
  trained, logs = [], []
  for constant in (0, 1000):
    logs.append(Log())
    reward = lambda texts, constant=constant: letters(texts) + constant
    config = short(scale_reward='centred')
    trained.append(train(policy, tmp_path / str(constant), logs[-1], reward, config))
  chex.assert_trees_all_close(trained[0].params, trained[1].params, atol=1e-5)
  for step in (0, 1):
    few, many = (log[step]['objective/scores'] for log in logs)
    assert many - few == pytest.approx(1000, abs=1e-2)
    assert logs[1][step]['objective/clipped'] == 0
  assert 'PPO' not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes, reward, remedy',
  [
    ({}, lambda texts: letters(texts) + 1000, 'scale_reward=centred, which subtracts'),
    ({'scale_reward': 'none'}, lambda texts: letters(texts) + 11, 'or raise config.ppo.clip_rew'),
    ({'scale_reward': 'centred', 'clip_reward': 0.01}, letters, 'Raise config.ppo.clip_reward'),
    ({'scale_reward': 'centred'}, lambda texts: letters(texts) * 1e-6, 'matter, multiply it'),
  ],
)
def test_scores_that_ppo_can_hardly_tell_apart_are_warned_of_once(
  policy, tmp_path, caplog, changes, reward, remedy
):
  log = Log()
  train(policy, tmp_path, log, reward, short(**changes))
  assert all(
    (metrics['objective/clipped'] > 0.5) == ('matter' not in remedy) for metrics in log.values()
  )
  (message,) = [record.getMessage() for record in caplog.records if 'PPO' in record.message]
  assert message.startswith('PPO step 0: ') and remedy in message and '\n' not in message


def test_minibatches_hold_every_sample_once_an_epoch():
  ppo = c.PPO(rollouts_per_step=16, minibatch_size=8, epochs=3)
  numbers = lambda step: [batch.tolist() for batch in loop.minibatches(ppo, seed=2, step=step)]
  rows = numbers(0)
  assert len(rows) == 6
  for epoch in range(3):
    assert sorted(rows[2 * epoch] + rows[2 * epoch + 1]) == list(range(16))
  assert rows[0] != rows[2] and rows == numbers(0) and rows != numbers(1)


@pytest.mark.slow
def test_the_devices_are_ahead_of_the_host_and_given_nothing_by_surprise(
  policy, tmp_path, monkeypatch
):
  """An array that is not placed first would be transferred at every call, while the host waits."""
  events = []

  def guarded(name, function):
    def call(*args, **kwargs):
      events.append(name)
      with jax.transfer_guard('disallow'):
        return function(*args, **kwargs)

    return call

  with pytest.raises(Exception, match='[Dd]isallowed'):
    guarded('', jax.jit(lambda x: x + 1))(np.ones(3, np.float32))
  events.clear()
  monkeypatch.setattr(loop, 'learn', guarded('learn', loop.learn))
  monkeypatch.setattr(
    loop.rollout_lib, 'start_sampling', guarded('sample', loop.rollout_lib.start_sampling)
  )
  monkeypatch.setattr(loop, 'conclude', guarded('read', loop.conclude))
  train(
    policy,
    tmp_path,
    Log(),
    config=dataclasses.replace(CONFIG, ppo=dataclasses.replace(CONFIG.ppo, steps=3)),
  )
  assert events == ['sample', 'learn', 'sample', 'read', 'learn', 'sample', 'read', 'learn', 'read']


def test_more_blocks_than_the_model_has_are_refused(policy, tmp_path):
  config = dataclasses.replace(CONFIG, ppo=dataclasses.replace(CONFIG.ppo, trained_blocks=4))
  with pytest.raises(
    errors.ConfigError, match='config.ppo.trained_blocks = 4: must be <= 3, the blocks of the tiny'
  ):
    train(policy, tmp_path, Log(), config=config)


NO_ORIGINALS = dataclasses.replace(CONFIG.ppo, subtract_original=False)
REFUSED = 'reward .*: returned {}; must return 32 numbers for 32 texts, one for each'
WRONG_REWARDS = {  # what a reward returns, and how the message calls it
  'their mean': (lambda texts: float(len(texts)), 'one float'),
  'one number': (lambda texts: [1.0], 'list of 1 number'),
  'too few': (lambda texts: [1.0] * (len(texts) - 1), 'list of 31 numbers'),
  'a matrix': (lambda texts: np.ones((len(texts), 2)), r'ndarray of shape \[32, 2\]'),
  'strings': (lambda texts: ['1.0' for _ in texts], r"list of str \('1.0' first\)"),
  'dicts': (
    lambda texts: [{'score': 1.0} for _ in texts],
    r"list of dict \(\{'score': 1.0\} first\)",
  ),
  'nothing': (lambda texts: None, r'None \(is a return missing\?\)'),
  'a generator': (lambda texts: (1.0 for _ in texts), 'generator'),
}


@pytest.mark.parametrize('name', WRONG_REWARDS)
def test_a_reward_that_gives_no_number_for_each_text_is_refused_before_an_update(
  policy, tmp_path, name
):
  reward, given = WRONG_REWARDS[name]
  log = Log()
  with pytest.raises(errors.InputError, match=REFUSED.format(given)):
    train(policy, tmp_path, log, reward, dataclasses.replace(CONFIG, ppo=NO_ORIGINALS))
  assert not log


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      {'policy': 'gpt2'},
      "policy = 'gpt2': must be a loaded model; load it with irl_jax.load_model",
    ),
    ({'rows': []}, "rows: is empty; give at least one row with 'prompt' and 'original'"),
    ({'rows': 'ab'}, "rows: must be a list of rows with 'prompt' and 'original', not str"),
    ({'rows': ['ab']}, r"rows\[0\] is 'ab': must be a mapping with 'prompt' and 'original'"),
    ({'rows': [ROWS[0], {'prompt': 'ab'}]}, r"rows\[1\]: has no field 'original'; each row needs"),
    ({'rows': [{'prompt': None, 'original': ''}]}, r"rows\[0\]: field 'prompt' is None: must be a"),
    ({'reward': 'a/folder'}, "reward = 'a/folder': must be a function of texts that returns their"),
    ({'reward': None}, 'reward = None: must be a function of texts that returns their scores'),
    ({'log': None}, 'log = None: must be a function; lambda \\*_: None does nothing'),
    ({'truncate_log': 0}, 'truncate_log = 0: must be a function; lambda'),
    ({'show_samples': None}, 'show_samples = None: must be a function; lambda'),
    ({'report': None}, r'report = None: must be a function; lambda \*_: {} does nothing'),
    ({'progress': None}, 'progress = None: must be a function; iter does nothing'),
    ({'config': {}}, 'config: must be an irl_jax.config.Config, not dict'),
    (
      {'config': dataclasses.replace(CONFIG, ppo=c.PPO(rollouts_per_step=6, minibatch_size=6))},
      'config.ppo.rollouts_per_step = 6: must be a multiple of 4, the number of devices',
    ),
    (
      {'config': dataclasses.replace(CONFIG, sampling=c.Sampling(temperature=0.0))},
      'config.sampling.temperature = 0.0: must be > 0; a run trains on what it samples',
    ),
    (
      {'config': dataclasses.replace(CONFIG, sampling=c.Sampling(max_new_tokens=63))},
      r'config.sampling.max_new_tokens = 127: must be <= 64, the positions of the tiny',
    ),
    ({'folder': None}, 'folder = None: must be a path'),
    ({'folder': ''}, "folder = '': must be a path"),
    ({'folder': b'x'}, "folder = b'x': must be a path"),
    ({'dtype': 'float16'}, "dtype = 'float16': must be float32 or bfloat16"),
    ({'dtype': 'int32'}, "dtype = 'int32': must be float32 or bfloat16"),
    ({'dtype': 'float31'}, "dtype = 'float31': must be float32 or bfloat16"),
  ],
)
def test_wrong_arguments_are_refused_in_one_line(policy, tmp_path, changes, message):
  given = {'policy': policy, 'rows': ROWS, 'reward': share_of_early_letters, 'config': CONFIG}
  with pytest.raises((errors.ConfigError, errors.InputError), match=message) as caught:
    loop.train(**{'folder': tmp_path / 'new', 'log': lambda *_: None} | given | changes)
  assert '\n' not in str(caught.value) and not (tmp_path / 'new').exists()
  if 'has no field' in message:
    fault = 'a row without a field'
    documented.check(fault, f'error: {caught.value}', caught.value.exit_code, tmp_path)


@pytest.mark.parametrize('place', ['file', 'file/new', '/proc/new'])
def test_a_folder_that_cannot_be_made_is_refused(policy, tmp_path, place):
  (tmp_path / 'file').touch()
  with pytest.raises(errors.ConfigError, match=f'{place}: cannot be written to: '):
    train(policy, tmp_path / place, Log())


@pytest.mark.slow
def test_rows_may_have_numbers_of_their_own(finished, policy, tmp_path):
  pandas = pytest.importorskip('pandas')
  rows, log = pandas.Series(ROWS, index=range(10, 10 + len(ROWS))), Log()
  config = dataclasses.replace(CONFIG, ppo=dataclasses.replace(CONFIG.ppo, steps=1))
  loop.train(policy, rows, share_of_early_letters, config, tmp_path, log=log.__setitem__)
  assert log[0]['objective/scores'] == finished[1][0]['objective/scores']


def opposite(texts):
  return -share_of_early_letters(texts)


def changed(**ppo):
  return dataclasses.replace(CONFIG, ppo=dataclasses.replace(CONFIG.ppo, **ppo))


@pytest.mark.slow
@pytest.mark.parametrize(
  'fault, changes, message',
  [
    (
      'a folder that contains a training run with another reward',
      {'reward': opposite},
      'its reward share_of_early_letters gave .*, opposite',
    ),
    (
      'a folder that contains a training run with other settings',
      {'config': changed(learning_rate=0.01)},
      r'config.ppo.learning_rate \(0.02 there, 0.01 now\)',
    ),
    (
      'a folder that contains a training run with more steps',
      {'config': changed(steps=4)},
      'it has already done 8 steps, but config.ppo.steps = 4',
    ),
    ('a folder that contains a training run with other rows', {'rows': ROWS[1:]}, 'other rows'),
  ],
)
def test_another_training_in_the_folder_is_refused(finished, policy, fault, changes, message):
  given = {'policy': policy, 'rows': ROWS, 'reward': share_of_early_letters, 'config': CONFIG}
  before = sorted(path for path in finished[3].rglob('*'))
  with pytest.raises(
    errors.ConfigError, match=f'contains another training run: {message}'
  ) as caught:
    loop.train(**given | changes, folder=finished[3], log=lambda *_: None)
  assert sorted(path for path in finished[3].rglob('*')) == before
  documented.check(fault, f'error: {caught.value}', caught.value.exit_code, finished[3])


@pytest.mark.parametrize('constant', [0, 1e3, 1e5])
@pytest.mark.parametrize(
  'now, continues',
  [
    (lambda x: x, True),
    (lambda x: x + 0.04 * x[::-1], True),
    (lambda x: 1.001 * x, True),
    (lambda x: -x, False),
    (lambda x: 1 - x, False),
    (lambda x: np.where(x > 7, np.nan, x), False),  # the same each time, so it is not noise
    (lambda x: np.full(8, np.inf), False),
  ],
)
def test_a_constant_does_not_hide_another_reward(tmp_path, constant, now, continues):
  texts, scores = list('abcdefgh'), np.linspace(0, 8, 8)
  sampled = types.SimpleNamespace(scored=texts, scores=scores + constant)
  saved = probe.of(share_of_early_letters, sampled, np.zeros(8))
  with contextlib.nullcontext() if continues else pytest.raises(errors.ConfigError):
    probe.check(saved, lambda texts: now(scores) + constant, tmp_path)


def test_a_large_constant_of_a_reward_cancels_with_that_of_the_originals():
  rows = [{'prompt': 'a', 'original': 'b' * count} for count in range(1, 5)]
  far = lambda texts: np.array([1e9 + len(text) for text in texts])
  scores = rollout.original_scores(rows, range(4), far, c.PPO())
  np.testing.assert_array_equal(scores - 1e9, [2, 3, 4, 5])
  near = lambda texts: far(texts).astype(np.float32)
  assert rollout.original_scores(rows, range(4), near, c.PPO()).dtype == np.float32


def test_a_reward_that_is_noisy_or_renamed_continues(tmp_path, caplog):
  texts, rng = ['a', 'b'], np.random.default_rng(0)
  sampled = types.SimpleNamespace(scored=texts, scores=np.array([1.0, 2.0]))
  first = lambda texts: np.array([1.0, 2.0])
  saved = probe.of(first, sampled, np.zeros(2))
  renamed = lambda texts: np.array([1.001, 2.0])
  renamed.__qualname__ = 'renamed'
  with caplog.at_level('WARNING'):
    probe.check(saved, lambda texts: rng.normal(size=2), tmp_path)
    probe.check(saved, renamed, tmp_path)
  assert 'gives different scores at each call' in caplog.text and 'is renamed now' in caplog.text
