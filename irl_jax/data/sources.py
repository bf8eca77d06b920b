"""Sources of texts: the playground, a file, a folder, a hub data set, and known data sets by name.

A run reads prompts from them (`load_rows`); the commands `score` and `generate` read rows (`find`).

`NAME` reads a known data set from the hub. `NAME:PLACE` reads a file, folder or hub id in the same
format.
"""

from collections.abc import Callable
from collections.abc import Collection
import dataclasses
import functools
import hashlib
import heapq
import pathlib

from absl import logging

from irl_jax.config import Data
from irl_jax.data import chat
from irl_jax.data import chat_rows
from irl_jax.data import labels
from irl_jax.data import row_files
from irl_jax.data.hub_datasets import is_hub_id
from irl_jax.data.hub_datasets import read_folder
from irl_jax.data.hub_datasets import read_hub
from irl_jax.data.prompts import cut_prompt
from irl_jax.data.row_values import BadRow
from irl_jax.data.row_values import Layout
from irl_jax.data.row_values import RowSource
from irl_jax.data.rows import first_field
from irl_jax.data.rows import Row
from irl_jax.data.rows import text_of
from irl_jax.data.rows import usable_rows
from irl_jax.data.text import clean
from irl_jax.errors import ConfigError
from irl_jax.runtime import hub_cache
from irl_jax.runtime import terminal
from irl_jax.runtime.records import CutText

Converter = Callable[[Row, Data], CutText]

PLAYGROUND = 'playground'
# Fields of known data sets that have the same text in different copies
COMMENT = ('text', 'comment_text')
TOXIC = ('toxic', 'en_toxic_comment')
NEUTRAL = ('neutral', 'en_neutral_comment')
# Fields of data sets whose texts are already cut
PARTS = ('prompt', 'original_output', 'continuation', 'prompt_toxicity', 'continuation_toxicity')

# Largest share of texts that may begin inside a word, because prompts of some data sets end inside
# one
GLUED = 0.05


def load_rows(
  data: Data, seed: int, template: chat.Template | None = None
) -> tuple[list[CutText], dict[str, int]]:
  """Loads the texts that `data.source` names.

  `data.max_rows` keeps the rows whose full text has the smallest sha256, so that even an ordered
  file gives a fair sample.

  Args:
    data: the source, its fields, how prompts are cut, and how many rows to keep.
    seed: random seed for the playground.
    template: renders prompts from a field, or all prompts if data.chat = always; None: all prompts
      are plain text.

  Returns:
    The texts in the source's order, and counts: rows_read, bad_rows, rows, labelled, toxic.

  Raises:
    ConfigError: no such file, format or split, or a label field whose meaning must be stated.
    InputError: unusable rows, labels that are not understood, or a hub that does not answer.
  """
  convert, source = _source(data, seed)
  has_users_fields = convert is _convert_user_row
  if has_users_fields:
    labels.check_field(data)
    convert = functools.partial(convert, template=template)
  if template and data.chat == 'always':
    convert = functools.partial(_all_rendered, convert=convert, template=template)
  rows, counts = usable_rows(
    source.read(False), data.source, functools.partial(convert, data=data), data.bad_rows
  )
  if has_users_fields:
    rows, counts = _read_labels(rows, counts, data)
    _warn_of_glued(rows, data)
  if data.max_rows:
    rows = _smallest_hashes(rows, data.max_rows)
  row_labels = [row['label'] for row in rows]
  return rows, {
    **counts,
    'rows': len(rows),
    'labelled': len(rows) - row_labels.count(None),
    'toxic': row_labels.count(1),
  }


def cached(source: str) -> pathlib.Path | None:
  """Returns the cached folder of a hub data set, named after its commit; None: there is none.

  Args:
    source: as in `Data`.
  """
  name, _, place = source.partition(':')
  place = (place or KNOWN[name].hub_id) if name in KNOWN else source
  if not is_hub_id(place) or pathlib.Path(place).exists():
    return None
  repository, _, revision = place.partition('@')
  return hub_cache.snapshot(repository, revision, 'dataset')


def _read_labels(
  rows: list[CutText], counts: dict[str, int], data: Data
) -> tuple[list[CutText], dict[str, int]]:
  """Converts the values of a label field to labels; skips a few bad labels with their rows."""
  if not data.label_field:
    return rows, counts
  kept, bad = [], []
  for row, label in zip(rows, labels.read([row['label'] for row in rows], data)):
    if isinstance(label, BadRow):
      bad.append(label)
    else:
      kept.append(CutText(prompt=row['prompt'], original=row['original'], label=label))
  if bad:
    of = terminal.count(len(rows), 'row')
    logging.warning('%s: skipped %d of %s (%s)', data.source, len(bad), of, bad[0])
  return kept, {**counts, 'bad_rows': counts['bad_rows'] + len(bad)}


def _warn_of_glued(rows: list[CutText], data: Data) -> None:
  """Warns if many texts continue with a letter or digit right after a prompt field."""
  if data.joiner or not data.prompt_field:
    return
  both = [
    row for row in rows if row['prompt'] and row['original'] and not chat.is_marked(row['prompt'])
  ]
  glued = [row for row in both if row['original'][0].isalnum() and not row['prompt'][-1].isspace()]
  if len(glued) > GLUED * len(both):
    logging.warning(
      '%s: %d of %s %s with a letter or digit right after the prompt, as in %r; if prompt '
      "and text should be separate words, set a separator: --config.data.joiner=' ' (or '\\n')",
      data.source,
      len(glued),
      terminal.count(len(both), 'text'),
      terminal.plural(len(glued), 'begins', 'begin'),
      glued[0]['prompt'][-15:] + glued[0]['original'][:15],
    )


def _source(data: Data, seed: int) -> tuple[Callable[..., CutText], RowSource]:
  """Returns the converter for a row of the source, and its rows."""
  layout = Layout(data.encoding, data.column_delimiter)
  if data.source == PLAYGROUND:
    return _playground, _comments(data.playground_comments, seed)
  known = known_data_set(data.source)
  used = {data.text_field, data.prompt_field, data.label_field} - {''}
  if not data.prompt_field and data.text_field == Data.text_field:
    used.update(chat_rows.CONVERSATIONS, ('prompt',), chat_rows.ANSWERS)
  rows = find(data.source, data.split, KNOWN_FIELDS if known else used, layout)
  return known.convert if known else _convert_user_row, rows


def known_data_set(source: str) -> 'KnownDataSet | None':
  """Returns the form of a known data set, if a source (NAME or NAME:PLACE) names one."""
  return KNOWN.get(source.partition(':')[0])


def find(source: str, split: str, used: Collection[str], layout: Layout) -> RowSource:
  """Finds the rows of a file, a folder, a hub data set, a known data set, or the playground.

  Args:
    source: as in `Data`, except for 'prompts', whose texts a model must write.
    split: of a folder or a hub data set.
    used: the fields that are needed, as in `row_files.read_numbered`.
    layout: of text files; it also names the settings, for messages.

  Raises:
    ConfigError: no such file, format or split.
    InputError: a folder or data set that cannot be read, or a hub that does not answer.
  """
  if source == PLAYGROUND:
    return _comments(Data.playground_comments, seed=0)
  name, _, place = source.partition(':')
  if known := known_data_set(source):
    if not place and not known.hub_id:
      raise ConfigError(
        f'{layout.named("source", name)}: needs a place; use {name}:PLACE, where PLACE is a file, '
        'a folder or a hub id'
      )
    place = place or known.hub_id
  else:
    place = source
  if place and pathlib.Path(place).is_dir():
    return read_folder(place, split, used, layout)
  if place and pathlib.Path(place).exists():
    return row_files.source(place, used, layout)
  if is_hub_id(place):
    return read_hub(place, split, used, layout)
  prompts = ', prompts' * (layout.flags != '--')
  raise ConfigError(
    f'{layout.named("source", source)}: {place!r} is not a file, a folder or a hub id '
    f'(owner/name); known sources: {", ".join(KNOWN)}, {PLAYGROUND}{prompts}'
  )


def _comments(count: int, seed: int) -> RowSource:
  """Returns the rows of the playground."""
  # Imported here: only this source needs its word lists.
  from irl_jax.data.playground import comments

  return RowSource(
    lambda _: enumerate(comments.comments(count, seed), 1), lambda: [PLAYGROUND, count, seed]
  )


def _playground(row: Row, data: Data) -> CutText:
  return _cut(row['text'], row['label'], data)


def _all_rendered(row: Row, data: Data, convert: Converter, template: chat.Template) -> CutText:
  """Converts a row, and renders its prompt if that is still plain text."""
  cut = convert(row, data)
  if not chat.is_marked(cut['prompt']):
    cut['prompt'] = chat_rows.rendered(template, cut['prompt'])
  return cut


def _convert_user_row(row: Row, data: Data, template: chat.Template | None = None) -> CutText:
  """Converts a row with the user's own fields.

  It has a text to be cut, or a prompt, which may be a conversation, and perhaps the text that
  followed it.
  """
  label = None
  if data.label_field:  # its raw value; `labels.read` decides when all rows are there
    label = row.get(data.label_field, labels.Missing(tuple(row)))
  fields = chat_rows.fields_of(row, data)
  if not fields[0]:
    return _cut(text_of(row, (data.text_field,), '--config.data.text_field'), label, data)
  prompt, original = chat_rows.prompt_and_answer(row, fields, data, template)
  if not chat.plain(prompt + original).strip():
    raise BadRow('has an empty text')
  return CutText(prompt=clean(prompt), original=clean(original), label=label)


def _jigsaw(row: Row, data: Data) -> CutText:
  label = _label(row, 'toxic', unlabelled='-1')  # its test set has rows that were not scored
  return _cut(text_of(row, COMMENT), label, data)


def _jigsaw_long_2000(row: Row, data: Data) -> CutText:
  """Converts a row that is already cut; the space between the two parts is in neither field."""
  del data
  original = ' ' + text_of(row, ('original_output',))
  return _whole(text_of(row, ('prompt',)), original, _label(row, 'toxic'))


def _paradetox(row: Row, data: Data) -> CutText:
  """Converts the toxic side of a pair; the other side is the source paradetox-neutral."""
  return _cut(text_of(row, TOXIC), 1, data)


def _paradetox_neutral(row: Row, data: Data) -> CutText:
  return _cut(text_of(row, NEUTRAL), 0, data)


def _real_toxicity_prompts(row: Row, data: Data) -> CutText:
  """Converts a row that is already cut, in the hub's nested layout or in a flat one.

  No human labelled these: a text counts as toxic if Perspective scores either part at 0.5 or more.
  """
  del data
  parts, part_labels = {}, []
  for name in ('prompt', 'continuation'):
    part = row.get(name)
    if isinstance(part, dict):  # the hub's layout: {'text', 'toxicity', ...}
      parts[name] = text_of(part, ('text',))
      part_labels.append(_label(part, 'toxicity'))
    else:
      parts[name] = text_of(row, (name,))
      part_labels.append(_label(row, f'{name}_toxicity'))
  label = 1 if 1 in part_labels else None if None in part_labels else 0
  return _whole(parts['prompt'], parts['continuation'], label)


@dataclasses.dataclass(frozen=True)
class KnownDataSet:
  """The form of a known data set.

  Its text consists of one or two parts. A part is in the first of several fields that a row has.
  """

  hub_id: str  # '': users must accept terms for every copy on the hub
  convert: Converter
  text: tuple[tuple[str, ...], ...]
  joiner: str = ''  # between the parts

  @property
  def prompt(self) -> tuple[str, ...]:
    """The alternative fields of the prompt: the first part of the text, perhaps all of it."""
    return self.text[0]


KNOWN: dict[str, KnownDataSet] = {  # by name
  'jigsaw-long-2000': KnownDataSet(
    'jaredjoss/jigsaw-long-2000', _jigsaw_long_2000, (('prompt',), ('original_output',)), ' '
  ),
  'real-toxicity-prompts': KnownDataSet(
    'allenai/real-toxicity-prompts', _real_toxicity_prompts, (('prompt',), ('continuation',))
  ),
  'paradetox': KnownDataSet('s-nlp/paradetox', _paradetox, (TOXIC,)),
  'paradetox-neutral': KnownDataSet('s-nlp/paradetox', _paradetox_neutral, (NEUTRAL,)),
  'jigsaw': KnownDataSet('', _jigsaw, (COMMENT,)),
}


# All fields that they read; values of other fields do not matter.
KNOWN_FIELDS = (*COMMENT, *TOXIC, *NEUTRAL, *PARTS)


def _cut(text: str, label: int | None, data: Data) -> CutText:
  return _whole(*cut_prompt(text, data.prompt_fraction), label)


def _whole(prompt: str, original: str, label: int | None) -> CutText:
  if not (prompt + original).strip():
    raise BadRow('has an empty text')
  prompt, original = map(chat.unmarked, (prompt, original))
  return CutText(prompt=clean(prompt), original=clean(original), label=label)


def _label(row: Row, field: str, unlabelled: str = '') -> int | None:
  """Returns 1 for true and for numbers in [0.5, 1], 0 for false and below, None for null."""
  value = row[first_field(row, (field,))]
  return None if str(value) == unlabelled else labels.share_to_label(value, field)


def _smallest_hashes(rows: list[CutText], count: int) -> list[CutText]:
  hashes = [hashlib.sha256((row['prompt'] + row['original']).encode()).digest() for row in rows]
  kept = set(heapq.nsmallest(count, range(len(rows)), key=hashes.__getitem__))
  return [row for index, row in enumerate(rows) if index in kept]
