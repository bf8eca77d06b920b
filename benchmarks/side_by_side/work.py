"""The timed work: its contestants, its sizes, and the shares of the machine's limits it reaches."""

from collections.abc import Iterator
import dataclasses
import math
from typing import Any

from side_by_side import costs
from side_by_side import inputs
from side_by_side.turns import Contestant

PPO_EPOCHS = 4
IRL_BATCH = 32
TRAINING_STEPS = 5  # steps of ours per turn: our loop does not wait for each
HEAD_EPOCHS = 10  # epochs of a head on a frozen trunk; the paper trains for 10 to 30
OURS, TORCH, AUTHORS = 'ours', 'torch', "the authors'"
TRL = (
  'TRL 0.11.4 took 13.9 s (37 new tokens/s) in an earlier measurement on a similar machine; it is '
  'not part of this run'
)
REWARDS = 'with the true rewards of all texts, which ours computes with the demonstrations'
ALONE = (
  'each implementation runs all its turns before the next starts, because together they need too '
  'much memory for a small machine'
)


@dataclasses.dataclass(frozen=True)
class Group:
  """A piece of work that several contestants do."""

  name: str
  title: str
  contestants: tuple[Contestant, ...]
  amount: float = 0.0  # number of `unit` in the whole work
  unit: str = ''
  note: str = ''
  together: bool = True  # False: each runs all its turns before the next starts
  rare: bool = False  # runs only if it is named


SIZES: dict[str, dict[str, Any]] = {
  'cpu': {
    'decode': [('14m', 16, 32, 64), ('70m', 16, 32, 64), ('410m', 16, 32, 64)],
    'ppo': [('70m', 16, 32, 32, 4), ('410m', 16, 32, 32, 3)],
    'train': ('70m', 16, 64),
    'irl': ('70m', 500, 100, 64, 8),
    'score': ('base', 2000, 400, 4),
    'files': '70m',
    'start': ('14m', 16, 32),
    'growth': ('70m', 16, 64),
  },
  'gpu': {
    'decode': [('410m', 256, 128, 128), ('1b', 256, 128, 128)],
    'ppo': [('410m', 128, 128, 128, 3), ('1b', 64, 128, 128, 3)],
    'train': ('410m', 64, 512),
    'irl': ('410m', 500, 100, 500, 8),
    'score': ('base', 2000, 2000, 200),
    'files': '410m',
    'start': ('14m', 16, 32),
    'growth': ('410m', 128, 256),
  },
  'tiny': {
    'decode': [('tiny', 4, 5, 6)],
    'ppo': [('tiny', 4, 5, 6, 1)],
    'train': ('tiny', 4, 8),
    'irl': ('tiny', 8, 8, 4, 2),
    'score': ('tiny', 32, 8, 2),
    'files': 'tiny',
    'start': ('tiny', 4, 6),
    'growth': ('tiny', 4, 8),
  },
}


def all_groups(kind: str, item: int, peers: bool) -> list[Group]:
  """Returns every group, in the order in which they run.

  Args:
    kind: the kind of the sizes.
    item: bytes per number in computation.
    peers: whether torch can take part.
  """
  sizes = SIZES[kind]
  scorer = sizes['score'][0]
  whole = (Contestant(OURS, 'ours.whole_run', ('configs/tiny.py',)),)
  groups = [
    *(decode(*shape, item) for shape in sizes['decode']),
    train(*sizes['train']),
    *(ppo(scorer, *shape, item) for shape in sizes['ppo']),
    irl(scorer, *sizes['irl']),
    score(*sizes['score'], item),
    *files(sizes['files']),
    start(scorer, *sizes['start']),
    *growth(scorer, *sizes['growth'], item),
    Group('tiny', 'configs/tiny.py from its first stage to its last, warm cache', whole, rare=True),
  ]
  takes_part = lambda one: peers or not one.function.startswith('peers.')
  return [
    dataclasses.replace(group, contestants=tuple(filter(takes_part, group.contestants)))
    for group in groups
  ]


def decode(name: str, batch: int, prompt: int, new: int, item: int) -> Group:
  """Returns sampling."""
  work = costs.Work(costs.PYTHIA[name], batch=batch, prompt=prompt, new=new)
  ours = Contestant(OURS, 'ours.decode', (work,), costs={'': costs.decode(work, item)})
  title = f'decode {name}, B {batch}, prompt {prompt}, {new} new, top-k {costs.TOP_K}'
  torch = Contestant(TORCH, 'peers.decode', (work,))
  return Group(f'decode_{name}', title, (ours, torch), batch * new, 'new tokens/s')


def train(name: str, batch: int, tokens: int) -> Group:
  """Returns a step of language modelling."""
  work = costs.Work(costs.PYTHIA[name], batch=batch, tokens=tokens, epochs=TRAINING_STEPS)
  cost, note = {'': costs.train(work)}, f'epochs of {TRAINING_STEPS} steps'
  contestants = (
    Contestant(OURS, 'ours.train', (work,), 1 / TRAINING_STEPS, cost, note),
    Contestant(TORCH, 'peers.train', (work,)),
    Contestant('torch, bfloat16', 'peers.train', (work, True)),
  )
  title = f'training step {name}, B {batch} x {tokens}'
  return Group(f'train_{name}', title, contestants, batch * tokens, 'tokens/s')


def iteration(name: str, work: costs.Work, item: int) -> Contestant:
  """Returns our PPO iteration."""
  return Contestant(name, 'ours.ppo', (work,), costs=costs.ppo(work, item))


def ppo(
  scorer: str, name: str, batch: int, prompt: int, new: int, trained: int, item: int
) -> Group:
  """Returns an iteration of PPO; a second variant of ours trains only the top blocks."""
  shape = costs.PYTHIA[name]
  work = costs.Work(shape, costs.ROBERTA[scorer], batch, prompt, new, epochs=PPO_EPOCHS)
  partly = dataclasses.replace(work, trained_blocks=trained)
  ours = (
    iteration(OURS, work, item),
    iteration(f'ours, {trained} of {shape.blocks} blocks', partly, item),
  )
  title = f'PPO iteration {name}, B {batch}, {prompt} + {new} tokens, {PPO_EPOCHS} epochs, scored '
  group = Group(f'ppo_{name}', f'{title}by RoBERTa-{scorer}', ours, batch * new, 'new tokens/s')
  if shape.width >= 1024:
    return dataclasses.replace(group, note=ALONE, together=False)
  both = (*ours, Contestant(TORCH, 'peers.ppo', (work,)))
  return dataclasses.replace(group, contestants=both, note=TRL if name == '70m' else '')


def irl(scorer: str, name: str, pairs: int, tokens: int, turn: int, their_turn: int) -> Group:
  """Returns an epoch of IRL over `pairs`; a turn of ours or the authors' takes fewer."""
  shape, scorer_shape = costs.PYTHIA[name], costs.ROBERTA[scorer]
  work = costs.Work(shape, scorer_shape, tokens=tokens, pairs=pairs, epochs=HEAD_EPOCHS)
  ours, theirs = (dataclasses.replace(work, pairs=some) for some in (turn, their_turn))
  everything = {'': costs.irl(work, math.ceil(pairs / IRL_BATCH))}
  head = {'': costs.irl_frozen(work) * (1 / HEAD_EPOCHS)}
  scale, note = pairs / turn, f'epochs of {turn} pairs, scaled'
  head_scale, head_note = (
    scale / HEAD_EPOCHS,
    f'a tenth of full training runs of {HEAD_EPOCHS} {note}',
  )
  their_scale, their_note = pairs / their_turn, f'{their_turn} pairs per turn, scaled; {REWARDS}'
  contestants = (
    Contestant(OURS, 'ours.irl', (ours,), scale, everything, note),
    Contestant('ours, frozen trunk', 'ours.irl_frozen', (ours,), head_scale, head, head_note),
    Contestant(AUTHORS, 'peers.authors_irl', (theirs,), their_scale, note=their_note),
  )
  title = f'IRL epoch {name}, {pairs} pairs of {tokens} tokens, with evaluation'
  return Group(f'irl_{name}', title, contestants, pairs, 'pairs/s')


def score(scorer: str, count: int, sample: int, their_sample: int, item: int) -> Group:
  """Returns r* of comments; a turn of ours and torch or of the authors' takes a sample."""
  shape, texts = costs.ROBERTA[scorer], inputs.comments(count)
  encoded = inputs.tokenizer('roberta_tokenizer')(texts)['input_ids']
  lengths = [min(len(ids), 512) for ids in encoded]

  def contestant(name: str, function: str, sample: int, cost: dict) -> Contestant:
    work = costs.Work(shape, shape, texts=inputs.sample_of(texts, sample))
    note = f'{sample} of them, of all lengths, scaled'
    return Contestant(name, function, (work,), count / sample, cost, note)

  contestants = (
    contestant(OURS, 'ours.score', sample, {'': costs.score(shape, lengths, item)}),
    contestant(TORCH, 'peers.score', sample, {}),
    contestant(AUTHORS, 'peers.authors_score', their_sample, {}),
  )
  mean = sum(lengths) / count
  title = f'scoring {count} Jigsaw comments of {mean:.0f} tokens on average, RoBERTa-{scorer}'
  return Group('score', title, contestants, count, 'texts/s')


def files(size: str) -> Iterator[Group]:
  """Yields models and checkpoints on disk."""
  work = (costs.Work(costs.PYTHIA[size]),)
  for name, title in (
    ('load', 'a Hugging Face folder read'),
    ('save', 'a Hugging Face folder written (ours also read back and compared)'),
    ('checkpoint_save', 'parameters and AdamW moments saved'),
    ('checkpoint_load', 'parameters and AdamW moments restored'),
  ):
    both = Contestant(OURS, f'ours.{name}', work), Contestant(TORCH, f'peers.{name}', work)
    yield Group(name, f'{title}, {size}', both)


def start(scorer: str, name: str, batch: int, new: int) -> Group:
  """Returns the time that a user waits for the first step."""
  small = dataclasses.replace(costs.ROBERTA[scorer], blocks=2)
  work = costs.Work(costs.PYTHIA[name], small, batch, new=new)
  first = Contestant('first start', 'ours.start', (work, False), note='empty compilation cache')
  second = Contestant('second start', 'ours.start', (work, True), note='filled compilation cache')
  title = f'launch/train.py until its first PPO step, {name}, B {batch}, {new} new tokens'
  return Group('start', title, (first, second))


def growth(scorer: str, name: str, batch: int, tokens: int, item: int) -> Iterator[Group]:
  """Yields PPO iterations with one size halved and doubled, everything trained."""
  shape, half = costs.PYTHIA[name], tokens // 2
  base = costs.Work(shape, costs.ROBERTA[scorer], batch, half, half, epochs=PPO_EPOCHS)
  deeper = lambda times: dataclasses.replace(shape, blocks=int(shape.blocks * times))
  both = lambda length: {'prompt': length, 'new': length}
  for size, label, changes in (
    ('batch', 'B {0.batch}', lambda times: {'batch': int(batch * times)}),
    ('length', '{0.prompt} + {0.new} tokens', lambda times: both(int(half * times))),
    ('depth', '{0.shape.blocks} blocks', lambda times: {'shape': deeper(times)}),
  ):
    works = [dataclasses.replace(base, **changes(times)) for times in (0.5, 1, 2)]
    contestants = tuple(iteration(label.format(work), work, item) for work in works)
    title = f'PPO iteration by {size}; else {name}, B {batch}, {half} + {half} tokens'
    yield Group(f'growth_{size}', f'{title}, {PPO_EPOCHS} epochs', contestants, rare=True)


def described(
  group: Group, results: list[dict[str, Any]], machine: dict[str, Any]
) -> dict[str, Any]:
  """Returns one group's results with their limits, as --output keeps them."""
  rows = [
    result | shares(contestant, result, group, machine)
    for contestant, result in zip(group.contestants, results)
  ]
  fields = {name: getattr(group, name) for name in ('name', 'title', 'unit', 'note')}
  return fields | {'contestants': rows}


def shares(
  contestant: Contestant, result: dict[str, Any], group: Group, machine: dict[str, Any]
) -> dict[str, Any]:
  """Returns a contestant's rate, and its shares of the limits, for all its work and each part."""
  out = {'rate': group.amount / result['seconds']} if group.amount else {}
  if contestant.costs:
    whole = sum(contestant.costs.values(), costs.Cost())
    out['limit'] = bounds(whole, result['seconds'], machine)
    out['limits_of_parts'] = {
      name: bounds(cost, result['parts'][name], machine)
      for name, cost in contestant.costs.items()
      if name in result['parts']
    }
  return out


def bounds(cost: costs.Cost, seconds: float, machine: dict[str, Any]) -> dict[str, float]:
  """Returns the least seconds by each limit, and their shares of the seconds taken.

  On an accelerator of known peak, it also returns the MFU.
  """
  least = {'matmul': cost.flops / machine['matmul'], 'memory': cost.bytes / machine['memory']}
  out = {'flops': cost.flops, 'bytes': cost.bytes}
  for name, value in least.items():
    out |= {f'{name}_seconds': value, name: value / seconds}
  peak = machine['jax']['peak']
  return out | ({'mfu': cost.flops / seconds / peak} if peak else {})
