"""Contestants take turns: each lives in a process of its own, and waits there while another is timed.

Their thread pools and memory are kept apart so. How much processor time a contestant uses while it waits is measured
with its turns: an idle pool that spins would slow the one that is timed.
"""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import statistics
import time
from typing import Any

from side_by_side import limits

FEWEST = 2  # turns that a time limit leaves


@dataclasses.dataclass(frozen=True)
class Contestant:
  """Who is timed, and on what."""

  name: str
  function: str  # 'module.function' of this package: (lap, **arguments) -> never returns
  arguments: dict[str, Any]
  scale: float = 1.0  # laps that make the whole work
  costs: dict[str, limits.Cost] = dataclasses.field(
    default_factory=dict
  )  # of the parts of the whole work
  note: str = ''


class Finished(Exception):
  """There will be no more turns."""


class Lap:
  """What a contestant calls at the end of each piece of work; it returns when the next turn begins."""

  def __init__(self, connection):
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
      seconds: what the turn took, where that is not the time since it began.

    Raises:
      Finished: there is no next one.
    """
    seconds = self.elapsed() if seconds is None else seconds
    self._connection.send({'seconds': seconds, 'parts': parts or {}, 'idle': self._idle})
    processor, since = time.process_time(), time.perf_counter()
    try:
      goes_on = self._connection.recv()
    except EOFError:  # who timed is gone
      goes_on = False
    if not goes_on:
      raise Finished
    self._idle = (time.process_time() - processor) / (time.perf_counter() - since)
    self._start = time.perf_counter()


def live(connection, contestant: Contestant) -> None:
  """A contestant's process."""
  module, name = contestant.function.split('.')
  try:
    getattr(importlib.import_module(f'{__package__}.{module}'), name)(
      Lap(connection), **contestant.arguments
    )
  except Finished:
    connection.close()
  except Exception as error:  # whatever it is, it belongs into the table, and the others go on
    connection.send(
      {
        'failed': f'{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ""}'
      }
    )


class Player:
  """A contestant's process, as the one that times sees it; a context manager."""

  def __init__(self, contestant: Contestant, patience: float):
    self.contestant, self.laps, self.failed = contestant, [], ''
    self._patience = patience
    context = multiprocessing.get_context('spawn')
    self._connection, theirs = context.Pipe()
    self._process = context.Process(target=live, args=(theirs, contestant), daemon=False)
    self._process.start()
    theirs.close()

  def __enter__(self) -> 'Player':
    self.first = self._receive()  # with imports, random weights and compilation
    return self

  def __exit__(self, *unused):
    with contextlib.suppress(BrokenPipeError):
      self._connection.send(False)
    self._process.join(10)
    if self._process.is_alive():
      self._process.kill()
      self._process.join()

  def turn(self) -> None:
    """One timed piece of work."""
    if self.failed:
      return
    with contextlib.suppress(BrokenPipeError):  # how it ended is found below
      self._connection.send(True)
    if lap := self._receive():
      self.laps.append(lap)

  def _receive(self) -> dict[str, Any] | None:
    try:
      found = (
        self._connection.recv()
        if self._connection.poll(self._patience)
        else {'failed': f'nothing within {self._patience:.0f} s'}
      )
    except (EOFError, ConnectionResetError):
      self._process.join()
      found = {'failed': f'its process ended with {self._process.exitcode}'}
    self.failed = found.get('failed', '')
    return None if self.failed else found


def take(contestants: Sequence[Contestant], repeats: int, seconds: float) -> list[dict[str, Any]]:
  """Times every contestant `repeats` times, one after the other in each round; the first piece of work of each does
  not count.

  Args:
    contestants: who.
    repeats: rounds.
    seconds: no round is begun that would end later than this, but FEWEST are played.

  Returns:
    For every contestant {"name", "scale", "note"} and either "failed", or what `summary` gives.
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
    {
      'name': player.contestant.name,
      'scale': player.contestant.scale,
      'note': player.contestant.note,
    }
    | ({'failed': player.failed} if player.failed else summary(player))
    for player in players
  ]


def summary(player: Player) -> dict[str, Any]:
  """Median and quartiles of the seconds of the whole work, the medians of its parts, and the processor time of waiting
  (of one core).
  """
  scale = player.contestant.scale
  seconds = sorted(scale * lap['seconds'] for lap in player.laps)
  low, _, high = (
    statistics.quantiles(seconds, n=4, method='inclusive') if len(seconds) > 1 else seconds * 3
  )
  parts = {
    name: scale * statistics.median(lap['parts'][name] for lap in player.laps)
    for name in player.laps[0]['parts']
  }
  return {
    'seconds': statistics.median(seconds),
    'low': low,
    'high': high,
    'n': len(seconds),
    'parts': parts,
    'idle': statistics.median(lap['idle'] for lap in player.laps),
  }


def alone(function: str, **arguments) -> Any:
  """The result of 'module.function' of this package, called in a process that then ends."""
  context = multiprocessing.get_context('spawn')
  with context.Pool(1) as pool:
    return pool.apply(_call, (function, arguments))


def _call(function: str, arguments: dict[str, Any]) -> Any:
  module, name = function.split('.')
  return getattr(importlib.import_module(f'{__package__}.{module}'), name)(**arguments)


def repeat(lap: Lap, work: Callable[[], Any]) -> None:
  """The same work over and over."""
  while True:
    work()
    lap()


def cores() -> int:
  """How many this process may use."""
  return len(os.sched_getaffinity(0))
