"""SIGTERM and SIGINT end a run with exit code 143 or 130, and keep all completed work.

Training first finishes and saves the current step. Everything else ends at once: files are written
atomically, so the next start recreates them.
"""

from collections.abc import Iterator
import contextlib
import signal
from types import FrameType
from typing import NoReturn

import jax

from irl_jax import errors
from irl_jax.runtime import processes


class Interrupted(errors.IrlJaxError):
  """Raised when the run was asked to stop, after its state was saved.

  Args:
    signum: the signal.
    saved: describes the saved state that the same command continues; '' if it starts over.
  """

  def __init__(self, signum: int, saved: str = 'progress is saved') -> None:
    name, again = signal.Signals(signum).name, 'Run the same command again'
    end = f'{saved}. {again} to resume' if saved else f'nothing is kept. {again}'
    super().__init__(f'interrupted by {name}; {end}')
    self.signum = signum
    self.exit_code = 128 + signum


class Signals:
  """The stop signals of one run: those this process received, and those all processes know of.

  With several processes nothing is raised when a signal arrives. They poll `requested` in lockstep,
  so that all of them stop at the same step.
  """

  def __init__(self) -> None:
    self._received: list[int] = []
    # The largest signal number of any process, as of the last two calls of `requested`.
    self._latest: jax.Array | int = 0
    self._previous: jax.Array | int = 0
    self._deferrals = 0

  @contextlib.contextmanager
  def handled(self) -> Iterator[None]:
    """Raises Interrupted at the first signal within the block, and ignores further ones.

    In other threads than the main one, signal handlers are not changed.
    """
    handlers = {}
    # Python allows signal handlers in the main thread only.
    with contextlib.suppress(ValueError):
      for signum in (signal.SIGTERM, signal.SIGINT):
        handlers[signum] = signal.signal(signum, self._receive)
    try:
      yield
    finally:
      for signum, handler in handlers.items():
        signal.signal(signum, handler)
      self._received.clear()
      self._latest = self._previous = 0

  @contextlib.contextmanager
  def deferred(self) -> Iterator[None]:
    """Delays signals within the block; `requested` reports them.

    Raises:
      Interrupted: at the end of the block, if a signal came.
    """
    self._deferrals += 1
    try:
      yield
    finally:
      self._deferrals -= 1
    if self.requested(wait=True):
      self.stop()

  def requested(self, wait: bool = False) -> bool:
    """Returns True if the run should stop; a loop then saves and calls `stop`.

    Every process gets the same answer, whichever of them received the signal.

    Args:
      wait: with several processes, the answer is by default the one that the previous call
        collected, so that the host does not wait for the devices. True waits for the current one.
    """
    self._previous, self._latest = self._latest, processes.maximum(max(self._received, default=0))
    return bool(int(self._latest if wait or processes.alone() else self._previous))

  def stop(self) -> NoReturn:
    """Ends the run.

    Raises:
      Interrupted: always.
    """
    raise Interrupted(max(int(self._latest), int(self._previous)))

  def _receive(self, signum: int, _: FrameType | None) -> None:
    self._received.append(signum)
    if len(self._received) == 1 and not self._deferrals and processes.alone():
      raise Interrupted(signum)


_of_this_run = Signals()
handled = _of_this_run.handled
deferred = _of_this_run.deferred
requested = _of_this_run.requested
stop = _of_this_run.stop
