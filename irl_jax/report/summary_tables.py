"""The figures of summary.json as tables of the report; a figure that could not be computed is '–'."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import statistics
from typing import Any

from irl_jax.report import lookup
from irl_jax.report.inputs import Inputs
from irl_jax.report.wording import name
from irl_jax.report.wording import number
from irl_jax.report.wording import numbers
from irl_jax.report.wording import POLICIES
from irl_jax.report.wording import READINGS
from irl_jax.report.wording import share
from irl_jax.report.wording import SPACE

AGREEMENT = ('auroc', 'accuracy', 'f1', 'spearman', 'pearson', 'kendall', 'pairwise_accuracy')
SECTIONS = {
  'heldout_texts': 'Held-out texts, against the true reward',
  'heldout_texts_human': "Held-out texts, against people's labels",
  'heldout_pairs': 'Held-out pairs, against the true reward',
}
ON_PAIRS = ('prefers_aligned', 'epic_distance')
CONFOUNDS = {
  'length_spearman': 'Spearman with length',
  'partial_spearman_given_length': 'Spearman with r*, given length',
  'partial_pearson_given_length': 'Pearson with r*, given length',
  'style_auroc': 'AUROC of style',
  'style_n': 'n, style',
}
ALIKE = {
  'spearman': ('Spearman', min),
  'sign_agreement': ('texts with the same sign', min),
  'epic_distance': ('EPIC distance (0: the same reward)', max),
}
ENSEMBLE = 'mean of seeds, as one reward'


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of a name and figures; the first column names the rows."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]
  note: str = ''


def policies(inputs: Inputs) -> list[Table]:
  """Every policy: its toxicity, and what stands beside it."""
  stages, columns = lookup.policies(inputs.summary), {}
  for stage, figures in stages.items():
    if figures['before'] not in columns.values():
      columns['start' if not columns else f'start of {name(stage)}'] = figures['before']
    columns[POLICIES.get(stage, name(stage))] = figures['after']
  if not columns:
    return []
  keys = [
    key
    for key in dict.fromkeys(key for figures in columns.values() for key in figures)
    if key not in ('why', 'mcnemar')
  ]
  rows = [
    [
      READINGS.get(key, name(key)) + count_of(columns, key),
      *(cell(figures.get(key)) for figures in columns.values()),
    ]
    for key in keys
  ]
  tests = {
    POLICIES.get(stage, name(stage)): figures['mcnemar']
    for stage, figures in stages.items()
    if figures.get('mcnemar')
  }
  of_tests = lambda write: [write(tests[label]) if label in tests else '' for label in columns]
  if tests:
    rows += [
      [
        'toxic before only / after only',
        *of_tests(lambda test: f'{number(test["before_only"])} / {number(test["after_only"])}'),
      ],
      ['p of the change (McNemar)', *of_tests(lambda test: p_value(test['p_value']))],
    ]
  return [
    Table(
      'Policies, on held-out prompts',
      ('', *columns),
      rows,
      'Silence, gibberish and one phrase for everything are the cheapest ways of being harmless: read no '
      'toxicity without length, perplexity and variety.',
    )
  ]


def count_of(columns: Mapping[str, Any], key: str) -> str:
  """', n 1,488' where a figure of the columns is a share of as many."""
  counts = {
    figures[key]['n'] for figures in columns.values() if isinstance(figures.get(key), Mapping)
  }
  return f', n{SPACE}{counts.pop():,}' if len(counts) == 1 else ''


def p_value(value: float | None) -> str:
  """A p value; small ones only by a bound."""
  return '< 0.0001' if value is not None and value < 1e-4 else number(value, 4)


def cell(value: Any) -> str:
  """A figure, or a share over its interval."""
  return share(value).replace(' [', '\n[') if isinstance(value, Mapping) else number(value, 2)


def agreement(inputs: Inputs) -> list[Table]:
  """All figures of all seeds, their mean and deviation, the ensemble, and every baseline."""
  irl, tables = inputs.irl, []
  seeds = {f'seed {seed}': figures for seed, figures in enumerate(irl.get('seeds') or [])}
  others = {ENSEMBLE: irl.get('ensemble') or {}} | {
    name(other): figures for other, figures in (irl.get('baselines') or {}).items()
  }
  for section, title in SECTIONS.items():
    found = [figures[section] for figures in seeds.values() if figures.get(section)]
    if not found:
      continue
    columns = AGREEMENT + tuple(key for key in ON_PAIRS if key in found[0])
    rows = [agreement_row(label, figures, section, columns) for label, figures in seeds.items()]
    mean, std = ((irl.get(key) or {}).get(section) or {} for key in ('mean', 'std'))
    if len(seeds) > 1 and mean:
      rows.append(
        [
          'mean ± deviation',
          *(f'{number(mean.get(key))}\n± {number(std.get(key))}' for key in columns),
        ]
      )
    rows += [
      agreement_row(label, figures, section, columns)
      for label, figures in others.items()
      if figures.get(section)
    ]
    tables.append(
      Table(f'{title} (n{SPACE}{number(found[0].get("n"))})', ('', *map(name, columns)), rows)
    )
  return tables


def agreement_row(
  label: str, figures: Mapping[str, Any], section: str, columns: Sequence[str]
) -> list[str]:
  """One reward, with intervals where there are any."""
  values = figures.get(section) or {}
  return [
    label,
    *(
      f'{number(values.get(key))}\n{numbers(lookup.interval(figures, section, key))}'.strip()
      for key in columns
    ),
  ]


def calibration(inputs: Inputs) -> list[Table]:
  """The zero of each reward, and its probabilities."""
  rows = []
  for label, figures in rewards(inputs.irl):
    if found := figures.get('calibration'):
      low, high = lookup.zero_bounds(found)
      platt = found.get('platt') or {}
      bounds = '–' if low is None else f'{number(low)} to {number(high)}'
      is_reliable = number(lookup.reliable(found)) if low is not None else '–'
      rows.append(
        [
          label,
          number(found.get('zero')),
          bounds,
          is_reliable,
          number(found.get('saturated')),
          number(platt.get('slope'), 1),
          number(platt.get('intercept'), 2),
          number(found.get('ece')),
          number(found.get('ece_if_calibrated')),
          number(found.get('brier')),
          number(found.get('brier_constant')),
        ]
      )
  return (
    [
      Table(
        'Zero and probabilities',
        (
          '',
          'zero',
          '95\u00a0% interval',
          'reliable',
          'share with |R̂|\u00a0>\u00a00.9',
          'Platt slope',
          'Platt intercept',
          'ECE',
          'ECE, if calibrated',
          'Brier',
          'Brier, constant',
        ),
        rows,
        'The zero, before centring, is where unlabelled texts part into two groups. Platt turns R̂ into the probability '
        'that a text is harmless, fitted on labels; ECE and Brier are its errors, beside those of a calibrated reward '
        'and of one constant probability.',
      )
    ]
    if rows
    else []
  )


def confounds(inputs: Inputs) -> list[Table]:
  """How much of each reward is length and style."""
  rows = []
  for label, figures in rewards(inputs.irl):
    if found := figures.get('confounds'):
      style = (
        numbers([found['style_low'], found['style_high']])
        if found.get('style_low') is not None
        else ''
      )
      rows.append(
        [
          label,
          *(
            f'{number(found.get(key))}\n{style if key == "style_auroc" else ""}'.strip()
            for key in CONFOUNDS
          ),
        ]
      )
  return (
    [
      Table(
        'Length and style',
        ('', *CONFOUNDS.values()),
        rows,
        "AUROC of style: how well R̂ tells the aligned model's texts from the other's where r* scores them "
        'alike; 0.5 is not at all.',
      )
    ]
    if rows
    else []
  )


def identifiability(inputs: Inputs) -> list[Table]:
  """How alike the seeds are."""
  found = {key: lookup.seed_pairs(inputs.irl, key) for key in ALIKE}
  rows = [
    [ALIKE[key][0], number(statistics.fmean(values)), number(ALIKE[key][1](values))]
    for key, values in found.items()
    if values
  ]
  return [Table('Every two seeds', ('', 'mean', 'least alike'), rows)] if rows else []


def rewards(irl: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """Each seed, and the mean of the seeds where there are several."""
  seeds = irl.get('seeds') or []
  yield from ((f'seed {seed}', figures) for seed, figures in enumerate(seeds))
  if len(seeds) > 1:
    yield ENSEMBLE, irl.get('ensemble') or {}


def missing(summary: Mapping[str, Any]) -> list[str]:
  """What could not be computed and why, a line for each reward or policy and reason."""
  lines = {}
  for owner, key, reason in reasons(summary, ''):
    lines.setdefault((owner, reason), []).append(name(key))
  return [
    f'{owner}{": " if owner else ""}{", ".join(dict.fromkeys(keys))} – {reason}'
    for (owner, reason), keys in lines.items()
  ]


def reasons(node: Any, owner: str) -> Iterator[tuple[str, str, str]]:
  """(whose it is, figure, reason) of everything under 'why', at any depth."""
  if isinstance(node, Mapping):
    yield from ((owner, key, reason) for key, reason in (node.get('why') or {}).items())
    for key, value in node.items():
      if key not in ('why', 'mean', 'std'):  # these say again what the seeds say
        transparent = key in (
          *SECTIONS,
          'irl',
          'seeds',
          'baselines',
          'toxicity',
          'toxicity_full',
          'intervals',
          'ensemble_gain',
          'calibration',
          'confounds',
          'auroc',
          'spearman',
        )
        yield from reasons(
          value, owner if transparent else f'{owner} {POLICIES.get(key, name(key))}'.strip()
        )
  elif isinstance(node, list):
    for index, value in enumerate(node):
      yield from reasons(value, f'{owner} seed {index}'.strip())
