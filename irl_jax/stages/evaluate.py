"""The evaluate stage: the quality of the recovered rewards on held-out texts and pairs.

Simpler rewards are measured for comparison.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any
from typing import cast

import numpy as np

from irl_jax import config as config_lib
from irl_jax import rewards
from irl_jax.data import chat
from irl_jax.evaluation import attribution
from irl_jax.evaluation import heldout
from irl_jax.evaluation import recovered
from irl_jax.evaluation import words
from irl_jax.irl import prepare
from irl_jax.irl import reward as reward_lib
from irl_jax.models import pretrained
from irl_jax.runtime import workdir
from irl_jax.runtime.records import AttributedText
from irl_jax.runtime.records import BaselineResults
from irl_jax.runtime.records import ScoredPair
from irl_jax.runtime.records import ScoredText
from irl_jax.runtime.records import WordEffect
from irl_jax.stages import baselines as baselines_lib
from irl_jax.stages import ceiling
from irl_jax.stages import demos
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run


def evaluate(run: Run) -> None:
  """Measures the recovered rewards -> evaluation/*.jsonl, irl/figures.json."""
  true_reward = run.true_reward() if run.has_true_reward else None
  held = reference(run, true_reward)
  places = members_of(run)
  # One after the other, so that the weights of only one large model are in memory.
  seeds = [
    heldout.score(load(run, place), held, validation=True)
    for place in run.progress('evaluate')(places)
  ]
  calibrations = [workdir.read_json(place.parent / 'calibration.json') for place in places]
  simpler, of_each = score_baselines(run, held)
  best, trained_on = ceiling.ceiling(run, true_reward, held.has_classes)
  simpler |= {'ceiling': heldout.score(best, held)} if best else {}
  results = recovered.compare(
    seeds,
    held,
    calibrations,
    simpler,
    run.config.evaluation.bootstrap_samples,
    run.config.seed,
    first_scores(run, held.texts, len(seeds)),
  )
  results['coupled_pairs'] = demos.any_coupled(run.demonstrations('heldout'))
  of_baselines = results['baselines']
  for name, record in of_each.items():
    of_baselines[name] = cast(BaselineResults, {**of_baselines[name], **record})
  if best:
    of_baselines['ceiling'] = of_baselines['ceiling'] | {'trained_on': trained_on}
  else:
    of_baselines['ceiling'] = recovered.missing(trained_on)
  run.write_rows('evaluation/texts.jsonl', scored_texts(held, seeds))
  run.write_rows('evaluation/pairs.jsonl', scored_pairs(run, held, seeds))
  explanation = explain(run, held, heldout.mean(seeds))
  run.write_rows('evaluation/attributions.jsonl', explanation.texts)
  run.write_rows('evaluation/words.jsonl', explanation.words)
  quality = {**described(run, true_reward), **recovered.human_accuracy(held)}
  run.write_json('irl/figures.json', {'true_reward': quality, 'irl': results})


def described(
  run: Run, true_reward: rewards.TrueReward | rewards.ScalarReward | None
) -> dict[str, str]:
  """Returns what r* is, and who made the labels: a part of records.TrueRewardQuality."""
  labels = {'labelled_by': config_lib.labelled_by(run.config.data.source)}
  if true_reward is None:
    return labels
  if not true_reward.has_classes:
    return {'kind': 'score', **labels}
  return {'kind': 'classifier', 'label': true_reward.label, **labels}


def load(run: Run, place: str | pathlib.Path) -> rewards.Reward:
  """Loads one recovered reward."""
  return rewards.load(str(place), run.config.evaluation.batch_size, run.dtype)


def reference(
  run: Run, true_reward: rewards.TrueReward | rewards.ScalarReward | None
) -> heldout.Reference:
  """Returns held-out texts and pairs with r* and labels, and validation texts with labels."""
  validation = run.rows('validation')
  pairs = run.demonstrations('heldout')
  texts, labels, text_prompts = texts_of(run)
  true_aligned = np.array([row['true_reward_aligned'] for row in pairs]) if true_reward else None
  true_base = np.array([row['true_reward_base'] for row in pairs]) if true_reward else None
  return heldout.Reference(
    texts=texts,
    labels=labels,
    aligned=full_texts(pairs, 'aligned'),
    base=full_texts(pairs, 'base'),
    true_texts=np.asarray(true_reward(texts), np.float64) if true_reward else None,
    true_aligned=true_aligned,
    true_base=true_base,
    validation=full_texts(validation),
    validation_labels=[row['label'] for row in validation],
    prompts=[row['prompt'] for row in pairs],
    text_prompts=text_prompts,
    has_classes=true_reward is None or true_reward.has_classes,
  )


def texts_of(run: Run) -> tuple[list[str], list[int | None], list[str]]:
  """Returns the held-out texts, labels and prompts: the split's own texts, or else completions.

  Rows that are prompts alone are not texts that a reward can judge. Then the texts are both models'
  completions of the held-out prompts, each once.
  """
  rows = run.rows('heldout')
  if any(row['original'] or row['label'] is not None for row in rows):
    return full_texts(rows), [row['label'] for row in rows], [row['prompt'] for row in rows]
  pairs = run.demonstrations('heldout')
  texts = [*full_texts(pairs, 'aligned'), *full_texts(pairs, 'base')]
  prompt = dict(zip(texts, [row['prompt'] for row in pairs] * 2))
  return list(prompt), [None] * len(prompt), list(prompt.values())


def first_scores(run: Run, texts: Sequence[str], seeds: int) -> list[np.ndarray] | None:
  """Returns each seed's scores of texts [N] before training; None for a single seed."""
  if seeds < 2:
    return None
  base, settings = pretrained.load_language_model(run.base), run.config.irl
  rows = recovery.training_rows(run.demonstrations('train'), settings)
  pairs = recovery.encode_demonstrations(base, rows, settings)
  labels = recovery.labels_of(settings, (rows, pairs))
  # All seeds get their initial head from the same pairs, so one head serves all.
  shared = settings.initial_head == 'difference' and len(pairs) <= prepare.DIRECTION_PAIRS
  scores = []
  for number in range(1 if shared else seeds):
    parts = prepare.initial_parts(
      base,
      pairs,
      settings,
      recovery.first_seed(run, number),
      run.dtype,
      labels=labels[0] if labels else None,
    )
    score = reward_lib.scorer(
      base, parts, settings.pooling, run.config.evaluation.batch_size, run.dtype
    )
    scores.append(np.asarray(score(texts), np.float64))
  return scores * seeds if shared else scores


def score_baselines(
  run: Run, held: heldout.Reference
) -> tuple[dict[str, heldout.Scores], dict[str, dict[str, Any]]]:
  """Returns the scores of every baseline, and what summary.json says of it, by name.

  When it returns, the weights of both models leave the devices.
  """
  baselines = baselines_lib.baselines_of(run)
  scores = {name: heldout.score(baseline, held) for name, baseline in baselines.items()}
  return scores, {name: baseline.record for name, baseline in baselines.items()}


def scored_texts(held: heldout.Reference, seeds: Sequence[heldout.Scores]) -> list[ScoredText]:
  """Returns every held-out text with its rewards."""
  return [
    ScoredText(
      text=chat.shown(text),
      label=label,
      true_reward=_value(held.true_texts, index),
      rewards=[float(scores.texts[index]) for scores in seeds],
    )
    for index, (text, label) in enumerate(zip(held.texts, held.labels))
  ]


def scored_pairs(
  run: Run, held: heldout.Reference, seeds: Sequence[heldout.Scores]
) -> list[ScoredPair]:
  """Returns every held-out pair with its rewards."""
  return [
    ScoredPair(
      prompt_id=row['prompt_id'],
      prompt=chat.shown(row['prompt']),
      aligned=row['aligned'],
      base=row['base'],
      true_reward_aligned=_value(held.true_aligned, index),
      true_reward_base=_value(held.true_base, index),
      rewards_aligned=[float(scores.aligned[index]) for scores in seeds],
      rewards_base=[float(scores.base[index]) for scores in seeds],
    )
    for index, row in enumerate(run.demonstrations('heldout'))
  ]


@dataclasses.dataclass(frozen=True)
class Explanation:
  """The parts of texts that the ensemble's reward depends on."""

  texts: list[AttributedText]
  words: list[WordEffect]


def explain(run: Run, held: heldout.Reference, ensemble: heldout.Scores) -> Explanation:
  """Returns each token's contribution to the reward of some texts, and the effects of words."""
  count = run.config.evaluation.attributed_texts
  chosen = attribution.choose(held.texts, ensemble.texts, held.true_texts, count)
  tokenizer = pretrained.load_tokenizer(run.base, ('causal_lm',))
  pieces = [attribution.pieces(tokenizer, held.texts[index]) for index, _ in chosen]
  found = candidate_words(run, ensemble)
  variants = [*attribution.texts_to_score(pieces), *words.texts_to_score(found)]
  # Both kinds of variants in one call, so that every seed's weights are loaded once.
  scores = np.mean([load(run, place)(variants) for place in members_of(run)], axis=0)
  of_tokens, of_words = np.split(scores, [len(attribution.texts_to_score(pieces))])
  attributed = [
    AttributedText(
      text=chat.shown(held.texts[index]),
      true_reward=_value(held.true_texts, index),
      reward=float(ensemble.texts[index]),
      chosen=reason,
      tokens=[{**token, 'piece': chat.shown(token['piece'])} for token in tokens],
    )
    for (index, reason), tokens in zip(chosen, attribution.attributions(pieces, of_tokens))
  ]
  by_text = dict(zip(words.texts_to_score(found), of_words.tolist()))
  of_aligned = np.arange(len(ensemble.pairs)) < len(ensemble.aligned)
  return Explanation(attributed, words.effects(found, by_text, of_aligned))


def candidate_words(run: Run, ensemble: heldout.Scores) -> list[words.Candidate]:
  """Returns the words of the held-out completions that the ensemble's reward may depend on."""
  pairs = run.demonstrations('heldout')
  completions = [*(row['aligned'] for row in pairs), *(row['base'] for row in pairs)]
  return words.candidates([row['prompt'] for row in pairs] * 2, completions, ensemble.pairs)


def members_of(run: Run) -> list[pathlib.Path]:
  """Returns the folders of the recovered rewards."""
  return rewards.members_of(run.folder / 'irl')


def _value(values: np.ndarray | None, index: int) -> float | None:
  return None if values is None else float(values[index])
