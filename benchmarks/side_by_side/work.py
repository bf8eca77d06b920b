"""The timed work: its contestants, its sizes, and the shares of the machine's limits it reaches."""

from collections.abc import Iterator
import dataclasses
from typing import Any

from side_by_side import costs
from side_by_side import inputs
from side_by_side.turns import Contestant

PPO_EPOCHS = 4
TRAINING_STEPS = 5  # steps of ours per turn: our loop does not wait for each
HEAD_EPOCHS = 10  # epochs of a head on a frozen trunk; the paper trains for 10 to 30
OURS, TORCH, AUTHORS = 'ours', 'torch', "the authors'"
TORCH_BFLOAT16 = 'torch, bfloat16'
TRL = (
  'TRL 0.11.4 took 13.9 s (37 new tokens/s) in an earlier measurement on a similar machine; it is '
  'not part of this run'
)
REWARDS = 'with the true rewards of all texts, which ours computes with the demonstrations'
TINY = 'configs/tiny.py from its first stage to its last, warm cache'
FOLDER = 'a Hugging Face folder'
FILES = (
  ('load', 'model_files', True, f'{FOLDER} read'),
  ('save', 'model_files', False, f'{FOLDER} written (ours also read back and compared)'),
  ('checkpoint_save', 'checkpoints', False, 'parameters and AdamW moments saved'),
  ('checkpoint_load', 'checkpoints', True, 'parameters and AdamW moments restored'),
)
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
    'decode': [(name, 16, 32, 64) for name in ('14m', '70m', '410m', 'smollm2')],
    'ppo': [('70m', 16, 32, 32, 4), ('410m', 16, 32, 32, 3)],
    'train': [('70m', 16, 64), ('smollm2', 16, 64)],
    'irl': ('70m', 500, 100, 64, 8),
    'score': ('base', 2000, 400, 4),
    'files': '70m',
    'start': ('14m', 16, 32),
    'growth': ('70m', 16, 64),
  },
  'gpu': {
    'decode': [(name, 256, 128, 128) for name in ('410m', '1b', 'smollm2')],
    'ppo': [('410m', 128, 128, 128, 3), ('1b', 64, 128, 128, 3)],
    'train': [('410m', 64, 512), ('smollm2', 64, 512)],
    'irl': ('410m', 500, 100, 500, 8),
    'score': ('base', 2000, 2000, 200),
    'files': '410m',
    'start': ('14m', 16, 32),
    'growth': ('410m', 128, 256),
  },
  'tiny': {
    'decode': [('tiny', 4, 5, 6), ('tiny_llama', 4, 5, 6)],
    'ppo': [('tiny', 4, 5, 6, 1)],
    'train': [('tiny', 4, 8), ('tiny_llama', 4, 8)],
    'irl': ('tiny', 8, 8, 4, 2),
    'score': ('tiny', 32, 8, 2),
    'files': 'tiny',
    'start': ('tiny', 4, 6),
    'growth': ('tiny', 4, 8),
  },
}


def all_groups(kind: str, peers: bool) -> list[Group]:
  """Returns every group in its order, of this kind of sizes; without `peers`, only ours."""
  sizes = SIZES[kind]
  scorer = sizes['score'][0]
  groups = [
    *(decode(*shape) for shape in sizes['decode']),
    *(train(*shape) for shape in sizes['train']),
    *(ppo(scorer, *shape) for shape in sizes['ppo']),
    irl(scorer, *sizes['irl']),
    score(*sizes['score']),
    *files(sizes['files']),
    start(scorer, *sizes['start']),
    *growth(scorer, *sizes['growth']),
    Group('tiny', TINY, (Contestant(OURS, 'ours.whole_run', ('configs/tiny.py',)),), rare=True),
  ]
  if peers:
    return groups
  ours = lambda group: tuple(one for one in group.contestants if one.function.startswith('ours.'))
  return [dataclasses.replace(group, contestants=ours(group)) for group in groups]


def worth_timing(group: Group, machine: dict[str, Any]) -> Group:
  """Returns the group without torch in bfloat16 if its matmuls are slower than those in float32.

  On a CPU without AVX-512, one training step in bfloat16 would take minutes.
  """
  products = machine.get('torch', {}).get('products', {})
  best = lambda dtype: max(
    (rate for name, rate in products.items() if name.endswith(dtype)), default=0
  )
  if best('bfloat16') >= best('float32'):
    return group
  kept = tuple(one for one in group.contestants if one.name != TORCH_BFLOAT16)
  return dataclasses.replace(group, contestants=kept)


def both(name: str, title: str, function: str, *work: Any, **more: Any) -> Group:
  """Returns work that ours and torch do in functions of the same name."""
  ours = Contestant(OURS, f'ours.{function}', work)
  return Group(name, title, (ours, Contestant(TORCH, f'peers.{function}', work)), **more)


def decode(name: str, batch: int, prompt: int, new: int) -> Group:
  """Returns sampling."""
  work = costs.Work(costs.DECODERS[name], batch=batch, prompt=prompt, new=new)
  title = f'decode {name}, B {batch}, prompt {prompt}, {new} new, top-k {costs.TOP_K}'
  return both(f'decode_{name}', title, 'decode', work, amount=batch * new, unit='new tokens/s')


def files(size: str) -> list[Group]:
  """Returns models and checkpoints on disk."""
  work = costs.Work(costs.DECODERS[size])
  return [
    both(name, f'{title}, {size}', function, work, reading)
    for name, function, reading, title in FILES
  ]


def train(name: str, batch: int, tokens: int) -> Group:
  """Returns a step of language modelling."""
  work = costs.Work(costs.DECODERS[name], batch=batch, tokens=tokens, epochs=TRAINING_STEPS)
  note = f'epochs of {TRAINING_STEPS} steps'
  contestants = (
    Contestant(OURS, 'ours.train', (work,), 1 / TRAINING_STEPS, note),
    Contestant(TORCH, 'peers.train', (work,)),
    Contestant(TORCH_BFLOAT16, 'peers.train', (work, True)),
  )
  title = f'training step {name}, B {batch} x {tokens}'
  return Group(f'train_{name}', title, contestants, batch * tokens, 'tokens/s')


def ppo(scorer: str, name: str, batch: int, prompt: int, new: int, trained: int) -> Group:
  """Returns an iteration of PPO; a second variant of ours trains only the top blocks."""
  shape = costs.DECODERS[name]
  work = costs.Work(shape, costs.ROBERTA[scorer], batch, prompt, new, epochs=PPO_EPOCHS)
  partly = dataclasses.replace(work, trained_blocks=trained)
  contestants = (
    Contestant(OURS, 'ours.ppo', (work,)),
    Contestant(f'ours, {trained} of {shape.blocks} blocks', 'ours.ppo', (partly,)),
    Contestant(TORCH, 'peers.ppo', (work,)),
  )
  title = f'PPO iteration {name}, B {batch}, {prompt} + {new} tokens, {PPO_EPOCHS} epochs, scored '
  row = f'ppo_{name}', f'{title}by RoBERTa-{scorer}'
  if shape.width >= 1024:
    return Group(*row, contestants[:2], batch * new, 'new tokens/s', ALONE, together=False)
  return Group(*row, contestants, batch * new, 'new tokens/s', TRL if name == '70m' else '')


def irl(scorer: str, name: str, pairs: int, tokens: int, turn: int, their_turn: int) -> Group:
  """Returns an epoch of IRL over `pairs`; a turn of ours or the authors' takes fewer."""
  work = costs.Work(costs.DECODERS[name], costs.ROBERTA[scorer], tokens=tokens, epochs=HEAD_EPOCHS)
  ours, theirs = (dataclasses.replace(work, pairs=some) for some in (turn, their_turn))
  scale, note = pairs / turn, f'epochs of {turn} pairs, scaled'
  runs = f'a tenth of full training runs of {HEAD_EPOCHS} {note}'
  their_note = f'{their_turn} pairs per turn, scaled; {REWARDS}'
  contestants = (
    Contestant(OURS, 'ours.irl', (ours,), scale, note),
    Contestant('ours, frozen trunk', 'ours.irl_frozen', (ours,), scale / HEAD_EPOCHS, runs),
    Contestant(AUTHORS, 'peers.authors_irl', (theirs,), pairs / their_turn, their_note),
  )
  title = f'IRL epoch {name}, {pairs} pairs of {tokens} tokens, with evaluation'
  return Group(f'irl_{name}', title, contestants, pairs, 'pairs/s')


def score(scorer: str, count: int, sample: int, their_sample: int) -> Group:
  """Returns r* of comments; a turn of ours and torch or of the authors' takes a sample."""
  shape, texts = costs.ROBERTA[scorer], inputs.comments(count)
  encoded = inputs.tokenizer('roberta_tokenizer')(texts)['input_ids']
  lengths = [min(len(ids), 512) for ids in encoded]

  def contestant(name: str, function: str, size: int) -> Contestant:
    sample_texts, sample_lengths = (inputs.sample_of(rows, size) for rows in (texts, lengths))
    work = costs.Work(shape, shape, texts=sample_texts, lengths=sample_lengths)
    note = f'{size} of them, of all lengths, scaled'
    return Contestant(name, function, (work,), count / size, note)

  contestants = (
    contestant(OURS, 'ours.score', sample),
    contestant(TORCH, 'peers.score', sample),
    contestant(AUTHORS, 'peers.authors_score', their_sample),
  )
  mean = sum(lengths) / count
  title = f'scoring {count} Jigsaw comments of {mean:.0f} tokens on average, RoBERTa-{scorer}'
  return Group('score', title, contestants, count, 'texts/s')


def start(scorer: str, name: str, batch: int, new: int) -> Group:
  """Returns the time that a user waits for the first step."""
  small = costs.ROBERTA[scorer]._replace(blocks=2)
  work = costs.Work(costs.DECODERS[name], small, batch, new=new)
  first = Contestant('first start', 'ours.start', (work, False), note='empty compilation cache')
  second = Contestant('second start', 'ours.start', (work, True), note='filled compilation cache')
  title = f'launch/train.py until its first PPO step, {name}, B {batch}, {new} new tokens'
  return Group('start', title, (first, second))


def growth(scorer: str, name: str, batch: int, tokens: int) -> Iterator[Group]:
  """Yields PPO iterations with one size halved and doubled, everything trained."""
  shape, half = costs.DECODERS[name], tokens // 2
  base = costs.Work(shape, costs.ROBERTA[scorer], batch, half, half, epochs=PPO_EPOCHS)
  for size, value, label, change in (
    ('batch', batch, 'B {0}', lambda value: {'batch': value}),
    ('length', half, '{0} + {0} tokens', lambda value: {'prompt': value, 'new': value}),
    ('depth', shape.blocks, '{0} blocks', lambda value: {'shape': shape._replace(blocks=value)}),
  ):
    contestants = tuple(
      Contestant(label.format(one), 'ours.ppo', (dataclasses.replace(base, **change(one)),))
      for one in (value // 2, value, 2 * value)
    )
    title = f'PPO iteration by {size}; else {name}, B {batch}, {half} + {half} tokens'
    yield Group(f'growth_{size}', f'{title}, {PPO_EPOCHS} epochs', contestants, rare=True)


def described(group: Group, results: list[dict], machine: dict[str, Any]) -> dict[str, Any]:
  """Returns one group's results with rates and limits, as --output keeps them."""
  rate = lambda row: {'rate': group.amount / row['seconds']} if group.amount else {}
  rows = [
    row | rate(row) | limits(one, row, machine) for one, row in zip(group.contestants, results)
  ]
  fields = {name: getattr(group, name) for name in ('name', 'title', 'unit', 'note')}
  return fields | {'contestants': rows}


def limits(contestant: Contestant, result: dict, machine: dict[str, Any]) -> dict[str, Any]:
  """Returns the `bounds` of all of a contestant's work and of its parts; {} if it has no limit."""
  if contestant.function not in ('ours.ppo', *costs.WHOLE):
    return {}
  found = costs.parts(contestant.function, contestant.work[0], machine['jax']['item'])
  scaled = lambda cost, seconds: bounds(cost, seconds / contestant.scale, machine)
  parts = result['parts'].items()
  return {
    'limit': scaled(costs.Cost(*map(sum, zip(*found.values()))), result['seconds']),
    'limits_of_parts': {part: scaled(found[part], value) for part, value in parts if part in found},
  }


def bounds(cost: costs.Cost, seconds: float, machine: dict[str, Any]) -> dict[str, float]:
  """Returns a lap's cost and the shares of the limits that it reached; MFU if the peak is known."""
  peak = machine['jax']['peak']
  return {
    'flops': cost.flops,
    'bytes': cost.bytes,
    'matmul': cost.flops / machine['matmul'] / seconds,
    'memory': cost.bytes / machine['memory'] / seconds,
  } | ({'mfu': cost.flops / seconds / peak} if peak else {})
