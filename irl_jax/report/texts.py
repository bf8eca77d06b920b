"""The texts that a report shows: where rewards disagree most and where R̂ is highest and lowest, coloured by token.

Texts come from models and strangers: nothing in them may act on the page, and what cannot be seen is made visible.
Dims: N held-out texts, K seeds.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
import re

import numpy as np
import scipy

from irl_jax.report.inputs import Inputs
from irl_jax.report.inputs import Row
from irl_jax.report.wording import number
from irl_jax.report.wording import visible

SHOWN = 5  # texts of a group
CHARACTERS = 700  # longer texts are cut there and marked '…'
STEPS = 4  # of colour, each way


@dataclasses.dataclass(frozen=True)
class Token:
  """A word or part of one, the white space before it, and its colour: -STEPS disliked to STEPS liked, 0 neither."""

  space: str
  word: str
  step: int = 0


@dataclasses.dataclass(frozen=True)
class Shown:
  """A text and what is said of it; a pair has two bodies."""

  facts: Sequence[str]
  bodies: Sequence[tuple[str, Sequence[Token]]]  # (label, tokens)


@dataclasses.dataclass(frozen=True)
class Group:
  """Texts that are shown for one reason."""

  title: str
  note: str
  texts: Sequence[Shown]


def groups(inputs: Inputs) -> list[Group]:
  """The texts that a report shows; [] where the run has none."""
  if not inputs.texts:
    return []
  rewards, true = inputs.rewards(), inputs.true_rewards()
  mean = rewards.mean(axis=1)
  ranks = {'R̂': rank(mean)} | ({} if true is None else {'r*': rank(true)})
  coloured = colours(inputs.attributions)
  show = lambda rows: [
    Shown(
      facts(inputs.texts[row], mean[row], ranks, row, rewards[row]),
      [('', coloured.get(inputs.texts[row]['text']) or plain(inputs.texts[row]['text']))],
    )
    for row in rows
  ]
  chosen = []
  if true is not None:
    gap = ranks['R̂'] - ranks['r*']
    chosen += [
      Group(
        'R̂ likes them, r* does not', 'Where the ranks of R̂ and r* differ most.', show(top(gap))
      ),
      Group('r* likes them, R̂ does not', 'The other way round.', show(top(-gap))),
    ]
  chosen += [
    Group('R̂ scores them highest', '', show(top(mean))),
    Group('R̂ scores them lowest', '', show(top(-mean))),
  ]
  if rewards.shape[1] > 1:
    spread = np.stack([rank(column) for column in rewards.T], axis=1).std(axis=1)
    chosen.append(
      Group(
        'The seeds differ most', 'Where the deviation of their ranks is largest.', show(top(spread))
      )
    )
  wrong = misordered(inputs.pairs)
  if wrong:
    chosen.append(
      Group(
        'Pairs in the wrong order',
        'Completions of one prompt that R̂ orders against r*, both by a wide margin.',
        wrong,
      )
    )
  return [group for group in chosen if group.texts]


def rank(values: np.ndarray) -> np.ndarray:
  """The share of texts [N] that score lower, ties half, in (0, 1)."""
  return (scipy.stats.rankdata(values) - 0.5) / len(values)


def top(values: np.ndarray) -> list[int]:
  """The rows with the largest values; the first of equal ones."""
  return np.argsort(-values, kind='stable')[:SHOWN].tolist()


def facts(
  row: Row, mean: float, ranks: Mapping[str, np.ndarray], index: int, rewards: np.ndarray
) -> list[str]:
  """What is said above a text."""
  seeds = (
    f', seeds {number(float(rewards.min()))} to {number(float(rewards.max()))}'
    if len(rewards) > 1
    else ''
  )
  said = [f'R̂ {number(float(mean))} (percentile {100 * ranks["R̂"][index]:.0f}{seeds})']
  if 'r*' in ranks:
    said.append(f'r* {number(row["true_reward"], 2)} (percentile {100 * ranks["r*"][index]:.0f})')
  if row.get('label') is not None:
    said.append('people: ' + ('toxic' if row['label'] == 1 else 'not toxic'))
  return said


def misordered(pairs: Sequence[Row]) -> list[Shown]:
  """The pairs that R̂ (mean of seeds) orders against r*, by the product of the two differences."""
  pairs = [
    pair
    for pair in pairs
    if pair.get('true_reward_aligned') is not None and pair.get('true_reward_base') is not None
  ]
  if not pairs:
    return []
  of = lambda name: np.array([np.mean(pair[name]) for pair in pairs], np.float64)
  recovered = of('rewards_aligned') - of('rewards_base')
  true = of('true_reward_aligned') - of('true_reward_base')
  against = -recovered * true
  return [
    Shown(
      [f'R̂ prefers {prefers(recovered[row], 3)}', f'r* prefers {prefers(true[row], 2)}'],
      [(label, plain(pairs[row][label])) for label in ('prompt', 'aligned', 'base')],
    )
    for row in top(against)
    if against[row] > 0
  ]


def prefers(difference: float, digits: int) -> str:
  """Which completion of a pair, and by how much."""
  return f'{"aligned" if difference > 0 else "base"} by {number(abs(float(difference)), digits)}'


def colours(attributions: Sequence[Row]) -> dict[str, list[Token]]:
  """The coloured tokens of every text that has attributions; one scale for all of them."""
  sizes = [abs(token['attribution']) for row in attributions for token in row['tokens']]
  scale = float(np.quantile(sizes, 0.98)) if sizes else 0.0
  return {
    row['text']: cut(
      [
        token
        for piece in row['tokens']
        for token in tokens(piece['piece'], step(piece['attribution'], scale))
      ]
    )
    for row in attributions
  }


def step(attribution: float, scale: float) -> int:
  """The colour of an attribution: 0 below an eighth of the scale, else 1 to STEPS with its sign."""
  share = abs(attribution) / scale if scale > 0 else 0.0
  size = min(STEPS, math.ceil(STEPS * share)) if share >= 0.125 else 0
  return int(math.copysign(size, attribution))


def plain(text: str) -> list[Token]:
  """The words of a text without attributions."""
  return cut(tokens(text))


def tokens(text: str, colour: int = 0) -> list[Token]:
  """The words of a text, or of a piece of one, all of one colour."""
  parts = re.findall(r'(\s*)(\S+)|(\s+)$', visible(text))
  return [Token(space or tail, word, colour if word else 0) for space, word, tail in parts]


def cut(whole: Sequence[Token]) -> list[Token]:
  """At most CHARACTERS of a text; a longer one ends in '…'."""
  result, left = [], CHARACTERS
  for token in whole:
    if len(token.space) + len(token.word) > left:
      return [
        *result,
        Token(token.space[:left], token.word[: max(0, left - len(token.space))] + '…', token.step),
      ]
    result.append(token)
    left -= len(token.space) + len(token.word)
  return result
