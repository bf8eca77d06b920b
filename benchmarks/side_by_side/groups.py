"""What is timed against what: the work, the contestants, what the work costs at least, and what is to be reached."""

from collections.abc import Iterator
import dataclasses
import math
from typing import Any

from side_by_side import inputs
from side_by_side import limits
from side_by_side.turns import Contestant

TOP_K = 30
PPO_EPOCHS = 4
IRL_BATCH = 32
TRAINING_STEPS = 5  # of ours in a turn: our loop does not wait for each
HEAD_EPOCHS = 10  # of a head on a frozen trunk; the paper trains for 10 to 30
OURS, TORCH, AUTHORS = 'ours', 'torch', "the authors'"
FROZEN = 'ours, frozen trunk'
TRL = 'TRL 0.11.4 took 13.9 s (37 new tokens/s) on such a machine, in an old environment of its own: quoted, not run'

ALONE = (
  'one takes all its turns, then the next: together they need more memory than a small machine has'
)


@dataclasses.dataclass(frozen=True)
class Target:
  """What one contestant is to reach; `over` names whom a ratio is over."""

  kind: str  # 'times' as fast, share of the 'memory' or 'matmul' limit, 'seconds', 'fraction'
  value: float
  of: str = OURS
  over: str = ''


@dataclasses.dataclass(frozen=True)
class Group:
  """One piece of work, done by several."""

  name: str
  title: str
  contestants: tuple[Contestant, ...]
  amount: float = 0.0  # of `unit` in the whole work
  unit: str = ''
  targets: tuple[Target, ...] = ()
  note: str = ''
  together: bool = (
    True  # whether all fit into memory at once; else one takes all turns, then the next
  )


@dataclasses.dataclass(frozen=True)
class Sizes:
  """The shapes of everything on one kind of machine."""

  decode: tuple[tuple[str, int, int, int], ...]  # shape, batch, prompt, new tokens
  ppo: tuple[tuple[str, int, int, int, int], ...]  # and the blocks that the second variant trains
  train: tuple[str, int, int]  # shape, batch, tokens
  irl: tuple[str, int, int, int, int]  # shape, pairs, tokens, pairs of a turn: ours, the authors'
  scorer: str
  texts: tuple[int, int, int]  # texts, those of a turn: ours, the authors'
  files: str
  start: tuple[str, int, int]  # shape, batch, new tokens
  growth: tuple[str, int, int]  # shape, batch, tokens (half of them new), varied one at a time


CPU = Sizes(
  decode=(('14m', 16, 32, 64), ('70m', 16, 32, 64), ('410m', 16, 32, 64)),
  ppo=(('70m', 16, 32, 32, 4), ('410m', 16, 32, 32, 3)),
  train=('70m', 16, 64),
  irl=('70m', 500, 100, 64, 8),
  scorer='base',
  texts=(2000, 400, 4),
  files='70m',
  start=('14m', 16, 32),
  growth=('70m', 16, 64),
)
GPU = Sizes(
  decode=(('410m', 256, 128, 128), ('1b', 256, 128, 128)),
  ppo=(('410m', 128, 128, 128, 3), ('1b', 64, 128, 128, 3)),
  train=('410m', 64, 512),
  irl=('410m', 500, 100, 500, 8),
  scorer='base',
  texts=(2000, 2000, 200),
  files='410m',
  start=('14m', 16, 32),
  growth=('410m', 128, 256),
)
TINY = Sizes(
  decode=(('tiny', 4, 5, 6),),
  ppo=(('tiny', 4, 5, 6, 1),),
  train=('tiny', 4, 8),
  irl=('tiny', 8, 8, 4, 2),
  scorer='tiny',
  texts=(32, 8, 2),
  files='tiny',
  start=('tiny', 4, 6),
  growth=('tiny', 4, 8),
)
SIZES = {'cpu': CPU, 'gpu': GPU, 'tiny': TINY}

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


def all_groups(kind: str, item: int, peers: bool, models: str, data: str) -> list[Group]:
  """Every group, in the order in which they are run; the last ones only when they are asked for.

  Args:
    kind: of the sizes.
    item: bytes of a number in computation.
    peers: whether torch can take part.
    models: folder of tokenizers and of a 14m; 'tiny' needs neither.
    data: folder of the comments.
  """
  sizes, models, data = SIZES[kind], *((models, data) if kind != 'tiny' else ('', ''))
  targets = GPU_TARGETS if kind == 'gpu' else TARGETS
  made = [
    *decode(sizes, item, models),
    train(sizes, models),
    *ppo(sizes, item, models),
    irl(sizes, models),
    score(sizes, item, models, data),
    *files(sizes, models),
    start(sizes, models),
    *growth(sizes, item, models),
    Group(
      'tiny',
      'configs/tiny.py from its first stage to its last, warm cache',
      (Contestant(OURS, 'starts.whole', dict(config='configs/tiny.py')),),
    ),
  ]
  kept = lambda group: tuple(
    one
    for one in group.contestants
    if peers or not one.function.startswith(('torch_peers.', 'authors.'))
  )
  return [
    dataclasses.replace(group, targets=targets.get(group.name, ()), contestants=kept(group))
    for group in made
  ]


def optional(name: str) -> bool:
  """Whether a group runs only when it is asked for."""
  return name == 'tiny' or name.startswith('growth')


def decode(sizes: Sizes, item: int, models: str) -> Iterator[Group]:
  for name, batch, prompt, new in sizes.decode:
    shape = limits.PYTHIA[name]
    what = dict(shape=shape, batch=batch, prompt=prompt, new=new, top_k=TOP_K)
    costs = {'': limits.decode(shape, batch, prompt, new, item)}
    yield Group(
      f'decode_{name}',
      f'decode {name}, B {batch}, prompt {prompt}, {new} new, top-k {TOP_K}',
      (
        Contestant(OURS, 'ours.decode', what | dict(models=models), costs=costs),
        Contestant(TORCH, 'torch_peers.decode', what),
      ),
      batch * new,
      'new tokens/s',
    )


def train(sizes: Sizes, models: str) -> Group:
  name, batch, tokens = sizes.train
  what = dict(shape=limits.PYTHIA[name], batch=batch, tokens=tokens)
  peer = lambda title, dtype: Contestant(title, 'torch_peers.train', what | dict(dtype=dtype))
  return Group(
    f'train_{name}',
    f'training step {name}, B {batch} x {tokens}',
    (
      Contestant(
        OURS,
        'ours.train',
        what | dict(steps=TRAINING_STEPS, models=models),
        1 / TRAINING_STEPS,
        {'': limits.train(**what)},
        f'epochs of {TRAINING_STEPS} steps',
      ),
      peer(TORCH, 'float32'),
      peer('torch, bfloat16', 'bfloat16'),
    ),
    batch * tokens,
    'tokens/s',
  )


def ppo_contestant(
  name: str,
  shape: limits.Shape,
  scorer: str,
  batch: int,
  prompt: int,
  new: int,
  trained_blocks: int,
  item: int,
  models: str,
) -> Contestant:
  """Our PPO."""
  what = dict(
    shape=shape,
    scorer=limits.ROBERTA[scorer],
    batch=batch,
    prompt=prompt,
    new=new,
    epochs=PPO_EPOCHS,
    trained_blocks=trained_blocks,
  )
  return Contestant(
    name, 'ours.ppo', what | dict(top_k=TOP_K, models=models), costs=limits.ppo(**what, item=item)
  )


def ppo(sizes: Sizes, item: int, models: str) -> Iterator[Group]:
  for name, batch, prompt, new, trained in sizes.ppo:
    shape = limits.PYTHIA[name]
    ours = lambda title, blocks, rest=(shape, sizes.scorer, batch, prompt, new): ppo_contestant(
      title, *rest, blocks, item, models
    )
    contestants = [ours(OURS, -1), ours(f'ours, {trained} of {shape.blocks} blocks', trained)]
    large = shape.width >= 1024
    if not large:
      contestants.append(
        Contestant(
          TORCH,
          'torch_peers.ppo',
          dict(
            shape=shape,
            scorer=limits.ROBERTA[sizes.scorer],
            batch=batch,
            prompt=prompt,
            new=new,
            epochs=PPO_EPOCHS,
            top_k=TOP_K,
            models=models,
          ),
        )
      )
    yield Group(
      f'ppo_{name}',
      f'PPO iteration {name}, B {batch}, {prompt} + {new} tokens, {PPO_EPOCHS} epochs, scored '
      f'by RoBERTa-{sizes.scorer}',
      tuple(contestants),
      batch * new,
      'new tokens/s',
      note=TRL if name == '70m' else ALONE if large else '',
      together=not large,
    )


def irl(sizes: Sizes, models: str) -> Group:
  name, pairs, tokens, turn, their_turn = sizes.irl
  shape = limits.PYTHIA[name]
  what = dict(shape=shape, pairs=turn, tokens=tokens, models=models)
  everything = limits.irl(shape, pairs, tokens, math.ceil(pairs / IRL_BATCH))
  frozen = limits.irl_frozen(shape, pairs, tokens) * (1 / HEAD_EPOCHS)
  return Group(
    f'irl_{name}',
    f'IRL epoch {name}, {pairs} pairs of {tokens} tokens, with evaluation',
    (
      Contestant(
        OURS, 'ours.irl', what, pairs / turn, {'': everything}, f'epochs of {turn} pairs, scaled'
      ),
      Contestant(
        FROZEN,
        'ours.irl_frozen',
        what | dict(epochs=HEAD_EPOCHS),
        pairs / turn / HEAD_EPOCHS,
        {'': frozen},
        f'a {HEAD_EPOCHS}th of whole trainings of {HEAD_EPOCHS} epochs of {turn} pairs, scaled',
      ),
      Contestant(
        AUTHORS,
        'authors.irl',
        dict(
          shape=shape,
          scorer=limits.ROBERTA[sizes.scorer],
          tokens=tokens,
          sample=their_turn,
          models=models,
        ),
        pairs / their_turn,
        note=f'{their_turn} pairs a turn, scaled; with the true rewards of all texts, which ours finds beside '
        'the demonstrations',
      ),
    ),
    pairs,
    'pairs/s',
  )


def score(sizes: Sizes, item: int, models: str, data: str) -> Group:
  count, *samples = sizes.texts
  shape, texts = limits.ROBERTA[sizes.scorer], inputs.comments(data, count)
  lengths = [min(len(ids), 512) for ids in inputs.roberta_tokenizer(models)(texts)['input_ids']]
  one = lambda name, function, sample, costs: Contestant(
    name,
    function,
    dict(shape=shape, texts=inputs.sample_of(texts, sample), models=models),
    count / sample,
    costs,
    f'{sample} of them, of all lengths, scaled',
  )
  return Group(
    'score',
    f'scoring {count} Jigsaw comments of {sum(lengths) / count:.0f} tokens on average, '
    f'RoBERTa-{sizes.scorer}',
    (
      one(OURS, 'ours.score', samples[0], {'': limits.score(shape, lengths, item)}),
      one(TORCH, 'torch_peers.score', samples[0], {}),
      one(AUTHORS, 'authors.score', samples[1], {}),
    ),
    count,
    'texts/s',
  )


def files(sizes: Sizes, models: str) -> Iterator[Group]:
  shape = limits.PYTHIA[sizes.files]
  for name, title in (
    ('load', 'a Hugging Face folder read'),
    ('save', 'a Hugging Face folder written (ours also read back and compared)'),
    ('checkpoint_save', 'parameters and AdamW moments saved'),
    ('checkpoint_load', 'parameters and AdamW moments restored'),
  ):
    peers = dict(shape=shape) if name.startswith('checkpoint') else dict(shape=shape, models=models)
    yield Group(
      name,
      f'{title}, {sizes.files}',
      (
        Contestant(OURS, f'ours.{name}', dict(shape=shape, models=models)),
        Contestant(TORCH, f'torch_peers.{name}', peers),
      ),
    )


def start(sizes: Sizes, models: str) -> Group:
  name, batch, new = sizes.start
  scorer = dataclasses.replace(limits.ROBERTA[sizes.scorer], blocks=2)
  what = dict(shape=limits.PYTHIA[name], scorer=scorer, batch=batch, new=new, models=models)
  return Group(
    'start',
    f'launch/train.py until its first PPO step, {name}, B {batch}, {new} new tokens',
    (
      Contestant(
        'first start', 'starts.first_step', what | dict(warm=False), note='empty compilation cache'
      ),
      Contestant(
        'second start', 'starts.first_step', what | dict(warm=True), note='filled compilation cache'
      ),
    ),
  )


def growth(sizes: Sizes, item: int, models: str) -> Iterator[Group]:
  """PPO iterations, everything trained, with one size halved and doubled."""
  name, batch, tokens = sizes.growth
  shape = limits.PYTHIA[name]
  for what in ('batch', 'length', 'depth'):
    contestants = []
    for factor in (0.5, 1, 2):
      rows = int(batch * factor) if what == 'batch' else batch
      half = int(tokens // 2 * factor) if what == 'length' else tokens // 2
      deep = (
        dataclasses.replace(shape, blocks=int(shape.blocks * factor)) if what == 'depth' else shape
      )
      title = {
        'batch': f'B {rows}',
        'length': f'{half} + {half} tokens',
        'depth': f'{deep.blocks} blocks',
      }[what]
      contestants.append(
        ppo_contestant(title, deep, sizes.scorer, rows, half, half, -1, item, models)
      )
    yield Group(
      f'growth_{what}',
      f'PPO iteration by {what}; else {name}, B {batch}, {tokens // 2} + {tokens // 2} '
      f'tokens, {PPO_EPOCHS} epochs',
      tuple(contestants),
    )


def described(
  group: Group, results: list[dict[str, Any]], machine: dict[str, Any]
) -> dict[str, Any]:
  """One group's results beside its limits and targets, as they are kept."""
  rows = [
    result | ({} if 'failed' in result else figures(contestant, result, group, machine))
    for contestant, result in zip(group.contestants, results)
  ]
  found = {row['name']: row for row in rows if 'failed' not in row}
  return {
    'name': group.name,
    'title': group.title,
    'unit': group.unit,
    'note': group.note,
    'contestants': rows,
    'targets': [judged(target, found) for target in group.targets],
  }


def figures(
  contestant: Contestant, result: dict[str, Any], group: Group, machine: dict[str, Any]
) -> dict[str, Any]:
  """Its rate, the limits of the whole and of its parts, and how much of each it reaches."""
  out = {'rate': group.amount / result['seconds']} if group.amount else {}
  costs = contestant.costs
  if costs:
    out['limit'] = bounds(sum(costs.values(), limits.Cost()), result['seconds'], machine)
    out['limits_of_parts'] = {
      name: bounds(cost, result['parts'][name], machine)
      for name, cost in costs.items()
      if name in result['parts']
    }
  return out


def bounds(cost: limits.Cost, seconds: float, machine: dict[str, Any]) -> dict[str, float]:
  """The seconds that matrix products and memory take at least, and their shares of what it took; on a known accelerator
  the MFU.
  """
  out = {'flops': cost.flops, 'bytes': cost.bytes}
  for name, least in (
    ('matmul', cost.flops / machine['matmul']),
    ('memory', cost.bytes / machine['memory']),
  ):
    out |= {f'{name}_seconds': least, name: least / seconds}
  peak = machine['jax']['peak']
  return out | ({'mfu': cost.flops / seconds / peak} if peak else {})


def judged(target: Target, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """A target in words, what was reached (None where somebody is missing), and whether that is enough."""
  words = {
    'times': f'{target.of} {target.value:g} times as fast as {target.over}',
    'fraction': f'{target.of} at most {target.value:.0%} of {target.over}',
    'seconds': f'{target.of} at most {target.value:g} s',
    'mfu': f'MFU of the update at least {target.value:.0%}',
    'memory': f'{target.of} at least {target.value:.0%} of the memory limit',
    'matmul': f'{target.of} at least {target.value:.0%} of the matmul limit',
  }
  mine, other = found.get(target.of), found.get(target.over)
  if mine is None or (target.over and other is None):
    value = None
  elif target.kind in ('times', 'fraction'):
    value = (
      other['seconds'] / mine['seconds']
      if target.kind == 'times'
      else mine['seconds'] / other['seconds']
    )
  elif target.kind == 'mfu':
    value = mine['limits_of_parts']['update'].get('mfu')
  else:
    value = mine['seconds'] if target.kind == 'seconds' else mine['limit'][target.kind]
  at_most = target.kind in ('seconds', 'fraction')
  reached = None if value is None else value <= target.value if at_most else value >= target.value
  return {'text': words[target.kind], 'kind': target.kind, 'value': value, 'reached': reached}
