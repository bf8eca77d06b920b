"""One PPO update, and the forward pass that turns sampled sequences into what it needs.

Dims: B responses, P prompt, T response, S = P + T, D width.
"""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from irl_jax import config as config_lib
from irl_jax import distribution
from irl_jax import optimizer
from irl_jax import parallel
from irl_jax import structs
from irl_jax.models import gpt_neox
from irl_jax.models import heads
from irl_jax.ppo import losses


@struct.dataclass
class Frozen:
  """What PPO reads and never changes."""

  params: Any                   # everything below the cut; {} where all is trained
  reference: Any                # the trained part as it was at the start, without its value head
  allowed: distribution.Allowed


def log_probs_and_hidden(trained, frozen: Frozen, cut_hidden, ids, valid, *, config: gpt_neox.GPTNeoXConfig, dtype,
                         response_length: int, min_new_tokens: int) -> tuple[jax.Array, jax.Array]:
  """Log-probs [B, T] of the response tokens, and the states [B, T, D] that predict them."""
  hidden = gpt_neox.above_cut(trained, frozen.params, cut_hidden, ids, valid, config, dtype)
  hidden = hidden[:, -response_length - 1:-1]
  targets = ids[:, -response_length:]
  too_early = jnp.broadcast_to(jnp.arange(response_length) < min_new_tokens, targets.shape)
  flat = distribution.log_probs({**frozen.params, **trained}, hidden.reshape(-1, hidden.shape[-1]),
                                targets.reshape(-1), too_early.reshape(-1), frozen.allowed)
  return flat.reshape(targets.shape), hidden


def make_rollout(inputs, batch: structs.Experience, *, config: gpt_neox.GPTNeoXConfig, dtype, min_new_tokens: int,
                 ppo: config_lib.PPO, axis_name: str | None) -> tuple[structs.Rollout, dict[str, jax.Array]]:
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
  statics = dict(config=config, dtype=dtype, response_length=batch.response_mask.shape[1],
                 min_new_tokens=min_new_tokens)
  cut_hidden = gpt_neox.below_cut(frozen.params, batch.ids, batch.valid, config, dtype)
  log_probs, hidden = log_probs_and_hidden(trained, frozen, cut_hidden, batch.ids, batch.valid, **statics)
  reference, _ = log_probs_and_hidden(frozen.reference, frozen, cut_hidden, batch.ids, batch.valid, **statics)
  mask = batch.response_mask
  log_probs, reference = jnp.where(mask, log_probs, 0.0), jnp.where(mask, reference, 0.0)
  values = jnp.where(mask, heads.values(trained['value_head'], hidden), 0.0)
  rewards = losses.token_rewards(batch.score, log_probs, reference, mask, kl_coefficient)
  advantages, returns = losses.advantages_and_returns(rewards, values, mask, ppo.discount, ppo.gae_lambda)
  rollout = structs.Rollout(
      ids=batch.ids, valid=batch.valid, response_mask=mask, cut_hidden=cut_hidden, log_probs=log_probs, values=values,
      advantages=losses.whiten(advantages, mask, axis_name), returns=returns)
  return rollout, {'kl': jnp.sum(log_probs - reference, axis=1), 'entropy': -jnp.sum(log_probs, axis=1),
                   'length': jnp.sum(mask, axis=1)}


def update(state: structs.TrainState, frozen: Frozen, batch: structs.Rollout, *, config: gpt_neox.GPTNeoXConfig, dtype,
           min_new_tokens: int, ppo: config_lib.PPO, tx: optax.GradientTransformation, axis_name: str | None
           ) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """One clipped PPO step on a minibatch; metrics under TRL's names, averaged over all devices' response tokens."""
  mask = batch.response_mask
  mean = lambda x: parallel.global_mean(x, mask, axis_name)

  def loss_fn(trained):
    log_probs, hidden = log_probs_and_hidden(
        trained, frozen, batch.cut_hidden, batch.ids, batch.valid, config=config, dtype=dtype,
        response_length=mask.shape[1], min_new_tokens=min_new_tokens)
    log_probs = jnp.where(mask, log_probs, batch.log_probs)
    values = heads.values(trained['value_head'], hidden)
    policy, policy_clipped = losses.policy_loss(log_probs, batch.log_probs, batch.advantages, ppo.clip_ratio)
    value, value_clipped = losses.value_loss(values, batch.values, batch.returns, ppo.clip_value)
    ratio = jnp.exp(log_probs - batch.log_probs)
    largest = jnp.max(jnp.abs(ratio - 1))
    metrics = {
        'loss/policy_avg': mean(policy), 'loss/value_avg': mean(value),
        'policy/approxkl_avg': mean(0.5 * (log_probs - batch.log_probs) ** 2),
        'policy/clipfrac_avg': mean(policy_clipped), 'val/clipfrac_avg': mean(value_clipped),
        'val/ratio': mean(ratio), 'val/ratio_var': mean((ratio - mean(ratio)) ** 2),
        'val/ratio_deviation': jax.lax.pmax(jax.lax.stop_gradient(largest), axis_name) if axis_name else largest,
    }
    return metrics['loss/policy_avg'] + ppo.value_coefficient * metrics['loss/value_avg'], metrics

  gradients, metrics = jax.grad(loss_fn, has_aux=True)(state.params)
  gradients = parallel.average_gradients(gradients, axis_name)
  state, applied = optimizer.apply_gradients(state, gradients, tx)
  return state, metrics | {'policy/gradient_norm': applied['gradient_norm'],
                           'policy/skipped_updates': applied['skipped'],
                           'policy/skipped_in_row': applied['skipped_in_row']}
