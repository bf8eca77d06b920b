"""SIGTERM and SIGINT end a run with 143 or 130: training once the step in hand is saved, everything else at once.

What is not training keeps nothing of its own: its files appear whole or not at all, and are made again.
"""

from collections.abc import Iterator
import contextlib
import signal

from irl_jax import errors
from irl_jax.runtime import processes

_received: list[int] = []  # signals, by this process
_told: list = [0, 0]  # the greatest signal of any process, at the last call and at the one before
_deferrals: list[None] = []  # as many as there are `deferred` blocks around what runs


class Interrupted(errors.IrlJaxError):
  """The run was asked to stop, and saved."""

  def __init__(self, signum: int):
    super().__init__(
      f'interrupted by {signal.Signals(signum).name}; all that is whole is saved. The same command '
      'continues'
    )
    self.exit_code = 128 + signum


@contextlib.contextmanager
def handled() -> Iterator[None]:
  """While it lasts, the first of the two signals raises Interrupted, and the next ones do nothing.

  Over several processes, which only stop together, it is asked for by `requested`. In a thread other than the main one
  the signals stay as they are.
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
    _told[:] = 0, 0


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
  if requested(wait=True):
    stop()


def requested(wait: bool = False) -> bool:
  """Whether a stop was asked for; a loop then saves and calls `stop`.

  Several processes are told the same at the same call, whichever got the signal: what was asked for by the call before,
  so that the host does not wait for the devices; or, where it may `wait`, by this one.
  """
  _told[:] = processes.maximum(max(_received, default=0)), _told[0]
  return bool(int(_told[0 if wait or processes.alone() else 1]))


def stop() -> None:
  """Ends the run.

  Raises:
    Interrupted: always.
  """
  raise Interrupted(max(map(int, _told)))


def _arrived(signum: int, _) -> None:
  _received.append(signum)
  if len(_received) == 1 and not _deferrals and processes.alone():
    raise Interrupted(signum)
