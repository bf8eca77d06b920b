"""One PPO update, and the forward pass that prepares a rollout for it.

Dims: B responses, P prompt, T response, S = P + T, D width.
"""

import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import optax

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import structs
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads
from irl_jax.models import trunk
from irl_jax.ppo import losses
from irl_jax.training import gradients
from irl_jax.training import micro_batch as micro_batch_lib
from irl_jax.training import optimizer


@struct.dataclass
class Frozen:
  """The parameters that PPO reads and never changes."""

  params: Any  # everything below the cut; {} if all parameters are trained
  reference: Any  # the trained parameters as they were at the start, without the value head
  allowed: distribution.Allowed


def log_probs_and_hidden(
  trained: Any,
  frozen: Frozen,
  cut_hidden: jax.Array | None,
  ids: jax.Array,
  valid: jax.Array,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  response_length: int,
  min_new_tokens: int,
  rematerialise: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Returns log-probs [B, T] of the response tokens, nats, and the states [B, T, D] before them.

  Args:
    trained: the trained parameters of the policy or the reference.
    frozen: its `params` and `allowed` are used.
    cut_hidden: activations [B, S, D] at the cut; None if all parameters are trained.
    ids: prompts and responses [B, S].
    valid: which of their tokens are not padding [B, S].
    config: the model's shape.
    dtype: the compute type.
    response_length: T.
    min_new_tokens: sampling forbids EOS before this many response tokens.
    rematerialise: whether the backward pass recomputes each block.
  """
  hidden = cut_lib.above(
    trained, frozen.params, cut_hidden, ids, valid, config, dtype, rematerialise=rematerialise
  )
  params = {**frozen.params, **trained}
  return distribution.response_log_probs(
    params, hidden, ids, response_length, min_new_tokens, frozen.allowed, config
  )


def make_rollout(
  inputs: tuple[Any, Frozen, jax.Array],
  batch: structs.Experience,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  min_new_tokens: int,
  ppo: config_lib.PPO,
  axis_name: str | None,
) -> tuple[structs.Rollout, dict[str, jax.Array]]:
  """Computes log-probs, values, KL, advantages and returns of sampled sequences.

  Args:
    inputs: (trained, frozen, kl_coefficient): the trained parameters with the value head, `Frozen`,
      and a scalar.
    batch: sampled sequences and their scores.
    config: the model's shape.
    dtype: the compute type.
    min_new_tokens: sampling forbids EOS before this many response tokens.
    ppo: hyper-parameters.
    axis_name: the mapped axis of the devices that share the rollout; None if there is only one.

  Returns:
    The rollout, and statistics of each response [B]: 'kl' and 'entropy' (nats), 'length' (tokens).
  """
  trained, frozen, kl_coefficient = inputs
  forward = functools.partial(
    log_probs_and_hidden,
    config=config,
    dtype=dtype,
    response_length=batch.response_mask.shape[1],
    min_new_tokens=min_new_tokens,
  )
  cut_hidden = cut_lib.below(frozen.params, batch.ids, batch.valid, config, dtype)
  log_probs, hidden = forward(trained, frozen, cut_hidden, batch.ids, batch.valid)
  reference, _ = forward(frozen.reference, frozen, cut_hidden, batch.ids, batch.valid)
  mask = batch.response_mask
  log_probs, reference = jnp.where(mask, log_probs, 0.0), jnp.where(mask, reference, 0.0)
  values = jnp.where(mask, heads.values(trained['value_head'], hidden), 0.0)
  rewards = losses.token_rewards(batch.score, log_probs, reference, mask, kl_coefficient)
  advantages, returns = losses.advantages_and_returns(
    rewards, values, mask, ppo.discount, ppo.gae_lambda
  )
  rollout = structs.Rollout(
    ids=batch.ids,
    valid=batch.valid,
    response_mask=mask,
    cut_hidden=cut_hidden,
    log_probs=log_probs,
    values=values,
    advantages=losses.whiten(advantages, mask, axis_name),
    returns=returns,
  )
  return rollout, {
    'kl': jnp.sum(log_probs - reference, axis=1),
    'entropy': -jnp.sum(log_probs, axis=1),
    'length': jnp.sum(mask, axis=1),
  }


def logit_size(
  frozen: Frozen,
  batch: structs.Rollout,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  min_new_tokens: int,
) -> dict[str, jax.Array]:
  """Returns the size of the reference's logits, on which the rounding of log-probs depends.

  The logits are those of allowed tokens, divided by the temperature, at each response token.

  Args:
    frozen: the reference, `params` and `allowed`.
    batch: sampled sequences.
    config: the model's shape.
    dtype: the compute type.
    min_new_tokens: sampling forbids EOS before this many response tokens.

  Returns:
    For each response [B]: 'largest' |logit|, and their largest distance from their mean, 'spread'.
  """
  length = batch.response_mask.shape[1]
  hidden = cut_lib.above(
    frozen.reference, frozen.params, batch.cut_hidden, batch.ids, batch.valid, config, dtype
  )
  params = {**frozen.params, **frozen.reference}

  def size_at(position: jax.Array) -> tuple[jax.Array, jax.Array]:
    state = jax.lax.dynamic_index_in_dim(hidden, position - length - 1, axis=1, keepdims=False)
    too_early = jnp.broadcast_to(position < min_new_tokens, state.shape[:1])
    logits = distribution.next_logits(params, state, too_early, frozen.allowed, config)  # [V, B]
    is_allowed = logits > distribution.FORBIDDEN
    mean = jnp.sum(jnp.where(is_allowed, logits, 0.0), axis=0) / jnp.sum(is_allowed, axis=0)
    greatest = lambda x: jnp.max(jnp.where(is_allowed, jnp.abs(x), 0.0), axis=0)
    return greatest(logits), greatest(logits - mean[None])

  largest, spread = jax.lax.map(size_at, jnp.arange(length))  # [T, B]
  over_tokens = lambda x: jnp.max(jnp.where(batch.response_mask.T, x, 0.0), axis=0)
  return {'largest': over_tokens(largest), 'spread': over_tokens(spread)}


def total_loss(
  trained: Any,
  frozen: Frozen,
  batch: structs.Rollout,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  min_new_tokens: int,
  ppo: config_lib.PPO,
  rematerialise: bool = False,
) -> tuple[jax.Array, gradients.Totals]:
  """Returns PPO's loss [] and metrics, summed over the response tokens of a minibatch."""
  mask = batch.response_mask
  log_probs, hidden = log_probs_and_hidden(
    trained,
    frozen,
    batch.cut_hidden,
    batch.ids,
    batch.valid,
    config=config,
    dtype=dtype,
    response_length=mask.shape[1],
    min_new_tokens=min_new_tokens,
    rematerialise=rematerialise,
  )
  # After EOS the ratio is set to 1, so that log-probs there never reach exp().
  log_probs = jnp.where(mask, log_probs, batch.log_probs)
  values = heads.values(trained['value_head'], hidden)
  policy, policy_clipped = losses.policy_loss(
    log_probs, batch.log_probs, batch.advantages, ppo.clip_ratio
  )
  value, value_clipped = losses.value_loss(values, batch.values, batch.returns, ppo.clip_value)
  # Near 1 a float32 ratio has few digits left for its variance, so its distance from 1 is summed.
  ratio_minus_1 = jnp.exp(log_probs - batch.log_probs) - 1
  weight = mask.astype(jnp.float32)
  total = lambda x: jnp.sum(x * weight)
  sums = {
    'loss/policy_avg': total(policy),
    'loss/value_avg': total(value),
    'policy/approxkl_avg': total(0.5 * (log_probs - batch.log_probs) ** 2),
    'policy/clipfrac_avg': total(policy_clipped),
    'val/clipfrac_avg': total(value_clipped),
    'val/ratio': total(ratio_minus_1),
    'val/ratio_var': total(ratio_minus_1**2),
  }
  loss = sums['loss/policy_avg'] + ppo.value_coefficient * sums['loss/value_avg']
  return loss, gradients.Totals(
    count=jnp.sum(weight),
    sums=sums,
    largest={'val/ratio_deviation': jnp.max(jnp.abs(ratio_minus_1))},
  )


def update(
  state: structs.TrainState,
  frozen: Frozen,
  batch: structs.Rollout,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  min_new_tokens: int,
  ppo: config_lib.PPO,
  tx: optax.GradientTransformation,
  axis_name: str | None,
  micro_batch: int = 0,
  rematerialise: bool = False,
) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """Takes one clipped PPO step on a minibatch.

  Args:
    state: the state of the trained parameters, with the value head.
    frozen: the other parameters.
    batch: rows of a rollout.
    config: the model's shape.
    dtype: the compute type.
    min_new_tokens: sampling forbids EOS before this many response tokens.
    ppo: hyper-parameters.
    tx: the optimiser.
    axis_name: the mapped axis of the devices that share the minibatch; None if there is only one.
    micro_batch: the maximum number of rows that go forward and backward at once; 0 leaves the
      choice to `micro_batch.size`.
    rematerialise: whether the backward pass recomputes each block.

  Returns:
    The next state, and metrics under TRL's names, averaged over the response tokens of all devices.
  """
  loss = functools.partial(
    total_loss,
    config=config,
    dtype=dtype,
    min_new_tokens=min_new_tokens,
    ppo=ppo,
    rematerialise=rematerialise,
  )
  size = micro_batch_lib.size(micro_batch, config, 1, batch.ids.shape[1], dtype)
  gradient, metrics = gradients.of_mean(loss, state.params, frozen, batch, axis_name, size)
  state, applied = optimizer.apply_gradients(state, gradient, tx)
  ratio_minus_1 = metrics['val/ratio']
  return state, metrics | {
    'val/ratio': 1 + ratio_minus_1,
    'val/ratio_var': metrics['val/ratio_var'] - ratio_minus_1**2,
    'policy/gradient_norm': applied['gradient_norm'],
    'policy/skipped_updates': applied['skipped'],
    'policy/skipped_in_row': applied['skipped_in_row'],
  }
