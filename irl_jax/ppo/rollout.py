"""The host's part of a rollout: picks prompts, scores completions, and builds the experience.

Dims: B responses of a rollout, P prompt, T response, S = P + T, N rows.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from irl_jax import config as config_lib
from irl_jax import rewards
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.data import chat
from irl_jax.data import text
from irl_jax.models import pretrained
from irl_jax.runtime import parallel


@dataclasses.dataclass(frozen=True)
class Prompts:
  """The prompts of all rows."""

  texts: list[str]  # [N]
  ids: list[list[int]]  # [N] token ids, cut on the left
  prefixes: list[str]  # [N] text that precedes a completion when it is scored
  original_scores: np.ndarray  # [N] subtracted from the score of a completion


@dataclasses.dataclass(frozen=True)
class Pending:
  """The prompts of one rollout and their responses, which may still be computing on the devices."""

  rows: np.ndarray  # [B]
  batch: structs.PromptBatch  # [B, P]
  responses: structs.Responses  # [n, B / n, T], on the devices


@dataclasses.dataclass(frozen=True)
class Sampled:
  """The prompts of one rollout, the policy's completions, and their scores."""

  rows: np.ndarray  # [B]
  prompts: list[str]  # [B]
  batch: structs.PromptBatch  # [B, P]
  responses: structs.Responses  # [B, T]
  completions: list[str]  # [B]
  scored: list[str]  # [B] the texts that the reward scored
  scores: np.ndarray  # [B] the reward's scores minus those of the original texts

  def table(self, count: int) -> list[dict[str, Any]]:
    """Returns the first `count` as `{"prompt", "completion", "score"}` rows."""
    columns = zip(self.prompts[:count], self.completions, self.scores, strict=False)
    return [
      {'prompt': chat.shown(prompt), 'completion': completion, 'score': float(score)}
      for prompt, completion, score in columns
    ]


def read_prompts(
  rows: Sequence[Mapping[str, Any]],
  tokenizer: PreTrainedTokenizerBase,
  reward: rewards.Reward,
  config: config_lib.Config,
) -> Prompts:
  """Encodes every prompt, and scores the original texts of the rows that the run will use."""
  texts = [row['prompt'] for row in rows]
  ids = text.prompt_ids(tokenizer, texts, config.data.max_prompt_tokens)
  prefixes, _ = prompt_and_original(rows, config.ppo.score_text)
  steps = range(config.ppo.steps)
  used = {row for step in steps for row in rows_of_step(len(rows), config, step).tolist()}
  return Prompts(texts, ids, prefixes, original_scores(rows, sorted(used), reward, config.ppo))


def rows_of_step(count: int, config: config_lib.Config, step: int) -> np.ndarray:
  """Returns the numbers [B] of the rows, out of `count`, that a step uses."""
  return batches.shuffled_indices(count, config.ppo.rollouts_per_step, step, config.seed)


def prompt_and_original(
  rows: Sequence[Mapping[str, Any]], score_text: str
) -> tuple[list[str], list[str]]:
  """Returns for every row the text that precedes a scored completion, and the original text.

  Args:
    rows: the rows, each as `{"prompt", "original"}`.
    score_text: 'full' or 'completion' (`ppo.score_text`).
  """
  if score_text == 'completion':
    return [''] * len(rows), [row['original'] for row in rows]
  return [row['prompt'] for row in rows], [row['prompt'] + row['original'] for row in rows]


def original_scores(
  rows: Sequence[Mapping[str, Any]],
  used: Sequence[int],
  reward: rewards.Reward,
  ppo: config_lib.PPO,
) -> np.ndarray:
  """Returns the reward [N] of each row's original text; 0 if a row has none or is not used.

  All are scored in one call, before the first step. The last bits of a score depend on its batch,
  so scoring them on demand would make the scores depend on where a run was interrupted.
  """
  scores = np.zeros(len(rows), np.float32)
  with_original = [row for row in used if rows[row]['original']]
  if ppo.subtract_original and with_original:
    _, originals = prompt_and_original(rows, ppo.score_text)
    given = reward([originals[row] for row in with_original])
    # Rounded to float32, a large constant in a reward of float64 would not cancel.
    scores = scores.astype(np.result_type(scores, given))
    scores[with_original] = given
  return scores


def start_sampling(
  sample: Callable[[Any, structs.PromptBatch], structs.Responses],
  inputs: tuple[Any, ...],
  prompts: Prompts,
  eos_token_id: int,
  config: config_lib.Config,
  step: int,
) -> Pending:
  """Starts sampling completions of one step's prompts on the devices, without waiting for them.

  Args:
    sample: a function mapped over the devices, (inputs, PromptBatch) -> Responses.
    inputs: (trained, frozen params, allowed, key).
    prompts: the prompts of all rows.
    eos_token_id: the token that pads the prompts.
    config: its `ppo.rollouts_per_step` and `seed` are used.
    step: the step number; it selects the prompts and, with the key, determines the samples.
  """
  size = config.ppo.rollouts_per_step
  rows = rows_of_step(len(prompts.ids), config, step)
  batch = batches.prompt_batch(
    [prompts.ids[row] for row in rows], step * size + np.arange(size), eos_token_id
  )
  return Pending(rows, batch, sample(inputs, parallel.shard(batch)))


def score(
  pending: Pending, prompts: Prompts, policy: pretrained.Pretrained, reward: rewards.Reward
) -> Sampled:
  """Waits for the responses, and scores them."""
  responses = parallel.gather(pending.responses)
  completions = [
    text.decode(
      policy.tokenizer, ids[:length], policy.config.eos_token_ids, begins=not prompts.texts[row]
    )
    for row, ids, length in zip(pending.rows, responses.ids, responses.length, strict=True)
  ]
  prefixes = [prompts.prefixes[row] for row in pending.rows]
  scored = [prefix + completion for prefix, completion in zip(prefixes, completions, strict=True)]
  return Sampled(
    rows=pending.rows,
    prompts=[prompts.texts[row] for row in pending.rows],
    batch=pending.batch,
    responses=responses,
    completions=completions,
    scored=scored,
    scores=reward(scored) - prompts.original_scores[pending.rows],
  )


def experience_of(
  batch: structs.PromptBatch, responses: structs.Responses, scores: np.ndarray
) -> structs.Experience:
  """Joins prompts and responses into sequences [B, S] with their scores [B]."""
  response_mask = np.arange(responses.ids.shape[1]) < responses.length[:, None]
  return structs.Experience(
    ids=np.concatenate([batch.ids, responses.ids], axis=1),
    valid=np.concatenate([batch.valid, response_mask], axis=1),
    response_mask=response_mask,
    score=scores,
  )
