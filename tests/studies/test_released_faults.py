"""The study of the released faults: without one it equals the library; each is switched on."""

import pathlib
import runpy
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from released import tables
from released import training
from scipy import stats

from irl_jax import config as c
from irl_jax import errors
from irl_jax.data import batches
from irl_jax.irl import loop
from irl_jax.irl import reward as reward_lib

STUDY = types.SimpleNamespace(
  **runpy.run_path(str(pathlib.Path(__file__).parents[2] / 'studies' / 'released_faults.py'))
)
SOUND = training.VARIANTS['no fault']
IRL = c.IRL(
  objective='logistic',
  temperature=0.2,
  learning_rate=1e-2,
  epochs=2,
  batch_size=32,
  warmup_steps=2,
  weight_decay=0.0,
  max_tokens=24,
)


def draw(count, seed):
  """Random words of the alphabet's first letters; two pad to one length: little to compile."""
  rng = np.random.default_rng(seed)
  return [''.join(rng.choice(list('abcdefgh'), rng.integers(3, 5))) for _ in range(count)]


def demonstrations(count, seed):
  texts = zip(*(draw(count, seed + side) for side in range(3)))
  return [
    {'prompt_id': str(index), 'prompt': prompt, 'aligned': aligned, 'base': base}
    for index, (prompt, aligned, base) in enumerate(texts)
  ]


@pytest.fixture(scope='module')
def rows():
  """Training and validation demonstrations."""
  return demonstrations(96, 0), demonstrations(24, 50)


@pytest.fixture(scope='module')
def sets():
  """Every set of texts; r* counts two letters."""
  names = tables.HELD, tables.ZERO, tables.TRAINED_TEXTS, tables.HELD_PAIRS, tables.TRAINED_PAIRS
  texts = {name: draw(30, seed) for seed, name in enumerate(names)}
  return {
    name: (found, np.array([text.count('a') - text.count('b') - 0.5 for text in found]))
    for name, found in texts.items()
  }


def pairs_of(policy, rows, seen='text'):
  return [training.encode(policy, side, IRL, seen) for side in rows]


def train(policy, rows, variant, irl=IRL):
  return training.train(policy, *pairs_of(policy, rows, variant.seen), irl, variant, 3)


def moved(parts, others):
  """The largest difference of two rewards' parameters."""
  return max(
    np.abs(first - second).max()
    for first, second in zip(jax.tree.leaves(parts), jax.tree.leaves(others))
  )


@pytest.fixture(scope='module')
def sound(policy, rows):
  """A reward without a fault."""
  return train(policy, rows, SOUND)


@pytest.mark.slow
def test_without_a_fault_it_is_the_librarys_training(policy, rows, sound, tmp_path):
  expected = loop.train(policy, *pairs_of(policy, rows), IRL, 3, tmp_path, log=lambda *unused: None)
  # Two programs round differently, and Adam divides by gradients near zero: 4e-5 after 6 updates.
  chex.assert_trees_all_close(sound, expected, atol=3e-4)
  assert moved(sound, train(policy, rows, training.VARIANTS['no training'])) > 3e-3


@pytest.mark.slow
@pytest.mark.parametrize('seen', ['character', 'token'])
def test_fault_1_trains_on_the_end_alone(policy, rows, sound, seen):
  end = training.VARIANTS[f'1 last {seen}']
  for side, ids in zip(('aligned', 'base'), zip(*training.encode(policy, rows[0], IRL, seen))):
    assert [policy.tokenizer.decode(token) for token in ids] == [row[side][-1] for row in rows[0]]
  rewritten = [
    [row | {'prompt': 'x', 'aligned': 'g' + row['aligned'][-1:]} for row in side] for side in rows
  ]
  parts = train(policy, rows, end)
  chex.assert_trees_all_equal(parts, train(policy, rewritten, end))
  assert moved(sound, parts) > 3e-3


@pytest.mark.slow
def test_fault_2_gives_each_step_the_sum_of_all_gradients_so_far(policy, rows, sound):
  gradients = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  tx = training.accumulating(optax.sgd(1.0))
  params, state = jnp.zeros(3), training.accumulating(optax.sgd(1.0)).init(jnp.zeros(3))
  for number, gradient in enumerate(gradients):
    step, state = tx.update(jnp.asarray(gradient), state, params)
    np.testing.assert_allclose(step, -gradients[: number + 1].sum(axis=0), atol=1e-6)
  assert moved(sound, train(policy, rows, training.VARIANTS['2 accumulated gradients'])) > 3e-3


@pytest.mark.slow
def test_fault_3_has_no_bound_and_trains_the_final_layer_norm(policy, rows, sound):
  statics = dict(config=policy.config, dtype=jnp.float32, pooling='last')
  batch = batches.text_batch([[5, 6, 7], [8]], 0)
  trained, frozen = train(policy, rows, training.VARIANTS['3 no bound'])
  longer = trained | {'reward_head': {'direction': 1000 * trained['reward_head']['direction']}}
  found, scaled = (
    training.unbounded_reward(parts, frozen, batch, **statics) for parts in (trained, longer)
  )
  np.testing.assert_allclose(scaled, 1000 * found, rtol=1e-4)
  assert np.abs(scaled).max() > 1
  np.testing.assert_allclose(
    *(reward_lib.reward(parts, frozen, batch, **statics) for parts in (trained, longer)), atol=1e-5
  )
  state = np.asarray(reward_lib.features((trained, frozen), batch, **statics), np.float64)
  normal = (state - state.mean(1, keepdims=True)) / np.sqrt(
    state.var(1, keepdims=True) + policy.config.layer_norm_eps
  )
  norm = trained['final_layer_norm']
  np.testing.assert_allclose(
    found, (norm['scale'] * normal + norm['bias']) @ trained['reward_head']['direction'], atol=1e-4
  )
  start = policy.params['final_layer_norm']
  chex.assert_trees_all_equal(sound[0]['final_layer_norm'], start)
  assert all(np.abs(norm[name] - start[name]).max() > 1e-3 for name in start)


def scores(seed, zero):
  """Returns a reward's scores of held-out texts and of two classes of texts around its zero."""
  return {
    tables.HELD: zero + np.random.default_rng(seed).normal(size=20),
    tables.ZERO: zero + np.array([-1.1, -1.0, -0.9, 0.9, 1.0, 1.1]),
  }


def test_fault_4_leaves_the_zero_where_training_left_it():
  scored, true = [scores(0, 5.0), scores(1, -5.0)], np.random.default_rng(2).normal(size=20)
  centred, raw = (tables.results(scored, true, centred=centred) for centred in (True, False))
  for index, zero in enumerate((5.0, -5.0)):
    found = scored[index][tables.HELD]
    np.testing.assert_allclose(centred['accuracy'][index], np.mean((found < zero) == (true < 0)))
    np.testing.assert_allclose(
      raw['accuracy'][index], np.mean(true >= 0) if zero > 0 else np.mean(true < 0)
    )
  assert raw['auroc'] == centred['auroc'] and raw['spearman'] == centred['spearman']
  np.testing.assert_allclose(
    raw['spearman'][0], stats.spearmanr(*(row[tables.HELD] for row in scored)).statistic
  )


def test_fault_6_takes_the_best_seed_of_each_figure():
  row = {'auroc': [0.5, 0.8, 0.6], 'accuracy': [0.7, 0.6, 0.5], 'spearman': [0.1], 'largest': [1.0]}
  best = tables.best_of(row)
  assert best['auroc'] == [0.8] and best['accuracy'] == [0.7]
  assert tables.difference(best['auroc'], row['auroc']) == '+0.167'


def test_a_difference_comes_with_the_interval_of_a_paired_t_test():
  first, second = np.random.default_rng(0).normal(size=(2, 10))
  low, high = stats.ttest_rel(first, second).confidence_interval()
  assert tables.difference(first, second) == f'{(low + high) / 2:+.3f} ± {(high - low) / 2:.3f}'


@pytest.mark.slow
def test_the_study_has_every_row_and_fault_5_is_measured_on_what_was_trained_on(policy, rows, sets):
  found = STUDY.study(policy, rows, sets, IRL, seeds=2, dtype=jnp.float32)
  assert list(found) == [
    'no fault',
    'no training',
    '1 last character',
    '1 last token',
    '2 accumulated gradients',
    '3 no bound',
    '4 uncentred 0',
    '5 training texts',
    'held-out demonstrations',
    '5 training demonstrations',
    '6 best seed',
    '1 to 4 at once',
    '1 to 4 and 6 at once',
  ]
  parts, (texts, true) = (
    training.train(policy, *pairs_of(policy, rows), IRL, SOUND, 0),
    sets[tables.TRAINED_TEXTS],
  )
  scored = training.score(policy, parts, IRL, SOUND, {'texts': (texts, true)})['texts']
  better = [first > second for first in scored[true > 0] for second in scored[true < 0]]
  np.testing.assert_allclose(found['5 training texts']['auroc'][0], np.mean(better))
  lines = tables.table(found).splitlines()
  assert len(lines) == 2 + len(found) and len({line.count('|') for line in lines}) == 1


def test_the_texts_of_fault_5_are_those_of_the_training_prompts():
  pairs = {
    'train': demonstrations(10, 0),
    'validation': demonstrations(5, 1),
    'heldout': demonstrations(4, 2),
  }
  texts = lambda split: [
    {'prompt_id': str(index), 'prompt': split, 'original': f' {index}'} for index in range(12)
  ]
  run = types.SimpleNamespace(
    rows=texts,
    demonstrations=pairs.__getitem__,
    folder=pathlib.Path('W'),
    true_reward=lambda: lambda texts: np.arange(len(texts)),
    config=c.Config(),
  )
  (trained, validation), sets = STUDY.read(run, 7)
  assert (len(trained), len(validation)) == (7, 1)
  assert sets[tables.TRAINED_TEXTS][0] == [f'train {index}' for index in range(7)]
  assert sets[tables.HELD][0][0] == 'heldout 0' and len(sets[tables.HELD][0]) == 12
  assert sets[tables.TRAINED_PAIRS][0][:1] == [trained[0]['prompt'] + trained[0]['aligned']]
  assert len(sets[tables.TRAINED_PAIRS][0]) == 14 and len(sets[tables.HELD_PAIRS][1]) == 8
  with pytest.raises(
    errors.InputError,
    match='W/demos/train.jsonl has 10 pairs of two different texts and the study needs 11: lower',
  ):
    STUDY.read(run, 11)
