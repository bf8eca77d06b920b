"""Models in memory with everything needed to run them, loaded from a folder or the hub."""

import dataclasses
import json
import pathlib
from typing import Any
from typing import Generic
from typing import TypeVar

from absl import logging
import numpy as np
import safetensors
import safetensors.numpy

from irl_jax import settings
from irl_jax.data.backends import special_tokens
from irl_jax.errors import CheckpointError
from irl_jax.errors import InputError
from irl_jax.models import huggingface
from irl_jax.models import trunk
from irl_jax.models.encoder import EncoderConfig
from irl_jax.models.huggingface.config import Kind
from irl_jax.runtime import atomic
from irl_jax.runtime import sharding

__all__ = (
  'KINDS',
  'Classifier',
  'Decoder',
  'Kind',
  'Pretrained',
  'base_of',
  'describe',
  'fingerprint',
  'kind_of',
  'label_names',
  'load',
  'load_classifier',
  'load_language_model',
  'load_tokenizer',
  'read_config',
  'save',
  'special_tokens',
  'toxic_label',
)
KINDS = huggingface.config.KINDS
ConfigType = TypeVar('ConfigType', bound=trunk.Config | EncoderConfig)


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained(Generic[ConfigType]):
  """A model with everything needed to run it.

  `Pretrained` alone is a model of any kind. Code that reads the fields of one architecture asks
  for a `Decoder` or a `Classifier`. Two models are equal only if they are the same object, so a
  model can be the key of a cache.
  """

  kind: Kind
  config: ConfigType
  # Nested; of the types that the weights are stored in, or float32 if an adapter changed them. With
  # fsdp large ones may still be in their files (runtime/unread.py)
  params: dict[str, Any]
  tokenizer: Any  # a fast tokenizer of transformers; its padding is not its EOS
  # config.json as it was read; empty for a model that was made here
  hf_config: dict[str, Any] = dataclasses.field(default_factory=dict)
  source: str = ''  # the folder or hub id that it was loaded from; '' for one that was made here
  # Ids that are left out of sampling, in addition to padding and ids without a token
  never_sampled: tuple[int, ...] = ()


# A language model, a recovered reward, or a classifier that was made of a language model
Decoder = Pretrained[trunk.Config]
Classifier = Pretrained[EncoderConfig]


def read_config(spec: str) -> dict[str, Any]:
  """Reads a model's config.json, unchanged; from a hub repository, nothing else is downloaded.

  That of an adapter is its base's.

  Args:
    spec: a folder, a hub id, or `id@revision`; `ADAPTER+BASE` names the base of an adapter, too.

  Raises:
    ConfigError: spec is a path that does not exist.
    InputError: there is no readable config.json, an adapter that cannot be merged, or the hub does
      not answer.
  """
  adapter = huggingface.adapter.find(spec)
  return huggingface.weight_files.read_json(_folder(spec, adapter, 'config') / 'config.json')


def base_of(spec: str) -> str:
  """Returns the folder or hub id of the base that an adapter is merged into; '' for a whole model.

  Errors are those of `read_config`.
  """
  adapter = huggingface.adapter.find(spec)
  return adapter.base if adapter else ''


def fingerprint(spec: str) -> tuple[object, ...]:
  """Returns a value that changes whenever the files of a model, or of an adapter's base, do.

  Errors are those of `read_config`.
  """
  place, _ = huggingface.adapter.split(spec)
  return tuple(map(huggingface.hub.fingerprint, filter(None, (place, base_of(spec)))))


def kind_of(spec: str) -> Kind:
  """Returns the kind of a model from its config.json alone; errors are those of `read_config`."""
  return huggingface.config.kind_of(read_config(spec), spec)


def describe(spec: str, kinds: tuple[Kind, ...] = KINDS) -> Pretrained:
  """Loads a model without its weights, which are neither read nor downloaded: `params` is {}.

  Only the weights of an adapter, which are small, are downloaded.

  Args:
    spec: as for `read_config`.
    kinds: the kinds of model to accept.

  Raises:
    ConfigError: spec is a path that does not exist.
    InputError: a model of another kind, a tokenizer that is damaged or does not fit the model, or a
      hub that does not answer.
  """
  return _open(spec, kinds, 'tokenizer')[0]


def load(spec: str, kinds: tuple[Kind, ...] = KINDS) -> Pretrained:
  """Loads a model from a Hugging Face folder or from the hub; an adapter is merged into its base.

  With fsdp, large parameters stay in their safetensors files until they are placed (unread.py).

  Args:
    spec: as for `read_config`.
    kinds: the kinds of model to accept.

  Raises:
    ConfigError: spec is a path that does not exist.
    InputError: as `describe`, or weights that are missing, damaged, unsafe or do not fit.
  """
  model, folder, adapter = _open(spec, kinds, 'all')
  stream = huggingface.weight_files.stream(folder, unread=sharding.current().splits)
  if adapter:
    logging.info('%s: merged into its base %s', adapter.where, adapter.base)
    stream = adapter.merge(stream, getattr(model.config, 'tie_word_embeddings', False))
  zero = huggingface.config.reward_zero(model.hf_config, spec)
  labels = len(label_names(model)) if model.kind == 'classifier' else 1
  params = huggingface.weights.to_params(model.kind, model.config, stream, spec, zero, labels)
  return dataclasses.replace(model, params=params)


def load_language_model(spec: str) -> Decoder:
  """Loads a causal language model; errors are those of `load`."""
  return load(spec, ('causal_lm',))


def load_classifier(spec: str) -> Classifier:
  """Loads a text classifier; errors are those of `load`."""
  return load(spec, ('classifier',))


def load_tokenizer(spec: str, kinds: tuple[Kind, ...] = KINDS) -> Any:
  """Loads the tokenizer of a model, without its weights; errors are those of `describe`.

  Returns:
    A fast tokenizer of transformers that knows EOS and padding, which differ.
  """
  return describe(spec, kinds).tokenizer


def _folder(
  spec: str, adapter: huggingface.adapter.Adapter | None, part: huggingface.hub.Part
) -> pathlib.Path:
  """Returns the folder that holds this part of a model, or of an adapter's base."""
  if adapter:
    return huggingface.adapter.base_folder(adapter, part)
  return huggingface.hub.resolve(spec, part)


def _open(
  spec: str, kinds: tuple[Kind, ...], part: huggingface.hub.Part
) -> tuple[Pretrained, pathlib.Path, huggingface.adapter.Adapter | None]:
  """Returns a model without its weights, the folder that holds this part of it, and its adapter.

  Of an adapter the folder is its base's.
  """
  # config.json comes first: a model that cannot be used is refused before it is downloaded.
  adapter = huggingface.adapter.find(spec)
  raw = huggingface.weight_files.read_json(_folder(spec, adapter, 'config') / 'config.json')
  if adapter:
    adapter = adapter.downloaded()
    raw = adapter.resized(raw)
  kind, config = huggingface.config.parse(raw, spec)
  if kind not in kinds:
    raise InputError(
      f'{spec}: is a {kind} ({huggingface.config.architecture(kind, config)}); must be '
      f'{" or ".join(kinds)}'
    )
  folder = _folder(spec, adapter, part)
  tokenizer_folder = folder
  if adapter:
    adapter.check_task(kind)
    tokenizer_folder = adapter.folder if adapter.has_tokenizer else folder
  if not isinstance(config, EncoderConfig):
    config = huggingface.generation.with_ends(config, folder, spec)
  tokenizer = huggingface.tokenizer.load(tokenizer_folder, config)
  if not isinstance(config, EncoderConfig):
    config = huggingface.generation.with_tokens_of(config, tokenizer)
  if kind == 'causal_lm':
    huggingface.notes.report(tokenizer, spec)
  return Pretrained(kind, config, {}, tokenizer, raw, spec), folder, adapter


def toxic_label(model: Pretrained, chosen: huggingface.labels.Label = '') -> int:
  """Returns the index of a classifier's toxic label.

  Args:
    model: a classifier.
    chosen: the label's name or number; '': it is found by the names of the labels.

  Raises:
    ConfigError: the classifier has no such label.
    InputError: the names do not say which label is toxic.
  """
  where = model.source or 'the classifier'
  return huggingface.labels.toxic_label(label_names(model), where, chosen)


def label_names(model: Pretrained) -> tuple[str, ...]:
  """Returns the names of a classifier's labels, in the order of its logits."""
  raw = model.hf_config
  return huggingface.config.labels(raw, model.source) if raw else model.config.labels


def save(folder: str | pathlib.Path, model: Pretrained, card: str) -> None:
  """Writes a Hugging Face folder that transformers loads.

  A folder of the same name is replaced once the new one is complete.

  Args:
    folder: the folder to write.
    model: its kind, config, params (arrays of NumPy or JAX) and tokenizer are written.
    card: the text of README.md.

  Raises:
    CheckpointError: the folder cannot be written, or does not read back as it was written.
  """
  folder = pathlib.Path(settings.local_path(folder, 'folder'))
  try:
    with atomic.folder(folder) as partial:
      _write(partial, model, card)
  except (OSError, safetensors.SafetensorError) as error:
    reason = getattr(error, 'strerror', None) or error  # an OSError names the file again
    raise CheckpointError(f'{folder}: cannot be written: {reason}') from error


def _write(folder: pathlib.Path, model: Pretrained, card: str) -> None:
  raw = huggingface.config.to_json(model.kind, model.config, model.tokenizer.pad_token_id)
  if 'bias' in model.params.get('score', {}):
    raw['reward_zero'] = -float(model.params['score']['bias'][0])
  weights = huggingface.weights.from_params(model.config, model.params)
  config_file, weights_file = folder / 'config.json', folder / 'model.safetensors'
  _write_json(config_file, raw)
  (folder / 'README.md').write_text(card, encoding='utf-8')
  if model.kind == 'causal_lm':
    _write_json(
      folder / huggingface.generation.FILE,
      huggingface.generation.to_json(model.config, model.tokenizer.pad_token_id),
    )
  model.tokenizer.save_pretrained(folder)
  safetensors.numpy.save_file(weights, weights_file, metadata={'format': 'pt'})
  # Safetensors makes the file readable only by its owner
  weights_file.chmod(config_file.stat().st_mode)
  _check_written(folder, model, weights)


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
  path.write_text(json.dumps(value, indent=2, sort_keys=True) + '\n', encoding='utf-8')


def _check_written(folder: pathlib.Path, model: Pretrained, weights: dict[str, np.ndarray]) -> None:
  """Reads a folder back and compares it with the model, bit for bit.

  Neither safetensors nor transformers reports every failed write.
  """
  try:
    raw = huggingface.weight_files.read_json(folder / 'config.json')
    same_config = huggingface.config.parse(raw, str(folder)) == (model.kind, model.config)
    tokenizer = huggingface.tokenizer.load(folder, model.config)
    same = {
      name: np.array_equal(array.view(np.uint32), weights[name].view(np.uint32))
      for name, array in huggingface.weight_files.read(folder / 'model.safetensors')
    }
  except InputError as error:
    raise CheckpointError(f'{folder}: cannot be read back after writing: {error}') from error
  wrong = [] if same_config else ['config.json']
  wrong += [name for name in weights if not same.get(name)]
  probe = lambda it: (it.get_vocab(), it('Hello world, how are you?')['input_ids'])
  if probe(tokenizer) != probe(model.tokenizer):
    wrong.append('the tokenizer')
  if wrong:
    raise CheckpointError(f'{folder}: does not read back as it was written: {", ".join(wrong)}')
