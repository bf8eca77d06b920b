"""Edits of a reward: against LEACE written out with matrices, and what each method leaves."""

import numpy as np
import pytest
import scipy

from irl_jax import errors
from irl_jax.irl import edit
from irl_jax.irl import export
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads

N, D = 400, 6


@pytest.fixture
def rng():
  return np.random.default_rng(0)


@pytest.fixture
def states(rng):
  """Correlated states [N, D] of unequal spread, with a mean."""
  return rng.normal(size=(N, D)) @ rng.normal(size=(D, D)) * [1, 2, 0.5, 1, 3, 1] + rng.normal(
    size=D
  )


@pytest.fixture
def features(rng, states):
  """Two binary features [N, 2] that the states show, one of them with noise."""
  hidden = states @ rng.normal(size=(D, 2))
  noise = [0.1, 2.0] * hidden.std(axis=0) * rng.normal(size=(N, 2))
  return hidden + noise > (hidden + noise).mean(axis=0)


def covariance(first, second):
  return (first - first.mean(axis=0)).T @ (second - second.mean(axis=0)) / len(first)


def explained(states, feature):
  """The share of a feature's variance that a linear function of states explains: R^2."""
  design = np.column_stack([np.ones(len(states)), states])
  predicted = design @ np.linalg.lstsq(design, feature.astype(float), rcond=None)[0]
  return float(np.var(predicted) / np.var(feature))


def shrunk(states):
  """Ledoit and Wolf (2004), lemma 3.2 to 3.4, one state at a time; norms are divided by D."""
  centred = states - states.mean(axis=0)
  sample = covariance(states, states)
  norm = lambda matrix: np.trace(matrix @ matrix.T) / D
  mean = np.trace(sample) / D
  distance = norm(sample - mean * np.eye(D))
  variance = sum(norm(np.outer(z, z) - sample) for z in centred) / len(centred) ** 2
  variance = min(variance, distance)
  return variance / distance * mean * np.eye(D) + (1 - variance / distance) * sample


def test_the_covariance_is_shrunk_as_by_ledoit_and_wolf(states):
  few = states[:20]
  found = edit.shrunk(few - few.mean(axis=0))
  np.testing.assert_allclose(found, shrunk(few), rtol=1e-9)
  assert np.linalg.cond(found) < np.linalg.cond(covariance(few, few)) / 2


@pytest.mark.parametrize('count', [1, 2])
def test_leace_is_the_papers_formula(states, features, rng, count):
  """Belrose et al. 2023, theorem 4.3, with all its D x D matrices."""
  y = features[:, :count].astype(float)
  whitening = np.linalg.pinv(scipy.linalg.sqrtm(shrunk(states)).real)
  whitened = whitening @ covariance(states, y)
  projection = whitened @ np.linalg.pinv(whitened)
  change = np.linalg.pinv(whitening) @ projection @ whitening
  expected = states - (states - states.mean(axis=0)) @ change.T
  fitted = edit.fit(states, y, 'leace')
  np.testing.assert_allclose(fitted.states(states), expected, atol=1e-9)
  direction = rng.normal(size=D)
  scores, other = states @ fitted.head(direction), expected @ direction
  np.testing.assert_allclose(scores - scores.mean(), other - other.mean(), atol=1e-9)


def test_after_leace_no_linear_function_of_the_states_predicts_a_feature(states, features):
  changed = edit.fit(states, features, 'leace').states(states)
  for feature in features.T:
    assert explained(states, feature) > 0.1
    assert explained(changed, feature) < 1e-9


def test_mean_difference_projects_out_the_difference_of_the_means(states, features, rng):
  feature = features[:, 0]
  difference = states[feature].mean(axis=0) - states[~feature].mean(axis=0)
  difference /= np.linalg.norm(difference)
  direction = rng.normal(size=D)
  head = edit.fit(states, feature[:, None], 'mean_difference').head(direction)
  np.testing.assert_allclose(head, direction - difference * (difference @ direction), atol=1e-9)


@pytest.mark.parametrize('method', ['leace', 'mean_difference'])
def test_afterwards_the_reward_does_not_correlate_with_any_feature(states, features, rng, method):
  head = edit.fit(states, features, method).head(rng.normal(size=D))
  assert np.abs(covariance(states @ head, features.astype(float))).max() < 1e-9


def test_subtract_leaves_the_share_that_the_state_does_not_predict(states, features, rng):
  direction = rng.normal(size=D)
  for feature in features.T:
    y = feature.astype(float)
    head = edit.fit(states, y[:, None], 'subtract').head(direction)
    design = np.column_stack([np.ones(N), states])
    predicted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    slope = np.polyfit(y, states @ direction, 1)[0]
    expected = states @ direction - slope * predicted
    scores = states @ head
    np.testing.assert_allclose(scores - scores.mean(), expected - expected.mean(), atol=1e-9)
    left = covariance(scores, y) / covariance(states @ direction, y)
    np.testing.assert_allclose(left, 1 - explained(states, y), atol=1e-9)


def test_states_on_a_plane_are_edited_too(states, features, rng):
  """A normalised state has mean 0, so its covariance is singular."""
  flat = states - states.mean(axis=1, keepdims=True)
  fitted = edit.fit(flat, features, 'leace')
  head = fitted.head(rng.normal(size=D))
  assert np.abs(covariance(flat @ head, features.astype(float))).max() < 1e-9
  assert max(explained(fitted.states(flat), feature) for feature in features.T) < 1e-9


def test_a_reward_that_is_the_feature_alone_is_refused(states, features):
  y = features[:, :1].astype(float)
  difference = covariance(states, y)[:, 0]
  with pytest.raises(errors.ConfigError, match='leaves nothing of the reward'):
    edit.fit(states, y, 'mean_difference').head(difference)


def test_the_head_of_an_exported_reward_is_read_back(any_policy, rng):
  trunk = {name: any_policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  direction = rng.normal(size=16).astype(np.float32)
  parts = cut_lib.split(trunk | {'reward_head': heads.reward_head_along(direction)}, -1)
  model = export.reward_model(any_policy, parts, 0.3)
  np.testing.assert_allclose(edit.head_of(model), direction / np.linalg.norm(direction), atol=1e-6)


def test_a_reward_model_of_other_makers_is_refused(policy):
  params = policy.params | {'score': {'kernel': np.ones((16, 1), np.float32)}}
  with pytest.raises(errors.InputError, match='irl_jax did not recover'):
    edit.head_of(type(policy)('reward', policy.config, params, policy.tokenizer))
