"""Flags for every field of a frozen Config, such as `--config.ppo.learning_rate=1e-6`.

They are absl's own flags, one per field: absl reports unknown names and wrong types, as it does for
any flag. The config is checked again when it is rebuilt from them.
"""

import ast
import dataclasses
from typing import Any
from typing import TypeVar

from absl import flags

from irl_jax import settings
from irl_jax.settings import Section

SectionT = TypeVar('SectionT', bound=Section)
KINDS: dict[Any, str] = {
  float: 'a number',
  int: 'a whole number',
  bool: 'true or false',
  tuple: 'names separated by commas',
  str: '',
}


class FieldParser(flags.ArgumentParser):
  """Converts the text of a flag to its field's type; the section checks the range later."""

  def __init__(self, field: dataclasses.Field) -> None:
    super().__init__()
    allowed = (
      settings.describe_range(**field.metadata).removeprefix('must be ') if field.metadata else ''
    )
    self.type: Any = field.type
    self.expects = f'{KINDS[field.type]} {allowed}'.strip()

  def parse(self, argument: Any) -> Any:
    """Converts text; a value of another type is a default and is returned as it is."""
    if not isinstance(argument, str):
      return argument
    try:
      return _convert(argument, self.type)
    # ast.literal_eval raises the last three for malformed tuples.
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
      raise ValueError(f'must be {self.expects}') from None


def define(flag_values: flags.FlagValues, section: Section, prefix: str) -> None:
  """Defines a flag `--<prefix><field>` for every field of a section, and of sections inside it."""
  for field in dataclasses.fields(section):
    name, value = prefix + field.name, getattr(section, field.name)
    if isinstance(value, Section):
      define(flag_values, value, f'{name}.')
    else:
      parser = FieldParser(field)
      flag: flags.Flag = flags.Flag(
        parser, None, name, value, parser.expects or 'text', boolean=field.type is bool
      )
      flags.DEFINE_flag(flag, flag_values)


def overridden(section: SectionT, flag_values: flags.FlagValues, prefix: str) -> SectionT:
  """Returns the section rebuilt from the parsed values of its flags, which checks it again.

  Raises:
    ConfigError: a value, or two together, are not allowed.
  """
  changes: dict[str, Any] = {}
  for field in dataclasses.fields(section):
    name, value = prefix + field.name, getattr(section, field.name)
    changes[field.name] = (
      overridden(value, flag_values, f'{name}.')
      if isinstance(value, Section)
      else flag_values[name].value
    )
  return dataclasses.replace(section, **changes)


def _convert(text: str, kind: Any) -> Any:
  if kind is bool:
    return flags.BooleanParser().parse(text)
  if kind is not tuple:
    return kind(text)
  if text[:1] in ('(', '['):  # as Python writes a tuple
    return tuple(ast.literal_eval(text))
  return tuple(name.strip() for name in text.split(',') if name.strip())
