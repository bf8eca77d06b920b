r"""What the faults of the paper's released code cost: each switched on alone, over many seeds.

  python studies/released_faults.py --config=configs/tiny.py --workdir=runs/tiny \
      --output=released_faults.json --config.irl.batch_size=32 --config.irl.prefix_weight=0

The faults live in this file; the library has none of them. Every reward is trained on the same
first training demonstrations of a run and selected by its loss on validation demonstrations. Seeds
differ in the order of the pairs and in a random first head. The study runs twice: with the run's
config, and with the paper's objective and a random first head.

r* is read for the table, and by the fault that selects with it. docs/released_faults.md has the
tables of a run. Dims: K seeds, B texts or pairs of a batch, N texts.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import json
import pathlib
import sys
import time
from typing import Any

from absl import flags
import finished_run
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from irl_jax import config as config_lib
from irl_jax import rewards
from irl_jax import structs
from irl_jax.command_line import launch as command_line
from irl_jax.data import batches
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.evaluation import agreement
from irl_jax.evaluation import identifiability
from irl_jax.evaluation import zero as zero_lib
from irl_jax.irl import loop
from irl_jax.irl import objectives
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import prepare
from irl_jax.irl import reward as reward_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.runtime import parallel
from irl_jax.runtime import workdir
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run
from irl_jax.training import gradients
from irl_jax.training import optimizer

FLAGS = flags.FlagValues()
finished_run.define_flags(FLAGS)
flags.DEFINE_integer('seeds', 10, 'rewards of each row', lower_bound=2, flag_values=FLAGS)
flags.DEFINE_integer(
  'pairs', 1500, 'training pairs; a fifth as many select', lower_bound=5, flag_values=FLAGS
)

Scored = dict[str, np.ndarray]  # uncentred R̂ of each set of texts
Sets = dict[str, tuple[Sequence[str], np.ndarray]]  # texts and their r*, by name
HELD = 'held-out texts'  # what most results are measured on
ZERO = 'validation texts'  # what the zero is chosen from
HELD_PAIRS = 'held-out demonstrations'
TRAINED_TEXTS = 'training texts'
TRAINED_PAIRS = 'training demonstrations'


@dataclasses.dataclass(frozen=True)
class Variant:
  """One way to train; by default without a fault."""

  what: str
  seen: str = 'text'  # the training input: 'text', its last 'token', or its last 'character'
  accumulated: bool = False  # whether gradients are never zeroed
  bounded: bool = True
  trained: bool = True


AT_ONCE = '1 to 4 at once'
STARTS = {
  'the default': {},
  "the paper's objective, random first head": dict(objective='asymmetric', initial_head='random'),
}
VARIANTS = {
  'no fault': Variant('the reference of the others'),
  'no training': Variant('the first head, before any update', trained=False),
  '1 last character': Variant(
    "a text's last character is all that is trained on", seen='character'
  ),
  '1 last token': Variant('the same of the last token', seen='token'),
  '2 accumulated gradients': Variant(
    'gradients are never zeroed: each step takes the sum so far', accumulated=True
  ),
  '3 no bound': Variant(
    "head of any length, final layer norm's gain and bias trained", bounded=False
  ),
  AT_ONCE: Variant(
    'last character, accumulated, no bound, uncentred 0',
    seen='character',
    accumulated=True,
    bounded=False,
  ),
}


def encode(
  base: pretrained.Pretrained, rows: Sequence[dict[str, Any]], irl: config_lib.IRL, seen: str
) -> list[pairs_lib.Pair]:
  """Tokenises demonstrations.

  Fault 1 keeps only their end: the released code indexed a string with -1.
  """
  if seen == 'character':
    ends = ([text[-1:] for text in full_texts(rows, side)] for side in ('aligned', 'base'))
    return pairs_lib.encode_pairs(base, *ends, irl.max_tokens)
  pairs = recovery.encode_demonstrations(base, rows, irl)
  return [(aligned[-1:], other[-1:]) for aligned, other in pairs] if seen == 'token' else pairs


@functools.cache
def accumulating(tx: optax.GradientTransformation) -> optax.GradientTransformation:
  """Fault 2: gives `tx` the sum of all gradients so far, because nothing sets it to zero."""
  return optax.chain(optax.trace(decay=1.0), tx)


def unbounded_reward(
  trained, frozen, batch: structs.TextBatch, *, config: gpt_neox.GPTNeoXConfig, dtype, pooling: str
) -> jax.Array:
  """Fault 3: returns R̂ [B] = <w, g normalise(h) + b> with w of any length.

  Gain g and bias b are trained with the rest.
  """
  cut_hidden = cut_lib.below(frozen, batch.ids, batch.valid, config, dtype)
  hidden = cut_lib.above(trained, frozen, cut_hidden, batch.ids, batch.valid, config, dtype)
  return (
    reward_lib.POOL[pooling](hidden, batch.valid).astype(jnp.float32)
    @ trained['reward_head']['direction']
  )


def reward_of(variant: Variant) -> Callable:
  """Returns the function (trained, frozen, batch) -> R̂ [B]."""
  return reward_lib.reward if variant.bounded else unbounded_reward


def both(trained, frozen, batch: structs.PairBatch, reward: Callable, **statics) -> list[jax.Array]:
  """Returns R̂ [B] of the aligned and of the base texts."""
  return jnp.split(reward(trained, frozen, reward_lib.both_texts(batch), **statics), 2)


def update(
  state: structs.TrainState,
  frozen,
  batch: structs.PairBatch,
  *,
  reward: Callable,
  irl: config_lib.IRL,
  tx: optax.GradientTransformation,
  axis_name: str | None,
  **statics,
) -> tuple[structs.TrainState, Any]:
  """Takes one step on whole texts, as irl/update.py does, for any reward."""

  def total_loss(trained, frozen, pairs):
    aligned, base = both(trained, frozen, pairs, reward, **statics)
    losses = objectives.pair_losses(aligned - base, irl)
    return jnp.sum(losses * pairs.weight), gradients.Totals(jnp.sum(pairs.weight), {})

  gradient, _ = gradients.of_mean(total_loss, state.params, frozen, batch, axis_name)
  return optimizer.apply_gradients(state, gradient, tx)


def score_pairs(parts, batch: structs.PairBatch, *, reward: Callable, **statics) -> jax.Array:
  """Returns R̂ [B, 2] of the aligned and of the base texts; parts is (trained, frozen)."""
  return jnp.stack(both(*parts, batch, reward, **statics), axis=1)


def of_texts(parts, batch: structs.TextBatch, *, reward: Callable, **statics) -> jax.Array:
  """Returns `reward` [B] of texts; parts is (trained, frozen)."""
  return reward(*parts, batch, **statics)


def train(
  base: pretrained.Pretrained,
  training: Sequence[pairs_lib.Pair],
  validation: Sequence[pairs_lib.Pair],
  irl: config_lib.IRL,
  variant: Variant,
  seed: int,
  dtype=jnp.float32,
) -> reward_lib.Parts:
  """Trains as `irl.loop.train` does, without checkpoints and log; validates after every epoch.

  Without a fault the parameters are the same.
  """
  trained, frozen = prepare.initial_parts(base, training, irl, seed, dtype)
  if not variant.trained:
    return trained, frozen
  training, validation = (
    pairs_lib.pair_dataset(pairs, base.config.eos_token_id) for pairs in (training, validation)
  )
  batch_size = parallel.batch_size(irl.batch_size, len(training))
  per_epoch = max(len(training) // batch_size, 1)
  _, _, tx = loop.compile_functions(base.config, irl, irl.epochs * per_epoch, dtype)
  tx = accumulating(tx) if variant.accumulated else tx
  statics = dict(reward=reward_of(variant), config=base.config, dtype=dtype, pooling=irl.pooling)
  step, scores_of = (
    parallel.map_update(update, irl=irl, tx=tx, **statics),
    parallel.map_forward(score_pairs, **statics),
  )
  state, frozen = optimizer.placed_state(trained, tx), parallel.replicate(frozen)
  best, best_loss = trained, np.inf
  rows_of = batches.order_by_bucket(training.padded, batch_size, seed)
  for number in range(irl.epochs * per_epoch):
    state, _ = step(state, frozen, parallel.shard(training.batch(rows_of(number))))
    if (number + 1) % per_epoch == 0:
      scores = prepare.over_pairs(scores_of, (state.params, frozen), validation, batch_size)
      loss = loop.validation_metrics(scores, irl)['validation/loss']
      if loss < best_loss:
        best, best_loss = jax.device_get(state.params), loss
  return best, jax.device_get(frozen)


def score(
  base: pretrained.Pretrained,
  parts: reward_lib.Parts,
  irl: config_lib.IRL,
  variant: Variant,
  sets: Sets,
  dtype=jnp.float32,
) -> Scored:
  """Returns the uncentred R̂ of every set of texts."""
  scorer = rewards.trunk_scorer(
    of_texts,
    dataclasses.replace(base, params=parts),
    dtype=dtype,
    reward=reward_of(variant),
    pooling=irl.pooling,
  )
  return {name: np.asarray(scorer(texts), np.float64) for name, (texts, _) in sets.items()}


def results(
  scored: Sequence[Scored], true: np.ndarray, name: str = HELD, centred: bool = True
) -> dict[str, list]:
  """Measures K rewards on one set of texts.

  Returns:
    AUROC, accuracy at 0 and largest |R̂| [K]; Spearman of every two seeds, without those of a
    constant reward.
  """
  zeros = [zero_lib.split(scores[ZERO])[0] if centred else 0.0 for scores in scored]
  rewards_of_seeds = np.stack([scores[name] for scores in scored])
  between = identifiability.spearman(rewards_of_seeds)[np.triu_indices(len(rewards_of_seeds), 1)]
  return {
    'auroc': [agreement.auroc(scores, true < 0) for scores in rewards_of_seeds],
    'accuracy': [
      agreement.accuracy(scores < zero, true < 0) for scores, zero in zip(rewards_of_seeds, zeros)
    ],
    'spearman': between[np.isfinite(between)].tolist(),
    'largest': np.abs(rewards_of_seeds).max(axis=1).tolist(),
  }


def best_of(row: dict[str, list]) -> dict[str, list]:
  """Fault 6: returns the results of the seed that agrees best with r*, by each of them."""
  return {
    'auroc': [max(row['auroc'])],
    'accuracy': [max(row['accuracy'])],
    'spearman': [],
    'largest': [],
  }


def rows_of(scored: dict[str, Sequence[Scored]], sets: Sets) -> dict[str, dict[str, Any]]:
  """Returns the table of one start: results, a description of each row, and its reference row.

  The reference row is 'no fault' unless the row names another one under 'against'.
  """
  sound, true = scored['no fault'], {name: reference for name, (_, reference) in sets.items()}
  on = lambda name, **more: results(sound, true[name], name) | more
  rows = {
    name: results(scored[name], true[HELD]) | {'what': variant.what}
    for name, variant in VARIANTS.items()
    if name != AT_ONCE
  }
  at_once = results(scored[AT_ONCE], true[HELD], centred=False)
  return rows | {
    '4 uncentred 0': results(sound, true[HELD], centred=False)
    | {'what': 'the verdict is the sign of the R̂ trained'},
    '5 training texts': on(TRAINED_TEXTS, what="measured on the training prompts' original texts"),
    HELD_PAIRS: on(HELD_PAIRS, what='no fault; the reference of the next row'),
    '5 training demonstrations': on(
      TRAINED_PAIRS, what='measured on what was trained on', against=HELD_PAIRS
    ),
    '6 best seed': best_of(rows['no fault'])
    | {'what': f'the best of {len(sound)} by r*, result by result'},
    AT_ONCE: at_once | {'what': VARIANTS[AT_ONCE].what},
    '1 to 4 and 6 at once': best_of(at_once) | {'what': f'the best of those {len(sound)} by r*'},
  }


def spread(values: Sequence[float]) -> str:
  """Formats mean, standard deviation and range."""
  if len(values) < 2:
    return f'{values[0]:.3f}' if values else '–'
  return (
    f'{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} ({min(values):.3f} to {max(values):.3f})'
  )


def difference(values: Sequence[float], reference: Sequence[float]) -> str:
  """Formats the mean difference, seed by seed, with its 95 % t interval over seeds.

  A single value is compared with the mean.
  """
  if len(values) != len(reference):
    return f'{values[0] - np.mean(reference):+.3f}'
  gaps = np.subtract(values, reference)
  half = stats.t.ppf(0.975, len(gaps) - 1) * np.std(gaps, ddof=1) / len(gaps) ** 0.5
  return f'{gaps.mean():+.3f} ± {half:.3f}'


def table(rows: dict[str, dict[str, Any]]) -> str:
  """Formats the rows of one start in Markdown."""
  titles = (
    'fault',
    'what it does',
    'AUROC',
    'accuracy at 0',
    'Spearman between seeds',
    'AUROC against no fault',
    'accuracy against no fault',
    'largest absolute R̂',
  )
  lines = [f'| {" | ".join(titles)} |', '|---' * len(titles) + '|']
  for name, row in rows.items():
    reference = rows[row.get('against', 'no fault')]
    costs = [
      difference(row[result], reference[result]) if name not in ('no fault', HELD_PAIRS) else '–'
      for result in ('auroc', 'accuracy')
    ]
    largest = f'{max(row["largest"]):.3g}' if row['largest'] else '–'
    cells = [
      name,
      row['what'],
      *(spread(row[result]) for result in ('auroc', 'accuracy', 'spearman')),
      *costs,
      largest,
    ]
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def study(
  base: pretrained.Pretrained,
  demonstrations: Sequence[Sequence[dict[str, Any]]],
  sets: Sets,
  irl: config_lib.IRL,
  seeds: int,
  dtype=jnp.float32,
) -> dict[str, dict[str, Any]]:
  """Returns all rows of one start; prints how long each took."""
  scored = {}
  for name, variant in VARIANTS.items():
    begin, pairs = (
      time.monotonic(),
      [encode(base, rows, irl, variant.seen) for rows in demonstrations],
    )
    needed = sets if name == 'no fault' else {key: sets[key] for key in (HELD, ZERO)}
    scored[name] = [
      score(base, train(base, *pairs, irl, variant, seed, dtype), irl, variant, needed, dtype)
      for seed in range(seeds)
    ]
    print(
      f'{name:<28} {(time.monotonic() - begin) / seeds:5.1f} s a seed', file=sys.stderr, flush=True
    )
  return rows_of(scored, sets)


def read(run: Run, pairs: int) -> tuple[list[list[dict[str, Any]]], Sets]:
  """Reads the demonstrations that train and those that select, and the texts with their r*.

  Raises:
    InputError: a split has too few demonstrations.
  """
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
    HELD: full_texts(run.rows('heldout')),
    ZERO: recovery.unlabelled_texts(run),
    TRAINED_TEXTS: full_texts([row for row in run.rows('train') if row['prompt_id'] in prompts]),
  }
  for name, rows in (
    (HELD_PAIRS, run.demonstrations('heldout')),
    (TRAINED_PAIRS, demonstrations[0]),
  ):
    texts[name] = [*full_texts(rows, 'aligned'), *full_texts(rows, 'base')]
  true_reward = run.true_reward()
  return demonstrations, {
    name: (given, np.asarray(true_reward(given))) for name, given in texts.items()
  }


def main(options: flags.FlagValues) -> None:
  """Prints the two tables and writes their results."""
  run = finished_run.open_run(options)
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
