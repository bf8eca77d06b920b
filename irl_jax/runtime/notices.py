"""Warnings that a process logs only once."""

import functools

from absl import logging


@functools.cache
def warn_once(message: str) -> None:
  """Logs a warning, unless this process has logged it before."""
  logging.warning('%s', message)
