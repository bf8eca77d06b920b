"""A decoder cut below its lowest trained block.

Everything below the cut is frozen, shared with the reference, and computed once (in PPO, once per
rollout).

Dims: B batch, S positions, D width.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax.models import layers
from irl_jax.models import trunk

Params = trunk.Params
HEADS = {'classifier', 'reward_head', 'score', 'value_head'}  # computed in float32


def split(params: Params, trained_blocks: int) -> tuple[Params, Params]:
  """Splits a model into its trained and its frozen parameters.

  Args:
    params: a whole model's; additional heads (value_head, reward_head) are always trained.
    trained_blocks: -1 everything; 0 only the heads; k the top k blocks, the final layer norm and
      the output head, with frozen embeddings (trlX's num_layers_unfrozen).

  Returns:
    (trained, frozen). The blocks below the cut are `frozen['lower_blocks']`. `frozen` is empty if
    everything is trained. If no block is trained, `trained` has no 'blocks', because Orbax saves no
    array of size 0.

  Raises:
    ValueError: the model has fewer than `trained_blocks` blocks.
  """
  if trained_blocks == -1:
    return params, {}
  depth = layers.depth(params['blocks'])
  if trained_blocks > depth:
    raise ValueError(f'trained_blocks = {trained_blocks}, but the model has {depth} blocks')
  cut = depth - trained_blocks
  frozen = {
    'embed_in': params['embed_in'],
    'lower_blocks': jax.tree.map(lambda x: x[:cut], params['blocks']),
  }
  trained = {name: value for name, value in params.items() if name not in ('embed_in', 'blocks')}
  if trained_blocks == 0:
    frozen['final_layer_norm'] = trained.pop('final_layer_norm')
  else:
    trained['blocks'] = jax.tree.map(lambda x: x[cut:], params['blocks'])
  return trained, frozen


def stored(frozen: Any, dtype: DTypeLike) -> Any:
  """Returns frozen parameters with their matrices in the type of the computation.

  They are converted once and take only that type's memory. Layer norms, biases and heads, which are
  read in float32 and small, are float32. Leaves that are one array are one array afterwards, too.
  """
  converted: dict[tuple[int, Any], Any] = {}

  def convert(path: Sequence[Any], x: Any) -> Any:
    names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
    is_matrix = names[-1:] in (['kernel'], ['embedding']) and not HEADS & {*names}
    wanted = jnp.dtype(dtype if is_matrix else jnp.float32)
    if x.dtype == wanted:
      return x
    if (id(x), wanted) not in converted:
      converted[id(x), wanted] = x.astype(wanted)
    return converted[id(x), wanted]

  return jax.tree_util.tree_map_with_path(convert, frozen)


def upper(frozen: Params) -> Params:
  """Returns the frozen parameters that a pass reads which starts from the states at the cut."""
  lower = ('embed_in', 'lower_blocks')
  return {name: value for name, value in frozen.items() if name not in lower}


def join(trained: Params, frozen: Params) -> Params:
  """Undoes `split`."""
  params = {**frozen, **trained}
  if 'lower_blocks' in params:
    stacks = [params[name] for name in ('lower_blocks', 'blocks') if name in params]
    params['blocks'] = jax.tree.map(_concatenated, *stacks)
    del params['lower_blocks']
  return params


def _concatenated(*stacks: Any) -> Any:
  """Joins stacks of layers: on the host those that are there, as a device may be too small."""
  on_host = all(isinstance(stack, np.ndarray) for stack in stacks)
  return np.concatenate(stacks) if on_host else jnp.concatenate(stacks)


def below(
  frozen: Params,
  ids: jax.Array,
  valid: jax.Array,
  config: trunk.Config,
  dtype: DTypeLike = jnp.float32,
) -> jax.Array | None:
  """Returns the hidden states [B, S, D] at the cut, or None if nothing is frozen."""
  if not frozen:
    return None
  hidden = trunk.embed(frozen, ids, config, dtype)
  return trunk.run_blocks(frozen['lower_blocks'], hidden, valid, config)


def above(
  trained: Params,
  frozen: Params,
  cut_hidden: jax.Array | None,
  ids: jax.Array,
  valid: jax.Array,
  config: trunk.Config,
  dtype: DTypeLike = jnp.float32,
  normalise: bool = True,
  rematerialise: bool = False,
) -> jax.Array:
  """Runs the rest of the forward pass, from the cut to the hidden states.

  Args:
    trained: the trained parameters, from `split`.
    frozen: the frozen parameters, from `split`.
    cut_hidden: [B, S, D] from `below`; if None, the pass starts from `ids`.
    ids: [B, S] token ids.
    valid: [B, S] bool; positions where it is False are masked.
    config: the model's shape.
    dtype: the compute type.
    normalise: apply the final layer norm.
    rematerialise: keep only each block's input for the backward pass.

  Returns:
    hidden states [B, S, D].
  """
  if cut_hidden is None:
    hidden = trunk.embed(trained, ids, config, dtype)
  else:
    hidden = cut_hidden.astype(dtype)
  if 'blocks' in trained:
    first_layer = config.num_hidden_layers - layers.depth(trained['blocks'])
    hidden = trunk.run_blocks(trained['blocks'], hidden, valid, config, rematerialise, first_layer)
  return trunk.final_norm({**frozen, **trained}, hidden, config) if normalise else hidden
