"""What may be shown: text that cannot command a terminal, and bars for long work."""

from collections.abc import Iterable
import os
import re
import sys
import unicodedata

SECRETS = ('HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'WANDB_API_KEY')
_ESCAPE = re.compile(
  r'(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]'  # colours and cursor movements
  r'|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)'  # titles, links, device strings
  r'|\x1b[ -/]*[0-~]'
)  # the rest
_DIRECTIONS = set(
  '\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069'
)  # they reorder text


def redacted(text: str) -> str:
  """Returns text without the environment's secrets, which the error of a library may quote."""
  for name in SECRETS:
    if secret := os.environ.get(name, '').strip():
      text = text.replace(secret, f'[{name}]')
  return text


def printable(text: str) -> str:
  """Returns text on one line, without secrets, terminal escapes and whatever else moves or recolours what follows."""
  text = re.sub(r'\s', ' ', _ESCAPE.sub('', redacted(text)))
  return ''.join(
    '\ufffd' if unicodedata.category(char) == 'Cs' else char
    for char in text
    if unicodedata.category(char) != 'Cc' and char not in _DIRECTIONS
  )


def bar(items: Iterable, label: str, unit: str = 'batch', total: int | None = None) -> Iterable:
  """Yields the items and shows how far they are, on stderr.

  On a terminal the bar appears after a second; elsewhere only work of more than a minute is reported, twice a minute.
  """
  from tqdm import tqdm  # imported here: `--help` needs none of it

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
