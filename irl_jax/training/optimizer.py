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
  # As in optax.adamw, so that its checkpoints can be continued
  after_clipping = optax.chain(
    scale_by_adam(b1, b2),
    optax.add_decayed_weights(weight_decay),
    optax.scale_by_learning_rate(rate),
  )
  return optax.chain(clip_by_global_norm(max_norm), after_clipping), rate


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


class Moments(optax.ScaleByAdamState):
  """Adam's moments, which `scale_by_adam` itself leaves as they are in a step that is skipped."""


def scale_by_adam(b1: float, b2: float, eps: float = 1e-8) -> optax.GradientTransformation:
  """Returns optax's scale_by_adam with moments that do not change unless the gradient is finite.

  The updates are computed from the moments that are kept. If instead the moments were restored
  afterwards, XLA would have to copy them before it overwrites them, for every step.
  """

  def update(
    gradients: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    finite: jax.Array,
    **_: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    del params
    keep = functools.partial(jnp.where, finite)
    first = optax.tree.update_moment(gradients, state.mu, b1, 1)
    second = optax.tree.update_moment_per_elem_norm(gradients, state.nu, b2, 2)
    first, second = jax.tree.map(keep, (first, second), (state.mu, state.nu))
    count = optax.safe_increment(state.count)
    unbiased = optax.tree.bias_correction(first, b1, count)
    scales = optax.tree.bias_correction(second, b2, count)
    updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), unbiased, scales)
    return updates, Moments(keep(count, state.count), first, second)

  init = optax.scale_by_adam(b1, b2, eps).init
  return optax.GradientTransformationExtraArgs(lambda params: Moments(*init(params)), update)


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
  step = optax.with_extra_args_support(tx).update
  updates, opt_state = step(gradients, state.opt_state, state.params, finite=finite)
  params = optax.apply_updates(state.params, updates)
  keep = functools.partial(jnp.where, finite)
  kept = lambda new, old: new if isinstance(new, Moments) else jax.tree.map(keep, new, old)
  new = structs.TrainState(
    step=state.step + 1,
    params=jax.tree.map(keep, params, state.params),
    opt_state=jax.tree.map(
      kept, opt_state, state.opt_state, is_leaf=lambda x: isinstance(x, Moments)
    ),
    skipped=state.skipped + ~finite,
    skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
  )
  return new, {'gradient_norm': norm, 'skipped': new.skipped, 'skipped_in_row': new.skipped_in_row}
