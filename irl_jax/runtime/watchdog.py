"""A watchdog that ends a process that would wait forever for another one.

Nothing else can end a process that waits in a collective. The watchdog is fed after each step,
batch and file that all processes have finished. Before `start`, feeding has no effect.
"""

import os
import sys
import threading
from typing import NoReturn

from irl_jax.runtime.terminal import printable

_fed = threading.Event()


def feed() -> None:
  """Records that the run makes progress."""
  _fed.set()


def start(seconds: float) -> None:
  """Starts the watchdog; it ends the process if nothing feeds it for this many seconds."""
  threading.Thread(target=_watch, args=(seconds,), name='watchdog', daemon=True).start()


def end(reason: str) -> NoReturn:
  """Ends this process at once with exit code 1, without waiting for processes or saves."""
  print(
    f'error: {printable(reason)}. Run the same command on all processes to resume',
    file=sys.stderr,
    flush=True,
  )
  os._exit(1)


def _watch(seconds: float) -> NoReturn:
  while _fed.wait(seconds):
    _fed.clear()
  end(
    f'no progress for {seconds:g} s: another process is gone or stuck, or one step takes longer '
    'than --stuck_timeout'
  )
