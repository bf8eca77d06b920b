"""AdamW with a schedule, and the step from gradients to a new state."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from irl_jax import structs
from irl_jax.runtime import parallel
from irl_jax.runtime import unread


@functools.lru_cache(maxsize=128)
def adamw(
  *,
  learning_rate: float,
  updates: int,
  schedule: str = 'cosine',
  final: float = 0.0,
  warmup: int = 0,
  b1: float = 0.9,
  b2: float = 0.999,
  weight_decay: float = 0.0,
  max_norm: float = 1.0,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Returns AdamW preceded by clipping to a global norm, and its learning-rate schedule.

  Loshchilov & Hutter 2019, algorithm 2.

  Args:
    learning_rate: the peak.
    updates: the total number of updates; a cosine schedule ends after them at `final` times the
      peak.
    schedule: 'cosine' or 'constant'.
    final: the last learning rate of a cosine, as a share of the peak, 0 to 1.
    warmup: updates of linear increase from 0; at most half of all updates are used.
    b1: decay of the first moment.
    b2: decay of the second moment.
    weight_decay: decoupled; multiplied by the learning rate.
    max_norm: gradients are clipped to this global norm.
  """
  warmup = min(warmup, updates // 2)
  after = (
    optax.constant_schedule(learning_rate)
    if schedule == 'constant'
    else optax.cosine_decay_schedule(learning_rate, max(updates - warmup, 1), final)
  )
  rate = (
    optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), after], [warmup])
    if warmup
    else after
  )
  return optax.chain(
    clip_by_global_norm(max_norm), optax.adamw(rate, b1=b1, b2=b2, weight_decay=weight_decay)
  ), rate


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
  """Returns optax's clip by the global norm, written as a product.

  XLA recomputes a product wherever it is read, but stores optax's quotient in memory.
  """

  def clip(
    gradients: optax.Updates, state: optax.OptState, params: optax.Params | None = None
  ) -> tuple[optax.Updates, optax.OptState]:
    del params
    scale = max_norm / jnp.maximum(optax.tree.norm(gradients), max_norm)
    return jax.tree.map(lambda x: x * scale, gradients), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), clip)


@functools.partial(jax.jit, static_argnames='tx')
def new_state(params: Any, tx: optax.GradientTransformation) -> structs.TrainState:
  """Returns the state before the first update.

  It is compiled as a whole. Otherwise, each array of zeros would be compiled as a separate program.
  """
  return structs.TrainState(
    jnp.int32(0), params, tx.init(params), skipped=jnp.int32(0), skipped_in_row=jnp.int32(0)
  )


def masters(params: Any) -> Any:
  """Returns parameters as they are trained: float32, however they were stored.

  They are arrays of NumPy, or still in their files.
  """
  return jax.tree.map(lambda x: unread.as_array(x, np.float32), params)


def placed_state(params: Any, tx: optax.GradientTransformation) -> structs.TrainState:
  """Returns `new_state` on all devices.

  Only the parameters are transferred, in float32; the moments are computed there.
  """
  return parallel.make_replicated(new_state, parallel.replicate(params, jnp.float32), tx=tx)


def apply_gradients(
  state: structs.TrainState, gradients: Any, tx: optax.GradientTransformation
) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """Takes one optimiser step.

  A non-finite gradient is skipped and counted: parameters and moments stay as they are.

  Returns:
    The next state, and 'gradient_norm', 'skipped' and 'skipped_in_row'.
  """
  norm = optax.tree.norm(gradients)
  finite = jnp.isfinite(norm)
  updates, opt_state = tx.update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  keep = lambda new, old: jnp.where(finite, new, old)
  new = structs.TrainState(
    step=state.step + 1,
    params=jax.tree.map(keep, params, state.params),
    opt_state=jax.tree.map(keep, opt_state, state.opt_state),
    skipped=state.skipped + ~finite,
    skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
  )
  return new, {'gradient_norm': norm, 'skipped': new.skipped, 'skipped_in_row': new.skipped_in_row}
