"""Turns: each contestant lives in its own process, and waits there while another is timed.

This keeps thread pools and memory apart. The processor time that a contestant uses while it waits
is measured too: an idle pool that spins would slow the contestant that is timed.
"""

from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import contextlib
import dataclasses
import importlib
import multiprocessing
from multiprocessing import connection as connection_lib
import os
import pathlib
import signal
import statistics
import tempfile
import time
from typing import Any

import numpy as np

from irl_jax.errors import IrlJaxError

FEWEST = 2  # turns that are taken regardless of the time limit
CONTEXT = multiprocessing.get_context('spawn')
Turn = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Contestant:
  """A function that is timed, and its arguments."""

  name: str
  function: str  # 'module.function' of this package: (lap, *work) -> never returns
  work: tuple[Any, ...]
  scale: float = 1.0  # laps that make the whole work
  note: str = ''


class Finished(Exception):
  """Ends the work of a contestant."""


class Lap:
  """Called by a contestant after each piece of work; returns when its next turn begins.

  `next_turn` takes the result of a turn and waits for the next one, or raises `Finished`.
  """

  def __init__(self, next_turn: Callable[[Turn], None]):
    self._next_turn, self._idle, self._start = next_turn, 0.0, time.perf_counter()

  def elapsed(self) -> float:
    """Returns the seconds since the turn began."""
    return time.perf_counter() - self._start

  def __call__(self, parts: dict[str, float] | None = None, seconds: float | None = None) -> None:
    """Ends a turn of `seconds` (by default since it began) with `parts`."""
    seconds = self.elapsed() if seconds is None else seconds
    peak = peak_memory()
    processor, since = time.process_time(), time.perf_counter()
    self._next_turn(dict(seconds=seconds, parts=parts or {}, idle=self._idle, peak_gib=peak))
    self._idle = (time.process_time() - processor) / (time.perf_counter() - since)
    self._start = time.perf_counter()


def peak_memory() -> float:
  """Returns the most resident memory that this process has had, GiB.

  getrusage's ru_maxrss may be that of the process that started this one.
  """
  status = pathlib.Path('/proc/self/status').read_text().splitlines()
  return next(int(line.split()[1]) for line in status if line.startswith('VmHWM:')) / 2**20


def call(function: str, *arguments: Any) -> Any:
  """Calls 'module.function' of this package."""
  module, _, name = function.rpartition('.')
  return getattr(importlib.import_module(f'{__package__}.{module}'), name)(*arguments)


def alone(function: str, *arguments: Any) -> Any:
  """Calls 'module.function' of this package in a process of its own."""
  with futures.ProcessPoolExecutor(1, CONTEXT) as pool:
    return pool.submit(call, function, *arguments).result()


def repeat(lap: Lap, work: Callable[[], Any]) -> None:
  """Does the same work in each turn."""
  while True:
    work()
    lap()


def files(lap: Lap, save: Callable, load: Callable, reading: bool) -> None:
  """Times `load` of a path that is saved once or, if not `reading`, `save` to new paths."""

  def save_anew() -> None:
    with tempfile.TemporaryDirectory() as folder:
      save(f'{folder}/saved')

  with tempfile.TemporaryDirectory() as folder:
    if reading:
      save(f'{folder}/saved')
    repeat(lap, (lambda: load(f'{folder}/saved')) if reading else save_anew)


def trace(contestant: Contestant, folder: str) -> None:
  """Runs a contestant in this process, and traces its third lap in JAX's format."""
  import jax

  def stop() -> None:
    jax.profiler.stop_trace()
    raise Finished

  after_laps = iter([lambda: None, lambda: jax.profiler.start_trace(folder), stop])
  with contextlib.suppress(Finished):
    call(contestant.function, Lap(lambda turn: next(after_laps)()), *contestant.work)


def live(connection: connection_lib.Connection, contestant: Contestant) -> None:
  """Runs a contestant's process; it ends after its lap if the other end of `connection` closes."""

  def next_turn(turn: Turn) -> None:
    connection.send(turn)
    connection.recv()

  os.setpgid(0, 0)
  with contextlib.suppress(EOFError, BrokenPipeError):
    connection.recv()
    call(contestant.function, Lap(next_turn), *contestant.work)


@contextlib.contextmanager
def running(contestant: Contestant) -> Iterator[Callable[[], Turn]]:
  """Runs a contestant's process; yields a function that times one turn and returns its result."""
  connection, theirs = CONTEXT.Pipe()
  process = CONTEXT.Process(target=live, args=(theirs, contestant))
  process.start()
  theirs.close()

  def turn() -> Turn:
    try:
      connection.send(None)
      return connection.recv()
    except (EOFError, ConnectionError):
      raise IrlJaxError(f'{contestant.name} ({contestant.function}) failed') from None

  try:
    turn()  # imports, random weights and compilation are not timed
    yield turn
  finally:
    connection.close()
    process.join(10)
    if process.is_alive():
      os.killpg(process.pid, signal.SIGKILL)
      process.join()


def take(contestants: list[Contestant], repeats: int, seconds: float) -> list[dict[str, Any]]:
  """Times contestants in turn, in so many rounds; returns the `summary` of each.

  No round begins that would end later than `seconds`, but FEWEST are always taken. The first piece
  of work of each does not count.

  Raises:
    IrlJaxError: a contestant failed; its process has printed why.
  """
  with contextlib.ExitStack() as stack:
    turns = [stack.enter_context(running(contestant)) for contestant in contestants]
    start, rounds = time.monotonic(), []
    for taken in range(repeats):
      elapsed = time.monotonic() - start
      if taken >= FEWEST and elapsed * (taken + 1) / taken > seconds:
        break
      rounds.append([turn() for turn in turns])
  return [summary(contestant, laps) for contestant, laps in zip(contestants, zip(*rounds))]


def summary(contestant: Contestant, laps: list[Turn]) -> dict[str, Any]:
  """Returns the median and quartiles of the whole work's seconds, and the medians of its parts.

  `idle` is the share of one core that waiting used; `peak_gib` is the process's peak memory.
  """
  scale, median = contestant.scale, statistics.median
  low, middle, high = np.percentile([scale * lap['seconds'] for lap in laps], (25, 50, 75)).tolist()
  parts = {name: scale * median(lap['parts'][name] for lap in laps) for name in laps[0]['parts']}
  idle, peak = median(lap['idle'] for lap in laps), max(lap['peak_gib'] for lap in laps)
  times = dict(seconds=middle, low=low, high=high, n=len(laps), parts=parts)
  row = dict(name=contestant.name, scale=scale, note=contestant.note)
  return row | times | dict(idle=idle, peak_gib=peak)
