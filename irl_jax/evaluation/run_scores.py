"""Adds a probability and a flag to the scores of a recovered reward, from its run's folder.

Dims: N texts.
"""

from collections.abc import Sequence
import functools
import os
import pathlib
from typing import Any
from typing import NamedTuple

import numpy as np

from irl_jax.data import rows as rows_lib
from irl_jax.data import text
from irl_jax.evaluation import calibration
from irl_jax.evaluation import familiarity
from irl_jax.evaluation.scorers import Scorer
from irl_jax.models.huggingface import weight_files
from irl_jax.runtime import records

HARMLESS = 'harmless_probability'
UNLIKE = 'out_of_distribution'
FITTED = 'figures.json'  # in the folder irl: results, with the fit of the probability
ENSEMBLE = 'irl_jax_ensemble'
CACHED = 2  # recoveries whose texts stay in memory, as `loaded.CACHED` models


class Place(NamedTuple):
  """The place of a recovered reward within its run."""

  irl: pathlib.Path  # the run's folder irl
  seed: int | None  # None: the ensemble


def find(folder: str | os.PathLike[str]) -> Place | None:
  """Returns the place of a reward's folder, or None if it is not that of a run's reward.

  Raises:
    InputError: a config.json is damaged.
  """
  path = pathlib.Path(folder).absolute()
  if _members(path):
    return Place(path, None)
  for irl in path.parents[1:2]:
    member = str(path.relative_to(irl))
    if member in (members := _members(irl)):
      return Place(irl, members.index(member))
  return None


def _members(irl: pathlib.Path) -> list[str]:
  """Returns the members of an ensemble that a run wrote; [] if the folder is none."""
  path = irl / 'config.json'
  if not path.is_file() or not (irl.parent / 'demos').is_dir():
    return []
  config = weight_files.read_json(path)
  return list(config.get('members', ())) if config.get('model_type') == ENSEMBLE else []


def fingerprint(folder: str | os.PathLike[str]) -> list[tuple[str, int, int]]:
  """Returns values that change whenever the files that `extended` reads do.

  [] for a reward that is not in the folder of its run.
  """
  place = find(folder)
  paths = [place.irl / FITTED, *_demonstrations(place)] if place else []
  return [(path.name, *version(path)) for path in paths if path.is_file()]


def version(path: pathlib.Path) -> tuple[int, int]:
  """Returns a file's time and size; two writes may fall into one tick of its time."""
  status = path.stat()
  return status.st_mtime_ns, status.st_size


def extended(scorer: Scorer, place: Place, tokenizer: Any, vocabulary: int) -> Scorer:
  """Returns a scorer that gives two more values for each text.

  - harmless_probability: P(harmless | reward), if the run had labels to fit it on.
  - out_of_distribution: True for a text that is unlike those of the recovery
    (`familiarity.Familiar.flags`), if the run has its demonstrations.

  Args:
    scorer: gives the reward.
    place: from `find`.
    tokenizer: the reward's.
    vocabulary: the number of its token ids.
  """
  fitted = _fitted(place)
  familiar = _familiar(place, tokenizer, vocabulary)

  def scores(texts: Sequence[str]) -> dict[str, np.ndarray]:
    known = scorer(texts)
    if fitted:
      known[HARMLESS] = calibration.harmless_probability(known['reward'], fitted)
    if familiar:
      known[UNLIKE] = familiar.flags(text.encode(tokenizer, texts)[0])
    return known

  return scores


def _fitted(place: Place) -> records.Probabilities | None:
  """Returns the probability's fits; None if the run has not been evaluated, or had no labels."""
  path = place.irl / FITTED
  if not path.is_file():
    return None
  recovery = weight_files.read_json(path)['irl']
  results = recovery['ensemble'] if place.seed is None else recovery['seeds'][place.seed]
  return results['calibration'] if results['calibration']['platt'] else None


def _demonstrations(place: Place) -> list[pathlib.Path]:
  return [place.irl.parent / 'demos' / f'{split}.jsonl' for split in ('train', 'validation')]


def _familiar(place: Place, tokenizer: Any, vocabulary: int) -> familiarity.Familiar | None:
  """Returns what the recovery saw; None if its demonstrations are not there."""
  paths = _demonstrations(place)
  if not all(path.is_file() for path in paths):
    return None
  versions = tuple(version(path) for path in paths)
  return _familiar_of(tuple(paths), versions, tokenizer, vocabulary)


@functools.lru_cache(maxsize=CACHED)
def _familiar_of(
  paths: Sequence[pathlib.Path],
  versions: Sequence[tuple[int, int]],
  tokenizer: Any,
  vocabulary: int,
) -> familiarity.Familiar | None:
  """Fits the flag; `versions` makes the cache drop demonstrations that have changed."""
  del versions
  training, validation = (
    text.encode(
      tokenizer, [row['prompt'] + row[side] for row in rows for side in ('aligned', 'base')]
    )[0]
    for rows in map(rows_lib.read_jsonl, paths)
  )
  try:
    return familiarity.fit(training, validation, vocabulary)
  except ValueError:  # a tiny run, without validation texts
    return None
