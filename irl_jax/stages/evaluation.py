"""The evaluate stage: what the recovered rewards are worth on held-out texts and pairs, beside simpler rewards."""

import numpy as np

from irl_jax import rewards
from irl_jax import workdir
from irl_jax.evaluation import recovered
from irl_jax.irl import loop as irl_loop
from irl_jax.models import pretrained
from irl_jax.run import Run
from irl_jax.run import full_texts
from irl_jax.stages import recovery


def evaluate(run: Run) -> None:
  """Measures the recovered rewards on held-out texts and pairs -> irl/figures.json."""
  held, pairs, train_pairs = run.rows('heldout'), run.rows('heldout', 'demos'), run.rows('train', 'demos')
  texts, true_reward = full_texts(held), run.true_reward()
  labels = [row['label'] for row in held]
  reference = recovered.Reference(
      texts=texts, labels=None if None in labels else np.array(labels),
      aligned=full_texts(pairs, 'aligned'), base=full_texts(pairs, 'base'), true_texts=true_reward(texts),
      true_aligned=np.array([row['true_reward_aligned'] for row in pairs]),
      true_base=np.array([row['true_reward_base'] for row in pairs]))
  calibrations = [workdir.read_json(member.parent / 'calibration.json')
                  for member in rewards.members_of(run.folder / 'irl')]
  others = recovered.demonstration_baselines(full_texts(train_pairs, 'aligned'), full_texts(train_pairs, 'base'))
  if run.config.evaluation.ceiling and (best := ceiling(run, len(train_pairs), true_reward)):
    others['ceiling'] = best
  figures = recovered.compare(run.recovered_rewards(), reference, calibrations, others)
  accuracy = None
  if reference.labels is not None:
    accuracy = float(np.mean((reference.true_texts < 0) == (reference.labels == 1)))
  workdir.write_json(run.folder / 'irl' / 'figures.json', {
      'true_reward': {'human_accuracy': accuracy} | (
          {} if accuracy is not None else {'why': {'human_accuracy': 'the held-out texts have no labels'}}),
      'irl': figures})


def ceiling(run: Run, count: int, true_reward: rewards.Reward) -> rewards.Reward | None:
  """What recovery could reach at best: the same model and objective, trained on pairs of a non-toxic and a toxic text.

  The classes are the labels of the training texts, else the sign of r*; None where there is one class only.
  """
  base = pretrained.load(run.base, ('causal_lm',))
  rng = np.random.default_rng(run.config.seed)
  encoded = []
  for split, size in (('train', count), ('validation', 256)):
    rows = run.rows(split)
    texts = full_texts(rows)
    labels = [row['label'] for row in rows]
    toxic = true_reward(texts) < 0 if None in labels or len(set(labels)) < 2 else np.array(labels) == 1
    if toxic.all() or not toxic.any():
      return None
    harmless, harmful = (rng.choice(np.array(texts, object)[mask], size).tolist() for mask in (~toxic, toxic))
    encoded.append(irl_loop.encode_pairs(base, harmless, harmful, run.config.irl.max_tokens))
  model = irl_loop.train(base, *encoded, run.config.irl, run.config.seed, run.folder / 'irl' / 'ceiling',
                         dtype=run.dtype, **run.logging('irl/ceiling'))
  _, model = recovery.centre(run, model, full_texts(run.rows('validation')))
  return rewards.recovered_reward(model, run.config.evaluation.batch_size, run.dtype)
