"""What PPO samples and scores on the host: prompts, completions, rewards; and what of them goes back to the devices.

Dims: B responses of a rollout, P prompt, T response, S = P + T, N rows.
"""

import dataclasses
from typing import Any, Callable, Sequence

import jax
import numpy as np

from irl_jax import batches
from irl_jax import config as config_lib
from irl_jax import parallel
from irl_jax import rewards
from irl_jax import sampling
from irl_jax import structs
from irl_jax import text
from irl_jax.models import pretrained


@dataclasses.dataclass(frozen=True)
class Prompts:
  """The rows, as every rollout reads them."""

  texts: list[str]               # [N]
  ids: list[list[int]]           # [N] token ids, cut on the left
  prefixes: list[str]            # [N] what stands before a completion when it is scored
  original_scores: np.ndarray    # [N] float32, subtracted from the score of a completion


@dataclasses.dataclass(frozen=True)
class Sampled:
  """Prompts of one rollout, what the policy said, and its reward."""

  prompts: list[str]             # [B]
  batch: structs.PromptBatch     # [B, P]
  responses: structs.Responses   # [B, T]
  completions: list[str]         # [B]
  scored: list[str]              # [B] what the reward read
  scores: np.ndarray             # [B] as the reward gives them, less the originals'

  def table(self, count: int) -> list[dict[str, Any]]:
    """The first `count` as `{"prompt", "completion", "score"}` rows."""
    return [{'prompt': prompt, 'completion': completion, 'score': float(score)}
            for prompt, completion, score in list(zip(self.prompts, self.completions, self.scores))[:count]]


def read_prompts(rows: Sequence[dict[str, Any]], tokenizer, reward: rewards.Reward, config: config_lib.Config
                 ) -> Prompts:
  """Encodes every row's prompt and scores its original text."""
  texts = [row['prompt'] for row in rows]
  ids, _ = sampling.prompt_ids(tokenizer, texts, config.data.max_prompt_tokens)
  prefixes, _ = prompt_and_original(rows, config.ppo.score_text)
  return Prompts(texts, ids, prefixes, original_scores(rows, reward, config.ppo))


def prompt_and_original(rows: Sequence[dict[str, Any]], score_text: str) -> tuple[list[str], list[str]]:
  """What stands before a completion when it is scored, and the original text that it is held against, for every row."""
  if score_text == 'completion':
    return [''] * len(rows), [row['original'] for row in rows]
  return [row['prompt'] for row in rows], [row['prompt'] + row['original'] for row in rows]


def original_scores(rows, reward: rewards.Reward, ppo: config_lib.PPO) -> np.ndarray:
  """The reward of every row's original text [N], 0 where there is none.

  All are scored at once, before the first step: a score depends (in its last bits) on the batch that it is computed
  in, and so must not depend on what was scored before an interruption.
  """
  scores = np.zeros(len(rows), np.float32)
  has_original = [number for number, row in enumerate(rows) if row['original']]
  if ppo.subtract_original and has_original:
    _, originals = prompt_and_original(rows, ppo.score_text)
    scores[has_original] = reward([originals[number] for number in has_original])
  return scores


def sample_and_score(sample: Callable, parts: tuple, prompts: Prompts, model: pretrained.Pretrained,
                     reward: rewards.Reward, config: config_lib.Config, step: int) -> Sampled:
  """Completes the prompts of one step and scores the completions.

  Args:
    sample: over the devices, ((trained, frozen params, allowed, key), PromptBatch) -> Responses.
    parts: its (trained, frozen params, allowed).
    prompts: of all rows.
    model: whose tokenizer and EOS are used.
    reward: texts -> scores.
    config: `ppo.rollouts_per_step` and `seed` are read.
    step: decides which prompts are taken and, with the seed, what is sampled.
  """
  size, seed = config.ppo.rollouts_per_step, config.seed
  picked = batches.shuffled_indices(len(prompts.ids), size, step, seed)
  batch = batches.prompt_batch([prompts.ids[row] for row in picked], step * size + np.arange(size),
                               model.config.eos_token_id)
  responses = parallel.gather(sample((*parts, jax.random.key(seed)), parallel.shard(batch)))
  completions = [text.decode(model.tokenizer, ids[:length]) for ids, length in zip(responses.ids, responses.length)]
  scored = [prompts.prefixes[row] + completion for row, completion in zip(picked, completions)]
  return Sampled([prompts.texts[row] for row in picked], batch, responses, completions, scored,
                 reward(scored) - prompts.original_scores[picked])


def experience_of(batch: structs.PromptBatch, responses: structs.Responses, scores: np.ndarray) -> structs.Experience:
  """Prompts and responses, side by side."""
  response_mask = np.arange(responses.ids.shape[1]) < responses.length[:, None]
  return structs.Experience(
      ids=np.concatenate([batch.ids, responses.ids], axis=1),
      valid=np.concatenate([batch.valid, response_mask], axis=1), response_mask=response_mask, score=scores)
