r"""Transfer of recovered rewards: agreement with r* and with labels on texts that no stage saw.

  python studies/transfer.py --config=C.py --workdir=W --output=O.json \
      --pairs=paradetox_dev.jsonl.gz
  python studies/transfer.py --config=C.py --workdir=W --output=O.json \
      --texts=jigsaw_train.jsonl.gz --label_field=toxic --per_class=2000

The table has each seed, their mean, and the baselines of the run's evaluation, with 95 % bootstrap
intervals over texts. --pairs names a file of toxic texts and their neutral rewritings (fields
`toxic` and `neutral`), of which --half reads one half (halves.py); resamples draw whole rows.
`ordered` is how often the rewriting scores higher. `longer` and `shorter`
are the two rules of length: rewritings are mostly shorter. --per_class keeps the rows of each label
whose `id` has the smallest sha256. docs/recovery.md has the tables of two runs.
"""

from collections.abc import Sequence
import hashlib
import json
import pathlib
import sys
from typing import Any

from absl import flags
import finished_run
import halves

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
finished_run.define_flags(FLAGS)
flags.DEFINE_string(
  'pairs', '', 'file of rows with the fields toxic and neutral', flag_values=FLAGS
)
flags.DEFINE_enum(
  'half', '', ['', *halves.HALVES], 'the half of --pairs to read; default: all', flag_values=FLAGS
)
flags.DEFINE_string('texts', '', 'file of rows with the field text', flag_values=FLAGS)
flags.DEFINE_string('label_field', '', "the texts' label, 1 toxic, 0 not", flag_values=FLAGS)
flags.DEFINE_integer(
  'per_class', 0, 'texts kept of each label; 0: all', lower_bound=0, flag_values=FLAGS
)


def smallest_hashes(
  rows: Sequence[dict[str, Any]], label_field: str, per_class: int
) -> list[dict[str, Any]]:
  """Returns the rows of each label whose ids have the smallest sha256, in the file's order."""
  key = lambda row: hashlib.sha256(str(row['id']).encode()).hexdigest()
  smallest = {
    row['id']
    for label in (0, 1)
    for row in sorted((row for row in rows if row[label_field] == label), key=key)[:per_class]
  }
  return [row for row in rows if row['id'] in smallest]


def read(options: flags.FlagValues) -> tuple[list[str], list[int | None]]:
  """Returns texts and labels; of pairs, all toxic texts and then their rewritings in order."""
  from irl_jax.data import rows as rows_lib

  if options.pairs:
    rows, _ = rows_lib.read_rows(options.pairs, fields=['toxic'])
    rows = halves.rows_of(rows, options.half, 'toxic')
    return [row[name] for name in ('toxic', 'neutral') for row in rows], [1] * len(rows) + [
      0
    ] * len(rows)
  rows, _ = rows_lib.read_rows(options.texts, fields=['text'])
  if options.per_class:
    rows = smallest_hashes(rows, options.label_field, options.per_class)
  return [row['text'] for row in rows], [
    row[options.label_field] if options.label_field else None for row in rows
  ]


def row_of(scores, held, resampled, index: int, of_pairs: bool) -> dict[str, Any]:
  """Returns the results of one reward, by its index in the bootstrap."""
  import numpy as np

  from irl_jax.evaluation import recovered

  agreed = recovered.agree(scores, held)
  row = {name: agreed[name] for name in ('heldout_texts', 'heldout_texts_human')}
  row['intervals'] = {
    name: resampled[name].intervals(index) for name in row if resampled[name] is not None
  }
  toxic, neutral = np.split(scores.texts, 2) if of_pairs else (None, None)
  return row | ({'ordered': float(np.mean(neutral > toxic))} if of_pairs else {})


def describe(name: str, row: dict[str, Any]) -> str:
  """Returns one line of the table."""
  parts = [f'{name:<26}']
  for title, key in (('r*', 'heldout_texts'), ('labels', 'heldout_texts_human')):
    if row[key] and row[key]['auroc'] is not None:
      low, high = row['intervals'][key]['auroc']
      parts.append(f'{title}: AUROC {row[key]["auroc"]:.3f} [{low:.3f}, {high:.3f}]')
      parts.append(f'accuracy {row[key]["accuracy"]:.3f}')
  if 'ordered' in row:
    parts.append(f'ordered {row["ordered"]:.3f}')
  return '   '.join(parts)


def reference(run, texts: Sequence[str], labels: Sequence[int | None], of_pairs: bool = False):
  """Returns the texts with their labels and r*, as evaluation takes them."""
  import numpy as np

  from irl_jax.evaluation import heldout

  return heldout.Reference(
    texts=texts,
    labels=labels,
    aligned=(),
    base=(),
    true_aligned=np.zeros(0),
    true_base=np.zeros(0),
    true_texts=np.asarray(run.true_reward()(texts), np.float64),
    text_prompts=np.tile(np.arange(len(texts) // 2), 2).tolist() if of_pairs else (),
  )


def scores_of(run, held) -> tuple[list, dict[str, Any]]:
  """Returns the scores of every seed, and those of every row of the table by name."""
  from irl_jax import rewards
  from irl_jax.evaluation import heldout
  from irl_jax.stages import baselines
  from irl_jax.stages import evaluate as evaluation

  members = rewards.members_of(run.folder / 'irl')
  seeds = [heldout.score(evaluation.load(run, place), held) for place in members]
  table = {f'seed_{index}': scores for index, scores in enumerate(seeds)}
  table['ensemble'] = heldout.mean(seeds)
  for name, reward in baselines.baselines_of(run).items():
    table[reward.described.get('prefers', name)] = heldout.score(reward, held)
  return seeds, table


def main(options: flags.FlagValues) -> None:
  """Prints and writes the table."""
  run = finished_run.open_run(options)
  from irl_jax.evaluation import identifiability
  from irl_jax.evaluation import recovered

  texts, labels = read(options)
  held = reference(run, texts, labels, bool(options.pairs))
  seeds, table = scores_of(run, held)
  resampled = recovered.resample(
    list(table.values()), held, run.config.evaluation.bootstrap_samples, run.config.seed
  )
  rows = {
    name: row_of(scores, held, resampled, index, bool(options.pairs))
    for index, (name, scores) in enumerate(table.items())
  }
  for name, row in rows.items():
    print(describe(name, row))
  spearman = identifiability.seed_spearman([scores.texts for scores in seeds])
  agreed = recovered.human_accuracy(held)['human_accuracy']
  print(
    f'{len(texts)} texts; r* agrees with the labels on {agreed}; Spearman between seeds {spearman}'
  )
  pathlib.Path(options.output).write_text(
    json.dumps({'texts': len(texts), 'seed_spearman': spearman, 'rewards': rows}, indent=2)
  )


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
