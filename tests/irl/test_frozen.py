"""The frozen layers' outputs: right, computed once for all seeds, within a bound on memory."""

import dataclasses
import os
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import config as c
from irl_jax import errors
from irl_jax import rewards
from irl_jax import scoring
from irl_jax.data import batches
from irl_jax.irl import export
from irl_jax.irl import frozen as frozen_lib
from irl_jax.irl import loop
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import prepare
from irl_jax.irl import reward as reward_lib
from irl_jax.models import cut as cut_lib
from irl_jax.runtime import interruption

IRL = c.IRL(objective='logistic', learning_rate=1e-2, epochs=2, batch_size=16, warmup_steps=2)
CUTS = [
  {'trained_blocks': 1},
  {'trained_blocks': 2, 'prefix_weight': 0.5},
  {'trained_blocks': 0, 'prefix_weight': 0.5},
  {'trained_blocks': 0},
]


def drawn(count, seed):
  """Token lists of 2 to 15 tokens."""
  rng = np.random.default_rng(seed)
  return [rng.integers(2, 26, rng.integers(2, 16)).tolist() for _ in range(count)]


@pytest.fixture(scope='module')
def data():
  """Training and validation pairs."""
  return [
    list(zip(drawn(count, seed), drawn(count, seed + 1))) for count, seed in ((48, 1), (9, 3))
  ]


@pytest.fixture
def passes(monkeypatch):
  """The number of texts of every pass over the frozen blocks."""
  counts, token_states = [], scoring.token_states

  def counted(forward, model, sequences, *more):
    counts.append(len(sequences))
    return token_states(forward, model, sequences, *more)

  monkeypatch.setattr(scoring, 'token_states', counted)
  return counts


def test_states_at_the_cut_are_computed_once_and_kept_without_padding(any_policy, passes):
  texts = drawn(20, seed=0)
  irl = dataclasses.replace(IRL, trained_blocks=1)
  outputs = frozen_lib.FrozenOutputs(any_policy, irl)
  states = outputs.of(texts).states
  assert outputs.of([list(one) for one in texts]).states is states and passes == [20]
  _, frozen = cut_lib.split(any_policy.params, 1)
  batch = batches.text_batch(texts, 0, 16)
  below = jax.jit(cut_lib.below, static_argnums=3)
  expected = below(frozen, batch.ids, batch.valid, any_policy.config)
  np.testing.assert_allclose(
    states.padded(np.arange(20), 16), expected * batch.valid[:, :, None], atol=1e-5
  )


def test_they_take_at_most_the_memory_that_is_allowed(policy, passes, caplog):
  long, short, more = [[2] * 9] * 100, [[3] * 10] * 10, [[4] * 10] * 10
  kib = 1024 * 64 / 2**30  # of 1,024 tokens, in GiB: D is 16
  irl, runtime = dataclasses.replace(IRL, trained_blocks=1), c.Runtime(activation_cache=kib)
  outputs = frozen_lib.FrozenOutputs(policy, irl, jnp.float32, runtime)
  with caplog.at_level('INFO', logger='absl'):
    found = [outputs.of(texts).states is not None for texts in (long, short, more, long)]
  assert found == [True, True, False, True] and passes == [100, 10]
  assert [line.split(':')[1] for line in caplog.messages] == [
    ' the frozen blocks run once over 100 texts; their outputs take 0.00 GiB of host memory',
    ' the frozen blocks run once over 10 texts; their outputs take 0.00 GiB of host memory',
    ' the frozen blocks run again in every pass over 10 texts',
  ]


def test_nothing_is_kept_of_a_model_that_is_trained_whole(policy, passes):
  outputs = frozen_lib.FrozenOutputs(policy, IRL).of(drawn(3, seed=0))
  assert outputs.features is None and outputs.states is None and not passes


@pytest.mark.parametrize(
  'changes', [{'irl': IRL}, {'dtype': jnp.bfloat16}, {'base': None}], ids=['irl', 'dtype', 'base']
)
def test_outputs_of_another_training_are_refused(policy, changes):
  of = dict(base=policy, irl=dataclasses.replace(IRL, trained_blocks=1), dtype=jnp.float32)
  outputs = frozen_lib.FrozenOutputs(**of)
  outputs.check(**of)
  with pytest.raises(errors.ConfigError, match='outputs: are not those of this model'):
    outputs.check(**of | changes)


@pytest.mark.slow
@pytest.mark.parametrize('changes', CUTS)
def test_the_first_head_is_the_same_from_outputs_as_from_tokens(policy, data, monkeypatch, changes):
  monkeypatch.setattr(prepare, 'DIRECTION_PAIRS', 30)
  irl, pairs = dataclasses.replace(IRL, **changes), data[0]
  outputs = frozen_lib.FrozenOutputs(policy, irl).of(pairs_lib.texts_of(pairs))
  heads = [
    prepare.initial_parts(policy, pairs, irl, seed, jnp.float32, *given)[0]['reward_head']
    for seed in (7, 8)
    for given in ((), (outputs,))
  ]
  chex.assert_trees_all_close(heads[0], heads[1], atol=1e-5)
  chex.assert_trees_all_close(heads[2], heads[3], atol=1e-5)
  assert np.abs(heads[0]['direction'] - heads[2]['direction']).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize('changes', CUTS)
def test_an_exported_reward_scores_the_same_from_outputs_as_from_texts(policy, changes):
  irl, texts = (
    dataclasses.replace(IRL, **changes),
    ['a', 'hello there', ' what a bad cat', 'ab' * 9],
  )
  parts = prepare.initial_parts(policy, [([2, 3], [4])], irl, 0, jnp.float32)
  model = export.reward_model(policy, parts, 0.1)
  tokens = [ids for ids, _ in pairs_lib.encode_pairs(policy, texts, texts, 64)]
  expected = rewards.recovered_reward(model)(texts)
  for outputs in (frozen_lib.FrozenOutputs(policy, irl).of(tokens), frozen_lib.Outputs()):
    found = export.scores(model, tokens, irl, outputs, jnp.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.ptp(expected) > 0.1


def train(base, data, irl, seed, folder, **more):
  return loop.train(base, *data, irl, seed, folder, log=lambda *_: None, **more)


@pytest.mark.slow
@pytest.mark.parametrize('changes', CUTS)
def test_seeds_that_share_outputs_learn_what_they_learn_alone(
  policy, data, tmp_path, passes, changes
):
  """Bit for bit; and to float32 rounding if the frozen blocks run every time.

  The scores are compared then: parameters that no score depends on (biases of keys) are noise.
  """
  irl = dataclasses.replace(IRL, **changes)
  shared = frozen_lib.FrozenOutputs(policy, irl)
  for seed in (0, 1):
    together = train(policy, data, irl, seed, tmp_path / f'together_{seed}', outputs=shared)
  assert passes == ([] if changes == {'trained_blocks': 0} else [96, 18])
  alone = train(policy, data, irl, 1, tmp_path / 'alone')
  chex.assert_trees_all_equal(together, alone)
  runtime = c.Runtime(activation_cache=0)
  every_time = train(policy, data, irl, 1, tmp_path / 'every_time', runtime=runtime)
  score = jax.jit(reward_lib.score_pairs, static_argnames=('config', 'dtype', 'pooling'))
  batch = pairs_lib.pair_dataset(data[0], 0).batch(np.arange(48))
  statics = dict(config=policy.config, dtype=jnp.float32, pooling='last')
  first = prepare.initial_parts(policy, data[0], irl, 1, jnp.float32)
  scores = [np.asarray(score(parts, batch, **statics)) for parts in (together, every_time, first)]
  np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
  assert np.abs(scores[0] - scores[2]).max() > 0.01


@pytest.mark.slow
def test_a_seed_that_was_interrupted_continues_bit_for_bit(policy, data, tmp_path):
  irl = dataclasses.replace(IRL, trained_blocks=1)
  shared = frozen_lib.FrozenOutputs(policy, irl)
  train(policy, data, irl, 0, tmp_path / 'first', outputs=shared)
  expected = train(policy, data, irl, 1, tmp_path / 'second', outputs=shared)

  def interrupting(updates):
    for step in updates:
      if step == 3:
        os.kill(os.getpid(), signal.SIGTERM)
      yield step

  with interruption.handled(), pytest.raises(interruption.Interrupted):
    train(policy, data, irl, 1, tmp_path / 'third', outputs=shared, progress=interrupting)
  after = frozen_lib.FrozenOutputs(policy, irl)  # of the next process
  chex.assert_trees_all_equal(
    train(policy, data, irl, 1, tmp_path / 'third', outputs=after), expected
  )
