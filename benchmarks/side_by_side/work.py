"""The timed work: its contestants, its sizes, and the shares of the machine's limits it reaches."""

from collections.abc import Callable
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
FOLDER, MOMENTS = 'a Hugging Face folder', 'parameters and AdamW moments'
FILES = (
  ('load', 'model_files', True, f'{FOLDER} read'),
  ('save', 'model_files', False, f'{FOLDER} written (ours also read back and compared)'),
  ('checkpoint_save', 'checkpoints', False, f'{MOMENTS} saved'),
  ('checkpoint_load', 'checkpoints', True, f'{MOMENTS} restored'),
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


SIZES: dict[str, dict[str, list[tuple]]] = {  # arguments of the functions below, by their names
  'cpu': {
    'decode': [(name, 16, 32, 64) for name in ('14m', '70m', '410m', 'smollm2')],
    'train': [('70m', 16, 64), ('smollm2', 16, 64)],
    'ppo': [('70m', 16, 32, 32, 4), ('410m', 16, 32, 32, 3)],
    'irl': [('70m', 500, 100, 64, 8)],
    'score': [('base', 2000, 400, 4)],
    'files': [('70m',)],
    'start': [('14m', 16, 32)],
    'growth': [('70m', 16, 64)],
  },
  'gpu': {
    'decode': [(name, 256, 128, 128) for name in ('70m', '410m', '1b', 'smollm2')],
    'train': [('410m', 64, 512), ('smollm2', 64, 512)],
    'ppo': [('70m', 128, 128, 128, 4), ('410m', 128, 128, 128, 3), ('1b', 64, 128, 128, 3)],
    'irl': [(name, 500, 100, 500, 8) for name in ('70m', '410m', '1b')],
    'score': [('base', 2000, 2000, 200)],
    'files': [('410m',)],
    'start': [('14m', 16, 32)],
    'growth': [('410m', 128, 256)],
  },
  'tiny': {
    'decode': [('tiny', 4, 5, 6), ('tiny_llama', 4, 5, 6)],
    'train': [('tiny', 4, 8), ('tiny_llama', 4, 8)],
    'ppo': [('tiny', 4, 5, 6, 1)],
    'irl': [('tiny', 8, 8, 4, 2)],
    'score': [('tiny', 32, 8, 2)],
    'files': [('tiny',)],
    'start': [('tiny', 4, 6)],
    'growth': [('tiny', 4, 8)],
  },
}


def all_groups(kind: str, peers: bool) -> list[Group]:
  """Returns every group in its order, of this kind of sizes; without `peers`, only ours."""
  kinds = (decode, train, ppo, irl, score, files, start, growth)
  shapes = [(make, shape) for make in kinds for shape in SIZES[kind].get(make.__name__, ())]
  groups = [group for make, shape in shapes for group in make(*shape)]
  whole = Contestant(OURS, 'ours.whole_run', ('configs/tiny.py',))
  title = 'configs/tiny.py from its first stage to its last, warm cache'
  groups.append(Group('tiny', title, (whole,), rare=True))
  ours = lambda one: one.function.startswith('ours.')
  return groups if peers else [only(group, ours) for group in groups]


def only(group: Group, kept: Callable[[Contestant], bool]) -> Group:
  """Returns the group with the contestants for which `kept` is true."""
  return dataclasses.replace(group, contestants=tuple(filter(kept, group.contestants)))


def worth_timing(group: Group, machine: dict[str, Any]) -> Group:
  """Returns the group without torch in bfloat16 if its matmuls are slower than those in float32.

  On a CPU without AVX-512, one training step in bfloat16 would take minutes.
  """
  products = machine.get('torch', {}).get('products', {}).items()
  best = lambda dtype: max((rate for name, rate in products if name.endswith(dtype)), default=0)
  fast = best('bfloat16') >= best('float32')
  return only(group, lambda one: fast or one.name != TORCH_BFLOAT16)


def work_of(name: str, *sizes: int, **more: Any) -> costs.Work:
  """Returns the work of a decoder, next to a classifier of a matching size."""
  return costs.Work(costs.DECODERS[name], costs.ROBERTA[scorer_of(name)], *sizes, **more)


def scorer_of(name: str) -> str:
  """Names the RoBERTa that scores the texts of a decoder."""
  return 'tiny' if name.startswith('tiny') else 'base'


def both(name: str, title: str, function: str, *work: Any, **more: Any) -> Group:
  """Returns work that ours and torch do in functions of the same name."""
  ours = Contestant(OURS, f'ours.{function}', work)
  return Group(name, title, (ours, Contestant(TORCH, f'peers.{function}', work)), **more)


def decode(name: str, batch: int, prompt: int, new: int) -> Iterator[Group]:
  """Yields sampling."""
  title = f'decode {name}, B {batch}, prompt {prompt}, {new} new, top-k {costs.TOP_K}'
  more = dict(amount=batch * new, unit='new tokens/s')
  yield both(f'decode_{name}', title, 'decode', work_of(name, batch, prompt, new), **more)


def files(name: str) -> Iterator[Group]:
  """Yields models and checkpoints on disk."""
  for row, function, reading, title in FILES:
    yield both(row, f'{title}, {name}', function, work_of(name), reading)


def train(name: str, batch: int, tokens: int) -> Iterator[Group]:
  """Yields a step of language modelling."""
  work = work_of(name, batch, tokens=tokens, epochs=TRAINING_STEPS)
  note = f'epochs of {TRAINING_STEPS} steps'
  contestants = (
    Contestant(OURS, 'ours.train', (work,), 1 / TRAINING_STEPS, note),
    Contestant(TORCH, 'peers.train', (work,)),
    Contestant(TORCH_BFLOAT16, 'peers.train', (work, True)),
  )
  title = f'training step {name}, B {batch} x {tokens}'
  yield Group(f'train_{name}', title, contestants, batch * tokens, 'tokens/s')


def ppo(name: str, batch: int, prompt: int, new: int, trained: int) -> Iterator[Group]:
  """Yields an iteration of PPO; a second variant of ours trains only the top blocks."""
  work = work_of(name, batch, prompt, new, epochs=PPO_EPOCHS)
  partly = dataclasses.replace(work, trained_blocks=trained)
  contestants = (
    Contestant(OURS, 'ours.ppo', (work,)),
    Contestant(f'ours, {trained} of {work.shape.blocks} blocks', 'ours.ppo', (partly,)),
    Contestant(TORCH, 'peers.ppo', (work,)),
  )
  title = (
    f'PPO iteration {name}, B {batch}, {prompt} + {new} tokens, {PPO_EPOCHS} epochs, scored by '
    f'RoBERTa-{scorer_of(name)}'
  )
  group = Group(f'ppo_{name}', title, contestants, batch * new, 'new tokens/s')
  large = dict(contestants=contestants[:2], note=ALONE, together=False)
  yield dataclasses.replace(group, **large) if work.shape.width >= 1024 else group


def irl(name: str, pairs: int, tokens: int, turn: int, their_turn: int) -> Iterator[Group]:
  """Yields an epoch of IRL over `pairs`; a turn of ours or the authors' takes fewer."""
  work = work_of(name, tokens=tokens, epochs=HEAD_EPOCHS, pairs=turn)
  theirs = dataclasses.replace(work, pairs=their_turn)
  scale, note = pairs / turn, f'epochs of {turn} pairs, scaled'
  runs = f'a tenth of full training runs of {HEAD_EPOCHS} {note}'
  their_note = f'{their_turn} pairs per turn, scaled; {REWARDS}'
  contestants = (
    Contestant(OURS, 'ours.irl', (work,), scale, note),
    Contestant('ours, frozen trunk', 'ours.irl_frozen', (work,), scale / HEAD_EPOCHS, runs),
    Contestant(AUTHORS, 'peers.authors_irl', (theirs,), pairs / their_turn, their_note),
  )
  title = f'IRL epoch {name}, {pairs} pairs of {tokens} tokens, with evaluation'
  yield Group(f'irl_{name}', title, contestants, pairs, 'pairs/s')


def score(scorer: str, count: int, sample: int, their_sample: int) -> Iterator[Group]:
  """Yields r* of comments; a turn of ours and torch or of the authors' takes a sample."""
  shape, texts = costs.ROBERTA[scorer], inputs.comments(count)
  encoded = inputs.tokenizer('roberta_tokenizer')(texts)['input_ids']
  lengths = [min(len(ids), 512) for ids in encoded]
  contestants = []
  for name, function, size in (
    (OURS, 'ours.score', sample),
    (TORCH, 'peers.score', sample),
    (AUTHORS, 'peers.authors_score', their_sample),
  ):
    shown, sizes = (inputs.sample_of(rows, size) for rows in (texts, lengths))
    work = costs.Work(shape, shape, texts=shown, lengths=sizes)
    note = f'{size} of them, of all lengths, scaled'
    contestants.append(Contestant(name, function, (work,), count / size, note))
  mean = sum(lengths) / count
  title = f'scoring {count} Jigsaw comments of {mean:.0f} tokens on average, RoBERTa-{scorer}'
  yield Group('score', title, tuple(contestants), count, 'texts/s')


def start(name: str, batch: int, new: int) -> Iterator[Group]:
  """Yields the time that a user waits for the first step."""
  work = work_of(name, batch, new=new)
  work = dataclasses.replace(work, scorer=work.scorer._replace(blocks=2))
  contestants = tuple(
    Contestant(f'{which} start', 'ours.start', (work, warm), note=f'{cache} compilation cache')
    for which, warm, cache in (('first', False, 'empty'), ('second', True, 'filled'))
  )
  title = f'launch/train.py until its first PPO step, {name}, B {batch}, {new} new tokens'
  yield Group('start', title, contestants)


def growth(name: str, batch: int, tokens: int) -> Iterator[Group]:
  """Yields PPO iterations with one size halved and doubled, everything trained."""
  shape, half = costs.DECODERS[name], tokens // 2
  base = work_of(name, batch, half, half, epochs=PPO_EPOCHS)
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
  rows = zip(group.contestants, results)
  contestants = [row | rate(row) | limits(one, row, machine) for one, row in rows]
  fields = {name: getattr(group, name) for name in ('name', 'title', 'unit', 'note')}
  return fields | {'contestants': contestants}


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
  shares = {
    'matmul': cost.flops / machine['matmul'] / seconds,
    'memory': cost.bytes / machine['memory'] / seconds,
  }
  peak = machine['jax']['peak']
  return cost._asdict() | shares | ({'mfu': cost.flops / seconds / peak} if peak else {})
