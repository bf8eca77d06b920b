"""The results as lines on a terminal, and as BENCHMARKS.md; both from what --output keeps."""

from collections.abc import Iterator
from typing import Any

HEADER = """# Speed

Written by `{command}`; do not edit. Random weights, so figures of speed only.

"""
METHOD = """
## How it was measured

- **Turns.** Every contestant lives in a process of its own and they take turns (ours, peer, ours, peer, ...); the first
  piece of work of each, with imports and compilation, does not count. Given are the median, the quartiles and the
  number of turns; ratios are those of medians of the same turns. While one is timed the others wait, and what
  processor time that cost them is in the column "idle" (% of one core): a pool of threads that spins beside another's
  work would show there. On Linux all have huge pages and one heap (GLIBC_TUNABLES), as a run of a given model has; on
  CPU ours keeps what it frees (docs/speed.md).
- **Ours** is what users and stages call: `sampling.sampler`, `ppo.loop.train`, `supervised.train_language_model`,
  `irl.loop.train` (with its checkpoints), `rewards.true_reward`, `pretrained.load` and `save`, `checkpoint`,
  `launch/train.py`. The part `update` of a PPO iteration is the log-probabilities of policy and reference, the values,
  and all epochs.
- **torch** is transformers' models with as many threads as cores: `generate` with its cache under inference_mode; a
  plain training step (AdamW, gradient clipping; bfloat16 by autocast); RoBERTa on texts sorted by length, each batch
  padded to its longest, in batches of 16, 32 or 64, whichever was fastest. TRL has no PPO trainer any more, so PPO is
  a plain loop of the same steps, which also takes logits at response positions only.
- **The authors'** loops are those of the paper's released code, written again as they run: RoBERTa a text at a time,
  padded to 512; IRL a pair at a time on whole texts, the language model's head run with it, and after each epoch the
  learnt and the true reward of every text, one at a time. Where the released code leaves it open the cheaper way is
  taken (one optimiser step for 32 pairs, no padding of IRL's true rewards). A sample of them is timed and scaled.
- **Limits.** Matrix products of the work over the best rate that XLA or torch reached in the products of this table;
  bytes over the best memory rate. Attention counts all pairs of positions, look-ups nothing, recomputation and padding
  nothing; below a cut nothing is counted twice. The share is the limit's seconds over those that it took: the larger
  one of the two binds.
"""


def seconds_of(value: float) -> str:
  """Three digits and a unit."""
  if value < 0.1:
    return f'{1e3 * value:.3g} ms'
  return f'{value:.3g} s' if value < 1000 else f'{value:,.0f} s'


def percent(value: float) -> str:
  """With a digit behind the point where it is small."""
  return f'{value:.1%}' if value < 0.1 else f'{value:.0%}'


def shares(limit: dict[str, float]) -> str:
  """How near a limit is, by its kind."""
  names = ('matmul', 'memory', 'mfu')
  return ', '.join(
    f'{"MFU" if name == "mfu" else name} {percent(limit[name])}'
    for name in names
    if name in limit and limit[name] > 0.0005
  )


def columns(row: dict[str, Any], first: dict[str, Any], unit: str) -> list[str]:
  """Who, seconds with quartiles and turns, rate, how many times as fast as it ours (the first) is, limits, idle."""
  if 'failed' in row:
    return [row['name'], f'failed: {row["failed"]}', '', '', '', '']
  spread = f'{seconds_of(row["seconds"])} [{seconds_of(row["low"])}, {seconds_of(row["high"])}] n {row["n"]}'
  ratio = f'{row["seconds"] / first["seconds"]:.2f}' if 'seconds' in first else ''
  return [
    row['name'],
    spread,
    f'{row["rate"]:,.4g} {unit}' if 'rate' in row else '',
    ratio,
    shares(row['limit']) if 'limit' in row else '',
    percent(row['idle']),
  ]


def target_line(target: dict[str, Any]) -> str:
  """What was to be reached, and what was."""
  value = target['value']
  if value is None:
    return f'{target["text"]}: not measured'
  words = {'times': f'{value:.3g} times', 'seconds': seconds_of(value)}.get(
    target['kind'], percent(value)
  )
  return f'{target["text"]}: {words}, {"reached" if target["reached"] else "missed"}'


def parts_line(row: dict[str, Any]) -> str:
  """The seconds of its parts, and the limits of each."""
  limits = row.get('limits_of_parts', {})
  return ', '.join(
    f'{name} {seconds_of(value)}' + (f' ({shares(limits[name])})' if name in limits else '')
    for name, value in row['parts'].items()
  )


def remarks(group: dict[str, Any]) -> Iterator[str]:
  """What stands below a group's rows."""
  for row in group['contestants']:
    if row.get('parts'):
      yield f'{row["name"]}: {parts_line(row)}'
    if row['note']:
      yield f'{row["name"]}: {row["note"]}'
  if group['note']:
    yield group['note']
  for target in group['targets']:
    yield f'target: {target_line(target)}'


def terminal(group: dict[str, Any]) -> str:
  """One group, as it is printed once it is known."""
  rows = [columns(row, group['contestants'][0], group['unit']) for row in group['contestants']]
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = [
    '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
  ]
  return '\n'.join(
    [
      group['title'],
      *(f'  {line}' for line in lines),
      *(f'    {line}' for line in remarks(group)),
      '',
    ]
  )


def machine_lines(machine: dict[str, Any]) -> list[str]:
  """What was measured on, and its rates."""
  jax, versions = machine['jax'], machine['versions']
  lines = [
    f'{machine["processor"]}, {machine["cores"]} cores used, {machine["gigabytes"]:.0f} GB, {machine["system"]}'
    f'; JAX on {jax["devices"]} x {jax["device"]} ({jax["dtype"]}); load {machine["load"]:.1f} at the start',
    f'Python {machine["python"]}, '
    + ', '.join(f'{name} {version}' for name, version in versions.items()),
    f'matrix products: {machine["matmul"] / 1e9:,.0f} GFLOP/s at best; memory: {machine["memory"] / 1e9:,.1f} '
    'GB/s at best',
  ]
  for name in ('jax', 'torch'):
    if name in machine:
      rates = [
        f'{product} {rate / 1e9:,.0f}' for product, rate in machine[name]['products'].items()
      ]
      memory = [f'{how} {rate / 1e9:,.1f}' for how, rate in machine[name]['memory'].items()]
      lines.append(f'{name}: {"; ".join(rates)} GFLOP/s; {"; ".join(memory)} GB/s')
  return lines


def markdown(results: dict[str, Any]) -> str:
  """BENCHMARKS.md."""
  out = [HEADER.format(command=results['command'])]
  out += [f'- {line}\n' for line in machine_lines(results['machine'])]
  for group in results['groups']:
    out.append(
      f'\n## {group["title"]}\n\n| | seconds | rate | times ours | share of the limit | idle |\n'
      '|---|---|---|---|---|---|\n'
    )
    first = group['contestants'][0]
    out += [
      '| ' + ' | '.join(columns(row, first, group['unit'])) + ' |\n' for row in group['contestants']
    ]
    lines = list(remarks(group))
    out += ['\n'] * bool(lines) + [f'- {line}\n' for line in lines]
  return ''.join(out) + METHOD
