"""Paths as users write them: ~ is the home folder, and buckets are refused.

No shell expands the ~ of `--workdir=~/runs`. Taken literally, it and `gs://bucket` would become
folders with these names.
"""

import os
import re

from irl_jax.errors import ConfigError

# Path('gs://x') is 'gs:/x'.
_ELSEWHERE = re.compile(
  r'([a-z][a-z0-9+.-]+)://|(gs|gcs|s3|hf|az|abfss?|hdfs|https?):/', re.IGNORECASE
)


def local(path: str | os.PathLike[str], what: str) -> str:
  """Returns a path with ~ replaced by the home folder; a hub id is returned as it is.

  Args:
    path: a path, a hub id, or '' for none.
    what: the name of the path in messages, such as '--workdir'.

  Raises:
    ConfigError: the path is a URL or in a bucket.
  """
  text = os.fspath(path)
  if place := _ELSEWHERE.match(text):
    scheme = (place[1] or place[2]).lower()
    instead = (
      ' (a repository of the hub is owner/name)' if scheme in ('hf', 'http', 'https') else ''
    )
    raise ConfigError(
      f'{what}={text}: {scheme}:// is not read or written directly; give a mounted folder, or the '
      f'path of a copy{instead}'
    )
  return os.path.expanduser(text)


def local_source(source: str, what: str) -> str:
  """Returns `local` of a data source, which may be NAME:PATH.

  Raises:
    ConfigError: as `local`.
  """
  name, colon, place = source.partition(':')
  if colon and not place.startswith('/'):
    return f'{name}:{local(place, what)}'
  return local(source, what)
