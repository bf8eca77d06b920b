"""The baselines of a run: simpler rewards, each with a zero that is chosen as a recovered reward's.

None of them uses r*. Dims: N texts.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import numpy as np

from irl_jax import rewards
from irl_jax.data.prompts import cut_prompt
from irl_jax.evaluation import baselines
from irl_jax.evaluation import likelihoods
from irl_jax.evaluation import zero
from irl_jax.models import cut as cut_lib
from irl_jax.models import pretrained
from irl_jax.runtime import parallel
from irl_jax.stages import demos
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run


@dataclasses.dataclass(frozen=True)
class Baseline:
  """A simple reward: texts [N] -> scores [N], higher = less toxic."""

  uncentred: rewards.Reward
  zero: float  # is subtracted from the scores
  described: Mapping[str, str] = dataclasses.field(default_factory=dict)  # for summary.json

  def __call__(self, texts: Sequence[str]) -> np.ndarray:
    """Returns the centred scores of texts [N]."""
    return np.asarray(self.uncentred(texts), np.float64) - self.zero

  @property
  def record(self) -> dict[str, Any]:
    """The fields that summary.json has of a baseline alone."""
    return {'zero': self.zero, **self.described}


def baselines_of(run: Run) -> dict[str, Baseline]:
  """Returns the baselines by name.

  The zero of each is the best split of the run's unlabelled texts into two classes, as that of a
  recovered reward. `constant` has none to choose: it calls no text toxic.
  """
  rows = run.demonstrations('train')
  aligned, base = full_texts(rows, 'aligned'), full_texts(rows, 'base')
  models = placed_models(run)
  by_length = baselines.length(aligned, base)
  fitted = {
    'length': by_length,
    'length_reversed': lambda texts: -by_length(texts),
    'bag_of_words': baselines.bag_of_words(aligned, base),
    'last_token': baselines.last_token(models['base'].tokenizer, aligned, base),
    **log_ratios(run, models),
  }
  prefers = ['longer', 'shorter'] if by_length(['a'])[0] > 0 else ['shorter', 'longer']
  described = {
    name: {'prefers': texts} for name, texts in zip(('length', 'length_reversed'), prefers)
  }
  unlabelled = recovery.unlabelled_texts(run)
  return {'constant': Baseline(baselines.constant, 0.0)} | {
    name: Baseline(reward, zero.otsu(reward(unlabelled)), described.get(name, {}))
    for name, reward in fitted.items()
  }


def placed_models(run: Run) -> dict[str, pretrained.Decoder]:
  """Returns both models with their weights on the devices; what both share is there once."""
  models = demos.load_models(run)
  params = {side: model.params for side, model in models.items()}
  placed = parallel.replicated(cut_lib.stored(params, run.dtype))
  return {side: dataclasses.replace(model, params=placed[side]) for side, model in models.items()}


def log_ratios(run: Run, models: Mapping[str, pretrained.Decoder]) -> dict[str, rewards.Reward]:
  """Returns DPO's implicit rewards by name: of whole texts, and of completions given their prompts.

  Args:
    run: its prompts say where texts are cut.
    models: 'aligned' and 'base', their weights on the devices.
  """
  size = run.config.evaluation.batch_size
  aligned, base = models['aligned'], models['base']
  of_texts = functools.partial(likelihoods.text_log_prob, batch_size=size, dtype=run.dtype)
  given_prompt = functools.partial(
    likelihoods.completion_log_prob_scorer, batch_size=size, dtype=run.dtype
  )
  columns = baselines.remembered(
    functools.partial(
      baselines.given_prompt, given_prompt(aligned), given_prompt(base), cut_of(run)
    )
  )
  column = lambda number: lambda texts: columns(texts)[:, number]
  return {
    'dpo_implicit': baselines.dpo_implicit(of_texts(aligned), of_texts(base)),
    'dpo_given_prompt': column(0),
    'dpo_given_prompt_per_token': column(1),
  }


def cut_of(run: Run) -> Callable[[str], likelihoods.Prompted]:
  """Returns a function from a text to its prompt and the rest.

  Texts of the run are cut where the run cut them; other texts by config.data.prompt_fraction.
  """
  known: dict[str, likelihoods.Prompted] = {}
  unlabelled = run.rows('unlabelled') if run.config.data.unlabelled else []
  of_fields: list[tuple[str, Sequence[Mapping[str, Any]]]] = [('original', unlabelled)]
  for split in ('validation', 'heldout'):
    pairs = run.demonstrations(split)
    of_fields += [('original', run.rows(split)), ('aligned', pairs), ('base', pairs)]
  for field, rows in of_fields:
    known |= {row['prompt'] + row[field]: (row['prompt'], row[field]) for row in rows}
  fraction = run.config.data.prompt_fraction
  return lambda text: known.get(text) or cut_prompt(text, fraction)
