"""Ends a process that can only wait for ever for another one: inside a collective, nothing else would.

Each step, batch and file that all processes have done feeds it. `start` begins to watch; without it, feeding does
nothing.
"""

import os
import sys
import threading
from typing import NoReturn

from irl_jax.runtime.terminal import printable

_fed = threading.Event()


def feed() -> None:
  """Says that the run goes on."""
  _fed.set()


def start(seconds: float) -> None:
  """Watches from now on: where nothing is fed for so many seconds, the process ends."""
  threading.Thread(target=_watch, args=(seconds,), name='watchdog', daemon=True).start()


def end(reason: str) -> NoReturn:
  """Ends this process with exit code 1, and waits for nothing: not for the other processes, nor for pending saves."""
  print(
    f'error: {printable(reason)}. The same command, given to all processes, continues',
    file=sys.stderr,
    flush=True,
  )
  os._exit(1)


def _watch(seconds: float) -> NoReturn:
  while _fed.wait(seconds):
    _fed.clear()
  end(
    f'nothing was done for {seconds:g} s: another process is gone or stuck, or something takes longer than '
    '--stuck_timeout'
  )
