"""IRL as a whole: a known reward is recovered, the best epoch is kept, resuming is exact."""

import dataclasses
import os
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
import tiny_models

from irl_jax import config as c
from irl_jax import errors
from irl_jax import rewards
from irl_jax.irl import export
from irl_jax.irl import frozen as frozen_lib
from irl_jax.irl import loop
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import prepare
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import trunk
from irl_jax.runtime import interruption

IRL = c.IRL(
  objective='logistic',
  temperature=0.2,
  learning_rate=3e-3,
  epochs=4,
  batch_size=64,
  warmup_steps=5,
  weight_decay=0.0,
)
SOFT = dataclasses.replace(IRL, pair_label='likelihood')
WEIGHTS = np.random.default_rng(7).normal(size=23)  # of the letters from a to w


def texts(count, seed):
  """Random letters, 4 to 8 of them."""
  rng = np.random.default_rng(seed)
  return [
    ''.join(rng.choice(list('abcdefghijklmnopqrstuvw'), rng.integers(4, 9))) for _ in range(count)
  ]


def true_reward(text):
  """Returns a reward that is linear in the count of each letter."""
  return sum(WEIGHTS[ord(letter) - ord('a')] for letter in text)


def demonstrations(count, seed):
  """(aligned, base) texts; the one with the higher true reward is called the aligned one."""
  pairs = [
    sorted(pair, key=true_reward, reverse=True)
    for pair in zip(texts(count, seed), texts(count, seed + 1))
  ]
  return tuple(zip(*pairs))


@pytest.fixture(scope='module')
def base(policy):
  """A freshly initialised model: unlike in the random one, its embeddings still tell ids apart."""
  params = tiny_models.drawn(trunk.init, policy.config, seed=3)
  return dataclasses.replace(policy, params=params)


@pytest.fixture(scope='module')
def data(policy):
  """Training and validation pairs."""
  return [
    pairs_lib.encode_pairs(policy, *demonstrations(count, seed), 64)
    for count, seed in ((1024, 1), (100, 11))
  ]


def train(base, data, folder, log, irl=IRL, **more):
  return export.reward_model(
    base, loop.train(base, *data, irl, 5, folder, log=log.__setitem__, **more)
  )


@pytest.fixture(scope='module')
def finished(base, data, tmp_path_factory):
  """(reward, log, folder) of an uninterrupted run."""
  log, folder = {}, tmp_path_factory.mktemp('whole')
  return train(base, data, folder, log), log, folder


def rank_correlation(model):
  """Returns the Spearman correlation of recovered and true reward on unseen texts."""
  held = texts(300, seed=99)
  scores = rewards.recovered_reward(model)(held)
  assert (np.abs(scores) <= 1).all()
  return stats.spearmanr(scores, list(map(true_reward, held))).statistic


@pytest.mark.slow
def test_a_known_linear_reward_is_recovered(finished):
  model, log, _ = finished
  assert rank_correlation(model) > 0.85
  assert list(log) == [15, 31, 47, 63]
  assert log[63]['validation/pairwise_accuracy'] > 0.8 and log[63]['loss'] < log[15]['loss']


@pytest.mark.slow
@pytest.mark.parametrize('objective', ['asymmetric', 'failure_aware'])
def test_other_objectives_recover_it_too(base, data, tmp_path, objective):
  irl = dataclasses.replace(IRL, objective=objective, epochs=3)
  assert rank_correlation(train(base, data, tmp_path, {}, irl)) > 0.75


@pytest.mark.slow
def test_labels_tell_which_text_is_better_where_the_source_does_not(base, data, tmp_path):
  """Half of the pairs are in the wrong order, and their labels say so."""
  turned = np.random.default_rng(0).random(1024) < 0.5
  pairs = [pair[::-1] if turn else pair for pair, turn in zip(data[0], turned)]
  sure = lambda pair, turn: np.full(max(map(len, pair)), 0.1 if turn else 0.9, np.float32)
  labels = [
    [sure(pair, turn) for pair, turn in zip(pairs, turned)],
    [sure(pair, False) for pair in data[1]],
  ]
  log = {}
  model = train(base, (pairs, data[1]), tmp_path / 'soft', log, SOFT, labels=labels)
  assert rank_correlation(model) > 0.75
  delta = np.subtract(*[rewards.recovered_reward(model)(side) for side in demonstrations(100, 11)])
  loss = lambda delta: np.log1p(np.exp(-delta / IRL.temperature))
  expected = np.mean(0.9 * loss(delta) + 0.1 * loss(-delta))
  least = min(row['validation/loss'] for row in log.values())
  np.testing.assert_allclose(expected, least, atol=1e-4)
  with pytest.raises(errors.ConfigError, match='contains another training run: other labels'):
    others = [[1 - label for label in labels[0]], labels[1]]
    train(base, (pairs, data[1]), tmp_path / 'soft', {}, SOFT, labels=others)


@pytest.mark.slow
def test_maximum_entropy_recovers_what_a_policy_was_trained_on(policy, base, data, tmp_path):
  """Two samples per prompt: base texts as drawn, aligned ones by exp(true reward) out of 16."""
  rng, count = np.random.default_rng(4), 1024
  candidates = np.array(texts(16 * count, seed=5)).reshape(count, 16)
  scores = np.array([[true_reward(text) for text in row] for row in candidates])
  aligned = candidates[np.arange(count), np.argmax(scores + rng.gumbel(size=scores.shape), axis=1)]
  irl = dataclasses.replace(IRL, objective='maximum_entropy', samples_per_prompt=2, epochs=3)
  training = pairs_lib.encode_pairs(policy, aligned.tolist(), texts(count, seed=6), 64)
  log, prompts = {}, rng.permutation(np.repeat(np.arange(count // 2), 2)).tolist()
  model = train(base, (training, data[1]), tmp_path, log, irl, prompts=prompts)
  assert rank_correlation(model) > 0.75
  assert list(log) == [15, 31, 47]  # 512 prompts, 32 in a batch of 64 pairs
  deltas = np.subtract(*[rewards.recovered_reward(model)(side) for side in demonstrations(100, 11)])
  losses = [row['validation/loss'] for row in log.values()]
  np.testing.assert_allclose(
    np.mean(np.log1p(np.exp(-deltas / IRL.temperature))), min(losses), atol=1e-4
  )


@pytest.mark.slow
def test_the_epoch_of_least_validation_loss_is_kept(base, data, tmp_path):
  log, (aligned, worse) = {}, demonstrations(100, seed=11)
  reversed_pairs = [
    pair[::-1] for pair in data[1]
  ]  # the better it learns, the worse it does on these
  model = train(base, (data[0], reversed_pairs), tmp_path, log)
  losses = [metrics['validation/loss'] for metrics in log.values()]
  assert losses[0] == min(losses) < losses[-1] - 0.1
  score = rewards.recovered_reward(model)
  delta = score(worse) - score(aligned)
  np.testing.assert_allclose(
    np.mean(np.log1p(np.exp(-delta / IRL.temperature))), losses[0], atol=1e-4
  )


@pytest.mark.slow
@pytest.mark.parametrize('update', [31, 40])  # at the end of an epoch, and within one
def test_sigterm_saves_and_the_same_command_continues_bit_for_bit(
  base, data, finished, tmp_path, update
):
  log, resumed_at = {}, []

  def interrupting(updates):
    for step in updates:
      if step == update:
        os.kill(os.getpid(), signal.SIGTERM)
      yield step

  with interruption.handled(), pytest.raises(interruption.Interrupted):
    train(base, data, tmp_path, log, progress=interrupting)
  assert list(log) == [15, 31]
  with interruption.handled():
    model = train(base, data, tmp_path, log, truncate_log=resumed_at.append)
  assert resumed_at == [update + 1] and log == finished[1]
  chex.assert_trees_all_equal(model.params, finished[0].params)


@pytest.mark.slow
def test_a_finished_run_is_not_repeated(base, data, finished):
  again = train(
    base,
    data,
    finished[2],
    {},
    progress=lambda epochs: pytest.fail('runs again') if len(epochs) else (),
  )
  chex.assert_trees_all_equal(again.params, finished[0].params)


def test_as_many_pairs_are_scored_at_once_as_a_cpus_cache_is_near_to(data, policy):
  wide = gpt_neox.GPTNeoXConfig(
    vocab_size=64,
    hidden_size=2048,
    num_hidden_layers=1,
    num_attention_heads=8,
    intermediate_size=8192,
  )
  pairs = dataclasses.replace(
    pairs_lib.pair_dataset([([0] * 100, [0] * 90)] * 64, 0), buckets=(104,)
  )
  assert loop.pairs_at_once(pairs, 64, wide, jnp.float32) == 4 * (1024 // 208)  # of four devices
  assert (
    loop.pairs_at_once(pairs_lib.pair_dataset(data[1], 0), 64, policy.config, jnp.float32) == 64
  )


@pytest.mark.slow
def test_the_head_alone_and_fewer_pairs_than_devices_can_be_trained(base, data, tmp_path):
  log, irl = {}, dataclasses.replace(IRL, epochs=2, trained_blocks=0)
  model = train(base, (data[0][:3], data[1][:3]), tmp_path, log, irl)
  chex.assert_trees_all_equal(model.params['blocks'], base.params['blocks'])
  assert list(log) == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize('pooling', ['last', 'mean'])
def test_the_head_alone_learns_from_features_what_it_learns_from_texts(
  base, data, tmp_path, monkeypatch, pooling
):
  irl = dataclasses.replace(IRL, epochs=1, trained_blocks=0, pooling=pooling)
  train_head = lambda folder: loop.train(base, *data, irl, 5, folder, log=lambda *unused: None)
  from_features = train_head(tmp_path / 'features')
  monkeypatch.setattr(frozen_lib.FrozenOutputs, 'of', lambda self, texts: frozen_lib.Outputs())
  from_texts = train_head(tmp_path / 'texts')
  chex.assert_trees_all_close(from_features, from_texts, atol=1e-3)
  assert np.abs(from_features[0]['reward_head']['direction']).max() > 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes', [{'trained_blocks': 1}, {'trained_blocks': 0, 'prefix_weight': 0.5}]
)
def test_blocks_above_a_cut_learn_from_its_activations_what_they_learn_from_texts(
  base, data, tmp_path, changes
):
  irl = dataclasses.replace(IRL, epochs=1, **changes)
  pairs, validation = data[0][:192], data[1][:10]
  parts, prepared = [], []
  for cache in (2.0, 0.0):
    runtime = c.Runtime(activation_cache=cache)
    parts.append(
      loop.train(
        base,
        pairs,
        validation,
        irl,
        5,
        tmp_path / f'{cache}',
        log=lambda *unused: None,
        runtime=runtime,
      )
    )
    outputs = frozen_lib.FrozenOutputs(base, irl, jnp.float32, runtime)
    known = outputs.of(pairs_lib.texts_of(pairs))
    prepared.append(prepare.training_data(base, pairs, irl, known))
  assert [some.cut_hidden is None for some in prepared] == [False, True]
  chex.assert_trees_all_close(*parts, atol=1e-4)
  below = cut_lib.below(
    parts[0][1], prepared[1].batch(np.arange(4)).base.ids, np.ones((4, 8), bool), base.config
  )
  lengths = [len(ids) for _, ids in pairs[:4]]
  for row, length in enumerate(lengths):
    states = prepared[0].cut_hidden.padded(np.array([len(pairs) + row]), length)
    np.testing.assert_allclose(states[0], below[row, :length], atol=1e-5)


@pytest.mark.slow
def test_validation_pairs_are_looked_at_between_epochs_and_reported_to_whoever_asks(
  base, data, tmp_path
):
  irl, log, seen = dataclasses.replace(IRL, epochs=1, evaluate_every=6), {}, []
  report = lambda scores: seen.append(scores) or {'reported/auroc': len(seen)}
  loop.train(base, *data, irl, 5, tmp_path, log=log.__setitem__, report=report)
  assert list(log) == [5, 11, 15] and [row['reported/auroc'] for row in log.values()] == [1, 2, 3]
  chex.assert_shape(seen, (100, 2))
  for metrics, scores in zip(log.values(), seen):
    np.testing.assert_allclose(
      metrics['validation/margin'], np.mean(scores[:, 0] - scores[:, 1]), atol=1e-6
    )


@pytest.mark.slow
def test_a_mean_over_tokens_can_be_trained(base, data, tmp_path):
  irl = dataclasses.replace(IRL, epochs=1, pooling='mean')
  parts = loop.train(base, *data, irl, 5, tmp_path, log=lambda *unused: None)
  chex.assert_shape(parts[0]['reward_head']['direction'], (16,))


def test_what_cannot_be_trained_is_said(base, data, tmp_path):
  with pytest.raises(
    errors.ConfigError, match='config.irl.trained_blocks = 9: must be <= 3, the blocks of'
  ):
    train(base, data, tmp_path, {}, dataclasses.replace(IRL, trained_blocks=9))
  non_finite = dataclasses.replace(
    base, params=jax.tree.map(lambda x: np.full_like(x, np.nan), base.params)
  )
  entropy = dataclasses.replace(IRL, objective='maximum_entropy', samples_per_prompt=2)
  with pytest.raises(errors.InputError, match='no prompt has two'):
    train(base, data, tmp_path, {}, entropy, prompts=list(range(1024)))
  with pytest.raises(
    errors.InputError,
    match='IRL needs .* whose two texts differ, but there are 1024 and 0: add prompts',
  ):
    train(base, (data[0], []), tmp_path, {})
  with pytest.raises(
    errors.DivergedError,
    match='stage irl, by update 15: the loss and the validation loss are not '
    f'finite; no checkpoint was saved yet in {tmp_path}',
  ):
    train(non_finite, data, tmp_path, {})


@pytest.mark.parametrize(
  'changes, problem',
  [
    ({'base': 'a/folder'}, "base = 'a/folder': must be a loaded model"),
    ({'irl': {}}, 'irl: must be an irl_jax.config.IRL, not dict'),
    ({'seed': None}, 'seed = None: must be a whole number >= 0'),
    ({'seed': -1}, 'seed = -1: must be a whole number >= 0'),
    ({'folder': None}, 'folder = None: must be a path'),
    ({'dtype': 'float16'}, "dtype = 'float16': must be float32 or bfloat16"),
    ({'pairs': [('good', 'bad')]}, r"pairs\[0\]\[0\] is 'good': must be the token ids"),
    ({'validation': [([2], [99])]}, r'validation\[0\]\[1\]: token id 99: must be from 0 to 35'),
    ({'prompts': ['a']}, 'prompts: has 1, but must have 1024, one per pair'),
    ({'prompts': 5}, 'prompts: must be a list, not int'),
    ({'seed': int}, "seed = <class 'int'>: must be a whole number >= 0"),
    ({'runtime': None}, 'runtime: must be an irl_jax.config.Runtime, not NoneType'),
    ({'log': None}, r'log = None: must be a function; lambda \*_: None does nothing'),
    ({'truncate_log': None}, 'truncate_log = None: must be a function; lambda'),
    ({'progress': None}, 'progress = None: must be a function; iter does nothing'),
    ({'report': None}, r'report = None: must be a function; lambda \*_: {} does nothing'),
    ({'labels': [[], []]}, "labels: config.irl.pair_label = 'source' takes no labels"),
    ({'irl': SOFT}, "labels: config.irl.pair_label = 'likelihood' needs labels"),
    (
      {'irl': SOFT, 'labels': [[]]},
      'labels: must be two lists, of the training and the validation',
    ),
    ({'irl': SOFT, 'labels': [[], []]}, 'labels of pairs: has 0, but must have 1024, one per pair'),
    (
      {'irl': SOFT, 'labels': [[np.full(99, 0.5)] * 1024, []]},
      r'labels of pairs\[0\]: must be \d numbers from 0 to 1, one per token of the longer text',
    ),
  ],
)
def test_wrong_arguments_are_refused_in_one_line(base, data, tmp_path, changes, problem):
  folder = tmp_path / 'new'
  given = dict(base=base, pairs=data[0], validation=data[1], irl=IRL, seed=5, folder=folder)
  with pytest.raises((errors.ConfigError, errors.InputError), match=problem) as refused:
    loop.train(**{'log': lambda *_: None} | given | changes)
  assert '\n' not in str(refused.value) and not folder.exists()
