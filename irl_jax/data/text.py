"""Text to token ids and back: outside a chat template, special tokens are plain text.

The whole package calls tokenizers through these functions, so that training, sampling and scoring
agree.
"""

from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set
import re
from typing import Any

from absl import logging

from irl_jax.data import backends
from irl_jax.data import chat
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.runtime import terminal

_SURROGATE = re.compile('[\ud800-\udfff]')


def check_texts(values: Any, name: str) -> list[str]:
  """Returns the values as a list, if they are strings.

  Args:
    values: the argument that should be several texts.
    name: its name, for the message.

  Raises:
    ConfigError: a single string, a table, or an unordered or non-iterable value.
    InputError: one of the values is not a string.
  """
  return [
    check_text(value, f'{name}[{number}]') for number, value in enumerate(check_list(values, name))
  ]


def check_list(values: Any, name: str) -> list[Any]:
  """Returns the values as a list.

  Raises:
    ConfigError: as `check_texts`.
  """
  if isinstance(values, str | bytes) or not isinstance(values, Iterable):
    given = type(values).__name__
    raise ConfigError(f'{name}: must be a list of strings, not {given}; pass [{name}] for one')
  # Iterating over these would give keys, names of columns, or texts in any order.
  if isinstance(values, Mapping | Set) or hasattr(values, 'columns'):
    given = type(values).__name__
    raise ConfigError(f'{name}: must be a list of strings, not {given}; pass one field or column')
  return list(values)


def check_text(value: Any, name: str) -> str:
  """Returns the value, if it is a string.

  Raises:
    InputError: it is not.
  """
  if not isinstance(value, str):
    raise InputError(f'{name} is {value!r:.60}: must be a string')
  return value


def clean(text: str) -> str:
  """Replaces each lone surrogate by U+FFFD; lengths do not change.

  No tokenizer and no UTF-8 file accepts lone surrogates.
  """
  return _SURROGATE.sub('\ufffd', text)


def encode(
  tokenizer: Any,
  texts: Sequence[str],
  *,
  max_tokens: int | None = None,
  specials: bool = False,
  continues: bool = False,
) -> tuple[list[list[int]], int]:
  """Converts texts to token ids; a typed '<|endoftext|>' or '</s>' becomes ordinary tokens.

  Special tokens are real only in the text of a chat template (`chat.render`). BOS comes before any
  other text if the tokenizer puts it there (`front`): the model was trained on texts that begin so.

  Args:
    tokenizer: a fast Hugging Face tokenizer.
    texts: any strings; an empty one gives no ids, or BOS or with `specials` the special ids alone.
    max_tokens: maximum number of ids per text, including special ids; None: no limit. Longer texts
      are cut on the left, so that the end (the response) is kept.
    specials: whether to add the tokenizer's special ids (RoBERTa: <s> text </s>). The leading one
      stays in front of a text that is cut.
    continues: whether the texts continue others, as completions do: neither BOS nor a tokenizer's
      own space is put before them.

  Returns:
    One list of ids for each text, and how many texts were cut.

  Raises:
    ValueError: max_tokens leaves no room for a text between the special ids.
  """
  if not texts:
    return [], 0
  before = [] if specials or continues else front(tokenizer)
  unmarked = [clean(one) for one in texts if not chat.is_marked(one)]
  plain = iter(backends.ids(tokenizer, unmarked, specials, continues))
  marked = iter(_marked_ids(tokenizer, [one for one in texts if chat.is_marked(one)]))
  rows = [next(marked) if chat.is_marked(one) else [*before, *next(plain)] for one in texts]
  if max_tokens is None:
    return rows, 0
  around = tokenizer([''], add_special_tokens=True)['input_ids'][0] if specials else before
  if max_tokens <= len(around):
    raise ValueError(
      f'max_tokens = {max_tokens}: must be > {len(around)}, the number of special tokens around a '
      'text'
    )
  first = around[:1]
  shortened = [
    first + ids[len(ids) - max_tokens + len(first) :] if len(ids) > max_tokens else ids
    for ids in rows
  ]
  return shortened, sum(len(ids) > max_tokens for ids in rows)


def front(tokenizer: Any) -> list[int]:
  """Returns the ids that a tokenizer puts before a text: BOS (Llama 3, Gemma), or none (Pythia).

  There are none either if it puts something behind a text as well, as a classifier's does.
  """
  whole, bare = (tokenizer('a', add_special_tokens=add)['input_ids'] for add in (True, False))
  count = len(whole) - len(bare)
  return list(whole[:count]) if whole[count:] == bare else []


def start(tokenizer: Any) -> list[int]:
  """Returns the ids that a whole text is sampled or scored after: `front`, or EOS if that is []."""
  return front(tokenizer) or [tokenizer.eos_token_id]


def _marked_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
  """Converts texts with a chat template's text; the template's special tokens are real ones.

  A prompt is read in one piece, as transformers does it, unless its contents contain the name of a
  special token. The completion is read apart: a model continues from its prompt's tokens.
  """
  if not texts:
    return []
  specials = backends.special_tokens(tokenizer)
  known = {*specials.values()} - {tokenizer.unk_token_id}
  cuts = [one.rfind(chat.END) + 1 for one in texts]
  prompts = [clean(one[:cut]) for one, cut in zip(texts, cuts)]
  # One call for all texts: a call for each takes longer than the tokenization itself.
  whole = tokenizer(
    [chat.shown(one) for one in prompts],
    add_special_tokens=False,
    split_special_tokens=False,
    verbose=False,
  )['input_ids']
  completions = [clean(one[cut:]) for one, cut in zip(texts, cuts)]
  rows = []
  for prompt, ids, after in zip(
    prompts, whole, backends.ids(tokenizer, completions, continues=True)
  ):
    pieces = chat.segments(prompt, specials)
    real = [specials[piece] for special, piece in pieces if special]
    if [one for one in ids if one in known] != [one for one in real if one in known]:
      ids = _ids_of_pieces(tokenizer, pieces, specials)
    rows.append([*ids, *after])
  return rows


def _ids_of_pieces(
  tokenizer: Any, pieces: Sequence[tuple[bool, str]], specials: Mapping[str, int]
) -> list[int]:
  """Converts a template's special tokens, and the texts between them on their own."""
  begins = backends.puts_space_after_special(tokenizer)
  return [
    token
    for number, (special, piece) in enumerate(pieces)
    for token in (
      [specials[piece]]
      if special
      else backends.ids(tokenizer, [piece], continues=number > 0 and not begins)[0]
    )
  ]


def report_cut(cut: int, of: str, max_tokens: int, side: str = 'left') -> None:
  """Logs how many of the encoded texts, such as of '2 prompts', were cut on one side."""
  if cut:
    logging.warning(
      '%d of %s %s longer than %s: cut on the %s',
      cut,
      of,
      terminal.plural(cut, 'is', 'are'),
      terminal.count(max_tokens, 'token'),
      side,
    )


def prompt_ids(tokenizer: Any, prompts: Sequence[str], max_tokens: int | None) -> list[list[int]]:
  """Encodes prompts; those longer than `max_tokens` are cut on the left, and the log says so.

  An empty prompt becomes a single EOS, which begins a text.
  """
  ids, cut = encode(tokenizer, prompts, max_tokens=max_tokens)
  if max_tokens is not None:
    report_cut(cut, terminal.count(len(prompts), 'prompt'), max_tokens)
  return [row or [tokenizer.eos_token_id] for row in ids]


def decode(
  tokenizer: Any,
  ids: Iterable[int],
  ends: Container[int] = (),
  skip_special_tokens: bool = True,
  begins: bool = False,
) -> str:
  """Converts sampled ids to text, exactly as sampled; ends before the first EOS.

  Args:
    tokenizer: a fast Hugging Face tokenizer; its EOS ends a text.
    ids: the token ids of a response.
    ends: other ids that end a text, such as the EOS ids of a model.
    skip_special_tokens: whether to omit special tokens. If they are kept, they look like typed
      ones, which `encode` makes plain text.
    begins: whether the ids begin a text. Tokenizers of SentencePiece put a space before it, which
      is then not part of it.
  """
  before_eos = []
  for token in map(int, ids):
    if token == tokenizer.eos_token_id or token in ends:
      break
    before_eos.append(token)
  return backends.decode(tokenizer, before_eos, skip_special_tokens, begins)


def check_reads(tokenizer: Any, source: str) -> None:
  """Refuses the tokenizer of a classifier that knows no word.

  Such a tokenizer may lose case and white space, as the classifier was trained. Text is never read
  back from its ids.

  Args:
    tokenizer: a fast Hugging Face tokenizer.
    source: its name in messages.

  Raises:
    InputError: every word is unknown to it.
  """
  (ids,), _ = encode(tokenizer, ['Hello world'])
  if set(ids) <= {tokenizer.unk_token_id}:
    raise InputError(
      f"{source}: its tokenizer reads 'Hello world' as {ids}, unknown words alone; its vocabulary "
      'is missing or damaged'
    )


def check(tokenizer: Any, source: str) -> None:
  """Refuses a tokenizer that loses text, or whose merges are missing.

  Some versions of transformers 5 load RoBERTa's tokenizer such that every word becomes <unk>. If
  the vocabulary has the two words of "Hello world" (Pythia's: 12092 1533, RoBERTa's: 31414 232),
  the text must become these two ids.

  Args:
    tokenizer: a fast Hugging Face tokenizer.
    source: its name in messages.

  Raises:
    InputError: a text does not come back whole, a typed EOS becomes the real one, or words of the
      vocabulary are split.
  """
  probe = ' Hello  world' + (tokenizer.eos_token or '')
  (ids,), _ = encode(tokenizer, [probe], continues=True)
  (whole,), _ = encode(tokenizer, [probe])
  read = decode(tokenizer, ids), decode(tokenizer, whole[len(front(tokenizer)) :], begins=True)
  # Some tokenizers read a space at the beginning as the one that they put there.
  kept = read[0] == probe and read[1] in (probe, probe[1:])
  if tokenizer.eos_token_id in ids or not kept:
    back = read[read[0] == probe]
    raise InputError(
      f'{source}: its tokenizer loses text ({probe!r} comes back as {back!r}); '
      'use a folder whose tokenizer.json is byte-level (GPT-NeoX, RoBERTa)'
    )
  (ids,), _ = encode(tokenizer, ['Hello world'])
  known = [tokenizer.get_vocab().get(word) for word in ('Hello', 'Ġworld')]
  if None not in known and ids[len(front(tokenizer)) :] != known:
    raise InputError(
      f"{source}: its tokenizer splits 'Hello world' into {ids} instead of {known}, the two words "
      'of its vocabulary; its merges are missing or damaged'
    )
