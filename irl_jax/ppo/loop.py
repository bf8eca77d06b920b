"""Trains a policy with PPO on any reward: sample, score, update for several epochs, checkpoint.

Dims: B responses of a rollout, T response, n devices.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import config as config_lib
from irl_jax import rewards
from irl_jax import streams
from irl_jax import structs
from irl_jax.data import user_rewards
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.ppo import checks
from irl_jax.ppo import functions as functions_lib
from irl_jax.ppo import metrics as metrics_lib
from irl_jax.ppo import probe as probe_lib
from irl_jax.ppo import reward_scale
from irl_jax.ppo import rollout as rollout_lib
from irl_jax.ppo import update as update_lib
from irl_jax.runtime import interruption
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding
from irl_jax.training import arguments
from irl_jax.training import checkpoint
from irl_jax.training import fingerprint

SAMPLES_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Setup:
  """Everything that stays the same over the steps of a training run."""

  policy: pretrained.Pretrained  # the policy to start from
  config: config_lib.Config
  functions: functions_lib.Compiled
  frozen: update_lib.Frozen
  prompts: rollout_lib.Prompts
  reward: rewards.Reward
  key: jax.Array


@dataclasses.dataclass(frozen=True)
class Learner:
  """The state that PPO updates at each step."""

  state: structs.TrainState
  moments: reward_scale.RunningMoments
  kl_coefficient: float
  probe: probe_lib.Probe | None = None  # probe of the reward, made from the first rollout

  def meta(self) -> dict[str, Any]:
    """Returns everything but the state, in the form that a checkpoint stores."""
    return {
      'moments': dataclasses.asdict(self.moments),
      'kl_coefficient': self.kl_coefficient,
      'probe': self.probe,
    }


def restored_or(learner: Learner, checkpoints: checkpoint.Checkpoints) -> tuple[int, Learner]:
  """Returns the next step and the learner of the newest checkpoint, else (0, learner)."""
  restored = checkpoints.restore(learner.state)
  if restored is None:
    return 0, learner
  first, state, meta = restored
  moments = reward_scale.RunningMoments(**meta['moments'])
  return first, Learner(state, moments, meta['kl_coefficient'], meta.get('probe'))


def minibatches(ppo: config_lib.PPO, seed: int, step: int) -> Iterator[np.ndarray]:
  """Yields the rows of each minibatch of every epoch, shuffled: a pure function of (seed, step)."""
  count = ppo.rollouts_per_step
  for epoch in range(ppo.epochs):
    order = np.random.default_rng((seed, step, epoch)).permutation(count)
    yield from np.split(order, range(ppo.minibatch_size, count, ppo.minibatch_size))


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The results of one step; the devices may still be computing them."""

  statistics: dict[str, jax.Array]  # statistics of each response [n, B / n]
  updates: list[dict[str, jax.Array]]  # metrics of each update
  rollout: structs.Rollout | None  # only if the self-check needs it
  learned_scores: np.ndarray  # [B] scaled and clipped: what PPO learned from
  clipped_share: float  # the share of the scores that were clipped


def start_sampling(setup: Setup, learner: Learner, step: int) -> rollout_lib.Pending:
  """Starts sampling the rollout of a step on the devices, without waiting for it."""
  inputs = (learner.state.params, setup.frozen.params, setup.frozen.allowed, setup.key)
  eos = setup.policy.config.eos_token_id
  return rollout_lib.start_sampling(
    setup.functions.sample, inputs, setup.prompts, eos, setup.config, step
  )


def learn(
  setup: Setup, learner: Learner, sampled: rollout_lib.Sampled, step: int, check: bool
) -> tuple[Learner, Outcome]:
  """Starts all updates of one step on the devices, without waiting for them.

  The KL coefficient is adapted later, in `conclude`, because that needs the measured KL.
  """
  functions, config = setup.functions, setup.config
  moments = learner.moments.add(sampled.scores)
  learned_scores, clipped_share = reward_scale.clip(
    reward_scale.scale(sampled.scores, moments, config.ppo.scale_reward), config.ppo.clip_reward
  )
  experience = rollout_lib.experience_of(sampled.batch, sampled.responses, learned_scores)
  coefficient = parallel.replicate(np.float32(learner.kl_coefficient))
  rollout, statistics = functions.make_rollout(
    (learner.state.params, setup.frozen, coefficient), parallel.shard(experience)
  )
  state, updates = learner.state, []
  for rows in minibatches(config.ppo, config.seed, step):
    state, metrics = functions.update(state, setup.frozen, parallel.take(rollout, rows))
    updates.append(metrics)
  learner = dataclasses.replace(learner, state=state, moments=moments)
  return learner, Outcome(
    statistics, updates, rollout if check else None, learned_scores, clipped_share
  )


def conclude(
  setup: Setup, learner: Learner, outcome: Outcome, sampled: rollout_lib.Sampled, step: int
) -> tuple[Learner, dict[str, float]]:
  """Waits for the results of a step, and adapts the KL coefficient of the next one.

  Returns:
    The learner, and the step's metrics.

  Raises:
    DivergedError: the self-check failed.
  """
  functions, ppo = setup.functions, setup.config.ppo
  statistics, updates = parallel.gather(outcome.statistics), jax.device_get(outcome.updates)
  if outcome.rollout is not None:
    rollout = parallel.gather(outcome.rollout)
    size = lambda: parallel.gather(functions.logit_size(setup.frozen, outcome.rollout))
    checks.check_agreement(
      statistics,
      sampled.responses,
      rollout,
      updates[0],
      functions.dtype,
      at_start=step == 0,
      rounding_error=lambda: checks.rounding(size(), functions.config, functions.dtype),
    )
  metrics = metrics_lib.summarise(
    statistics,
    sampled.scores,
    outcome.learned_scores,
    outcome.clipped_share,
    learner.kl_coefficient,
    updates,
  )
  coefficient = reward_scale.adapt_kl(
    learner.kl_coefficient,
    metrics['objective/kl'],
    ppo.kl_target,
    ppo.kl_horizon,
    ppo.rollouts_per_step,
  )
  progress = {
    'learning_rate': float(functions.learning_rate[(step + 1) * len(updates) - 1]),
    'episode': (step + 1) * ppo.rollouts_per_step,
  }
  return dataclasses.replace(learner, kl_coefficient=coefficient), metrics | progress


def with_probe(setup: Setup, learner: Learner, sampled: rollout_lib.Sampled) -> Learner:
  """Returns the learner with a probe of the reward, made of the first texts that were scored."""
  if learner.probe is not None:
    return learner
  originals = setup.prompts.original_scores[sampled.rows]
  return dataclasses.replace(learner, probe=probe_lib.of(setup.reward, sampled, originals))


def prepare(
  policy: pretrained.Pretrained,
  rows: Sequence[Mapping[str, Any]],
  reward: rewards.Reward,
  config: config_lib.Config,
  dtype: DTypeLike,
) -> tuple[Setup, Learner]:
  """Returns what stays the same over the steps, and the state before the first one."""
  reward = user_rewards.checked(reward)
  functions, tx = functions_lib.compile_functions(policy.config, config, dtype)
  state, frozen = functions_lib.initial_state(policy, config, tx, dtype)
  prompts = rollout_lib.read_prompts(rows, policy.tokenizer, reward, config)
  arguments.check_positions(config, policy, max(map(len, prompts.ids)))
  learner = Learner(state, reward_scale.RunningMoments(), config.ppo.kl_coefficient)
  key = parallel.key(streams.seed_of(config.seed, 'rollouts'))
  return Setup(policy, config, functions, frozen, prompts, reward, key), learner


@dataclasses.dataclass(frozen=True)
class Step:
  """A step that is done."""

  number: int
  learner: Learner
  sampled: rollout_lib.Sampled
  metrics: dict[str, float]


def steps(
  setup: Setup, learner: Learner, numbers: Iterable[int], checkpoints: checkpoint.Checkpoints
) -> Iterator[Step]:
  """Runs the given steps, and yields each when its results arrive.

  Args:
    setup: what stays the same.
    learner: the state before the first step.
    numbers: of the steps, ascending; the last is `ppo.steps - 1`.
    checkpoints: an error names the newest one.

  Raises:
    InputError: the reward returns anything but one number per text.
    DivergedError: as `train`.
  """
  ppo, pending, warned, check = setup.config.ppo, None, False, True
  for step in numbers:
    sampled = rollout_lib.score(
      pending or start_sampling(setup, learner, step), setup.prompts, setup.policy, setup.reward
    )
    checks.check_scores(sampled.scores, step, checkpoints.saved)
    learner = with_probe(setup, learner, sampled)
    learner, outcome = learn(setup, learner, sampled, step, check)
    # The devices sample while the host reads, logs and saves the results of this step.
    pending = start_sampling(setup, learner, step + 1) if step + 1 < ppo.steps else None
    learner, metrics = conclude(setup, learner, outcome, sampled, step)
    checks.check_metrics(metrics, step, setup.config.runtime.max_skipped_in_row, checkpoints.saved)
    warned, check = warned or checks.warn_of_scores(metrics, step, ppo), False
    yield Step(step, learner, sampled, metrics)


def with_trained(
  policy: pretrained.Pretrained, state: structs.TrainState, trained_blocks: int
) -> pretrained.Pretrained:
  """Returns the policy with its trained parameters, on the host and without the value head."""
  trained = parallel.to_host(state.params)
  trained = {name: value for name, value in trained.items() if name != 'value_head'}
  frozen = parallel.to_host(cut_lib.split(policy.params, trained_blocks)[1])
  params = cut_lib.join(trained, frozen)
  return dataclasses.replace(policy, params=jax.tree.map(np.asarray, params))


def train(
  policy: pretrained.Pretrained,
  rows: Sequence[Mapping[str, Any]],
  reward: rewards.Reward,
  config: config_lib.Config,
  folder: str | pathlib.Path,
  *,
  dtype: DTypeLike = jnp.float32,
  log: Callable[[int, dict[str, float]], None],
  truncate_log: Callable[[int], None] = lambda step: None,
  show_samples: Callable[[int, list[dict[str, Any]]], None] = lambda step, rows: None,
  report: Callable[[Sequence[str]], dict[str, float]] = lambda texts: {},
  progress: Callable[[range], Iterable[int]] = iter,
) -> pretrained.Pretrained:
  """Trains a policy with PPO and returns it; continues from the newest checkpoint in `folder`.

  Args:
    policy: the policy to start from, which is also the reference of the KL penalty.
    rows: the prompts, each as `{"prompt", "original"}`.
    reward: any callable, texts [B] -> scores [B]: one finite number for each text.
    config: the fields `ppo`, `sampling`, `runtime`, `seed` and `data.max_prompt_tokens` are used.
    folder: where checkpoints are saved.
    dtype: the compute type.
    log: called after every step with its number and metrics.
    truncate_log: called once, with the number of the first step of this run.
    show_samples: called every `ppo.samples_every` steps with the rows of `Sampled.table`.
    report: computes more metrics to log, from the texts of a rollout; training does not use them.
    progress: wraps the iterable of steps.

  Raises:
    ConfigError: an argument is wrong; the policy or the devices do not support a setting; another
      training is using the folder, or has left its checkpoints there.
    InputError: a row lacks a field, or the reward returns anything but one number per text.
    DivergedError: the self-check failed; scores, losses, KL or too many gradients are not finite.
  """
  checks.check_arguments(policy, rows, config, folder, dtype)
  arguments.check_functions(
    log=log, truncate_log=truncate_log, show_samples=show_samples, report=report, progress=progress
  )
  rows = list(rows)  # a column of a table has row numbers of its own
  ppo, keep = config.ppo, config.runtime.keep_checkpoints
  with sharding.using(config.runtime.sharding):
    setup, learner = prepare(policy, rows, reward, config, dtype)
    this_run = fingerprint_of(policy, rows, config)
    with interruption.deferred(), checkpoint.Checkpoints(folder, keep, this_run) as checkpoints:
      first, learner = restored_or(learner, checkpoints)
      checks.check_continues(first, learner.probe, setup.reward, config, checkpoints.folder)
      truncate_log(first)
      for step in steps(setup, learner, progress(range(first, ppo.steps)), checkpoints):
        done, learner = step.number + 1, step.learner
        log(step.number, step.metrics | arguments.reported(report, step.sampled.scored))
        if step.number % ppo.samples_every == 0:
          show_samples(step.number, step.sampled.table(SAMPLES_SHOWN))
        stopping = interruption.requested()
        if done == ppo.steps or stopping or done % ppo.checkpoint_every == 0:
          checkpoints.save(done, learner.state, learner.meta())
        if stopping:
          interruption.stop()
  return with_trained(policy, learner.state, ppo.trained_blocks)


def fingerprint_of(
  policy: pretrained.Pretrained, rows: Sequence[Mapping[str, Any]], config: config_lib.Config
) -> fingerprint.Fingerprint:
  """Returns a digest of everything that results depend on, except the reward."""
  return fingerprint.of(
    {
      'seed': config.seed,
      'ppo': config.ppo,
      'sampling': config.sampling,
      'data': {'max_prompt_tokens': config.data.max_prompt_tokens},
    },
    rows=fingerprint.of_rows([[row['prompt'], row['original']] for row in rows]),
    starting_policy=fingerprint.of_params(policy.params),
  )
