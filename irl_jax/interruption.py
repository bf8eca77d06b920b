"""SIGTERM and SIGINT: the step in hand is finished and saved, then the run ends with 143 or 130."""

import contextlib
import signal
from typing import Iterator

from irl_jax import errors

_received: list[int] = []


class Interrupted(errors.IrlJaxError):
  """The run was asked to stop, and saved."""

  def __init__(self, signum: int):
    super().__init__(f'interrupted by {signal.Signals(signum).name}; saved. The same command continues')
    self.exit_code = 128 + signum


@contextlib.contextmanager
def handled() -> Iterator[None]:
  """While it lasts, the two signals only ask for a stop; in a thread other than the main one it does nothing."""
  _received.clear()
  try:
    before = {signum: signal.signal(signum, lambda received, _: _received.append(received))
              for signum in (signal.SIGTERM, signal.SIGINT)}
  except ValueError:
    before = {}
  try:
    yield
  finally:
    for signum, handler in before.items():
      signal.signal(signum, handler)


def requested() -> bool:
  """Whether a stop was asked for; a loop then saves and calls `stop`."""
  return bool(_received)


def stop() -> None:
  """Ends the run.

  Raises:
    Interrupted: always.
  """
  raise Interrupted(_received[0])
