"""Log-probs of the allowed distribution against a log-softmax over the whole vocabulary."""

import dataclasses
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import distribution

COUNT, WIDTH, VOCABULARY = 11, 5, 13
CONFIG = types.SimpleNamespace(final_logit_softcapping=None)


@pytest.fixture(scope='module')
def problem():
  """(params, hidden [N, D], targets [N], too_early [N], allowed, config); targets are allowed."""
  rng = np.random.default_rng(0)
  params = {'embed_in': {'embedding': rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)}}
  hidden = rng.normal(size=(COUNT, WIDTH)).astype(np.float32)
  forbidden = np.isin(np.arange(VOCABULARY), [1, 11, 12])
  too_early = np.arange(COUNT) % 3 == 0
  targets = np.where(too_early, 4, rng.choice([0, 3, 7, 10], COUNT)).astype(np.int32)
  return (
    params,
    hidden,
    targets,
    too_early,
    distribution.Allowed(forbidden, np.arange(VOCABULARY) == 0, np.float32(0.7)),
    CONFIG,
  )


def dense(params, hidden, targets, too_early, allowed, config):
  """The same by a loop over positions, each with a log-softmax over the ids that may come there."""
  out = []
  for position in range(COUNT):
    may = np.flatnonzero(~allowed.forbidden & ~(allowed.ends & too_early[position]))
    logits = params['embed_in']['embedding'][may] @ hidden[position]
    if cap := config.final_logit_softcapping:
      logits = cap * jnp.tanh(logits / cap)
    logits /= allowed.temperature
    out.append(jax.nn.log_softmax(logits)[int(np.flatnonzero(may == targets[position])[0])])
  return jnp.stack(out)


def value_and_gradients(function, params, hidden, *rest):
  """Log-probs [N], and gradients of their weighted sum with respect to params and hidden."""
  values, vjp = jax.vjp(lambda params, hidden: function(params, hidden, *rest), params, hidden)
  return values, vjp(jnp.linspace(-1, 2, COUNT))


@pytest.fixture(scope='module', params=[None, 3.0], ids=['as they are', 'capped'])
def capped(problem, request):
  """The problem, with logits as they are and with capped ones."""
  config = types.SimpleNamespace(final_logit_softcapping=request.param)
  return *problem[:-1], config


@pytest.fixture(scope='module')
def expected(capped):
  return jax.device_get(value_and_gradients(dense, *capped))


@pytest.mark.parametrize('kept_bytes', [0, 2**20], ids=['computed again', 'kept'])
@pytest.mark.parametrize(
  'chunk', [VOCABULARY, 4, 1], ids=['whole', 'last one not full', 'one by one']
)
def test_values_and_gradients_are_those_of_the_whole_softmax(
  capped, expected, monkeypatch, chunk, kept_bytes
):
  monkeypatch.setitem(distribution.KEPT_BYTES, 'cpu', kept_bytes)
  monkeypatch.setitem(distribution.CHUNK_BYTES, 'cpu', 4 * COUNT * chunk)
  actual = value_and_gradients(distribution.log_probs, *capped)
  chex.assert_trees_all_close(actual, expected, atol=1e-5)


@pytest.mark.parametrize('keeps', [False, True])
def test_no_array_of_positions_by_vocabulary_exists_but_one_that_is_small_enough(
  problem, monkeypatch, keeps
):
  monkeypatch.setitem(distribution.CHUNK_BYTES, 'cpu', 4 * COUNT * 2)
  monkeypatch.setitem(distribution.KEPT_BYTES, 'cpu', 4 * COUNT * VOCABULARY - (not keeps))
  loss = lambda params, hidden: jnp.sum(distribution.log_probs(params, hidden, *problem[2:]))
  text = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(*problem[:2]))
  assert f'f32[2,{COUNT}]' in text
  whole = [(VOCABULARY, COUNT), (VOCABULARY + 1, COUNT), (7, 2, COUNT)]
  assert any(f'[{",".join(map(str, shape))}]' in text for shape in whole) == keeps


def test_a_forbidden_id_has_no_probability(problem):
  params, hidden, _, *rest = problem
  too_early, allowed, _ = rest
  probabilities = np.asarray(
    jax.nn.softmax(distribution.next_logits(params, hidden, *rest), axis=0)
  )
  assert not probabilities[allowed.forbidden].any()
  np.testing.assert_array_equal(probabilities[0] == 0, too_early)


def test_padding_and_spare_ids_are_never_allowed(policy):
  allowed = distribution.allowed_for(policy.tokenizer, policy.config, 0.5)
  np.testing.assert_array_equal(np.flatnonzero(allowed.forbidden), [1, *range(32, 36)])
  assert float(allowed.temperature) == 0.5
  np.testing.assert_array_equal(np.flatnonzero(allowed.ends), [0])


def test_a_number_that_no_token_has_never_comes(policy):
  tokenizer = types.SimpleNamespace(
    get_vocab=lambda: {'<|endoftext|>': 0, '<|padding|>': 1, 'far': 7}, pad_token_id=1
  )
  allowed = distribution.allowed_for(tokenizer, policy.config, 1.0)
  np.testing.assert_array_equal(np.flatnonzero(~allowed.forbidden), [0, 7])


def test_a_padding_that_is_eos_may_come(policy):
  ends = (0, policy.tokenizer.pad_token_id)
  config = dataclasses.replace(policy.config, eos_token_ids=ends)
  allowed = distribution.allowed_for(policy.tokenizer, config, 1.0)
  assert not allowed.forbidden[:32].any()
  np.testing.assert_array_equal(np.flatnonzero(allowed.ends), ends)
