"""The functions that PPO runs on the devices, and the state that it starts from.

Dims: B responses of a rollout.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np
import optax

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import errors
from irl_jax import sampling
from irl_jax import structs
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.ppo import update as update_lib
from irl_jax.runtime import parallel
from irl_jax.training import optimizer


@dataclasses.dataclass(frozen=True)
class Compiled:
  """The functions that PPO runs on the devices."""

  # ((trained, frozen params, allowed, key), PromptBatch) -> Responses
  sample: Callable[[Any, structs.PromptBatch], structs.Responses]
  # ((trained, Frozen, kl_coefficient), Experience) -> (Rollout, statistics)
  make_rollout: Callable[[Any, structs.Experience], tuple[structs.Rollout, dict[str, jax.Array]]]
  # (TrainState, Frozen, Rollout) -> (TrainState, metrics)
  update: Callable[
    [structs.TrainState, update_lib.Frozen, structs.Rollout],
    tuple[structs.TrainState, dict[str, jax.Array]],
  ]
  # (Frozen, Rollout) -> {'largest', 'spread'}; only compiled if the self-check needs it
  logit_size: Callable[[update_lib.Frozen, structs.Rollout], dict[str, jax.Array]]
  learning_rate: np.ndarray  # [updates]
  dtype: DTypeLike  # the compute type
  config: trunk.Config  # the model's shape


def sample_from_parts(inputs: Any, batch: structs.PromptBatch, **statics: Any) -> structs.Responses:
  """Samples from a policy whose trained and frozen parameters are separate (`sampling.sample`)."""
  trained, frozen, allowed, key = inputs
  return sampling.sample((cut_lib.join(trained, frozen), allowed, key), batch, **statics)


def compile_functions(
  model_config: trunk.Config, config: config_lib.Config, dtype: DTypeLike
) -> tuple[Compiled, optax.GradientTransformation]:
  """Maps PPO's functions over the devices; they compile at their first call.

  Returns:
    The functions and the optimiser.
  """
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
  model: dict[str, Any] = {'config': model_config, 'dtype': dtype}
  shared: dict[str, Any] = {**model, 'min_new_tokens': limits.min_new_tokens, 'ppo': ppo}
  return Compiled(
    sample=parallel.map_decode(
      sample_from_parts,
      max_new_tokens=limits.max_new_tokens,
      min_new_tokens=limits.min_new_tokens,
      top_k=limits.top_k,
      top_p=limits.top_p,
      greedy=False,
      **model,
    ),
    make_rollout=parallel.map_forward(
      update_lib.make_rollout, axis_name=parallel.axis_name(), **shared
    ),
    logit_size=parallel.map_forward(
      update_lib.logit_size, min_new_tokens=limits.min_new_tokens, **model
    ),
    update=parallel.map_update(
      update_lib.update,
      tx=tx,
      micro_batch=config.runtime.micro_batch,
      rematerialise=config.runtime.rematerialise,
      **shared,
    ),
    learning_rate=np.asarray(jax.jit(jax.vmap(rate))(np.arange(updates))),
    dtype=dtype,
    config=model_config,
  ), tx


def initial_state(
  policy: pretrained.Pretrained,
  config: config_lib.Config,
  tx: optax.GradientTransformation,
  dtype: DTypeLike = jnp.float32,
) -> tuple[structs.TrainState, update_lib.Frozen]:
  """Returns the trained state and the frozen parameters, placed on the devices.

  The policy gets a fresh value head and is cut into trained and frozen parameters. A copy of its
  trained parameters becomes the frozen reference.

  Raises:
    ConfigError: the policy has fewer blocks than `ppo.trained_blocks`.
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
  of_frozen = update_lib.Frozen(frozen, reference, allowed)
  return state, parallel.replicate(of_frozen, donated=False)
