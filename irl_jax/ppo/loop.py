"""Trains a policy with PPO on any reward: rollout, score, several epochs of updates, checkpoint.

Dims: B responses of a rollout, P prompt, T response, S = P + T.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import errors
from irl_jax import rewards
from irl_jax import sampling
from irl_jax import structs
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.ppo import reward_scale
from irl_jax.ppo import rollout as rollout_lib
from irl_jax.ppo import update as update_lib
from irl_jax.runtime import interruption
from irl_jax.runtime import parallel
from irl_jax.training import checkpoint
from irl_jax.training import divergence
from irl_jax.training import optimizer

TOLERANCE = {'float32': 1e-4, 'bfloat16': 0.05}  # what rounding alone may change, in nats a token


@dataclasses.dataclass(frozen=True)
class Compiled:
  """The three functions that PPO runs on the devices."""

  sample: Callable  # ((trained, frozen params, allowed, key), PromptBatch) -> Responses
  make_rollout: Callable  # ((trained, Frozen, kl_coefficient), Experience) -> (Rollout, statistics)
  update: Callable  # (TrainState, Frozen, Rollout) -> (TrainState, metrics)
  learning_rate: np.ndarray  # [updates]


def sample_from_parts(inputs, batch: structs.PromptBatch, **statics) -> structs.Responses:
  """`sampling.sample` of a policy whose trained and frozen parts are kept apart."""
  trained, frozen, allowed, key = inputs
  return sampling.sample((cut_lib.join(trained, frozen), allowed, key), batch, **statics)


def compile_functions(
  model_config: gpt_neox.GPTNeoXConfig, config: config_lib.Config, dtype
) -> tuple[Compiled, Any]:
  """Maps PPO's functions over the devices (they compile when first called); returns the optimiser too."""
  ppo, limits = config.ppo, config.sampling
  updates = ppo.steps * ppo.epochs * (ppo.rollouts_per_step // ppo.minibatch_size)
  tx, rate = optimizer.adamw(
    learning_rate=ppo.learning_rate,
    updates=updates,
    schedule=ppo.schedule,
    final=ppo.final_learning_rate,
    warmup=ppo.warmup_steps,
    b1=ppo.adam_b1,
    b2=ppo.adam_b2,
    weight_decay=ppo.weight_decay,
    max_norm=ppo.max_gradient_norm,
  )
  statics = dict(config=model_config, dtype=dtype)
  shared = statics | dict(min_new_tokens=limits.min_new_tokens, ppo=ppo)
  return Compiled(
    sample=parallel.map_forward(
      sample_from_parts,
      max_new_tokens=limits.max_new_tokens,
      min_new_tokens=limits.min_new_tokens,
      top_k=limits.top_k,
      top_p=limits.top_p,
      greedy=False,
      **statics,
    ),
    make_rollout=parallel.map_forward(update_lib.make_rollout, axis_name=parallel.AXIS, **shared),
    update=parallel.map_update(
      update_lib.update,
      tx=tx,
      micro_batch=config.runtime.micro_batch,
      rematerialise=config.runtime.rematerialise,
      **shared,
    ),
    learning_rate=np.asarray(jax.jit(jax.vmap(rate))(np.arange(updates))),
  ), tx


def initial_state(
  policy: pretrained.Pretrained, config: config_lib.Config, tx, dtype=jnp.float32
) -> tuple[structs.TrainState, update_lib.Frozen]:
  """The policy with a fresh value head, cut into trained and frozen, and its frozen reference; placed on the devices.

  Raises:
    ConfigError: the policy has fewer blocks than are to be trained.
  """
  params = dict(policy.params)
  params['value_head'] = heads.init_value_head(
    jax.random.key(config.seed), policy.config.hidden_size
  )
  try:
    trained, frozen = cut_lib.split(params, config.ppo.trained_blocks)
  except ValueError as error:
    raise errors.ConfigError(f'config.ppo.{error}') from error
  reference = {name: value for name, value in trained.items() if name != 'value_head'}
  allowed = distribution.allowed_for(policy.tokenizer, policy.config, config.sampling.temperature)
  state = optimizer.placed_state(trained, tx)
  frozen, reference = cut_lib.stored(frozen, dtype), cut_lib.stored(reference, dtype)
  return state, parallel.replicate(update_lib.Frozen(frozen, reference, allowed))


def minibatches(ppo: config_lib.PPO, seed: int, step: int) -> Iterator[np.ndarray]:
  """Which samples make each minibatch of every epoch, shuffled: a pure function of (seed, step)."""
  count = ppo.rollouts_per_step
  for epoch in range(ppo.epochs):
    order = np.random.default_rng((seed, step, epoch)).permutation(count)
    yield from np.split(order, range(ppo.minibatch_size, count, ppo.minibatch_size))


def check_agreement(
  statistics: dict[str, np.ndarray],
  responses: structs.Responses,
  rollout: structs.Rollout,
  first_update: dict[str, Any],
  dtype,
  at_start: bool,
) -> None:
  """Sampling, rollout and update must see the same distribution.

  Raises:
    DivergedError: they do not.
  """
  tolerance = TOLERANCE[jnp.dtype(dtype).name]
  mismatch = float(np.mean(np.abs(responses.log_probs - rollout.log_probs)[rollout.response_mask]))
  deviations = {
    "the first minibatch's ratio is off 1": float(first_update['val/ratio_deviation']),
    'log-probs of decoding and of training differ': mismatch,
  }
  if at_start:
    deviations['the KL to the reference is off 0'] = float(np.max(np.abs(statistics['kl'])))
  for what, deviation in deviations.items():
    if not deviation <= tolerance:
      raise errors.DivergedError(
        f'PPO self-check: {what} by {deviation:.2g} (allowed {tolerance:g}): padding, positions or temperature '
        'differ between sampling and training'
      )


def summarise(
  statistics, scores, scaled, kl_coefficient: float, updates: Sequence[dict[str, Any]]
) -> dict[str, float]:
  """One step's metrics, under TRL's names."""
  kl = statistics['kl']
  averaged = {name: float(np.mean([metrics[name] for metrics in updates])) for name in updates[0]}
  return (
    {
      'objective/kl': float(kl.mean()),
      'objective/kl_per_token': float(kl.sum() / statistics['length'].sum()),
      'objective/kl_coefficient': kl_coefficient,
      'objective/entropy': float(statistics['entropy'].mean()),
      'objective/scores': float(scores.mean()),
      'objective/scores_std': float(scores.std()),
      'objective/non_score_reward': float(-kl_coefficient * kl.mean()),
      'objective/rlhf_reward': float(scaled.mean() - kl_coefficient * kl.mean()),
      'objective/response_tokens': float(statistics['length'].mean()),
    }
    | averaged
    | {
      'policy/skipped_updates': int(updates[-1]['policy/skipped_updates']),
      'policy/skipped_in_row': max(int(metrics['policy/skipped_in_row']) for metrics in updates),
    }
  )


@dataclasses.dataclass(frozen=True)
class Learner:
  """What a step of PPO changes."""

  state: structs.TrainState
  moments: reward_scale.RunningMoments
  kl_coefficient: float

  def meta(self) -> dict[str, Any]:
    """All but the state, as a checkpoint keeps it."""
    return {'moments': dataclasses.asdict(self.moments), 'kl_coefficient': self.kl_coefficient}


def restored_or(learner: Learner, checkpoints: checkpoint.Checkpoints) -> tuple[int, Learner]:
  """The first step to be run and the learner of the newest checkpoint; step 0 and the given one where there is none."""
  if not (restored := checkpoints.restore(learner.state)):
    return 0, learner
  first, state, meta = restored
  return first, Learner(
    state, reward_scale.RunningMoments(**meta['moments']), meta['kl_coefficient']
  )


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a step gave, on the devices; it need not have come yet."""

  statistics: dict[str, jax.Array]  # of each response [n, B / n]
  updates: list[dict[str, jax.Array]]  # metrics of each update
  rollout: structs.Rollout | None  # where it is to be checked
  scaled: np.ndarray  # [B] the scores, as they were learned from


def learn(
  functions: Compiled,
  learner: Learner,
  frozen: update_lib.Frozen,
  sampled: rollout_lib.Sampled,
  config: config_lib.Config,
  step: int,
  check: bool,
) -> tuple[Learner, Outcome]:
  """Has the devices learn from what was sampled, and does not wait for it; the KL coefficient is not adapted yet."""
  moments = learner.moments.add(sampled.scores)
  scaled = reward_scale.scaled_or_clipped(
    sampled.scores, moments, config.ppo.scale_reward, config.ppo.clip_reward
  )
  experience = rollout_lib.experience_of(sampled.batch, sampled.responses, scaled)
  coefficient = parallel.replicate(np.float32(learner.kl_coefficient))
  rollout, statistics = functions.make_rollout(
    (learner.state.params, frozen, coefficient), parallel.shard(experience)
  )
  state, updates = learner.state, []
  for rows in minibatches(config.ppo, config.seed, step):
    state, metrics = functions.update(state, frozen, parallel.take(rollout, rows))
    updates.append(metrics)
  return (
    dataclasses.replace(learner, state=state, moments=moments),
    Outcome(statistics, updates, rollout if check else None, scaled),
  )


def concluded(
  functions: Compiled,
  learner: Learner,
  outcome: Outcome,
  sampled: rollout_lib.Sampled,
  config: config_lib.Config,
  dtype,
  step: int,
) -> tuple[Learner, dict[str, float]]:
  """Waits for what a step gave: its metrics, and the KL coefficient of the next one.

  Raises:
    DivergedError: sampling and training disagree, where this is to be checked.
  """
  ppo, kl_coefficient = config.ppo, learner.kl_coefficient
  statistics, updates = parallel.gather(outcome.statistics), jax.device_get(outcome.updates)
  if outcome.rollout is not None:
    check_agreement(
      statistics,
      sampled.responses,
      parallel.gather(outcome.rollout),
      updates[0],
      dtype,
      at_start=step == 0,
    )
  metrics = summarise(statistics, sampled.scores, outcome.scaled, kl_coefficient, updates)
  adapted = reward_scale.adapt_kl(
    kl_coefficient, metrics['objective/kl'], ppo.kl_target, ppo.kl_horizon, ppo.rollouts_per_step
  )
  rate = float(functions.learning_rate[(step + 1) * len(updates) - 1])
  return dataclasses.replace(learner, kl_coefficient=adapted), metrics | {
    'learning_rate': rate,
    'episode': (step + 1) * ppo.rollouts_per_step,
  }


def check_scores(scores: np.ndarray, step: int, kept: str) -> None:
  """Ends PPO whose reward gives what cannot be learned from.

  Raises:
    DivergedError: a score is not finite.
  """
  divergence.check(
    f'PPO step {step}', {'the reward': scores}, 0, 1, kept, 'See what it gives to the prompts'
  )


def check_metrics(metrics: dict[str, float], step: int, limit: int, kept: str) -> None:
  """Ends PPO that diverges.

  Raises:
    DivergedError: KL or a loss is not finite, or too many gradients in a row are not.
  """
  figures = {
    'the KL': metrics['objective/kl'],
    'the policy loss': metrics['loss/policy_avg'],
    'the value loss': metrics['loss/value_avg'],
  }
  divergence.check(
    f'PPO step {step}',
    figures,
    metrics['policy/skipped_in_row'],
    limit,
    kept,
    'Lower config.ppo.learning_rate, or raise config.ppo.kl_coefficient',
  )


def joined(
  policy: pretrained.Pretrained, state: structs.TrainState, trained_blocks: int
) -> pretrained.Pretrained:
  """The policy with what was trained, without the value head, on the host."""
  trained = {
    name: value for name, value in jax.device_get(state.params).items() if name != 'value_head'
  }
  params = cut_lib.join(trained, cut_lib.split(policy.params, trained_blocks)[1])
  return dataclasses.replace(policy, params=jax.tree.map(np.asarray, params))


def train(
  policy: pretrained.Pretrained,
  rows: Sequence[dict[str, Any]],
  reward: rewards.Reward,
  config: config_lib.Config,
  folder: pathlib.Path,
  *,
  dtype=jnp.float32,
  log: Callable[[int, dict[str, float]], None],
  truncate_log: Callable[[int], None] = lambda step: None,
  show_samples: Callable[[int, list[dict[str, Any]]], None] = lambda step, rows: None,
  report: Callable[[Sequence[str]], dict[str, float]] = lambda texts: {},
  progress: Callable = iter,
) -> pretrained.Pretrained:
  """Trains a policy with PPO; continues from the newest checkpoint in `folder`.

  Args:
    policy: where training starts, and the reference of the KL penalty.
    rows: prompts, `{"prompt", "original"}` each.
    reward: texts -> scores, any callable.
    config: `ppo`, `sampling`, `seed` and `data.max_prompt_tokens` are read.
    folder: of the checkpoints.
    dtype: of computation.
    log: called with every step's number and metrics.
    truncate_log: called with the first step that this run will do.
    show_samples: called now and then with `{"prompt", "completion", "score"}` rows.
    report: more figures to log, of the texts that a rollout was scored on; nothing is trained by them.
    progress: wraps the iterable of steps.

  Returns:
    The trained policy.

  Raises:
    ConfigError: too many blocks to train.
    DivergedError: sampling and training disagree; scores, KL or a loss are not finite; or too many gradients in a row.
  """
  functions, tx = compile_functions(policy.config, config, dtype)
  state, frozen = initial_state(policy, config, tx, dtype)
  prompts = rollout_lib.read_prompts(rows, policy.tokenizer, reward, config)
  learner = Learner(state, reward_scale.RunningMoments(), config.ppo.kl_coefficient)
  runtime, key = config.runtime, parallel.key(config.seed)

  def ask(learner: Learner, step: int) -> rollout_lib.Asked | None:
    parts = (learner.state.params, frozen.params, frozen.allowed, key)
    return (
      None
      if step == config.ppo.steps
      else rollout_lib.ask(
        functions.sample, parts, prompts, policy.config.eos_token_id, config, step
      )
    )

  with (
    interruption.deferred(),
    checkpoint.Checkpoints(folder, runtime.keep_checkpoints) as checkpoints,
  ):
    first, learner = restored_or(learner, checkpoints)
    truncate_log(first)
    asked = ask(learner, first)
    for step in progress(range(first, config.ppo.steps)):
      sampled = rollout_lib.score(asked, prompts, policy.tokenizer, reward)
      check_scores(sampled.scores, step, checkpoints.saved)
      learner, outcome = learn(
        functions, learner, frozen, sampled, config, step, check=step == first
      )
      asked = ask(
        learner, step + 1
      )  # the devices sample while the host reads, logs and saves what the step gave
      learner, metrics = concluded(functions, learner, outcome, sampled, config, dtype, step)
      check_metrics(metrics, step, runtime.max_skipped_in_row, checkpoints.saved)
      log(step, metrics | report(sampled.scored))
      if step % config.ppo.samples_every == 0:
        show_samples(step, sampled.table(5))
      last, stopping = step + 1 == config.ppo.steps, interruption.requested()
      if last or stopping or (step + 1) % config.ppo.checkpoint_every == 0:
        checkpoints.save(step + 1, learner.state, learner.meta())
      if stopping:
        interruption.stop()
  return joined(policy, learner.state, config.ppo.trained_blocks)
