"""Where texts come from: the playground, a file, a folder or hub data set, and ready-made forms of known data sets.

`NAME` of a ready-made form reads its hub data set; `NAME:PLACE` reads a file, folder or hub id in the same form.
"""

import functools
import hashlib
import heapq
import pathlib
from typing import Any

from irl_jax.config import Data
from irl_jax.data.hub_datasets import is_hub_id
from irl_jax.data.hub_datasets import read_folder
from irl_jax.data.hub_datasets import read_hub
from irl_jax.data.prompts import cut_prompt
from irl_jax.data.row_formats import BadRow
from irl_jax.data.row_formats import kind
from irl_jax.data.row_formats import Numbered
from irl_jax.data.rows import present
from irl_jax.data.rows import read_numbered
from irl_jax.data.rows import text_of
from irl_jax.data.rows import usable_rows
from irl_jax.data.text import clean
from irl_jax.errors import ConfigError

Row = dict[str, Any]


def load_rows(data: Data, seed: int) -> tuple[list[Row], dict[str, int]]:
  """Loads the texts that `data.source` names.

  Args:
    data: the source, its fields, how prompts are cut, and how many rows to keep: `max_rows` keeps those whose full
      text has the smallest sha256, so that an ordered file gives a fair sample.
    seed: of the playground.

  Returns:
    [{'prompt', 'original', 'label'}] in the source's order: full text = prompt + original; label 1 toxic, 0 not, None
    unknown. And counts: rows_read, bad_rows, rows, labelled, toxic.

  Raises:
    ConfigError: no such file, format or split.
    InputError: unusable rows, or a hub that does not answer.
  """
  convert, numbered = _source(data, seed)
  rows, counts = usable_rows(
    numbered, data.source, functools.partial(convert, data=data), data.bad_rows
  )
  if data.max_rows:
    rows = _smallest_hashes(rows, data.max_rows)
  labels = [row['label'] for row in rows]
  return rows, {
    **counts,
    'rows': len(rows),
    'labelled': len(labels) - labels.count(None),
    'toxic': labels.count(1),
  }


def _source(data: Data, seed: int):
  """(How one row of the source is converted, its numbered rows)."""
  if data.source == 'playground':
    from irl_jax.data.playground import comments as playground  # pylint: disable=g-import-not-at-top  (its word lists are used here alone)

    comments = playground.comments(data.playground_comments, seed)
    return (lambda row, data: _cut(row['text'], row['label'], data)), enumerate(comments, 1)
  name, _, place = data.source.partition(':')
  if name not in READY_MADE:
    return _own, _read(data.source, data)
  hub_id, convert = READY_MADE[name]
  if not place and not hub_id:
    raise ConfigError(
      f'config.data.source = {name!r}: has no fixed place; give {name}:PLACE, a file, folder or hub id'
    )
  return convert, _read(place or hub_id, data)


def _read(place: str, data: Data) -> Numbered:
  if place and pathlib.Path(place).is_dir():
    return read_folder(place, data.split)
  if place and pathlib.Path(place).exists():
    return read_numbered(place)
  if is_hub_id(place):
    return read_hub(place, data.split)
  raise ConfigError(
    f'config.data.source = {data.source!r}: {place!r} is no file, folder or hub id (owner/name); '
    f'ready-made: {", ".join(READY_MADE)}, playground, prompts'
  )


def _own(row: Row, data: Data) -> Row:
  """The user's own fields: a text to be cut, or a prompt and (unless text_field is '') what followed it."""
  label = _label(row, data.label_field) if data.label_field else None
  if not data.prompt_field:
    return _cut(text_of(row, (data.text_field,)), label, data)
  prompt = text_of(row, (data.prompt_field,))
  return _whole(prompt, text_of(row, (data.text_field,)) if data.text_field else '', label)


def _jigsaw(row: Row, data: Data) -> Row:
  return _cut(text_of(row, ('text', 'comment_text')), _label(row, 'toxic'), data)


def _jigsaw_long_2000(row: Row, data: Data) -> Row:
  del data  # comes cut; the space between the two is in neither field
  return _whole(
    text_of(row, ('prompt',)), ' ' + text_of(row, ('original_output',)), _label(row, 'toxic')
  )


def _paradetox(row: Row, data: Data) -> Row:
  return _cut(
    text_of(row, ('toxic', 'en_toxic_comment')), 1, data
  )  # the other side: paradetox-neutral


def _paradetox_neutral(row: Row, data: Data) -> Row:
  return _cut(text_of(row, ('neutral', 'en_neutral_comment')), 0, data)


def _real_toxicity_prompts(row: Row, data: Data) -> Row:
  """Comes cut. A text counts as toxic where Perspective scores either part >= .5: no human judged these."""
  del data
  parts, labels = [], []
  for name in ('prompt', 'continuation'):
    nested = isinstance(row.get(name), dict)  # the hub's layout: {'text', 'toxicity', ...}
    parts.append(text_of(row[name], ('text',)) if nested else text_of(row, (name,)))
    labels.append(_label(row[name], 'toxicity') if nested else _label(row, f'{name}_toxicity'))
  return _whole(*parts, 1 if 1 in labels else None if None in labels else 0)


READY_MADE = {  # name: (hub id, '' where there is none that needs no terms accepted; how one of its rows is read)
  'jigsaw-long-2000': ('jaredjoss/jigsaw-long-2000', _jigsaw_long_2000),
  'real-toxicity-prompts': ('allenai/real-toxicity-prompts', _real_toxicity_prompts),
  'paradetox': ('s-nlp/paradetox', _paradetox),
  'paradetox-neutral': ('s-nlp/paradetox', _paradetox_neutral),
  'jigsaw': ('', _jigsaw),
}


def _cut(text: str, label: int | None, data: Data) -> Row:
  return _whole(*cut_prompt(text, data.prompt_fraction), label)


def _whole(prompt: str, original: str, label: int | None) -> Row:
  if not (prompt + original).strip():
    raise BadRow('holds an empty text')
  return {'prompt': clean(prompt), 'original': clean(original), 'label': label}


def _label(row: Row, field: str) -> int | None:
  """1 for true and for numbers in [.5, 1], 0 for false and below, None for null; CSV gives them as text."""
  value = row[present(row, (field,))]
  if isinstance(value, str):
    value = {'': None, 'true': 1, 'false': 0}.get(value.strip().lower(), value)
  if value is None:
    return None
  try:
    share = float(value)
  except (TypeError, ValueError):
    raise BadRow(
      f'field {field!r} holds {kind(value)}, not a label (0 to 1, true or false)'
    ) from None
  if not 0 <= share <= 1:
    raise BadRow(f'field {field!r} holds {share:g}, not a label (0 to 1, true or false)')
  return int(share >= 0.5)


def _smallest_hashes(rows: list[Row], count: int) -> list[Row]:
  hashes = [hashlib.sha256((row['prompt'] + row['original']).encode()).digest() for row in rows]
  kept = set(heapq.nsmallest(count, range(len(rows)), key=hashes.__getitem__))
  return [row for index, row in enumerate(rows) if index in kept]
