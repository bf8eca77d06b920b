"""People's labels: the values of a column that mean toxic.

The whole column is considered, because a single value does not show its scale. An ambiguous column
is refused; `config.data.positive` settles it.
"""

import collections
from collections.abc import Callable
from collections.abc import Sequence
import math
import re
from typing import Any

from absl import logging

from irl_jax.config import Data
from irl_jax.data.row_values import BadRow
from irl_jax.data.row_values import kind_of
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.runtime import terminal

FEW = 0.01  # largest share of labels that `bad_rows=skip` may skip; more could be a whole class
SHOWN = 6  # values that a message lists
# Field names that are true for harmless texts, and prefixes that negate the rest of the name
_HARMLESS = {
  *('safe', 'safety', 'harmless', 'harmlessness', 'unharmful', 'clean', 'neutral', 'normal'),
  *('benign', 'appropriate', 'acceptable', 'acceptability', 'allowed', 'approved', 'chosen'),
  *('preferred', 'legit', 'legitimate', 'unbiased'),
  *('good', 'ok', 'okay', 'nice', 'polite', 'politeness', 'civil', 'civility', 'friendly'),
  *('friendliness', 'kindness', 'respect', 'respectful', 'supportive', 'constructive', 'healthy'),
  *('helpful', 'helpfulness', 'quality', 'ethical', 'inoffensive', 'ham', 'free', 'anti', 'not'),
  *('positive', 'positivity', 'sentiment'),  # a positive sentiment, or a positive detection
}
_HARM = ('toxic', 'hate', 'hateful', 'offensive', 'abusive', 'harmful', 'spam', 'sexist', 'racist')
_PART = re.compile('[A-Z]?[a-z]+|[A-Z]+')
_BOUND = re.compile(r'\s*(>=|<=|>|<)\s*(\S+)\s*')
_REST = {'>=': '<', '>': '<=', '<=': '>', '<': '>='}  # the numbers that a bound leaves

Key = float | str | None  # a label in its normalised form for comparison; None: unlabelled


class Missing:
  """The label of a row that does not have the field.

  Args:
    fields: the fields that the row has.
  """

  def __init__(self, fields: Sequence[str]) -> None:
    self.fields = tuple(fields)


def check_field(data: Data) -> None:
  """Refuses a label field whose name suggests that true means harmless.

  Raises:
    ConfigError: names the setting that says which value is toxic.
  """
  words = {part.lower() for part in _PART.findall(data.label_field)}
  negated = {f'{negation}{harm}' for negation in ('not', 'un') for harm in _HARM}
  opposite = any(word.startswith('non') and word != 'none' for word in words) or words & negated
  if (opposite or words & _HARMLESS) and not data.positive:
    raise ConfigError(
      f'config.data.label_field = {data.label_field!r}: in this field, 1 or true may mean '
      'harmless; name the toxic values: --config.data.positive=false, or =true'
    )


def read(values: Sequence[Any], data: Data) -> list[int | BadRow | None]:
  """Converts a column of labels.

  Args:
    values: each row's value of data.label_field, or `Missing`.
    data: `positive` names the values that mean toxic and `negative` those that do not, by commas or
      as a bound ('>=4'). Without `negative` all other values are not toxic; with it they count as
      unlabelled.
      Without both, 1, true and numbers from 0.5 to 1 are toxic, 0, false and numbers below 0.5 not.

  Returns:
    1 (toxic), 0 (not), None (null, '', NaN or no field: not labelled), or BadRow: with
    bad_rows='skip', if the rows with other values are too few to be a class.

  Raises:
    InputError: a label of another kind; or no row has the field, or a positive value.
  """
  missing = [value for value in values if isinstance(value, Missing)]
  if missing and len(missing) == len(values):
    raise InputError(
      f'{data.source}: has no field {data.label_field!r} in any row; fields of the first: '
      f'{", ".join(map(repr, missing[0].fields)) or "none"}; set --config.data.label_field=NAME'
    )
  keys = [None if isinstance(value, Missing) else key_of(value) for value in values]
  positive, negative = _matcher(data.positive), _matcher(data.negative)
  label_of = (
    _by_name(positive, negative, _BOUND.fullmatch(data.positive)) if positive else _by_share
  )
  by_key = {key: label_of(key) for key in set(keys)}
  names = {key: value for key, value in zip(reversed(keys), reversed(values))}
  counts = collections.Counter(keys)
  _check(by_key, counts, names, data)
  _report(by_key, counts, names, len(missing), data)
  bad = {
    key: BadRow(f'field {data.label_field!r} is {names[key]!r:.40}, which is not a label')
    for key, label in by_key.items()
    if label == _UNKNOWN
  }
  return [bad.get(key, by_key[key]) for key in keys]


def share_to_label(value: Any, field: str) -> int | None:
  """Converts a label of a known data set: a number from 0 to 1, true, false, or null.

  Raises:
    BadRow: anything else.
  """
  label = _by_share(key_of(value))
  if label == _UNKNOWN:
    allowed = 'a label must be a number from 0 to 1, true or false'
    number = isinstance(value, int | float)
    raise BadRow(f'field {field!r} is {f"{value:g}" if number else kind_of(value)}; {allowed}')
  return label


def key_of(value: Any) -> Key:
  """Returns a label as it is compared: true is 1, numbers in strings are numbers, '' is None."""
  if value is None:
    return None
  if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**53):
    return None if math.isnan(value) else float(value)
  text = value.strip().casefold() if isinstance(value, str) else repr(value)
  known = {'': None, 'null': None, 'nan': None, 'true': 1.0, 'false': 0.0}
  if text in known:
    return known[text]
  return float(text) if re.fullmatch(r'[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?', text) else text


_UNKNOWN = -1


def _by_share(key: Key) -> int | None:
  if key is None:
    return None
  return int(key >= 0.5) if isinstance(key, float) and 0 <= key <= 1 else _UNKNOWN


def _by_name(
  positive: Callable[[Key], bool],
  negative: Callable[[Key], bool] | None,
  bound: re.Match[str] | None,
) -> Callable[[Key], int | None]:
  def label_of(key: Key) -> int | None:
    if key is None:
      return None
    if positive(key):
      return _UNKNOWN if negative and negative(key) else 1
    if bound and isinstance(key, str) and negative is None:
      return _UNKNOWN  # a word is on neither side of a bound
    return 0 if negative is None or negative(key) else None

  return label_of


def _matcher(named: str) -> Callable[[Key], bool] | None:
  """Returns a test of labels for 'OFF,UNT' or '>=4'; None if nothing is named."""
  if not named:
    return None
  bound = _BOUND.fullmatch(named)
  if not bound:
    keys = {key_of(name) for name in named.split(',')}
    return lambda key: key in keys
  limit = key_of(bound[2])
  if not isinstance(limit, float):
    raise ConfigError(f'config.data: {named!r} must be a number after {bound[1]}')
  compare: dict[str, Callable[[float], bool]] = {
    '>=': lambda key: key >= limit,
    '<=': lambda key: key <= limit,
    '>': lambda key: key > limit,
    '<': lambda key: key < limit,
  }
  return lambda key: isinstance(key, float) and compare[bound[1]](key)


def _check(
  by_key: dict[Key, int | None], counts: dict[Key, int], names: dict[Key, Any], data: Data
) -> None:
  """Refuses a column whose meaning the settings in `data` do not determine.

  Raises:
    InputError: names the values of the column.
  """
  field = f'{data.source}: field {data.label_field!r}'
  unknown = [key for key, label in by_key.items() if label == _UNKNOWN]
  share = sum(counts[key] for key in unknown) / sum(counts.values())
  values = describe([key for key in by_key if key is not None], counts, names)
  bound = _BOUND.fullmatch(data.positive)
  if unknown and data.positive and data.negative:
    shown = describe(unknown, counts, names)
    raise InputError(f'{field}: config.data.positive and negative both name {shown}')
  if unknown and bound:
    raise InputError(
      f'{field} contains {describe(unknown, counts, names)}, not only numbers to compare with '
      f'{data.positive!r} (config.data.positive); to ignore words, also set '
      f"--config.data.negative='{_REST[bound[1]]}{bound[2]}'"
    )
  if unknown and not (data.bad_rows == 'skip' and share <= FEW):
    minus = '. If -1 means not labelled, set --config.data.positive=1 --config.data.negative=0'
    raise InputError(
      f'{field} contains {values}: labels must be numbers from 0 to 1, true or false. For others, '
      "name those that mean toxic: --config.data.positive=VALUE,VALUE (or ='>=NUMBER'), and to "
      'ignore some labels, also those that mean not toxic: --config.data.negative=VALUE'
      f'{minus if -1.0 in unknown and 0.0 in by_key else ""}'
    )
  if data.positive and 1 not in by_key.values() and not bound:
    raise InputError(f'{field} contains {values}, and no {data.positive!r} (config.data.positive)')


def _report(
  by_key: dict[Key, int | None],
  counts: dict[Key, int],
  names: dict[Key, Any],
  missing: int,
  data: Data,
) -> None:
  """Logs which values are toxic, and warns if one of the two classes is empty."""
  of = lambda label: [key for key, found in by_key.items() if found == label and key is not None]
  total = lambda label: sum(counts[key] for key in of(label))
  rest = describe(of(None), counts, names)
  unlabelled, labelled = counts.get(None, 0) + total(None), total(1) + total(0)
  for name in ('positive', 'negative'):
    if absent := _absent(getattr(data, name), by_key):
      shown = ', '.join(map(repr, absent))
      logging.warning(
        '%s: field %r: no row has %s (config.data.%s)', data.source, data.label_field, shown, name
      )
  logging.info(
    '%s: field %r: toxic is %s; not toxic is %s; not labelled %s %s%s',
    data.source,
    data.label_field,
    describe(of(1), counts, names),
    describe(of(0), counts, names),
    terminal.plural(unlabelled, 'is', 'are'),
    terminal.count(unlabelled, 'row'),
    f' ({missing} without the field; {rest})' if missing or of(None) else '',
  )
  if not labelled:
    logging.warning('%s: field %r: no row is labelled', data.source, data.label_field)
  elif not (total(1) and total(0)):
    logging.warning(
      '%s: field %r: %s %s; config.data.positive says which values are toxic',
      data.source,
      data.label_field,
      terminal.plural(labelled, 'the only labelled row is', f'all {labelled} labelled rows are'),
      'toxic' if total(1) else 'not toxic',
    )


def _absent(named: str, by_key: dict[Key, int | None]) -> list[str]:
  """Returns the values of 'OFF,UNT' that no row has; a bound may have none."""
  values = [] if _BOUND.fullmatch(named) else [value.strip() for value in named.split(',')]
  return [value for value in values if key_of(value) not in (None, *by_key)]


def describe(keys: Sequence[Key], counts: dict[Key, int], names: dict[Key, Any]) -> str:
  """Lists values with their rows, or numbers by their range if there are many."""
  if not keys:
    return 'nothing'
  if len(keys) > SHOWN and all(isinstance(key, float) for key in keys):
    numbers = [key for key in keys if isinstance(key, float)]
    rows = sum(counts[key] for key in keys)
    return f'numbers from {min(numbers):g} to {max(numbers):g} ({terminal.count(rows, "row")})'
  ordered = sorted(keys, key=lambda key: (-counts[key], str(key)))
  shown = [f'{names[key]!r:.40} ({terminal.count(counts[key], "row")})' for key in ordered[:SHOWN]]
  return ', '.join(shown + ['...'] * (len(keys) > SHOWN))
