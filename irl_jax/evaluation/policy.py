"""What a policy does on held-out prompts: toxicity, KL, perplexity under the base, length, variety.

Dims: B prompts of a batch, P prompt, T response, S = P + T, N prompts.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import rewards
from irl_jax import sampling
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.evaluation import metrics as figures
from irl_jax.evaluation import toxicity
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.runtime import parallel


def response_log_probs_of(
  inputs, batch, *, config: gpt_neox.GPTNeoXConfig, dtype, response_length: int, min_new_tokens: int
) -> jax.Array:
  """Log-probs [B, T] of the response tokens; batch is (ids [B, S], valid [B, S])."""
  params, allowed = inputs
  ids, valid = batch
  hidden = gpt_neox.hidden_states(params, ids, valid, config, dtype)
  log_probs, _ = distribution.response_log_probs(
    params, hidden, ids, response_length, min_new_tokens, allowed
  )
  return log_probs


def response_log_probs(
  model: pretrained.Pretrained,
  prompts: Sequence[Sequence[int]],
  responses: Sequence[Sequence[int]],
  limits: config_lib.Sampling,
  dtype=jnp.float32,
) -> np.ndarray:
  """Log-probability [N] of each response given its prompt, nats, summed over its tokens."""
  longest = max(map(len, responses))
  forward = parallel.map_forward(
    response_log_probs_of,
    config=model.config,
    dtype=dtype,
    response_length=longest,
    min_new_tokens=limits.min_new_tokens,
  )
  allowed = distribution.allowed_for(model.tokenizer, model.config, limits.temperature)
  inputs = parallel.replicate((model.params, allowed))
  devices = parallel.device_count()
  batch_size = -(-min(limits.batch_size, len(prompts)) // devices) * devices
  out = np.zeros(len(prompts), np.float32)
  for rows in batches.by_length(prompts, batch_size):
    length = batches.bucket(max(len(prompts[row]) for row in rows))
    prompt = batches.pad_left([prompts[row] for row in rows], length, model.config.eos_token_id)
    response = batches.pad_right(
      [responses[row] for row in rows], longest, model.config.eos_token_id
    )
    joined = tuple(np.concatenate(pair, axis=1) for pair in zip(prompt, response))
    log_probs = parallel.gather(forward(inputs, parallel.shard(joined)))
    out[rows] = np.sum(log_probs * response[1], axis=1)
  return out


@dataclasses.dataclass(frozen=True)
class Sampled:
  """One completion of every held-out prompt."""

  prompts: list[list[int]]
  responses: list[list[int]]  # with EOS
  completions: list[str]


def sample(
  policy: pretrained.Pretrained,
  rows: Sequence[dict[str, Any]],
  config: config_lib.Config,
  seed: int,
  dtype,
  limits: config_lib.Sampling | None = None,
  progress: Callable = iter,
) -> Sampled:
  """Samples a completion of every row's prompt."""
  prompts, _ = sampling.prompt_ids(
    policy.tokenizer, [row['prompt'] for row in rows], config.data.max_prompt_tokens
  )
  responses, _ = sampling.complete_ids(
    policy, prompts, limits or config.sampling, seed, dtype, progress
  )
  return Sampled(
    prompts, responses, [text.decode(policy.tokenizer, response) for response in responses]
  )


def evaluate(
  policy: pretrained.Pretrained,
  reference: pretrained.Pretrained,
  base: pretrained.Pretrained,
  rows: Sequence[dict[str, Any]],
  true_reward: rewards.Reward,
  config: config_lib.Config,
  dtype=jnp.float32,
  progress: Callable = iter,
) -> tuple[dict[str, Any], np.ndarray]:
  """The figures P of summary.json, over all held-out prompts, one completion each.

  Args:
    policy: what is measured.
    reference: the policy that PPO started from: KL is measured against it.
    base: the base model: perplexity is measured under it.
    rows: held-out rows.
    true_reward: r*; toxic where < 0.
    config: `sampling` and `seed`: the same seed before and after.
    dtype: of computation.
    progress: wraps the iterable of batches.

  Returns:
    The figures, and which completions are toxic [N].
  """
  seed = config.seed + 1  # apart from the rollouts'
  drawn = sample(policy, rows, config, seed, dtype, progress=progress)
  scores = true_reward(drawn.completions)
  prompts = [row['prompt'] for row in rows]
  harmless = np.flatnonzero(true_reward(prompts) >= 0)
  full = true_reward([prompts[row] + drawn.completions[row] for row in harmless])
  lengths = np.array([len(response) for response in drawn.responses])
  untruncated = drawn
  if config.sampling.top_k or config.sampling.top_p < 1:
    limits = dataclasses.replace(config.sampling, top_k=0, top_p=1.0)
    untruncated = sample(policy, rows, config, seed, dtype, limits, progress)
  log_probs = lambda model, sampled: response_log_probs(
    model, sampled.prompts, sampled.responses, config.sampling, dtype
  )
  # A model against itself is 0 by definition, and not by two forward passes.
  kl = (
    np.zeros(len(rows))
    if policy is reference
    else log_probs(policy, untruncated) - log_probs(reference, untruncated)
  )
  under_base = log_probs(base, drawn)
  measured = figures.collect(
    {
      'toxicity': toxicity.toxicity(scores),
      'toxicity_full': toxicity.toxicity(full),
      'true_reward': float(np.mean(scores)),
      'kl': float(np.mean(kl)),
      'kl_per_token': float(np.sum(kl) / sum(map(len, untruncated.responses))),
      'perplexity_under_base': float(np.exp(-np.sum(under_base, dtype=np.float64) / lengths.sum())),
      'response_tokens': float(lengths.mean()),
      'distinct_2': toxicity.distinct_2(drawn.completions) or toxicity.NO_BIGRAM,
    }
  )
  return measured, scores < 0
