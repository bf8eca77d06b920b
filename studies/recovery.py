r"""A comparison of objectives, and of inputs of the reward: variants of IRL on one run.

  python studies/recovery.py --config=configs/paradetox_14m.py --workdir=runs/paradetox_14m \
      --output=recovery.json --texts=paradetox_dev.jsonl.gz --fields=toxic,neutral \
      --human=paradetox_train.jsonl.gz

Every variant is trained on the run's training demonstrations and selected by its loss on the
validation demonstrations. Its name says how it differs from the run's config. r* is read for the
table only, except in the variants that ask what recovery lacks: the same demonstrations, each pair
in r*'s order, and pairs that people wrote (--human, fields toxic and neutral). Maximum entropy
needs a run with config.irl.samples_per_prompt of at least 2. Labels by likelihood need one with
config.irl.pair_label other than 'source', whose demonstrations have log-ratios.

AUROC is against r*, on the texts of --texts, by default the validation demonstrations. Accuracy is
at the zero that each seed chooses from the run's unlabelled texts. `ordered` is the share of rows
whose second field scores higher. Spearman is the mean over pairs of seeds. At the end all variants
are compared pairwise (evaluation/identifiability.py). docs/recovery.md has the tables.
Dims: K seeds, M pairs, N texts.
"""

from collections.abc import Callable
from collections.abc import Sequence
import json
import pathlib
import sys
import time
from typing import Any

from absl import flags
import finished_run
import recovering
import variant_results

from irl_jax.command_line import launch as command_line
from irl_jax.config import COMPARES_GROUPS

FLAGS = flags.FlagValues()
finished_run.define_flags(FLAGS)
flags.DEFINE_string(
  'texts',
  '',
  'texts on which rewards are compared with r*, in any format that irl-jax score reads',
  flag_values=FLAGS,
)
flags.DEFINE_list(
  'fields',
  ['text'],
  'field of the texts; or two fields, a toxic text and its neutral rewriting',
  flag_values=FLAGS,
)
flags.DEFINE_string(
  'human', '', 'pairs that people wrote, with the fields toxic and neutral', flag_values=FLAGS
)
flags.DEFINE_multi_string(
  'variant', [], 'a variant to run; may be repeated (default: all)', flag_values=FLAGS
)
flags.DEFINE_integer('seeds', 2, 'rewards of each variant', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer(
  'pairs', 0, 'training pairs of every variant; 0: all', lower_bound=0, flag_values=FLAGS
)

# A head alone tolerates a larger step.
HEAD = dict(trained_blocks=0, prefix_weight=0.0, learning_rate=1e-2)
WHOLE = dict(objective='logistic', prefix_weight=0.0)
VARIANTS = {
  **{f'{name}, everything': dict(objective=name) for name in COMPARES_GROUPS},
  **{f'{name}, head alone': dict(objective=name, **HEAD) for name in COMPARES_GROUPS},
  'logistic, top 2 blocks': dict(objective='logistic', trained_blocks=2),
  'logistic, whole texts only': WHOLE,
  'logistic, mean pooling': WHOLE | dict(pooling='mean'),
  'logistic, random initial head': dict(objective='logistic', initial_head='random'),
  'logistic, 1/16 of the pairs': dict(objective='logistic', share=1 / 16),
  'logistic, 1/4 of the pairs': dict(objective='logistic', share=1 / 4),
  'logistic, 1/2 of the pairs': dict(objective='logistic', share=1 / 2),
  'logistic, two epochs': dict(objective='logistic', epochs=2),
  'logistic, labels by likelihood': dict(objective='logistic', pair_label='likelihood'),
  'logistic, mixed labels': dict(objective='logistic', pair_label='mixed'),
  "pairs in r*'s order": dict(objective='logistic', pairs='true_reward'),
  "pairs in r*'s order, head alone": dict(objective='logistic', pairs='true_reward', **HEAD),
  'human-written pairs': WHOLE | dict(pairs='human'),
  'human-written pairs, head alone': dict(objective='logistic', pairs='human', **HEAD),
}
Rows = recovering.Rows


def human_pairs(path: str) -> list[list[dict[str, Any]]]:
  """Returns pairs to train on, and a tenth to validate with, as rows without a prompt."""
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
  """Recovers one reward (texts -> scores) for every seed.

  Args:
    run: the run whose config the variant differs from.
    base: the model that the rewards start from.
    sources: rows to train on and rows to validate with, by name.
    settings: the settings of the variant.
    pairs: the maximum number of training pairs; None: all.
    seeds: the number of rewards.
  """
  from irl_jax.stages import demonstrated

  settings = dict(settings)
  share, (training, validation) = (
    settings.pop('share', 1.0),
    sources[settings.pop('pairs', 'aligned')],
  )
  used = demonstrated.training_rows(training, recovering.changed(run, settings))[:pairs]
  used = used[: int(share * len(used))]
  return [recovering.recover(run, base, used, validation, settings, seed) for seed in range(seeds)]


def read_texts(path: str, fields: Sequence[str]) -> list[str]:
  """Returns all texts of the first field, then those of the second in the same order."""
  from irl_jax.data import rows as rows_lib

  rows, _ = rows_lib.read_rows(path, fields=[fields[0]])
  return [row[name] for name in fields for row in rows]


def left_out(settings: dict[str, Any], run, sources: dict[str, Any]) -> str:
  """Returns why a variant cannot run, or ''."""
  of_groups = COMPARES_GROUPS[settings.get('objective', run.config.irl.objective)]
  if of_groups and run.config.irl.samples_per_prompt < 2:
    return 'the run has config.irl.samples_per_prompt = 1'
  if settings.get('pair_label', 'source') != run.config.irl.pair_label == 'source':
    return 'the run has config.irl.pair_label = source'
  return '' if settings.get('pairs', 'aligned') in sources else 'there is no --human'


def sources_of(run, human: str) -> dict[str, Sequence[Rows]]:
  """Returns rows to train on and rows to validate with, by the name of their order."""
  from irl_jax.stages import irl as recovery

  rows = run.demonstrations('train'), recovery.different(run.demonstrations('validation'))
  sources = {'aligned': rows, 'true_reward': [recovering.in_true_order(part) for part in rows]}
  return sources | ({'human': human_pairs(human)} if human else {})


def texts_of(run, validation: Rows, path: str, fields: Sequence[str]) -> variant_results.Texts:
  """Returns the texts that every variant is evaluated on.

  Raises:
    InputError: r* puts all texts into one class.
  """
  import numpy as np

  from irl_jax import errors
  from irl_jax.stages import irl as recovery
  from irl_jax.stages.run import full_texts

  aligned, base = (full_texts(validation, name) for name in ('aligned', 'base'))
  texts = read_texts(path, fields) if path else aligned + base
  true = np.asarray(run.true_reward()(texts))
  if len(set(true < 0)) < 2:
    raise errors.InputError(
      f'r* puts all {len(texts)} texts into one class: give others with --texts'
    )
  return variant_results.Texts(
    aligned, base, texts, true, len(fields) == 2, recovery.unlabelled_texts(run)
  )


def of_true_reward(evaluated: variant_results.Texts, validation: Rows) -> dict[str, Any]:
  """Returns r* in the form of `scores_of`, as if it were a variant of one seed."""
  import numpy as np

  sides = [[row[f'true_reward_{side}'] for row in validation] for side in ('aligned', 'base')]
  return {'texts': evaluated.true[None], 'completions': np.stack(sides, 1)[None]}


def run_variants(
  options: flags.FlagValues,
  why_not: Callable[[dict[str, Any]], str],
  recover_variant: Callable[[dict[str, Any]], list],
  evaluated: variant_results.Texts,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
  """Runs the variants that --variant names and prints their rows; returns scores and rows."""
  scores, table = {}, {}
  print(f'| {" | ".join(variant_results.TITLES)} |\n' + '|---' * len(variant_results.TITLES) + '|')
  for name, settings in VARIANTS.items():
    if options.variant and name not in options.variant:
      continue
    if reason := why_not(settings):
      print(f'{name}: left out, {reason}', file=sys.stderr)
      continue
    start = time.monotonic()
    scores[name] = variant_results.scores_of(recover_variant(settings), evaluated)
    seconds = (time.monotonic() - start) / options.seeds
    table[name] = variant_results.results(scores[name], evaluated, seconds)
    print(variant_results.describe(name, table[name]), flush=True)
  return scores, table


def main(options: flags.FlagValues) -> None:
  """Prints and writes the table, row by row, and the comparison of variants."""
  run = finished_run.open_run(options)
  from irl_jax.models import pretrained
  from irl_jax.stages import irl as recovery

  base, pairs = pretrained.load_language_model(run.base), options.pairs or None
  sources = sources_of(run, options.human)
  training, validation = sources['aligned']
  evaluated = texts_of(run, validation, options.texts, options.fields)
  scores, table = run_variants(
    options,
    lambda settings: left_out(settings, run, sources),
    lambda settings: recover(run, base, sources, settings, pairs, options.seeds),
    evaluated,
  )
  scores['r*'] = of_true_reward(evaluated, validation)
  matrices = variant_results.compared(scores)
  variant_results.show_compared(matrices)
  pathlib.Path(options.output).write_text(
    json.dumps(
      {
        'texts': len(evaluated.texts),
        'training_pairs': len(recovery.different(training)[:pairs]),
        'variants': table,
        'identifiability': matrices,
      },
      indent=2,
    )
  )


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
