"""Tokenizers for which plain text needs care: at its beginning, and where it looks like a token.

Tokenizers of SentencePiece (Llama 2, Mistral) put a space before a text and take it off when they
decode. A completion does not begin a text, so it must get no such space, and keep its own. In other
vocabularies (XLM-RoBERTa's), special tokens are ordinary pieces too, so that a typed '</s>' becomes
the real one. For both, texts are read by a copy of the tokenizer's backend with other settings. A
tokenizer that needs neither is used as it is.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import functools
import itertools
import json
from typing import Any

import tokenizers

# Before the names of special tokens in a copy. No text contains this noncharacter (`ids`).
_HIDDEN = '\ufdd4'
_PARTS = ('normalizers', 'pretokenizers')  # of a sequence


def special_tokens(tokenizer: Any) -> dict[str, int]:
  """Returns the special tokens of a tokenizer and their ids: text never becomes one of them."""
  added = tokenizer.added_tokens_decoder.values()
  declared, plain = ({one.content for one in added if one.special is is_} for is_ in (True, False))
  named = {str(token) for token in tokenizer.all_special_tokens}
  numbers = {
    token: tokenizer.backend_tokenizer.token_to_id(token)
    for token in sorted(declared | named - plain)
  }
  return {token: number for token, number in numbers.items() if number is not None}


def ids(
  tokenizer: Any, texts: Sequence[str], specials: bool = False, continues: bool = False
) -> list[list[int]]:
  """Converts plain texts to token ids.

  Args:
    tokenizer: a fast Hugging Face tokenizer.
    texts: texts without lone surrogates.
    specials: whether to add the tokenizer's special ids around each text.
    continues: whether the texts continue others, so that no space is put before them.
  """
  if not texts:
    return []
  if backend := _copy(tokenizer, continues):
    cleared = [text.replace(_HIDDEN, '\ufffd') for text in texts]
    return [one.ids for one in backend.encode_batch(cleared, add_special_tokens=specials)]
  return _ids_as_it_is(tokenizer, texts, specials)


def decode(tokenizer: Any, sampled: Sequence[int], skip_special_tokens: bool, begins: bool) -> str:
  """Converts ids to text, with the space before the first word unless they begin a text."""
  plain = functools.partial(
    tokenizer.decode, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
  )
  anchor = () if begins else _anchor(tokenizer)
  return plain([*anchor, *sampled])[len(plain(anchor)) :] if anchor else plain(sampled)


def puts_space_after_special(tokenizer: Any) -> bool:
  """Returns whether text after a special token is read as if it began a text."""
  special = next((token for token in special_tokens(tokenizer)), '')
  with_special = tokenizer(f'{special}a', add_special_tokens=False, split_special_tokens=False)
  return with_special['input_ids'][1:] == _ids_as_it_is(tokenizer, ['a'], specials=False)[0]


def _ids_as_it_is(tokenizer: Any, texts: Sequence[str], specials: bool) -> list[list[int]]:
  return tokenizer(
    list(texts),
    add_special_tokens=specials,
    split_special_tokens=True,
    return_attention_mask=False,
    return_token_type_ids=False,
    truncation=False,
    padding=False,
    verbose=False,
  )['input_ids']


@functools.lru_cache(maxsize=8)
def _anchor(tokenizer: Any) -> tuple[int, ...]:
  """Returns ids to put before others so that these keep their space; () if they keep it anyway."""
  (after,) = ids(tokenizer, [' a'], continues=True)
  if tokenizer.decode(after, clean_up_tokenization_spaces=False) == ' a':
    return ()
  return tuple(ids(tokenizer, ['a'], continues=True)[0])


@functools.lru_cache(maxsize=8)
def _copy(tokenizer: Any, continues: bool) -> tokenizers.Tokenizer | None:
  """Returns the backend that reads plain texts; None: the tokenizer's own does."""
  own = tokenizer.backend_tokenizer
  parts = {name: _state(getattr(own, name)) for name in ('normalizer', 'pre_tokenizer')}
  changed = {name: _without_space(part) for name, part in parts.items()} if continues else parts
  specials = special_tokens(tokenizer)
  hides = _are_reachable(tokenizer, specials)
  if changed == parts and not hides:
    return None
  settings = json.loads(own.to_str()) | changed
  copy = tokenizers.Tokenizer.from_str(
    json.dumps(_hidden(settings, specials) if hides else settings)
  )
  copy.no_truncation()
  copy.no_padding()
  copy.encode_special_tokens = True
  return copy


def _state(part: Any) -> dict[str, Any] | None:
  return json.loads(part.__getstate__()) if part is not None else None


def _without_space(part: dict[str, Any] | None) -> dict[str, Any] | None:
  """Returns the settings of a normalizer or pre-tokenizer without what it puts before a text."""
  if part is None:
    return None
  for name in _PARTS:
    if name in part:
      return {**part, name: [new for one in part[name] if (new := _without_space(one))]}
  of_start = str(part.get('pattern', {}).get('Regex', '')).startswith((r'\A', '^'))
  if part['type'] == 'Prepend' or (part['type'] == 'Replace' and of_start):
    return None
  if part['type'] == 'Metaspace':
    return {**part, 'prepend_scheme': 'never'}
  return {**part, 'add_prefix_space': False} if part['type'] == 'ByteLevel' else part


def _are_reachable(tokenizer: Any, specials: dict[str, int]) -> bool:
  """Returns whether a special token, other than that of unknown words, can come from plain text."""
  typed = [form for token in specials for form in (token, f' {token}', f'a{token}a')]
  found = _ids_as_it_is(tokenizer, typed, specials=False) if typed else []
  real = {*specials.values()} - {tokenizer.unk_token_id}
  return not real.isdisjoint(itertools.chain.from_iterable(found))


def _hidden(settings: dict[str, Any], specials: Iterable[str]) -> dict[str, Any]:
  """Returns a backend's settings in which special tokens have names that no text contains."""
  named = {token: f'{_HIDDEN}{token}' for token in specials}
  model = settings['model']
  vocabulary = model['vocab']
  if isinstance(vocabulary, dict):
    renamed: Any = {named.get(piece, piece): number for piece, number in vocabulary.items()}
  else:  # Unigram's pieces and their scores
    renamed = [[named.get(piece, piece), score] for piece, score in vocabulary]
  new = {**model, 'vocab': renamed}
  if model.get('unk_token') in named:
    new['unk_token'] = named[model['unk_token']]
  if 'merges' in model:
    new['merges'] = [
      pair for pair in model['merges'] if named.keys().isdisjoint([*pair, ''.join(pair)])
    ]
  added = [
    {**token, 'content': named.get(token['content'], token['content'])}
    for token in settings['added_tokens']
  ]
  return {**settings, 'model': new, 'added_tokens': added}
