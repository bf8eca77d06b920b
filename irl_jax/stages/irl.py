"""The irl stage: rewards recovered from the demonstrations, one per seed, each with a zero of its own."""

from collections.abc import Sequence
import functools

import numpy as np

from irl_jax import rewards
from irl_jax.config import IRL
from irl_jax.evaluation import agreement
from irl_jax.evaluation import calibration
from irl_jax.irl import loop as irl_loop
from irl_jax.irl import pairs
from irl_jax.models import pretrained
from irl_jax.runtime import processes
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Row
from irl_jax.stages.run import Run


def irl(run: Run) -> None:
  """Recovers config.irl.seeds rewards -> irl/seed_<k>/reward, and irl/config.json: their ensemble."""
  base = pretrained.load_language_model(run.base)
  settings = run.config.irl
  demonstrations = (
    to_train_on(run.rows('train', 'demos'), settings),
    different(run.rows('validation', 'demos')),
  )
  training, validation = (encode_demonstrations(base, rows, settings) for rows in demonstrations)
  prompts = [row['prompt'] for row in demonstrations[0]]
  report = functools.partial(against_true_reward, demonstrations[1])
  unlabelled = unlabelled_texts(run)
  members = []
  for seed in range(settings.seeds):
    folder = run.folder / 'irl' / f'seed_{seed}'
    members.append(f'seed_{seed}/reward')
    if processes.broadcast((folder / 'calibration.json').exists()):
      continue
    uncentred = irl_loop.train(
      base,
      training,
      validation,
      settings,
      run.config.seed * 1000 + seed,
      folder / 'checkpoints',
      dtype=run.dtype,
      runtime=run.config.runtime,
      prompts=prompts,
      report=report,
      **run.logging(f'irl/seed_{seed}'),
    )
    calibrated, model = centre(run, uncentred, unlabelled)
    run.save(f'irl/seed_{seed}/reward', model, run.base, calibrated)
    run.write_json(f'irl/seed_{seed}/calibration.json', calibrated)
  run.write_json('irl/config.json', {'model_type': 'irl_jax_ensemble', 'members': members})


def unlabelled_texts(run: Run) -> list[str]:
  """What the zero is chosen by: the validation split's original texts and config.data.unlabelled, or the split's
  demonstrations where nobody wrote any.
  """
  rows = run.rows('validation')
  more = run.rows('unlabelled') if run.config.data.unlabelled else []
  if (run.config.data.source != 'prompts' and any(row['original'] for row in rows)) or more:
    return full_texts([*rows, *more])
  pairs = run.rows('validation', 'demos')
  return [text for side in ('aligned', 'base') for text in full_texts(pairs, side)]


def different(rows: Sequence[Row]) -> list[Row]:
  """Demonstrations without those whose two texts are the same: as a pair they say nothing."""
  return [row for row in rows if row['aligned'] != row['base']]


def to_train_on(rows: Sequence[Row], settings: IRL) -> list[Row]:
  """Pairs that differ; where the objective is a mean over a prompt's samples, which must stay as drawn, all pairs."""
  return list(rows) if settings.samples_together > 1 else different(rows)


def encode_demonstrations(
  model: pretrained.Pretrained, rows: Sequence[Row], settings: IRL
) -> list[pairs.Pair]:
  """Demonstration rows as pairs of token ids."""
  return pairs.encode_pairs(
    model, full_texts(rows, 'aligned'), full_texts(rows, 'base'), settings.max_tokens
  )


def against_true_reward(rows: Sequence[Row], scores: np.ndarray) -> dict[str, float]:
  """How well R̂ [N, 2] of the demonstrations agrees with r*: to look at, never to select by; empty without r*."""
  true = np.array([[row['true_reward_aligned'], row['true_reward_base']] for row in rows], float)
  if not np.isfinite(true).all() or not 0 < np.mean(true < 0) < 1:
    return {}
  return {'reported/auroc': agreement.auroc(scores.ravel(), true.ravel() < 0)}


def centre(
  run: Run, uncentred: pretrained.Pretrained, unlabelled: Sequence[str]
) -> tuple[Row, pretrained.Pretrained]:
  """Chooses the zero without labels, by what it gives to unlabelled texts."""
  scores = rewards.recovered_reward(uncentred, run.config.evaluation.batch_size, run.dtype)(
    unlabelled
  )
  calibrated = calibration.calibration(
    scores, run.config.evaluation.bootstrap_samples, run.config.seed
  )
  return calibrated, irl_loop.recentred(uncentred, calibrated['zero'])
