"""Turns: each contestant lives in a process of its own, and waits there while another is timed.

Thread pools and memory are thus kept apart. The processor time that a contestant uses while it
waits is measured with its turns: an idle pool that spins would slow the one that is timed.
"""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import dataclasses
import importlib
import multiprocessing
from multiprocessing import connection as connection_lib
import os
import resource
import signal
import statistics
import threading
import time
from typing import Any

from side_by_side.costs import Cost

FEWEST = 2  # turns that a time limit leaves
CONTEXT = multiprocessing.get_context('spawn')


@dataclasses.dataclass(frozen=True)
class Contestant:
  """Who is timed, and on what."""

  name: str
  function: str  # 'module.function' of this package: (lap, work) -> never returns
  work: Any  # a costs.Work, or what else the function takes
  scale: float = 1.0  # laps that make the whole work
  costs: dict[str, Cost] = dataclasses.field(default_factory=dict)  # costs of the parts of the work
  note: str = ''


class Finished(Exception):
  """There will be no more turns."""


class Lap:
  """Called by a contestant at the end of each piece of work; returns when the next turn begins."""

  def __init__(self, connection: connection_lib.Connection):
    self._connection = connection
    self._idle = 0.0
    self._start = time.perf_counter()

  def elapsed(self) -> float:
    """Seconds since the turn began."""
    return time.perf_counter() - self._start

  def __call__(self, parts: dict[str, float] | None = None, seconds: float | None = None) -> None:
    """Ends the turn.

    Args:
      parts: seconds of its parts.
      seconds: what the turn took, if that is not the time since it began.

    Raises:
      Finished: there is no next turn.
    """
    seconds = self.elapsed() if seconds is None else seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lap = {'seconds': seconds, 'parts': parts or {}, 'idle': self._idle, 'peak_gib': peak}
    self._connection.send(lap)
    processor, since = time.process_time(), time.perf_counter()
    try:
      goes_on = self._connection.recv()
    except EOFError:  # the process that measures is gone
      goes_on = False
    if not goes_on:
      raise Finished
    self._idle = (time.process_time() - processor) / (time.perf_counter() - since)
    self._start = time.perf_counter()


def end_with_parent() -> None:
  """Ends this process and those that it starts within a second of its parent's end."""
  os.setpgid(0, 0)
  parent = os.getppid()

  def watch() -> None:
    while os.getppid() == parent:
      time.sleep(1)
    os.killpg(0, signal.SIGKILL)

  threading.Thread(target=watch, daemon=True).start()


def function_of(name: str) -> Callable:
  """A function of this package by 'module.function'."""
  module, _, function = name.rpartition('.')
  return getattr(importlib.import_module(f'{__package__}.{module}'), function)


def live(connection: connection_lib.Connection, contestant: Contestant) -> None:
  """Runs a contestant's process."""
  end_with_parent()
  try:
    function_of(contestant.function)(Lap(connection), contestant.work)
  except Finished:
    connection.close()
  except Exception as error:  # it belongs into the table, and the others go on
    message = str(error).strip().partition('\n')[0]
    connection.send({'failed': f'{type(error).__name__}: {message}'})


class Player:
  """A contestant's process, as the process that measures sees it; a context manager."""

  def __init__(self, contestant: Contestant, patience: float):
    self.contestant, self.failed = contestant, ''
    self.laps: list[dict[str, Any]] = []
    self._patience = patience
    self._connection, theirs = CONTEXT.Pipe()
    self._process = CONTEXT.Process(target=live, args=(theirs, contestant), daemon=False)
    self._process.start()
    theirs.close()

  def __enter__(self) -> 'Player':
    self._receive()  # with imports, random weights and compilation
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
    if self.failed:
      return
    with contextlib.suppress(BrokenPipeError):  # `_receive` finds out how the process ended
      self._connection.send(True)
    if lap := self._receive():
      self.laps.append(lap)

  def _receive(self) -> dict[str, Any] | None:
    try:
      if self._connection.poll(self._patience):
        message = self._connection.recv()
      else:
        message = {'failed': f'nothing within {self._patience:.0f} s'}
    except (EOFError, ConnectionResetError):
      self._process.join()
      message = {'failed': f'its process ended with {self._process.exitcode}'}
    self.failed = message.get('failed', '')
    return None if self.failed else message


def take(contestants: Sequence[Contestant], repeats: int, seconds: float) -> list[dict[str, Any]]:
  """Times every contestant `repeats` times, one after the other in each round.

  The first piece of work of each does not count.

  Args:
    contestants: who.
    repeats: rounds.
    seconds: no round is begun that would end later than this, but FEWEST are played.

  Returns:
    For every contestant {"name", "scale", "note"} and either "failed", or `summary`.
  """
  with contextlib.ExitStack() as stack:
    players = [stack.enter_context(Player(contestant, 600 + seconds)) for contestant in contestants]
    start = time.monotonic()
    for played in range(repeats):
      elapsed = time.monotonic() - start
      if played >= FEWEST and elapsed * (played + 1) / played > seconds:
        break
      for player in players:
        player.turn()
  return [
    {name: getattr(player.contestant, name) for name in ('name', 'scale', 'note')}
    | ({'failed': player.failed} if player.failed else summary(player))
    for player in players
  ]


def summary(player: Player) -> dict[str, Any]:
  """Returns median and quartiles of the whole work's seconds, and medians of its parts.

  `idle` is the processor time of waiting, of one core; `peak_gib` the process's largest memory.
  """
  scale, median = player.contestant.scale, statistics.median
  seconds = sorted(scale * lap['seconds'] for lap in player.laps)
  single = len(seconds) == 1
  low, _, high = seconds * 3 if single else statistics.quantiles(seconds, method='inclusive')
  return {
    'seconds': median(seconds),
    'low': low,
    'high': high,
    'n': len(seconds),
    'parts': {
      name: scale * median(lap['parts'][name] for lap in player.laps)
      for name in player.laps[0]['parts']
    },
    'idle': median(lap['idle'] for lap in player.laps),
    'peak_gib': max(lap['peak_gib'] for lap in player.laps),
  }


def alone(function: str, *arguments: Any) -> Any:
  """Calls 'module.function' of this package in a process that then ends."""
  with CONTEXT.Pool(1) as pool:
    return pool.apply(_call, (function, *arguments))


def _call(function: str, *arguments: Any) -> Any:
  return function_of(function)(*arguments)


def repeat(lap: Lap, work: Callable[[], Any]) -> None:
  """Does the same work over and over."""
  while True:
    work()
    lap()


def cores() -> int:
  """Returns how many cores this process may use."""
  return len(os.sched_getaffinity(0))
