"""LoRA adapters (PEFT), merged into the weights of their base while these are read.

W += scale · B A (Hu et al. 2021, arXiv:2106.09685, section 4.1), in float32 and on the names of
Hugging Face's tensors, so that models of every family can have adapters. An adapter that PEFT would
not merge in exactly this way is refused by name.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import os
import pathlib
import re
from typing import Any

import numpy as np

from irl_jax import settings as settings_lib
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models.huggingface import adapter_config
from irl_jax.models.huggingface import hub
from irl_jax.models.huggingface import weight_files
from irl_jax.models.huggingface.adapter_config import MERGE
from irl_jax.models.huggingface.config import Kind
from irl_jax.models.huggingface.weights import DTYPES
from irl_jax.models.huggingface.weights import Weight

CONFIG = weight_files.ADAPTER
_TASKS: dict[Kind, tuple[str | None, ...]] = {
  'causal_lm': ('CAUSAL_LM', None),
  'reward': ('SEQ_CLS', None),
  'classifier': ('SEQ_CLS', None),
}
_PREFIX = 'base_model.model.'
_FACTOR = re.compile(r'(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.default)?')
# Wrappers that PEFT's module names can contain, around the module whose weight is saved.
_WRAPPERS = re.compile(r'\.(base_layer|modules_to_save(\.default)?)(?=\.)')
_INPUT_EMBEDDINGS, _OUTPUT_EMBEDDINGS = ('embed_in', 'embed_tokens'), ('embed_out', 'lm_head')
_LISTED = 6  # names that a message lists


@dataclasses.dataclass
class Change:
  """An adapter's change to one weight of its base: a replacement, low-rank factors, or both.

  The weight is [out, in], or the embedding [V, D] if `embedding`.
  """

  replacement: np.ndarray | None = None
  a: np.ndarray | None = None  # [r, in]
  b: np.ndarray | None = None  # [out, r]
  embedding: bool = False  # B A is [D, V], the transpose of the weight

  def delta(self, scale: float) -> np.ndarray:
    """Returns scale · B A, float32, in the weight's orientation; it has both factors."""
    assert self.a is not None and self.b is not None
    product = np.asarray(self.b, np.float32) @ np.asarray(self.a, np.float32)
    return (product.T if self.embedding else product) * np.float32(scale)


@dataclasses.dataclass(frozen=True)
class Adapter:
  """An adapter whose settings can be merged; its weights are read later."""

  where: str  # its folder or hub id, for messages
  folder: pathlib.Path
  base: str  # the folder or hub id of its base
  settings: dict[str, Any]  # adapter_config.json as it stands

  @property
  def has_tokenizer(self) -> bool:
    """True if the adapter's folder has a tokenizer of its own."""
    return any((self.folder / name).is_file() for name in ('tokenizer.json', 'vocab.json'))

  def check_task(self, kind: Kind) -> None:
    """Refuses an adapter that was trained for another kind of model than its base is.

    Raises:
      InputError: names the task.
    """
    task = self.settings.get('task_type')
    if task not in _TASKS[kind]:
      raise InputError(
        f'{self.where}: {CONFIG}: task_type = {task!r}, but its base {self.base} is a {kind}; '
        f'{MERGE}'
      )

  def downloaded(self) -> 'Adapter':
    """Returns the adapter with all its files, weights too; only those of the hub are fetched.

    Raises:
      InputError: the hub does not answer, or there are no weights.
    """
    return dataclasses.replace(self, folder=hub.resolve(self.where, 'all'))

  def resized(self, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the base's config.json with the vocabulary of embeddings that the adapter replaces.

    Args:
      raw: the base's config.json as it stands.

    Raises:
      InputError: as `changes`.
    """
    rows = [
      len(change.replacement)
      for name, change in self.changes().items()
      if change.replacement is not None and self._is_saved(name) and _is_embedding(name)
    ]
    return {**raw, 'vocab_size': rows[0]} if rows else {**raw}

  def changes(self) -> dict[str, Change]:
    """Reads the adapter's weights -> what they change, by the name of the base's weight.

    Raises:
      InputError: the file is missing or damaged, or a tensor in it cannot be merged.
    """
    changes: dict[str, Change] = {}
    unknown = []
    for whole_name, array in weight_files.read(weight_files.adapter_file(self.folder)):
      name = whole_name.removeprefix(_PREFIX)
      factor = _FACTOR.fullmatch(name.removesuffix('.weight'))
      if array.dtype not in DTYPES or ('lora_' in name and not factor):
        unknown.append(whole_name)
      elif factor:
        change = changes.setdefault(f'{factor["module"]}.weight', Change())
        change.embedding = bool(factor['embedding'])
        setattr(change, factor['side'].lower(), array)
      else:
        changes.setdefault(_WRAPPERS.sub('', name), Change()).replacement = array
    unpaired = [
      name for name, change in changes.items() if (change.a is None) != (change.b is None)
    ]
    if unknown or unpaired:
      reason = (
        'contains tensors that cannot be merged' if unknown else 'lacks one of lora_A and lora_B'
      )
      raise InputError(f'{self.where}: {reason} ({_listed(unknown or unpaired)}); {MERGE}')
    return changes

  def merge(
    self, weights: Iterable[tuple[str, Weight]], tied: bool
  ) -> Iterator[tuple[str, Weight]]:
    """Yields the base's weights with the adapter merged into them, one at a time.

    Weights that the adapter leaves alone are yielded as they are; the others are float32.

    Args:
      weights: pairs of name and array, of the base; those that are left in their file and that the
        adapter changes are read.
      tied: whether the base's output head is its input embedding.

    Raises:
      InputError: a weight of the adapter does not fit the base, or has no counterpart there.
    """
    changes = self.changes()
    if tied:
      self._check_tied(changes)
    for name, weight in weights:
      own = next((end for end in _endings(name) if end in changes), None)
      yield name, self._changed(own, weight, changes.pop(own)) if own else weight
    # The head of a tied model is not among its weights; it is compared with the embedding.
    is_head = lambda name: tied and _is_embedding(name) and changes[name].replacement is not None
    if rest := [name for name in changes if not is_head(name)]:
      raise InputError(
        f'{self.where}: adapts weights that its base {self.base} does not have ({_listed(rest)}); '
        f'name the base that it was trained from: {self.where}+BASE'
      )
    for name, change in changes.items():
      assert change.replacement is not None
      yield name, change.replacement

  def _changed(self, name: str, weight: Weight, change: Change) -> Weight:
    """Returns one weight of the base as the adapter makes it."""
    new = weight if change.replacement is None else change.replacement
    if new.shape != weight.shape and not (self._is_saved(name) and _is_embedding(name)):
      raise InputError(
        f'{self.where}: {name} is {list(new.shape)}, in its base {self.base} {list(weight.shape)}: '
        f'resized embeddings are read only if modules_to_save names them; {MERGE}'
      )
    if change.a is None or change.b is None:
      return new
    rank, scale = self._rank_and_scale(name.removesuffix('.weight'))
    shapes = list(change.a.shape), list(change.b.shape)
    fits = change.a.ndim == change.b.ndim == 2 and change.a.shape[0] == change.b.shape[1] == rank
    product = (change.b.shape[0], change.a.shape[-1])
    if not fits or (product[::-1] if change.embedding else product) != new.shape:
      raise InputError(
        f'{self.where}: lora_A {shapes[0]} and lora_B {shapes[1]} of rank {rank} do not fit '
        f'{name}, which is {list(new.shape)} in its base {self.base}; name the base that it was '
        f'trained from: {self.where}+BASE'
      )
    return np.asarray(new, np.float32) + change.delta(scale)

  def _rank_and_scale(self, module: str) -> tuple[int, float]:
    """Returns r and what B A is multiplied by, for one module.

    As in PEFT, the first pattern whose end of a name matches the module's decides.
    """
    of = lambda patterns, default: next(
      (value for key, value in patterns.items() if re.fullmatch(rf'(.*\.)?({key})', module)),
      default,
    )
    rank = of(self.settings.get('rank_pattern') or {}, self.settings['r'])
    alpha = of(self.settings.get('alpha_pattern') or {}, self.settings['lora_alpha'])
    return rank, alpha / (rank**0.5 if self.settings.get('use_rslora') else rank)

  def _is_saved(self, name: str) -> bool:
    """Returns whether modules_to_save names the module of a weight."""
    module = name.removesuffix('.weight')
    return any(module.endswith(saved) for saved in self.settings.get('modules_to_save') or [])

  def _check_tied(self, changes: Mapping[str, Change]) -> None:
    """Refuses changes that would untie an output head that is the input embedding."""
    both = [name for name in changes if _is_embedding(name)]
    if any(changes[name].a is not None for name in both) or len(both) == 1:
      raise InputError(
        f'{self.where}: changes {_listed(both)}, but its base {self.base} has tie_word_embeddings, '
        'and merged into both it would be another model; save it untied, merged with PEFT '
        '(merge_and_unload), and pass that folder'
      )


def split(spec: str) -> tuple[str, str]:
  """Returns the model and the base of `ADAPTER+BASE`; the base is '' if none is named."""
  if '+' not in spec or os.path.isdir(settings_lib.local_path(spec, 'model')):
    return spec, ''
  place, _, base = spec.partition('+')
  return place, base


def find(spec: str) -> Adapter | None:
  """Returns the adapter that a spec names, or None if it names a whole model.

  As in transformers, a folder with adapter_config.json is an adapter. Its weights are not read, and
  those of a hub adapter are not downloaded.

  Args:
    spec: a folder, a hub id, or `id@revision`; an adapter's base may follow after a `+`.

  Raises:
    ConfigError: a base is named for a model that is not an adapter, or a path does not exist.
    InputError: the adapter cannot be merged, its base cannot be found, or the hub does not answer.
  """
  where, base = split(spec)
  folder = hub.resolve(where, 'config')
  if not (folder / CONFIG).is_file():
    if base:
      raise ConfigError(
        f'{spec!r}: {where} is not an adapter (it has no {CONFIG}), so it has no base; remove '
        f'+{base}'
      )
    return None
  settings = weight_files.read_json(folder / CONFIG)
  adapter_config.check(settings, where)
  return Adapter(where, folder, base or _base_of(settings, folder, where), settings)


def base_folder(adapter: Adapter, part: hub.Part) -> pathlib.Path:
  """Returns the local folder of an adapter's base, which `part` of is downloaded from the hub.

  Raises:
    InputError: there is none, the hub does not answer, or it is an adapter as well.
  """
  try:
    folder = hub.resolve(adapter.base, part)
  except (ConfigError, InputError) as error:
    raise InputError(
      f'{adapter.where}: its base: {error}. To name another base: {adapter.where}+BASE'
    ) from error
  if (folder / CONFIG).is_file():
    raise InputError(
      f'{adapter.where}: its base {adapter.base} is an adapter too; merge that one first with PEFT '
      f'(merge_and_unload), and name the merged folder: {adapter.where}+BASE'
    )
  return folder


def _base_of(settings: Mapping[str, Any], folder: pathlib.Path, where: str) -> str:
  """Returns the base that an adapter names: a folder if there is one, else a hub id.

  A relative path may have been written in the adapter's folder, next to it, or elsewhere; an
  absolute one on another machine. There a folder of the same name next to the adapter is meant.

  Raises:
    InputError: it names none, or one that is not here.
  """
  named, revision = settings.get('base_model_name_or_path'), settings.get('revision')
  if not isinstance(named, str) or not named:
    raise InputError(f'{where}: {CONFIG} names no base; name it yourself: {where}+BASE')
  is_hub_id = hub.is_id(named)
  path = pathlib.Path(os.path.expanduser(named))
  # An absolute path replaces what it is joined to.
  candidates = [path, folder / path, folder.parent / path]
  candidates += [] if is_hub_id else [folder.parent / path.name]
  for candidate in candidates:
    if candidate.is_dir() and candidate.resolve() != folder.resolve():
      return str(candidate)
  if not is_hub_id:
    raise InputError(
      f'{where}: its base {named!r} is not here; copy its folder next to the adapter, or name the '
      f'base yourself: {where}+BASE'
    )
  return f'{named}@{revision}' if isinstance(revision, str) and revision else named


def _endings(name: str) -> Iterator[str]:
  """Yields a weight's name, and what is left of it without what wrappers add (weights.py).

  PEFT names the head of a GPT-NeoX as transformers 5 does in memory, not as files do.
  """
  parts = [part for part in name.split('.') if not part.startswith('_')]
  yield from ('.'.join(parts[start:]) for start in range(len(parts)))
  if name.endswith('embed_out.weight'):
    yield 'lm_head.weight'


def _is_embedding(name: str) -> bool:
  """Returns whether a weight is an input embedding or the output head."""
  *_, module, leaf = ('', *name.split('.'))
  return leaf == 'weight' and module in _INPUT_EMBEDDINGS + _OUTPUT_EMBEDDINGS


def _listed(names: list[str]) -> str:
  """Returns the first names, for a message of one line."""
  return ', '.join(names[:_LISTED]) + (' …' if len(names) > _LISTED else '')
