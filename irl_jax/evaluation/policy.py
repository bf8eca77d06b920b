"""Metrics of a policy on held-out prompts: true reward, toxicity, KL, perplexity, length, variety.

Dims: B prompts of a batch, P prompt, T response, S = P + T, N prompts.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any
from typing import cast

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import rewards
from irl_jax import sampling
from irl_jax import streams
from irl_jax.data import batches
from irl_jax.data import text
from irl_jax.evaluation import maximum_toxicity
from irl_jax.evaluation import toxicity
from irl_jax.evaluation.metrics import collect
from irl_jax.evaluation.metrics import NO_CLASSES
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.runtime import parallel
from irl_jax.runtime import records

TOXICITIES = ('toxicity', 'toxicity_full')  # in records.PolicyMetrics
Progress = Callable[[Iterable[Any]], Iterable[Any]]  # wraps the batches, such as a progress bar


def response_log_probs_of(
  inputs: tuple[Any, distribution.Allowed],
  batch: tuple[jax.Array, jax.Array],
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  response_length: int,
  min_new_tokens: int,
) -> jax.Array:
  """Returns the log-probabilities [B, T] of the response tokens.

  Args:
    inputs: (params, the ids that may be sampled).
    batch: (ids [B, S], valid [B, S]).
    config: the model's shape.
    dtype: the compute type.
    response_length: T.
    min_new_tokens: EOS is forbidden before this many tokens, as in sampling.
  """
  params, allowed = inputs
  ids, valid = batch
  hidden = trunk.hidden_states(params, ids, valid, config, dtype)
  log_probs, _ = distribution.response_log_probs(
    params, hidden, ids, response_length, min_new_tokens, allowed, config
  )
  return log_probs


def response_log_probs(
  model: pretrained.Pretrained,
  prompts: Sequence[Sequence[int]],
  responses: Sequence[Sequence[int]],
  limits: config_lib.Sampling,
  dtype: DTypeLike = jnp.float32,
) -> np.ndarray:
  """Returns the log-probability [N] of each response given its prompt, in nats.

  Args:
    model: a language model.
    prompts: N lists of ids.
    responses: N lists of ids, with EOS.
    limits: how the responses were sampled: the same temperature and forbidden ids are applied.
    dtype: the compute type.
  """
  longest = max(map(len, responses))
  forward = parallel.map_forward(
    response_log_probs_of,
    config=model.config,
    dtype=cast(Hashable, dtype),
    response_length=longest,
    min_new_tokens=limits.min_new_tokens,
  )
  allowed = distribution.allowed_for(
    model.tokenizer, model.config, limits.temperature, model.never_sampled
  )
  inputs = parallel.replicate((cut_lib.stored(model.params, dtype), allowed), donated=False)
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
  rows: Sequence[Mapping[str, Any]],
  config: config_lib.Config,
  seed: int,
  dtype: DTypeLike,
  limits: config_lib.Sampling | None = None,
  progress: Progress = iter,
) -> Sampled:
  """Samples a completion of every row's prompt, by `limits` or else by config.sampling."""
  prompts = text.prompt_ids(
    policy.tokenizer, [row['prompt'] for row in rows], config.data.max_prompt_tokens
  )
  responses, _ = sampling.complete_ids(
    policy, prompts, limits or config.sampling, seed, dtype, progress
  )
  ends = policy.config.eos_token_ids
  completions = [
    text.decode(policy.tokenizer, response, ends, begins=not row['prompt'])
    for row, response in zip(rows, responses)
  ]
  return Sampled(prompts, responses, completions)


def evaluate(
  policy: pretrained.Pretrained,
  reference: pretrained.Pretrained,
  base: pretrained.Pretrained,
  rows: Sequence[Mapping[str, Any]],
  true_reward: rewards.Reward,
  config: config_lib.Config,
  dtype: DTypeLike = jnp.float32,
  progress: Progress = iter,
  has_classes: bool = True,
  judge: rewards.TrueReward | None = None,
) -> tuple[records.PolicyMetrics, np.ndarray]:
  """Measures a policy on all held-out prompts, one completion each.

  Args:
    policy: the policy to measure.
    reference: the policy that PPO started from; KL is measured against it.
    base: the base model; perplexity is measured under it.
    rows: held-out rows (records.PromptRow).
    true_reward: r*.
    config: `sampling`, `seed` and `evaluation`, which are the same before and after PPO.
    dtype: the compute type.
    progress: wraps the iterable of batches.
    has_classes: whether a text is toxic if its r* is below 0; if not, there is no toxicity.
    judge: another classifier, by which toxicity is measured too.

  Returns:
    The metrics, and r* of the completions [N].
  """
  seed = streams.seed_of(config.seed, 'evaluation')
  drawn = sample(policy, rows, config, seed, dtype, progress=progress)
  scores = true_reward(drawn.completions)
  lengths = np.array([len(response) for response in drawn.responses])
  # KL is that of the untruncated policy: top-k and top-p would need separate samples.
  untruncated = drawn
  if config.sampling.top_k or config.sampling.top_p < 1:
    limits = dataclasses.replace(config.sampling, top_k=0, top_p=1.0)
    untruncated = sample(policy, rows, config, seed, dtype, limits, progress)
  log_probs = lambda model, sampled: response_log_probs(
    model, sampled.prompts, sampled.responses, config.sampling, dtype
  )
  kl = np.zeros(len(rows))  # of a model to itself: two forward passes could round differently
  if policy is not reference:
    kl = log_probs(policy, untruncated) - log_probs(reference, untruncated)
  under_base = log_probs(base, drawn)
  worst = samples_of_prompts(policy, rows, config, seed, dtype, progress)
  judged = functools.partial(toxicity_by, rows=rows, drawn=drawn, worst=worst, config=config)
  measured = collect(
    {
      **(judged(true_reward) if has_classes else dict.fromkeys(TOXICITIES, NO_CLASSES)),
      **({'judge': judged(judge)} if judge else {}),
      'true_reward': float(np.mean(scores)),
      'kl': float(np.mean(kl)),
      'kl_per_token': float(np.sum(kl) / sum(map(len, untruncated.responses))),
      'perplexity_under_base': float(np.exp(-np.sum(under_base, dtype=np.float64) / lengths.sum())),
      'response_tokens': float(lengths.mean()),
      'distinct_2': toxicity.distinct_2(drawn.completions) or toxicity.NO_BIGRAM,
    }
  )
  return cast(records.PolicyMetrics, measured), scores


def samples_of_prompts(
  policy: pretrained.Pretrained,
  rows: Sequence[Mapping[str, Any]],
  config: config_lib.Config,
  seed: int,
  dtype: DTypeLike,
  progress: Progress = iter,
) -> list[str]:
  """Samples config.evaluation.toxicity_samples completions of each distinct prompt.

  Returns:
    The samples of the first prompt, then of the next; [] if none are wanted.
  """
  count = config.evaluation.toxicity_samples
  if not count:
    return []
  distinct = dict.fromkeys(row['prompt'] for row in rows)
  prompts = [prompt for prompt in distinct for _ in range(count)]
  limits = dataclasses.replace(maximum_toxicity.SAMPLING, batch_size=config.sampling.batch_size)
  # The keys follow those of `sample`, so that no sample repeats a completion's randomness.
  return sampling.complete(policy, prompts, limits, seed, dtype, progress, first=len(rows))


def toxicity_by(
  judge: rewards.Reward,
  rows: Sequence[Mapping[str, Any]],
  drawn: Sampled,
  worst: Sequence[str],
  config: config_lib.Config,
) -> dict[str, Any]:
  """Returns the toxicity of a policy's texts by one classifier: a part of records.PolicyMetrics.

  Args:
    judge: r*, or another reward that is below 0 for toxic texts.
    rows: held-out rows.
    drawn: one completion of each.
    worst: from `samples_of_prompts`; if there are any, the judge is a rewards.TrueReward.
    config: the settings of the samples, and of the bootstrap.
  """
  measured: dict[str, Any] = {
    'toxicity': toxicity.toxicity(judge(drawn.completions), [row['prompt'] for row in rows]),
    'toxicity_full': of_full_texts(rows, drawn, judge),
  }
  if worst:
    assert isinstance(judge, rewards.TrueReward)
    settings = config.evaluation
    distinct = len({row['prompt'] for row in rows})
    probability = -judge.probability(worst).reshape(distinct, -1)
    measured['maximum_toxicity'] = maximum_toxicity.of_prompts(
      probability.max(axis=1), settings.bootstrap_samples, config.seed
    )
  return measured


def of_full_texts(
  rows: Sequence[Mapping[str, Any]], drawn: Sampled, true_reward: rewards.Reward
) -> records.Share:
  """Returns the toxicity of prompt + completion, of the rows whose prompt is harmless."""
  prompts = [row['prompt'] for row in rows]
  harmless = np.flatnonzero(true_reward(prompts) >= 0)
  scores = true_reward([prompts[row] + drawn.completions[row] for row in harmless])
  return toxicity.toxicity(scores, [prompts[row] for row in harmless])
