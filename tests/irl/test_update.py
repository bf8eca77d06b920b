"""The IRL update: whole texts reach the loss, and the number of devices changes no gradient."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax import config as c
from irl_jax.data import batches
from irl_jax.irl import labels as labels_lib
from irl_jax.irl import loop
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import prefixes
from irl_jax.irl import reward as reward_lib
from irl_jax.irl import update as update_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads
from irl_jax.models import trunk
from irl_jax.runtime import parallel
from irl_jax.training import optimizer

SGD = optax.sgd(1.0)  # the change of the parameters is then the gradient
CUTS = pytest.mark.parametrize('trained_blocks', [-1, 0, 1])
OBJECTIVES = {
  name: c.IRL(objective=name, margin=0.4, temperature=0.3, samples_per_prompt=2, prefix_weight=0.25)
  for name in c.COMPARES_GROUPS
}

QUICK = 'maximum_entropy'  # it compares the texts of a prompt, which must be on one device
EVERY = [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in OBJECTIVES]


@pytest.fixture(scope='module')
def params(policy):
  trunk = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  return trunk | {
    'reward_head': heads.init_reward_head(jax.random.key(2), policy.config.hidden_size)
  }


@pytest.fixture(scope='module')
def pairs():
  """Eight pairs of texts of 1, 4 or 10 tokens."""
  rng = np.random.default_rng(0)
  draw = lambda length: rng.integers(2, 26, length).tolist()
  return [
    (draw(aligned), draw(base))
    for aligned, base in [(1, 10), (4, 4), (10, 1), (10, 10), (4, 10), (4, 1), (10, 4), (1, 1)]
  ]


@pytest.fixture(scope='module')
def batch(pairs):
  return pairs_lib.pair_batch(pairs, np.array([1, 1, 1, 0, 1, 1, 0, 1]), 0, 16)


@pytest.fixture(scope='module')
def statics(policy):
  return dict(
    config=policy.config, dtype=jnp.float32, irl=c.IRL(objective='logistic', temperature=0.3)
  )


@pytest.fixture(scope='module')
def run(params, batch, statics):
  """Returns a cached step on one device: trained_blocks -> (state, frozen, next state, metrics)."""

  @functools.cache
  def step(trained_blocks):
    trained, frozen = cut_lib.split(params, trained_blocks)
    state = optimizer.new_state(jax.tree.map(jnp.asarray, trained), SGD)
    update = jax.jit(
      functools.partial(update_lib.update, tx=SGD, updates=4, axis_name=None, **statics)
    )
    return state, frozen, *update(state, frozen, batch)

  return step


def gradient(before, after):
  return jax.tree.map(lambda x, y: np.asarray(x) - np.asarray(y), before.params, after.params)


def means(params, batch, **statics):
  """Returns loss and metrics, averaged over all pairs."""
  loss, totals = jax.jit(functools.partial(update_lib.total_loss, **statics))(params, {}, batch)
  assert loss == totals.sums['loss']
  return {name: total / totals.count for name, total in totals.sums.items()}


@pytest.fixture(scope='module')
def by_hand(policy, params, pairs):
  """R̂ of every pair [8, 2] in NumPy, each text alone and unpadded."""
  states = jax.jit(
    lambda params, ids: trunk.run_blocks(
      params['blocks'],
      trunk.embed(params, ids, policy.config),
      jnp.ones(ids.shape, bool),
      policy.config,
    )
  )
  direction = np.asarray(params['reward_head']['direction'], np.float64)

  def reward(ids):
    last = np.asarray(states(params, np.array([ids])), np.float64)[0, -1]
    normalised = (last - last.mean()) / np.sqrt(last.var() + policy.config.layer_norm_eps)
    return normalised @ direction / np.linalg.norm(direction) / np.sqrt(len(last))

  return np.array([[reward(text) for text in pair] for pair in pairs])


@pytest.mark.slow
@CUTS
def test_loss_and_metrics_are_means_over_the_pairs(run, by_hand, trained_blocks):
  _, _, _, metrics = run(trained_blocks)
  deltas = [
    aligned - base for number, (aligned, base) in enumerate(by_hand) if number not in (3, 6)
  ]  # of weight 1
  expected = {
    'loss': np.mean([np.log1p(np.exp(-delta / 0.3)) for delta in deltas]),
    'margin': np.mean(deltas),
    'pairwise_accuracy': np.mean([delta > 0 for delta in deltas]),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, atol=1e-5, err_msg=name)


def test_every_token_of_a_pair_reaches_the_loss_and_padding_does_not(
  policy, params, batch, statics, monkeypatch
):
  valid = np.concatenate([batch.aligned.valid, batch.base.valid])
  ids = np.concatenate([batch.aligned.ids, batch.base.ids])
  embedded = trunk.embed(params, ids, policy.config)
  whole = batch.replace(weight=np.ones(8, np.float32))

  def loss(embedded):
    monkeypatch.setattr(trunk, 'embed', lambda *unused: embedded)
    return update_lib.total_loss(params, {}, whole, **statics)[0]

  reaches = np.abs(jax.jit(jax.grad(loss))(embedded)).max(-1)  # [2 B, S]
  assert (reaches[valid] > 1e-6).all()
  assert (reaches[~valid] == 0).all()


@pytest.fixture(scope='module')
def prefix_scores(policy, params, pairs):
  """R̂ of every prefix, each scored alone: [pair][0 aligned, 1 base][tokens - 1]."""
  reward = jax.jit(
    functools.partial(
      reward_lib.score_texts, pooling='last', config=policy.config, dtype=jnp.float32
    )
  )
  texts = [ids[:length] for pair in pairs for ids in pair for length in range(1, len(ids) + 1)]
  scores = iter(np.asarray(reward((params, {}), batches.text_batch(texts, 0, 16)), np.float64))
  return [[[next(scores) for _ in ids] for ids in pair] for pair in pairs]


@pytest.mark.slow
def test_prefixes_are_compared_where_both_texts_have_one_and_they_differ(
  params, pairs, batch, statics, prefix_scores
):
  """Against a double loop over pairs and lengths."""
  loss = lambda delta: np.log1p(np.exp(-delta / 0.3))
  rows = []
  for number, ((aligned, base), scores) in enumerate(zip(pairs, prefix_scores)):
    if number in (3, 6):  # of weight 0
      continue
    deltas = [
      scores[0][n - 1] - scores[1][n - 1]
      for n in range(1, min(len(aligned), len(base)) + 1)
      if aligned[:n] != base[:n]
    ]
    whole = scores[0][-1] - scores[1][-1]
    rows.append(0.75 * loss(whole) + 0.25 * (np.mean(loss(np.array(deltas))) if deltas else 0))
  irl = dataclasses.replace(statics['irl'], prefix_weight=0.25)
  metrics = means(params, batch, **statics | {'irl': irl})
  np.testing.assert_allclose(metrics['loss'], np.mean(rows), atol=1e-5)
  whole_only = means(params, batch, **statics)
  np.testing.assert_allclose(metrics['margin'], whole_only['margin'], atol=1e-5)
  assert abs(metrics['loss'] - whole_only['loss']) > 1e-3


def test_every_prefix_of_a_pair_has_a_label_of_its_own(
  params, pairs, batch, statics, prefix_scores
):
  """Against a double loop over pairs and lengths."""
  rng = np.random.default_rng(5)
  labels = [rng.random(max(map(len, pair))).astype(np.float32) for pair in pairs]
  loss = lambda delta, p: (
    p * np.log1p(np.exp(-delta / 0.3)) + (1 - p) * np.log1p(np.exp(delta / 0.3))
  )
  rows = []
  for number, ((aligned, base), scores) in enumerate(zip(pairs, prefix_scores)):
    if number in (3, 6):  # of weight 0
      continue
    of_prefixes = [
      loss(scores[0][n - 1] - scores[1][n - 1], labels[number][n - 1])
      for n in range(1, min(len(aligned), len(base)) + 1)
      if aligned[:n] != base[:n]
    ]
    whole = loss(scores[0][-1] - scores[1][-1], labels[number][-1])
    rows.append(0.75 * whole + 0.25 * (np.mean(of_prefixes) if of_prefixes else 0))
  labelled = batch.replace(label=labels_lib.padded(labels, 16))
  irl = dataclasses.replace(statics['irl'], prefix_weight=0.25, pair_label='likelihood')
  found = means(params, labelled, **statics | {'irl': irl})
  np.testing.assert_allclose(found['loss'], np.mean(rows), atol=1e-5)


def test_validation_measures_the_loss_that_is_trained(params, pairs, statics, prefix_scores):
  """Against a double loop; objectives of groups too are validated on single pairs."""
  rng = np.random.default_rng(7)
  labels = [rng.random(max(map(len, pair))).astype(np.float32) for pair in pairs]
  dataset = dataclasses.replace(pairs_lib.pair_dataset(pairs, 0), buckets=(16,), labels=labels)
  bound = dict(config=statics['config'], dtype=jnp.float32)
  found = jax.jit(
    functools.partial(prefixes.validation, irl=OBJECTIVES['maximum_entropy'], **bound)
  )((params, {}), dataset.batch(np.arange(8)))
  for row, (aligned, base), scores, label in zip(found, pairs, prefix_scores, labels):
    losses = []
    for n in range(1, min(len(aligned), len(base)) + 1):
      if aligned[:n] != base[:n]:
        delta, p = scores[0][n - 1] - scores[1][n - 1], label[n - 1]
        losses.append(p * np.log1p(np.exp(-delta / 0.3)) + (1 - p) * np.log1p(np.exp(delta / 0.3)))
    expected = [scores[0][-1], scores[1][-1], np.mean(losses) if losses else 0]
    np.testing.assert_allclose(row, expected, atol=1e-5)
  results = np.asarray(found)
  metrics = loop.validation_metrics(
    results[:, :2], OBJECTIVES['maximum_entropy'], labels, results[:, 2]
  )
  delta, whole = results[:, 0] - results[:, 1], np.array([label[-1] for label in labels])
  of_wholes = whole * np.log1p(np.exp(-delta / 0.3)) + (1 - whole) * np.log1p(np.exp(delta / 0.3))
  expected = 0.75 * of_wholes.mean() + 0.25 * results[:, 2].mean()
  assert metrics['validation/loss'] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_labels_of_a_prompt_exchange_its_samples_where_both_texts_go_on(
  params, pairs, batch, statics, prefix_scores
):
  """Against loops: pairs 2 n and 2 n + 1 are of a prompt; 3 and 6 are missing."""
  rng = np.random.default_rng(6)
  labels = [rng.random(max(map(len, pair))).astype(np.float32) for pair in pairs]

  def of_text(own, others):
    return -np.log(np.exp(own / 0.3) / np.mean([np.exp(other / 0.3) for other in others]))

  def shared(p, own, others):  # own, others: of the aligned and of the base texts
    return p * of_text(own[0], others[1]) + ((1 - p) * of_text(own[1], others[0]) if p < 1 else 0)

  rows = []
  for number in range(8):
    prompt = [row for row in (number // 2 * 2, number // 2 * 2 + 1) if row not in (3, 6)]
    if number not in prompt:
      continue
    sides = [[prefix_scores[row][side] for row in prompt] for side in (0, 1)]
    own, of_prefixes = prefix_scores[number], []
    for at in range(len(own[0])):
      there = [[text[at] for text in side if at < len(text)] for side in sides]
      if len(there[1]) < 2:
        continue
      exchanged = at < len(own[1]) and len(there[0]) == 2
      p = labels[number][at] if exchanged else 1
      of_prefixes.append(shared(p, [own[0][at], own[1][at] if exchanged else None], there))
    whole = shared(
      labels[number][-1], [text[-1] for text in own], [[t[-1] for t in side] for side in sides]
    )
    rows.append(0.75 * whole + 0.25 * (np.mean(of_prefixes) if of_prefixes else 0))
  labelled = batch.replace(label=labels_lib.padded(labels, 16))
  irl = dataclasses.replace(OBJECTIVES['maximum_entropy'], pair_label='likelihood')
  found = means(params, labelled, **statics | {'irl': irl})
  np.testing.assert_allclose(found['loss'], np.mean(rows), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('trained_blocks', [-1, 1])
def test_four_devices_give_the_gradient_of_one(run, batch, statics, trained_blocks):
  state, frozen, after, metrics = run(trained_blocks)
  update = parallel.map_update(update_lib.update, tx=SGD, updates=4, **statics)
  after_four, metrics_four = update(
    parallel.replicate(state), parallel.replicate(frozen), parallel.shard(batch)
  )
  chex.assert_trees_all_close(gradient(state, after_four), gradient(state, after), atol=1e-5)
  chex.assert_trees_all_close(
    jax.device_get(metrics_four), jax.device_get(metrics), rtol=1e-4, atol=1e-5
  )


@pytest.mark.slow
@pytest.mark.parametrize('name', ['failure_aware', 'maximum_entropy'])
def test_what_saves_memory_changes_no_gradient(params, batch, statics, name):
  state = optimizer.new_state(jax.tree.map(jnp.asarray, params), SGD)
  run = lambda **saving: jax.jit(
    functools.partial(
      update_lib.update,
      tx=SGD,
      updates=4,
      axis_name=None,
      **saving,
      **(statics | {'irl': OBJECTIVES[name]}),
    )
  )(state, {}, batch)
  (whole, metrics), (parts, metrics_parts) = run(), run(micro_batch=3, rematerialise=True)
  chex.assert_trees_all_close(gradient(state, parts), gradient(state, whole), atol=1e-5)
  chex.assert_trees_all_close(metrics_parts, metrics, rtol=1e-4, atol=1e-5)


def test_prefixes_of_the_samples_of_a_prompt_are_compared(
  params, pairs, batch, statics, prefix_scores
):
  """Against loops: pairs 2 n and 2 n + 1 are of a prompt; 3 and 6 are missing."""

  def of_text(own, others):
    return -np.log(np.exp(own / 0.3) / np.mean([np.exp(other / 0.3) for other in others]))

  rows = []
  for number in range(8):
    prompt = [row for row in (number // 2 * 2, number // 2 * 2 + 1) if row not in (3, 6)]
    own, others = prefix_scores[number][0], [prefix_scores[row][1] for row in prompt]
    if number in prompt:
      of_prefixes = [
        of_text(own[at], [other[at] for other in others])
        for at in range(len(own))
        if sum(at < len(other) for other in others) == 2
      ]  # the texts differ from their first token on
      whole = of_text(own[-1], [other[-1] for other in others])
      rows.append(0.75 * whole + 0.25 * (np.mean(of_prefixes) if of_prefixes else 0))
  irl = OBJECTIVES['maximum_entropy']
  np.testing.assert_allclose(
    means(params, batch, **statics | {'irl': irl})['loss'], np.mean(rows), atol=1e-5
  )


@pytest.mark.parametrize('step, threshold', [(0, -0.5), (3, 0.0625), (4, 0.25)])
def test_failures_are_found_by_the_share_of_updates_that_are_done(
  params, batch, statics, by_hand, step, threshold
):
  trained, frozen = cut_lib.split(params, 0)
  bound = statics | {'irl': c.IRL(objective='failure_aware', margin=0.5)}
  state = optimizer.new_state(jax.tree.map(jnp.asarray, trained), SGD).replace(step=jnp.int32(step))
  _, metrics = jax.jit(
    functools.partial(update_lib.update, tx=SGD, updates=4, axis_name=None, **bound)
  )(state, frozen, batch)
  deltas = [
    aligned - base for number, (aligned, base) in enumerate(by_hand) if number not in (3, 6)
  ]
  losses = [max(0, (1.0 if delta < threshold else 0.5) - delta) ** 2 for delta in deltas]
  assert {-0.5: 1, 0.0625: 5, 0.25: 6}[threshold] == np.sum(np.array(deltas) < threshold)
  np.testing.assert_allclose(metrics['loss'], np.mean(losses), rtol=1e-4)


@pytest.mark.parametrize('name', EVERY)
def test_four_devices_give_the_gradient_of_one_whatever_the_objective(params, batch, statics, name):
  trained, frozen = cut_lib.split(params, 0)
  state = optimizer.new_state(jax.tree.map(jnp.asarray, trained), SGD)
  bound = dict(tx=SGD, updates=4) | statics | {'irl': OBJECTIVES[name]}
  after, metrics = jax.jit(functools.partial(update_lib.update, axis_name=None, **bound))(
    state, frozen, batch
  )
  after_four, metrics_four = parallel.map_update(update_lib.update, **bound)(
    parallel.replicate(state), parallel.replicate(frozen), parallel.shard(batch)
  )
  chex.assert_trees_all_close(gradient(state, after_four), gradient(state, after), atol=1e-5)
  chex.assert_trees_all_close(
    jax.device_get(metrics_four), jax.device_get(metrics), rtol=1e-4, atol=1e-5
  )
  assert np.abs(gradient(state, after)['reward_head']['direction']).max() > 1e-3


@pytest.mark.parametrize(
  'name, trained_blocks', [('logistic', 0), ('logistic', 1), *((name, -1) for name in OBJECTIVES)]
)
@pytest.mark.usefixtures('tanh_gelu')
def test_shard_map_finds_no_collective_missing(params, batch, statics, name, trained_blocks):
  trained, frozen = cut_lib.split(params, trained_blocks)
  state = optimizer.new_state(jax.tree.map(jnp.asarray, trained), SGD)
  statics = statics | {'irl': OBJECTIVES[name] if trained_blocks == -1 else statics['irl']}
  mesh = jax.make_mesh((4,), (parallel.AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
  whole, split = jax.P(), jax.P(parallel.AXIS)
  update = functools.partial(
    update_lib.update, tx=SGD, updates=4, axis_name=parallel.AXIS, **statics
  )
  after, _ = jax.eval_shape(
    jax.shard_map(
      update, mesh=mesh, in_specs=(whole, whole, split), out_specs=(whole, whole), check_vma=True
    ),
    state,
    frozen,
    batch,
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


@pytest.mark.slow
@pytest.mark.parametrize(
  'trained_blocks, trained_names',
  [
    (-1, {'embed_in', 'blocks', 'reward_head'}),
    (1, {'blocks', 'reward_head'}),
    (0, {'reward_head'}),
  ],
)
def test_gradients_are_those_of_the_whole_above_the_cut(run, trained_blocks, trained_names):
  found = gradient(*[run(trained_blocks)[number] for number in (0, 2)])
  whole, _ = cut_lib.split(gradient(*[run(-1)[number] for number in (0, 2)]), trained_blocks)
  chex.assert_trees_all_close(found, whole, atol=1e-5)
  moves = {name for name, tree in found.items() if any(map(np.any, jax.tree.leaves(tree)))}
  assert (
    moves == trained_names
  )  # never the final layer norm: with it trained, the reward has no bound


def test_pairs_are_scored_as_the_update_sees_them(policy, params, by_hand, batch):
  bound = dict(config=policy.config, dtype=jnp.float32, pooling='last')
  found = jax.jit(functools.partial(reward_lib.score_pairs, **bound))(
    cut_lib.split(params, 1), batch
  )
  np.testing.assert_allclose(found, by_hand, atol=1e-5)


GOLDEN = {  # of one Adam step on `batch`
  'loss': 1.105183,
  'margin': -0.169885,
  'pairwise_accuracy': 1 / 6,
  'gradient_norm': 19.41484,
  'skipped': 0,
  'skipped_in_row': 0,
}


@pytest.mark.slow
def test_one_step_from_a_fixed_seed_gives_these_metrics(params, batch, statics):
  irl = c.IRL(objective='logistic', temperature=0.3, prefix_weight=0.25, warmup_steps=0)
  tx, _ = optimizer.adamw(learning_rate=1e-3, updates=4)
  state = optimizer.new_state(jax.tree.map(jnp.asarray, params), tx)
  update = jax.jit(
    functools.partial(update_lib.update, tx=tx, updates=4, axis_name=None, **statics | {'irl': irl})
  )
  _, metrics = update(state, {}, batch)
  assert {name: float(value) for name, value in metrics.items()} == {
    name: pytest.approx(value, rel=1e-3) for name, value in GOLDEN.items()
  }


@pytest.mark.slow
def test_bfloat16_trains_float32_parameters(params, batch, statics):
  """Computation in bfloat16 stays near float32, and a few steps lower the loss."""
  tx, _ = optimizer.adamw(learning_rate=3e-3, updates=8)
  first, last = {}, {}
  for dtype in (jnp.float32, jnp.bfloat16):
    trained, frozen = cut_lib.split(params, 1)
    state = optimizer.new_state(jax.tree.map(jnp.asarray, trained), tx)
    update = jax.jit(
      functools.partial(
        update_lib.update, tx=tx, updates=8, axis_name=None, **statics | {'dtype': dtype}
      )
    )
    losses = []
    for _ in range(8):
      state, metrics = update(state, cut_lib.stored(frozen, dtype), batch)
      losses.append(float(metrics['loss']))
    chex.assert_trees_all_equal_shapes_and_dtypes(state.params, trained)
    first[dtype], last[dtype] = losses[0], losses[-1]
  assert first[jnp.bfloat16] == pytest.approx(first[jnp.float32], rel=0.02)
  assert last[jnp.bfloat16] < 0.95 * first[jnp.bfloat16]
  assert last[jnp.bfloat16] == pytest.approx(last[jnp.float32], rel=0.1)
