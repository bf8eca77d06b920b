"""The playground: a generated world of short internet comments whose true labels are known.

A comment is a neutral opening and two or three clauses. It is toxic if any of its clauses is an
attack. Words are drawn from a friendly or a rude register, so insults occur together. In more than
a sixth of the sentences, the subject, negation or quotation reverses the label, so no word list
classifies every comment correctly. The tables are in world.py and words.py.
"""

import bisect
import dataclasses
import functools
import itertools
import random
import re

from irl_jax.data.playground import words
from irl_jax.data.playground import world

SLOT = re.compile(r'\{(\w+)\}')
ARTICLE = re.compile(r'\ba (?=[aeio]|un|ut)')


@dataclasses.dataclass(frozen=True)
class Sentence:
  """One sentence of a comment and its verdict."""

  text: str
  kind: str  # its row in world.CLAUSES
  toxic: bool
  inverted: bool  # whether subject, negation or quotation invert the verdict of its words


def comments(n: int, seed: int) -> list[dict[str, str | int]]:
  """Generates comments; a smaller n with the same seed gives the first n of them.

  Args:
    n: how many.
    seed: >= 0; the same seed gives the same comments everywhere.

  Returns:
    A list of {'text': str, 'label': 1 (toxic) or 0}.
  """
  return [
    {
      'text': ' '.join(sentence.text for sentence in comment),
      'label': int(any(sentence.toxic for sentence in comment)),
    }
    for comment in sentences(n, seed)
  ]


def sentences(n: int, seed: int) -> list[list[Sentence]]:
  """Generates the same comments as `comments`, as sentences with their verdicts."""
  rng = random.Random(seed)
  return [comment(rng) for _ in range(n)]


def comment(rng: random.Random) -> list[Sentence]:
  """Draws one comment: a topic, a register, and two or three sentences after an opening."""
  topic = pick(rng, tuple(words.TOPICS))
  register = 'rude' if rng.random() < world.RUDE_REGISTER else 'friendly'
  count = 3 if rng.random() < world.THREE_SENTENCES else 2
  opening = expand(rng, pick(rng, world.OPENERS), tables(topic, 'warm'))
  return [sentence(rng, topic, register, opening if index == 0 else '') for index in range(count)]


def sentence(rng: random.Random, topic: str, register: str, opening: str) -> Sentence:
  """Draws a sentence: opening, connective, clause and tag. Only the clause decides the verdict."""
  kind = pick_kind(rng, register)
  clause = world.CLAUSES[kind]
  parts = [
    opening,
    flourish(rng, 'connective', world.CONNECTIVE, register),
    expand(rng, pick(rng, clause.frames), tables(topic, clause.tone)),
    flourish(rng, 'tag', world.TAG, register),
  ]
  text = ', '.join(part for part in parts if part) + (
    '!' if rng.random() < world.EXCLAMATION[register] else '.'
  )
  return Sentence(ARTICLE.sub('an ', text), kind, clause.toxic, clause.inverted)


def flourish(rng: random.Random, table: str, share: float, register: str) -> str:
  """Draws a connective or a tag, sometimes of the other register, or ''."""
  if rng.random() >= share:
    return ''
  if rng.random() < world.SLIP:
    register = 'friendly' if register == 'rude' else 'rude'
  return pick(rng, world.REGISTERS[register][table])


def expand(rng: random.Random, template: str, entries: dict[str, tuple[str, ...]]) -> str:
  """Fills every slot of the template, and the slots of the entries that fill them."""
  if '{' not in template:
    return template
  return SLOT.sub(lambda slot: expand(rng, pick(rng, entries[slot[1]]), entries), template)


@functools.cache
def tables(topic: str, tone: str) -> dict[str, tuple[str, ...]]:
  """Returns all tables that a clause of this topic and tone draws from."""
  return {'dismissal': world.DISMISSALS} | words.COMMON | words.TOPICS[topic] | words.TONES[tone]


def pick(rng: random.Random, entries: tuple[str, ...]) -> str:
  """Draws an entry by Zipf's law."""
  # Only rng.random() is used: its stream is the same in every version of Python.
  weights = zipf(len(entries))
  return entries[bisect.bisect(weights, rng.random() * weights[-1], hi=len(weights) - 1)]


@functools.cache
def zipf(count: int) -> list[float]:
  """Returns cumulative weights of `count` entries, the most common first."""
  return list(
    itertools.accumulate(
      (rank + world.ZIPF_OFFSET) ** -world.ZIPF_EXPONENT for rank in range(1, count + 1)
    )
  )


def pick_kind(rng: random.Random, register: str) -> str:
  """Draws the kind of a clause by the register's shares."""
  kinds, weights = cumulative_shares(register)
  return kinds[bisect.bisect(weights, rng.random() * weights[-1], hi=len(weights) - 1)]


@functools.cache
def cumulative_shares(register: str) -> tuple[tuple[str, ...], list[float]]:
  """Returns the kinds of clause in a register, and their cumulative shares."""
  shares = world.SHARES[register]
  return tuple(shares), list(itertools.accumulate(shares.values()))
