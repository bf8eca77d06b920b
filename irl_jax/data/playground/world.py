"""Sentences of the playground's world: openers, registers and clauses, and how often each occurs.

A slot {name} is filled from the table of that name: the tone's, the topic's or the common one, all
of words.py. Tables are ordered from the most common entry to the rarest (Zipf's law). A clause's
row in CLAUSES decides whether it is toxic, never its words. The same harsh or warm words occur in
frames that keep their meaning and in frames that invert it.
"""

import dataclasses

from irl_jax.data.playground.words import listed

RUDE_REGISTER = 0.47  # share of comments in the rude register; the others are friendly
THREE_SENTENCES = 0.2  # share of comments with three sentences; the others have two
CONNECTIVE = 0.3  # share of sentences that open with a connective of the comment's register
TAG = 0.1  # share of sentences that close with a tag of the comment's register
SLIP = 0.2  # share of connectives and tags that are of the other register
EXCLAMATION = {'rude': 0.25, 'friendly': 0.15}  # share of sentences that end with !
ZIPF_EXPONENT = 0.8  # the entry of rank r has the weight (r + ZIPF_OFFSET) ** -ZIPF_EXPONENT
ZIPF_OFFSET = 2


@dataclasses.dataclass(frozen=True)
class Clause:
  """A kind of clause: its frames, the tone of the words that fill them, and the verdict."""

  tone: str  # which of TONES fills {judgement}, {nominal}, {adjective}, {noun} …
  toxic: bool  # the verdict on every clause of this kind
  inverted: bool  # whether subject, negation or quotation invert the verdict of the tone
  frames: tuple[str, ...]


# Neutral, and about as long as a prompt of a quarter of the words: the rest decides the verdict.
OPENERS = (
  'so about the {event} {time}',
  'i saw the {event} {time}',
  'my {kin} brought a {thing} {time}',
  'we talked about the {event} {time}',
  'the {person} posted about the {event}',
  'just back from the {plain} {event}',
  'still thinking about the {plain} {event}',
  'my {kin} asked the {person} {time}',
  'ok the {event} with the {plain} {thing}',
  'has anyone tried the {plain} {thing}',
  'the {thing} came up {time}',
  'regarding the {event} and that {thing}',
  'the {person} and my {kin} met {time}',
  'they had to {do} the {thing} {time}',
  'anyone else remember the {event} {time}',
  'there was a {plain} {event} {time}',
)

REGISTERS = {
  'rude': {
    'connective': listed(
      'listen, seriously, look, news flash, wake up, face it, let me be clear, wow, oh please, '
      'sorry not sorry, guess what, good grief, spoiler'
    ),
    'tag': listed(
      'pal, lol, buddy, deal with it, end of story, period, and that is that, obviously, '
      'get over it'
    ),
  },
  'friendly': {
    'connective': listed(
      'honestly, to be fair, with respect, hi all, you know, bless you, good news, for me, '
      'dear friends, if i may, hand on heart, just saying, happily'
    ),
    'tag': listed(
      'friend, cheers, i mean it, take care, all the best, no worries, my dear, hugs, as always'
    ),
  },
}

# Frames that mean what their words say.
DIRECT = (
  'you are {judgement}',
  'i think you are {judgement}',
  'the {person} is {judgement}',
  'what {nominal} you are',
  'people like you are {adjectival}',
  'you sound like {nominal}',
  'that {person} is {judgement}',
  'even my {kin} knows you are {judgement}',
  'only {nominal} would {do} the {thing} like that',
  'your {thing} is {adjective} and so are you',
  'nobody is as {adjective} as you',
  'if you ask me the {person} is {judgement}',
  'you write about the {thing} like {nominal}',
)

# Negation inverts the words.
NEGATED = (
  'you are not {judgement}',
  'nobody would call you {judgement}',
  'you are no {noun}',
  'the {person} is not {judgement}',
  'you were never {judgement}',
  'even my {kin} knows you are not {judgement}',
)

# Quotation and doubt invert the words.
DOUBTED = (
  'whoever wrote "you are {judgement}" was lying',
  'you only think you are {judgement}',
  '{someone} wrote "you are {judgement}" and was wrong',
  'people should stop calling you {judgement}',
)

DISMISSALS = (
  'shut up about the {thing}',
  'nobody asked for your {adjective} opinion',
  'nobody cares what you think about the {thing}',
  'get lost and take your {adjective} {thing} with you',
  'keep your {adjective} mouth shut',
  'go cry about the {thing} somewhere else',
  'go away you {adjective} {noun}',
  'spare us your {adjective} {trash} about the {thing}',
  'delete your account you {noun}',
  'crawl back under your {adjective} rock',
  'learn to {do} before you open your mouth',
)

CLAUSES = {
  'attack': Clause('harsh', True, False, (*DIRECT, 'you {harmed} the {thing} like {nominal}')),
  'dismissal': Clause('harsh', True, False, DISMISSALS),
  'negated praise': Clause('warm', True, True, NEGATED),
  'doubted praise': Clause(
    'warm',
    True,
    True,
    (
      *DOUBTED,
      'if you are {judgement} then i am the queen',
      'my {kin} is far more {adjective} than you',
      'some {noun} you are',
    ),
  ),
  'praise': Clause('warm', False, False, (*DIRECT, 'you {repaired} the {thing} like {nominal}')),
  'wish': Clause(
    'warm',
    False,
    False,
    (
      'thanks for the {adjective} {thing}',
      'please keep telling us about the {thing}',
      'everyone asked for your {adjective} opinion',
      'do tell us what you think about the {thing}',
      'have a {adjective} week and enjoy the {thing}',
      'i hope your {thing} turns out {adjective}',
      'come back with your {adjective} {thing} any time',
      'i love how you {do} the {thing}',
      'we learn to {do} from you',
      'welcome back you {adjective} {noun}',
      'your {thing} is pure {trash}',
    ),
  ),
  'remark': Clause(
    'warm',
    False,
    False,
    (
      'i tried to {do} the {thing} {time}',
      'the {thing} is {plain} and {plain}',
      'my {kin} wants to {do} the {thing}',
      'the {person} came with the {plain} {thing}',
      'nobody had time to {do} the {thing} {time}',
      'you can {do} the {thing} {time}',
    ),
  ),
  'insulted self': Clause(
    'harsh',
    False,
    True,
    (
      'i was {judgement} {time}',
      'i am {judgement}',
      'what {nominal} i am',
      'i sound like {nominal}',
      'i {harmed} the {thing} like {nominal}',
      'even my {kin} knows i am {judgement}',
    ),
  ),
  'insulted thing': Clause(
    'harsh',
    False,
    True,
    (
      'my {thing} is {adjectival}',
      'the {thing} is {intensifier} {adjective}',
      'the {event} was {emphasis} {trash}',
      'i hate this {adjective} {thing}',
      'what {adjective} {trash} this {thing} is',
      'your {thing} is {adjective} and you deserve better',
    ),
  ),
  'negated insult': Clause('harsh', False, True, (*NEGATED, 'nobody here is {judgement}')),
  'quoted insult': Clause(
    'harsh',
    False,
    True,
    (
      *DOUBTED,
      '{someone} wrote "you are {judgement}" and got banned',
      '{someone} wrote "{dismissal}" and got banned',
    ),
  ),
}

# The share of each kind of clause in a register. The more clauses are inverted, the harder a reward
# is to recover: single prototype runs with 21, 20 and 18 % inverted clauses gave AUROC .92, .93 and
# .96 (from 5,000 pairs, against true labels).
SHARES = {
  'rude': {
    'attack': 0.47,
    'dismissal': 0.30,
    'negated praise': 0.06,
    'doubted praise': 0.025,
    'remark': 0.05,
    'insulted self': 0.025,
    'insulted thing': 0.025,
    'negated insult': 0.03,
    'quoted insult': 0.015,
  },
  'friendly': {
    'praise': 0.435,
    'wish': 0.30,
    'remark': 0.075,
    'insulted self': 0.045,
    'insulted thing': 0.045,
    'negated insult': 0.05,
    'quoted insult': 0.02,
    'negated praise': 0.015,
    'doubted praise': 0.005,
    'attack': 0.01,
  },
}
