r"""Which objective recovers best, and what the reward should see: variants of IRL on the demonstrations of one run.

  python studies/recovery.py --config=configs/paradetox_14m.py --workdir=runs/paradetox_14m --output=recovery.json \
      --texts=paradetox_dev.jsonl.gz --fields=toxic,neutral --human=paradetox_train.jsonl.gz

Every variant is trained on the run's training demonstrations and selected by its loss on the validation demonstrations;
r* is read for the table only, but for the variants that ask what recovery lacks: the same demonstrations, each pair in
r*'s order, and pairs that people wrote (--human, fields toxic and neutral). AUROC is against r*, accuracy that at the
zero that each seed finds in the run's unlabelled texts, on the texts of --texts, or where none are given on the
validation demonstrations; `ordered` is the share of rows whose second field scores higher. Spearman is the mean over
pairs of seeds. At the end every two variants are compared (evaluation/identifiability.py). Variants differ from the
run's config as named; maximum entropy needs a run with config.irl.samples_per_prompt of at least 2.
"""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
import sys
import tempfile
import time
from typing import Any

from absl import flags

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
flags.DEFINE_string(
  'config',
  None,
  'config file of the run; its irl section is what the variants differ from',
  flag_values=FLAGS,
)
flags.DEFINE_string(
  'workdir', None, 'folder of the run; its demonstrations are finished', flag_values=FLAGS
)
flags.DEFINE_string('output', None, 'the .json file to write', flag_values=FLAGS)
flags.DEFINE_string(
  'texts', '', 'texts to compare with r* on, in any format that score.py reads', flag_values=FLAGS
)
flags.DEFINE_list(
  'fields',
  ['text'],
  'their field; or two, of a toxic text and its neutral rewriting',
  flag_values=FLAGS,
)
flags.DEFINE_string(
  'human', '', 'pairs that people wrote, with the fields toxic and neutral', flag_values=FLAGS
)
flags.DEFINE_multi_string(
  'variant', [], 'a variant to run, may be repeated; all where none is named', flag_values=FLAGS
)
flags.DEFINE_integer('seeds', 2, 'rewards of each variant', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer(
  'pairs', 0, 'training pairs of every variant; 0: all', lower_bound=0, flag_values=FLAGS
)

OBJECTIVES = ('asymmetric', 'hinge', 'logistic', 'squared', 'failure_aware', 'maximum_entropy')
HEAD = dict(
  trained_blocks=0, prefix_weight=0.0, learning_rate=1e-2
)  # a head alone bears a larger step
WHOLE = dict(objective='logistic', prefix_weight=0.0)
VARIANTS = {
  **{f'{name}, everything': dict(objective=name) for name in OBJECTIVES},
  **{f'{name}, head alone': dict(objective=name, **HEAD) for name in OBJECTIVES},
  'logistic, top 2 blocks': dict(objective='logistic', trained_blocks=2),
  'logistic, whole texts only': WHOLE,
  'logistic, mean pooling': WHOLE | dict(pooling='mean'),
  'logistic, random first head': dict(objective='logistic', initial_head='random'),
  'logistic, 1/16 of the pairs': dict(objective='logistic', share=1 / 16),
  'logistic, 1/4 of the pairs': dict(objective='logistic', share=1 / 4),
  'logistic, 1/2 of the pairs': dict(objective='logistic', share=1 / 2),
  'logistic, two epochs': dict(objective='logistic', epochs=2),
  "pairs in r*'s order": dict(objective='logistic', pairs='true_reward'),
  "pairs in r*'s order, head alone": dict(objective='logistic', pairs='true_reward', **HEAD),
  'human-written pairs': WHOLE | dict(pairs='human'),
  'human-written pairs, head alone': dict(objective='logistic', pairs='human', **HEAD),
}
Rows = Sequence[dict[str, Any]]


def in_true_order(rows: Rows) -> list[dict[str, Any]]:
  """Each pair with the text of higher r* as the aligned one; ties are left out."""
  swapped = lambda row: row | {'aligned': row['base'], 'base': row['aligned']}
  gain = lambda row: row['true_reward_aligned'] - row['true_reward_base']
  return [row if gain(row) > 0 else swapped(row) for row in rows if gain(row)]


def human_pairs(path: str) -> list[list[dict[str, Any]]]:
  """Pairs to train on and to validate with, a tenth, as demonstrations without a prompt."""
  from irl_jax.data import rows as rows_lib

  rows, _ = rows_lib.read_rows(path, fields=['toxic'])
  rows = [{'prompt': '', 'aligned': row['neutral'], 'base': row['toxic']} for row in rows]
  return [[row for index, row in enumerate(rows) if index % 10], rows[::10]]


def recover(
  run,
  base,
  sources: dict[str, Sequence[Rows]],
  settings: dict[str, Any],
  pairs: int | None,
  seeds: int,
) -> list:
  """One reward (texts -> scores) for every seed, from rows to train on and rows to validate with."""
  from irl_jax.irl import loop
  from irl_jax.irl import reward
  from irl_jax.stages import irl as recovery

  settings = dict(settings)
  share, rows = settings.pop('share', 1.0), sources[settings.pop('pairs', 'aligned')]
  irl = dataclasses.replace(run.config.irl, evaluate_every=0, **settings)
  training = recovery.training_rows(rows[0], irl)[:pairs]
  training = training[: int(share * len(training))]
  prompts = [row['prompt'] for row in training]
  training, validation = (
    recovery.encode_demonstrations(base, part, irl) for part in (training, rows[1])
  )
  scorers = []
  for seed in range(seeds):
    with tempfile.TemporaryDirectory() as folder:
      parts = loop.train(
        base,
        training,
        validation,
        irl,
        seed,
        pathlib.Path(folder),
        dtype=run.dtype,
        prompts=prompts,
        log=lambda step, metrics: None,
      )
    scorers.append(reward.scorer(base, parts, irl.pooling, dtype=run.dtype))
  return scorers


def read_texts(path: str, fields: Sequence[str]) -> list[str]:
  """All texts of the first field, then those of the second in the same order."""
  from irl_jax.data import rows as rows_lib

  rows, _ = rows_lib.read_rows(path, fields=[fields[0]])
  return [row[name] for name in fields for row in rows]


@dataclasses.dataclass(frozen=True)
class Judged:
  """What every variant is judged on: M pairs of demonstrations, N texts with their r*, and unlabelled texts."""

  aligned: list[str]
  base: list[str]
  texts: list[str]
  true: Any  # [N]
  paired: bool  # whether the second half of the texts rewrites the first
  unlabelled: list[str]


def scores_of(scorers: Sequence, judged: Judged) -> dict[str, Any]:
  """R̂ of every seed, less the zero that it finds itself: texts [K, N], completions [K, M, 2]."""
  import numpy as np

  from irl_jax.evaluation import zero

  zeros = np.array([zero.otsu(scorer(judged.unlabelled)) for scorer in scorers])[:, None]
  of = lambda texts: np.stack([scorer(texts) for scorer in scorers]).astype(float) - zeros
  return {
    'texts': of(judged.texts),
    'completions': np.stack([of(judged.aligned), of(judged.base)], axis=2),
    'zeros': zeros,
  }


def figures(scores: dict[str, Any], judged: Judged, seconds: float) -> dict[str, Any]:
  """One row of the table: every seed's figures, how far they agree, and how extreme the reward is."""
  import numpy as np

  from irl_jax.evaluation import agreement
  from irl_jax.evaluation import identifiability

  found, completions = scores['texts'], scores['completions']
  ordered = (
    [float(np.mean(second > first)) for first, second in (np.split(row, 2) for row in found)]
    if judged.paired
    else None
  )
  return {
    'auroc': [agreement.auroc(row, judged.true < 0) for row in found],
    'accuracy': [agreement.accuracy(row < 0, judged.true < 0) for row in found],
    'ordered': ordered,
    'seed_spearman': identifiability.seed_spearman(found),
    'prefers_aligned': np.mean(completions[..., 0] > completions[..., 1], axis=1).tolist(),
    'saturated': float(np.mean(np.abs(found + scores['zeros']) > 0.9)),
    'seconds': seconds,
  }


def describe(name: str, row: dict[str, Any]) -> str:
  """One line of the table, in Markdown; figures are means over seeds, AUROC also of every seed."""
  import numpy as np

  mean = lambda values: f'{np.mean(values):.3f}' if values else '–'
  cells = [
    name,
    ' '.join(f'{value:.3f}' for value in row['auroc']),
    mean(row['auroc']),
    mean(row['accuracy']),
    mean(row['ordered']),
    mean(row['prefers_aligned']),
    mean(row['seed_spearman']),
    f'{row["saturated"]:.2f}',
    f'{row["seconds"]:.0f}',
  ]
  return '| ' + ' | '.join(cells) + ' |'


TITLES = (
  'variant',
  'AUROC of each seed',
  'mean',
  'accuracy at 0',
  'ordered',
  'prefers the aligned',
  'Spearman',
  '\\|R̂\\| > .9',
  's a seed',
)


def compared(scores: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Every two variants, and r*, by the means of their seeds."""
  import numpy as np

  from irl_jax.evaluation import identifiability

  mean = lambda name: [np.mean(found[name], axis=0) for found in scores.values()]
  return identifiability.compare_rewards(list(scores), mean('texts'), mean('completions'))


def show_compared(matrices: dict[str, Any]) -> None:
  """The three matrices: the first named, the others over each other (Spearman / sign agreement / EPIC distance)."""
  print('\n' + '\n'.join(f'{index}: {name}' for index, name in enumerate(matrices['names'])))
  for title in ('spearman', 'sign_agreement', 'epic_distance'):
    print(f'\n{title}')
    for row in matrices[title]:
      print(' '.join('  – ' if value is None else f'{value:5.2f}' for value in row))


def left_out(settings: dict[str, Any], run, sources: dict[str, Any]) -> str:
  """Why a variant cannot run; '' where it can."""
  if settings.get('objective') == 'maximum_entropy' and run.config.irl.samples_per_prompt < 2:
    return 'the run has config.irl.samples_per_prompt = 1'
  return '' if settings.get('pairs', 'aligned') in sources else 'there is no --human'


def main(options: flags.FlagValues) -> None:
  """Prints the table, a row when it is known."""
  command_line.require(options, 'config', 'workdir', 'output')
  import numpy as np

  from irl_jax import errors
  from irl_jax import pipeline
  from irl_jax.models import pretrained
  from irl_jax.runtime import compilation_cache
  from irl_jax.stages import irl as recovery
  from irl_jax.stages.run import full_texts
  from irl_jax.stages.run import Run

  compilation_cache.use()
  run = Run(
    options.config,
    pathlib.Path(options.workdir),
    None,
    pipeline.compute_dtype(options.config.runtime.dtype),
  )
  base, true_reward = pretrained.load_language_model(run.base), run.true_reward()
  rows = run.rows('train', 'demos'), recovery.different(run.rows('validation', 'demos'))
  sources = {'aligned': rows, 'true_reward': [in_true_order(part) for part in rows]}
  sources |= {'human': human_pairs(options.human)} if options.human else {}
  aligned, contrast = (full_texts(rows[1], name) for name in ('aligned', 'base'))
  texts = read_texts(options.texts, options.fields) if options.texts else aligned + contrast
  judged = Judged(
    aligned,
    contrast,
    texts,
    np.asarray(true_reward(texts)),
    len(options.fields) == 2,
    recovery.unlabelled_texts(run),
  )
  if len(set(judged.true < 0)) < 2:
    raise errors.InputError(
      f'r* puts all {len(texts)} texts into one class: give others with --texts'
    )
  true = lambda side: np.array([row[f'true_reward_{side}'] for row in rows[1]])
  scores, table = {}, {}
  print(f'| {" | ".join(TITLES)} |\n' + '|---' * len(TITLES) + '|')
  for name, settings in VARIANTS.items():
    if options.variant and name not in options.variant:
      continue
    if reason := left_out(settings, run, sources):
      print(f'{name}: left out, {reason}', file=sys.stderr)
      continue
    start = time.monotonic()
    scorers = recover(run, base, sources, settings, options.pairs or None, options.seeds)
    scores[name] = scores_of(scorers, judged)
    table[name] = figures(scores[name], judged, (time.monotonic() - start) / options.seeds)
    print(describe(name, table[name]), flush=True)
  scores['r*'] = {
    'texts': judged.true[None],
    'completions': np.stack([true('aligned'), true('base')], 1)[None],
  }
  matrices = compared(scores)
  show_compared(matrices)
  pathlib.Path(options.output).write_text(
    json.dumps(
      {
        'texts': len(texts),
        'training_pairs': len(recovery.different(rows[0])[: options.pairs or None]),
        'variants': table,
        'identifiability': matrices,
      },
      indent=2,
    )
  )


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
