"""The data stage: texts with their prompts, split into training, validation and held-out rows."""

from absl import logging

from irl_jax import workdir
from irl_jax.data import prompts
from irl_jax.data import rows as rows_lib
from irl_jax.data import sources
from irl_jax.errors import InputError
from irl_jax.run import SPLITS
from irl_jax.run import Run


def data(run: Run) -> None:
  """Reads the source, cuts prompts, splits -> data/{train,validation,heldout}.jsonl."""
  rows, read = sources.load_rows(run.config.data, run.config.seed)
  splits, counted = prompts.split_rows(rows)
  logging.info('data: %s', read | counted)
  for split in SPLITS:
    if not splits[split]:
      raise InputError(f'config.data.source={run.config.data.source}: its {len(rows)} rows leave none for the '
                       f'{split} split; give more rows')
  (run.folder / 'data').mkdir(exist_ok=True)
  for split in SPLITS:
    rows_lib.write_jsonl(run.folder / 'data' / f'{split}.jsonl', splits[split])
  workdir.write_json(run.folder / 'data' / 'counts.json', read | counted)
