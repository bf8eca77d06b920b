"""Models on the devices, kept for the next call of the Python API.

A folder whose files change is read again.
"""

import dataclasses
import functools
import os

import numpy as np

from irl_jax import rewards
from irl_jax import settings
from irl_jax.data import chat_texts
from irl_jax.models import chat_templates
from irl_jax.models import comparable
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.runtime import parallel
from irl_jax.training import arguments

Model = arguments.Model
CACHED = 2  # models that `score` and `generate` keep: a policy and a reward, or two policies
DTYPE = np.float32  # the type of all our results


def models(model: Model) -> tuple[pretrained.Pretrained, ...]:
  """Returns a model, or the members of an ensemble, with the parameters on all devices."""
  if isinstance(model, pretrained.Pretrained):
    return (_placed(model),)
  specs = _specs(settings.local_path(model, 'model'))
  return _loaded(specs, tuple(map(pretrained.fingerprint, specs)))


def pair(model: Model, reference: Model) -> tuple[pretrained.Decoder, pretrained.Decoder]:
  """Returns two language models with their parameters on all devices.

  Arrays that are equal in both are there once, such as what an adapter leaves alone in its base.

  Raises:
    InputError: the two do not give a text the same tokens.
  """
  both = (model, reference)
  return _pair(*map(_key, both), *map(_version, both))


def is_ensemble(model: Model) -> bool:
  """Returns True for the folder of an ensemble, whose members are models."""
  if isinstance(model, pretrained.Pretrained):
    return False
  config = pretrained.read_config(settings.local_path(model, 'model'))
  return config.get('model_type') == 'irl_jax_ensemble'


def chat_model(model: Model) -> chat_texts.ChatModel:
  """Returns how a model reads conversations; its weights are not read.

  Raises:
    ConfigError: the path is a folder that does not exist.
    InputError: there is no such model, or the members of an ensemble have different chat templates.
  """
  if isinstance(model, pretrained.Pretrained):
    return chat_templates.chat_model((model,), model.source or 'the model')
  path = settings.local_path(model, 'model')
  return chat_templates.chat_model(tuple(map(pretrained.describe, _specs(path))), path)


def fingerprint(model: str | os.PathLike[str]) -> tuple[object, ...]:
  """Returns a value that changes whenever the files of a model, or of an ensemble's members, do.

  Raises:
    ConfigError: the path is a folder that does not exist.
    InputError: the hub does not answer.
  """
  return tuple(map(pretrained.fingerprint, _specs(settings.local_path(model, 'model'))))


def _specs(model: str) -> tuple[str, ...]:
  """Returns the model's path, or those of an ensemble's members."""
  return tuple(map(str, rewards.members_of(model))) if is_ensemble(model) else (model,)


@functools.lru_cache(maxsize=CACHED)
def _placed(model: pretrained.Pretrained) -> pretrained.Pretrained:
  return _on_devices(model)


def _on_devices(model: pretrained.Pretrained) -> pretrained.Pretrained:
  params = parallel.replicated(cut_lib.stored(model.params, DTYPE))
  return dataclasses.replace(model, params=params)


@functools.lru_cache(maxsize=CACHED)
def _loaded(
  specs: tuple[str, ...], fingerprints: tuple[object, ...]
) -> tuple[pretrained.Pretrained, ...]:
  """Loads models; `fingerprints` makes the cache drop models whose files have changed."""
  del fingerprints
  return tuple(_on_devices(pretrained.load(spec)) for spec in specs)


def _key(model: Model) -> str | pretrained.Pretrained:
  """Returns a path as a string, or a loaded model as it is."""
  if isinstance(model, pretrained.Pretrained):
    return model
  return settings.local_path(model, 'model')


def _version(model: Model) -> tuple[object, ...]:
  """Returns the fingerprint of a path, and () for a loaded model."""
  return () if isinstance(model, pretrained.Pretrained) else fingerprint(model)


@functools.lru_cache(maxsize=1)
def _pair(
  model: str | pretrained.Pretrained,
  reference: str | pretrained.Pretrained,
  *fingerprints: tuple[object, ...],
) -> tuple[pretrained.Decoder, pretrained.Decoder]:
  """Loads two models; `fingerprints` as for `_loaded`."""
  del fingerprints
  first, second = (
    one if isinstance(one, pretrained.Pretrained) else pretrained.load(one, ('causal_lm',))
    for one in (model, reference)
  )
  comparable.check_vocabularies(first, second)
  both = comparable.shared(first, second)
  placed = parallel.replicated(cut_lib.stored([one.params for one in both], DTYPE))
  first, second = (dataclasses.replace(one, params=own) for one, own in zip(both, placed))
  return first, second
