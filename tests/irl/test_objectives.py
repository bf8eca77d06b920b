"""Objectives of IRL against loops over pairs, and over the samples of a prompt."""

import math
import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import errors
from irl_jax.config import COMPARES_GROUPS
from irl_jax.config import IRL
from irl_jax.irl import objectives


def settings(name, margin=0.1, temperature=0.25):
  return IRL(objective=name, margin=margin, temperature=temperature, samples_per_prompt=2)


DELTA = np.array([-2.0, -0.5, -1e-3, 0.0, 1e-3, 0.09, 0.1, 0.4, 2.0], np.float32)


def by_hand(name, delta, margin, temperature, progress=1.0):
  """Returns one pair's loss as in the papers; an unknown name is an error."""
  if name == 'asymmetric':
    return -delta if delta > 0 else -2 * delta
  if name == 'failure_aware':
    failure = delta < -margin + progress * (margin + margin / 2)
    return by_hand('squared', delta, 2 * margin if failure else margin, temperature)
  if name in ('logistic', 'maximum_entropy'):
    return -math.log(1 / (1 + math.exp(-delta / temperature)))
  violation = margin - delta if delta < margin else 0.0
  return {'hinge': violation, 'squared': violation * violation}[name]


@pytest.mark.parametrize('name', COMPARES_GROUPS)
def test_losses_are_those_of_the_papers(name):
  found = objectives.pair_losses(DELTA, settings(name))
  np.testing.assert_allclose(
    found, [by_hand(name, float(delta), 0.1, 0.25) for delta in DELTA], atol=1e-6
  )


@pytest.mark.parametrize('name', COMPARES_GROUPS)
def test_gradients_are_the_slopes(name):
  points = np.array([-1.5, -0.3, 0.04, 0.07, 0.3, 1.5])
  slopes = [
    (by_hand(name, x + 1e-4, 0.1, 0.25) - by_hand(name, x - 1e-4, 0.1, 0.25)) / 2e-4 for x in points
  ]
  of_pair = lambda delta: objectives.pair_losses(delta, settings(name))
  gradient = jax.vmap(jax.grad(of_pair))(points.astype(np.float32))
  np.testing.assert_allclose(gradient, slopes, atol=1e-3)
  assert (np.asarray(gradient) <= 0).all()


def test_a_loss_weighs_twice_as_much_as_a_win():
  assert objectives.asymmetric(np.float32(-0.5)) == 2 * -objectives.asymmetric(np.float32(0.5))


@pytest.mark.parametrize('name', ['hinge', 'squared', 'failure_aware'])
def test_pairs_beyond_the_margin_are_left_alone(name):
  of_pair = lambda delta: objectives.pair_losses(delta, settings(name))
  assert jax.grad(of_pair)(np.float32(0.2)) == 0


def test_logistic_is_finite_at_the_bounds_of_the_reward():
  assert np.isfinite(objectives.logistic(np.array([-2.0, 2.0], np.float32), 1e-3)).all()


@pytest.mark.parametrize('progress, failures', [(0.0, 1), (0.5, 2), (0.7, 4), (1.0, 5)])
def test_failures_go_from_clear_errors_to_near_ties(progress, failures):
  delta = np.array([-0.2, -0.06, -0.01, 0.0, 0.04, 0.07, 0.2], np.float32)
  found = objectives.pair_losses(delta, settings('failure_aware'), progress)
  np.testing.assert_allclose(
    found, [by_hand('failure_aware', float(x), 0.1, 1.0, progress) for x in delta], atol=1e-6
  )
  assert (np.asarray(found) > objectives.squared(delta, 0.1)).sum() == failures
  assert (np.diff(found) <= 0).all()  # a larger difference is never worse


def entropy_by_hand(aligned, base, present, samples, temperature):
  """Computes the loss text by text."""
  expected = np.zeros(aligned.shape)
  for first in range(0, len(aligned), samples):
    for number in range(first, first + samples):
      there = [row for row in range(first, first + samples) if present[row]]
      partition = sum(math.exp(base[row] / temperature) for row in there) / len(there)
      expected[number] = -math.log(math.exp(aligned[number] / temperature) / partition)
  return expected


def test_maximum_entropy_is_the_likelihood_against_the_samples_of_the_prompt():
  rng = np.random.default_rng(0)
  aligned, base = rng.uniform(-1, 1, (2, 12, 2)).astype(np.float32)
  present = np.ones((12, 2), bool)
  present[[1, 5, 8, 9], [0, 1, 1, 0]] = False
  found = objectives.maximum_entropy(aligned, base, present, 3, 0.25)
  for column in (0, 1):  # of a length of prefixes, say
    expected = entropy_by_hand(aligned[:, column], base[:, column], present[:, column], 3, 0.25)
    np.testing.assert_allclose(found[:, column], expected, rtol=1e-5)


@pytest.mark.slow
def test_maximum_entropy_sees_differences_alone_and_every_sample_that_there_is():
  rng = np.random.default_rng(1)
  aligned, base = rng.uniform(-1, 1, (2, 4)).astype(np.float32)
  present = np.array([True, True, False, True])
  loss = lambda aligned, base: jnp.mean(objectives.maximum_entropy(aligned, base, present, 4, 0.5))
  np.testing.assert_allclose(loss(aligned + 0.3, base + 0.3), loss(aligned, base), atol=1e-6)
  of_aligned, of_base = jax.grad(loss, (0, 1))(aligned, base)
  shares = np.exp(base / 0.5) * present
  np.testing.assert_allclose(of_aligned, np.full(4, -0.25 / 0.5), atol=1e-6)
  np.testing.assert_allclose(of_base, shares / shares.sum() / 0.5, atol=1e-6)


def test_a_prompt_without_base_texts_spoils_no_gradient():
  present = np.array([False, False, True, True])
  loss = lambda base: jnp.sum(objectives.maximum_entropy(base, base, present, 2, 0.01) * present)
  gradient = jax.grad(loss)(np.array([0.9, -0.9, 0.5, -0.5], np.float32))
  chex.assert_tree_all_finite(gradient)
  assert (np.asarray(gradient)[:2] == 0).all()


def test_the_true_reward_is_where_maximum_entropy_is_least():
  """Six texts whose probabilities are known, under the base model and under the policy."""
  rng = np.random.default_rng(2)
  true, samples, temperature = np.array([0.6, -0.5, 0.1, 0.9, -0.9, 0.0]), 200_000, 0.5
  base = np.array([0.3, 0.2, 0.2, 0.05, 0.15, 0.1])
  policy = base * np.exp(true / temperature)
  aligned_texts, base_texts = (rng.choice(6, samples, p=p / p.sum()) for p in (policy, base))
  loss = lambda rewards: jnp.mean(
    objectives.maximum_entropy(
      rewards[aligned_texts], rewards[base_texts], np.ones(samples, bool), samples, temperature
    )
  )
  value, gradient = jax.value_and_grad(loss)(jnp.asarray(true, jnp.float32))
  np.testing.assert_allclose(gradient, np.zeros(6), atol=0.01)
  expected = -np.sum(
    policy / policy.sum() * (true / temperature - np.log(policy.sum()))
  )  # minus KL
  np.testing.assert_allclose(value, expected, atol=0.01)
  assert np.abs(jax.grad(loss)(jnp.asarray(true[::-1].copy(), jnp.float32))).max() > 0.1


@pytest.mark.parametrize(
  'name', [name for name, of_groups in COMPARES_GROUPS.items() if not of_groups]
)
def test_objectives_of_pairs_have_the_signature_of_those_of_groups(name):
  """They depend on each pair's own difference only, not on presence or grouping."""
  aligned, base = np.random.default_rng(0).uniform(-1, 1, (2, 4, 3)).astype(np.float32)
  present = np.array([[True, False, True]] * 4)
  found = objectives.losses(aligned, base, present, settings(name), 0.6)
  expected = [by_hand(name, float(delta), 0.1, 0.25, 0.6) for delta in (aligned - base).ravel()]
  np.testing.assert_allclose(np.ravel(found), expected, atol=1e-5)


def test_objectives_of_groups_see_the_other_samples_of_a_prompt():
  aligned, base = np.random.default_rng(0).uniform(-1, 1, (2, 4, 3)).astype(np.float32)
  present = np.ones((4, 3), bool)
  found = objectives.losses(aligned, base, present, settings('maximum_entropy'), 0.6)
  expected = [
    entropy_by_hand(aligned[:, column], base[:, column], present[:, column], 2, 0.25)
    for column in range(3)
  ]
  np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
  'name', [name for name, of_groups in COMPARES_GROUPS.items() if not of_groups]
)
def test_a_label_shares_a_pair_between_its_two_orders(name):
  """Against a loop; the validation loss takes the label in the same way."""
  rng = np.random.default_rng(3)
  aligned, base = rng.uniform(-1, 1, (2, 4, 3)).astype(np.float32)
  label = rng.random((4, 3)).astype(np.float32)
  label[0] = [0.0, 0.5, 1.0]
  found = objectives.losses(aligned, base, np.ones((4, 3), bool), settings(name), 0.6, label)
  expected = [
    p * by_hand(name, float(delta), 0.1, 0.25, 0.6)
    + (1 - p) * by_hand(name, -float(delta), 0.1, 0.25, 0.6)
    for delta, p in zip((aligned - base).ravel(), label.ravel().astype(float))
  ]
  np.testing.assert_allclose(np.ravel(found), expected, atol=1e-5)
  validated = objectives.pair_losses(aligned - base, settings(name), 0.6, label)
  np.testing.assert_allclose(np.ravel(validated), expected, atol=1e-5)


def test_a_label_shares_the_samples_of_a_prompt_between_both_orders():
  rng = np.random.default_rng(4)
  aligned, base = rng.uniform(-1, 1, (2, 6)).astype(np.float32)
  of_aligned, of_base = np.array([1, 1, 1, 1, 0, 1], bool), np.array([1, 0, 1, 1, 1, 1], bool)
  label = np.array([0.3, 1.0, 0.0, 0.6, 0.5, 0.9], np.float32)  # 1 without a base text
  found = objectives.losses(
    aligned, base, of_base, settings('maximum_entropy'), 0.0, label, of_aligned
  )
  as_drawn = entropy_by_hand(aligned, base, of_base, 2, 0.25)
  exchanged = entropy_by_hand(base, aligned, of_aligned, 2, 0.25)
  np.testing.assert_allclose(found, label * as_drawn + (1 - label) * exchanged, rtol=1e-5)


def test_the_default_is_the_one_that_the_docs_recommend():
  page = (pathlib.Path(__file__).parents[2] / 'docs' / 'recovery.md').read_text(encoding='utf-8')
  recommended = re.findall(r'the default, `irl\.objective=(\w+)`', page)
  assert recommended == [IRL().objective]


def test_every_objective_of_the_config_has_a_loss():
  assert set(objectives.OBJECTIVES) == set(COMPARES_GROUPS)


def test_an_objective_of_groups_is_refused_with_one_sample():
  with pytest.raises(
    errors.ConfigError, match='config.irl.samples_per_prompt = 1: must be >= 2 with config.irl.obj'
  ):
    IRL(objective='maximum_entropy')
  assert IRL(objective='maximum_entropy', samples_per_prompt=3).group_size == 3
  assert IRL(objective='logistic', samples_per_prompt=3).group_size == 1
