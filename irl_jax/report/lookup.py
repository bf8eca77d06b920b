"""Where figures lie in summary.json, for all parts of the report."""

from collections.abc import Mapping
from typing import Any

REFERENCES = {
  'heldout_texts': ('the true reward', 'the true reward does'),
  'heldout_texts_human': ("people's labels", 'people do'),
}


def reference_section(irl: Mapping[str, Any]) -> str | None:
  """What R̂ is held against: the figures against r* where every seed has them, else against labels, else None."""
  return next((section for section in REFERENCES if of_seeds(irl, section, 'auroc')), None)


def of_seeds(irl: Mapping[str, Any], section: str | None, name: str) -> list[float]:
  """A figure of every seed; [] where a seed does not have it."""
  values = [(seed.get(section) or {}).get(name) for seed in irl.get('seeds') or []]
  return [] if None in values else values


def interval(figures: Mapping[str, Any], section: str | None, name: str) -> list[float] | None:
  """The bootstrap interval of a reward's figure."""
  return ((figures.get('intervals') or {}).get(section) or {}).get(name)


def auroc(figures: Mapping[str, Any], section: str) -> float | None:
  """The AUROC of one reward, or None."""
  return (figures.get(section) or {}).get('auroc')


def seed_pairs(irl: Mapping[str, Any], name: str) -> list[float]:
  """A figure of identifiability for every two seeds; [] where one of them is missing."""
  table = irl.get('identifiability') or {}
  rows = [row for row, label in enumerate(table.get('names') or []) if label.startswith('seed_')]
  values = (
    [table[name][row][column] for row in rows for column in rows if row < column]
    if table.get(name)
    else []
  )
  return [] if None in values else values


def reliable(calibration: Mapping[str, Any]) -> bool:
  """Whether a reward's zero is."""
  return bool(calibration.get('reliable', calibration.get('reliable_zero')))


def zero_bounds(calibration: Mapping[str, Any]) -> tuple[float | None, float | None]:
  """The interval of a reward's zero, before centring."""
  low, high = (calibration.get(key, calibration.get(f'zero_{key}')) for key in ('low', 'high'))
  return low, high


def policies(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
  """The stages that trained a policy and measured it, in their order: {'before': P, 'after': P, 'mcnemar'}."""
  return {
    stage: figures
    for stage, figures in summary.items()
    if isinstance(figures, Mapping) and {'before', 'after'} <= figures.keys()
  }
