"""Sampling: greedy as in transformers, a key per example, forbidden tokens, and log-probs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from irl_jax import config as c
from irl_jax import distribution
from irl_jax import sampling
from irl_jax.data import batches
from irl_jax.models import pretrained
from irl_jax.models import trunk

# Sixteen slots with padding. Tests share shapes and settings, since a new one compiles for seconds.
PROMPTS = [
  [5],
  [9, 2, 7, 7, 12],
  [3, 3, 8],
  [20, 21, 22, 23, 24, 25, 2, 3, 4],
  [14, 6],
  [0],
  [8, 8, 8, 8],
  [19, 4],
]


@functools.cache
def compiled(config, **settings):
  """`sampling.sample` with its statics bound, unmapped."""
  statics = (
    dict(dtype=jnp.float32, max_new_tokens=8, min_new_tokens=0, top_k=0, top_p=1.0, greedy=False)
    | settings
  )
  return jax.jit(functools.partial(sampling.sample, config=config, **statics))


def on_one_device(policy, prompts, index, temperature=1.0, seed=0, **settings):
  """Responses to prompts; example i uses the key of index[i]."""
  frozen = (
    policy.params,
    distribution.allowed_for(policy.tokenizer, policy.config, temperature),
    jax.random.key(seed),
  )
  run = compiled(policy.config, **settings)
  return jax.device_get(
    run(frozen, batches.prompt_batch(prompts, index, policy.config.eos_token_id))
  )


@functools.partial(jax.jit, static_argnames='config')
def forward(params, ids, valid, config):
  return trunk.logits(params, trunk.hidden_states(params, ids, valid, config), config)


def whole_logits(policy, ids, valid):
  """Logits [B, S, V] of the model's training forward."""
  return np.asarray(forward(policy.params, ids, valid, policy.config), np.float64)


def that_prefers(policy, **scores):
  """The policy with fixed logits at every position: scores by id ('id_7=3.0'), else 0."""
  params = jax.tree.map(np.array, policy.params)
  params['final_layer_norm'] = {
    'scale': np.zeros(16, np.float32),
    'bias': np.eye(16, dtype=np.float32)[0],
  }
  params['embed_out'] = {'embedding': np.zeros((36, 16), np.float32)}
  for name, score in scores.items():
    params['embed_out']['embedding'][int(name.removeprefix('id_')), 0] = score
  return dataclasses.replace(policy, params=params)


def torch_greedy(folder, prompts, max_new_tokens, forbidden):
  """Returns transformers' greedy responses to a left-padded batch, EOS included."""
  torch = pytest.importorskip('torch')
  import transformers

  network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
  ids, valid = batches.pad_left(prompts, max(map(len, prompts)), 1)
  out = network.generate(
    torch.tensor(ids).long(),
    attention_mask=torch.tensor(valid).long(),
    do_sample=False,
    max_new_tokens=max_new_tokens,
    pad_token_id=1,
    eos_token_id=0,
    suppress_tokens=list(map(int, forbidden)),
  ).numpy()[:, ids.shape[1] :]
  ends = [(list(row).index(0) + 1 if 0 in row else max_new_tokens) for row in out]
  return [row[:end].tolist() for row, end in zip(out, ends)]


def greedy(model, prompts, max_new_tokens):
  limits = c.Sampling(max_new_tokens=max_new_tokens, temperature=0)
  return sampling.complete_ids(model, prompts, limits, seed=0)[0]


@pytest.mark.slow
def test_greedy_continuations_are_those_of_transformers(policy, tmp_path):
  pretrained.save(tmp_path / 'policy', policy, '')
  forbidden = [1, *range(32, 36)]
  assert greedy(policy, PROMPTS, 20) == torch_greedy(tmp_path / 'policy', PROMPTS, 20, forbidden)


@pytest.mark.slow
def test_greedy_continuations_of_the_shared_checkpoint_are_those_of_transformers(shared):
  folder = shared / 'models/neox_14m'
  model = pretrained.load(str(folder))
  prompts = model.tokenizer(
    ['You are', 'Hello', 'I think that the article should be', 'why would anyone']
  )['input_ids']
  forbidden = [1, *range(len(model.tokenizer), model.config.vocab_size)]
  actual = greedy(model, prompts, 16)
  assert actual == torch_greedy(folder, prompts, 16, forbidden)
  assert len({tuple(row) for row in actual}) > 1


@pytest.mark.slow
def test_a_sample_depends_on_its_own_key_alone(policy):
  limits = c.Sampling(max_new_tokens=8, batch_size=8)
  batched, lengths = sampling.complete_ids(policy, PROMPTS, limits, seed=3)
  alone, _ = sampling.complete_ids(
    policy, PROMPTS, dataclasses.replace(limits, batch_size=4), seed=3
  )
  assert batched == alone
  one_device = on_one_device(policy, PROMPTS, np.arange(8), seed=3)
  assert batched == [
    ids[:length].tolist() for ids, length in zip(one_device.ids, one_device.length)
  ]
  np.testing.assert_array_equal(lengths, one_device.length)
  reordered = on_one_device(policy, PROMPTS[::-1], np.arange(8)[::-1], seed=3)
  np.testing.assert_array_equal(reordered.ids[::-1], one_device.ids)
  assert sampling.complete_ids(policy, PROMPTS, limits, seed=4)[0] != batched
  assert sampling.complete_ids(policy, PROMPTS[5:], limits, seed=3, first=5)[0] == batched[5:]


@pytest.mark.slow
def test_equal_prompts_and_later_steps_draw_anew(policy):
  responses = on_one_device(that_prefers(policy), [PROMPTS[3]] * 64, np.arange(64))
  assert len({tuple(row) for row in responses.ids}) == 64
  before, after = responses.ids[:, :-1], responses.ids[:, 1:]
  assert np.mean((before == after)[before != 0]) < 0.1


SLOW_CHANGES = [
  pytest.param(changes, marks=pytest.mark.slow)
  for changes in ({'top_k': 8}, {'top_p': 0.9}, {'greedy': True})
]


@pytest.mark.parametrize('changes', [{}, *SLOW_CHANGES])
def test_a_forbidden_id_never_comes(policy, changes):
  tempted = that_prefers(policy, id_1=20.0, id_32=30.0, id_35=30.0)
  responses = on_one_device(tempted, PROMPTS * 8, np.arange(64), min_new_tokens=3, **changes)
  assert not np.isin(responses.ids, [1, *range(32, 36)]).any()
  assert np.isfinite(responses.log_probs).all()


@pytest.mark.parametrize('minimum', [0, 3])
def test_eos_comes_after_the_minimum_and_ends_a_response(policy, minimum):
  ending = that_prefers(policy, id_0=20.0)
  responses = on_one_device(
    ending, PROMPTS * 8, np.arange(64), **({'min_new_tokens': minimum} if minimum else {})
  )
  np.testing.assert_array_equal(responses.length, minimum + 1)
  assert (responses.ids[:, :minimum] != 0).all() and (responses.ids[:, minimum:] == 0).all()
  assert (responses.log_probs[:, minimum + 1 :] == 0).all()
  np.testing.assert_allclose(
    responses.log_probs[:, :minimum], -np.log(30), atol=1e-5
  )  # 32 ids without EOS, padding


@pytest.mark.slow
def test_the_loop_ends_when_every_row_has_ended(policy, monkeypatch):
  steps, decode = [], trunk.decode_blocks

  def counted(*arguments):
    jax.debug.callback(lambda: steps.append(1))
    return decode(*arguments)

  monkeypatch.setattr(trunk, 'decode_blocks', counted)
  on_one_device(
    that_prefers(policy, id_0=30.0), PROMPTS, np.arange(8), max_new_tokens=40, min_new_tokens=2
  )
  jax.effects_barrier()
  assert len(steps) == 2  # the first token comes from the prompt's own pass


def allowed_tokens(logits, top_k, top_p):
  """Returns the ids of logits [V] that may be drawn: the k largest, and the fewest that reach p."""
  ranked = sorted(range(len(logits)), key=lambda token: -logits[token])[: top_k or None]
  weights = [np.exp(logits[token]) for token in ranked]
  allowed, reached = [], 0.0
  for token, weight in zip(ranked, weights):
    if reached >= top_p:
      break
    allowed.append(token)
    reached += weight / sum(weights)
  return allowed


@pytest.mark.parametrize(
  'top_k, top_p', [(0, 1.0), (4, 1.0), (0, 0.6), (6, 0.7), (50, 1.0), (0, 1e-6), (1, 1.0)]
)
def test_draws_have_the_support_and_the_frequencies_of_the_truncated_softmax(top_k, top_p):
  logits = np.random.default_rng(2).normal(0, 1.5, 16)
  draws = 4000
  keys = jax.random.split(jax.random.key(0), draws)
  run = jax.jit(functools.partial(sampling.draw, k=min(top_k, 16), top_p=top_p, greedy=False))
  blocks = sampling.in_blocks(np.tile(logits.astype(np.float32)[:, None], (1, draws)))
  counts = np.bincount(run(keys, blocks), minlength=16)
  allowed = allowed_tokens(logits, top_k, top_p)
  assert counts[allowed].sum() == draws
  expected = np.exp(logits[allowed]) / np.exp(logits[allowed]).sum() * draws
  if len(allowed) > 1:
    assert stats.chisquare(counts[allowed], expected).pvalue > 1e-3


@pytest.mark.parametrize('k', [1, 2, 3, 7, 21])
def test_the_largest_logits_are_found_in_the_blocks_of_the_largest(monkeypatch, k):
  monkeypatch.setattr(sampling, 'BLOCK', 4)
  logits = np.random.default_rng(5).normal(size=(21, 50)).astype(np.float32)
  actual, ids = jax.jit(functools.partial(sampling.largest_logits, k=k))(sampling.in_blocks(logits))
  for row, expected in enumerate(np.argsort(-logits, axis=0)[:k].T):
    np.testing.assert_array_equal(ids[row], expected)
    np.testing.assert_array_equal(actual[row], logits[expected, row])


def test_draws_by_blocks_have_the_frequencies_of_the_whole_softmax(monkeypatch):
  monkeypatch.setattr(sampling, 'BLOCK', 8)
  logits = np.random.default_rng(4).normal(0, 1.5, 21)  # the last block is not full
  logits[8:16] = distribution.FORBIDDEN  # and one is forbidden
  keys = jax.random.split(jax.random.key(1), 4000)
  draws = jax.jit(sampling.by_blocks)(
    keys, sampling.in_blocks(np.tile(logits.astype(np.float32)[:, None], (1, 4000)))
  )
  counts, may = np.bincount(draws, minlength=21), np.r_[:8, 16:21]
  assert counts[may].sum() == 4000 and len(counts) == 21
  assert (
    stats.chisquare(counts[may], 4000 * np.exp(logits[may]) / np.exp(logits[may]).sum()).pvalue
    > 1e-3
  )


@pytest.mark.slow
def test_tokens_are_as_frequent_as_the_model_says(policy):
  temperature, rows, prompt = 1.7, 4096, PROMPTS[1]
  responses = on_one_device(policy, [prompt] * rows, np.arange(rows), temperature, max_new_tokens=1)
  logits = (
    whole_logits(policy, np.array([prompt]), np.ones((1, len(prompt)), bool))[0, -1] / temperature
  )
  may = np.array([0, *range(2, 32)])
  expected = np.exp(logits[may]) / np.exp(logits[may]).sum() * rows
  counts = np.bincount(responses.ids[:, 0], minlength=36)
  assert counts[may].sum() == rows and expected.min() > 5
  assert stats.chisquare(counts[may], expected).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes', [{}, {'top_k': 8}, {'greedy': True}], ids=['whole', 'top_k', 'greedy']
)
def test_reported_log_probs_are_those_of_the_untruncated_distribution(policy, changes):
  temperature, minimum = 0.6, 3
  responses = on_one_device(
    policy, PROMPTS * 8, np.arange(64), temperature, min_new_tokens=minimum, **changes
  )
  prompts = batches.prompt_batch(PROMPTS, np.arange(8), 0)
  ids = np.concatenate([prompts.ids, responses.ids[:8]], axis=1)
  valid = np.concatenate([prompts.valid, np.ones((8, 8), bool)], axis=1)
  logits = whole_logits(policy, ids, valid)[:, -9:-1] / temperature
  for row in range(8):
    for step in range(responses.length[row]):
      may = np.array(
        [token for token in range(32) if token != 1 and not (token == 0 and step < minimum)]
      )
      expected = logits[row, step, responses.ids[row, step]] - np.log(
        np.exp(logits[row, step, may]).sum()
      )
      np.testing.assert_allclose(responses.log_probs[row, step], expected, atol=1e-4)


@pytest.mark.slow
def test_completions_are_texts_that_fit_the_model(policy):
  speaks = that_prefers(policy, id_2=30.0)
  limits = c.Sampling(max_new_tokens=60)
  assert sampling.complete(speaks, ['ab', '', 'abcdefgh' * 9], limits) == [' ' * 60] * 3
  with pytest.raises(ValueError, match='max_tokens = 0'):
    sampling.complete(speaks, ['ab'], dataclasses.replace(limits, max_new_tokens=64))
