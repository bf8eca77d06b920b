"""The label of a classifier that means toxic, and the probabilities of its logits.

Nothing is guessed silently: if the chosen label is not named "toxic", it is logged, and if the
names do not show which label means toxic, the model is refused.
"""

from collections.abc import Sequence
import operator
import re
from typing import Any
from typing import Literal

from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.runtime import notices

Label = str | int  # of a classifier: its name, or its number from 0; '': found by the names
Meaning = Literal['harmful', 'harmless', 'unclear', '']  # '': unknown
Activation = Literal['softmax', 'sigmoid', 'none']
TOXIC = 'toxic'
SET_BY = 'config.models.label (score: --label)'
HARMFUL = set(
  'toxic toxicity hate hateful hatespeech offensive offense offence off abusive abuse '  # noqa: SIM905
  'insult '
  'insults insulting harmful unsafe nsfw obscene profane profanity threat threats threatening '
  'harassment harassing bullying cyberbullying racist racism sexist sexism misogynist misogyny '
  'inappropriate unacceptable aggressive rude vulgar hof bad flagged uncivil hostile violent '
  'violence yes true 1'.split()
)
HARMLESS = set(
  'neutral normal clean safe ok okay fine good benign acceptable appropriate '  # noqa: SIM905
  'civil harmless '
  'inoffensive neither none other nice polite friendly no false 0 not nontoxic'.split()
)
# May refer to sentiment, or to a positive detection
UNCLEAR = {'positive', 'negative', 'pos', 'neg'}
NEGATIONS = {'not', 'non', 'no', 'never'}


def written(label: Any) -> str:
  """Returns the name or the digits of a label that a caller passed; '' for None.

  Raises:
    ConfigError: it is neither a string nor a whole number.
  """
  if label is None or isinstance(label, str):
    return label or ''
  if not hasattr(label, '__index__') or isinstance(label, bool):
    raise ConfigError(f'label = {label!r:.60}: must be the name or the number of a label')
  return str(operator.index(label))  # also of 0, which is false but chosen


def toxic_label(names: Sequence[str], where: str = 'the classifier', chosen: Label = '') -> int:
  """Returns the index of the toxic label.

  It is the one that is chosen, else the one named "toxic" in any case. Of two other names, it is
  the one that means harm ("hate", "LABEL_1"), or whose opposite does not ("nothate"). Such a choice
  is logged. Names that say neither ("human", "machine") are refused.

  Args:
    names: the names of the labels, in the order of the logits.
    where: the name of the model in a message.
    chosen: the name of the toxic label, or its number; '': it is found by the names.

  Raises:
    ConfigError: the classifier has no such label, or it is not named by a string or a number.
    InputError: the names do not say which label is toxic.
  """
  if chosen := written(chosen):
    return _chosen_label(names, where, chosen)
  named = [index for index, name in enumerate(names) if name.lower() == TOXIC]
  if len(named) == 1:
    return named[0]
  index = None if named or len(names) != 2 else _of_two(*names)
  if index is None:
    raise InputError(
      f'{where}: the label names do not show which one means toxic: id2label = '
      f'{_listed(names)}; name it in {SET_BY}, or "{TOXIC}" in config.json'
    )
  notices.warn_once(
    f'{where}: assumes that label {index}, {names[index]!r}, means toxic, of {_listed(names)}; '
    f'{SET_BY} names another'
  )
  return index


def _chosen_label(names: Sequence[str], where: str, chosen: str) -> int:
  """Returns the index of the label that a user names, by its name or its number."""
  for equal in (str.__eq__, lambda name, wanted: name.lower() == wanted.lower()):
    matching = [index for index, name in enumerate(names) if equal(name, chosen)]
    if len(matching) == 1:
      return matching[0]
  if chosen.isdecimal() and int(chosen) < len(names):
    return int(chosen)
  raise ConfigError(
    f'{where}: has no label {chosen!r}; its labels: {_listed(names)}; correct {SET_BY}'
  )


def _listed(names: Sequence[str]) -> str:
  """Returns the names for a message of one line."""
  return f'{list(names[:10])}' + (f' and {len(names) - 10} more' if len(names) > 10 else '')


def _of_two(first: str, second: str) -> int | None:
  """Returns which of two labels is toxic by their names; None if they do not say."""
  meanings = _meaning(first, second), _meaning(second, first)
  for meaning, found in (('harmful', 0), ('harmless', 1)):
    if meanings.count(meaning) == 1:  # type: ignore[arg-type]  # a literal
      index = (meanings.index(meaning) + found) % 2  # type: ignore[arg-type]
      return None if meanings[index] == 'unclear' else index
    if meanings.count(meaning) == 2:  # type: ignore[arg-type]
      return None
  return None


def _meaning(name: str, other: str) -> Meaning:
  """Returns the meaning of a label's name for the texts that have it."""
  words, others = _words(name), _words(other)
  negated = len(words) > 1 and words[0] in NEGATIONS
  if negated:
    words = words[1:]
  if HARMFUL & set(words):
    return 'harmless' if negated else 'harmful'
  if HARMLESS & set(words):
    return 'harmful' if negated else 'harmless'
  if (negated and words == others) or name.lower() in {f'{no}{other.lower()}' for no in NEGATIONS}:
    return 'harmless'  # not sexist, sexist; nontoxisch, toxisch
  return 'unclear' if UNCLEAR & set(words) else ''


def _words(name: str) -> list[str]:
  """Returns the words of a label's name; a negation is one of them ("nothate")."""
  spaced = re.sub('([a-z])([A-Z])', r'\1 \2', name).lower()
  words = re.findall('[^\\W_]+', spaced)
  if len(words) == 1:
    for negation in sorted(NEGATIONS):
      rest = words[0].removeprefix(negation)
      if rest != words[0] and rest in HARMFUL | HARMLESS:
        return [negation, rest]
  return words


def activation(raw: dict[str, Any], count: int) -> Activation:
  """Returns the function that makes probabilities of logits, as in transformers' pipeline.

  Args:
    raw: config.json as it stands; its problem_type is read.
    count: number of labels.
  """
  kind = raw.get('problem_type')
  if kind == 'regression':
    return 'none'
  if kind == 'multi_label_classification' or count == 1:
    return 'sigmoid'
  return 'softmax'
