"""The ceiling of recovery: the same model and objective, trained on pairs that r* itself puts in order."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from irl_jax import rewards
from irl_jax.evaluation import zero
from irl_jax.irl import loop as irl_loop
from irl_jax.irl import pairs
from irl_jax.models import pretrained
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run

RAREST = 0.1  # share of the texts that the rarer class must have
VALIDATION_PAIRS = 256

Examples = tuple[Sequence[str], np.ndarray]  # texts, and which of them are harmless


def ceiling(run: Run, true_reward: rewards.Reward | None) -> tuple[rewards.Reward | None, str]:
  """What recovery could reach at best.

  A pair is a harmless and a toxic text of the training split, by the sign of r* (or by the labels), drawn
  from the original texts; where nearly all of these are of one class, from the demonstrations.

  Args:
    run: whose settings of irl are used, and as many pairs as there are demonstrations.
    true_reward: r*, or None.

  Returns:
    The centred reward and what it was trained on; or None and the reason.
  """
  if run.config.evaluation.ceiling == 'none':
    return None, 'config.evaluation.ceiling = none'
  true_reward = true_reward if run.config.evaluation.ceiling == 'true_reward' else None
  verdict = 'the true reward' if true_reward else 'the labels'
  sources = {'original texts': lambda split: originals(run, split, true_reward)}
  if true_reward:
    sources['demonstrations'] = lambda split: demonstrations(run, split)
  for name, source in sources.items():
    splits = [source('train'), source('validation')]
    if all(rarer(harmless) >= RAREST for _, harmless in splits):
      return train(run, *splits), f'{name} of the training split, sorted by {verdict}'
  return None, (
    f'by {verdict}, fewer than {RAREST:.0%} of the {", and of the ".join(sources)} are of one of the two '
    'classes'
  )


def originals(run: Run, split: str, true_reward: rewards.Reward | None) -> Examples:
  """The original texts of a split; without r* those that have a label."""
  rows = run.rows(split)
  if true_reward:
    texts = full_texts(rows)
    return texts, true_reward(texts) >= 0
  rows = [row for row in rows if row['label'] is not None]
  return full_texts(rows), np.array([row['label'] == 0 for row in rows], bool)


def demonstrations(run: Run, split: str) -> Examples:
  """Both models' texts of a split; none where they have no r*."""
  rows = [row for row in run.rows(split, 'demos') if row['true_reward_aligned'] is not None]
  texts = [text for side in ('aligned', 'base') for text in full_texts(rows, side)]
  return texts, np.array(
    [row[f'true_reward_{side}'] >= 0 for side in ('aligned', 'base') for row in rows], bool
  )


def rarer(harmless: np.ndarray) -> float:
  """Share of the rarer class [N], in [0, 1/2]."""
  share = float(np.mean(harmless)) if harmless.size else 0.0
  return min(share, 1 - share)


def train(run: Run, training: Examples, validation: Examples) -> rewards.Reward:
  """Trains the reward, and puts its zero where a recovered one has it.

  The two texts of a pair have nothing in common, and a verdict is of a whole text: their prefixes are not compared.
  """
  base, irl = (
    pretrained.load_language_model(run.base),
    dataclasses.replace(run.config.irl, prefix_weight=0.0),
  )
  count, rng = len(run.rows('train', 'demos')), np.random.default_rng(run.config.seed)

  def encoded(examples: Examples, size: int):
    texts, harmless = np.array(examples[0], object), examples[1]
    sides = (rng.choice(texts[mask], size).tolist() for mask in (harmless, ~harmless))
    return pairs.encode_pairs(base, *sides, irl.max_tokens)

  model = irl_loop.train(
    base,
    encoded(training, count),
    encoded(validation, VALIDATION_PAIRS),
    irl,
    run.config.seed,
    run.folder / 'irl' / 'ceiling',
    dtype=run.dtype,
    runtime=run.config.runtime,
    **run.logging('irl/ceiling'),
  )
  score = lambda model: rewards.recovered_reward(model, run.config.evaluation.batch_size, run.dtype)
  return score(irl_loop.recentred(model, zero.otsu(score(model)(recovery.unlabelled_texts(run)))))
