"""Building blocks of settings: fields with a range, sections that check them, and paths.

`~` in a path is the home folder, because no shell expands it in `--workdir=~/runs`. Buckets and
variables of a shell are refused. Taken literally, `~`, `gs://bucket` and `$HOME` would become
folders with these names.
"""

import codecs
from collections.abc import Sequence
import dataclasses
import errno
import math
import os
import pathlib
import re
from typing import Any
from typing import ClassVar

from irl_jax.errors import ConfigError

_SURROGATE = re.compile('[\ud800-\udfff]')  # UTF-8 cannot encode a lone surrogate
# Codecs of Python that are not for text files
_NOT_OF_FILES = ('idna', 'punycode', 'unicode-escape', 'raw-unicode-escape')
# Path('gs://x') is 'gs:/x'.
_ELSEWHERE = re.compile(
  r'([a-z][a-z0-9+.-]+)://|(gs|gcs|s3|hf|az|abfss?|hdfs|https?|dbfs|file):/', re.IGNORECASE
)
# What only a shell replaces: variables, and the home folder of a user that does not exist
_OF_A_SHELL = re.compile(r'\$[A-Za-z_]\w*|\$\{\w+\}|^~[^/]*(?=/)')


def setting(
  default: Any,
  *,
  low: float | None = None,
  above: float | None = None,
  high: float | None = None,
  choices: tuple[Any, ...] | None = None,
) -> Any:
  """Declares a field with its allowed values: low <= value <= high, value > above, or a choice."""
  return dataclasses.field(
    default=default, metadata=dict(low=low, above=above, high=high, choices=choices)
  )


def describe_range(
  low: float | None, above: float | None, high: float | None, choices: Sequence[Any] | None
) -> str:
  """Describes the allowed values, for an error message."""
  if choices is not None:
    return 'must be one of ' + ', '.join(map(str, choices))
  bounds = [
    f'{sign} {bound}'
    for sign, bound in (('>=', low), ('>', above), ('<=', high))
    if bound is not None
  ]
  return 'must be ' + (' and '.join(bounds) or 'finite')


def in_range(
  value: Any,
  low: float | None,
  above: float | None,
  high: float | None,
  choices: Sequence[Any] | None,
) -> bool:
  """Returns True if the value is allowed; a float must be finite."""
  if choices is not None:
    return value in choices
  if isinstance(value, float) and not math.isfinite(value):
    return False
  return (
    (low is None or value >= low)
    and (above is None or value > above)
    and (high is None or value <= high)
  )


@dataclasses.dataclass(frozen=True)
class Section:
  """A group of fields whose types and ranges are checked when it is built.

  Raises:
    ConfigError: a value has the wrong type or lies outside its range; the message names the field
      and the range.
  """

  key: ClassVar[str] = ''

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = _converted(getattr(self, field.name), field.type)
      object.__setattr__(self, field.name, value)
      name = f'config.{self.key}{field.name}'
      if isinstance(field.type, type) and type(value) is not field.type:
        raise ConfigError(f'{name} = {value!r}: must be of type {field.type.__name__}')
      if field.type is int and abs(value) >= 2**31:
        raise ConfigError(f'{name} = {value!r}: must fit into 32 bits')
      if field.type is str and _SURROGATE.search(value):
        raise ConfigError(f'{name} = {value!r}: must be text that UTF-8 can encode')
      if field.metadata and not in_range(value, **field.metadata):
        raise ConfigError(f'{name} = {value!r}: {describe_range(**field.metadata)}')


def _converted(value: Any, kind: Any) -> Any:
  """Returns a value in a field's type if nothing is lost: a NumPy number, a path, a list."""
  if hasattr(value, 'item') and getattr(value, 'ndim', None) == 0:
    value = value.item()
  if kind is float and type(value) is int:
    return float(value)
  if kind is str and isinstance(value, os.PathLike):
    return os.fspath(value)
  return tuple(value) if kind is tuple and isinstance(value, list) else value


def check_encoding(encoding: str, name: str) -> None:
  """Refuses an encoding that Python does not read text files in; '' is UTF-8.

  Raises:
    ConfigError: names the setting.
  """
  try:
    ''.encode(encoding or 'utf-8')
    if codecs.lookup(encoding or 'utf-8').name in _NOT_OF_FILES:
      raise LookupError(encoding)
  except (LookupError, ValueError) as error:
    raise ConfigError(
      f'{name} = {encoding!r}: is not a text encoding of Python, such as cp1252, utf-16-le or '
      'gb18030'
    ) from error


def local_path(path: str | os.PathLike[str], what: str) -> str:
  """Returns a path with ~ replaced by the home folder; a hub id is returned as it is.

  Args:
    path: a path, a hub id, or '' for none.
    what: the name of the path in messages, such as '--workdir'.

  Raises:
    ConfigError: the path is a URL, in a bucket, or not a path; or it does not exist, and has a
      variable of a shell in it.
  """
  if not isinstance(path, str | os.PathLike):
    raise ConfigError(f'{what} = {path!r:.60}: must be a path')
  text = os.fspath(path)
  if place := _ELSEWHERE.match(text):
    scheme = (place[1] or place[2]).lower()
    instead = (
      ' (a repository of the hub is owner/name)' if scheme in ('hf', 'http', 'https') else ''
    )
    raise ConfigError(
      f'{what}={text}: {scheme}:// cannot be read or written directly; give a mounted folder, or '
      f'the path of a copy{instead}'
    )
  expanded = os.path.expanduser(text)
  if (unknown := _OF_A_SHELL.search(expanded)) and not os.path.exists(expanded):
    home = text.startswith('~')
    reason = 'is the home of no user here' if home else 'is replaced by a shell alone'
    raise ConfigError(f'{what}={text}: {unknown[0]} {reason}; write the path in full')
  return expanded


def folder(path: str | os.PathLike[str], what: str) -> pathlib.Path:
  """Returns `local_path` of a folder to write to.

  Raises:
    ConfigError: as `local_path`, or there is no name, or one that is too long, or has a backslash,
      which the library that writes checkpoints takes for a slash.
  """
  place = local_path(path, what)
  if not place:
    raise ConfigError(f"{what} = '': must be a path")
  if '\\' in place:
    raise ConfigError(f'{what}={place}: contains a backslash; write paths with slashes')
  try:
    os.lstat(place)
  except OSError as error:
    if error.errno == errno.ENAMETOOLONG:
      raise ConfigError(f'{what}={place:.60}…: {error.strerror}') from error
  return pathlib.Path(place)


def local_source(source: str, what: str) -> str:
  """Returns `local_path` of a data source, which may be NAME:PATH.

  Raises:
    ConfigError: as `local_path`.
  """
  name, colon, place = source.partition(':')
  if colon and not place.startswith('/'):
    return f'{name}:{local_path(place, what)}'
  return local_path(source, what)
