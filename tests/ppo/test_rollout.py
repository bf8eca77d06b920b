"""The host's part of a rollout: a step's prompts, scored texts, and subtracted scores."""

import numpy as np
import pytest

from irl_jax import config as c
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.ppo import rollout

ROWS = [
  {'prompt': 'ab', 'original': ' ca'},
  {'prompt': 'hello', 'original': ''},
  {'prompt': 'what', 'original': ' e'},
]


def length_of(texts):
  return np.array([len(text) for text in texts], np.float32)


@pytest.fixture
def devices(monkeypatch):
  """Replaces the devices, which test_loop.py tests."""
  monkeypatch.setattr(rollout.parallel, 'shard', lambda batch: batch)
  monkeypatch.setattr(rollout.parallel, 'gather', lambda tree: tree)


@pytest.mark.usefixtures('devices')
@pytest.mark.parametrize('score_text', ['full', 'completion'])
def test_a_score_is_the_completions_less_its_own_originals(policy, score_text):
  config = c.Config(seed=3, ppo=c.PPO(rollouts_per_step=4, minibatch_size=4, score_text=score_text))
  ids = np.array([[3, 4, 0], [5, 0, 0], [6, 7, 8], [0, 0, 0]], np.int32)
  responses = structs.Responses(ids, np.array([3, 2, 3, 1]), np.zeros((4, 3), np.float32))
  seen = []
  prompts = rollout.read_prompts(ROWS, policy.tokenizer, length_of, config)
  pending = rollout.start_sampling(
    lambda parts, batch: seen.append((parts, batch)) or responses,
    (1, 2, 3, 4),
    prompts,
    0,
    config,
    step=2,
  )
  sampled = rollout.score(pending, prompts, policy, length_of)
  ((parts, batch),) = seen
  assert parts == (1, 2, 3, 4) and sampled.batch is batch
  np.testing.assert_array_equal(
    batch.index, [8, 9, 10, 11]
  )  # no two samples of a run have the same number
  picked = batches.shuffled_indices(3, 4, 2, 3)
  assert sampled.prompts == [ROWS[row]['prompt'] for row in picked]
  assert sampled.completions == ['ab', 'c', 'def', '']
  for number, row in enumerate(picked):
    before = len(ROWS[row]['prompt']) if score_text == 'full' else 0
    original = before + len(ROWS[row]['original']) if ROWS[row]['original'] else 0
    assert sampled.scores[number] == before + len(sampled.completions[number]) - original
  assert sampled.table(2) == [
    {
      'prompt': sampled.prompts[number],
      'completion': sampled.completions[number],
      'score': float(sampled.scores[number]),
    }
    for number in range(2)
  ]


def test_experience_holds_prompts_and_whole_responses_side_by_side():
  batch = batches.prompt_batch([[5, 6], [7]], np.arange(2), 0)
  responses = structs.Responses(np.array([[8, 0, 0], [9, 9, 9]]), np.array([2, 3]), None)
  experience = rollout.experience_of(batch, responses, np.array([1.0, 2.0]))
  np.testing.assert_array_equal(experience.ids[:, -5:], [[5, 6, 8, 0, 0], [0, 7, 9, 9, 9]])
  np.testing.assert_array_equal(
    experience.valid[:, -5:], [[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]
  )  # with EOS, not behind it
  np.testing.assert_array_equal(experience.response_mask, [[1, 1, 0], [1, 1, 1]])


def test_the_reward_reads_the_whole_text_or_its_completion():
  seen = []
  remember = lambda texts: seen.append(list(texts)) or np.arange(1, len(texts) + 1)
  rows = [
    {'prompt': 'a', 'original': ' b'},
    {'prompt': 'c', 'original': ''},
    {'prompt': 'd', 'original': ' e'},
  ]
  for score_text, texts in (('full', ['a b', 'd e']), ('completion', [' b', ' e'])):
    scores = rollout.original_scores(rows, range(3), remember, c.PPO(score_text=score_text))
    np.testing.assert_array_equal(scores, [1, 0, 2])  # a prompt without an original subtracts 0
    assert seen.pop() == texts
  assert rollout.original_scores(rows, [2], remember, c.PPO())[2] == 1 and seen.pop() == [
    'd e'
  ]  # the only one taken
  unscored = rollout.original_scores(rows, range(3), remember, c.PPO(subtract_original=False))
  np.testing.assert_array_equal(unscored, [0, 0, 0])
  assert not seen
  assert rollout.prompt_and_original(rows, 'full')[0] == ['a', 'c', 'd']
  assert rollout.prompt_and_original(rows, 'completion')[0] == ['', '', '']
