"""The ceiling of recovery: the same model and objective, trained on correctly ordered pairs.

The order is that of r* or of labels.

Dims: N texts.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from irl_jax import config as config_lib
from irl_jax import rewards
from irl_jax.evaluation import zero
from irl_jax.irl import export
from irl_jax.irl import loop as irl_loop
from irl_jax.irl import pairs
from irl_jax.models import pretrained
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run

RAREST = 0.1  # share of the texts that the rarer class must have
VALIDATION_PAIRS = 256

Examples = tuple[Sequence[str], np.ndarray]  # texts [N], and which of them are harmless [N]


def ceiling(
  run: Run, true_reward: rewards.Reward | None, has_classes: bool = True
) -> tuple[rewards.Reward | None, str]:
  """Trains the best reward that recovery could reach.

  A pair is a harmless and a toxic text of the training split, by the sign of r* or by the labels.
  If r* has no toxic class, its median over the texts takes the place of 0. Both are drawn from the
  original texts or, if nearly all of these are of one class, from the demonstrations. There are as
  many pairs as demonstrations.

  Args:
    run: its settings of irl and its rows are used.
    true_reward: r*, or None.
    has_classes: whether r* has a toxic class, below 0.

  Returns:
    The centred reward and a description of its training pairs; or None and the reason.
  """
  if run.config.evaluation.ceiling == 'none':
    return None, 'config.evaluation.ceiling = none'
  true_reward = true_reward if run.config.evaluation.ceiling == 'true_reward' else None
  has_classes = has_classes or not true_reward
  verdict = 'the true reward' if true_reward else 'the labels'
  verdict += '' if has_classes else ', at its median'
  sources = {'original texts': lambda split: originals(run, split, true_reward, has_classes)}
  if true_reward:
    sources['demonstrations'] = lambda split: demonstrations(run, split, has_classes)
  for name, source in sources.items():
    training, validation = source('train'), source('validation')
    if all(rarer(harmless) >= RAREST for _, harmless in (training, validation)):
      return (
        train(run, training, validation),
        f'{name} of the training split, sorted by {verdict}',
      )
  texts = ', and of the '.join(sources)
  return (
    None,
    f'by {verdict}, fewer than {RAREST:.0%} of the {texts} are of one of the two classes',
  )


def originals(
  run: Run, split: str, true_reward: rewards.Reward | None, has_classes: bool
) -> Examples:
  """Returns the original texts of a split; without r*, those that have a label."""
  rows = run.rows(split)
  if true_reward:
    texts = full_texts(rows)
    return texts, better(true_reward(texts), has_classes)
  rows = [row for row in rows if row['label'] is not None]
  return full_texts(rows), np.array([row['label'] == 0 for row in rows], bool)


def demonstrations(run: Run, split: str, has_classes: bool) -> Examples:
  """Returns both models' texts of a split that have an r*."""
  rows = [row for row in run.demonstrations(split) if row['true_reward_aligned'] is not None]
  texts = [text for side in ('aligned', 'base') for text in full_texts(rows, side)]
  aligned = [row['true_reward_aligned'] for row in rows]
  base = [row['true_reward_base'] for row in rows]
  return texts, better(np.array(aligned + base, float), has_classes)


def better(true: np.ndarray, has_classes: bool) -> np.ndarray:
  """Returns which texts [N] r* calls harmless, or, without classes, scores above its median."""
  return true >= 0 if has_classes or not true.size else true > np.median(true)


def rarer(harmless: np.ndarray) -> float:
  """Returns the share of the rarer class, in [0, 1/2]; harmless is [N]."""
  share = float(np.mean(harmless)) if harmless.size else 0.0
  return min(share, 1 - share)


def train(run: Run, training: Examples, validation: Examples) -> rewards.Reward:
  """Trains the reward, and chooses its zero in the same way as a recovered reward's."""
  base, irl = pretrained.load_language_model(run.base), settings(run.config.irl)
  rng = np.random.default_rng(run.config.seed)

  def encoded(examples: Examples, size: int) -> list[pairs.Pair]:
    texts, harmless = np.array(examples[0], object), examples[1]
    above, below = (rng.choice(texts[mask], size).tolist() for mask in (harmless, ~harmless))
    return pairs.encode_pairs(base, above, below, irl.max_tokens)

  parts = irl_loop.train(
    base,
    encoded(training, len(run.demonstrations('train'))),
    encoded(validation, VALIDATION_PAIRS),
    irl,
    run.config.seed,
    run.folder / 'irl' / 'ceiling',
    dtype=run.dtype,
    runtime=run.config.runtime,
    prompts=None,  # the two texts of a pair have different prompts
    **run.logging('irl/ceiling'),
  )
  scores = recovery.uncentred_scores(run, base, parts, recovery.unlabelled_texts(run))
  model = export.reward_model(base, parts, zero.otsu(scores))
  return rewards.recovered_reward(model, run.config.evaluation.batch_size, run.dtype)


def settings(irl: config_lib.IRL) -> config_lib.IRL:
  """Returns the hyper-parameters of the ceiling: prefixes are not compared, the order is certain.

  The two texts of a pair are unrelated, and r* or a label judges whole texts.

  Raises:
    ConfigError: such a reward cannot be exported.
  """
  export.check(irl)
  return dataclasses.replace(irl, prefix_weight=0.0, pair_label='source')
