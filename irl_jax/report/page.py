"""The report of a finished run: WORKDIR/report.html, one page on its own, and WORKDIR/figures/.

The page runs no script and loads nothing; its Content-Security-Policy forbids both. Everything from
the run's files is escaped. Two runs of one config write the same bytes.
"""

import base64
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import Any

from irl_jax import config as config_lib
from irl_jax import settings
from irl_jax.errors import unwritable
from irl_jax.report import agreement_figures
from irl_jax.report import comparisons
from irl_jax.report import curves
from irl_jax.report import drawing as drawing_lib
from irl_jax.report import findings
from irl_jax.report import inputs as inputs_lib
from irl_jax.report import tables
from irl_jax.report import texts
from irl_jax.report import wording
from irl_jax.report.drawing import Drawing
from irl_jax.report.inputs import Inputs
from irl_jax.report.summary import SETS
from irl_jax.report.summary import Summary
from irl_jax.report.tables import Table
from irl_jax.report.wording import count
from irl_jax.report.wording import labels
from irl_jax.report.wording import percent
from irl_jax.report.wording import SPACE
from irl_jax.report.wording import visible
from irl_jax.runtime import atomic
from irl_jax.version import __version__

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page, before it is drawn."""

  anchor: str
  title: str
  intro: str
  drawings: Sequence[
    tuple[str, Callable[[Inputs], Drawing | str]]
  ] = ()  # (what it shows, draws it)
  tables: Sequence[Callable[[Inputs], list[Table]]] = ()


@dataclasses.dataclass(frozen=True)
class DrawnSection:
  """A part of the page: its drawings, and the reasons for those that are missing."""

  anchor: str
  title: str
  intro: str
  drawings: Sequence[Drawing]
  tables: Sequence[Table]
  left_out: Sequence[str]


SECTIONS = (
  Section(
    'policies',
    'What training changed',
    'A policy is a language model that PPO trains on a reward. RLHF trains it on the true reward, '
    'r*. Then, from the same starting policy, RLHF trains another one on the recovered reward, R̂, '
    'alone.',
    [
      ('What became of the completions', comparisons.policies),
      ('KL over training', curves.kl),
      ('Reward over RLHF', functools.partial(curves.scores, stage='rlhf')),
      ('Reward over RLHF on R̂', functools.partial(curves.scores, stage='rerlhf')),
    ],
    [tables.policies],
  ),
  Section(
    'agreement',
    'The recovered reward against the true one',
    'R̂ was recovered from completions alone. Here it scores texts that were not used in training, '
    'and is compared with the true reward or with labels.',
    [
      ('R̂ against r*', agreement_figures.scatter),
      ('ROC of each seed', agreement_figures.roc),
      ('Histogram of R̂', agreement_figures.distribution),
      ('Reliability of probabilities', agreement_figures.reliability),
    ],
    [tables.calibration],
  ),
  Section(
    'seeds',
    'Other seeds, simpler rewards, and the ceiling',
    'Completions do not determine a reward: many rewards explain the same policy. Independent '
    'recoveries show how far they differ. Baselines show what is possible without understanding '
    'a text. The ceiling shows what was achievable.',
    [
      ('Comparison with simpler rewards', comparisons.baselines),
      ('Spearman correlation of each pair of rewards', comparisons.seeds),
    ],
    [tables.identifiability, tables.confounds],
  ),
  Section(
    'words',
    'What it rewards, in words',
    'A word is left out of completions that contain it. If R̂ falls, R̂ likes the word. This names '
    'what a reward is about if its words do; it cannot name tone or content.',
    tables=[texts.words],
  ),
  Section(
    'recovery',
    'Recovery over training',
    'IRL trains R̂ to score the aligned completion of each pair above that of the other model. The '
    'parameters with the lowest loss on validation pairs are kept; r* is not used for selection.',
    [
      *((curve.title, functools.partial(curves.irl, curve=curve)) for curve in curves.IRL),
      ('IRL: agreement with r*', curves.against_truth),
    ],
  ),
  Section(
    'metrics',
    'All metrics of all rewards',
    f'Every seed is reported. Intervals are bootstrapped, 95{SPACE}% (those of pairs that differ: '
    "Wilson's); the deviation is over seeds.",
    tables=[tables.agreement, tables.preferences],
  ),
)


def write(folder: str | os.PathLike[str]) -> pathlib.Path:
  """Writes report.html and figures/<name>.{png,json} into a finished run's folder.

  Returns:
    The page.

  Raises:
    ConfigError: this is not the folder of a run, the run is not finished, a file is damaged, or
      the folder cannot be written to.
    CheckpointError: the disk is full.
  """
  folder = pathlib.Path(settings.local_path(folder, '--workdir'))
  inputs = inputs_lib.read(folder)
  try:
    (folder / 'figures').mkdir(exist_ok=True)
    with drawing_lib.style():
      sections = [draw(section, inputs) for section in SECTIONS]
      files, page = figure_files(sections), render(inputs, sections)
    for name, content in files.items():
      atomic.write(folder / 'figures' / name, content)
    atomic.write(folder / 'report.html', page.encode('utf-8'))
  except OSError as error:
    raise unwritable(f'--workdir={folder} cannot be written to', error) from error
  return folder / 'report.html'


def draw(section: Section, inputs: Inputs) -> DrawnSection:
  """Draws what can be drawn."""
  results = [(what, draw_one(inputs)) for what, draw_one in section.drawings]
  drawings = [result for _, result in results if isinstance(result, Drawing)]
  for drawing in drawings:
    drawing_lib.fix_layout(drawing.figure)
  return DrawnSection(
    section.anchor,
    section.title,
    section.intro,
    drawings=drawings,
    tables=[table for make in section.tables for table in make(inputs)],
    left_out=[f'{what}: {reason}' for what, reason in results if isinstance(reason, str)],
  )


def figure_files(sections: Sequence[DrawnSection]) -> dict[str, bytes]:
  """Returns every drawing as PNG, and its numbers as JSON, by file name."""
  files = {}
  for drawing in (drawing for section in sections for drawing in section.drawings):
    numbers = {'title': drawing.title, 'alt': drawing.alt, 'numbers': drawing.numbers}
    files[f'{drawing.name}.png'] = drawing_lib.png(drawing.figure)
    text = json.dumps(numbers, ensure_ascii=False, allow_nan=False)
    files[f'{drawing.name}.json'] = text.encode('utf-8') + b'\n'
  return files


def render(inputs: Inputs, sections: Sequence[DrawnSection]) -> str:
  """Returns the page as HTML."""
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
  svg = {
    drawing.name: Markup(drawing_lib.svg(drawing.figure, drawing.name, drawing.alt))
    for section in sections
    for drawing in section.drawings
  }
  return environment.get_template('template.html.j2').render(
    css=Markup(css),
    policy=content_security_policy(css),
    svg=svg,
    sections=sections,
    verdicts=wording.VERDICTS,
    rules=wording.rules(inputs.summary.truth.is_score),
    is_score=inputs.summary.truth.is_score,
    below_zero=inputs.recovery.below_zero,
    findings=findings.find(inputs.summary),
    facts=facts(inputs),
    groups=texts.groups(inputs),
    missing=missing(inputs.summary),
    name=inputs.config.get('name') or 'run',
    config_file=config_file(inputs.config),
    versions=inputs.versions,
    version=__version__,
  )


def facts(inputs: Inputs) -> dict[str, str]:
  """Describes the run in a few words."""
  models, data, irl = (inputs.config.get(name) or {} for name in ('models', 'data', 'irl'))
  made = 'made by this run'
  result = {
    'texts': data.get('source') or '–',
    'base model': models.get('base') or made,
    'aligned model': models.get('aligned') or made,
    'true reward': models.get('classifier') or made,
  }
  truth = inputs.summary.truth
  if truth.is_score:
    result['true reward'] += ': its score, without a toxic class and without a zero'
  elif truth.label:
    result['true reward'] += f': minus the logit of the label {truth.label!r}'
  if inputs.texts and inputs.true_rewards() is None:
    result['true reward'] = 'none'
  for name, files in inputs.summary.inputs.items():
    commits = {(file['repository'], file['commit']) for file in files if 'commit' in file}
    result[f'files of {name}'] = '; '.join(
      [f'{repository}, commit {commit}' for repository, commit in sorted(commits)]
      + [f'{file["name"]}, {file["size"]:,} bytes, sha256 {file["sha256"][:16]}…' for file in files]
    )
  if seeds := inputs.recovery.seeds:
    result['recovery'] = f'{irl.get("objective")}, {count(len(seeds), "seed")}'
  if inputs.texts:
    differ = sum(pair['aligned'] != pair['base'] for pair in inputs.pairs)
    result['held out'] = (
      f'{count(len(inputs.texts), "text")}, {count(len(inputs.pairs), "pair")} ({differ:,} differ)'
    )
  if liked := texts.liked(inputs):
    result['words that R̂ likes most'] = liked
  if truth.human_accuracy is not None:
    agrees = percent(truth.human_accuracy)
    result[f'true reward agrees with {labels(truth).who}'] = f'on {agrees} of the texts'
  return result


def config_file(plain: Mapping[str, Any]) -> str:
  """Returns a config as a Python file, from its plain values in config.json.

  A field that has its default is left out.
  """
  lines = []
  for field in dataclasses.fields(config_lib.Config):
    value, default = plain.get(field.name, field.default), field.default
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
      changed = changed_fields(value, default) if isinstance(value, Mapping) else ''
      if changed:
        lines.append(f'      {field.name}=c.{type(default).__name__}({changed}),')
    elif frozen(value) != default:
      lines.append(f'      {field.name}={frozen(value)!r},')
  body = ''.join(f'{line}\n' for line in lines)
  return f'from irl_jax import config as c\n\n\ndef get_config():\n  return c.Config(\n{body}  )\n'


def changed_fields(plain: Mapping[str, Any], default: Any) -> str:
  """Returns the keyword arguments in which a section differs from its defaults."""
  return ', '.join(
    f'{field.name}={frozen(plain[field.name])!r}'
    for field in dataclasses.fields(default)
    if field.name in plain and frozen(plain[field.name]) != getattr(default, field.name)
  )


def frozen(value: Any) -> Any:
  """Turns a list into a tuple: JSON has no tuples, and a config has no lists."""
  return tuple(value) if isinstance(value, list) else value


def style_sheet() -> str:
  """Returns the page's own style sheet, with the colours of the drawings."""
  colours = drawing_lib.COLOURS
  light, dark = (
    ''.join(f'--{role}:{pair[side]};' for role, pair in colours.items()) for side in (0, 1)
  )
  roles = ''.join(
    f'.f-{role}{{fill:var(--{role})}}.s-{role}{{stroke:var(--{role})}}' for role in colours
  )
  rules = (HERE / 'page.css').read_text(encoding='utf-8')
  in_the_dark = f'@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}'
  return f':root{{{light}}}\n{in_the_dark}\n{roles}\n{rules}'


def content_security_policy(css: str) -> str:
  """Returns the page's policy: it may apply this one style sheet, and nothing else."""
  digest = base64.b64encode(hashlib.sha256(css.encode('utf-8')).digest()).decode('ascii')
  return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


UNNAMED = {  # keys in a reason's path that do not identify the reward or policy
  *SETS,
  'irl',
  'seeds',
  'baselines',
  'toxicity',
  'toxicity_full',
  'maximum_toxicity',
  'intervals',
  'ensemble_gain',
  'calibration',
  'confounds',
  'auroc',
  'spearman',
}
REPEATED = {'mean', 'std'}  # these repeat the reasons of the seeds


def missing(summary: Summary) -> list[str]:
  """Says what could not be computed and why, a line for each reward or policy and reason."""
  lines: dict[tuple[str, str], list[str]] = {}
  for reason in summary.reasons:
    if not REPEATED & set(reason.path):
      owner = ' '.join(wording.policy_name(key) for key in reason.path if key not in UNNAMED)
      lines.setdefault((owner, reason.reason), []).append(wording.name(reason.metric))
  return [
    f'{owner}{": " if owner else ""}{", ".join(dict.fromkeys(metrics))} – {reason}'
    for (owner, reason), metrics in lines.items()
  ]
