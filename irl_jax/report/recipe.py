"""How to run the same again: a run's config as a config file that sets what differs from the defaults."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from irl_jax import config as config_lib


def config_file(plain: Mapping[str, Any]) -> str:
  """A config as Python, from its plain values in config.json; a field that has its default is left out."""
  lines = []
  for field in dataclasses.fields(config_lib.Config):
    value = plain.get(field.name, field.default)
    if dataclasses.is_dataclass(field.default):
      changed = differing(value, field.default) if isinstance(value, Mapping) else ''
      if changed:
        lines.append(f'      {field.name}=c.{type(field.default).__name__}({changed}),')
    elif frozen(value) != field.default:
      lines.append(f'      {field.name}={frozen(value)!r},')
  body = ''.join(f'{line}\n' for line in lines)
  return f'from irl_jax import config as c\n\n\ndef get_config():\n  return c.Config(\n{body}  )\n'


def differing(plain: Mapping[str, Any], default: Any) -> str:
  """The keyword arguments of a section in which plain differs from the defaults."""
  return ', '.join(
    f'{field.name}={frozen(plain[field.name])!r}'
    for field in dataclasses.fields(default)
    if field.name in plain and frozen(plain[field.name]) != getattr(default, field.name)
  )


def frozen(value: Any) -> Any:
  """JSON has no tuples: a config has no lists."""
  return tuple(value) if isinstance(value, list) else value
