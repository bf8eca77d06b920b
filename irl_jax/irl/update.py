"""One update of IRL on whole texts, and on their prefixes.

Dims: B pairs.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import optax

from irl_jax import config as config_lib
from irl_jax import structs
from irl_jax.irl import objectives
from irl_jax.irl import prefixes
from irl_jax.irl import reward as reward_lib
from irl_jax.models import trunk
from irl_jax.training import gradients
from irl_jax.training import micro_batch as micro_batch_lib
from irl_jax.training import optimizer


def total_loss(
  trained: reward_lib.Params,
  frozen: reward_lib.Params,
  batch: structs.PairBatch,
  *,
  config: trunk.Config,
  dtype: DTypeLike,
  irl: config_lib.IRL,
  progress: jax.Array | float = 1.0,
  rematerialise: bool = False,
) -> tuple[jax.Array, gradients.Totals]:
  """Returns the objective and the metrics that go with it, summed over the pairs.

  With w = irl.prefix_weight, a pair's loss is (1 - w) × loss of the whole texts + w × mean loss
  over their prefixes.

  Args:
    trained: parameters that the loss is differentiated with respect to.
    frozen: the other parameters.
    batch: pairs; every `irl.group_size` consecutive pairs share a prompt.
    config: the model's shape.
    dtype: the compute type.
    irl: hyper-parameters.
    progress: the share of the updates that are done, in [0, 1].
    rematerialise: whether the backward pass recomputes each block.
  """
  statics: dict[str, Any] = dict(config=config, dtype=dtype, rematerialise=rematerialise)
  if irl.prefix_weight:
    of_prefixes = prefixes.rewards(trained, frozen, batch, **statics)
    aligned, base = prefixes.at_ends(of_prefixes, batch)
  else:
    aligned, base = reward_lib.pair_rewards(trained, frozen, batch, pooling=irl.pooling, **statics)
  label = None if batch.label is None else batch.label[:, -1]
  loss = objectives.losses(aligned, base, batch.weight > 0, irl, progress, label)
  if irl.prefix_weight:
    prefix_loss = prefixes.losses(of_prefixes, batch, irl, progress)
    loss = (1 - irl.prefix_weight) * loss + irl.prefix_weight * prefix_loss
  delta = aligned - base
  sums = {'loss': loss, 'margin': delta, 'pairwise_accuracy': (delta > 0) + 0.5 * (delta == 0)}
  sums = {name: jnp.sum(values * batch.weight) for name, values in sums.items()}
  return sums['loss'], gradients.Totals(jnp.sum(batch.weight), sums)


def update(
  state: structs.TrainState,
  frozen: reward_lib.Params,
  batch: structs.PairBatch,
  *,
  irl: config_lib.IRL,
  updates: int,
  tx: optax.GradientTransformation,
  axis_name: str | None,
  config: trunk.Config,
  dtype: DTypeLike,
  micro_batch: int = 0,
  rematerialise: bool = False,
) -> tuple[structs.TrainState, dict[str, jax.Array]]:
  """Takes one optimiser step on a minibatch of pairs.

  Args:
    state: trained parameters and optimiser state.
    frozen: the other parameters.
    batch: this device's pairs; every `irl.group_size` consecutive pairs share a prompt.
    irl: hyper-parameters.
    updates: the total number of updates.
    tx: the optimiser.
    axis_name: the mapped axis of the devices; None if there is only one.
    config: the model's shape.
    dtype: the compute type.
    micro_batch: the maximum number of pairs that go forward and backward at once; 0 leaves the
      choice to `micro_batch.size`.
    rematerialise: whether the backward pass recomputes each block.

  Returns:
    The next state, and metrics [] that are the same on every device.
  """
  if isinstance(batch.aligned, structs.TextBatch):
    length = batch.aligned.ids.shape[1]
    micro_batch = micro_batch_lib.size(micro_batch, config, 2, length, dtype)
  loss = functools.partial(
    total_loss,
    config=config,
    dtype=dtype,
    irl=irl,
    progress=state.step / updates,
    rematerialise=rematerialise,
  )
  gradient, metrics = gradients.of_mean(
    loss, state.params, frozen, batch, axis_name, micro_batch, irl.group_size
  )
  state, applied = optimizer.apply_gradients(state, gradient, tx)
  return state, metrics | applied
