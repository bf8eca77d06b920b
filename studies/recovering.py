"""One recovery on the demonstrations of a run, with settings that differ from the run's.

It is what the irl stage does for one seed, but nothing is written, and rows may come from anywhere.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import tempfile
from typing import Any

Rows = Sequence[dict[str, Any]]


def in_true_order(rows: Rows) -> list[dict[str, Any]]:
  """Returns each pair with the text of higher r* as the aligned one; ties are left out."""
  swapped = lambda row: row | {'aligned': row['base'], 'base': row['aligned']}
  gain = lambda row: row['true_reward_aligned'] - row['true_reward_base']
  return [row if gain(row) > 0 else swapped(row) for row in rows if gain(row)]


def changed(run, settings: dict[str, Any]):
  """Returns the run's config.irl with these fields; the source is the label unless one is named."""
  return dataclasses.replace(
    run.config.irl, **({'evaluate_every': 0, 'pair_label': 'source'} | settings)
  )


def recover(
  run, base, training: Rows, validation: Rows, settings: dict[str, Any], seed: int
) -> Any:
  """Recovers one reward.

  Args:
    run: the run whose settings of irl are used, and its compute type.
    base: the model that the reward starts from.
    training: rows to train on.
    validation: rows whose loss selects the update.
    settings: fields of config.irl that differ from the run's.
    seed: of the first head and the order of the pairs.

  Returns:
    A function from texts [N] to R̂ [N], without a zero.
  """
  from irl_jax.irl import loop
  from irl_jax.irl import reward
  from irl_jax.stages import demonstrated

  irl = changed(run, settings)
  used, held = demonstrated.training_rows(training, irl), demonstrated.different(validation)
  pairs, held_pairs = (demonstrated.encode_demonstrations(base, rows, irl) for rows in (used, held))
  with tempfile.TemporaryDirectory() as folder:
    parts = loop.train(
      base,
      pairs,
      held_pairs,
      irl,
      seed,
      pathlib.Path(folder),
      dtype=run.dtype,
      prompts=[row['prompt'] for row in used],
      labels=demonstrated.labels_of(irl, (used, pairs), (held, held_pairs)),
      log=lambda step, metrics: None,
    )
  return reward.scorer(base, parts, irl.pooling, dtype=run.dtype)
