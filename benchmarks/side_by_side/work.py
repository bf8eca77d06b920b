"""The timed work: its contestants, its minimum cost, and its targets."""

from collections.abc import Iterator
import dataclasses
import math
from typing import Any

from side_by_side import costs
from side_by_side import inputs
from side_by_side.turns import Contestant

PPO_EPOCHS = 4
IRL_BATCH = 32
TRAINING_STEPS = 5  # steps of ours in a turn: our loop does not wait for each
HEAD_EPOCHS = 10  # epochs of a head on a frozen trunk; the paper trains for 10 to 30
OURS, TORCH, AUTHORS = 'ours', 'torch', "the authors'"
FROZEN = 'ours, frozen trunk'
TRL = (
  'TRL 0.11.4 took 13.9 s (37 new tokens/s) on such a machine, in an old environment of its own: '
  'quoted, not run'
)
ALONE = (
  'each takes all its turns before the next begins: together they need more memory than a small '
  'machine has'
)


@dataclasses.dataclass(frozen=True)
class Target:
  """The target of one contestant; `over` names the other one of a ratio."""

  kind: (
    str  # 'times' as fast, share of the 'memory' or 'matmul' limit, 'seconds', 'fraction', 'mfu'
  )
  value: float
  of: str = OURS
  over: str = ''


@dataclasses.dataclass(frozen=True)
class Group:
  """One piece of work, done by several."""

  name: str
  title: str
  contestants: tuple[Contestant, ...]
  amount: float = 0.0  # number of `unit` in the whole work
  unit: str = ''
  note: str = ''
  together: bool = True  # False: they do not fit into memory at once, so each takes all its turns
  targets: tuple[Target, ...] = ()


@dataclasses.dataclass(frozen=True)
class Sizes:
  """The shapes of everything on one kind of machine."""

  decode: tuple[tuple[str, int, int, int], ...]  # shape, batch, prompt, new tokens
  ppo: tuple[tuple[str, int, int, int, int], ...]  # and the blocks that a second variant trains
  train: tuple[str, int, int]  # shape, batch, tokens
  irl: tuple[str, int, int, int, int]  # shape, pairs, tokens, pairs per turn: ours, the authors'
  texts: tuple[int, int, int]  # texts, those of a turn: ours, the authors'
  files: str
  start: tuple[str, int, int]  # shape, batch, new tokens
  growth: tuple[str, int, int]  # shape, batch, tokens (half of them new), varied one at a time
  scorer: str = 'base'


SIZES = {
  'cpu': Sizes(
    decode=(('14m', 16, 32, 64), ('70m', 16, 32, 64), ('410m', 16, 32, 64)),
    ppo=(('70m', 16, 32, 32, 4), ('410m', 16, 32, 32, 3)),
    train=('70m', 16, 64),
    irl=('70m', 500, 100, 64, 8),
    texts=(2000, 400, 4),
    files='70m',
    start=('14m', 16, 32),
    growth=('70m', 16, 64),
  ),
  'gpu': Sizes(
    decode=(('410m', 256, 128, 128), ('1b', 256, 128, 128)),
    ppo=(('410m', 128, 128, 128, 3), ('1b', 64, 128, 128, 3)),
    train=('410m', 64, 512),
    irl=('410m', 500, 100, 500, 8),
    texts=(2000, 2000, 200),
    files='410m',
    start=('14m', 16, 32),
    growth=('410m', 128, 256),
  ),
  'tiny': Sizes(
    decode=(('tiny', 4, 5, 6),),
    ppo=(('tiny', 4, 5, 6, 1),),
    train=('tiny', 4, 8),
    irl=('tiny', 8, 8, 4, 2),
    texts=(32, 8, 2),
    files='tiny',
    start=('tiny', 4, 6),
    growth=('tiny', 4, 8),
    scorer='tiny',
  ),
}
TARGETS = {
  'decode_70m': (Target('times', 4, over=TORCH), Target('memory', 0.5)),
  'decode_410m': (Target('memory', 0.6),),
  'ppo_70m': (Target('seconds', 4.6), Target('times', 1.25, 'ours, 4 of 6 blocks', OURS)),
  'ppo_410m': (Target('times', 3.5, 'ours, 3 of 24 blocks', OURS),),
  'train_70m': (Target('times', 1.8, over=TORCH), Target('matmul', 0.6)),
  'irl_70m': (Target('times', 8, over=AUTHORS), Target('times', 50, FROZEN, AUTHORS)),
  'score': (Target('times', 8, over=AUTHORS), Target('times', 1, over=TORCH)),
  'start': (Target('fraction', 0.3, 'second start', 'first start'),),
  'tiny': (Target('seconds', 180),),
}
GPU_TARGETS = {
  'decode_410m': (Target('memory', 0.6),),
  'decode_1b': (Target('memory', 0.6),),
  'ppo_410m': (Target('mfu', 0.45),),
  'ppo_1b': (Target('mfu', 0.45),),
}


def all_groups(kind: str, item: int, peers: bool) -> list[Group]:
  """Returns every group, in the order in which they are run; the last ones only if named.

  Args:
    kind: the kind of the sizes.
    item: bytes of a number in computation.
    peers: whether torch can take part.
  """
  sizes = SIZES[kind]
  made = [
    *decode(sizes, item),
    train(sizes),
    *ppo(sizes, item),
    irl(sizes),
    score(sizes, item),
    *files(sizes),
    start(sizes),
    *growth(sizes, item),
    Group(
      'tiny',
      'configs/tiny.py from its first stage to its last, warm cache',
      (Contestant(OURS, 'ours.whole_run', 'configs/tiny.py'),),
    ),
  ]
  targets = GPU_TARGETS if kind == 'gpu' else TARGETS
  takes_part = lambda one: peers or not one.function.startswith('peers.')
  return [
    dataclasses.replace(
      group,
      targets=targets.get(group.name, ()),
      contestants=tuple(filter(takes_part, group.contestants)),
    )
    for group in made
  ]


def optional(name: str) -> bool:
  """Returns True if a group runs only if it is named."""
  return name == 'tiny' or name.startswith('growth')


def decode(sizes: Sizes, item: int) -> Iterator[Group]:
  """Sampling, by model."""
  for name, batch, prompt, new in sizes.decode:
    work = costs.Work(costs.PYTHIA[name], batch=batch, prompt=prompt, new=new)
    yield Group(
      f'decode_{name}',
      f'decode {name}, B {batch}, prompt {prompt}, {new} new, top-k 30',
      (
        Contestant(OURS, 'ours.decode', work, costs={'': costs.decode(work, item)}),
        Contestant(TORCH, 'peers.decode', work),
      ),
      batch * new,
      'new tokens/s',
    )


def train(sizes: Sizes) -> Group:
  """A step of language modelling."""
  name, batch, tokens = sizes.train
  work = costs.Work(costs.PYTHIA[name], batch=batch, tokens=tokens, epochs=TRAINING_STEPS)
  cost, note = {'': costs.train(work)}, f'epochs of {TRAINING_STEPS} steps'
  return Group(
    f'train_{name}',
    f'training step {name}, B {batch} x {tokens}',
    (
      Contestant(OURS, 'ours.train', work, 1 / TRAINING_STEPS, cost, note),
      Contestant(TORCH, 'peers.train', work),
      Contestant('torch, bfloat16', 'peers.train_bfloat16', work),
    ),
    batch * tokens,
    'tokens/s',
  )


def ppo(sizes: Sizes, item: int) -> Iterator[Group]:
  """An iteration of PPO, by model; ours also with the lower blocks frozen."""
  for name, batch, prompt, new, trained in sizes.ppo:
    shape = costs.PYTHIA[name]
    work = costs.Work(shape, costs.ROBERTA[sizes.scorer], batch, prompt, new, epochs=PPO_EPOCHS)
    partly, title = (
      dataclasses.replace(work, trained_blocks=trained),
      f'{trained} of {shape.blocks}',
    )
    large = shape.width >= 1024
    contestants = (
      Contestant(OURS, 'ours.ppo', work, costs=costs.ppo(work, item)),
      Contestant(f'ours, {title} blocks', 'ours.ppo', partly, costs=costs.ppo(partly, item)),
      *((Contestant(TORCH, 'peers.ppo', work),) if not large else ()),
    )
    yield Group(
      f'ppo_{name}',
      f'PPO iteration {name}, B {batch}, {prompt} + {new} tokens, {PPO_EPOCHS} epochs, scored '
      f'by RoBERTa-{sizes.scorer}',
      contestants,
      batch * new,
      'new tokens/s',
      note=TRL if name == '70m' else ALONE if large else '',
      together=not large,
    )


def irl(sizes: Sizes) -> Group:
  """An epoch of IRL."""
  name, pairs, tokens, turn, their_turn = sizes.irl
  work = costs.Work(
    costs.PYTHIA[name], costs.ROBERTA[sizes.scorer], tokens=tokens, pairs=pairs, epochs=HEAD_EPOCHS
  )
  ours, theirs = (dataclasses.replace(work, pairs=some) for some in (turn, their_turn))
  everything = {'': costs.irl(work, math.ceil(pairs / IRL_BATCH))}
  frozen = {'': costs.irl_frozen(work) * (1 / HEAD_EPOCHS)}
  of_ours = f'epochs of {turn} pairs, scaled'
  of_frozen = f'a tenth of whole trainings of {HEAD_EPOCHS} epochs of {turn} pairs, scaled'
  of_theirs = (
    f'{their_turn} pairs per turn, scaled; with the true rewards of all texts, which ours computes '
    'with the demonstrations'
  )
  return Group(
    f'irl_{name}',
    f'IRL epoch {name}, {pairs} pairs of {tokens} tokens, with evaluation',
    (
      Contestant(OURS, 'ours.irl', ours, pairs / turn, everything, of_ours),
      Contestant(FROZEN, 'ours.irl_frozen', ours, pairs / turn / HEAD_EPOCHS, frozen, of_frozen),
      Contestant(AUTHORS, 'peers.authors_irl', theirs, pairs / their_turn, note=of_theirs),
    ),
    pairs,
    'pairs/s',
  )


def score(sizes: Sizes, item: int) -> Group:
  """r* of comments."""
  count, *samples = sizes.texts
  shape, texts = costs.ROBERTA[sizes.scorer], inputs.comments(count)
  encoded = inputs.tokenizer('roberta_tokenizer')(texts)['input_ids']
  lengths = [min(len(ids), 512) for ids in encoded]

  def contestant(name: str, function: str, sample: int, cost: dict) -> Contestant:
    work = costs.Work(shape, shape, texts=inputs.sample_of(texts, sample))
    note = f'{sample} of them, of all lengths, scaled'
    return Contestant(name, function, work, count / sample, cost, note)

  return Group(
    'score',
    f'scoring {count} Jigsaw comments of {sum(lengths) / count:.0f} tokens on average, '
    f'RoBERTa-{sizes.scorer}',
    (
      contestant(OURS, 'ours.score', samples[0], {'': costs.score(shape, lengths, item)}),
      contestant(TORCH, 'peers.score', samples[0], {}),
      contestant(AUTHORS, 'peers.authors_score', samples[1], {}),
    ),
    count,
    'texts/s',
  )


def files(sizes: Sizes) -> Iterator[Group]:
  """Models and checkpoints on disk."""
  work = costs.Work(costs.PYTHIA[sizes.files])
  for name, title in (
    ('load', 'a Hugging Face folder read'),
    ('save', 'a Hugging Face folder written (ours also read back and compared)'),
    ('checkpoint_save', 'parameters and AdamW moments saved'),
    ('checkpoint_load', 'parameters and AdamW moments restored'),
  ):
    contestants = (Contestant(OURS, f'ours.{name}', work), Contestant(TORCH, f'peers.{name}', work))
    yield Group(name, f'{title}, {sizes.files}', contestants)


def start(sizes: Sizes) -> Group:
  """The time that a user waits for."""
  name, batch, new = sizes.start
  scorer = dataclasses.replace(costs.ROBERTA[sizes.scorer], blocks=2)
  work = costs.Work(costs.PYTHIA[name], scorer, batch, new=new)
  return Group(
    'start',
    f'launch/train.py until its first PPO step, {name}, B {batch}, {new} new tokens',
    (
      Contestant('first start', 'ours.first_start', work, note='empty compilation cache'),
      Contestant('second start', 'ours.second_start', work, note='filled compilation cache'),
    ),
  )


def growth(sizes: Sizes, item: int) -> Iterator[Group]:
  """PPO iterations, everything trained, with one size halved and doubled."""
  name, batch, tokens = sizes.growth
  shape, half = costs.PYTHIA[name], tokens // 2
  base = costs.Work(shape, costs.ROBERTA[sizes.scorer], batch, half, half, epochs=PPO_EPOCHS)
  scaled = lambda size, factor: int(size * factor)
  variants = {
    'batch': lambda factor: dict(batch=scaled(batch, factor)),
    'length': lambda factor: dict(prompt=scaled(half, factor), new=scaled(half, factor)),
    'depth': lambda factor: dict(
      shape=dataclasses.replace(shape, blocks=scaled(shape.blocks, factor))
    ),
  }
  titles = {
    'batch': lambda work: f'B {work.batch}',
    'length': lambda work: f'{work.prompt} + {work.new} tokens',
    'depth': lambda work: f'{work.shape.blocks} blocks',
  }
  for what, variant in variants.items():
    works = [dataclasses.replace(base, **variant(factor)) for factor in (0.5, 1, 2)]
    yield Group(
      f'growth_{what}',
      f'PPO iteration by {what}; else {name}, B {batch}, {half} + {half} tokens, '
      f'{PPO_EPOCHS} epochs',
      tuple(
        Contestant(titles[what](work), 'ours.ppo', work, costs=costs.ppo(work, item))
        for work in works
      ),
    )


def described(
  group: Group, results: list[dict[str, Any]], machine: dict[str, Any]
) -> dict[str, Any]:
  """Returns one group's results with its limits and targets, as --output keeps them."""
  rows = [
    result | ({} if 'failed' in result else shares(contestant, result, group, machine))
    for contestant, result in zip(group.contestants, results)
  ]
  measured = {row['name']: row for row in rows if 'failed' not in row}
  return {
    'name': group.name,
    'title': group.title,
    'unit': group.unit,
    'note': group.note,
    'contestants': rows,
    'targets': [reached(target, measured) for target in group.targets],
  }


def shares(
  contestant: Contestant, result: dict[str, Any], group: Group, machine: dict[str, Any]
) -> dict[str, Any]:
  """Returns a contestant's rate, and its share of the limits of the whole and of each part."""
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
  """Returns the least seconds of products and of memory, and their shares of what it took.

  On an accelerator of known peak also the MFU.
  """
  least = {'matmul': cost.flops / machine['matmul'], 'memory': cost.bytes / machine['memory']}
  out = {'flops': cost.flops, 'bytes': cost.bytes}
  for name, value in least.items():
    out |= {f'{name}_seconds': value, name: value / seconds}
  peak = machine['jax']['peak']
  return out | ({'mfu': cost.flops / seconds / peak} if peak else {})


def reached(target: Target, measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Returns a target in words, its value (None: not measured), and whether it is reached."""
  words = {
    'times': f'{target.of} {target.value:g} times as fast as {target.over}',
    'fraction': f'{target.of} at most {target.value:.0%} of {target.over}',
    'seconds': f'{target.of} at most {target.value:g} s',
    'mfu': f'MFU of the update at least {target.value:.0%}',
    'memory': f'{target.of} at least {target.value:.0%} of the memory limit',
    'matmul': f'{target.of} at least {target.value:.0%} of the matmul limit',
  }
  mine, other = measured.get(target.of), measured.get(target.over)
  if mine is None or (target.over and other is None):
    value = None
  elif target.kind == 'times':
    value = other['seconds'] / mine['seconds']
  elif target.kind == 'fraction':
    value = mine['seconds'] / other['seconds']
  elif target.kind == 'mfu':
    value = mine['limits_of_parts']['update'].get('mfu')
  else:
    value = mine['seconds'] if target.kind == 'seconds' else mine['limit'][target.kind]
  at_most = target.kind in ('seconds', 'fraction')
  enough = None if value is None else value <= target.value if at_most else value >= target.value
  return {'text': words[target.kind], 'kind': target.kind, 'value': value, 'reached': enough}
