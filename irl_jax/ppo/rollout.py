"""What PPO samples and scores on the host: prompts, completions, rewards; and what of them goes back to the devices.

Dims: B responses of a rollout, P prompt, T response, S = P + T, N rows.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from irl_jax import config as config_lib
from irl_jax import rewards
from irl_jax import sampling
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.runtime import parallel


@dataclasses.dataclass(frozen=True)
class Prompts:
  """The rows, as every rollout reads them."""

  texts: list[str]  # [N]
  ids: list[list[int]]  # [N] token ids, cut on the left
  prefixes: list[str]  # [N] what stands before a completion when it is scored
  original_scores: np.ndarray  # [N] float32, subtracted from the score of a completion


@dataclasses.dataclass(frozen=True)
class Asked:
  """Prompts of one rollout, and the responses that the devices give to them: these need not have come yet."""

  rows: np.ndarray  # [B]
  batch: structs.PromptBatch  # [B, P]
  responses: structs.Responses  # [n, B / n, T], on the devices


@dataclasses.dataclass(frozen=True)
class Sampled:
  """Prompts of one rollout, what the policy said, and its reward."""

  prompts: list[str]  # [B]
  batch: structs.PromptBatch  # [B, P]
  responses: structs.Responses  # [B, T]
  completions: list[str]  # [B]
  scored: list[str]  # [B] what the reward read
  scores: np.ndarray  # [B] as the reward gives them, less the originals'

  def table(self, count: int) -> list[dict[str, Any]]:
    """The first `count` as `{"prompt", "completion", "score"}` rows."""
    return [
      {'prompt': prompt, 'completion': completion, 'score': float(score)}
      for prompt, completion, score in list(zip(self.prompts, self.completions, self.scores))[
        :count
      ]
    ]


def read_prompts(
  rows: Sequence[dict[str, Any]], tokenizer, reward: rewards.Reward, config: config_lib.Config
) -> Prompts:
  """Encodes every row's prompt, and scores the original text of those that the run will take."""
  texts = [row['prompt'] for row in rows]
  ids, _ = sampling.prompt_ids(tokenizer, texts, config.data.max_prompt_tokens)
  prefixes, _ = prompt_and_original(rows, config.ppo.score_text)
  taken = {
    row for step in range(config.ppo.steps) for row in picked(len(rows), config, step).tolist()
  }
  return Prompts(texts, ids, prefixes, original_scores(rows, sorted(taken), reward, config.ppo))


def picked(count: int, config: config_lib.Config, step: int) -> np.ndarray:
  """Which of the rows a step takes [B]."""
  return batches.shuffled_indices(count, config.ppo.rollouts_per_step, step, config.seed)


def prompt_and_original(
  rows: Sequence[dict[str, Any]], score_text: str
) -> tuple[list[str], list[str]]:
  """What stands before a completion when it is scored, and the original text that it is held against, for every row."""
  if score_text == 'completion':
    return [''] * len(rows), [row['original'] for row in rows]
  return [row['prompt'] for row in rows], [row['prompt'] + row['original'] for row in rows]


def original_scores(
  rows, taken: Sequence[int], reward: rewards.Reward, ppo: config_lib.PPO
) -> np.ndarray:
  """The reward of the original texts [N] of the rows that are taken; 0 where there is none.

  All are scored at once, before the first step: a score depends (in its last bits) on the batch that it is computed
  in, and so must not depend on what was scored before an interruption.
  """
  scores = np.zeros(len(rows), np.float32)
  has_original = [number for number in taken if rows[number]['original']]
  if ppo.subtract_original and has_original:
    _, originals = prompt_and_original(rows, ppo.score_text)
    scores[has_original] = reward([originals[number] for number in has_original])
  return scores


def ask(
  sample: Callable,
  parts: tuple,
  prompts: Prompts,
  eos_token_id: int,
  config: config_lib.Config,
  step: int,
) -> Asked:
  """Has the devices complete the prompts of one step, and does not wait for it.

  Args:
    sample: over the devices, (parts, PromptBatch) -> Responses.
    parts: (trained, frozen params, allowed, key).
    prompts: of all rows.
    eos_token_id: what prompts are padded with.
    config: `ppo.rollouts_per_step` and `seed` are read.
    step: decides which prompts are taken and, with the key, what is sampled.
  """
  size = config.ppo.rollouts_per_step
  rows = picked(len(prompts.ids), config, step)
  batch = batches.prompt_batch(
    [prompts.ids[row] for row in rows], step * size + np.arange(size), eos_token_id
  )
  return Asked(rows, batch, sample(parts, parallel.shard(batch)))


def score(asked: Asked, prompts: Prompts, tokenizer, reward: rewards.Reward) -> Sampled:
  """Waits for the responses, and scores them."""
  responses = parallel.gather(asked.responses)
  completions = [
    text.decode(tokenizer, ids[:length]) for ids, length in zip(responses.ids, responses.length)
  ]
  scored = [prompts.prefixes[row] + completion for row, completion in zip(asked.rows, completions)]
  return Sampled(
    [prompts.texts[row] for row in asked.rows],
    asked.batch,
    responses,
    completions,
    scored,
    reward(scored) - prompts.original_scores[asked.rows],
  )


def experience_of(
  batch: structs.PromptBatch, responses: structs.Responses, scores: np.ndarray
) -> structs.Experience:
  """Prompts and responses, side by side."""
  response_mask = np.arange(responses.ids.shape[1]) < responses.length[:, None]
  return structs.Experience(
    ids=np.concatenate([batch.ids, responses.ids], axis=1),
    valid=np.concatenate([batch.valid, response_mask], axis=1),
    response_mask=response_mask,
    score=scores,
  )
