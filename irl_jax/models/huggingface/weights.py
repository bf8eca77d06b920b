"""Conversion between weights under their Hugging Face names and our parameters.

Every weight must have its parameter, and every parameter its weight. Our trees are nested as
Hugging Face's modules are, so that a name follows from a path, without a table of all weights.

Other trainers wrap a model before they save it. One prefix that all names share is taken off, and
the heads that RLHF tools add are ignored; both are logged.
"""

from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Sequence
import re
from typing import Any

from absl import logging
from flax import traverse_util
import jax
import ml_dtypes
import numpy as np

from irl_jax.errors import InputError
from irl_jax.models import encoder
from irl_jax.models import gpt_neox
from irl_jax.models.huggingface.config import Kind
from irl_jax.models.huggingface.config import ModelConfig
from irl_jax.runtime import terminal

Params = dict[str, Any]

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
_EMBEDDING = 'gpt_neox.embed_in.weight'  # what a tied head equals, if a file holds it nevertheless
_ALIASES = {'lm_head.weight': 'embed_out.weight'}  # transformers 5's name in memory
# Buffers, and a pooler that the classifier does not use: files may hold them, and they are ignored.
_BUFFERS = re.compile(
  r'(.*\.)?(attention\.(bias|masked_bias)|rotary_emb\.inv_freq)'
  r'|roberta\.(embeddings\.(position_ids|token_type_ids)|pooler\..*)'
)
# What RLHF tools keep next to a policy: value heads (TRL, trlX), and trlX's frozen copy of blocks.
_HEADS = re.compile(r'(.*\.)?(v_head|value_head|frozen_head)\..*')
# Weights of an adapter that was not merged into its model (PEFT: LoRA, DoRA, IA3)
_ADAPTER = re.compile(r'.*\b(lora_\w+|ia3_\w+|base_layer|modules_to_save|original_module)\..*')
_DTYPES = tuple(map(np.dtype, (np.float16, ml_dtypes.bfloat16, np.float32)))
_LISTED = 6  # problems that a message names; a large model would have thousands


def shapes(kind: Kind, config: ModelConfig) -> Params:
  """Returns the parameter tree of a model, with a jax.ShapeDtypeStruct for each array."""
  init = encoder.init if isinstance(config, encoder.EncoderConfig) else gpt_neox.init
  tree = jax.eval_shape(lambda key: init(key, config), jax.random.key(0))
  if kind == 'reward':
    tree.pop('embed_out', None)
    tree['score'] = {'kernel': jax.ShapeDtypeStruct((config.hidden_size, 1), np.float32)}
  return tree


def named_views(kind: Kind, params: Params) -> dict[str, np.ndarray]:
  """Returns every weight under its Hugging Face name, as a view in its orientation there.

  Kernels are [in, out] in our trees and [out, in] in Hugging Face's. Stacked layers become one
  weight per layer.
  """
  views = {}
  for (root, *path), array in traverse_util.flatten_dict(params).items():
    modules, leaf = path[:-1], path[-1]
    layers = enumerate(array) if root == 'blocks' else [(None, array)]
    for layer, weight in layers:
      prefix = _ROOTS[root] if layer is None else f'{_LAYERS[kind]}.{layer}'
      views['.'.join([prefix, *modules, _LEAVES[leaf]])] = weight.T if leaf == 'kernel' else weight
  return views


def _problem(view: np.ndarray, weight: np.ndarray) -> str:
  """Returns why a weight does not fit its parameter, or ''."""
  if weight.shape != view.shape:
    return f'is {list(weight.shape)}, must be {list(view.shape)}'
  if weight.dtype not in _DTYPES:
    return f'is {weight.dtype}, must be float16, bfloat16 or float32'
  return '' if np.isfinite(weight).all() else 'is not finite'


def to_params(
  kind: Kind, config: ModelConfig, weights: Iterable[tuple[str, np.ndarray]], where: str
) -> Params:
  """Returns the parameters, float32, that the weights of a file make; known buffers are ignored.

  Args:
    kind: the kind of model.
    config: the model's shape.
    weights: pairs of name and array, read one at a time.
    where: the name of the model in a message.

  Raises:
    InputError: weights that are missing, unexpected, of another shape or dtype, or not finite; the
      first of them are listed. Or an adapter that was not merged.
  """
  params = jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), shapes(kind, config))
  problems = _fill(named_views(kind, params), weights, kind, where)
  if problems:
    raise InputError(
      f'{where}: the weights do not fit config.json ({len(problems)}): {_listed(problems)}'
    )
  return params


def _listed(problems: Sequence[str]) -> str:
  """Joins problems for a message of one line, and counts those that are left out."""
  more = len(problems) - _LISTED
  return '; '.join(problems[:_LISTED]) + (f'; and {more} more' if more > 0 else '')


def _split(name: str, known: Container[str]) -> tuple[str, str]:
  """Returns the prefix that a wrapper has put before a known name, and that name.

  A name that is not known, whatever prefix is taken off, is returned whole.
  """
  parts = name.split('.')
  for start in range(len(parts)):
    end = '.'.join(parts[start:])
    end = _ALIASES.get(end, end)
    if end in known or end == 'embed_out.weight' or _BUFFERS.fullmatch(end):
      return name[: len(name) - len('.'.join(parts[start:]))], end
  return '', name


def _fill(
  views: dict[str, np.ndarray], weights: Iterable[tuple[str, np.ndarray]], kind: Kind, where: str
) -> list[str]:
  """Copies weights into the parameters that `views` shows, and returns what does not fit."""
  missing, problems, tied_head = set(views), [], None
  prefixes: dict[str, str] = {}  # each prefix, with a name that has it
  heads = []
  for whole_name, weight in weights:
    if _ADAPTER.fullmatch(whole_name):
      raise InputError(
        f'{where}: holds the weights of an adapter that is not merged (such as {whole_name}); '
        'merge the adapter first (PEFT: merge_and_unload), save the model, and pass that folder'
      )
    if _HEADS.fullmatch(whole_name):
      heads.append(whole_name)
      continue
    prefix, name = _split(whole_name, views)
    if name in views:
      prefixes.setdefault(prefix, whole_name)
      missing.discard(name)
      problem = _problem(views[name], weight)
      if problem:
        problems.append(f'{name} {problem}')
      else:
        views[name][...] = weight
    elif name == 'embed_out.weight' and kind == 'causal_lm':
      tied_head = np.array(weight, np.float32)
    elif not _BUFFERS.fullmatch(name):
      problems.append(f'{whole_name} is unexpected')
  problems += [f'{name} is missing' for name in views if name in missing]
  if len(prefixes) > 1:
    examples = ' and '.join(list(prefixes.values())[:2])
    problems.insert(
      0, f'weight names have {len(prefixes)} different prefixes, for example {examples}'
    )
  if problems:
    return problems
  _report_wrapping(where, next(iter(prefixes)), heads)
  if tied_head is None or np.array_equal(tied_head, views[_EMBEDDING]):
    return []
  return [f'embed_out.weight differs from {_EMBEDDING}, but config.json ties them']


def _report_wrapping(where: str, prefix: str, heads: Sequence[str]) -> None:
  """Logs the prefix and the heads that other trainers added and that are not read."""
  if prefix:
    logging.warning('%s: stripped the prefix %r from all weight names', where, prefix)
  if heads:
    logging.warning(
      '%s: ignored %s of extra heads (for example %s)',
      where,
      terminal.count(len(heads), 'weight'),
      heads[0],
    )


def from_params(kind: Kind, params: Params) -> dict[str, np.ndarray]:
  """Returns the weights, float32, under their Hugging Face names.

  Each array is contiguous, because safetensors silently writes a transposed one wrongly.
  """
  arrays = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
  return {name: np.ascontiguousarray(view) for name, view in named_views(kind, arrays).items()}
