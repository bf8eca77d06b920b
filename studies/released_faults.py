r"""The cost of the faults in the paper's released code: each one switched on, over many seeds.

  python studies/released_faults.py --config=configs/tiny.py --workdir=runs/tiny \
      --output=released_faults.json --config.irl.batch_size=32 --config.irl.prefix_weight=0

The faults are in released/training.py; the library has none of them. Every reward is trained on
the same first training demonstrations of a run and selected by its loss on validation
demonstrations. Seeds differ in the order of the pairs and in a random initial head. The study runs
twice: with the run's config, and with the paper's objective and a random initial head.

r* is read for the tables (released/tables.py), and by the fault that selects with it.
docs/released_faults.md has the tables of a run.
"""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

from absl import flags
import finished_run

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
finished_run.define_flags(FLAGS)
flags.DEFINE_integer('seeds', 10, 'rewards of each row', lower_bound=2, flag_values=FLAGS)
flags.DEFINE_integer(
  'pairs', 1500, 'training pairs; a fifth as many select', lower_bound=5, flag_values=FLAGS
)

STARTS = {
  'the default': {},
  "the paper's objective, random initial head": dict(objective='asymmetric', initial_head='random'),
}


def study(
  base,
  demonstrations: Sequence[Sequence[dict[str, Any]]],
  sets: dict[str, Any],
  irl,
  seeds: int,
  dtype,
) -> dict[str, dict[str, Any]]:
  """Returns all rows of one start; prints how long each took."""
  from released import tables
  from released import training

  scored = {}
  for name, variant in training.VARIANTS.items():
    begin = time.monotonic()
    pairs = [training.encode(base, rows, irl, variant.seen) for rows in demonstrations]
    needed = sets if name == 'no fault' else {key: sets[key] for key in (tables.HELD, tables.ZERO)}
    scored[name] = [
      training.score(
        base, training.train(base, *pairs, irl, variant, seed, dtype), irl, variant, needed, dtype
      )
      for seed in range(seeds)
    ]
    print(
      f'{name:<28} {(time.monotonic() - begin) / seeds:5.1f} s a seed', file=sys.stderr, flush=True
    )
  return tables.rows_of(scored, sets)


def read(run, pairs: int) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
  """Reads the demonstrations that train and those that select, and the texts with their r*.

  Raises:
    InputError: a split has too few demonstrations.
  """
  import numpy as np
  from released import tables

  from irl_jax.errors import InputError
  from irl_jax.stages import irl as recovery
  from irl_jax.stages.run import full_texts

  demonstrations = [
    recovery.different(run.demonstrations(split)) for split in ('train', 'validation')
  ]
  for split, rows, wanted in zip(('train', 'validation'), demonstrations, (pairs, pairs // 5)):
    if len(rows) < wanted:
      raise InputError(
        f'{run.folder}/demos/{split}.jsonl has {len(rows)} pairs of two different texts and the '
        f'study needs {wanted}: lower --pairs'
      )
  demonstrations = [demonstrations[0][:pairs], demonstrations[1][: pairs // 5]]
  prompts = {row['prompt_id'] for row in demonstrations[0]}
  texts = {
    tables.HELD: full_texts(run.rows('heldout')),
    tables.ZERO: recovery.unlabelled_texts(run),
    tables.TRAINED_TEXTS: full_texts(
      [row for row in run.rows('train') if row['prompt_id'] in prompts]
    ),
  }
  for name, rows in (
    (tables.HELD_PAIRS, run.demonstrations('heldout')),
    (tables.TRAINED_PAIRS, demonstrations[0]),
  ):
    texts[name] = [*full_texts(rows, 'aligned'), *full_texts(rows, 'base')]
  true_reward = run.true_reward()
  return demonstrations, {
    name: (given, np.asarray(true_reward(given))) for name, given in texts.items()
  }


def main(options: flags.FlagValues) -> None:
  """Prints the two tables and writes their results."""
  run = finished_run.open_run(options)
  from released.tables import table

  from irl_jax.errors import ConfigError
  from irl_jax.models import pretrained
  from irl_jax.runtime import workdir

  irl = run.config.irl
  if irl.trained_blocks == 0 or irl.prefix_weight:
    raise ConfigError(
      'this study trains blocks on whole texts: set --config.irl.trained_blocks=-1 and '
      '--config.irl.prefix_weight=0'
    )
  base = pretrained.load_language_model(run.base)
  demonstrations, sets = read(run, options.pairs)
  tables = {}
  for name, settings in STARTS.items():
    tables[name] = study(
      base, demonstrations, sets, dataclasses.replace(irl, **settings), options.seeds, run.dtype
    )
    print(f'### {name[0].upper()}{name[1:]}\n\n{table(tables[name])}\n', flush=True)
  pathlib.Path(options.output).write_text(
    json.dumps(
      {
        'seeds': options.seeds,
        'training_pairs': options.pairs,
        'validation_pairs': options.pairs // 5,
        'texts': {name: len(texts) for name, (texts, _) in sets.items()},
        'irl': dataclasses.asdict(irl),
        'versions': workdir.versions(),
        'tables': tables,
      },
      indent=2,
    )
  )


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
