"""Output for a terminal: text without control sequences or secrets, and progress bars."""

from collections.abc import Iterable
import contextlib
import io
import os
import re
import select
import sys
from typing import TextIO
import unicodedata

SECRETS = ('HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'WANDB_API_KEY')
_ESCAPE = re.compile(
  r'(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]'  # colours and cursor movements
  # Titles, links and device strings.
  r'|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)'
  r'|\x1b[ -/]*[0-~]'  # all others
)
# Characters that reorder the text after them.
_DIRECTIONS = set('\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069')


def redacted(text: str) -> str:
  """Returns text without the environment's secrets, which a library's error may quote."""
  for name in SECRETS:
    if secret := os.environ.get(name, '').strip():
      text = text.replace(secret, f'[{name}]')
  return text


def printable(text: str) -> str:
  """Returns text on one line that is safe to print.

  Secrets, terminal escapes, and characters that move, recolour or reorder later text are removed.
  """
  text = re.sub(r'\s', ' ', _ESCAPE.sub('', redacted(text)))
  return ''.join(
    '\ufffd' if unicodedata.category(char) == 'Cs' else char
    for char in text
    if unicodedata.category(char) != 'Cc' and char not in _DIRECTIONS
  )


def plural(number: int, one: str, many: str) -> str:
  """Returns the word that goes with a number: `one` with 1, else `many`."""
  return one if number == 1 else many


def count(number: int, noun: str) -> str:
  """Writes '1 row' or '2 rows'."""
  return f'{number} {plural(number, noun, f"{noun}s")}'


def accept_all_text() -> None:
  """Lets stdout print characters that its encoding lacks, such as in a file's name, as escapes."""
  if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
    sys.stdout.reconfigure(errors='backslashreplace')


def flush() -> None:
  """Flushes stdout, so that its errors are raised now."""
  if sys.stdout is not None:  # the process may have been started without one
    sys.stdout.flush()


def reader_is_gone() -> bool:
  """Returns True if the pipe behind stdout or stderr is closed, as after `| head`."""
  return any(map(_is_closed_pipe, (sys.stdout, sys.stderr)))


def _is_closed_pipe(stream: TextIO | None) -> bool:
  if stream is None:
    return False
  with contextlib.suppress(OSError, ValueError):  # no file of the system is behind it
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
  return False


def drop_output() -> None:
  """Drops output that cannot be written, because Python would report it at exit."""
  for stream in (sys.stdout, sys.stderr):
    try:
      if stream is not None:
        stream.flush()
    except OSError:
      nowhere = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, stream.fileno())
      os.close(nowhere)


def bar(items: Iterable, label: str, unit: str = 'batch', total: int | None = None) -> Iterable:
  """Yields the items and shows the progress on stderr.

  On a terminal the bar appears after a second. Elsewhere, progress is printed twice a minute, and
  only for work that takes more than a minute.
  """
  from tqdm import tqdm  # imported here to keep `--help` fast

  live = sys.stderr.isatty()
  return tqdm(
    items,
    desc=label,
    unit=unit,
    total=total,
    file=sys.stderr,
    delay=1 if live else 60,
    mininterval=0.1 if live else 30,
    dynamic_ncols=live,
  )
