"""Turns: each contestant lives in its own process, and waits there while another is timed.

This keeps thread pools and memory apart. The processor time that a contestant uses while it waits
is measured too: an idle pool that spins would slow the contestant that is timed.
"""

from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures
import contextlib
import dataclasses
import importlib
import multiprocessing
from multiprocessing import connection as connection_lib
import os
import resource
import signal
import statistics
import time
from typing import Any

from irl_jax.errors import IrlJaxError
from side_by_side.costs import Cost

FEWEST = 2  # turns that are taken regardless of the time limit
CONTEXT = multiprocessing.get_context('spawn')


@dataclasses.dataclass(frozen=True)
class Contestant:
  """A function that is timed, and its arguments."""

  name: str
  function: str  # 'module.function' of this package: (lap, *work) -> never returns
  work: tuple[Any, ...]
  scale: float = 1.0  # laps that make the whole work
  costs: dict[str, Cost] = dataclasses.field(default_factory=dict)  # by part; '' is all of it
  note: str = ''


class Finished(Exception):
  """Ends the work of a contestant."""


class Lap:
  """Called by a contestant after each piece of work; returns when its next turn begins."""

  def __init__(self, connection: connection_lib.Connection):
    self._connection, self._idle, self._start = connection, 0.0, time.perf_counter()

  def elapsed(self) -> float:
    """Returns the seconds since the turn began."""
    return time.perf_counter() - self._start

  def __call__(self, parts: dict[str, float] | None = None, seconds: float | None = None) -> None:
    """Ends the turn.

    Args:
      parts: the seconds of its parts.
      seconds: the turn's seconds; the time since it began if None.

    Raises:
      Finished: there is no next turn.
    """
    seconds = self.elapsed() if seconds is None else seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lap = {'seconds': seconds, 'parts': parts or {}, 'idle': self._idle, 'peak_gib': peak}
    self._connection.send(lap)
    processor, since = time.process_time(), time.perf_counter()
    if not self._connection.recv():
      raise Finished
    self._idle = (time.process_time() - processor) / (time.perf_counter() - since)
    self._start = time.perf_counter()


def call(function: str, *arguments: Any) -> Any:
  """Calls 'module.function' of this package."""
  module, _, name = function.rpartition('.')
  return getattr(importlib.import_module(f'{__package__}.{module}'), name)(*arguments)


def alone(function: str, *arguments: Any) -> Any:
  """Calls 'module.function' of this package in a process of its own."""
  with futures.ProcessPoolExecutor(1, CONTEXT) as pool:
    return pool.submit(call, function, *arguments).result()


class Trace:
  """Stands in for a `Lap`: traces the third lap into a folder, then ends the work."""

  def __init__(self, folder: str):
    self._folder, self._laps = folder, 0

  def elapsed(self) -> float:
    """Returns 0: the trace has its own clock."""
    return 0.0

  def __call__(self, *unused: Any, **more: Any) -> None:
    import jax

    self._laps += 1
    if self._laps == 2:
      jax.profiler.start_trace(self._folder)
    elif self._laps > 2:
      jax.profiler.stop_trace()
      raise Finished


def repeat(lap: Lap, work: Callable[[], Any]) -> None:
  """Does the same work in each turn."""
  while True:
    work()
    lap()


def live(connection: connection_lib.Connection, contestant: Contestant) -> None:
  """Runs a contestant's process; it ends after its lap if the measuring process has ended."""
  os.setpgid(0, 0)
  with contextlib.suppress(Finished, EOFError, BrokenPipeError):
    call(contestant.function, Lap(connection), *contestant.work)


class Player:
  """A contestant's process, as the measuring process sees it; a context manager."""

  def __init__(self, contestant: Contestant):
    self.contestant = contestant
    self._connection, theirs = CONTEXT.Pipe()
    self._process = CONTEXT.Process(target=live, args=(theirs, contestant))
    self._process.start()
    theirs.close()
    self.laps: list[dict[str, Any]] = []

  def __enter__(self) -> 'Player':
    self._receive()  # imports, random weights and compilation are not timed
    return self

  def __exit__(self, *unused):
    with contextlib.suppress(BrokenPipeError):
      self._connection.send(False)
    self._process.join(10)
    if self._process.is_alive():
      os.killpg(self._process.pid, signal.SIGKILL)
      self._process.join()

  def turn(self) -> None:
    """Times one piece of work."""
    self._connection.send(True)
    self.laps.append(self._receive())

  def _receive(self) -> dict[str, Any]:
    try:
      return self._connection.recv()
    except EOFError:
      raise IrlJaxError(f'{self.contestant.name} ({self.contestant.function}) failed') from None


def take(contestants: Sequence[Contestant], repeats: int, seconds: float) -> list[dict[str, Any]]:
  """Times each contestant once per round; the first piece of work of each does not count.

  Args:
    contestants: they are timed one after the other.
    repeats: the number of rounds.
    seconds: no round begins that would end later than this, but FEWEST are always taken.

  Returns:
    {"name", "scale", "note"} of each contestant, and its `summary`.

  Raises:
    IrlJaxError: a contestant failed; its process has printed why.
  """
  with contextlib.ExitStack() as stack:
    players = [stack.enter_context(Player(contestant)) for contestant in contestants]
    start = time.monotonic()
    for taken in range(repeats):
      elapsed = time.monotonic() - start
      if taken >= FEWEST and elapsed * (taken + 1) / taken > seconds:
        break
      for player in players:
        player.turn()
  return [
    {name: getattr(player.contestant, name) for name in ('name', 'scale', 'note')} | summary(player)
    for player in players
  ]


def summary(player: Player) -> dict[str, Any]:
  """Returns the median and quartiles of the whole work's seconds, and the medians of its parts.

  `idle` is the share of one core that waiting used; `peak_gib` is the process's peak memory.
  """
  laps, scale, median = player.laps, player.contestant.scale, statistics.median
  seconds = [scale * lap['seconds'] for lap in laps]
  low, _, high = statistics.quantiles(
    seconds * 2 if len(seconds) == 1 else seconds, method='inclusive'
  )
  parts = {name: scale * median(lap['parts'][name] for lap in laps) for name in laps[0]['parts']}
  return {
    'seconds': median(seconds),
    'low': low,
    'high': high,
    'n': len(seconds),
    'parts': parts,
    'idle': median(lap['idle'] for lap in laps),
    'peak_gib': max(lap['peak_gib'] for lap in laps),
  }
