"""Files, commands and results that the documentation names exist in the repository."""

import json
import pathlib
import re
import signal
from typing import Any

from absl import flags
import numpy as np
import pytest

from irl_jax import errors
from irl_jax import version
from irl_jax.runtime import distributed

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')])
HISTORY = 'CHANGELOG.md'  # names what is gone too


def text_of(name: str) -> str:
  return (ROOT / name).read_text(encoding='utf-8')


def blocks_of(name: str, language: str) -> list[str]:
  return re.findall(rf'^```{language}\n(.*?)^```', text_of(name), re.DOTALL | re.MULTILINE)


def table_of(name: str, title: str) -> dict[str, list[str]]:
  """The rows of the table under a title, by their first cell."""
  lines = text_of(name).partition(f'## {title}')[2].partition('\n## ')[0].splitlines()
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')] for line in lines if line[:1] == '|'
  ]
  return {first: cells for first, *cells in rows}


def test_ci_runs_the_commands_that_readers_are_given():
  (check,) = [block for block in blocks_of('CONTRIBUTING.md', 'sh') if 'pre-commit run' in block]
  (tests,) = [block for block in blocks_of('README.md', 'sh') if 'pytest' in block]
  commands = [line for line in text_of('.ci/run').splitlines() if '.venv' in line]
  assert commands == [f'({command.strip()}) || status=1' for command in (check, tests)]


def test_readmes_table_says_what_the_file_of_results_holds():
  results, table = json.loads(text_of('docs/results.json')), table_of('README.md', 'What to expect')
  assert table.pop('') == [f'`{name}`' for name in results['columns']]
  del table['---']
  assert list(table) == list(results['rows'])
  for name, values in results['rows'].items():
    assert table[name] == [shown(name, value) for value in values], name


def shown(name: str, value) -> str:
  """A result as README shows it."""
  if value is None:
    return 'not run'
  if isinstance(value, str):
    return value
  lowest = min(value) if isinstance(value, list) else value
  if 'AUROC' in name:
    return f'{lowest:.3f}'.removeprefix('0')
  return f'{lowest:.1%}'.replace('%', ' %') if 'toxic' in name else f'{lowest}'


def test_the_page_of_results_holds_the_file_of_results_too():
  page = text_of('docs/results.md')
  for name, values in json.loads(text_of('docs/results.json'))['rows'].items():
    for value in values:
      for single in value if isinstance(value, list) else [value]:
        assert single is None or shown(name, single) in page, (name, single)


def test_the_page_of_the_audit_says_what_its_file_holds():
  table = table_of('docs/audit.md', 'Was it right?')
  for change, found in json.loads(text_of('docs/audit.json')).items():
    assert table[f'`{change}`'] == audit_cells(found), change


def audit_cells(found: dict[str, Any]) -> list[str]:
  """The row of one audit in docs/audit.md; a report that recovered nothing names no words."""
  lowest = lambda name: min(seed[name] for seed in found['seeds'])
  headline = found['headline'].partition(':')[0]
  named = (', '.join(found[name]) for name in ('polite_words_liked', 'words_liked'))
  return [
    f'{found["pairs_that_differ"]} of {found["pairs"]}',
    f'{found["politeness"]["base"]:.2f} → {found["politeness"]["aligned"]:.2f}',
    f'{lowest("spearman"):.2f}',
    f'{lowest("pairwise_accuracy"):.0%} of {found["seeds"][0]["pairs"]}'.replace('%', ' %'),
    headline,
    *(named if headline == 'Not verified' else ('–', '–')),
  ]


def test_the_example_of_the_update_contract_runs():
  (example,) = blocks_of('docs/architecture.md', 'python')
  names: dict[str, Any] = {}
  exec(compile(example, 'docs/architecture.md', 'exec'), names)
  assert np.isclose(names['metrics']['loss'], np.mean(np.arange(8.0) ** 2))
  assert (np.asarray(names['state'].params['w']) > 0).all()


def test_readme_names_the_exit_codes_that_there_are():
  section = text_of('README.md').partition('## Exit codes\n')[2].partition('\n## ')[0]
  named = {int(code) for code in re.findall(r'\b(\d+)(?=,| [a-z])', section)}
  kinds = [kind for kind in vars(errors).values() if hasattr(kind, 'exit_code')]
  stops = {128 + signal.SIGTERM, 128 + signal.SIGINT}
  assert named == {0, *(kind.exit_code for kind in kinds), *stops}


@pytest.mark.parametrize(
  'name, words, unit',
  [
    ('heartbeat_timeout', '100 s', 1),
    ('stuck_timeout', '1 hour', 3600),
    ('initialization_timeout', '300 s', 1),
  ],
)
def test_timeouts_are_the_defaults_that_build_names(name, words, unit):
  values = flags.FlagValues()
  distributed.define_flags(values)
  assert values[name].default == int(words.split()[0]) * unit
  assert f'`--{name}` ({words})' in text_of('BUILD.md')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_the_documentation_names_exist(page):
  """Links, and paths in code spans such as `irl_jax/config.py`."""
  text = page.read_text(encoding='utf-8')
  links = [link.partition('#')[0] for link in re.findall(r'\]\(([^()\s]+)\)', text)]
  missing = [
    link for link in links if link and ':' not in link and not (page.parent / link).exists()
  ]
  rooms = 'irl_jax|launch|configs|studies|benchmarks|examples|tests|docs|constraints'
  named = re.findall(rf'`((?:{rooms})/[\w/.-]+\.\w+)', text)
  if page.name != HISTORY:
    missing += [name for name in named if not (ROOT / name).exists()]
  assert not missing


def test_the_citation_names_the_version():
  assert f'version: {version.__version__}\n' in text_of('CITATION.cff')


NAMED = re.compile(r'`([\w/]+\.py): ([\w.]+)`')  # such as `irl/loop.py: train`


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_functions_that_the_documentation_names_exist(page):
  missing = []
  for file, name in NAMED.findall(page.read_text(encoding='utf-8')):
    (path,) = [path for path in (ROOT / file, ROOT / 'irl_jax' / file) if path.exists()]
    last = name.rpartition('.')[2]
    pattern = rf'^ *(def|class) {last}\b|^{last}\b'
    if not re.search(pattern, path.read_text(encoding='utf-8'), re.MULTILINE):
      missing.append(f'{file}: {name}')
  assert not missing
