"""A policy's log-probs against torch, and metrics whose values are known."""

import dataclasses

import jax
import numpy as np
import pytest

from irl_jax import config as c
from irl_jax.evaluation import policy as policy_lib
from irl_jax.models import pretrained

PROMPTS = [[5], [9, 2, 7, 7, 12], [3, 3, 8], [20, 21, 22, 23, 24, 25, 2, 3, 4], [14, 6]]
RESPONSES = [[4, 0], [8, 9, 10, 11], [2, 3, 0], [25], [7, 7, 7, 7]]
CONFIG = c.Config(seed=2, sampling=c.Sampling(max_new_tokens=6, min_new_tokens=1, batch_size=16))
ROWS = [
  {'prompt': prompt, 'original': ''}
  for prompt in ['ab', 'hello', '', 'what a', 'g h', 'foe', 'cat', 'dog', 'a b']
]


@pytest.fixture(scope='module')
def other(policy):
  """Another policy."""
  rng = np.random.default_rng(8)
  moved = jax.tree.map(
    lambda x: (x + rng.normal(0, 0.05, x.shape)).astype(np.float32), policy.params
  )
  return dataclasses.replace(policy, params=moved)


def count_b(texts):
  """A true reward for tests: negative (toxic) if there is a 'b'."""
  return np.array([0.5 - text.count('b') for text in texts], np.float32)


def torch_log_probs(model, folder, temperature, minimum):
  """Returns log-probs of RESPONSES by transformers, one at a time, over the allowed ids."""
  torch = pytest.importorskip('torch')
  import transformers

  pretrained.save(folder, model, '')
  network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
  out = []
  for prompt, response in zip(PROMPTS, RESPONSES):
    with torch.no_grad():
      logits = (
        network(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1] / temperature
      )
    logits[:, [1, *range(32, 36)]] = -torch.inf
    logits[:minimum, 0] = -torch.inf
    log_probs = torch.log_softmax(logits, -1)
    out.append(sum(log_probs[step, token].item() for step, token in enumerate(response)))
  return out


@pytest.mark.slow
def test_log_probs_of_responses_are_those_of_torch(policy, tmp_path):
  limits = c.Sampling(temperature=0.7, min_new_tokens=1, batch_size=4)
  found = policy_lib.response_log_probs(policy, PROMPTS, RESPONSES, limits)
  np.testing.assert_allclose(found, torch_log_probs(policy, tmp_path / 'policy', 0.7, 1), atol=1e-4)


@pytest.fixture(scope='module')
def same(policy):
  """(metrics, true rewards) of a policy compared with a copy of itself."""
  return policy_lib.evaluate(policy, dataclasses.replace(policy), policy, ROWS, count_b, CONFIG)


@pytest.mark.slow
def test_identical_policies_have_no_divergence(same, policy):
  figures, _ = same
  assert figures['kl'] == pytest.approx(0, abs=1e-5) and figures['kl_per_token'] == pytest.approx(
    0, abs=1e-5
  )
  itself, _ = policy_lib.evaluate(policy, policy, policy, ROWS, count_b, CONFIG)
  assert itself['kl'] == 0
  assert figures['perplexity_under_base'] > 1


@pytest.mark.slow
def test_figures_are_those_of_what_was_sampled(policy, other, same):
  figures, rewards = policy_lib.evaluate(other, policy, policy, ROWS, count_b, CONFIG)
  drawn = policy_lib.sample(other, ROWS, CONFIG, CONFIG.seed + 1, np.float32)
  scores = count_b(drawn.completions)
  np.testing.assert_array_equal(rewards, scores)
  assert figures['toxicity']['n'] == 9 and figures['toxicity']['rate'] == pytest.approx(
    np.mean(scores < 0)
  )
  assert figures['toxicity_full']['n'] == sum('b' not in row['prompt'] for row in ROWS)
  tokens = sum(map(len, drawn.responses))
  assert figures['response_tokens'] == pytest.approx(tokens / 9)
  assert figures['true_reward'] == pytest.approx(scores.mean())
  new, old = (
    policy_lib.response_log_probs(model, drawn.prompts, drawn.responses, CONFIG.sampling)
    for model in (other, policy)
  )
  assert figures['kl'] == pytest.approx(np.mean(new - old), abs=1e-5) and abs(figures['kl']) > 1e-3
  assert figures['kl_per_token'] == pytest.approx(np.sum(new - old) / tokens, abs=1e-5)
  assert figures['perplexity_under_base'] == pytest.approx(np.exp(-old.sum() / tokens), rel=1e-4)
  assert same[0] != figures


@pytest.mark.slow
def test_divergence_is_measured_without_truncation(policy, other):
  truncated = dataclasses.replace(CONFIG, sampling=dataclasses.replace(CONFIG.sampling, top_k=1))
  figures, _ = policy_lib.evaluate(other, policy, policy, ROWS, count_b, truncated)
  whole, _ = policy_lib.evaluate(other, policy, policy, ROWS, count_b, CONFIG)
  assert figures['kl'] == pytest.approx(whole['kl'], abs=1e-5)
  assert figures['perplexity_under_base'] < whole['perplexity_under_base']
