"""SIGTERM and SIGINT end a run with 143 or 130: training once the step in hand is saved, everything else at once.

What is not training keeps nothing of its own: its files appear whole or not at all, and are made again.
"""

import contextlib
import signal
from typing import Iterator

from irl_jax import errors

_received: list[int] = []
_deferrals: list[None] = []  # as many as there are `deferred` blocks around what runs


class Interrupted(errors.IrlJaxError):
  """The run was asked to stop, and saved."""

  def __init__(self, signum: int):
    super().__init__(f'interrupted by {signal.Signals(signum).name}; all that is whole is saved. The same command '
                     'continues')
    self.exit_code = 128 + signum


@contextlib.contextmanager
def handled() -> Iterator[None]:
  """While it lasts, the first of the two signals raises Interrupted, and the next ones do nothing.

  In a thread other than the main one the signals stay as they are.
  """
  try:
    before = {signum: signal.signal(signum, _arrived) for signum in (signal.SIGTERM, signal.SIGINT)}
  except ValueError:
    before = {}
  try:
    yield
  finally:
    for signum, handler in before.items():
      signal.signal(signum, handler)
    _received.clear()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """While it lasts, a signal only asks for a stop.

  Raises:
    Interrupted: one came.
  """
  _deferrals.append(None)
  try:
    yield
  finally:
    _deferrals.pop()
  if requested():
    stop()


def requested() -> bool:
  """Whether a stop was asked for; a loop then saves and calls `stop`."""
  return bool(_received)


def stop() -> None:
  """Ends the run.

  Raises:
    Interrupted: always.
  """
  raise Interrupted(_received[0])


def _arrived(signum: int, _) -> None:
  _received.append(signum)
  if len(_received) == 1 and not _deferrals:
    stop()
