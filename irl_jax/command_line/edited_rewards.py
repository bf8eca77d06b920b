"""The work of the command `edit`: a recovered reward, or all seeds of one, without some features.

Dims: N texts, D width, K features.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import os
import pathlib
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from irl_jax import rewards
from irl_jax import settings
from irl_jax import structs
from irl_jax.command_line import config_files
from irl_jax.data import rows as rows_lib
from irl_jax.errors import ConfigError
from irl_jax.evaluation import agreement
from irl_jax.evaluation import calibration
from irl_jax.evaluation import features as features_lib
from irl_jax.evaluation import run_scores
from irl_jax.evaluation.metrics import collect
from irl_jax.irl import edit as edit_lib
from irl_jax.irl import export
from irl_jax.irl import reward as reward_lib
from irl_jax.models import huggingface
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.models.huggingface import card
from irl_jax.runtime import atomic
from irl_jax.runtime import compilation_cache
from irl_jax.runtime import metrics_log
from irl_jax.runtime import terminal
from irl_jax.runtime import terminal_tables
from irl_jax.runtime import workdir
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run
from irl_jax.version import __version__

NAME = 'edit.json'  # in the output's folder: what was done, and how far it worked
BOOTSTRAP = 1000  # resamples for the interval of a zero outside a run


@dataclasses.dataclass(frozen=True)
class Texts:
  """The texts of an edit, from a run or a file."""

  described: str
  all: Sequence[str]  # with and without the features
  unlabelled: Sequence[str]  # that the zero is chosen from
  bootstrap_samples: int
  seed: int


@dataclasses.dataclass(frozen=True)
class Contrast:
  """Texts that have a feature and texts that do not, in two halves, and texts as they are."""

  fitted: Sequence[str]
  checked: Sequence[str]
  natural: Sequence[str]  # of the second half: the order of old and new scores is compared here


def edit(
  model: str,
  output: str,
  written: Sequence[str],
  method: str = 'leace',
  contrast: str = 'auto',
  texts: str = '',
  field: str = '',
  max_texts: int = 10000,
  bad_rows: str = 'error',
  batch_size: int = 64,
) -> dict[str, Any]:
  """Writes a recovered reward, or an ensemble, that no longer pays for some features.

  Half of the texts, by hash, fit the edit. The other half shows how far it worked.

  Args:
    model: the reward: a folder that a run wrote, of one seed or of all, or a hub id.
    output: the folder to write, which must not exist: a reward, or an ensemble.
    written: the features, as `features.parse` takes them.
    method: one of `irl.edit.METHODS`.
    contrast: 'removed' compares each text that has a feature with the same text without it;
      'others' compares it with other texts; 'auto': removed, unless a feature cannot be left out.
    texts: a file of texts; '': the demonstrations of the reward's run.
    field: the field of the text; '': text.
    max_texts: use at most so many texts, those with the smallest hashes.
    bad_rows: 'error' or 'skip', for an unreadable row of the file.
    batch_size: texts of 64 tokens to score at once, over all devices.

  Returns:
    the content of edit.json.

  Raises:
    ConfigError: a path, feature or contrast is wrong, too few texts have a feature or lack it, or
      nothing is left of the reward.
    InputError: the model is not a recovered reward, or the rows are bad.
    CheckpointError: the folder cannot be written.
  """
  if os.path.exists(output):
    raise ConfigError(f'--output={output}: exists already; name a new folder')
  compilation_cache.use()
  source = _texts(model, texts, field, bad_rows)
  parsed = [features_lib.parse(name, source.all) for name in dict.fromkeys(written)]
  compared = _contrast(parsed, contrast, source.all, max_texts)
  done: dict[str, Any] = {
    'model': model,
    'features': [one.name for one in parsed],
    'method': method,
    'contrast': contrast,
    'texts': source.described,
    'fitted': len(compared.fitted),
    'checked': len(compared.checked),
    'irl_jax': __version__,
  }
  job = functools.partial(_edit_one, parsed, method, compared, source, batch_size, done)
  count = _write(output, model, job, functools.partial(_measure, parsed, compared), done)
  terminal_tables.show(table(done))
  print(terminal.printable(f'{output}: {terminal.count(count, "reward")}'))
  return done


def _write(
  output: str,
  model: str,
  job: Callable[[str, pathlib.Path], tuple[Any, Any]],
  measure: Callable[..., Any],
  done: dict[str, Any],
) -> int:
  """Writes the edited rewards and edit.json; adds their results to it, and returns their number."""
  places = rewards.members_of(model) if os.path.isdir(model) else [pathlib.Path(model)]
  names = [place.relative_to(model).as_posix() if len(places) > 1 else '' for place in places]
  with atomic.folder(output) as partial:
    results = [job(str(place), partial / name) for place, name in zip(places, names)]
    before, after = (np.mean(scores, axis=0) for scores in zip(*(scores for _, scores in results)))
    done |= {'members': [measured for measured, _ in results]}
    done |= {'ensemble': measure(before, after)}
    if len(places) > 1:
      config = {'model_type': run_scores.ENSEMBLE, 'members': names}
      workdir.write_json(partial / 'config.json', config)
    workdir.write_json(partial / NAME, done)
  return len(places)


def _texts(model: str, texts: str, field: str, bad_rows: str) -> Texts:
  """Reads the texts of a file, or those of the run that a reward belongs to."""
  place = run_scores.find(model) if os.path.isdir(model) else None
  if not place and not texts:
    raise ConfigError(f'--texts is missing: {model} is not in the folder of a run; name a file')
  run = None
  if place:
    folder = place.irl.parent
    run = Run(config_files.load(str(folder)), folder, metrics_log.Log(), jnp.dtype('float32'))
  if texts:
    fields = [field or 'text']
    path = settings.local_path(texts, '--texts')
    rows, _ = rows_lib.read_rows(path, fields=fields, bad_rows=bad_rows)
    found = [rows_lib.text_of(row, fields) for row in rows]
    described = f'{terminal.count(len(found), "text")} of {pathlib.Path(path).name}'
  else:
    assert run
    demonstrated = [*run.demonstrations('train'), *run.demonstrations('validation')]
    found = full_texts(demonstrated, 'aligned') + full_texts(demonstrated, 'base')
    described = f'{terminal.count(len(found), "demonstration")} of the run'
  unlabelled = recovery.unlabelled_texts(run) if run else found
  samples = run.config.evaluation.bootstrap_samples if run else BOOTSTRAP
  return Texts(described, found, unlabelled, samples, run.config.seed if run else 0)


def _contrast(
  features: Sequence[features_lib.Feature], contrast: str, texts: Sequence[str], limit: int
) -> Contrast:
  """Chooses the texts that an edit is fitted on, and those that show how far it worked."""
  fixed = [one.name for one in features if not one.without]
  if contrast == 'removed' and fixed:
    raise ConfigError(
      f'--contrast=removed: {fixed[0]} cannot be left out of a text; use --contrast=others'
    )
  digest = lambda text: hashlib.sha256(text.encode('utf-8', 'surrogatepass')).digest()
  natural = sorted(dict.fromkeys(texts), key=digest)
  halves: dict[bool, list[str]] = {True: [], False: []}
  if contrast == 'others' or fixed:
    for text in natural[:limit]:
      halves[features_lib.in_first_half(text)].append(text)
  else:
    for pair in features_lib.left_out(features, natural)[: max(limit // 2, 1)]:
      halves[features_lib.in_first_half(pair[0])] += pair
  for which, half in (('fitted', halves[True]), ('checked', halves[False])):
    features_lib.check_counts(features, features_lib.present(features, half), which)
  rest = [text for text in natural if not features_lib.in_first_half(text)]
  return Contrast(halves[True], halves[False], rest[:limit])


def normalised_states(
  params: trunk.Params, batch: structs.TextBatch, *, config: trunk.Config, dtype: DTypeLike
) -> jax.Array:
  """Returns the normalised state z [B, D] of the last token, which a reward's head reads."""
  last = reward_lib.features((params, {}), batch, config=config, dtype=dtype, pooling='last')
  return trunk.normalise(last.astype(jnp.float32), config)


def _edit_one(
  features: Sequence[features_lib.Feature],
  method: str,
  compared: Contrast,
  source: Texts,
  batch_size: int,
  done: Mapping[str, Any],
  place: str,
  folder: pathlib.Path,
) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
  """Edits one reward -> its folder; returns its results, and R̂ before and after (`_measure`)."""
  model = pretrained.load(place, ('reward',))
  head = edit_lib.head_of(model)
  states_of = rewards.trunk_scorer(
    normalised_states, model, batch_size, shape=(model.config.hidden_size,)
  )
  if len(compared.fitted) < 2 * head.size:
    logging.warning(
      '%s: fitted on %d texts, fewer than two for each of the %d dimensions of a state; the edit '
      'may hold on these texts alone',
      place,
      len(compared.fitted),
      head.size,
    )
  fitted = edit_lib.fit(
    states_of(compared.fitted), features_lib.present(features, compared.fitted), method
  )
  left = fitted.head(head)
  left /= np.linalg.norm(left)
  states = states_of([*compared.checked, *compared.natural])
  before, after = (states @ one / head.size**0.5 for one in (head, left))
  results = _measure(features, compared, before, after)
  results['cosine'] = float(head @ left)
  edited = _folded(model, left, 0.0)
  zero = calibration.calibration(
    rewards.recovered_reward(edited, batch_size)(source.unlabelled),
    source.bootstrap_samples,
    source.seed,
  )
  assert zero['zero'] is not None
  edited = _folded(model, left, zero['zero'])
  pretrained.save(folder, edited, _card(done, place, edited, {**results, 'calibration': zero}))
  return {**results, 'calibration': zero}, (before, after)


def _folded(model: pretrained.Decoder, head: np.ndarray, zero: float) -> pretrained.Decoder:
  params = export.fold(model.params, head, zero, model.config)
  return dataclasses.replace(model, params=params)


def _measure(
  features: Sequence[features_lib.Feature],
  compared: Contrast,
  before: np.ndarray,
  after: np.ndarray,
) -> dict[str, Any]:
  """Measures what an edit changed, on texts that it was not fitted on.

  Args:
    features: K features.
    compared: its checked and natural texts.
    before: R̂ of the checked, then of the natural texts.
    after: the same, of the edited reward.

  Returns:
    features: of each, `features.dependence` before and after, on the checked texts.
    rank_correlation: Spearman's, of old and new R̂ on the natural texts.
    rank_correlation_without: the same on those of them that have none of the features.
  """
  count = len(compared.checked)
  has = features_lib.present(features, compared.checked)
  without = ~features_lib.present(features, compared.natural).any(axis=1)
  by_feature = {
    one.name: {
      'before': features_lib.dependence(before[:count], column),
      'after': features_lib.dependence(after[:count], column),
    }
    for one, column in zip(features, has.T)
  }
  order = lambda kept: agreement.correlate(before[count:][kept], after[count:][kept])['spearman']
  return collect(
    {
      'features': by_feature,
      'rank_correlation': order(np.ones(len(compared.natural), bool)),
      'rank_correlation_without': order(without),
    }
  )


def _card(
  done: Mapping[str, Any], place: str, edited: pretrained.Decoder, results: Mapping[str, Any]
) -> str:
  """Returns the model card: what was removed, how, and how far it worked."""
  named = ', '.join(f'`{name}`' for name in done['features'])
  notes = (
    f'What it pays for {named} was removed from its head (`{done["method"]}`, fitted on '
    f'{done["fitted"]} texts from {done["texts"]}). The results compare the reward before and '
    f'after on {done["checked"]} other texts: its correlation with each feature, the AUROC of the '
    'feature by the reward, and the effect of the feature in standard deviations of the reward. '
    'An edit removes what a linear function of the last state shows. Something that goes with the '
    'feature, or another way to the same reward, may remain: audit a policy that was trained on it.'
  )
  return card.model_card(
    'edit',
    place,
    done['texts'],
    results,
    architecture=huggingface.config.architecture(edited.kind, edited.config),
    zero=trunk.reward_zero(edited.params),
    notes=notes,
  )


def table(done: Mapping[str, Any]) -> terminal_tables.Grid:
  """Tabulates how strongly the mean reward depends on each feature, before and after."""
  number = terminal_tables.number
  measured, rows = done['ensemble'], []
  for name, both in measured['features'].items():
    pairs = [
      f'{number(both["before"][key])} → {number(both["after"][key])}'
      for key in ('correlation', 'auroc', 'effect')
    ]
    rows.append((name, *pairs))
  order = number(measured['rank_correlation'])
  title = f'{done["method"]}, on {done["checked"]} texts; Spearman of old and new reward {order}'
  return terminal_tables.Grid(title, ('', 'correlation', 'AUROC', 'effect in deviations'), rows)
