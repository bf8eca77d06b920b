"""The parts of the page in their order: what each draws, and its tables."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools

from irl_jax.report import agreement_figures as figures
from irl_jax.report import comparisons
from irl_jax.report import curves
from irl_jax.report import look
from irl_jax.report import summary_tables
from irl_jax.report.inputs import Inputs
from irl_jax.report.look import Drawing


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page, before it is drawn."""

  anchor: str
  title: str
  intro: str
  drawings: Sequence[tuple[str, Callable[[Inputs], Drawing | str]]] = ()  # (what it is, draws it)
  tables: Sequence[Callable[[Inputs], list[summary_tables.Table]]] = ()


@dataclasses.dataclass(frozen=True)
class Drawn:
  """A part of the page: what could be drawn, and for the rest why not."""

  anchor: str
  title: str
  intro: str
  drawings: Sequence[Drawing]
  tables: Sequence[summary_tables.Table]
  left_out: Sequence[str]


SECTIONS = (
  Section(
    'policies',
    'What training changed',
    'A policy is a language model that is trained by PPO on a reward: by RLHF on the true one, r*, and then, '
    'from the same start, on the recovered one, R̂, alone.',
    [
      ('Toxic completions', comparisons.toxicity),
      ('KL over training', curves.kl),
      ('Reward over RLHF', functools.partial(curves.scores, stage='rlhf')),
      ('Reward over RLHF on R̂', functools.partial(curves.scores, stage='rerlhf')),
    ],
    [summary_tables.policies],
  ),
  Section(
    'agreement',
    'The recovered reward against the true one',
    'R̂ was recovered from completions alone. Here it scores texts that nothing was trained on, beside the '
    'true reward or people.',
    [
      ('R̂ against r*', figures.scatter),
      ('ROC of each seed', figures.roc),
      ('Histogram of R̂', figures.distribution),
      ('Reliability of probabilities', figures.reliability),
    ],
    [summary_tables.calibration],
  ),
  Section(
    'seeds',
    'Other seeds, simpler rewards, and the ceiling',
    'Completions do not determine a reward: many rewards explain the same policy. Independent recoveries show '
    'how far they differ; baselines show what needs no understanding, the ceiling what was within reach.',
    [
      ('Beside simpler rewards', comparisons.baselines),
      ('Spearman of every two rewards', comparisons.seeds),
    ],
    [summary_tables.identifiability, summary_tables.confounds],
  ),
  Section(
    'recovery',
    'Recovery over training',
    'IRL raises R̂ of the aligned completion of each pair above that of the other model. What has the least '
    'loss on validation pairs is kept; r* chooses nothing.',
    [
      (title, functools.partial(curves.irl, metric=metric))
      for metric, (_, title, _) in curves.IRL.items()
    ],
  ),
  Section(
    'figures',
    'All figures of all rewards',
    'Every seed is reported. Intervals are bootstrapped, 95\u00a0%; the deviation is over seeds.',
    tables=[summary_tables.agreement],
  ),
)


def draw(section: Section, inputs: Inputs) -> Drawn:
  """Draws what can be drawn."""
  drawn = [(what, of(inputs)) for what, of in section.drawings]
  for _, drawing in drawn:
    if isinstance(drawing, Drawing):
      look.settle(drawing.figure)
  return Drawn(
    section.anchor,
    section.title,
    section.intro,
    drawings=[drawing for _, drawing in drawn if not isinstance(drawing, str)],
    tables=[table for tables in section.tables for table in tables(inputs)],
    left_out=[f'{what}: {reason}' for what, reason in drawn if isinstance(reason, str)],
  )
