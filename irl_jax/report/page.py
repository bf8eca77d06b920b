"""The report of a finished run: WORKDIR/report.html, one page that needs nothing else, and WORKDIR/figures/.

The page runs no script and loads nothing; its Content-Security-Policy forbids both. Whatever comes out of the run's
files is escaped. Two runs of one config write the same bytes.
"""

import base64
from collections.abc import Sequence
import hashlib
import json
import os
import pathlib

from irl_jax.version import __version__
from irl_jax.errors import ConfigError
from irl_jax.report import drawing as svg
from irl_jax.report import findings
from irl_jax.report import inputs as inputs_lib
from irl_jax.report import look
from irl_jax.report import recipe
from irl_jax.report import sections as sections_lib
from irl_jax.report import summary_tables
from irl_jax.report import texts
from irl_jax.report import verdicts
from irl_jax.report.inputs import Inputs
from irl_jax.report.wording import count
from irl_jax.report.wording import percent
from irl_jax.report.wording import visible

HERE = pathlib.Path(__file__).parent
VERDICTS = {
  verdicts.YES: 'Yes',
  verdicts.PARTLY: 'Partly',
  verdicts.NO: 'No',
  verdicts.UNKNOWN: 'Not known',
}


def write(folder: str | os.PathLike) -> pathlib.Path:
  """Writes report.html and figures/<name>.{png,json} into a finished run's folder.

  Returns:
    The page.

  Raises:
    ConfigError: it is not the folder of a run, the run is not finished, a file is damaged, or it cannot be written to.
  """
  folder = pathlib.Path(folder)
  inputs = inputs_lib.read(folder)
  try:
    (folder / 'figures').mkdir(exist_ok=True)
    with look.style():
      sections = [sections_lib.draw(section, inputs) for section in sections_lib.SECTIONS]
      files, page = figure_files(sections), render(inputs, sections)
    for name, content in files.items():
      replace(folder / 'figures' / name, content)
    replace(folder / 'report.html', page.encode('utf-8'))
  except OSError as error:
    raise ConfigError(f'--workdir={folder}: cannot be written to: {error.strerror}') from error
  return folder / 'report.html'


def figure_files(sections: Sequence[sections_lib.Drawn]) -> dict[str, bytes]:
  """Every drawing as PNG, and its numbers as JSON."""
  files = {}
  for drawing in (drawing for section in sections for drawing in section.drawings):
    numbers = {'title': drawing.title, 'alt': drawing.alt, 'numbers': drawing.numbers}
    files[f'{drawing.name}.png'] = svg.png(drawing.figure)
    files[f'{drawing.name}.json'] = (
      json.dumps(numbers, ensure_ascii=False, allow_nan=False).encode('utf-8') + b'\n'
    )
  return files


def render(inputs: Inputs, sections: Sequence[sections_lib.Drawn]) -> str:
  """The page as HTML."""
  import jinja2  # imported here: `--help` needs none of it
  from markupsafe import Markup

  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    finalize=lambda value: visible(value) if type(value) is str else value,
  )
  css = style_sheet()
  drawings = {
    drawing.name: Markup(svg.inline(drawing.figure, drawing.name, drawing.alt))
    for section in sections
    for drawing in section.drawings
  }
  return environment.get_template('template.html.j2').render(
    css=Markup(css),
    policy=policy(css),
    svg=drawings,
    sections=sections,
    verdicts=VERDICTS,
    rules=verdicts.RULES,
    findings=findings.find(inputs.summary),
    facts=facts(inputs),
    groups=texts.groups(inputs),
    missing=summary_tables.missing(inputs.summary),
    name=inputs.config.get('name') or 'run',
    config_file=recipe.config_file(inputs.config),
    versions=inputs.versions,
    version=__version__,
  )


def facts(inputs: Inputs) -> dict[str, str]:
  """What was run, in a few words."""
  models, data, irl = (inputs.config.get(name) or {} for name in ('models', 'data', 'irl'))
  made = 'made by this run'
  said = {
    'texts': data.get('source') or '–',
    'base model': models.get('base') or made,
    'aligned model': models.get('aligned') or made,
    'true reward': models.get('classifier') or made,
  }
  if inputs.texts and inputs.true_rewards() is None:
    said['true reward'] = 'none'
  if inputs.seeds:
    said['recovery'] = f'{irl.get("objective")}, {count(inputs.seeds, "seed")}'
  if inputs.texts:
    said['held out'] = f'{count(len(inputs.texts), "text")}, {count(len(inputs.pairs), "pair")}'
  agrees = (inputs.summary.get('true_reward') or {}).get('human_accuracy')
  if agrees is not None:
    said['true reward agrees with people'] = f'on {percent(agrees)} of the texts'
  return said


def style_sheet() -> str:
  """The page's own style sheet, with the colours of the figures."""
  light, dark = (
    ''.join(f'--{role}:{pair[side]};' for role, pair in look.COLOURS.items()) for side in (0, 1)
  )
  roles = ''.join(
    f'.f-{role}{{fill:var(--{role})}}.s-{role}{{stroke:var(--{role})}}' for role in look.COLOURS
  )
  rules = (HERE / 'page.css').read_text(encoding='utf-8')
  return f':root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{roles}\n{rules}'


def policy(css: str) -> str:
  """What the page may do: apply this one style sheet, and nothing else."""
  digest = base64.b64encode(hashlib.sha256(css.encode('utf-8')).digest()).decode('ascii')
  return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def replace(path: pathlib.Path, content: bytes) -> None:
  """Writes a file under a temporary name and renames it."""
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_bytes(content)
  temporary.replace(path)
