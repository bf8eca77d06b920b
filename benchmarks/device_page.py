"""Collects the results of benchmarks/device.sh in one JSON file and one page.

python benchmarks/device_page.py FOLDER            writes device.json and device.md
python benchmarks/device_page.py FOLDER --worst    names the group that is furthest from its limit
"""

import collections
import gzip
import json
import pathlib
import sys
from typing import Any
from xml.etree import ElementTree

from side_by_side import page

OPERATIONS = 12  # of the trace, those that took most of the time
RATES = ('matmul', 'memory')


def main(argv: list[str]) -> int:
  """Writes the results, or prints the name of a group; returns 1 if a part failed."""
  folder, results = pathlib.Path(argv[1]), collect(pathlib.Path(argv[1]))
  if '--worst' in argv:
    name = worst(results['groups'])
    print(name)
    return 0 if name else 1
  text = json.dumps(results, indent=2, ensure_ascii=False) + '\n'
  (folder / 'device.json').write_text(text, encoding='utf-8')
  (folder / 'device.md').write_text(markdown(results), encoding='utf-8')
  print(folder / 'device.md')
  return int(any(part['code'] for part in results['parts'].values()))


def collect(folder: pathlib.Path) -> dict[str, Any]:
  """Returns all results in a folder; a part that did not end is missing."""
  speed = folder / 'speed.json'
  found = json.loads(speed.read_text(encoding='utf-8')) if speed.is_file() else {'groups': []}
  ended = sorted(folder.glob('parts/*'), key=lambda file: file.stat().st_mtime)
  parts = {file.name: file.read_text().split() for file in ended}
  return {
    'parts': {name: {'code': int(code), 'seconds': int(s)} for name, (code, s) in parts.items()},
    'tests': tests(folder / 'tests.xml'),
    'machine': found.get('machine'),
    'groups': found['groups'],
    'profile': {path.name: operations(path) for path in sorted(folder.glob('traces/*'))},
  }


def tests(file: pathlib.Path) -> dict[str, list[str]]:
  """Returns the names of the tests by their outcome, from pytest's --junitxml."""
  outcomes: dict[str, list[str]] = {'passed': [], 'failed': [], 'skipped': []}
  if file.is_file():
    for case in ElementTree.parse(file).iter('testcase'):
      child = {child.tag for child in case} & {'failure', 'error', 'skipped'}
      outcome = 'passed' if not child else 'skipped' if child == {'skipped'} else 'failed'
      outcomes[outcome].append(f'{case.get("classname")}.{case.get("name")}')
  return outcomes


def worst(groups: list[dict[str, Any]]) -> str:
  """Returns the name of the group whose first row reaches least of the limit that binds it."""
  reached = {
    group['name']: max(group['contestants'][0]['limit'][rate] for rate in RATES) for group in groups
  }
  return min(reached, key=reached.__getitem__, default='')


def operations(folder: pathlib.Path) -> dict[str, float]:
  """Returns the seconds of XLA's slowest operations in a trace, threads added up."""
  seconds: dict[str, float] = collections.Counter()
  for file in folder.rglob('*.trace.json.gz'):
    for event in json.loads(gzip.decompress(file.read_bytes()))['traceEvents']:
      if name := event.get('args', {}).get('hlo_op'):
        seconds[name] += event.get('dur', 0) / 1e6
  return dict(collections.Counter(seconds).most_common(OPERATIONS))


def markdown(results: dict[str, Any]) -> str:
  """Returns the page."""
  parts = results['parts'].items()
  table = ''.join(f'| {name} | {one["code"]} | {one["seconds"]} s |\n' for name, one in parts)
  sections = [f'## Parts\n\n| part | exit code | time |\n|---|---|---|\n{table}']
  counts = ', '.join(f'{len(names)} {outcome}' for outcome, names in results['tests'].items())
  failed = ''.join(f'\n- failed: `{name}`' for name in results['tests']['failed'])
  sections.append(f'## Tests\n\n{counts}\n{failed}')
  sections += map(page.section, results['groups'])
  for name, found in results['profile'].items():
    rows = ''.join(f'| `{one}` | {page.seconds_of(seconds)} |\n' for one, seconds in found.items())
    sections.append(f'## Slowest operations of {name}\n\n| operation | time |\n|---|---|\n{rows}')
  if machine := results['machine']:
    head = page.head({'command': 'benchmarks/device.sh', 'machine': machine})
  else:
    head = '# Speed\n'
  return '\n'.join([head, *sections])


if __name__ == '__main__':
  sys.exit(main(sys.argv))
