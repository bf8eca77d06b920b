"""Flags for every field of a frozen Config: `--config.ppo.learning_rate=1e-6`, typed, and checked when it is rebuilt.

They are absl's own flags, one per field: unknown names and wrong types are found as for any other flag.
"""

import ast
import dataclasses
from typing import Any

from absl import flags

from irl_jax import config as config_lib

KINDS = {
  float: 'a number',
  int: 'a whole number',
  bool: 'true or false',
  tuple: 'names separated by commas',
  str: '',
}


class FieldParser(flags.ArgumentParser):
  """Reads one field's text by the field's type; its range is checked when the section is rebuilt."""

  def __init__(self, field: dataclasses.Field):
    super().__init__()
    allowed = (
      config_lib.describe_range(**field.metadata).removeprefix('must be ') if field.metadata else ''
    )
    self.type = field.type
    self.expects = f'{KINDS[field.type]} {allowed}'.strip()

  def parse(self, argument: Any) -> Any:
    """Converts text; a value of another type is a default and passes."""
    try:
      return _convert(argument, self.type) if isinstance(argument, str) else argument
    except (
      ValueError,
      SyntaxError,
      TypeError,
      RecursionError,
      MemoryError,
    ):  # the last three: of a written tuple
      raise ValueError(f'must be {self.expects}') from None


def define(flag_values: flags.FlagValues, section: config_lib.Section, prefix: str) -> None:
  """Defines a flag `--<prefix><field>` for every field of a section and of the sections within it."""
  for field in dataclasses.fields(section):
    name, value = prefix + field.name, getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      define(flag_values, value, f'{name}.')
    else:
      parser = FieldParser(field)
      flag = flags.Flag(
        parser, None, name, value, parser.expects or 'text', boolean=field.type is bool
      )
      flags.DEFINE_flag(flag, flag_values)


def overridden(section: config_lib.Section, flag_values: flags.FlagValues, prefix: str) -> Any:
  """The section, rebuilt with the parsed values of its flags, so that it is checked again.

  Raises:
    ConfigError: a value, or two together, are not allowed.
  """
  changes = {}
  for field in dataclasses.fields(section):
    name, value = prefix + field.name, getattr(section, field.name)
    within = dataclasses.is_dataclass(value)
    changes[field.name] = (
      overridden(value, flag_values, f'{name}.') if within else flag_values[name].value
    )
  return dataclasses.replace(section, **changes)


def _convert(text: str, kind: type) -> Any:
  if kind is bool:
    return flags.BooleanParser().parse(text)
  if kind is not tuple:
    return kind(text)
  if text[:1] in ('(', '['):  # as Python writes a tuple
    return tuple(ast.literal_eval(text))
  return tuple(name.strip() for name in text.split(',') if name.strip())
