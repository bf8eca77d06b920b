"""The page: whole, inert, escaped, small, reproducible; and every part of it may be missing."""

import base64
import hashlib
import html.parser
import itertools
import json
import pathlib
import re

import pytest

from irl_jax import config as config_lib
from irl_jax.command_line import config_files
from irl_jax.errors import ConfigError
from irl_jax.report import drawing
from irl_jax.report import inputs
from irl_jax.report import page
from irl_jax.report import texts
from irl_jax.runtime import workdir

HOSTILE = (
  '<script>alert(1)</script><img src=x onerror=alert(2)> "q" \'s\' &lt; \u202e‮ \x00 👩‍👩‍👧 '
  + 'x' * 3000
)
CONFIGS = sorted((pathlib.Path(__file__).parents[2] / 'configs').glob('[!_]*.py'))
VOID = {'meta', 'input', 'br', 'hr', 'img', 'link'}


class Reader(html.parser.HTMLParser):
  """Collects the tags, attributes and text of a page, and checks that tags close in order."""

  def __init__(self, source):
    super().__init__()
    self.tags, self.attributes, self.text, self.open = [], [], [], []
    self.feed(source)
    assert self.open == []

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.attributes += attributes
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.tags.append(tag)
    self.attributes += attributes

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture
def no_png(monkeypatch):
  """Without the PNGs, which take as long as the rest."""
  monkeypatch.setattr(drawing, 'png', lambda figure: b'')


def change(folder, name, edit):
  path = folder / name
  value = json.loads(path.read_text())
  edit(value)
  path.write_text(json.dumps(value))


def read(folder):
  source = (folder / 'report.html').read_bytes().decode('utf-8')
  return source, Reader(source)


def test_the_page_loads_nothing_and_runs_nothing(report):
  source, reader = read(report)
  assert not {'script', 'link', 'img', 'iframe', 'object', 'embed', 'base', 'form'} & set(
    reader.tags
  )
  names = {name for name, _ in reader.attributes}
  assert (
    not [name for name in names if name.startswith('on')]
    and 'style' not in names
    and 'src' not in names
  )
  links = [value for name, value in reader.attributes if name in ('href', 'action')]
  assert links and all(link.startswith('#') for link in links)
  assert not re.search(r'@import|url\(["\']?(?!#)|https?:', source)


def test_the_policy_allows_this_style_sheet_alone(report):
  source, reader = read(report)
  css = re.search(r'<style>(.*?)</style>', source, re.DOTALL)[1]
  digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
  assert (
    'content',
    f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
  ) in reader.attributes
  assert (
    source.index('Security-Policy') < source.index('<style>') and reader.tags.count('style') == 1
  )


def test_every_figure_is_there_as_drawing_png_and_numbers(report):
  source, reader = read(report)
  names = sorted(path.stem for path in (report / 'figures').glob('*.png'))
  assert (
    names == sorted(path.stem for path in (report / 'figures').glob('*.json')) and len(names) == 13
  )
  for name in names:
    assert f'id="figure-{name}"' in source
    numbers = json.loads((report / 'figures' / f'{name}.json').read_text())
    assert numbers['numbers'] and numbers['alt'] in ''.join(
      value or '' for _, value in reader.attributes
    )
  assert reader.tags.count('svg') == 13
  ids = [value for name, value in reader.attributes if name == 'id']
  assert len(ids) == len(set(ids))


def test_verdicts_come_first_and_headings_are_in_order(report):
  source, _ = read(report)
  assert (
    0
    < source.index('It ranks texts almost as the true reward does')
    < source.index('id="policies"')
  )
  levels = [int(level) for level in re.findall(r'<h(\d)', source)]
  assert levels[0] == 1 and levels.count(1) == 1
  assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_words_are_masked_until_the_switch_is_on(report):
  source, _ = read(report)
  assert '<input type="checkbox" role="switch" id="show"' in source and ' checked' not in source
  assert '.texts .t>span{visibility:hidden}' in source
  assert '.switch:checked~.texts .t>span{visibility:visible}' in source
  assert (
    source.index('id="show"')
    < source.index('<label for="show">')
    < source.index('<div class="texts">')
  )
  # Nothing of the texts stands outside of the spans that are masked.
  body = source[source.index('<div class="texts">') : source.index('<section id="again"')]
  body = re.sub(
    r'<h3>.*?</h3>|<p class="(?:note|scores)">.*?</p>|<b class="label">.*?</b>', '', body
  )
  body, masked = re.subn(r'<span class="t[^"]*"><span>[^<]*</span></span>', '', body)
  assert masked > 100 and set(re.sub(r'<[^>]*>', '', body).split()) == {'(text', 'hidden)'}


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(report, make_run):
  folder = make_run()
  page.write(folder)
  files = ['report.html', *(f'figures/{path.name}' for path in (report / 'figures').iterdir())]
  for name in files:
    assert (folder / name).read_bytes() == (report / name).read_bytes(), name
  before = (folder / 'report.html').read_bytes()
  page.write(folder)
  assert (folder / 'report.html').read_bytes() == before
  assert not list(folder.rglob('*.tmp'))


@pytest.mark.slow
def test_hostile_text_stays_text_wherever_it_stands(make_run, no_png):
  config = config_lib.Config(
    name=HOSTILE, data=config_lib.Data(source=HOSTILE), models=config_lib.Models(base=HOSTILE)
  )
  folder = make_run(words=HOSTILE + ' \ud800', config=config)

  def corrupt_summary(summary):
    summary['irl']['baselines'][HOSTILE] = summary['irl']['baselines']['bag_of_words']
    summary['irl']['identifiability']['names'][0] = HOSTILE
    summary['rlhf']['why'] = {HOSTILE: HOSTILE}
    summary[HOSTILE] = summary['rlhf']

  change(folder, 'summary.json', corrupt_summary)
  change(folder, 'config.json', lambda value: value['versions'].update({HOSTILE: HOSTILE}))
  with (folder / 'log.jsonl').open('a') as file:
    file.writelines(
      json.dumps({'stage': 'irl/seed_' + HOSTILE, 'step': step, 'validation/loss': 1.0}) + '\n'
      for step in (1, 2)
    )
  page.write(folder)
  source, reader = read(folder)
  assert not {'script', 'img'} & set(reader.tags)
  assert not [name for name, _ in reader.attributes if name.startswith('on') or name == 'src']
  assert not re.search(
    '[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]', source
  )
  words = ''.join(reader.text)
  assert (
    words.count('<script>alert(1)</script>') > 20
    and '‹RLO›' in words
    and '␀' in words
    and '👩‍👩‍👧' in words
  )


@pytest.mark.slow
@pytest.mark.parametrize('name', ['log.jsonl', 'evaluation'])
def test_a_file_may_be_missing(make_run, no_png, name):
  folder = make_run()
  for path in [folder / name] if (folder / name).is_file() else (folder / name).iterdir():
    path.unlink()
  page.write(folder)
  source, _ = read(folder)
  # The run has no table of words either.
  assert source.count('class="left-out"') == {'log.jsonl': 7, 'evaluation': 5}[name]


@pytest.mark.parametrize(
  'stages', [('rlhf', 'rerlhf'), pytest.param(('irl', 'true_reward'), marks=pytest.mark.slow)]
)
def test_a_stage_may_be_left_out(make_run, no_png, stages):
  folder = make_run()
  change(folder, 'summary.json', lambda summary: [summary.pop(stage) for stage in stages])
  page.write(folder)
  source, _ = read(folder)
  assert 'Not tried' in source or 'No reward was recovered' in source
  assert 'None' not in re.sub(r'<[^>]*>', '', source)


def test_a_run_without_figures_still_has_a_page(make_run, no_png):
  folder = make_run()
  (folder / 'summary.json').write_text('{}')
  for path in (*(folder / 'evaluation').iterdir(), folder / 'log.jsonl'):
    path.unlink()
  page.write(folder)
  source, reader = read(folder)
  assert (
    'No reward was recovered' in source
    and 'svg' not in reader.tags
    and source.count('Missing: ') > 10
  )


def preferred(share):
  """Returns an edit of a summary that leaves only each seed's preference, within 0.1 of `share`."""

  def edit(summary):
    for seed in summary['irl']['seeds']:
      seed['heldout_texts'] = seed['heldout_texts_human'] = None
      seed['preference'] = {'rate': share, 'low': share - 0.1, 'high': share + 0.1} | {
        'n': 100,
        'pairs': 100,
      }

  return edit


@pytest.mark.parametrize('share', [0.5, 0.3, 0.8])
def test_words_say_what_was_rewarded_only_if_something_was_recovered(make_run, share):
  folder = make_run()
  change(folder, 'summary.json', preferred(share))
  word = {'word': 'zebra', 'effect': 0.2, 'low': 0.1, 'high': 0.3, 'n': 8}
  row = json.dumps(word | {'share_aligned': 0.2, 'share_base': 0.1})
  (folder / 'evaluation/words.jsonl').write_text(row + '\n')
  read_in = inputs.read(folder)
  head, recovered = page.render(read_in, []), share > 0.5
  assert ('<h2 id="verdict">Nothing was recovered' not in head) == recovered
  assert ('words that R̂ likes most' in head) == ('zebra' in head) == recovered
  assert 'recovered a reward <b>' not in head and 'Higher is better' not in head
  (table,) = texts.words(read_in)  # it describes R̂ itself, whatever R̂ is worth
  assert table.rows[0][0] == 'zebra'
  assert ('so they do not show what the model was rewarded for' not in table.note) == recovered


@pytest.mark.slow
def test_an_audit_needs_no_true_reward(make_run, no_png):
  folder = make_run()

  def strip(summary):
    for name in ('true_reward', 'rlhf', 'rerlhf'):
      summary.pop(name)
    irl = summary['irl']
    for figures in (
      *irl['seeds'],
      irl['ensemble'],
      irl['mean'],
      irl['std'],
      *irl['baselines'].values(),
    ):
      figures.update(
        heldout_texts=None,
        heldout_texts_human=None,
        why={'heldout_texts': 'there is no true reward'},
      )
    irl['seeds'] = [
      seed | {'heldout_pairs': {'prefers_aligned': 0.9, 'auroc': None}} for seed in irl['seeds']
    ]

  change(folder, 'summary.json', strip)
  for name in ('texts', 'pairs'):
    path = folder / 'evaluation' / f'{name}.jsonl'
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(
      '\n'.join(
        json.dumps(
          {
            key: None if key.startswith('true') or key == 'label' else value
            for key, value in row.items()
          }
        )
        for row in rows
      )
    )
  page.write(folder)
  source, reader = read(folder)
  assert (
    'Not verified' in source and 'there is no true reward' in source and '<dd>none</dd>' in source
  )
  head = source[source.index('<header>') : source.index('How these verdicts are reached')]
  assert 'below 0 for bad ones' in head and 'below 0: bad' in head and 'toxic' not in head
  assert {'figure-distribution', 'figure-seeds', 'figure-reliability'} <= {
    value for _, value in reader.attributes
  }


@pytest.mark.slow
def test_a_page_of_much_text_stays_small(make_run, no_png):
  folder = make_run(seeds=5, words='a word of many ' * 200)
  page.write(folder)
  assert (folder / 'report.html').stat().st_size < 1_000_000


def test_a_folder_that_cannot_be_written_to_is_refused(make_run):
  folder = make_run()
  (folder / 'figures').write_text('in the way')
  with pytest.raises(ConfigError, match='cannot be written to'):
    page.write(folder)


def run_config(source):
  scope = {}
  exec(source, scope)
  return scope['get_config']()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_comes_back_from_its_file(path):
  config = config_files.load(str(path))
  assert run_config(page.config_file(workdir.plain(config))) == config


def test_hostile_config_values_stay_values():
  data = config_lib.Data(source='</script>\n\x00')
  config = config_lib.Config(name='"\'); import os  # \\', data=data, stages=('data',))
  source = page.config_file(workdir.plain(config))
  assert run_config(source) == config and 'learning_rate' not in source


def test_defaults_are_left_out_of_the_config_file():
  assert (
    page.config_file({})
    == 'from irl_jax import config as c\n\n\ndef get_config():\n  return c.Config(\n  )\n'
  )
  assert run_config(page.config_file({})) == config_lib.Config()


def test_reasons_name_whose_figure_it_is(make_summary):
  summary = make_summary(seeds=2)
  summary['rlhf']['after']['why'] = {'distinct_2': 'no bigram'}
  summary['irl']['seeds'][1]['calibration']['why'] = {'platt': 'no labels', 'ece': 'no labels'}
  summary['irl']['baselines']['constant']['heldout_texts']['why'] = {'pearson': 'zero variance'}
  summary['irl']['mean']['why'] = {'platt': 'repeated'}
  assert page.missing(inputs.parse_summary(summary)) == [
    'RLHF on the true reward after: distinct_2 – no bigram',
    'seed 1: platt, ECE – no labels',
    'constant: Pearson – zero variance',
  ]


def test_the_page_names_the_commit_and_the_files_of_the_hub(make_run):
  folder = make_run()
  hub = {'repository': 'org/base', 'commit': 'c' * 40}
  file = {'name': 'config.json', 'size': 1234, 'sha256': 'ab' * 32}
  read_files = {'config.models.base': [file | hub], 'config.data.source': [file]}
  change(folder, 'summary.json', lambda summary: summary.update(inputs=read_files))
  facts = page.facts(inputs.read(folder))
  local = 'config.json, 1,234 bytes, sha256 abababababababab…'
  assert facts['files of config.data.source'] == local
  assert facts['files of config.models.base'] == f'org/base, commit {"c" * 40}; {local}'
