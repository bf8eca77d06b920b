"""Weights under their Hugging Face names <-> our parameters, strictly: every weight has its place, and the reverse.

Our trees are nested as Hugging Face's modules are, so a name follows from a path: no table per weight.
"""

from collections.abc import Iterable
import re
from typing import Any

from flax import traverse_util
import jax
import ml_dtypes
import numpy as np

from irl_jax.errors import InputError
from irl_jax.models import gpt_neox
from irl_jax.models import roberta
from irl_jax.models.huggingface.config import Kind

Params = dict[str, Any]
Config = gpt_neox.GPTNeoXConfig | roberta.RobertaConfig

_ROOTS = {
  'embed_in': 'gpt_neox.embed_in',
  'final_layer_norm': 'gpt_neox.final_layer_norm',
  'embed_out': 'embed_out',
  'score': 'score',
  'embeddings': 'roberta.embeddings',
  'classifier': 'classifier',
}
_LAYERS = {
  'causal_lm': 'gpt_neox.layers',
  'reward': 'gpt_neox.layers',
  'classifier': 'roberta.encoder.layer',
}
_LEAVES = {'kernel': 'weight', 'embedding': 'weight', 'scale': 'weight', 'bias': 'bias'}
_ALIASES = {'lm_head.weight': 'embed_out.weight'}  # what transformers 5 calls it in memory
_BUFFERS = re.compile(
  r'(.*\.)?(attention\.(bias|masked_bias)|rotary_emb\.inv_freq)'
  r'|roberta\.(embeddings\.(position_ids|token_type_ids)|pooler\..*)'
)
_DTYPES = tuple(map(np.dtype, (np.float16, ml_dtypes.bfloat16, np.float32)))


def shapes(kind: Kind, config: Config) -> Params:
  """The parameter tree of a model, with shapes for arrays."""
  model = roberta if kind == 'classifier' else gpt_neox
  tree = jax.eval_shape(lambda key: model.init(key, config), jax.random.key(0))
  if kind == 'reward':
    tree.pop('embed_out', None)
    tree['score'] = {'kernel': jax.ShapeDtypeStruct((config.hidden_size, 1), np.float32)}
  return tree


def named_views(kind: Kind, params: Params) -> dict[str, np.ndarray]:
  """Every weight under its Hugging Face name and in its orientation (kernels [out, in]): views, not copies."""
  views = {}
  for (root, *path), array in traverse_util.flatten_dict(params).items():
    modules, leaf = path[:-1], path[-1]
    layers = enumerate(array) if root == 'blocks' else [(None, array)]
    for layer, weight in layers:
      prefix = _ROOTS[root] if layer is None else f'{_LAYERS[kind]}.{layer}'
      views['.'.join([prefix, *modules, _LEAVES[leaf]])] = weight.T if leaf == 'kernel' else weight
  return views


def _problem(view: np.ndarray, weight: np.ndarray) -> str:
  if weight.shape != view.shape:
    return f'is {list(weight.shape)}, must be {list(view.shape)}'
  if weight.dtype not in _DTYPES:
    return f'is {weight.dtype}, must be float16, bfloat16 or float32'
  return '' if np.isfinite(weight).all() else 'is not finite'


def to_params(
  kind: Kind, config: Config, weights: Iterable[tuple[str, np.ndarray]], where: str
) -> Params:
  """Parameters, float32, from weights as a file holds them; known buffers are passed over.

  Args:
    kind: 'causal_lm', 'reward' or 'classifier'.
    config: the model's shape.
    weights: pairs of name and array, read one at a time.
    where: what to call them in an error.

  Raises:
    InputError: weights that are missing, unexpected, mis-shaped, of another dtype or not finite; all are listed.
  """
  params = jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), shapes(kind, config))
  views = named_views(kind, params)
  missing, problems, tied = set(views), [], None
  for name, weight in weights:
    name = _ALIASES.get(name, name)
    if name in views:
      missing.discard(name)
      problem = _problem(views[name], weight)
      if problem:
        problems.append(f'{name} {problem}')
      else:
        views[name][...] = weight
    elif name == 'embed_out.weight' and kind == 'causal_lm':
      tied = np.array(
        weight, np.float32
      )  # a tied head may be written out; it must then be what it is tied to
    elif not _BUFFERS.fullmatch(name):
      problems.append(f'{name} is unexpected')
  problems += [f'{name} is missing' for name in views if name in missing]
  if (
    tied is not None
    and not problems
    and not np.array_equal(tied, views['gpt_neox.embed_in.weight'])
  ):
    problems.append(
      'embed_out.weight differs from gpt_neox.embed_in.weight, but config.json ties them'
    )
  if problems:
    raise InputError(
      f'{where}: the weights do not fit config.json ({len(problems)}): {"; ".join(problems)}'
    )
  return params


def to_weights(kind: Kind, params: Params) -> dict[str, np.ndarray]:
  """Weights in Hugging Face names, float32, each contiguous: safetensors writes a transposed array silently wrong."""
  arrays = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
  return {name: np.ascontiguousarray(view) for name, view in named_views(kind, arrays).items()}
