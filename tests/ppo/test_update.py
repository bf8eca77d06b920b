"""The PPO update: where it starts, what it changes, and the same on any number of devices."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax import config as c
from irl_jax import distribution
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads
from irl_jax.models import trunk
from irl_jax.ppo import rollout as rollout_lib
from irl_jax.ppo import update as update_lib
from irl_jax.runtime import parallel
from irl_jax.training import optimizer

ROWS, PROMPT, RESPONSE = 8, 8, 6
TEMPERATURE, MINIMUM = 0.8, 1
CUTS = pytest.mark.parametrize('trained_blocks', [-1, 0, 1])
SLOW_CUTS = pytest.mark.parametrize(
  'trained_blocks', [1, *(pytest.param(count, marks=pytest.mark.slow) for count in (-1, 0))]
)


@pytest.fixture(scope='module')
def params(policy):
  return policy.params | {
    'value_head': heads.init_value_head(jax.random.key(5), policy.config.hidden_size)
  }


@pytest.fixture(scope='module')
def experience():
  """Prompts of 1 to 8 tokens and responses of 2 to 6, with scores."""
  rng = np.random.default_rng(0)
  prompts = [rng.integers(2, 26, length).tolist() for length in (1, 8, 3, 5, 2, 7, 4, 6)]
  ids = rng.integers(2, 26, (ROWS, RESPONSE)).astype(np.int32)
  length = np.array([6, 2, 3, 6, 5, 2, 4, 6])
  ids[np.arange(RESPONSE) >= length[:, None] - 1] = 0
  responses = structs.Responses(ids, length, np.zeros((ROWS, RESPONSE), np.float32))
  batch = batches.prompt_batch(prompts, np.arange(ROWS), 0)
  return rollout_lib.experience_of(batch, responses, rng.normal(size=ROWS).astype(np.float32))


@pytest.fixture(scope='module')
def statics(policy):
  """Statics of the rollout and the update."""
  return dict(config=policy.config, dtype=jnp.float32, min_new_tokens=MINIMUM, ppo=c.PPO())


@pytest.fixture(scope='module')
def start(policy, params):
  """A function: (trained_blocks, optimiser) -> (first state, frozen)."""

  def build(trained_blocks, tx):
    trained, frozen = cut_lib.split(params, trained_blocks)
    reference = {name: value for name, value in trained.items() if name != 'value_head'}
    allowed = distribution.allowed_for(policy.tokenizer, policy.config, TEMPERATURE)
    return optimizer.new_state(jax.tree.map(jnp.asarray, trained), tx), update_lib.Frozen(
      frozen, reference, allowed
    )

  return build


SGD = optax.sgd(1.0)  # the change of the parameters is then the gradient


@pytest.fixture(scope='module')
def run(start, experience, statics):
  """A cached function of trained_blocks.

  It returns (state, frozen, rollout, statistics, next state, metrics).
  """

  @functools.cache
  def steps(trained_blocks):
    state, frozen = start(trained_blocks, SGD)
    rollout, statistics = jax.jit(
      functools.partial(update_lib.make_rollout, axis_name=None, **statics)
    )((state.params, frozen, 0.1), experience)
    after, metrics = one_device(statics)(state, frozen, rollout)
    return state, frozen, rollout, statistics, after, metrics

  return steps


@functools.cache
def jitted(**bound):
  return jax.jit(functools.partial(update_lib.update, axis_name=None, **bound))


def one_device(statics, tx=SGD):
  return jitted(tx=tx, **statics)


def gradient(before, after):
  return jax.tree.map(lambda x, y: np.asarray(x) - np.asarray(y), before.params, after.params)


@functools.partial(jax.jit, static_argnames='config')
def forward(params, ids, valid, config):
  return trunk.logits(params, trunk.hidden_states(params, ids, valid, config), config)


def dense_logits(policy, params, experience):
  """Logits [B, S, V], divided by the temperature."""
  logits = forward(params, experience.ids, experience.valid, policy.config)
  return np.asarray(logits, np.float64) / TEMPERATURE


def dense_log_probs(policy, params, experience):
  """Log-probs [B, T] in NumPy, position by position, from logits; 0 outside the responses."""
  logits = dense_logits(policy, params, experience)
  out = np.zeros((ROWS, RESPONSE))
  for row in range(ROWS):
    for step in np.flatnonzero(experience.response_mask[row]):
      may = [token for token in range(32) if token != 1 and not (token == 0 and step < MINIMUM)]
      at = logits[row, PROMPT + step - 1]
      out[row, step] = at[experience.ids[row, PROMPT + step]] - np.log(np.exp(at[may]).sum())
  return out


@pytest.mark.slow
@SLOW_CUTS
def test_the_size_of_the_logits_is_that_of_allowed_tokens(
  run, policy, params, experience, statics, trained_blocks
):
  _, frozen, rollout, *_ = run(trained_blocks)
  statics = {name: statics[name] for name in ('config', 'dtype', 'min_new_tokens')}
  size = jax.jit(functools.partial(update_lib.logit_size, **statics))(frozen, rollout)
  logits = dense_logits(policy, params, experience)
  for row in range(ROWS):
    largest, spread = 0, 0
    for step in np.flatnonzero(experience.response_mask[row]):
      may = [token for token in range(32) if token != 1 and not (token == 0 and step < MINIMUM)]
      at = logits[row, PROMPT + step - 1, may]
      largest, spread = max(largest, abs(at).max()), max(spread, abs(at - at.mean()).max())
    np.testing.assert_allclose(
      [size['largest'][row], size['spread'][row]], [largest, spread], rtol=1e-4
    )


@pytest.mark.slow
@CUTS
def test_the_first_update_starts_at_ratio_1_and_kl_0(run, trained_blocks):
  _, _, _, statistics, _, metrics = run(trained_blocks)
  np.testing.assert_allclose(statistics['kl'], 0, atol=1e-5)
  np.testing.assert_allclose(metrics['val/ratio_deviation'], 0, atol=1e-5)
  np.testing.assert_allclose(metrics['val/ratio'], 1, atol=1e-5)
  assert metrics['policy/clipfrac_avg'] == 0 and metrics['policy/gradient_norm'] > 0.01


@pytest.mark.slow
def test_a_rollout_holds_the_policys_log_probs(run, policy, params, experience):
  _, _, rollout, statistics, _, _ = run(-1)
  expected = dense_log_probs(policy, params, experience)
  np.testing.assert_allclose(rollout.log_probs, expected, atol=1e-4)
  np.testing.assert_allclose(statistics['entropy'], -expected.sum(1), atol=1e-4)
  np.testing.assert_array_equal(statistics['length'], [6, 2, 3, 6, 5, 2, 4, 6])
  mask = experience.response_mask
  advantages = np.asarray(rollout.advantages)[mask]
  np.testing.assert_allclose([advantages.mean(), advantages.std()], [0, 1], atol=1e-4)
  for row in range(ROWS):  # before the last token there is no reward yet, and gamma is 1
    last = mask[row].sum() - 1
    np.testing.assert_allclose(rollout.returns[row, last], experience.score[row], atol=1e-5)


def test_metrics_are_means_over_response_tokens(run, policy, params, experience, statics):
  state, frozen, rollout, _, _, _ = run(-1)
  rng = np.random.default_rng(1)
  moved = jax.tree.map(
    lambda x: jnp.asarray(x + rng.normal(0, 0.02, x.shape), jnp.float32), state.params
  )
  _, metrics = one_device(statics)(state.replace(params=moved), frozen, rollout)
  mask = experience.response_mask
  new, old = (
    dense_log_probs(policy, moved, experience)[mask],
    dense_log_probs(policy, params, experience)[mask],
  )
  ratio, advantages = np.exp(new - old), np.asarray(rollout.advantages)[mask]
  losses = np.maximum(-advantages * ratio, -advantages * np.clip(ratio, 0.8, 1.2))
  expected = {
    'val/ratio': ratio.mean(),
    'val/ratio_var': ratio.var(),
    'loss/policy_avg': losses.mean(),
    'policy/approxkl_avg': ((new - old) ** 2).mean() / 2,
    'val/ratio_deviation': np.abs(ratio - 1).max(),
    'policy/clipfrac_avg': np.mean(losses > -advantages * ratio),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
  assert 0 < metrics['policy/clipfrac_avg'] < 1


def dense_values(policy, params, experience):
  """Values [B, T] in NumPy, of the states before the response tokens."""
  hidden = trunk.hidden_states(params, experience.ids, experience.valid, policy.config)
  hidden = np.asarray(hidden, np.float64)[:, PROMPT - 1 : PROMPT + RESPONSE - 1]
  head = jax.tree.map(np.asarray, params['value_head'])
  inner, outer = head['inner'], head['value']
  hidden = np.maximum(hidden @ inner['kernel'] + inner['bias'], 0)
  return (hidden @ outer['kernel'] + outer['bias'])[..., 0]


@pytest.mark.slow
def test_the_loss_is_that_of_the_policy_plus_c_times_that_of_the_values(
  run, policy, params, experience, statics
):
  state, frozen, rollout, *_ = run(-1)
  rng = np.random.default_rng(2)
  by_noise = lambda scale: lambda x: jnp.asarray(x + rng.normal(0, scale, x.shape), jnp.float32)
  moved = jax.tree.map(by_noise(0.03), state.params)
  moved['value_head'] = jax.tree.map(by_noise(0.3), moved['value_head'])  # clips some values
  coefficient = 0.3
  bound = statics | {'ppo': c.PPO(value_coefficient=coefficient)}
  loss, totals = jax.jit(functools.partial(update_lib.total_loss, **bound))(moved, frozen, rollout)

  log_probs, old = (dense_log_probs(policy, some, experience) for some in (moved, params))
  values, old_values = (dense_values(policy, some, experience) for some in (moved, params))
  advantages, returns = np.asarray(rollout.advantages), np.asarray(rollout.returns)
  of_policy, of_values, clipped = 0.0, 0.0, 0
  for at in zip(*np.nonzero(experience.response_mask)):
    ratio = np.exp(log_probs[at] - old[at])
    of_policy -= min(ratio * advantages[at], np.clip(ratio, 0.8, 1.2) * advantages[at])
    near = old_values[at] + np.clip(values[at] - old_values[at], -0.2, 0.2)
    errors = (values[at] - returns[at]) ** 2, (near - returns[at]) ** 2
    of_values += max(errors) / 2
    clipped += errors[1] > errors[0]
  assert 0 < clipped < totals.count
  np.testing.assert_allclose(loss, of_policy + coefficient * of_values, rtol=1e-4)
  np.testing.assert_allclose(totals.sums['loss/policy_avg'], of_policy, rtol=1e-4)
  np.testing.assert_allclose(totals.sums['loss/value_avg'], of_values, rtol=1e-4)
  np.testing.assert_allclose(totals.count, experience.response_mask.sum())


# Recorded, to show that a change of code changes no result: metrics of the second update on a
# rollout, and the gradient norm of the first.
GOLDEN = {
  'loss/policy_avg': -0.117606,
  'loss/value_avg': 0.419095,
  'policy/approxkl_avg': 0.0713050,
  'val/ratio': 1.161148,
  'first gradient norm': 2.052769,
}


@pytest.mark.slow
def test_one_step_gives_these_metrics(start, run, statics):
  tx, _ = optimizer.adamw(learning_rate=0.01, updates=10, schedule='constant')
  state, frozen = start(1, tx)
  update, rollout = one_device(statics, tx), run(1)[2]
  state, first = update(state, frozen, rollout)
  _, second = update(state, frozen, rollout)
  results = second | {'first gradient norm': first['policy/gradient_norm']}
  np.testing.assert_allclose([results[name] for name in GOLDEN], list(GOLDEN.values()), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('trained_blocks', [-1, 1])
def test_bfloat16_computes_about_the_same_and_parameters_stay_float32(
  start, experience, statics, trained_blocks
):
  tx, _ = optimizer.adamw(learning_rate=0.01, updates=10)
  state, frozen = start(trained_blocks, tx)

  def steps(dtype):
    bound = statics | {'dtype': dtype}
    make = jax.jit(functools.partial(update_lib.make_rollout, axis_name=None, **bound))
    rollout, statistics = make((state.params, frozen, 0.1), experience)
    return rollout, statistics, *one_device(bound, tx)(state, frozen, rollout)

  expected_rollout, _, _, expected = steps(jnp.float32)
  rollout, statistics, after, metrics = steps(jnp.bfloat16)
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
  chex.assert_tree_all_finite((rollout, statistics, after, metrics))
  np.testing.assert_allclose(rollout.log_probs, expected_rollout.log_probs, atol=0.1)
  np.testing.assert_allclose(metrics['loss/value_avg'], expected['loss/value_avg'], rtol=0.05)
  np.testing.assert_allclose(
    metrics['policy/gradient_norm'], expected['policy/gradient_norm'], rtol=0.1
  )
  assert metrics['loss/value_avg'] != expected['loss/value_avg']  # so bfloat16 was used
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after.params))


@pytest.mark.slow
@pytest.mark.parametrize('trained_blocks', [-1, 1])
def test_four_devices_give_the_gradient_of_one(run, start, experience, statics, trained_blocks):
  state, frozen, rollout, statistics, after, metrics = run(trained_blocks)
  map_rollout = parallel.map_forward(update_lib.make_rollout, axis_name=parallel.AXIS, **statics)
  on_four = parallel.gather(
    map_rollout((state.params, frozen, np.float32(0.1)), parallel.shard(experience))
  )
  chex.assert_trees_all_close(on_four, jax.device_get((rollout, statistics)), atol=1e-4)
  update = parallel.map_update(update_lib.update, tx=SGD, **statics)
  after_four, metrics_four = update(
    parallel.replicate(state), parallel.replicate(frozen), parallel.shard(rollout)
  )
  chex.assert_trees_all_close(gradient(state, after_four), gradient(state, after), atol=1e-5)
  chex.assert_trees_all_close(
    jax.device_get(metrics_four), jax.device_get(metrics), rtol=1e-4, atol=1e-5
  )


@pytest.mark.slow
@pytest.mark.parametrize('trained_blocks', [-1, 1])
def test_an_update_of_several_devices_has_one_all_reduce(start, run, statics, trained_blocks):
  state, frozen = start(trained_blocks, SGD)
  update = parallel.map_update(update_lib.update, tx=SGD, **statics)
  rollout = jax.device_get(run(trained_blocks)[2])
  placed = parallel.replicate(state), parallel.replicate(frozen), parallel.shard(rollout)
  text = update.lower(*placed).compile().as_text()
  assert len(re.findall(r' all-reduce(?:-start)?\(', text)) == 1


@pytest.mark.slow
@pytest.mark.parametrize('trained_blocks', [-1, 1])
def test_what_saves_memory_changes_no_gradient(run, statics, trained_blocks):
  state, frozen, rollout, _, after, metrics = run(trained_blocks)
  after_parts, metrics_parts = one_device(statics | {'micro_batch': 2, 'rematerialise': True})(
    state, frozen, rollout
  )
  chex.assert_trees_all_close(gradient(state, after_parts), gradient(state, after), atol=1e-5)
  chex.assert_trees_all_close(metrics_parts, metrics, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('trained_blocks', [0, 1])
def test_frozen_matrices_in_the_type_of_computation_change_nothing(
  start, experience, statics, trained_blocks
):
  state, frozen = start(trained_blocks, SGD)
  make = jax.jit(
    functools.partial(update_lib.make_rollout, axis_name=None, **statics | {'dtype': jnp.bfloat16})
  )
  stored = frozen.replace(
    params=cut_lib.stored(frozen.params, jnp.bfloat16),
    reference=cut_lib.stored(frozen.reference, jnp.bfloat16),
  )
  actual, expected = (make((state.params, some, 0.1), experience) for some in (stored, frozen))
  chex.assert_trees_all_equal(actual, expected)
  types = {leaf.dtype for leaf in jax.tree.leaves((stored.params, stored.reference))}
  assert types == {jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32)}


@SLOW_CUTS
@pytest.mark.usefixtures('tanh_gelu')
def test_shard_map_finds_no_collective_missing(start, experience, statics, trained_blocks):
  state, frozen = start(trained_blocks, SGD)
  mesh = jax.make_mesh((4,), (parallel.AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
  whole, split = jax.P(), jax.P(parallel.AXIS)
  trace = lambda function, in_specs, out_specs, *arguments, **bound: jax.eval_shape(
    jax.shard_map(
      functools.partial(function, axis_name=parallel.AXIS, **statics, **bound),
      mesh=mesh,
      in_specs=in_specs,
      out_specs=out_specs,
      check_vma=True,
    ),
    *arguments,
  )
  rollout, _ = trace(
    update_lib.make_rollout, (whole, split), (split, split), (state.params, frozen, 0.1), experience
  )
  after, _ = trace(
    update_lib.update, (whole, whole, split), (whole, whole), state, frozen, rollout, tx=SGD
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


@pytest.mark.parametrize('trained_blocks', [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_cut_changes_no_gradient_above_it(run, trained_blocks):
  state, _, rollout, _, after, _ = run(trained_blocks)
  whole_state, _, whole_rollout, _, whole_after, _ = run(-1)
  np.testing.assert_allclose(rollout.advantages, whole_rollout.advantages, atol=1e-4)
  whole, _ = cut_lib.split(gradient(whole_state, whole_after), trained_blocks)
  actual = gradient(state, after)
  chex.assert_trees_all_close(actual, whole, atol=1e-5)
  assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(actual) if leaf.size)


@pytest.mark.parametrize(
  'trained_blocks, still',
  [
    pytest.param(0, {'embed_in', 'blocks', 'final_layer_norm'}, marks=pytest.mark.slow),
    (1, {'embed_in'}),
    (-1, set()),
  ],
)
def test_only_what_stands_above_the_cut_changes(run, params, trained_blocks, still):
  _, frozen, _, _, after, _ = run(trained_blocks)
  joined = cut_lib.join(after.params, frozen.params)
  assert joined.keys() == params.keys()
  for name, leaves in params.items():
    same = jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), joined[name], leaves)
    assert all(jax.tree.leaves(same)) == (name in still), name
  if trained_blocks == 1:
    lower = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf[:2]), tree['blocks'])
    chex.assert_trees_all_equal(lower(joined), lower(params))


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_skipped_and_counted(run, start, statics):
  tx, _ = optimizer.adamw(learning_rate=1e-2, updates=10)
  state, frozen = start(1, tx)
  rollout = run(1)[2]
  bad = rollout.replace(advantages=rollout.advantages.at[0, 0].set(jnp.nan))
  update = one_device(statics, tx)
  after, metrics = update(state, frozen, bad)
  chex.assert_trees_all_equal((after.params, after.opt_state), (state.params, state.opt_state))
  assert (int(after.step), int(after.skipped), int(metrics['policy/skipped_updates'])) == (1, 1, 1)
  good, metrics = update(after, frozen, rollout)
  expected, _ = update(state, frozen, rollout)
  chex.assert_trees_all_equal(good.params, expected.params)
  assert (int(good.step), int(good.skipped)) == (2, 1) and np.isfinite(
    metrics['policy/gradient_norm']
  )
