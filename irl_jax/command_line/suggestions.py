"""Suggestions for mistyped flags, config fields, commands and config names."""

from collections.abc import Sequence
import difflib


def closest(name: str, names: Sequence[str]) -> list[str]:
  """Returns the most similar names, best first; none if nothing is close.

  A name without its section (`steps`), or with a wrong one (`pppo.steps`), matches every field of
  that name (`ppo.steps`).
  """
  last = name.rpartition('.')[2]
  return (
    [known for known in names if known.endswith(f'.{name}')]
    or [known for known in names if known.endswith(f'.{last}')]
    or difflib.get_close_matches(name, names, n=1)
  )


def did_you_mean(candidates: Sequence[str], otherwise: str) -> str:
  """Returns the hint that ends an error message, such as 'did you mean --config.ppo.steps?'."""
  return f'did you mean {" or ".join(candidates)}?' if candidates else otherwise
