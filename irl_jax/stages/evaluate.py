"""The evaluate stage: what the recovered rewards are worth on held-out texts and pairs, beside simpler rewards."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from irl_jax import rewards
from irl_jax.evaluation import attribution
from irl_jax.evaluation import baselines
from irl_jax.evaluation import heldout
from irl_jax.evaluation import recovered
from irl_jax.models import pretrained
from irl_jax.records import AttributedText
from irl_jax.runtime import workdir
from irl_jax.stages import ceiling
from irl_jax.stages import demos
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run


def evaluate(run: Run) -> None:
  """Measures the recovered rewards -> evaluation/{texts,pairs,attributions}.jsonl, irl/figures.json."""
  true_reward = run.true_reward() if run.has_true_reward else None
  held = reference(run, true_reward)
  places = rewards.members_of(run.folder / 'irl')
  # One after the other: a large model's weights are held once.
  seeds = [
    heldout.score(load(run, place), held, validation=True)
    for place in run.progress('evaluate')(places)
  ]
  calibrations = [workdir.read_json(place.parent / 'calibration.json') for place in places]
  simpler = {name: heldout.score(reward, held) for name, reward in baseline_rewards(run).items()}
  best, trained_on = ceiling.ceiling(run, true_reward)
  simpler |= {'ceiling': heldout.score(best, held)} if best else {}
  figures = recovered.compare(
    seeds, held, calibrations, simpler, run.config.evaluation.bootstrap_samples, run.config.seed
  )
  of_baselines = figures['baselines']
  of_baselines['ceiling'] = (
    of_baselines['ceiling'] | {'trained_on': trained_on} if best else recovered.missing(trained_on)
  )
  write_rows(run, held, seeds)
  ensemble = heldout.mean(seeds)
  run.write_rows('evaluation/attributions.jsonl', attributions(run, held, ensemble))
  run.write_json(
    'irl/figures.json', {'true_reward': recovered.human_accuracy(held), 'irl': figures}
  )


def load(run: Run, place: Any) -> rewards.Reward:
  """One recovered reward."""
  return rewards.load(str(place), run.config.evaluation.batch_size, run.dtype)


def reference(run: Run, true_reward: rewards.Reward | None) -> heldout.Reference:
  """The held-out texts and pairs with what r* and people say of them; the validation texts with their labels."""
  rows, pairs, validation = (
    run.rows('heldout'),
    run.demonstrations('heldout'),
    run.rows('validation'),
  )
  texts = full_texts(rows)
  of_pairs = lambda side: (
    np.array([row[f'true_reward_{side}'] for row in pairs]) if true_reward else None
  )
  return heldout.Reference(
    texts=texts,
    labels=[row['label'] for row in rows],
    aligned=full_texts(pairs, 'aligned'),
    base=full_texts(pairs, 'base'),
    true_texts=np.asarray(true_reward(texts), np.float64) if true_reward else None,
    true_aligned=of_pairs('aligned'),
    true_base=of_pairs('base'),
    validation=full_texts(validation),
    validation_labels=[row['label'] for row in validation],
  )


def baseline_rewards(run: Run) -> dict[str, rewards.Reward]:
  """Rewards that understand less, by name: none has seen r*."""
  models, settings = demos.load_models(run), run.config.evaluation
  demonstrated = [full_texts(run.demonstrations('train'), side) for side in ('aligned', 'base')]
  return {
    'constant': baselines.constant,
    'length': baselines.length(*demonstrated),
    'bag_of_words': baselines.bag_of_words(*demonstrated),
    'last_token': baselines.last_token(models['base'].tokenizer, *demonstrated),
    'dpo_implicit': baselines.dpo_implicit(
      *(
        rewards.text_log_prob(models[side], settings.batch_size, run.dtype)
        for side in ('aligned', 'base')
      )
    ),
  }


def write_rows(run: Run, held: heldout.Reference, seeds: Sequence[heldout.Scores]) -> None:
  """Every held-out text and pair with its rewards -> evaluation/{texts,pairs}.jsonl."""
  or_null = lambda values, index: None if values is None else float(values[index])
  of_seeds = lambda name, index: [float(getattr(scores, name)[index]) for scores in seeds]
  run.write_rows(
    'evaluation/texts.jsonl',
    [
      {
        'text': text,
        'label': label,
        'true_reward': or_null(held.true_texts, index),
        'rewards': of_seeds('texts', index),
      }
      for index, (text, label) in enumerate(zip(held.texts, held.labels))
    ],
  )
  run.write_rows(
    'evaluation/pairs.jsonl',
    [
      {name: row[name] for name in ('prompt_id', 'prompt', 'aligned', 'base')}
      | {
        'true_reward_aligned': or_null(held.true_aligned, index),
        'true_reward_base': or_null(held.true_base, index),
        'rewards_aligned': of_seeds('aligned', index),
        'rewards_base': of_seeds('base', index),
      }
      for index, row in enumerate(run.demonstrations('heldout'))
    ],
  )


def attributions(
  run: Run, held: heldout.Reference, ensemble: heldout.Scores
) -> list[AttributedText]:
  """Some held-out texts, and how much each of their tokens adds to the mean of the seeds."""
  chosen = attribution.choose(held.texts, ensemble.texts, held.true_texts)
  tokenizer = pretrained.load_tokenizer(run.base, ('causal_lm',))
  texts = [attribution.pieces(tokenizer, held.texts[index]) for index, _ in chosen]
  asked = attribution.texts_to_score(texts)
  scores = np.mean(
    [load(run, place)(asked) for place in rewards.members_of(run.folder / 'irl')], axis=0
  )
  return [
    {
      'text': held.texts[index],
      'true_reward': None if held.true_texts is None else float(held.true_texts[index]),
      'reward': float(ensemble.texts[index]),
      'chosen': why,
      'tokens': tokens,
    }
    for (index, why), tokens in zip(chosen, attribution.attributions(texts, scores))
  ]
