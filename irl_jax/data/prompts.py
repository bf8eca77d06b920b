"""Prompts and splits: where texts are cut, and which texts train, select and test.

Everything here depends only on the texts, not on their order, the machine or a seed.
"""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import math
import re
import unicodedata

from irl_jax.data import chat
from irl_jax.runtime import terminal
from irl_jax.runtime.records import CutText
from irl_jax.runtime.records import PromptRow

# The split by the last decimal digit of a hash: 80 % training, 10 % validation, 10 % held out.
SPLITS = ('train',) * 8 + ('validation', 'heldout')

UNEVEN = 0.05  # largest deviation of a split's share of the rows
SHOWN = 40  # characters of a prompt that a message shows

_WORD = re.compile(r'\S+')
_Key = tuple[str, str]  # 'prompt' or 'text', and a folded text


def cut_prompt(text: str, fraction: float) -> tuple[str, str]:
  """Cuts a text into its prompt and the rest, so that prompt + rest == text.

  The prompt is the first k = max(1, floor(fraction * words)) words. Words are separated by white
  space, and the rest keeps its leading white space. A text of at most k words is all prompt.

  Args:
    text: any string.
    fraction: share of the words, in (0, 1].
  """
  ends = [word.end() for word in _WORD.finditer(text)]
  k = max(1, int(fraction * len(ends)))
  cut = ends[k - 1] if k < len(ends) else len(text)
  return text[:cut], text[cut:]


def split_rows(rows: Sequence[CutText]) -> tuple[dict[str, list[PromptRow]], dict[str, int]]:
  """Splits rows 80/10/10 by a hash of the prompt, and drops exact duplicates.

  Near-duplicates stay in one split. Two rows are near-duplicates if their prompts, or their full
  texts, are equal when case, white space and punctuation are ignored. Rows that are linked through
  other rows form one group, whose smallest folded prompt is hashed.

  Args:
    rows: texts of a source.

  Returns:
    The rows of 'train', 'validation' and 'heldout', each sorted by prompt_id; and counts. One of
    several rows that differ only in their label is kept; its label is None if both 0 and 1
    occurred.
  """
  distinct, conflicts = _without_duplicates(rows)
  splits: dict[str, list[PromptRow]] = {name: [] for name in dict.fromkeys(SPLITS)}
  for row, group in zip(distinct, _groups(distinct)):
    splits[SPLITS[int(_hash(group), 16) % len(SPLITS)]].append(row)
  counts = {
    'rows': len(rows),
    'duplicates_dropped': len(rows) - len(distinct),
    'labels_in_conflict': conflicts,
    'empty_prompts': sum(not row['prompt'] for row in distinct),
    'one_word_texts': sum(
      len(_WORD.findall(row['prompt'] + row['original'])) == 1 for row in distinct
    ),
    'without_original': sum(not row['original'] for row in distinct),
    **{name: len(members) for name, members in splits.items()},
  }
  return splits, counts


def describe_groups(rows: Sequence[CutText]) -> str:
  """Describes the number of different prompts, and the most common one.

  Args:
    rows: at least one.
  """
  distinct, _ = _without_duplicates(rows)
  keys = _groups(distinct)
  groups = collections.Counter(keys)
  group, count = groups.most_common(1)[0]
  prompt = chat.shown(distinct[keys.index(group)]['prompt'])
  if len(groups) == 1 and count > 1:
    return f'all {count} different texts have the same prompt, {prompt[:SHOWN]!r}'
  return (
    f'{terminal.count(len(distinct), "different text")} '
    f'{terminal.plural(len(distinct), "has", "have")} '
    f'{terminal.count(len(groups), "different prompt")}; the most common, '
    f'{prompt[:SHOWN]!r}, has {count} of them'
  )


def are_uneven(splits: Mapping[str, Sequence[PromptRow]]) -> bool:
  """Returns True if the splits are further from 80/10/10 than chance explains."""
  total = sum(map(len, splits.values()))
  allowed = max(UNEVEN, 5 * math.sqrt(0.1 * 0.9 / max(total, 1)))
  return any(
    abs(len(rows) / total - SPLITS.count(name) / len(SPLITS)) > allowed
    for name, rows in splits.items()
    if total
  )


def _without_duplicates(rows: Sequence[CutText]) -> tuple[list[PromptRow], int]:
  """Returns one row per (prompt, original), sorted by prompt_id, and how many had both labels."""
  labels: dict[tuple[str, str], set[int | None]] = {}
  for row in rows:
    labels.setdefault((row['prompt'], row['original']), set()).add(row['label'])
  distinct, conflicts = [], 0
  for (prompt, original), given in labels.items():
    known = given - {None}
    conflicts += len(known) > 1
    distinct.append(
      PromptRow(
        prompt_id=_hash(f'{prompt}\0{original}')[:16],
        prompt=prompt,
        original=original,
        label=known.pop() if len(known) == 1 else None,
      )
    )
  return sorted(distinct, key=lambda row: row['prompt_id']), conflicts


def _groups(rows: Sequence[PromptRow]) -> list[str]:
  """Returns the smallest folded prompt of each row's group.

  Groups are found by union-find over folded prompts and folded full texts.
  """
  parent: dict[_Key, _Key] = {}

  def root(key: _Key) -> _Key:
    while parent.setdefault(key, key) != key:
      parent[key] = key = parent[parent[key]]
    return key

  keys = [
    (('prompt', _fold(row['prompt'])), ('text', _fold(row['prompt'] + row['original'])))
    for row in rows
  ]
  for prompt, text in keys:
    # 'prompt' sorts before 'text', so the root of every group is its smallest prompt.
    smaller, larger = sorted((root(prompt), root(text)))
    parent[larger] = smaller
  return [root(prompt)[1] for prompt, _ in keys]


def _fold(text: str) -> str:
  """Returns only the letters and digits, without case and width."""
  return ''.join(filter(str.isalnum, unicodedata.normalize('NFKC', text).casefold()))


def _hash(text: str) -> str:
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()
