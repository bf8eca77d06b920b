"""One PPO update, and the forward pass that turns sampled sequences into what it needs.

Dims: B responses, P prompt, T response, S = P + T, D width.
"""

import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import structs
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.ppo import losses
from irl_jax.training import gradients
from irl_jax.training import micro_batch as micro_batch_lib
from irl_jax.training import optimizer


@struct.dataclass
class Frozen:
  """What PPO reads and never changes."""

  params: Any  # everything below the cut; {} where all is trained
  reference: Any  # the trained part as it was at the start, without its value head
  allowed: distribution.Allowed


def log_probs_and_hidden(
  trained,
  frozen: Frozen,
  cut_hidden,
  ids,
  valid,
  *,
  config: gpt_neox.GPTNeoXConfig,
  dtype,
  response_length: int,
  min_new_tokens: int,
  rematerialise: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Log-probs [B, T] of the response tokens, and the states [B, T, D] that predict them."""
  hidden = cut_lib.above(
    trained, frozen.params, cut_hidden, ids, valid, config, dtype, rematerialise=rematerialise
  )
  params = {**frozen.params, **trained}
  return distribution.response_log_probs(
    params, hidden, ids, response_length, min_new_tokens, frozen.allowed
  )


def make_rollout(
  inputs,
  batch: structs.Experience,
  *,
  config: gpt_neox.GPTNeoXConfig,
  dtype,
  min_new_tokens: int,
  ppo: config_lib.PPO,
  axis_name: str | None,
) -> tuple[structs.Rollout, dict[str, jax.Array]]:
  """Log-probs, values, KL, advantages and returns of sampled sequences.

  Args:
    inputs: (trained, frozen, kl_coefficient): the policy's trained part with its value head, `Frozen`, and a scalar.
    batch: sampled sequences and their scores.
    config: the model's shape.
    dtype: of computation.
    min_new_tokens: of the sampling.
    ppo: hyper-parameters.
    axis_name: of the devices that share the rollout.

  Returns:
    The rollout, and per response [B]: kl (nats), entropy (nats), reference log-prob and length.
  """
  trained, frozen, kl_coefficient = inputs
  statics = dict(
    config=config,
    dtype=dtype,
    response_length=batch.response_mask.shape[1],
    min_new_tokens=min_new_tokens,
  )
  cut_hidden = cut_lib.below(frozen.params, batch.ids, batch.valid, config, dtype)
  log_probs, hidden = log_probs_and_hidden(
    trained, frozen, cut_hidden, batch.ids, batch.valid, **statics
  )
  reference, _ = log_probs_and_hidden(
    frozen.reference, frozen, cut_hidden, batch.ids, batch.valid, **statics
  )
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


def total_loss(
  trained,
  frozen: Frozen,
  batch: structs.Rollout,
  *,
  config: gpt_neox.GPTNeoXConfig,
  dtype,
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
  log_probs = jnp.where(mask, log_probs, batch.log_probs)
  values = heads.values(trained['value_head'], hidden)
  policy, policy_clipped = losses.policy_loss(
    log_probs, batch.log_probs, batch.advantages, ppo.clip_ratio
  )
  value, value_clipped = losses.value_loss(values, batch.values, batch.returns, ppo.clip_value)
  off = (
    jnp.exp(log_probs - batch.log_probs) - 1
  )  # the ratio's distance from 1: its square keeps what 1 would swallow
  weight = mask.astype(jnp.float32)
  total = lambda x: jnp.sum(x * weight)
  sums = {
    'loss/policy_avg': total(policy),
    'loss/value_avg': total(value),
    'policy/approxkl_avg': total(0.5 * (log_probs - batch.log_probs) ** 2),
    'policy/clipfrac_avg': total(policy_clipped),
    'val/clipfrac_avg': total(value_clipped),
    'val/ratio': total(off),
    'val/ratio_var': total(off**2),
  }
  loss = sums['loss/policy_avg'] + ppo.value_coefficient * sums['loss/value_avg']
  return loss, gradients.Totals(
    count=jnp.sum(weight), sums=sums, largest={'val/ratio_deviation': jnp.max(jnp.abs(off))}
  )


def update(
  state: structs.TrainState,
  frozen: Frozen,
  batch: structs.Rollout,
  *,
  tx: optax.GradientTransformation,
  axis_name: str | None,
  micro_batch: int = 0,
  **statics,
) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """One clipped PPO step on a minibatch; metrics under TRL's names, averaged over all devices' response tokens.

  Args:
    state: of the policy's trained part, with its value head.
    frozen: what goes with it.
    batch: rows of a rollout.
    tx: the optimiser.
    axis_name: of the devices that share the minibatch.
    micro_batch: rows that go forward and backward at once, at most; 0 leaves their number to `micro_batch.size`.
    **statics: of `total_loss`.
  """
  micro_batch = micro_batch_lib.size(
    micro_batch, statics['config'], 1, batch.ids.shape[1], statics['dtype']
  )
  loss = functools.partial(total_loss, **statics)
  gradient, metrics = gradients.of_mean(loss, state.params, frozen, batch, axis_name, micro_batch)
  state, applied = optimizer.apply_gradients(state, gradient, tx)
  off = metrics['val/ratio']
  return state, metrics | {
    'val/ratio': 1 + off,
    'val/ratio_var': metrics['val/ratio_var'] - off**2,
    'policy/gradient_norm': applied['gradient_norm'],
    'policy/skipped_updates': applied['skipped'],
    'policy/skipped_in_row': applied['skipped_in_row'],
  }
