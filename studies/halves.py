"""The two halves of a file of texts: one to choose settings on, and one to report on, for good."""

from collections.abc import Sequence
import hashlib
from typing import Any

HALVES = ('report', 'choice')


def half_of(text: str) -> str:
  """Returns the half that a text is in: 'report' if the first byte of its SHA-256 is odd."""
  return HALVES[1 - hashlib.sha256(text.encode()).digest()[0] % 2]


def rows_of(rows: Sequence[dict[str, Any]], half: str, field: str) -> list[dict[str, Any]]:
  """Returns the rows of a half, by the text in `field`; '' for all."""
  return [row for row in rows if half in ('', half_of(row[field]))]
