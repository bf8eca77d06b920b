"""Which objective recovers best, and what the reward should see: variants of IRL on the demonstrations of one run.

  python benchmarks/recovery.py --config=configs/paradetox_14m.py --workdir=runs/paradetox_14m --output=recovery.json

Every variant is trained on the run's training demonstrations and selected by its loss on the validation demonstrations;
r* is read for the table only. The AUROC is against r*, on the texts of --texts, or where none are given on the
validation demonstrations. Spearman is the mean over pairs of seeds. Variants differ from the run's config as named;
maximum entropy needs a run with config.irl.samples_per_prompt of at least 2.
"""

import dataclasses
import itertools
import json
import pathlib
import sys
import tempfile
import time
from typing import Any, Sequence

from absl import flags

from irl_jax import command_line

FLAGS = flags.FlagValues()
flags.DEFINE_string('config', None, 'config file of the run; its irl section is what the variants differ from',
                    flag_values=FLAGS)
flags.DEFINE_string('workdir', None, 'folder of the run; its demonstrations are finished', flag_values=FLAGS)
flags.DEFINE_string('output', None, 'the .json file to write', flag_values=FLAGS)
flags.DEFINE_string('texts', '', 'texts to compare with r* on, in any format that score.py reads', flag_values=FLAGS)
flags.DEFINE_string('field', 'text', 'their field', flag_values=FLAGS)
flags.DEFINE_list('variants', [], 'names of the variants to run; all where none is named', flag_values=FLAGS)
flags.DEFINE_integer('seeds', 2, 'rewards of each variant', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer('pairs', 0, 'training pairs of every variant; 0: all', lower_bound=0, flag_values=FLAGS)

OBJECTIVES = ('asymmetric', 'hinge', 'logistic', 'squared', 'failure_aware', 'maximum_entropy')
HEAD = dict(trained_blocks=0, prefix_weight=0.0, learning_rate=1e-2)  # a head alone bears a larger step
VARIANTS = {
    **{f'{name}, everything': dict(objective=name) for name in OBJECTIVES},
    **{f'{name}, head alone': dict(objective=name, **HEAD) for name in OBJECTIVES},
    'logistic, top 2 blocks': dict(objective='logistic', trained_blocks=2),
    'logistic, whole texts only': dict(objective='logistic', prefix_weight=0.0),
    'logistic, mean pooling': dict(objective='logistic', prefix_weight=0.0, pooling='mean'),
    'logistic, a quarter of the pairs': dict(objective='logistic', share=0.25),
    'logistic, half of the pairs': dict(objective='logistic', share=0.5),
    'logistic, two epochs': dict(objective='logistic', epochs=2),
}


def recover(run, base, rows: Sequence[list], settings: dict[str, Any], pairs: int | None, seeds: int) -> list:
  """One reward (texts -> scores) for every seed, from rows to train on and rows to validate with."""
  from irl_jax.irl import loop
  from irl_jax.irl import reward
  from irl_jax.stages import recovery
  settings = dict(settings)
  share = settings.pop('share', 1.0)
  irl = dataclasses.replace(run.config.irl, evaluate_every=0, **settings)
  training = recovery.to_train_on(rows[0], irl)[:pairs]
  training = training[:int(share * len(training))]
  prompts = [row['prompt'] for row in training]
  training, validation = (recovery.encode_demonstrations(base, part, irl) for part in (training, rows[1]))
  scorers = []
  for seed in range(seeds):
    with tempfile.TemporaryDirectory() as folder:
      parts = loop.train_parts(base, training, validation, irl, seed, pathlib.Path(folder), dtype=run.dtype,
                               prompts=prompts, log=lambda step, metrics: None)
    scorers.append(reward.scorer(base, parts, irl.pooling, dtype=run.dtype))
  return scorers


def figures(scores: Sequence, true, prefers: Sequence[float], seconds: float) -> dict[str, Any]:
  """One row of the table: AUROC of every seed, their agreement, and how extreme the reward is."""
  import numpy as np
  from scipy import stats
  from irl_jax.evaluation import agreement
  pairs = list(itertools.combinations(scores, 2))
  return {
      'auroc': [agreement.auroc(score, true < 0) for score in scores],
      'seed_spearman': float(np.mean([stats.spearmanr(*pair).statistic for pair in pairs])) if pairs else None,
      'prefers_aligned': list(prefers), 'saturated': float(np.mean(np.abs(scores) > 0.9)), 'seconds': seconds}


def main(options: flags.FlagValues) -> None:
  """Prints the table, a row when it is known."""
  command_line.require(options, 'config', 'workdir', 'output')
  import numpy as np
  from irl_jax import pipeline
  from irl_jax.data import rows as rows_lib
  from irl_jax.models import pretrained
  from irl_jax.run import Run
  from irl_jax.run import full_texts
  from irl_jax.stages import recovery
  pipeline.use_compilation_cache()
  run = Run(options.config, pathlib.Path(options.workdir), None, pipeline.compute_dtype(options.config.runtime.dtype))
  base, true_reward = pretrained.load(run.base, ('causal_lm',)), run.true_reward()
  pairs = options.pairs or None
  demonstrations = run.rows('train', 'demos'), recovery.different(run.rows('validation', 'demos'))
  aligned, contrast = (full_texts(demonstrations[1], name) for name in ('aligned', 'base'))
  texts = ([row[options.field] for row in rows_lib.read_rows(options.texts, fields=[options.field])[0]]
           if options.texts else aligned + contrast)
  true, table = np.asarray(true_reward(texts)), {}
  for name, settings in VARIANTS.items():
    if options.variants and name not in options.variants:
      continue
    if settings.get('objective') == 'maximum_entropy' and run.config.irl.samples_per_prompt < 2:
      print(f'{name:<36} left out: the run has config.irl.samples_per_prompt = 1')
      continue
    start = time.monotonic()
    scorers = recover(run, base, demonstrations, settings, pairs, options.seeds)
    seconds = (time.monotonic() - start) / options.seeds
    prefers = [float(np.mean(score(aligned) > score(contrast))) for score in scorers]
    table[name] = row = figures([score(texts) for score in scorers], true, prefers, seconds)
    print(f'{name:<36} AUROC {" ".join(f"{value:.3f}" for value in row["auroc"])}   prefers the aligned '
          f'{np.mean(prefers):.3f}   Spearman {row["seed_spearman"] or float("nan"):.3f}   '
          f'|R| > .9 {row["saturated"]:.2f}   {seconds:.0f} s', flush=True)
  training_pairs = len(recovery.different(demonstrations[0])[:pairs])
  pathlib.Path(options.output).write_text(json.dumps(
      {'texts': len(texts), 'training_pairs': training_pairs, 'variants': table}, indent=2))


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
