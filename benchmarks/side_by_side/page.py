"""BENCHMARKS.md, and what the terminal shows while it is measured: the results of --output."""

from typing import Any

HEADER = """# Speed

Written by `{command}`; do not edit. Random weights: the results are about speed only.
[How it was measured](docs/speed.md#how-it-was-measured).

"""


def seconds_of(value: float) -> str:
  """Returns a duration with three digits and a unit."""
  if value < 0.1:
    return f'{1e3 * value:.3g} ms'
  return f'{value:.3g} s' if value < 1000 else f'{value:,.0f} s'


def percent(value: float) -> str:
  """Returns a percentage, with one decimal if it is small."""
  return f'{value:.1%}' if value < 0.1 else f'{value:.0%}'


def shares(limit: dict[str, float]) -> str:
  """Returns the shares of the limits that the work reached."""
  names = {'matmul': 'matmul', 'memory': 'memory', 'mfu': 'MFU'}
  return ', '.join(
    f'{shown} {percent(limit[name])}'
    for name, shown in names.items()
    if limit.get(name, 0) > 0.0005
  )


def columns(row: dict[str, Any], first: dict[str, Any], unit: str) -> list[str]:
  """Returns name, seconds with quartiles and turns, rate, ratio to the first row, limits, idle."""
  low, high = seconds_of(row['low']), seconds_of(row['high'])
  return [
    row['name'],
    f'{seconds_of(row["seconds"])} [{low}, {high}] n {row["n"]}',
    f'{row["rate"]:,.4g} {unit}' if 'rate' in row else '',
    f'{row["seconds"] / first["seconds"]:.2f}',
    shares(row.get('limit', {})),
    percent(row['idle']),
  ]


def parts_line(row: dict[str, Any]) -> str:
  """Returns the seconds of the parts, and the shares of their limits."""
  limits = row.get('limits_of_parts', {})
  return ', '.join(
    f'{name} {seconds_of(value)}' + (f' ({shares(limits[name])})' if name in limits else '')
    for name, value in row['parts'].items()
  )


def section(group: dict[str, Any]) -> str:
  """Returns one group: a table and the remarks below it."""
  rows = group['contestants']
  table = [columns(row, rows[0], group['unit']) for row in rows]
  remarks = [
    f'{row["name"]}: {line}' for row in rows for line in (parts_line(row), row['note']) if line
  ]
  remarks += [group['note']] if group['note'] else []
  lines = [
    f'## {group["title"]}',
    '',
    '| | seconds | rate | times ours | share of the limit | idle |',
  ]
  lines += ['|---|---|---|---|---|---|', *(f'| {" | ".join(row)} |' for row in table)]
  return '\n'.join([*lines, *([''] if remarks else []), *(f'- {line}' for line in remarks), ''])


def head(results: dict[str, Any]) -> str:
  """Returns the command, the machine and its rates."""
  machine, jax = results['machine'], results['machine']['jax']
  lines = [
    f'{machine["processor"]}, {machine["cores"]} cores used, {machine["gigabytes"]:.0f} GB, '
    f'{machine["system"]}; JAX on {jax["devices"]} x {jax["device"]} ({jax["dtype"]}); load '
    f'{machine["load"]:.1f} at the start',
    ', '.join(f'{name} {version}' for name, version in machine['versions'].items()),
    f'matrix products: {machine["matmul"] / 1e9:,.0f} GFLOP/s at best; memory: '
    f'{machine["memory"] / 1e9:,.1f} GB/s at best',
  ]
  listed = lambda rates, form: '; '.join(f'{name} {rate / 1e9:{form}}' for name, rate in rates)
  for name in filter(machine.__contains__, ('jax', 'torch')):
    products, memory = (machine[name][kind].items() for kind in ('products', 'memory'))
    lines.append(f'{name}: {listed(products, ",.0f")} GFLOP/s; {listed(memory, ",.1f")} GB/s')
  return HEADER.format(command=results['command']) + ''.join(f'- {line}\n' for line in lines)


def markdown(results: dict[str, Any]) -> str:
  """Returns BENCHMARKS.md."""
  return '\n'.join([head(results), *map(section, results['groups'])])
