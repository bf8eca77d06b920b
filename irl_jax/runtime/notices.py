"""Warnings that a process gives once, however often it meets their cause."""

import functools

from absl import logging


@functools.cache
def warn_once(message: str) -> None:
  """Logs a warning, unless this process has logged it before."""
  logging.warning('%s', message)
