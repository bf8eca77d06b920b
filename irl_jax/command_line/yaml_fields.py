"""YAML files of config fields, read by the core schema of YAML 1.2 (yaml.org/spec/1.2.2, 10.3).

PyYAML reads YAML 1.1, where `010` is 8, `1:30` is 90, `on` and `no` are booleans, and `1e-4` is
text. Here, what YAML 1.2 does not take for a number or a boolean is text, which a field of another
type refuses by name.
"""

from collections.abc import Callable
from collections.abc import Sequence
import re
from typing import Any
from typing import ClassVar

import yaml

_TAG = 'tag:yaml.org,2002:'
# Plain scalars that are not text: their tag, their form, and the characters that they begin with.
_PLAIN: tuple[tuple[str, str, str], ...] = (
  ('null', r'~|null|Null|NULL|', '~nN\0'),
  ('bool', r'true|True|TRUE|false|False|FALSE', 'tTfF'),
  ('int', r'[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+', '-+0123456789'),
  (
    'float',
    r'[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)',
    '-+.0123456789',
  ),
  ('merge', r'<<', '<'),
)
_BOOLEANS = {'true': True, 'false': False}


def load(text: str, check_keys: Callable[[Sequence[str]], None]) -> Any:
  """Returns the content of a YAML file.

  Args:
    text: the file.
    check_keys: called with the keys of each mapping, as they are written; it may raise.

  Raises:
    YAMLError, ValueError: it is not YAML, or not plain data.
  """

  class Loader(_CoreSchema):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
      check_keys([str(key.value) for key, _ in node.value])
      return super().construct_mapping(node, deep)

  return yaml.load(text, Loader)


class _CoreSchema(yaml.SafeLoader):
  """PyYAML's safe loader, with the plain scalars of YAML 1.2."""

  yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}


def _boolean(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
  text = loader.construct_scalar(node)
  if text.lower() not in _BOOLEANS:
    raise ValueError(f'{text!r} must be true or false')
  return _BOOLEANS[text.lower()]


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
  text = loader.construct_scalar(node)
  return int(text, 0 if text.startswith(('0o', '0x')) else 10)


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
  text = loader.construct_scalar(node)
  return float(re.sub(r'\.(?=inf|nan)', '', text.lower()))


for _name, _form, _first in _PLAIN:
  # '' as a first character stands for an empty scalar.
  _CoreSchema.add_implicit_resolver(
    _TAG + _name, re.compile(f'(?:{_form})$'), [one.strip('\0') for one in _first]
  )
_CoreSchema.add_constructor(f'{_TAG}bool', _boolean)
_CoreSchema.add_constructor(f'{_TAG}int', _whole)
_CoreSchema.add_constructor(f'{_TAG}float', _number)
