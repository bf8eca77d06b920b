"""The local folder of a model, downloaded from the hub into Hugging Face's cache if necessary."""

from collections.abc import Sequence
import fnmatch
import os
import pathlib
import re
from typing import Literal

import huggingface_hub

from irl_jax import settings
from irl_jax.errors import ConfigError
from irl_jax.errors import DISK_FULL
from irl_jax.errors import InputError
from irl_jax.errors import unwritable
from irl_jax.models.huggingface import sentence_piece
from irl_jax.models.huggingface import weight_files
from irl_jax.runtime import hub_cache
from irl_jax.runtime import hub_limits

# The revision of a repository that is used if the user names none.
PINNED = {'s-nlp/roberta_toxicity_classifier': '048c25bb1e199b98802784f96325f4840f22145d'}
Part = Literal['config', 'tokenizer', 'all']  # which part of a repository to download
TIMEOUT = 5  # seconds to wait for the first answer of the hub
_HUB_ID = re.compile(r'(?P<repo>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[^@]+))?')
_SMALL = (
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'vocab.txt',
  'chat_template.jinja',
  *sentence_piece.OFFSETS,
  weight_files.ADAPTER,
)
_WEIGHTS = weight_files.SINGLE + weight_files.INDEXED
_INSTEAD = "Pass a local folder instead, with config.json, the weights and the tokenizer's files"


def is_id(spec: str) -> bool:
  """Returns whether a model's name can be a hub id, or `id@revision`."""
  return _HUB_ID.fullmatch(spec) is not None and not spec.startswith(('.', '~'))


def resolve(spec: str, part: Part = 'all') -> pathlib.Path:
  """Returns the local folder of a model.

  Args:
    spec: a folder, a hub id, or `id@revision`.
    part: what to download of a hub repository: the config alone; the tokenizer as well; or all,
      with the weights. Of an adapter, all has its weights, and the tokenizer may be its base's.

  Raises:
    ConfigError: spec is a path that does not exist, or neither a path nor a hub id.
    InputError: the hub does not answer, or refuses.
  """
  spec = settings.local_path(spec, 'model')
  if os.path.isdir(spec):
    return pathlib.Path(spec)
  match = _HUB_ID.fullmatch(spec)
  if os.path.exists(spec) or not match or not is_id(spec):
    raise ConfigError(
      f'{spec!r}: is neither a folder nor a hub id; pass a Hugging Face folder, a hub id, or '
      'id@revision'
    )
  repo = match['repo']
  revision = match['revision'] or PINNED.get(repo)
  folder = _download(repo, revision, part)
  try:
    _check_whole(folder, part)
  except InputError as error:
    raise InputError(
      f'hub model {repo} (revision {revision or "main"}): {error}. {_INSTEAD}'
    ) from error
  return folder


def cached(spec: str) -> pathlib.Path | None:
  """Returns the cached folder of a hub model, named after its commit; None: there is none."""
  match = _HUB_ID.fullmatch(spec)
  if not match or os.path.exists(os.path.expanduser(spec)):
    return None
  revision = match['revision'] or PINNED.get(match['repo'], '')
  return hub_cache.snapshot(match['repo'], revision, 'model')


def fingerprint(spec: str) -> tuple[str, tuple[tuple[str, int, int], ...]]:
  """Returns a value that changes whenever the files of a model do.

  It is the folder with the names, times and sizes of its files. The folder of a hub model is named
  by its commit, so its files are ignored, because they may still be downloading.

  Raises:
    ConfigError, InputError: as `resolve`.
  """
  spec = settings.local_path(spec, 'model')
  folder = resolve(spec, 'config').resolve()
  if not os.path.isdir(spec):
    return str(folder), ()
  files = sorted(path for path in folder.iterdir() if path.is_file())
  stats = ((path.name, path.stat()) for path in files)
  return str(folder), tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


def _check_whole(folder: pathlib.Path, part: Part) -> None:
  """Refuses a repository without the files that every model, or adapter, has, and names them."""
  has = lambda *names: all((folder / name).exists() for name in names)
  if has(weight_files.ADAPTER):
    if part == 'all':
      weight_files.adapter_file(folder)
    return
  missing = [] if has('config.json') else ['config.json']
  vocabularies = (('tokenizer.json',), ('vocab.json', 'merges.txt'), ('vocab.txt',))
  words = (*vocabularies, *((name,) for name in sentence_piece.OFFSETS))
  if part != 'config' and not any(has(*names) for names in words):
    missing.append('tokenizer.json (or vocab.json and merges.txt, or vocab.txt)')
  if part == 'all' and not any(map(has, _WEIGHTS)):
    missing.append(' or '.join(weight_files.SINGLE))
  if missing:
    raise InputError(f'has no {", no ".join(missing)}')
  if part == 'all':
    weight_files.find_files(folder)  # every shard that an index names


def _download(repo: str, revision: str | None, part: Part) -> pathlib.Path:
  try:
    # One request without retries, so that an unreachable hub costs seconds. Then use the cache.
    listing = huggingface_hub.HfApi().model_info(repo, revision=revision, timeout=TIMEOUT)
  except Exception as error:  # network libraries raise many types, and they change
    return _cached(repo, revision, error)
  present = [sibling.rfilename for sibling in listing.siblings or []]
  wanted = {
    'config': ('config.json', weight_files.ADAPTER),
    'tokenizer': _SMALL,
    'all': _SMALL + _weights(present),
  }[part]
  try:
    # Ask by the revision's name, not its hash: then the cache knows the name when offline.
    with hub_limits.limited():
      folder = huggingface_hub.snapshot_download(
        repo, revision=revision, allow_patterns=list(wanted)
      )
  except Exception as error:
    if isinstance(error, OSError) and error.errno in DISK_FULL:
      raise unwritable(f'hub model {repo} cannot be downloaded', error) from error
    files = [name for name in present if any(fnmatch.fnmatch(name, pattern) for pattern in wanted)]
    raise InputError(_explain(repo, revision, error, files)) from error
  return pathlib.Path(folder)


def _weights(present: list[str]) -> tuple[str, ...]:
  """Returns patterns of the weight files to fetch, of one of the formats in the repository."""
  if weight_files.ADAPTER in present:
    return next(((name,) for name in weight_files.ADAPTER_WEIGHTS if name in present), ())
  if any(name in present for name in (weight_files.SINGLE[0], weight_files.INDEXED[0])):
    return ('model.safetensors', 'model-*.safetensors', 'model.safetensors.index.json')
  return ('pytorch_model.bin', 'pytorch_model-*.bin', 'pytorch_model.bin.index.json')


def _cached(repo: str, revision: str | None, reason: Exception) -> pathlib.Path:
  """Returns the cached folder of a repository; if there is none, the error explains `reason`."""
  try:
    return pathlib.Path(
      huggingface_hub.snapshot_download(
        repo, revision=revision, allow_patterns=['config.json'], local_files_only=True
      )
    )
  except Exception as error:
    raise InputError(_explain(repo, revision, reason)) from error


def _explain(repo: str, revision: str | None, error: Exception, files: Sequence[str] = ()) -> str:
  """Returns an error message: why the files cannot be downloaded, and what to do instead."""
  status = getattr(getattr(error, 'response', None), 'status_code', None)
  known = {
    401: 'it does not exist, or is private and needs a token (HF_TOKEN)',
    403: 'it is gated: ask for access on its page',
    404: 'there is no such repository or revision',
    429: 'the hub is rate-limiting requests (HTTP 429); try again later',
  }
  reason = known.get(status or 0) or (str(error).strip() or type(error).__name__).splitlines()[0]
  model = f'hub model {repo} (revision {revision or "main"})'
  subject = f'{", ".join(files)} of {model}' if files else model
  return f'{subject} cannot be downloaded: {reason}. {_INSTEAD}'
