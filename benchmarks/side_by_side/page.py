"""The results as lines on a terminal, and as BENCHMARKS.md; both from what --output keeps."""

from collections.abc import Iterator
from typing import Any

HEADER = """# Speed

Written by `{command}`; do not edit. Random weights: the results are about speed only.

"""
METHOD = """
## How it was measured

- **Turns.** Every contestant lives in a process of its own, and they take turns (ours, peer,
  ours, peer, ...). The first piece of work of each, with imports and compilation, does not count.
  The table gives the median, the quartiles and the number of turns; ratios are those of medians
  of the same turns. While one is timed the others wait. The processor time that waiting cost them
  is in the column "idle" (% of one core), which would show a pool of threads that spins. On Linux
  all have huge pages and one heap (GLIBC_TUNABLES), as a run of a given model has; on a CPU ours
  keeps the memory that it frees (docs/speed.md).
- **Ours** is what users and stages call: `sampling.sampler`, `ppo.loop.train`,
  `supervised.train_language_model`, `irl.loop.train` (with its checkpoints),
  `rewards.true_reward`, `pretrained.load` and `save`, `checkpoint`, `launch/train.py`. The part
  `update` of a PPO iteration is the log-probabilities of policy and reference, the values, and
  all epochs.
- **torch** is transformers' models with as many threads as cores: `generate` with its cache under
  inference_mode; a plain training step (AdamW, gradient clipping; bfloat16 by autocast); RoBERTa
  on texts sorted by length, each batch padded to its longest, in batches of 16, 32 or 64,
  whichever was fastest. TRL has no PPO trainer any more, so PPO is a plain loop of the same
  steps, which also takes logits at response positions only.
- **The authors'** loops are those of the paper's released code, rewritten as they run: RoBERTa
  one text at a time, padded to 512; IRL one pair at a time on whole texts, the language model's
  head run with it, and after each epoch the learned and the true reward of every text, one at a
  time. If the released code leaves a choice, the cheaper way is taken (one optimiser step for 32
  pairs, no padding of IRL's true rewards). A sample of them is timed and scaled.
- **Limits.** "matmul": the work's matrix products at the best rate that XLA or torch reached in
  the products of this page. "memory": its bytes at the best memory rate. The share is the limit's
  seconds over those that the work took; the larger of the two is the one that binds. Attention
  counts all pairs of positions; look-ups, recomputation and padding count nothing; below a cut
  nothing is counted twice.
"""


def seconds_of(value: float) -> str:
  """Three digits and a unit."""
  if value < 0.1:
    return f'{1e3 * value:.3g} ms'
  return f'{value:.3g} s' if value < 1000 else f'{value:,.0f} s'


def percent(value: float) -> str:
  """With one decimal if it is small."""
  return f'{value:.1%}' if value < 0.1 else f'{value:.0%}'


def shares(limit: dict[str, float]) -> str:
  """Returns how near the work is to each limit."""
  names = {'matmul': 'matmul', 'memory': 'memory', 'mfu': 'MFU'}
  return ', '.join(
    f'{shown} {percent(limit[name])}'
    for name, shown in names.items()
    if limit.get(name, 0) > 0.0005
  )


def columns(row: dict[str, Any], first: dict[str, Any], unit: str) -> list[str]:
  """Name, seconds with quartiles and turns, rate, ratio to the first row, limits, idle."""
  if 'failed' in row:
    return [row['name'], f'failed: {row["failed"]}', '', '', '', '']
  low, high = seconds_of(row['low']), seconds_of(row['high'])
  return [
    row['name'],
    f'{seconds_of(row["seconds"])} [{low}, {high}] n {row["n"]}',
    f'{row["rate"]:,.4g} {unit}' if 'rate' in row else '',
    f'{row["seconds"] / first["seconds"]:.2f}' if 'seconds' in first else '',
    shares(row['limit']) if 'limit' in row else '',
    percent(row['idle']),
  ]


def target_line(target: dict[str, Any]) -> str:
  """The target and what was measured."""
  value = target['value']
  if value is None:
    return f'{target["text"]}: not measured'
  words = {'times': f'{value:.3g} times', 'seconds': seconds_of(value)}
  shown = words.get(target['kind'], percent(value))
  return f'{target["text"]}: {shown}, {"reached" if target["reached"] else "missed"}'


def parts_line(row: dict[str, Any]) -> str:
  """The seconds of the parts, and the limits of each."""
  limits = row.get('limits_of_parts', {})
  return ', '.join(
    f'{name} {seconds_of(value)}' + (f' ({shares(limits[name])})' if name in limits else '')
    for name, value in row['parts'].items()
  )


def remarks(group: dict[str, Any]) -> Iterator[str]:
  """The lines below a group's rows."""
  for row in group['contestants']:
    if row.get('parts'):
      yield f'{row["name"]}: {parts_line(row)}'
    if row['note']:
      yield f'{row["name"]}: {row["note"]}'
  if group['note']:
    yield group['note']
  for target in group['targets']:
    yield f'target: {target_line(target)}'


def table(group: dict[str, Any]) -> list[list[str]]:
  """The rows of a group."""
  return [columns(row, group['contestants'][0], group['unit']) for row in group['contestants']]


def terminal(group: dict[str, Any]) -> str:
  """One group, as it is printed once it is known."""
  rows = table(group)
  widths = [max(map(len, column)) for column in zip(*rows)]
  aligned = [[cell.ljust(width) for cell, width in zip(row, widths)] for row in rows]
  lines = [f'  {"  ".join(row).rstrip()}' for row in aligned]
  return '\n'.join([group['title'], *lines, *(f'    {line}' for line in remarks(group)), ''])


def machine_lines(machine: dict[str, Any]) -> list[str]:
  """The machine and its rates."""
  jax = machine['jax']
  versions = ''.join(f', {name} {version}' for name, version in machine['versions'].items())
  lines = [
    f'{machine["processor"]}, {machine["cores"]} cores used, {machine["gigabytes"]:.0f} GB, '
    f'{machine["system"]}; JAX on {jax["devices"]} x {jax["device"]} ({jax["dtype"]}); load '
    f'{machine["load"]:.1f} at the start',
    f'Python {machine["python"]}{versions}',
    f'matrix products: {machine["matmul"] / 1e9:,.0f} GFLOP/s at best; memory: '
    f'{machine["memory"] / 1e9:,.1f} GB/s at best',
  ]
  for name in ('jax', 'torch'):
    if name in machine:
      products = machine[name]['products'].items()
      rates = '; '.join(f'{product} {rate / 1e9:,.0f}' for product, rate in products)
      memory = machine[name]['memory'].items()
      bandwidths = '; '.join(f'{how} {rate / 1e9:,.1f}' for how, rate in memory)
      lines.append(f'{name}: {rates} GFLOP/s; {bandwidths} GB/s')
  return lines


def markdown(results: dict[str, Any]) -> str:
  """BENCHMARKS.md."""
  out = [HEADER.format(command=results['command'])]
  out += [f'- {line}\n' for line in machine_lines(results['machine'])]
  for group in results['groups']:
    out.append(f'\n## {group["title"]}\n\n')
    out.append('| | seconds | rate | times ours | share of the limit | idle |\n')
    out.append('|---|---|---|---|---|---|\n')
    out += [f'| {" | ".join(row)} |\n' for row in table(group)]
    lines = [f'- {line}\n' for line in remarks(group)]
    out += ['\n', *lines] if lines else []
  return ''.join(out) + METHOD
