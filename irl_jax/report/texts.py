"""The texts that a report shows: largest disagreements, highest and lowest R̂; and its words.

Texts come from models and unknown people: they must not be able to affect the page, and invisible
characters are made visible. Dims: N held-out texts, K seeds.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
import re

import numpy as np
import scipy

from irl_jax.report.inputs import Inputs
from irl_jax.report.quality import shows_nothing
from irl_jax.report.tables import Table
from irl_jax.report.wording import count
from irl_jax.report.wording import number
from irl_jax.report.wording import numbers
from irl_jax.report.wording import percent
from irl_jax.report.wording import SPACE
from irl_jax.report.wording import visible
from irl_jax.runtime import records

SHOWN = 5  # texts of a group
CHARACTERS = 700  # longer texts are cut there and end in '…'
STEPS = 4  # steps of colour, each way


@dataclasses.dataclass(frozen=True)
class Token:
  """A word or part of one, the white space before it, and its colour."""

  space: str
  word: str
  step: int = 0  # -STEPS (lowers R̂ most) to STEPS (raises it most); 0: neither


@dataclasses.dataclass(frozen=True)
class Shown:
  """A text with the facts above it; a pair has a body for each of its texts."""

  facts: Sequence[str]
  bodies: Sequence[tuple[str, Sequence[Token]]]  # (label, tokens)


@dataclasses.dataclass(frozen=True)
class Group:
  """Texts that are shown for one reason."""

  title: str
  note: str
  texts: Sequence[Shown]


def groups(inputs: Inputs) -> list[Group]:
  """Returns the texts that a report shows; [] if the run has none."""
  if not inputs.texts:
    return []
  rewards, true = inputs.rewards(), inputs.true_rewards()
  mean = rewards.mean(axis=1)
  ranks = {'R̂': rank(mean)} | ({} if true is None else {'r*': rank(true)})
  coloured = coloured_texts(inputs.attributions)

  def show(order: np.ndarray) -> list[Shown]:
    rows = []
    for row in top(order):
      text = inputs.texts[row]
      body = coloured.get(text['text']) or plain(text['text'])
      rows.append(Shown(facts(text, mean[row], ranks, row, rewards[row]), [('', body)]))
    return rows

  chosen = []
  if true is not None:
    gap = ranks['R̂'] - ranks['r*']
    chosen += [
      Group('R̂ scores them high, r* low', 'Where the ranks of R̂ and r* differ most.', show(gap)),
      Group(
        'r* scores them high, R̂ low', 'Where they differ most in the other direction.', show(-gap)
      ),
    ]
  chosen += [
    Group('R̂ scores them highest', '', show(mean)),
    Group('R̂ scores them lowest', '', show(-mean)),
  ]
  if rewards.shape[1] > 1:
    deviation = np.stack([rank(column) for column in rewards.T], axis=1).std(axis=1)
    note = 'Where the ranks that seeds give them vary most.'
    chosen.append(Group('The seeds differ most', note, show(deviation)))
  note = 'Completions of one prompt that R̂ orders against r*, both by a wide margin.'
  chosen.append(Group('Pairs in the wrong order', note, misordered(inputs.pairs)))
  return [group for group in chosen if group.texts]


def rank(values: np.ndarray) -> np.ndarray:
  """Returns the share of texts [N] that score lower, in (0, 1); ties count half."""
  return (scipy.stats.rankdata(values) - 0.5) / len(values)


def top(values: np.ndarray) -> list[int]:
  """Returns the rows with the largest values; the first of equal ones."""
  return np.argsort(-values, kind='stable')[:SHOWN].tolist()


def facts(
  row: records.ScoredText,
  mean: float,
  ranks: Mapping[str, np.ndarray],
  index: int,
  rewards: np.ndarray,
) -> list[str]:
  """Returns the facts that are shown above a text.

  Args:
    row: the text.
    mean: its R̂, mean of the seeds.
    ranks: the ranks [N] of all texts by R̂, and by r* if there is one.
    index: the index of the text among them.
    rewards: [K], its R̂ by seed.
  """
  low, high = number(float(rewards.min())), number(float(rewards.max()))
  seeds = f', seeds {low} to {high}' if len(rewards) > 1 else ''
  result = [f'R̂ {number(float(mean))} (percentile {100 * ranks["R̂"][index]:.0f}{seeds})']
  if 'r*' in ranks:
    percentile = f'{100 * ranks["r*"][index]:.0f}'
    result.append(f'r* {number(row["true_reward"], 2)} (percentile {percentile})')
  if row.get('label') is not None:
    result.append('label: ' + ('toxic' if row['label'] == 1 else 'not toxic'))
  return result


def misordered(pairs: Sequence[records.ScoredPair]) -> list[Shown]:
  """Returns the pairs that R̂ (mean of seeds) orders against r*, by the two differences' product."""
  judged = [
    pair
    for pair in pairs
    if pair.get('true_reward_aligned') is not None and pair.get('true_reward_base') is not None
  ]
  recovered = np.array(
    [np.mean(pair['rewards_aligned']) - np.mean(pair['rewards_base']) for pair in judged]
  )
  true = np.array(
    [(pair['true_reward_aligned'] or 0.0) - (pair['true_reward_base'] or 0.0) for pair in judged]
  )
  against = -recovered * true
  return [
    Shown(
      [f'R̂ prefers {preference(recovered[row], 3)}', f'r* prefers {preference(true[row], 2)}'],
      [
        ('prompt', plain(judged[row]['prompt'])),
        ('aligned', plain(judged[row]['aligned'])),
        ('base', plain(judged[row]['base'])),
      ],
    )
    for row in top(against)
    if against[row] > 0
  ]


def preference(difference: float, digits: int) -> str:
  """Says which completion of a pair scores higher, and by how much."""
  return f'{"aligned" if difference > 0 else "base"} by {number(abs(float(difference)), digits)}'


def coloured_texts(attributions: Sequence[records.AttributedText]) -> dict[str, list[Token]]:
  """Returns the coloured tokens of every text that has attributions, on one scale for all."""
  sizes = [abs(token['attribution']) for row in attributions for token in row['tokens']]
  # A quantile, so that one outlier does not make all other colours pale.
  scale = float(np.quantile(sizes, 0.98)) if sizes else 0.0
  return {
    row['text']: cut(
      [
        token
        for piece in row['tokens']
        for token in tokens(piece['piece'], colour_step(piece['attribution'], scale))
      ]
    )
    for row in attributions
  }


def colour_step(attribution: float, scale: float) -> int:
  """Returns the colour of an attribution: 0 below an eighth of the scale, else ±1 to ±STEPS."""
  share = abs(attribution) / scale if scale > 0 else 0.0
  size = min(STEPS, math.ceil(STEPS * share)) if share >= 0.125 else 0
  return int(math.copysign(size, attribution))


def plain(text: str) -> list[Token]:
  """Splits a text without attributions into words."""
  return cut(tokens(text))


def tokens(text: str, colour: int = 0) -> list[Token]:
  """Splits a text, or a piece of one, into words of one colour."""
  parts = re.findall(r'(\s*)(\S+)|(\s+)$', visible(text))
  return [Token(space or tail, word, colour if word else 0) for space, word, tail in parts]


def cut(whole: Sequence[Token]) -> list[Token]:
  """Returns at most CHARACTERS of a text; a longer one ends in '…'."""
  result: list[Token] = []
  left = CHARACTERS
  for token in whole:
    if len(token.space) + len(token.word) > left:
      word = token.word[: max(0, left - len(token.space))] + '…'
      return [*result, Token(token.space[:left], word, token.step)]
    result.append(token)
    left -= len(token.space) + len(token.word)
  return result


def words(inputs: Inputs) -> list[Table]:
  """Tabulates the words that raise or lower R̂; those whose interval contains 0 are left out."""
  clear = [row for row in inputs.words if row['low'] > 0 or row['high'] < 0]
  rows = [
    [
      visible(row['word']),
      f'{number(row["effect"])}\n{numbers((row["low"], row["high"]))}',
      number(row['n']),
      percent(row['share_aligned']),
      percent(row['share_base']),
    ]
    for row in clear
  ]
  columns = (
    'word',
    f'R̂ gained by the word, 95{SPACE}%',
    'completions',
    "in the aligned model's",
    "in the base model's",
  )
  note = (
    f'{count(len(inputs.words), "word")} of the held-out completions were tested, those that go '
    f'with the highest and the lowest R̂; {len(clear)} of them have an interval without 0. Each was '
    'left out of completions that contain it.'
  )
  if shows_nothing(inputs.recovery):
    note += ' Nothing was recovered, so they do not show what the model was rewarded for.'
  return [Table('Words that R̂ likes and dislikes', columns, rows, note)] if rows else []


def liked(inputs: Inputs, most: int = 8) -> str:
  """Lists the words that raise R̂ most and whose interval lies above 0.

  '' if there are none, or if nothing was recovered: the head of a report then names no words.
  """
  if shows_nothing(inputs.recovery):
    return ''
  return ', '.join(visible(row['word']) for row in inputs.words[:most] if row['low'] > 0)
