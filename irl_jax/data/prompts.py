"""Prompts and splits: where a text is cut, and which prompts a run trains on, chooses with and never sees.

Everything here depends on the texts alone: not on their order, the machine or a seed.
"""

from collections.abc import Sequence
import hashlib
import re
import unicodedata

from irl_jax.records import CutText
from irl_jax.records import PromptRow

SPLITS = ('train',) * 8 + ('validation', 'heldout')  # a split by the tenth that a hash falls in

_WORD = re.compile(r'\S+')
_Key = tuple[str, str]  # ('prompt' or 'text', what it folds to)


def cut_prompt(text: str, fraction: float) -> tuple[str, str]:
  """Cuts a text into its prompt and the rest, which keeps its leading white space: prompt + rest == text.

  The prompt is the first k = max(1, floor(fraction * words)) words, words by white space; where those are all its
  words it is the whole text. `fraction` lies in (0, 1].
  """
  ends = [word.end() for word in _WORD.finditer(text)]
  k = max(1, int(fraction * len(ends)))
  cut = ends[k - 1] if k < len(ends) else len(text)
  return text[:cut], text[cut:]


def split_rows(rows: Sequence[CutText]) -> tuple[dict[str, list[PromptRow]], dict[str, int]]:
  """Splits rows 80/10/10 by a hash of the prompt; near-duplicates stay together, exact duplicates are dropped.

  Rows belong together when their prompts, or their full texts, are the same after folding case, space and
  punctuation, and so does whatever is linked through such rows; the group's smallest folded prompt is hashed.

  Args:
    rows: {'prompt', 'original', 'label'} each.

  Returns:
    {'train', 'validation', 'heldout'}: lists of {'prompt_id', 'prompt', 'original', 'label'} sorted by prompt_id; and
    counts. Of rows that differ in the label alone one stays, its label None where 0 and 1 conflict.
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


def _without_duplicates(rows: Sequence[CutText]) -> tuple[list[PromptRow], int]:
  """One row for each (prompt, original), sorted by prompt_id; and how many had both labels."""
  labels: dict[tuple[str, str], set[int | None]] = {}
  for row in rows:
    labels.setdefault((row['prompt'], row['original']), set()).add(row['label'])
  distinct: list[PromptRow] = []
  for (prompt, original), given in labels.items():
    known = given - {None}
    distinct.append(
      {
        'prompt_id': _hash(f'{prompt}\0{original}')[:16],
        'prompt': prompt,
        'original': original,
        'label': known.pop() if len(known) == 1 else None,
      }
    )
  return sorted(distinct, key=lambda row: row['prompt_id']), sum(
    len(given - {None}) > 1 for given in labels.values()
  )


def _groups(rows: Sequence[PromptRow]) -> list[str]:
  """For each row the smallest folded prompt of its group, by union-find over folded prompts and full texts."""
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
    smaller, larger = sorted((root(prompt), root(text)))
    parent[larger] = (
      smaller  # ('prompt', …) sorts before ('text', …): every root is the group's smallest prompt
    )
  return [root(prompt)[1] for prompt, _ in keys]


def _fold(text: str) -> str:
  """Letters and digits alone, without case and width."""
  return ''.join(filter(str.isalnum, unicodedata.normalize('NFKC', text).casefold()))


def _hash(text: str) -> str:
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()
