"""BENCHMARKS.md, and what the terminal shows while it is measured: the results of --output."""

from typing import Any

HEADER = """# Speed

Written by `{command}`; do not edit. Random weights: the results are about speed only.
[How it was measured](docs/speed.md#how-it-was-measured).

"""
COLUMNS = """| | seconds | rate | times ours | share of the limit | idle |
|---|---|---|---|---|---|
"""
LIMITS = {'matmul': 'matmul', 'memory': 'memory', 'mfu': 'MFU'}


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
  reached = [(shown, limit.get(name, 0)) for name, shown in LIMITS.items()]
  return ', '.join(f'{shown} {percent(value)}' for shown, value in reached if value > 0.0005)


def columns(row: dict[str, Any], first: dict[str, Any], unit: str) -> list[str]:
  """Returns name, seconds with quartiles and turns, rate, ratio to the first row, limits, idle."""
  middle, low, high = (seconds_of(row[name]) for name in ('seconds', 'low', 'high'))
  return [
    row['name'],
    f'{middle} [{low}, {high}] n {row["n"]}',
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
  cells = [' | '.join(columns(row, rows[0], group['unit'])) for row in rows]
  remarks = [
    f'{row["name"]}: {one}' for row in rows for one in (parts_line(row), row['note']) if one
  ]
  below = ''.join(f'- {line}\n' for line in [*remarks, group['note']] if line)
  table = COLUMNS + ''.join(f'| {row} |\n' for row in cells)
  return f'## {group["title"]}\n\n{table}' + (f'\n{below}' if below else '')


def head(results: dict[str, Any]) -> str:
  """Returns the command, the machine and its rates."""
  machine, jax = results['machine'], results['machine']['jax']
  lines = [
    f'{", ".join(machine["description"])}; JAX on {jax["devices"]} x {jax["device"]} '
    f'({jax["dtype"]}); load {machine["load"]:.1f} at the start',
    ', '.join(f'{name} {version}' for name, version in machine['versions'].items()),
    f'matrix products: {machine["matmul"] / 1e9:,.0f} GFLOP/s at best; memory: '
    f'{machine["memory"] / 1e9:,.1f} GB/s at best',
  ]
  listed = lambda rates, form: '; '.join(f'{name} {rates[name] / 1e9:{form}}' for name in rates)
  for name in filter(machine.__contains__, ('jax', 'torch')):
    products, memory = machine[name]['products'], machine[name]['memory']
    lines.append(f'{name}: {listed(products, ",.0f")} GFLOP/s; {listed(memory, ",.1f")} GB/s')
  return HEADER.format(command=results['command']) + ''.join(f'- {line}\n' for line in lines)


def markdown(results: dict[str, Any]) -> str:
  """Returns BENCHMARKS.md."""
  return '\n'.join([head(results), *map(section, results['groups'])])
