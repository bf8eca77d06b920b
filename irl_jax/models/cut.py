"""A GPT-NeoX cut at its lowest trained block: what is below is frozen, shared with the reference, and computed once.

Dims: B batch, S positions, D width.
"""

from typing import Any

import jax
import jax.numpy as jnp

from irl_jax.models import gpt_neox

Params = gpt_neox.Params


def split(params: Params, trained_blocks: int) -> tuple[Params, Params]:
  """Cuts a model into what is trained and what is frozen.

  Args:
    params: of a whole model; heads beside it (value_head, reward_head) are always trained.
    trained_blocks: -1 everything; 0 the heads alone; k the top k blocks, the final layer norm and the output head,
      with frozen embeddings (trlX's num_layers_unfrozen).

  Returns:
    (trained, frozen). The blocks below the cut are `frozen['lower_blocks']`; `frozen` is empty if all is trained. Where
    no block is trained, `trained` has no 'blocks': Orbax saves no array of size 0.

  Raises:
    ValueError: the model has fewer blocks than that.
  """
  if trained_blocks == -1:
    return params, {}
  depth = jax.tree.leaves(params['blocks'])[0].shape[0]
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


def stored(frozen: Params, dtype: Any) -> Params:
  """Frozen parameters with their matrices in the type that they are used in, once, and so of that type's size.

  Layer norms and biases stay float32: they are read so, and are small.
  """
  is_matrix = lambda path: path[-1].key in ('kernel', 'embedding')
  return jax.tree_util.tree_map_with_path(
    lambda path, x: x.astype(dtype) if is_matrix(path) else x, frozen
  )


def join(trained: Params, frozen: Params) -> Params:
  """Undoes `split`."""
  params = {**frozen, **trained}
  if 'lower_blocks' in params:
    stacks = [params[name] for name in ('lower_blocks', 'blocks') if name in params]
    params['blocks'] = jax.tree.map(lambda *x: jnp.concatenate(x), *stacks)
    del params['lower_blocks']
  return params


def below(
  frozen: Params,
  ids: jax.Array,
  valid: jax.Array,
  config: gpt_neox.GPTNeoXConfig,
  dtype: Any = jnp.float32,
) -> jax.Array | None:
  """Hidden states [B, S, D] at the cut, or None where nothing is frozen."""
  if not frozen:
    return None
  return gpt_neox.run_blocks(
    frozen['lower_blocks'], gpt_neox.embed(frozen, ids, dtype), valid, config
  )


def above(
  trained: Params,
  frozen: Params,
  cut_hidden: jax.Array | None,
  ids: jax.Array,
  valid: jax.Array,
  config: gpt_neox.GPTNeoXConfig,
  dtype: Any = jnp.float32,
  normalise: bool = True,
  rematerialise: bool = False,
) -> jax.Array:
  """The rest of the forward pass: from `below` (or, where that is None, from ids) to hidden states [B, S, D]."""
  hidden = gpt_neox.embed(trained, ids, dtype) if cut_hidden is None else cut_hidden.astype(dtype)
  if 'blocks' in trained:
    hidden = gpt_neox.run_blocks(trained['blocks'], hidden, valid, config, rematerialise)
  return gpt_neox.final_norm({**frozen, **trained}, hidden, config) if normalise else hidden
