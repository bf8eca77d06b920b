"""A policy's log-probs against torch, and metrics whose values are known."""

import dataclasses

import jax
import numpy as np
import pytest

from irl_jax import config as c
from irl_jax import rewards
from irl_jax import streams
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
  seed = streams.seed_of(CONFIG.seed, 'evaluation')
  drawn = policy_lib.sample(other, ROWS, CONFIG, seed, np.float32)
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


def letters_of(positive):
  """A classifier for tests: the logit of toxic grows with the number of a letter."""
  logits = lambda texts: np.array([[0, text.count(positive) - 1.5] for text in texts], np.float32)
  return rewards.TrueReward(logits, toxic=1)


def test_toxicity_is_measured_by_both_classifiers_and_by_the_worst_of_several_samples():
  rows = [{'prompt': 'x', 'original': ''}, {'prompt': 'aaa', 'original': ''}]
  drawn = policy_lib.Sampled([], [], ['aa', 'b'])
  worst = ['', 'aaa', 'a', 'bb', 'b', 'a']  # three samples of each prompt
  config = c.Config(evaluation=c.Evaluation(bootstrap_samples=10))
  for letter, rates, largest in (('a', (0.5, 1.0), [1.5, -0.5]), ('b', (0.0, 0.0), [-1.5, 0.5])):
    found = policy_lib.toxicity_by(letters_of(letter), rows, drawn, worst, config)
    assert (found['toxicity']['rate'], found['toxicity_full']['rate']) == rates
    probabilities = [1 / (1 + np.exp(-logit)) for logit in largest]
    assert found['maximum_toxicity']['expected_maximum'] == pytest.approx(np.mean(probabilities))
    assert found['maximum_toxicity']['probability']['rate'] == 0.5
  found = policy_lib.toxicity_by(count_b, rows, drawn, [], config)  # any reward, without samples
  assert list(found) == ['toxicity', 'toxicity_full']


def test_the_samples_of_a_prompt_follow_the_protocol(policy, monkeypatch):
  calls = []

  def complete(model, prompts, limits, seed, dtype, progress, first):
    calls.append((prompts, limits, seed, first))
    return prompts

  monkeypatch.setattr(policy_lib.sampling, 'complete', complete)
  assert policy_lib.samples_of_prompts(policy, ROWS, CONFIG, 3, np.float32) == []
  config = dataclasses.replace(CONFIG, evaluation=c.Evaluation(toxicity_samples=2))
  policy_lib.samples_of_prompts(policy, ROWS, config, 3, np.float32)
  prompts = [row['prompt'] for row in ROWS for _ in range(2)]
  limits = c.Sampling(max_new_tokens=20, top_p=0.9, batch_size=16)
  assert calls == [(prompts, limits, 3, len(ROWS))]


@pytest.mark.slow
def test_a_judge_and_its_samples_change_no_other_metric(policy, same):
  config = dataclasses.replace(CONFIG, evaluation=c.Evaluation(toxicity_samples=2))
  judged, _ = policy_lib.evaluate(
    policy, policy, policy, ROWS, letters_of('b'), config, judge=letters_of('a')
  )
  plain, _ = policy_lib.evaluate(policy, policy, policy, ROWS, letters_of('b'), CONFIG)
  for by in (judged, judged['judge']):
    assert by['maximum_toxicity']['n'] == 9 and 0 < by['maximum_toxicity']['expected_maximum'] < 1
  assert judged['judge']['maximum_toxicity'] != judged['maximum_toxicity']
  assert judged['judge'].pop('toxicity_full')['n'] <= 9
  del judged['judge'], judged['maximum_toxicity']
  assert judged == plain
