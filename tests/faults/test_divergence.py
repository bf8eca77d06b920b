"""Non-finite gradients, losses and rewards, and sampling and training that disagree."""

import json
import logging

import documented
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import rewards
from irl_jax.models import trunk
from irl_jax.training import optimizer

# Each test has its own learning rate, so that updates are traced again with its patches.


@pytest.fixture
def infinite_gradients(monkeypatch):
  """Makes the gradients of all updates infinite for which a rule of the step holds."""
  apply = optimizer.apply_gradients

  def patch(rule):
    def apply_infinite(state, gradients, tx):
      factor = jnp.where(rule(state.step), jnp.inf, 1.0)
      return apply(
        state,
        {
          name: (
            gradients[name]
            if name != 'final_layer_norm'
            else {key: leaf * factor for key, leaf in gradients[name].items()}
          )
          for name in gradients
        },
        tx,
      )

    monkeypatch.setattr(optimizer, 'apply_gradients', apply_infinite)

  return patch


def log_of(folder):
  """The lines of the log, as JSON without NaN."""
  return [
    json.loads(line, parse_constant=pytest.fail)
    for line in (folder / 'log.jsonl').read_text().splitlines()
  ]


@pytest.mark.slow
def test_one_gradient_that_is_not_finite_is_left_out_and_counted(
  train, tmp_path, infinite_gradients
):
  infinite_gradients(lambda step: step == 5)
  ended = train(tmp_path, 'sft', '--config.sft.learning_rate=0.0101')
  assert 'error' not in ended.errors
  documented.check('one non-finite gradient', '', ended.code, tmp_path)
  assert [line['skipped'] for line in log_of(tmp_path)] == [0, 1, 1, 1]
  assert all(np.isfinite(line['validation/loss']) for line in log_of(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
  'stage, section, first, name, kept',
  [('sft', 'sft', 5, 'stage sft, by update 7', 6), ('rlhf', 'ppo', 3, 'PPO step 2', 2)],
)
def test_several_in_a_row_end_the_run(
  train, tmp_path, infinite_gradients, stage, section, first, name, kept
):
  infinite_gradients(lambda step: step >= first)
  ended = train(
    tmp_path,
    stage,
    f'--config.{section}.learning_rate=0.00102',
    '--config.runtime.max_skipped_in_row=3',
  )
  assert ended.code == 4
  assert (
    f'{name}: 3 consecutive updates had a non-finite gradient and were skipped (' in ended.message
  )
  assert (
    f'the checkpoint of step {kept} is kept in {tmp_path / stage / "checkpoints"}. Lower '
    f'config.{section}.learning_rate'
  ) in ended.message
  assert not (tmp_path / stage / 'policy').exists()
  if stage == 'rlhf':
    fault = 'several non-finite gradients in a row'
    documented.check(fault, ended.message, ended.code, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
  'stage, section, message',
  [
    (
      'sft',
      'sft',
      'stage sft, by update 1: the loss is not finite; no checkpoint was saved yet in ',
    ),
    ('rlhf', 'ppo', 'are not finite; '),
  ],
)
def test_a_learning_rate_that_explodes_ends_the_run(train, tmp_path, stage, section, message):
  ended = train(
    tmp_path, stage, f'--config.{section}.learning_rate=1e38', '--config.sft.warmup_steps=0'
  )
  assert ended.code == 4
  assert message in ended.message and f'Lower config.{section}.learning_rate' in ended.message
  assert not [line for line in log_of(tmp_path) if line['step'] > 0]
  if stage == 'sft':
    documented.check('a non-finite loss', ended.message, ended.code, tmp_path)


@pytest.mark.slow
def test_a_reward_that_is_not_finite_ends_the_run(train, tmp_path, monkeypatch):
  calls = []

  def class_logits(texts):
    calls.append(texts)  # the original texts, then those of step 0 and of step 1
    return np.full((len(texts), 2), np.nan if len(calls) == 3 else 0.5, np.float32)

  true_reward = rewards.TrueReward(class_logits, 1)
  monkeypatch.setattr(rewards, 'true_reward', lambda *_, **__: true_reward)
  ended = train(tmp_path, 'rlhf')
  assert ended.code == 4
  assert (
    f'PPO step 1: the reward is not finite; the checkpoint of step 1 is kept in '
    f'{tmp_path}/rlhf/checkpoints. Check what the reward returns for these prompts'
  ) in ended.message
  documented.check('a non-finite reward', ended.message, ended.code, tmp_path)
  assert [line['step'] for line in log_of(tmp_path)] == [0]
  # The same reward goes on: it is not finite in its third call alone.
  assert train(tmp_path, 'rlhf').code == 0 and [line['step'] for line in log_of(tmp_path)] == [
    0,
    1,
    2,
    3,
  ]


@pytest.mark.slow
def test_a_reward_whose_mean_is_large_beside_its_spread_is_warned_of(train, tmp_path, monkeypatch):
  class_logits = lambda texts: np.array([[0, -1000 - text.count('a')] for text in texts], float)
  true_reward = rewards.TrueReward(class_logits, 1)
  monkeypatch.setattr(rewards, 'true_reward', lambda *_, **__: true_reward)
  monkeypatch.setattr(logging.getLogger(), 'handlers', [])  # or the command would add none
  ended = train(tmp_path, 'rlhf', '--config.ppo.subtract_original=false', '--config.ppo.steps=2')
  (warning,) = [line for line in ended.errors.splitlines() if line.startswith('warning: PPO')]
  fault = 'most scores are clipped, such as those of a reward that is 1000 plus something small'
  documented.check(fault, warning, ended.code, tmp_path)
  assert [line['objective/clipped'] for line in log_of(tmp_path)] == [1, 1]


@pytest.mark.slow
def test_a_decoder_that_counts_positions_otherwise_fails_the_self_check(
  train, tmp_path, monkeypatch
):
  decode = trunk.decode_blocks
  monkeypatch.setattr(
    trunk,
    'decode_blocks',
    lambda blocks, hidden, position, *rest: decode(blocks, hidden, position + 1, *rest),
  )
  ended = train(
    tmp_path, 'rlhf', '--config.sampling.max_new_tokens=5'
  )  # traced again, with the fault
  assert ended.code == 4
  assert 'PPO self-check: the log-probs of decoding and training differ by ' in ended.message
  assert 'padding, positions or temperature differ between sampling and training' in ended.message
  documented.check(
    'sampling and training disagree, such as a decoder that counts positions from 1',
    ended.message,
    ended.code,
    tmp_path,
  )
  assert not log_of(tmp_path) and not (tmp_path / 'rlhf' / 'policy').exists()
