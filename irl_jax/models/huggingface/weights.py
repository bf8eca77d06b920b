"""Conversion between weights under their Hugging Face names and our parameters.

Every weight must match a parameter, and every parameter a weight. `weight_names.py` says how a
family's weights are named.

Other training tools wrap a model before they save it. A prefix shared by all names and wrapper
names inside them are removed, and heads that RLHF tools add are ignored; all of this is logged.
"""

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
from irl_jax.models import trunk
from irl_jax.models.huggingface.config import Kind
from irl_jax.models.huggingface.config import model_type
from irl_jax.models.huggingface.config import ModelConfig
from irl_jax.models.huggingface.weight_files import Tensor
from irl_jax.models.huggingface.weight_names import NAMES
from irl_jax.models.llama_config import LlamaConfig
from irl_jax.runtime import sharding
from irl_jax.runtime import terminal
from irl_jax.runtime import unread

Params = dict[str, Any]
_LEAVES = {'kernel': 'weight', 'embedding': 'weight', 'scale': 'weight', 'bias': 'bias'}
# Heads that RLHF tools keep next to a model, on top of its last layer: v_head (TRL, trlX),
# value_head and score (OpenRLHF), ilql_heads, and trlX's frozen copy of blocks, frozen_head.
_HEADS = re.compile(r'(?:[^\W\d]\w*\.)*(?!lm_head\b)\w+_heads?\..*')
_SCORE = re.compile(r'(?:[^\W\d]\w*\.)*score\.(weight|bias)')
# Weights of an adapter that was not merged into its model (PEFT: LoRA, DoRA, IA3)
_ADAPTER = re.compile(r'.*\b(lora_\w+|ia3_\w+|base_layer|modules_to_save|original_module)\..*')
DTYPES = tuple(map(np.dtype, (np.float16, ml_dtypes.bfloat16, np.float32)))
Weight = np.ndarray | Tensor
_LISTED = 6  # problems that a message names; a large model would have thousands


def shapes(kind: Kind, config: ModelConfig | trunk.Config, labels: int = 1) -> Params:
  """Returns the parameter tree of a model, with a jax.ShapeDtypeStruct for each array.

  Args:
    kind: the kind of model.
    config: the model's shape.
    labels: the number of labels of a classifier that is a decoder; its config does not tell it.
  """
  if isinstance(config, encoder.EncoderConfig):
    return jax.eval_shape(lambda key: encoder.init(key, config), jax.random.key(0))
  tree = jax.eval_shape(lambda key: trunk.init(key, config), jax.random.key(0))
  if kind != 'causal_lm':
    tree.pop('embed_out', None)
    tree['score'] = {'kernel': jax.ShapeDtypeStruct((config.hidden_size, labels), np.float32)}
  # The norm of these has no bias that the zero could go into.
  if kind == 'reward' and isinstance(config, LlamaConfig):
    tree['score']['bias'] = jax.ShapeDtypeStruct((1,), np.float32)
  return tree


def named_views(family: str, params: Params) -> dict[str, np.ndarray]:
  """Returns every weight under its Hugging Face name, as a view in its orientation there.

  Kernels are [in, out] in our trees and [out, in] in Hugging Face's. Stacked layers become one
  weight per layer.
  """
  views, names = {}, NAMES[family]
  for (root, *path), array in traverse_util.flatten_dict(params).items():
    modules, leaf = path[:-1], path[-1]
    if (root, leaf) == ('score', 'bias'):  # in config.json: transformers' score has no bias
      continue
    layers = enumerate(array) if root == 'blocks' else [(None, array)]
    for layer, weight in layers:
      module = names.module(root, modules, layer)
      views[f'{module}.{_LEAVES[leaf]}'] = weight.T if leaf == 'kernel' else weight
  return views


def _problem(view: np.ndarray, weight: Weight) -> str:
  """Returns why a weight does not fit its parameter, or ''.

  Of a weight that is not read yet, `Tensor` checks that it is finite.
  """
  if weight.shape != view.shape:
    return f'is {list(weight.shape)}, must be {list(view.shape)}'
  if weight.dtype not in DTYPES:
    return f'is {weight.dtype}, must be float16, bfloat16 or float32'
  is_read = isinstance(weight, np.ndarray)
  return 'is not finite' if is_read and not np.isfinite(weight).all() else ''


def to_params(
  kind: Kind,
  config: ModelConfig,
  weights: Iterable[tuple[str, Weight]],
  where: str,
  zero: float = 0.0,
  labels: int = 1,
) -> Params:
  """Returns the parameters that the weights of a file make; known buffers are ignored.

  A parameter has the type of its weights, which takes no more memory than the file does; it is
  float32 if layers that are stacked in it have different types. If weights are left in their files,
  parameters that the current way splits are left there too, as `unread.Unread`.

  Args:
    kind: the kind of model.
    config: the model's shape.
    weights: pairs of name and array, read one at a time or left in the file.
    where: the name of the model in a message.
    zero: reward_zero of config.json: what transformers' score of a reward gives for 0.
    labels: as for `shapes`.

  Raises:
    InputError: weights that are missing, unexpected, of another shape or dtype, or not finite; the
      first of them are listed. Or an adapter that was not merged.
  """
  # Memory that is not written to is not taken: a parameter's type is known with its first weight.
  empty = jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), shapes(kind, config, labels))
  filling = _Filling(model_type(config), empty, kind, where)
  if problems := filling.fill(weights):
    raise InputError(
      f'{where}: the weights do not fit config.json ({len(problems)}): {_listed(problems)}'
    )
  params = traverse_util.unflatten_dict(filling.finished())
  if 'bias' in params.get('score', {}):
    params['score']['bias'][...] = -zero
  return params


def _listed(problems: Sequence[str]) -> str:
  """Joins problems for a message of one line, and counts those that are left out."""
  more = len(problems) - _LISTED
  return '; '.join(problems[:_LISTED]) + (f'; and {more} more' if more > 0 else '')


class _Filling:
  """Copies the weights of a file into the parameters that `views` shows, and lists problems.

  Parameters that the current way splits get nothing: their weights are collected in `parts`.
  """

  def __init__(self, family: str, params: Params, kind: Kind, where: str) -> None:
    self.family, self.names, self.kind, self.where = family, NAMES[family], kind, where
    self.params = traverse_util.flatten_dict(params)
    self.owners: dict[str, tuple[str, ...]] = {}  # the parameter that a weight is a part of
    self.started = set[tuple[str, ...]]()  # parameters that have some of their weights
    self.views: dict[str, np.ndarray] = {}
    self.split = {path for path, array in self.params.items() if sharding.axis_of(array)}
    self.parts: dict[str, Weight] = {}
    for path, array in self.params.items():
      self._show(path, array)
    self.missing, self.problems = set(self.views), list[str]()
    self.prefixes: dict[str, str] = {}  # each prefix, with a name that has it
    self.heads, self.wrappers = list[str](), set[str]()
    self.tied_head: Weight | None = None

  def fill(self, weights: Iterable[tuple[str, Weight]]) -> list[str]:
    """Copies weights into the parameters, and returns the problems."""
    for whole_name, weight in weights:
      self._refuse_adapters(whole_name)
      prefix, name = self._split(whole_name)
      if name in self.views:
        self.prefixes.setdefault(prefix, whole_name)
        self._take(name, weight)
      elif self._is_head(name, whole_name):
        self.heads.append(whole_name)
      elif name == self.names.weight('embed_out'):  # the view of a tied model has none
        self.tied_head = weight
      elif not self.names.unused.fullmatch(name):
        self.problems.append(f'{whole_name} is unexpected')
    self.problems += [f'{name} is missing' for name in self.views if name in self.missing]
    if len(self.prefixes) > 1:
      examples = ' and '.join(list(self.prefixes.values())[:2])
      prefixes = (
        f'weight names have {len(self.prefixes)} different prefixes, for example {examples}'
      )
      self.problems.insert(0, prefixes)
    if not self.problems:
      self._check_tied()
      self._report()
    return self.problems

  def _refuse_adapters(self, name: str) -> None:
    if _ADAPTER.fullmatch(name):
      raise InputError(
        f'{self.where}: contains the weights of an adapter that is not merged (such as {name}); '
        'merge the adapter first (PEFT: merge_and_unload), save the model, and pass that folder'
      )

  def _split(self, name: str) -> tuple[str, str]:
    """Returns the prefix that a wrapper has put before a known name, and that name.

    Parts that begin with _ are wrappers wherever they stand (_fsdp_wrapped_module, _orig_mod): no
    module of transformers is named so. A name that is not known, whatever is taken off, is
    returned whole.
    """
    parts = name.split('.')
    for start, first in enumerate(parts):
      inner = [part for part in parts[start:] if not self._is_wrapper(part)]
      end = '.'.join(inner)
      end = self.names.aliases.get(end, end)
      known = end in self.views or end == self.names.weight('embed_out')
      if not first.startswith('_') and (known or self.names.unused.fullmatch(end)):
        self.wrappers |= {*parts[start:]} - {*inner}
        return ''.join(f'{part}.' for part in parts[:start]), end
    return '', name

  def _is_wrapper(self, part: str) -> bool:
    return part.startswith('_') or part in self.names.wrappers

  def _is_head(self, name: str, whole_name: str) -> bool:
    """Returns whether a weight is of a head next to the model, which no other weight depends on."""
    if _HEADS.fullmatch(whole_name):
      return True
    if self.kind == 'causal_lm':
      return _SCORE.fullmatch(whole_name) is not None
    return name == self.names.weight('embed_out')

  def _take(self, name: str, weight: Weight) -> None:
    path = self.owners[name]
    weight = weight if path in self.split else np.asarray(weight)
    problem = _problem(self.views[name], weight)
    if name not in self.missing:
      problem = 'is there twice'
    self.missing.discard(name)
    if problem:
      self.problems.append(f'{name} {problem}')
    else:
      if path in self.split:
        self._make_room(path, weight.dtype)
        self.parts[name] = weight
      elif path[0] != 'blocks' and path[-1] == 'embedding':  # a weight that is a whole parameter
        self._show(path, np.asarray(weight))
      else:
        self._make_room(path, weight.dtype)
        self.views[name][...] = weight

  def _make_room(self, path: tuple[str, ...], dtype: np.dtype) -> None:
    """Gives a parameter a type that holds its weights so far and one of this type."""
    array = self.params[path]
    if path not in self.started:
      self.started.add(path)
      if array.dtype != dtype:
        self._show(path, np.empty(array.shape, dtype))
    elif array.dtype not in (dtype, np.float32):
      is_empty = path in self.split
      self._show(path, np.empty_like(array, np.float32) if is_empty else array.astype(np.float32))

  def _show(self, path: tuple[str, ...], array: np.ndarray) -> None:
    """Makes an array the parameter at this path."""
    self.params[path] = array
    views = named_views(self.family, traverse_util.unflatten_dict({path: array}))
    self.views |= views
    self.owners |= dict.fromkeys(views, path)

  def finished(self) -> dict[tuple[str, ...], Any]:
    """Returns the parameters; those of which some weights are left in files are left there."""
    names: dict[tuple[str, ...], list[str]] = {path: [] for path in self.split}
    for name, path in self.owners.items():  # layer by layer
      if path in self.split:
        names[path].append(name)
    collected = {
      path: unread.parameter(
        tuple(self.parts[name] for name in of_path),
        stacked=path[0] == 'blocks',
        transposed=path[-1] == 'kernel',
        dtype=self.params[path].dtype,
      )
      for path, of_path in names.items()
    }
    return self.params | collected

  def _check_tied(self) -> None:
    """Refuses an output head that is not the input embedding, if config.json ties the two."""
    if self.tied_head is None:
      return
    embedding = self.names.weight('embed_in')
    own = self.parts.get(embedding, self.views[embedding])
    if not unread.equal(self.tied_head, own):
      head = self.names.weight('embed_out')
      self.problems.append(f'{head} differs from {embedding}, but config.json ties them')

  def _report(self) -> None:
    """Logs the prefix, the wrappers and the heads that other trainers added."""
    if prefix := next(iter(self.prefixes)):
      logging.warning('%s: stripped the prefix %r from all weight names', self.where, prefix)
    if self.wrappers:
      wrappers = ', '.join(sorted(self.wrappers))
      logging.warning('%s: left %s out of weight names', self.where, wrappers)
    if self.heads:
      logging.warning(
        '%s: ignored %s of extra heads (for example %s)',
        self.where,
        terminal.count(len(self.heads), 'weight'),
        self.heads[0],
      )


def from_params(config: ModelConfig, params: Params) -> dict[str, np.ndarray]:
  """Returns the weights, float32, under their Hugging Face names.

  Each array is contiguous, because safetensors silently writes a transposed one wrongly.
  """
  arrays = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
  views = named_views(model_type(config), arrays)
  return {name: np.ascontiguousarray(view) for name, view in views.items()}
