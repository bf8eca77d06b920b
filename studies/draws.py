r"""Recovery over several draws of PPO: what a headline rests on, and what could choose settings.

  python studies/draws.py --config=configs/paradetox_14m_gentle.py --workdir=runs/draws \
      --output=draws.json --pairs=paradetox_dev.jsonl.gz

Every draw is RLHF with a seed of its own: the same data and starting models, other rollouts and
other demonstrations. From each draw every variant recovers --seeds rewards. --pairs names a file of
toxic texts and their neutral rewritings; half of it, by hash, is kept back for good, and the table
is of this half (--half=choice: of the other). Without --pairs the texts are the run's labelled
held-out ones (choice: those of validation). `independent` pairs are those that each model draws on
its own. The first variant has the default of config.irl.temperature.

A model that config.models does not name is trained once, before the draws. Each result is a file of
the folder, so that the same command continues. Intervals are bootstrap intervals over rows, each
row with both of its texts. docs/draws.md has the tables of two runs. Dims: N texts.
"""

import dataclasses
import json
import pathlib
import shutil
import sys
from typing import Any

from absl import flags
import draw_results
import halves
import recovering

from irl_jax.command_line import launch as command_line

SPLITS = {'report': 'heldout', 'choice': 'validation'}  # whose texts are read without --pairs
FLAGS = flags.FlagValues()
define = {'flag_values': FLAGS}
flags.DEFINE_string('config', None, 'config file', **define)
flags.DEFINE_string('workdir', None, 'folder of the draws and their rewards', **define)
flags.DEFINE_string('output', None, 'the .json file to write', **define)
flags.DEFINE_string('pairs', '', 'file of rows with the fields toxic and neutral', **define)
flags.DEFINE_enum('half', 'report', halves.HALVES, 'the texts of the table', **define)
flags.DEFINE_integer('draws', 3, 'runs of PPO', lower_bound=1, **define)
flags.DEFINE_integer('seeds', 3, 'rewards of each draw and variant', lower_bound=1, **define)
flags.DEFINE_list('variants', [], 'names of variants, in this order; default: all', **define)

FIRST = ('data', 'sft', 'classifier')  # stages that the draws share
COUPLED, INDEPENDENT, ORDERED = 'coupled', 'independent', 'ordered'
VARIANTS = {
  'source-T.05': dict(temperature=0.05),
  'source-T.2': dict(temperature=0.2),
  'source-T.5': dict(temperature=0.5),
  'source-T1': dict(temperature=1.0),
  'mixed-T.5': dict(temperature=0.5, pair_label='mixed'),
  'likelihood-T.5': dict(temperature=0.5, pair_label='likelihood'),
  'independent-T.05': dict(temperature=0.05, pairs=INDEPENDENT),
  'independent-T.5': dict(temperature=0.5, pairs=INDEPENDENT),
  'independent-mixed-T.5': dict(temperature=0.5, pairs=INDEPENDENT, pair_label='mixed'),
  'independent-likelihood-T.5': dict(temperature=0.5, pairs=INDEPENDENT, pair_label='likelihood'),
  'random-head-T.5': dict(temperature=0.5, initial_head='random'),
  'true-order-T.5': dict(temperature=0.5, pairs=ORDERED),
}
Scores = dict[str, Any]  # by the name of the texts: R̂ [N] without a zero


def prepared(options: flags.FlagValues) -> Any:
  """Runs the stages that the draws share -> common/; returns the run."""
  from irl_jax import pipeline
  from irl_jax.runtime import metrics_log
  from irl_jax.stages.run import Run

  config, folder = options.config, pathlib.Path(options.workdir) / 'common'
  pipeline.run(config, folder, [stage for stage in config.stages if stage in FIRST])
  dtype = pipeline.compute_dtype(config.runtime.dtype)
  return Run(config, folder, metrics_log.Log(), dtype)


def drawn(common, number: int, coupled: bool = True) -> Any:
  """Runs RLHF and the demonstrations of one draw; returns its run.

  Args:
    common: the run of the shared stages.
    number: of the draw, its config.seed.
    coupled: whether both models draw the pairs to train on with the same random numbers; if not,
      the policy is that of the coupled draw.
  """
  from irl_jax.stages import demos
  from irl_jax.stages import rlhf

  folder = common.folder.parent / f'draw_{number}'
  models = dataclasses.replace(
    common.config.models, base=common.base, sft=common.start, classifier=common.classifier
  )
  if not coupled:
    models = dataclasses.replace(models, aligned=str(folder / 'rlhf' / 'policy'))
    folder = folder.with_name(f'{folder.name}_independent')
  irl = dataclasses.replace(common.config.irl, coupled=coupled, pair_label='mixed')
  stages = tuple(stage for stage in common.config.stages if coupled or stage != 'rlhf')
  config = dataclasses.replace(common.config, seed=number, models=models, irl=irl, stages=stages)
  run = dataclasses.replace(common, config=config, folder=folder)
  if not (folder / 'data').exists():
    shutil.copytree(common.folder / 'data', folder / 'data')
  if coupled and not (folder / 'rlhf' / 'policy').is_dir():
    rlhf.rlhf(run)
  if not (folder / 'demos' / 'heldout.jsonl').exists():
    demos.demos(run)
  return run


def texts_of(common, pairs: str, half: str) -> draw_results.Texts:
  """Returns the texts of one half, with labels, r* and the row of each.

  Args:
    common: the run of the shared stages.
    pairs: the file of toxic texts and their rewritings; '': the run's own texts.
    half: one of `halves.HALVES`.
  """
  import numpy as np

  from irl_jax.data import rows as rows_lib
  from irl_jax.stages.run import full_texts

  if pairs:
    rows, _ = rows_lib.read_rows(pairs, fields=['toxic'])
    rows = halves.rows_of(rows, half, 'toxic')
    texts = [row[name] for name in ('toxic', 'neutral') for row in rows]
    labels, of_row = np.repeat([1, 0], len(rows)), np.tile(np.arange(len(rows)), 2)
  else:
    rows = [row for row in common.rows(SPLITS[half]) if row['label'] is not None]
    texts, labels = full_texts(rows), np.array([row['label'] for row in rows])
    of_row = np.unique([row['prompt'] for row in rows], return_inverse=True)[1]
  true = np.asarray(common.true_reward()(texts), np.float64)
  return draw_results.Texts(texts, labels, true, of_row, bool(pairs))


def to_score(common, runs, of_halves: dict[str, draw_results.Texts]) -> dict[str, list[str]]:
  """Returns every text that a reward is asked about, by name: held-out pairs of every draw too."""
  from irl_jax.stages import demonstrated
  from irl_jax.stages import irl as recovery
  from irl_jax.stages.run import full_texts

  named = {half: texts.texts for half, texts in of_halves.items()}
  named['unlabelled'] = recovery.unlabelled_texts(common)
  for number, run in enumerate(runs):
    rows = demonstrated.different(run.demonstrations('heldout'))
    named |= {f'{side}_{number}': full_texts(rows, side) for side in ('aligned', 'base')}
  return named


def scored(reward, named: dict[str, list[str]], place: pathlib.Path) -> None:
  """Scores every text once, and writes the scores; a file appears only when it is whole."""
  import numpy as np

  distinct = list(dict.fromkeys(text for texts in named.values() for text in texts))
  value = dict(zip(distinct, np.asarray(reward(distinct), np.float64)))
  place.parent.mkdir(parents=True, exist_ok=True)
  unfinished = place.with_suffix('.unfinished.npz')
  np.savez(unfinished, **{name: [value[text] for text in texts] for name, texts in named.items()})
  unfinished.rename(place)


def rows_of(run, independent, pairs: str) -> tuple[recovering.Rows, recovering.Rows]:
  """Returns the rows to train on and to validate with, of one kind of pairs."""
  source = independent if pairs == INDEPENDENT else run
  rows = source.demonstrations('train'), source.demonstrations('validation')
  return tuple(map(recovering.in_true_order, rows)) if pairs == ORDERED else rows


def recover_all(common, runs, named: dict[str, list[str]], options: flags.FlagValues) -> None:
  """Recovers what is missing -> recovered/<variant>/; all draws get a seed before the next seed."""
  from irl_jax.models import pretrained

  base = pretrained.load_language_model(runs[0].base)
  for seed in range(options.seeds):
    for variant in options.variants or VARIANTS:
      for number, run in enumerate(runs):
        place = place_of(options, variant, number, seed)
        if place.exists():
          continue
        settings = dict(VARIANTS[variant])
        pairs = settings.pop('pairs', COUPLED)
        independent = drawn(common, number, coupled=False) if pairs == INDEPENDENT else run
        training, validation = rows_of(run, independent, pairs)
        reward = recovering.recover(run, base, training, validation, settings, seed)
        scored(reward, named, place)
        print(f'{variant}: draw {number}, seed {seed}', flush=True)


def score_baselines(runs, named: dict[str, list[str]], options: flags.FlagValues) -> list[str]:
  """Scores with the baselines of every draw; returns their names."""
  from irl_jax.stages import baselines

  for number, run in enumerate(runs):
    done = place_of(options, 'true_reward', number, 0)
    if not done.exists():
      found = baselines.baselines_of(run)
      for name, reward in found.items():
        scored(reward.uncentred, named, place_of(options, name, number, 0))
      scored(runs[0].true_reward(), named, done)  # r* itself, last: all baselines are there
  return ['length', 'length_reversed', 'bag_of_words', 'last_token', 'dpo_implicit'] + [
    f'dpo_given_prompt{ending}' for ending in ('', '_per_token')
  ]


def place_of(options: flags.FlagValues, variant: str, draw: int, seed: int) -> pathlib.Path:
  """Returns the file of the scores of one reward."""
  return pathlib.Path(options.workdir) / 'recovered' / variant / f'draw_{draw}_seed_{seed}.npz'


def read(options: flags.FlagValues, variant: str, seeds: int) -> list[list[Scores]]:
  """Returns the scores of a variant by draw and seed; [] if one of a first seed is missing."""
  import numpy as np

  found: list[list[Scores]] = []
  for draw in range(options.draws):
    places = [place_of(options, variant, draw, seed) for seed in range(seeds)]
    of_seeds = [dict(np.load(place)) for place in places if place.exists()]
    found.append([one | {'texts': one[options.half]} for one in of_seeds])
  return found if all(found) else []


def main(options: flags.FlagValues) -> None:
  """Prints and writes the table."""
  command_line.require(options, 'config', 'workdir', 'output')
  from irl_jax.runtime import compilation_cache

  compilation_cache.use()
  common = prepared(options)
  runs = [drawn(common, number) for number in range(options.draws)]
  of_halves = {half: texts_of(common, options.pairs, half) for half in halves.HALVES}
  texts, named = of_halves[options.half], to_score(common, runs, of_halves)
  recover_all(common, runs, named, options)
  baselines = score_baselines(runs, named, options)
  variants = {name: read(options, name, options.seeds) for name in options.variants or VARIANTS}
  variants |= {name: read(options, name, 1) for name in baselines}
  table = {
    name: draw_results.results(scores, texts, common.config.evaluation.bootstrap_samples)
    for name, scores in variants.items()
    if scores
  }
  policies = [json.loads((run.folder / 'rlhf' / 'figures.json').read_text()) for run in runs]
  result = {'texts': len(texts.texts), 'half': options.half, 'rewards': table, 'rlhf': policies}
  result['gains'] = draw_results.gains(variants, texts, common.config.evaluation.bootstrap_samples)
  pathlib.Path(options.output).write_text(json.dumps(result, indent=1) + '\n')
  print(draw_results.table(table))


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
